"""Both normalisations against their formulas, and back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffhmr.geometry.clip_frame import denormalise_clip, normalise_clip

SIZE = (1920.0, 1080.0)


def clips(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(*shape, 17, 3, generator=generator, dtype=torch.float64)
    points[..., :2] *= 600
    points[..., 2] = 0.1 + 0.9 * points[..., 2]
    return points


def test_by_the_picture() -> None:
    corners = torch.tensor([[[0.0, 0.0, 1.0], [1920, 1080, 0.5], [960, 540, 0.0]]])
    scaled, frame = normalise_clip(corners, SIZE)
    wanted = torch.tensor([[[-16 / 9, -1, 1.0], [16 / 9, 1, 0.5], [0, 0, 0.0]]])
    torch.testing.assert_close(scaled, wanted)
    torch.testing.assert_close(denormalise_clip(scaled, frame), corners)


def test_by_the_person() -> None:
    points = clips(9)
    points[3, 4] = torch.tensor([-500.0, 4000, 0.0])  # unseen: does not count, and is limited
    seen = points[points[..., 2] > 0][:, :2]
    low, high = seen.min(0).values, seen.max(0).values
    scale = float((high - low).max())
    wanted = (points[..., :2] - (low + high - scale) / 2) / scale * 2 - 1
    scaled, frame = normalise_clip(points)
    torch.testing.assert_close(scaled[..., :2], wanted.clamp(-1, 1))
    assert torch.equal(scaled[..., 2], points[..., 2])
    assert scaled[3, 4].tolist() == [-1, 1, 0]
    spans = scaled[points[..., 2] > 0][:, :2].aminmax(dim=0)
    assert float((spans.max - spans.min).max()) == pytest.approx(2) and (spans.max + spans.min).abs().max() < 1e-12
    back = denormalise_clip(scaled, frame)
    torch.testing.assert_close(back[points[..., 2] > 0], points[points[..., 2] > 0])


def test_a_wider_square() -> None:
    points = clips(4)
    close, frame = normalise_clip(points)
    wide, wide_frame = normalise_clip(points, ratio=2.0)
    torch.testing.assert_close(wide[..., :2], close[..., :2] / 2)
    torch.testing.assert_close(wide_frame.half_side, 2 * frame.half_side)


@pytest.mark.parametrize("size", [None, SIZE, torch.tensor([[640.0, 480.0], [480.0, 640.0], SIZE])])
def test_a_batch_is_clip_by_clip(size: tuple[float, float] | Tensor | None) -> None:
    points = clips(3, 5)
    scaled, frame = normalise_clip(points, size)
    assert frame.centre.shape == (3, 2) and frame.half_side.shape == (3,)
    for row in range(3):
        own = size[row] if isinstance(size, Tensor) else size
        alone, alone_frame = normalise_clip(points[row], own)
        torch.testing.assert_close(scaled[row], alone)
        torch.testing.assert_close(denormalise_clip(alone, alone_frame), points[row])
    torch.testing.assert_close(denormalise_clip(scaled, frame), points)


def test_scale_and_place_do_not_matter_by_the_person() -> None:
    points = clips(6)
    moved = points.clone()
    moved[..., :2] = 3 * moved[..., :2] + torch.tensor([40.0, -7.0])
    torch.testing.assert_close(normalise_clip(moved)[0], normalise_clip(points)[0])


@pytest.mark.parametrize("seen", [0, 3])
def test_nothing_to_go_by(seen: int) -> None:
    points = clips(2, 4)
    points[1, ..., 2] = 0
    points[1, 0, :seen, 2] = 1
    scaled, frame = normalise_clip(points)
    assert (scaled[1] == 0).all() and scaled[0].abs().sum() > 0
    assert torch.isfinite(frame.centre).all() and frame.half_side[1] == 1
    points[1, ..., :2], points[1, ..., 2] = 5.0, 1.0
    assert (normalise_clip(points)[0][1] == 0).all()  # all in one place
