"""Camera effects against closed forms, and the compression against libjpeg."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from diffhmr.datasets.painting.dice import LookStream, cast
from diffhmr.datasets.painting.effects import CAMERA_NUMBERS, coarsen, gaussian_blur, jpeg, motion_blur, photograph
from diffhmr.datasets.painting.textures import TextureBank


@pytest.fixture(scope="module")
def bank() -> TextureBank:
    return TextureBank(64, torch.device("cpu"))


@pytest.fixture(scope="module")
def picture(bank: TextureBank) -> Tensor:
    return (0.5 + 0.15 * torch.stack([bank.maps[k, :72, :72] for k in (0, 1, 2)])).clamp(0, 1)


def impulse(size: int = 41) -> Tensor:
    image = torch.zeros(3, size, size)
    image[:, size // 2, size // 2] = 1
    return image


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_gaussian_blur_of_an_impulse(sigma: float) -> None:
    blurred = gaussian_blur(impulse(), sigma)[0]
    axis = torch.arange(41) - 20.0
    assert float(blurred.sum()) == pytest.approx(1, abs=1e-5)
    assert torch.allclose(blurred, blurred.T) and torch.allclose(blurred, blurred.flip(0))
    variance = float((blurred.sum(0) * axis**2).sum())
    assert variance == pytest.approx(sigma**2, rel=0.15)


def test_motion_blur_of_an_impulse() -> None:
    across = motion_blur(impulse(), 6.0, 0.0)[0]
    assert float(across.sum()) == pytest.approx(1, abs=1e-5)
    assert int((across > 0).sum()) == 7 and bool((across[20, 17:24] > 0).all())
    down = motion_blur(impulse(), 6.0, math.pi / 2)[0]
    assert torch.allclose(down, across.T)


def test_a_constant_picture_survives_everything_spatial() -> None:
    flat = torch.tensor([0.2, 0.5, 0.7])[:, None, None].expand(3, 37, 50)
    for result in (gaussian_blur(flat, 1.3), motion_blur(flat, 4.0, 0.6), coarsen(flat, 0.5)):
        assert torch.allclose(result, flat, atol=1e-5)
    assert float((jpeg(flat, 90) - flat).abs().max()) < 0.02
    assert jpeg(flat, 90).shape == flat.shape, "sizes need not be multiples of 8"


def test_coarsen_removes_fine_detail_only(picture: Tensor) -> None:
    stripes = (torch.arange(72) % 2).float().expand(3, 72, 72)
    assert float(coarsen(stripes, 0.4).std()) < 0.1 * float(stripes.std())
    smooth = gaussian_blur(picture, 4.0)
    assert float((coarsen(smooth, 0.6) - smooth).abs().max()) < 0.03


@pytest.mark.parametrize("quality", [20, 50, 85])
def test_jpeg_loses_what_libjpeg_loses(picture: Tensor, quality: int) -> None:
    pixels = (picture * 255).round().byte().permute(1, 2, 0).numpy()[..., ::-1]
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling]
    done, encoded = cv2.imencode(".jpg", np.ascontiguousarray(pixels), options)
    assert done
    decoded = torch.from_numpy(cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1].copy()).permute(2, 0, 1) / 255
    exact = torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1) / 255
    ours = jpeg(exact, quality)
    loss = float((decoded - exact).square().mean().sqrt())
    assert loss > 2 / 255
    assert float((ours - decoded).square().mean().sqrt()) < 0.3 * loss, "libjpeg rounds in between, we do not"


def test_photographs_repeat_and_differ(picture: Tensor, bank: TextureBank) -> None:
    def shoot() -> list[Tensor]:
        return [photograph(picture, dice, bank) for dice in cast(np.arange(40), LookStream.CAMERA, CAMERA_NUMBERS)]

    shots = shoot()
    assert all(torch.equal(first, second) for first, second in zip(shots, shoot(), strict=True))
    for shot in shots:
        assert shot.shape == picture.shape and float(shot.min()) >= 0 and float(shot.max()) <= 1
        assert torch.allclose(shot * 255, (shot * 255).round(), atol=1e-4)
    means = torch.stack([shot.mean((1, 2)) for shot in shots])
    assert float(means.std(0).min()) > 0.05
    grey = [bool((shot.amax(0) - shot.amin(0)).max() < 0.06) for shot in shots]
    assert 0 < sum(grey) < 10


def test_a_small_photograph_is_a_reduced_large_one(bank: TextureBank) -> None:
    """Twice the size, the same shot: blur and coarseness must not eat more of the small picture."""
    rows, columns = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    waves = 0.5 + 0.2 * torch.sin(columns / 4) + 0.2 * torch.cos(rows / 5)
    large = waves.expand(3, 128, 128)
    small = large.unflatten(1, (64, 2)).unflatten(3, (64, 2)).mean((2, 4))
    left = []
    for dice_large, dice_small in zip(*(cast(np.arange(60), LookStream.CAMERA, CAMERA_NUMBERS) for _ in "ab"),
                                      strict=True):  # fmt: skip
        reduced = photograph(large, dice_large, bank).unflatten(1, (64, 2)).unflatten(3, (64, 2)).mean((2, 4))
        direct = photograph(small, dice_small, bank)
        left.append(float(direct.std() / reduced.std()))
    assert 0.9 < float(np.median(left)) < 1.1
    assert min(left) > 0.7
