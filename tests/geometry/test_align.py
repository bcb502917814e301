"""Alignment: known transforms vanish, reflections do not, batches equal single items."""

from __future__ import annotations

import time

import torch

from diffhmr.geometry.align import fit_similarity, root_align, similarity_align
from diffhmr.geometry.rotation import random_rotations


def make_points(*lead: int) -> torch.Tensor:
    return torch.randn(*lead, 14, 3, generator=torch.Generator().manual_seed(1))


def test_root_align_puts_the_root_at_zero() -> None:
    points = make_points(2, 3)
    aligned = root_align(points, points[..., 5, :])
    torch.testing.assert_close(aligned[..., 5, :], torch.zeros(2, 3, 3))
    torch.testing.assert_close(aligned[..., 0, :] - aligned[..., 1, :], points[..., 0, :] - points[..., 1, :])


def test_similarity_transforms_are_undone() -> None:
    generator = torch.Generator().manual_seed(2)
    target = make_points(50)
    rotation = random_rotations((50,), generator)
    scale = torch.rand(50, 1, 1, generator=generator) * 3 + 0.1
    pred = scale * target @ rotation.transpose(-1, -2) + torch.randn(50, 1, 3, generator=generator)
    torch.testing.assert_close(similarity_align(pred, target), target, atol=1e-4, rtol=0)


def test_a_fitted_similarity_moves_other_points_too() -> None:
    generator = torch.Generator().manual_seed(3)
    target, rotation = make_points(6), random_rotations((6,), generator)
    pred = 1.7 * target @ rotation.transpose(-1, -2) + torch.randn(6, 1, 3, generator=generator)
    similarity = fit_similarity(pred[:, :5], target[:, :5])
    torch.testing.assert_close(similarity.scale, torch.full((6,), 1 / 1.7))
    torch.testing.assert_close(similarity.apply(pred), target, atol=1e-4, rtol=0)
    torch.testing.assert_close(similarity.apply(pred.unsqueeze(1)[:, 0]), target, atol=1e-4, rtol=0)


def test_a_mirror_image_is_not_undone() -> None:
    target = make_points()
    mirrored = target * torch.tensor([-1.0, 1.0, 1.0])
    aligned = similarity_align(mirrored, target)
    assert (aligned - target).norm(dim=-1).mean() > 0.1
    # The map from pred to aligned keeps orientation: the determinant of the best linear map is positive.
    centre = mirrored - mirrored.mean(0)
    linear = torch.linalg.lstsq(centre, aligned - aligned.mean(0)).solution
    assert torch.det(linear) > 0


def test_it_is_the_least_squares_optimum() -> None:
    """No small similarity transform of the aligned points comes nearer to the target."""
    generator = torch.Generator().manual_seed(3)
    target = make_points(20)
    aligned = similarity_align(target + 0.3 * torch.randn(20, 14, 3, generator=generator), target)
    best = (aligned - target).square().sum((-2, -1))
    for _ in range(20):
        centred = aligned - aligned.mean(-2, keepdim=True)
        turn = torch.linalg.matrix_exp(0.02 * torch.triu(torch.randn(3, 3, generator=generator), 1))
        turn = torch.linalg.qr(turn).Q * torch.linalg.qr(turn).R.diagonal().sign()
        scale = 1 + 0.02 * torch.randn((), generator=generator)
        moved = scale * centred @ turn.T + aligned.mean(-2, keepdim=True) + 0.01 * torch.randn(3, generator=generator)
        assert ((moved - target).square().sum((-2, -1)) >= best - 1e-4).all()


def test_leading_dimensions_broadcast_and_match_single_items() -> None:
    pred, target = make_points(4, 5), make_points(4, 1).flip(0)
    aligned = similarity_align(pred, target)
    torch.testing.assert_close(aligned[2, 3], similarity_align(pred[2, 3], target[2, 0]), atol=1e-5, rtol=1e-5)


def test_coinciding_points_go_to_the_centre_of_the_target() -> None:
    target = make_points()
    aligned = similarity_align(torch.ones(14, 3), target)
    torch.testing.assert_close(aligned, target.mean(0).expand(14, 3), atol=1e-5, rtol=0)


def test_fifty_thousand_poses_take_seconds_not_minutes() -> None:
    pred = make_points(2000, 25)
    start = time.perf_counter()
    similarity_align(pred, pred.flip(0))
    assert time.perf_counter() - start < 10
