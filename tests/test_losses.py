"""Losses on values made by hand, and their masks."""

from __future__ import annotations

import math

import pytest
import torch

from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.losses import (
    heatmap_error,
    joints2d_error,
    joints3d_error,
    part_error,
    regressor_terms,
    rotation_error,
    scale_penalty,
    shape_error,
    state_error,
    visibility_error,
    x0_terms,
)
from tests.models.people import BODY_FILE, random_batch, without_labels

REGRESSOR = frozenset({"regressor_pose", "regressor_shape", "regressor_joints3d", "regressor_joints2d"})
X0 = frozenset({"x0_joints3d", "x0_joints2d"})


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel.load(BODY_FILE)


def _joints(size: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    pred = torch.randn(size, 49, 3, generator=torch.Generator().manual_seed(0))
    return pred, torch.cat([pred, torch.ones(size, 49, 1)], -1)


def test_state_error_is_the_mean_of_squares_over_all_entries() -> None:
    pred, target = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[0.0, 0.0, 1.0, torch.nan]])
    valid = torch.tensor([[True, True, True, False]])
    assert state_error(pred, target, valid).tolist() == [(1 + 4 + 4) / 4]


def test_rotation_and_shape_error_values() -> None:
    turned = torch.diag(torch.tensor([1.0, -1.0, -1.0])).expand(1, 24, 3, 3).clone()
    same = torch.eye(3).expand(1, 24, 3, 3)
    yes = torch.ones(1, dtype=torch.bool)
    # Two entries of nine differ by two.
    assert rotation_error(turned, same, yes).item() == pytest.approx(8 / 9)
    assert rotation_error(turned, same, ~yes).item() == 0
    assert shape_error(torch.full((1, 10), 3.0), torch.ones(1, 10), yes).item() == pytest.approx(4.0)
    assert shape_error(torch.full((1, 10), 3.0), torch.ones(1, 10), ~yes).item() == 0


def test_joints3d_error_ignores_translation_and_weighs_by_confidence() -> None:
    pred, target = _joints()
    torch.testing.assert_close(joints3d_error(pred + 5.0, target), torch.zeros(2), atol=1e-9, rtol=0)
    moved = pred.clone()
    moved[0, 10, 1] += 0.3
    expected = torch.tensor([0.3**2 / (49 * 3), 0.0])
    torch.testing.assert_close(joints3d_error(moved, target), expected, atol=1e-9, rtol=1e-5)
    target[0, 10, 3] = 0.5
    torch.testing.assert_close(joints3d_error(moved, target), 0.5 * expected, atol=1e-9, rtol=1e-5)


def test_joints3d_are_centred_on_the_lsp_hips() -> None:
    pred, target = _joints(1)
    moved = pred.clone()
    moved[0, 27] += 0.2  # the right hip: the centre moves by 0.1 and every other joint by -0.1
    assert joints3d_error(moved, target).item() == pytest.approx(0.1**2, rel=1e-4)


def test_joints3d_need_both_hips() -> None:
    pred, target = _joints()
    target[1, 28, 3] = 0
    target[1, 28, :3] = torch.nan
    error = joints3d_error(pred + torch.randn(49, 3), target)
    assert error[0] > 0
    assert error[1] == 0


def test_joints2d_error_value_and_mask() -> None:
    target = torch.zeros(1, 4, 3)
    target[..., 2] = torch.tensor([1.0, 0.5, 0.0, 1.0])
    target[0, 2, :2] = torch.nan
    pred = torch.full((1, 4, 2), 2.0, requires_grad=True)
    error = joints2d_error(pred, target)
    assert error.item() == pytest.approx((4 + 0.5 * 4 + 0 + 4) * 2 / 8)
    error.sum().backward()
    assert pred.grad is not None
    assert pred.grad[0, 2].tolist() == [0, 0]
    assert bool(torch.isfinite(pred.grad).all())


def test_part_error_compares_each_place_with_its_middle_pixel() -> None:
    part = torch.full((2, 8, 8), -1, dtype=torch.int16)
    part[0, 4:, 4:] = 23  # the last quarter of the first picture shows the last bone
    scores = torch.zeros(2, 25, 4, 4)
    assert part_error(scores, part).tolist() == pytest.approx([math.log(25)] * 2, rel=1e-6)
    scores[:, 0] = 20.0
    scores[0, :, 2:, 2:] = 0.0
    scores[0, 24, 2:, 2:] = 20.0
    assert part_error(scores, part).tolist() == pytest.approx([0, 0], abs=1e-6)
    scores[1, :, 3, 0] = 0.0
    assert part_error(scores, part)[1].item() == pytest.approx(math.log(25) / 16, rel=1e-5)


def test_visibility_error_counts_known_joints_only() -> None:
    scores = torch.tensor([[0.0, 3.0, -3.0, float("nan")], [0.0, 0.0, 0.0, 0.0]])
    visible = torch.tensor([[True, True, True, True], [False, True, False, True]])
    known = torch.tensor([[True, True, True, False], [False, False, False, False]])
    wanted = (math.log(2) + math.log1p(math.exp(-3)) + math.log1p(math.exp(3))) / 4
    assert visibility_error(scores, visible, known).tolist() == pytest.approx([wanted, 0], rel=1e-6)


def test_scale_penalty_is_that_of_spin_and_stays_finite() -> None:
    camera = torch.zeros(6, 3)
    camera[:, 0] = torch.tensor([0.0, 0.1, 0.9, -0.0999, -0.1001, -100.0])
    camera.requires_grad_()
    penalty = scale_penalty(camera)
    assert penalty[:3].tolist() == pytest.approx([1.0, math.exp(-2), math.exp(-18)], rel=1e-5)
    penalty.sum().backward()
    assert camera.grad is not None
    slope = camera.grad[3:, 0].tolist()
    assert slope == pytest.approx([-20 * math.exp(2)] * 3, rel=3e-3), "beyond -0.1 the tangent"
    assert penalty[5].item() == pytest.approx(math.exp(2) * (1 + 20 * 99.9), rel=1e-4)


def test_the_truth_has_no_regressor_loss_and_a_wrong_estimate_has_all(body: BodyModel) -> None:
    targets = random_batch(body).targets
    assert targets is not None
    right = regressor_terms(targets.params, targets.camera, targets, body, REGRESSOR)
    assert set(right) == REGRESSOR
    other = random_batch(body, seed=1).targets
    assert other is not None
    wrong = regressor_terms(other.params, other.camera, targets, body, REGRESSOR)
    for name in REGRESSOR:
        assert right[name].abs().max().item() < 1e-9, name
        assert wrong[name].min().item() > 1e-5, name


def test_only_the_wanted_terms_are_computed(body: BodyModel) -> None:
    targets = random_batch(body).targets
    assert targets is not None
    assert set(regressor_terms(targets.params, targets.camera, targets, body, frozenset({"regressor_scale"}))) == {
        "regressor_scale"
    }
    hypotheses = targets.params.map(lambda value: value.unsqueeze(1))
    assert x0_terms(hypotheses, targets.camera.unsqueeze(1), targets, body, REGRESSOR) == {}


def test_unlabelled_items_have_exactly_no_loss_and_no_gradient(body: BodyModel) -> None:
    targets = without_labels(random_batch(body)).targets
    estimate = random_batch(body, seed=1).targets
    assert targets is not None and estimate is not None
    betas = estimate.params.betas.clone().requires_grad_(True)
    camera = estimate.camera.clone().requires_grad_(True)
    params = SmplParams.from_rotations(estimate.params.rotations, betas)
    terms = regressor_terms(params, camera, targets, body, REGRESSOR)
    terms |= x0_terms(params.map(lambda value: value.unsqueeze(1)), camera.unsqueeze(1), targets, body, X0)
    assert set(terms) == REGRESSOR | X0
    for name, values in terms.items():
        assert values.abs().max().item() == 0, name
    torch.stack([values.sum() for values in terms.values()]).sum().backward()
    for leaf in (betas, camera):
        assert leaf.grad is not None
        assert leaf.grad.abs().max().item() == 0


def test_hidden_joints_do_not_count_in_the_2d_term_of_samples(body: BodyModel) -> None:
    targets = random_batch(body).targets
    estimate = random_batch(body, seed=1).targets
    assert targets is not None and estimate is not None
    params = estimate.params.map(lambda value: value.unsqueeze(1))
    seen = x0_terms(params, estimate.camera.unsqueeze(1), targets, body, X0)["x0_joints2d"]
    targets.visible[:, 10:] = False
    partly = x0_terms(params, estimate.camera.unsqueeze(1), targets, body, X0)["x0_joints2d"]
    targets.visible[:] = False
    hidden = x0_terms(params, estimate.camera.unsqueeze(1), targets, body, X0)["x0_joints2d"]
    assert bool((partly < seen).all()) and bool((partly > 0).all())
    assert hidden.abs().max().item() == 0


def test_heatmap_error_is_least_for_the_wanted_distribution() -> None:
    target = torch.tensor([[[0.25, -0.5, 1.0], [0.9, 0.9, 0.0]]])
    cells = (torch.arange(8) + 0.5) / 4 - 1
    distance = (cells.unsqueeze(1) + 0.5).square() + (cells - 0.25).square()
    # One cell is 2 / 8 wide; the second joint has no label.
    best = torch.stack([-distance / (2 * 0.25**2), torch.zeros(8, 8)]).unsqueeze(0)
    share = best[0, 0].flatten().softmax(0)
    entropy = float(-(share * share.log()).sum())
    assert float(heatmap_error(best, target)) == pytest.approx(entropy / 2, abs=1e-5)
    assert float(heatmap_error(torch.zeros(1, 2, 8, 8), target)) == pytest.approx(math.log(64) / 2, abs=1e-5)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        other = best + 0.1 * torch.randn(best.shape, generator=generator)
        assert float(heatmap_error(other, target)) > entropy / 2


def test_heatmap_error_of_an_unseen_joint_has_no_gradient() -> None:
    scores = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    target = torch.zeros(2, 3, 3)
    target[0, 1] = torch.tensor([math.nan, math.nan, 0.0])
    target[1, 2, 2] = 1.0
    error = heatmap_error(scores, target)
    error.sum().backward()
    assert error[0] == 0 and error[1] > 0
    assert scores.grad is not None and bool(scores.grad.isfinite().all())
    assert bool((scores.grad[0] == 0).all()) and bool(scores.grad[1, 2].abs().sum() > 0)
