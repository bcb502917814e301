"""Point errors against known shifts and transforms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffhmr.geometry.align import similarity_align
from diffhmr.geometry.rotation import axis_angle_to_matrix
from diffhmr.metrics.joints import auc, mpjae_deg, mpjpe_mm, pa_mpjpe_mm, pck, point_errors_mm, pve_mm, weighted_errors


def _points(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_known_shift_of_one_joint_is_shared_by_all() -> None:
    target = _points(5, 14)
    pred = target.clone()
    pred[:, 3] += torch.tensor([0.03, 0.04, 0.0], dtype=torch.float64)
    torch.testing.assert_close(
        mpjpe_mm(pred, target, pred[:, 0], target[:, 0]), torch.full((5,), 50 / 14, dtype=torch.float64)
    )
    assert point_errors_mm(pred, target)[0, 3].item() == pytest.approx(50.0)


def test_root_alignment_removes_translation_and_counts_a_wrong_root() -> None:
    target = _points(4, 14)
    moved = target + torch.tensor([1.0, -2.0, 5.0], dtype=torch.float64)
    assert mpjpe_mm(moved, target, moved[:, 2], target[:, 2]).abs().max().item() < 1e-9
    wrong_root = target[:, 2] + torch.tensor([0.0, 0.0, 0.1], dtype=torch.float64)
    torch.testing.assert_close(
        mpjpe_mm(target, target, wrong_root, target[:, 2]), torch.full((4,), 100.0, dtype=torch.float64)
    )


def test_vertex_error_is_relative_to_the_root_joint_not_to_the_mean_of_the_vertices() -> None:
    target = _points(2, 500)
    pred = target + 0.01
    root = _points(2)
    expected = torch.full((2,), 10 * 3**0.5, dtype=torch.float64)
    torch.testing.assert_close(pve_mm(pred, target, root, root), expected)
    assert pve_mm(pred, target, root + 0.01, root).abs().max().item() < 1e-9


def test_similarity_transforms_cost_nothing_after_procrustes() -> None:
    target = _points(6, 14)
    rotation, _ = torch.linalg.qr(_points(6, 3, seed=1))
    rotation = rotation * torch.det(rotation).sign()[:, None, None]
    pred = 0.7 * target @ rotation.mT + _points(6, 1, seed=2)
    assert pa_mpjpe_mm(pred, target).max().item() < 1e-8
    assert mpjpe_mm(pred, target, pred[:, 0], target[:, 0]).min().item() > 100


def test_a_mirrored_pose_is_not_excused() -> None:
    target = _points(3, 14)
    mirrored = target * torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    assert pa_mpjpe_mm(mirrored, target).min().item() > 100


def test_no_other_similarity_transform_has_a_smaller_squared_error() -> None:
    """Neither none at all nor one that is a little larger, turned or moved."""
    pred, target = _points(50, 14), _points(50, 14, seed=5)
    aligned = similarity_align(pred, target)
    least = (aligned - target).square().sum((-2, -1))
    assert bool((least <= (pred - pred.mean(-2, True) - target + target.mean(-2, True)).square().sum((-2, -1))).all())
    centre = target.mean(-2, keepdim=True)
    for step in (1e-3, -1e-3):
        others = [centre + (1 + step) * (aligned - centre), aligned + step]
        for axis in range(3):
            turn = axis_angle_to_matrix(step * torch.eye(3, dtype=torch.float64)[axis])
            others.append(centre + (aligned - centre) @ turn.T)
        for other in others:
            assert bool(((other - target).square().sum((-2, -1)) > least).all())
    torch.testing.assert_close(pa_mpjpe_mm(pred, target), point_errors_mm(aligned, target).mean(-1))


def test_leading_dimensions_equal_one_by_one_and_inputs_are_untouched() -> None:
    pred, target = _points(3, 4, 14), _points(3, 1, 14, seed=1)
    before = pred.clone(), target.clone()
    batched = mpjpe_mm(pred, target, pred[..., 0, :], target[..., 0, :])
    aligned = pa_mpjpe_mm(pred, target)
    for item in range(3):
        for hypothesis in range(4):
            one, truth = pred[item, hypothesis], target[item, 0]
            torch.testing.assert_close(batched[item, hypothesis], mpjpe_mm(one, truth, one[0], truth[0]))
            torch.testing.assert_close(aligned[item, hypothesis], pa_mpjpe_mm(one, truth))
    assert torch.equal(pred, before[0]) and torch.equal(target, before[1])


def test_angular_error_of_known_turns() -> None:
    """Turns by 0, 30 and 180 degrees about skew axes, whatever the rotation they start from."""
    start = axis_angle_to_matrix(_points(4, 3, seed=3))
    axes = torch.nn.functional.normalize(_points(4, 3, seed=4), dim=-1)
    angles = torch.deg2rad(torch.tensor([0.0, 30.0, 180.0], dtype=torch.float64))
    turned = axis_angle_to_matrix(axes * angles[:, None]) @ start
    expected = torch.full((4,), 70.0, dtype=torch.float64)
    torch.testing.assert_close(mpjae_deg(turned, start), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(mpjae_deg(start, turned), expected, rtol=0, atol=1e-5)


def test_weighted_errors_pool_visible_points() -> None:
    target = torch.zeros(2, 3, 2)
    pred = torch.tensor([[[3.0, 4.0], [0.0, 1.0], [9.0, 9.0]], [[0.0, 2.0], [7.0, 7.0], [7.0, 7.0]]])
    weight = torch.tensor([[True, True, False], [True, False, False]])
    total, count = weighted_errors(pred, target, weight)
    assert total.tolist() == [6.0, 2.0]
    assert count.tolist() == [2.0, 1.0]


def test_share_of_correct_points_and_area_under_its_curve() -> None:
    errors = torch.tensor([[0.0, 10.0, 99.9, 150.0], [200.0, 200.0, 200.0, 200.0]])
    assert pck(errors, 150).tolist() == [0.75, 0.0]
    assert pck(errors, 10).tolist() == [0.25, 0.0]
    # Below 0: none, below 50: two, below 100: three, below 150: three.
    assert auc(errors, [0, 50, 100, 150]).tolist() == [0.5, 0.0]
