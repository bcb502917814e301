from __future__ import annotations

import math

import torch
from torch import Tensor

from diffhmr.models.action_views import ViewOptions, framed, moved


def _people(batch: int = 2, people: int = 2, frames: int = 9) -> Tensor:
    points = 0.4 * torch.rand(batch, people, frames, 17, 3, generator=torch.Generator().manual_seed(0)) - 0.1
    return torch.cat([points[..., :2], torch.ones_like(points[..., :1])], dim=-1)


def _keys(count: int = 2) -> Tensor:
    return torch.arange(100, 100 + count)


def test_a_move_is_a_similarity_that_changes_linearly() -> None:
    keypoints = _people()
    result = moved(keypoints, _keys(), ViewOptions())
    before = keypoints[..., :2].transpose(1, 2).flatten(2, 3)  # [B, T, 34, 2]
    after = result[..., :2].transpose(1, 2).flatten(2, 3)
    one = torch.view_as_complex((before - before.mean(2, keepdim=True)).contiguous())
    two = torch.view_as_complex((after - after.mean(2, keepdim=True)).contiguous())
    factor = (one.conj() * two).sum(-1) / one.abs().square().sum(-1)  # scale and turn of every frame
    torch.testing.assert_close(factor[..., None] * one, two)
    assert ((factor.abs() - 1).abs() <= 0.1 + 1e-5).all()
    assert (factor.angle().abs() <= math.radians(10) + 1e-5).all()
    shift = after.mean(2) - torch.view_as_real(factor * torch.view_as_complex(before.mean(2)))
    assert (shift.abs() <= 0.1 + 1e-5).all() and shift.abs().amax() > 0.02
    for course in (factor.abs(), factor.angle(), shift[..., 0], shift[..., 1]):
        torch.testing.assert_close(course.diff(dim=1), course.diff(dim=1)[:, :1].expand(-1, 8), atol=1e-5, rtol=0)
    assert (factor.angle()[:, 0] != factor.angle()[:, -1]).all()


def test_moves_follow_from_the_keys_and_leave_unseen_points() -> None:
    keypoints = _people()
    keypoints[1, 1] = 0
    result = moved(keypoints, _keys(), ViewOptions())
    assert torch.equal(result[1, 1], keypoints[1, 1])
    assert torch.equal(result[..., 2], keypoints[..., 2])
    assert torch.equal(moved(keypoints[1:], _keys()[1:], ViewOptions()), result[1:])
    assert not torch.allclose(result[0], moved(keypoints, _keys() + 1, ViewOptions())[0])
    still = moved(keypoints, _keys(), ViewOptions(turn_deg=0, scale=0, shift=0))
    torch.testing.assert_close(still, keypoints)


def test_the_square_holds_all_people_with_a_margin() -> None:
    keypoints = _people()
    result = framed(keypoints, None, ViewOptions())
    assert torch.equal(result[..., 2], keypoints[..., 2])
    reach = result[..., :2].abs().flatten(1).amax(1)
    torch.testing.assert_close(reach, torch.full((2,), 0.5))  # the longer side of the box is half of the square
    elsewhere = torch.cat([3 * keypoints[..., :2] + 0.3, keypoints[..., 2:]], dim=-1)
    torch.testing.assert_close(framed(elsewhere, None, ViewOptions()), result, atol=1e-5, rtol=0)
    # Their places relative to each other stay.
    between = (keypoints[:, 0] - keypoints[:, 1])[..., :2]
    ratio = (result[:, 0] - result[:, 1])[..., :2] / between
    torch.testing.assert_close(ratio, ratio[:, :1, :1, :1].expand_as(ratio), rtol=1e-3, atol=1e-3)


def test_margins_are_random_within_their_bounds() -> None:
    keypoints = _people(batch=200, people=1, frames=2)
    reach = 1 / framed(keypoints, _keys(200), ViewOptions())[..., :2].abs().flatten(1).amax(1)
    assert reach.min() >= 1 - 1e-5 and reach.max() <= 3 + 1e-5
    assert abs(reach.mean() - 2) < 0.15 and abs(reach.std() - 2 / math.sqrt(12)) < 0.08
