"""Procedural backgrounds and their noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffhmr.datasets.painting.backgrounds import BACKGROUND_NUMBERS, ProceduralScene
from diffhmr.datasets.painting.dice import Dice, LookStream, cast
from diffhmr.datasets.painting.objects import PixelGrid
from diffhmr.datasets.painting.textures import TextureBank


@pytest.fixture(scope="module")
def bank() -> TextureBank:
    return TextureBank(64, torch.device("cpu"))


def test_noise_has_unit_variance_and_is_seamless(bank: TextureBank) -> None:
    assert torch.allclose(bank.maps.mean((1, 2)), torch.zeros(len(bank.maps)), atol=1e-4)
    assert torch.allclose(bank.maps.std((1, 2)), torch.ones(len(bank.maps)), atol=1e-3)
    step = (bank.maps[:, 1:] - bank.maps[:, :-1]).square().mean((1, 2))
    seam = (bank.maps[:, 0] - bank.maps[:, -1]).square().mean(1)
    assert bool((seam < 2 * step).all())
    assert abs(float(bank.grain.mean())) < 0.01 and abs(float(bank.grain.std()) - 1) < 0.01


def test_cuts_have_the_size_asked_for(bank: TextureBank) -> None:
    dice = Dice(np.random.default_rng(0).random(400).tolist())
    for height, width in ((64, 64), (3, 64), (64, 1), (10, 20)) * 10:
        assert bank.cut(dice, height, width).shape == (height, width)
    assert bank.noise(dice, 3, 64, 64).shape == (3, 64, 64)


def test_backgrounds_repeat_differ_and_never_run_out_of_numbers(bank: TextureBank) -> None:
    scene = ProceduralScene(bank, PixelGrid(64, torch.device("cpu")))

    def paint() -> list[torch.Tensor]:
        return [scene.paint(dice) for dice in cast(np.arange(300), LookStream.BACKGROUND, BACKGROUND_NUMBERS)]

    pictures = paint()
    assert all(torch.equal(first, second) for first, second in zip(pictures, paint(), strict=True))
    stack = torch.stack(pictures)
    assert stack.shape == (300, 3, 64, 64) and bool(torch.isfinite(stack).all())
    assert float(stack.min()) > -1 and float(stack.max()) < 2
    means = stack.mean((2, 3))
    assert float(means.std(0).min()) > 0.15, "backgrounds have many colours"
    assert float(stack.std((2, 3)).median()) > 0.05, "and are not plain"
