from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from diffhmr.body.frames import RotationFrame
from diffhmr.body.joints import H36M17
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.clip_batch import ClipTargets
from diffhmr.clip_losses import (
    POINT_TERMS,
    acceleration_error,
    joints_error,
    mesh_terms,
    root_relative_joints,
    velocity_error,
)
from diffhmr.geometry.rotation import axis_angle_to_matrix
from tests.models.people import random_params

SIZE, FRAMES = 3, 5
ALL = frozenset({*POINT_TERMS, "pose", "shape", "norm"})


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _targets(seed: int = 0) -> ClipTargets:
    params, _ = random_params(SIZE * FRAMES, seed)
    return ClipTargets(params.rotations.unflatten(0, (SIZE, FRAMES)), _random(SIZE, 10, seed=seed))


def _turned(targets: ClipTargets, joint: int, vectors: Tensor) -> SmplParams:
    """The truth with one joint turned by ``vectors [..., 3]``."""
    rotations = targets.rotations.clone()
    rotations[:, :, joint] = rotations[:, :, joint] @ axis_angle_to_matrix(vectors)
    return SmplParams.from_rotations(rotations, targets.params.betas)


def test_known_shifts() -> None:
    joints = _random(2, SIZE, FRAMES, 17, 3)
    shift = torch.tensor([0.0, 0.03, -0.04])
    torch.testing.assert_close(joints_error(joints + shift, joints), torch.full((2, SIZE), 0.05))
    # One joint of 17 in one frame of 5.
    moved = joints.clone()
    moved[..., 2, 4, :] += shift
    torch.testing.assert_close(joints_error(moved, joints), torch.full((2, SIZE), 0.05 / 85))
    for error in (velocity_error, acceleration_error):
        torch.testing.assert_close(error(joints + shift, joints), torch.zeros(2, SIZE), atol=1e-6, rtol=0)
    # It moves there and back: two of four steps, and by 1, -2 and 1 of three second differences.
    torch.testing.assert_close(velocity_error(moved, joints), torch.full((2, SIZE), 2 * 0.05 / (4 * 17)))
    torch.testing.assert_close(acceleration_error(moved, joints), torch.full((2, SIZE), 4 * 0.05 / (3 * 17)))


def test_constant_velocity_and_acceleration() -> None:
    joints, time = _random(SIZE, FRAMES, 17, 3), torch.arange(FRAMES, dtype=torch.float32)[:, None, None]
    direction = torch.tensor([0.6, 0.0, 0.8])
    drift, fall = joints + 0.02 * time * direction, joints + 0.01 * time.square() * direction
    torch.testing.assert_close(velocity_error(drift, joints), torch.full((SIZE,), 0.02))
    torch.testing.assert_close(acceleration_error(drift, joints), torch.zeros(SIZE), atol=1e-6, rtol=0)
    torch.testing.assert_close(acceleration_error(fall, joints), torch.full((SIZE,), 0.02))
    torch.testing.assert_close(velocity_error(fall, joints), torch.full((SIZE,), 0.01 * (1 + 3 + 5 + 7) / 4))


@pytest.mark.parametrize("name", POINT_TERMS)
def test_time_has_no_direction(name: str) -> None:
    error, pred, target = POINT_TERMS[name], _random(SIZE, FRAMES, 17, 3), _random(SIZE, FRAMES, 17, 3, seed=1)
    torch.testing.assert_close(error(pred.flip(1), target.flip(1)), error(pred, target))
    torch.testing.assert_close(error(target, pred), error(pred, target))
    turn = axis_angle_to_matrix(torch.tensor([0.3, -1.0, 0.5]))
    torch.testing.assert_close(error(pred @ turn, target @ turn), error(pred, target))
    assert (error(pred, target) > 0.1).all() and (error(target, target) == 0).all()


@pytest.mark.parametrize(("name", "frames"), [("velocity", 1), ("acceleration", 1), ("acceleration", 2)])
def test_too_few_frames_have_no_change(name: str, frames: int) -> None:
    pred = _random(SIZE, frames, 17, 3).requires_grad_()
    error = POINT_TERMS[name](pred, _random(SIZE, frames, 17, 3, seed=1))
    assert torch.equal(error, torch.zeros(SIZE))
    error.sum().backward()
    assert pred.grad is not None and (pred.grad == 0).all()


def test_joints_count_from_the_pelvis(toy_body: BodyModel) -> None:
    targets = _targets()
    joints = root_relative_joints(targets.params, toy_body)
    assert joints.shape == (SIZE, FRAMES, 17, 3) and (joints[..., 0, :] == 0).all()
    absolute = toy_body.joints(targets.params, H36M17)
    torch.testing.assert_close(joints[..., 3, :], absolute[..., 3, :] - absolute[..., 0, :])
    assert H36M17.joint_names[0].startswith("pelvis")


def test_the_truth_has_no_error(toy_body: BodyModel) -> None:
    targets = _targets()
    terms = mesh_terms(targets.params, targets, toy_body, ALL)
    assert set(terms) == ALL
    for name in ALL - {"norm"}:
        torch.testing.assert_close(terms[name], torch.zeros(SIZE), atol=1e-6, rtol=0)


def test_terms_that_are_not_active_are_not_there(toy_body: BodyModel) -> None:
    targets, estimate = _targets(), _targets(1).params
    everything = mesh_terms(estimate, targets, toy_body, ALL)
    for name in ALL:
        (only,) = mesh_terms(estimate, targets, toy_body, frozenset({name, "diffusion"})).items()
        assert only[0] == name
        torch.testing.assert_close(only[1], everything[name])
    assert mesh_terms(estimate, targets, toy_body, frozenset()) == {}


def test_a_turned_pelvis_turns_everything(toy_body: BodyModel) -> None:
    """By half a turn about its own y: every joint moves by twice its distance from the axis."""
    targets = _targets()
    still = ClipTargets(targets.rotations[:, :1].expand(-1, FRAMES, -1, -1, -1), targets.betas)
    vectors = torch.tensor([0.0, math.pi, 0.0]).expand(SIZE, FRAMES, 3)
    terms = mesh_terms(_turned(still, 0, vectors), still, toy_body, ALL)
    joints = root_relative_joints(still.params, toy_body)
    axis = still.rotations[:, :, 0, :, 1].unsqueeze(2)
    distance = (joints - (joints * axis).sum(-1, keepdim=True) * axis).norm(dim=-1)
    torch.testing.assert_close(terms["joints3d"], 2 * distance.mean((1, 2)), rtol=1e-4, atol=1e-5)
    for name in ("velocity", "acceleration"):
        torch.testing.assert_close(terms[name], torch.zeros(SIZE), atol=1e-5, rtol=0)


@pytest.mark.parametrize("frame", ["parent", "camera"])
def test_the_pose_is_compared_as_matrices(frame: RotationFrame, toy_body: BodyModel) -> None:
    """Half a turn of the head about its own y negates two columns of one matrix of 24, in either frame."""
    targets, head = _targets(), 15
    vectors = torch.tensor([0.0, math.pi, 0.0]).expand(SIZE, FRAMES, 3)
    terms = mesh_terms(_turned(targets, head, vectors), targets, toy_body, frozenset({"pose"}), frame)
    bones = [targets.rotations[:, :, 0]]
    for joint in (3, 6, 9, 12, head):  # spine, chest and neck
        bones.append(bones[-1] @ targets.rotations[:, :, joint])
    matrix = bones[-1] if frame == "camera" else targets.rotations[:, :, head]
    expected = 2 * matrix[..., [0, 2]].abs().sum((2, 3)).mean(1) / (24 * 9)
    torch.testing.assert_close(terms["pose"], expected, rtol=1e-4, atol=1e-6)
    # A joint in the middle counts once in the frame of the parents, with all that hangs on it in that of the camera.
    spine = mesh_terms(_turned(targets, 3, vectors), targets, toy_body, frozenset({"pose"}), frame)["pose"]
    assert (spine > 5 * terms["pose"]).all() == (frame == "camera")


def test_the_shape_is_compared_number_by_number(toy_body: BodyModel) -> None:
    targets = _targets()
    betas = targets.params.betas.clone()
    betas[..., 3] += 0.5
    terms = mesh_terms(SmplParams.from_rotations(targets.rotations, betas), targets, toy_body, frozenset({"shape"}))
    torch.testing.assert_close(terms["shape"], torch.full((SIZE,), 0.05))


def test_the_norm_is_that_of_all_angles_and_betas(toy_body: BodyModel) -> None:
    rotations = torch.eye(3).repeat(1, 2, 24, 1, 1)
    rotations[:, :, 4] = axis_angle_to_matrix(torch.tensor([0.0, 1.2, 0.0]))
    rotations[:, 1, 7] = axis_angle_to_matrix(torch.tensor([0.9, 0.0, 0.0]))
    betas = torch.zeros(1, 2, 10)
    betas[..., 0] = 0.5
    targets = ClipTargets(rotations, betas[:, 0])
    terms = mesh_terms(SmplParams.from_rotations(rotations, betas), targets, toy_body, frozenset({"norm"}))
    torch.testing.assert_close(terms["norm"], torch.tensor([(1.3 + math.sqrt(1.3**2 + 0.9**2)) / 2]))


def test_gradients_are_finite_at_the_rest_pose(toy_body: BodyModel) -> None:
    rotations = torch.eye(3).repeat(SIZE, FRAMES, 24, 1, 1).requires_grad_()
    betas = torch.zeros(SIZE, FRAMES, 10).requires_grad_()
    targets = ClipTargets(rotations.detach(), torch.zeros(SIZE, 10))
    terms = mesh_terms(SmplParams.from_rotations(rotations, betas), targets, toy_body, ALL)
    assert (terms["norm"] < 1e-5).all()
    torch.stack(list(terms.values())).sum().backward()
    for value in (rotations, betas):
        assert value.grad is not None and value.grad.isfinite().all()


def test_gradients_are_finite_and_pull_everywhere_else(toy_body: BodyModel) -> None:
    for name in ALL:
        targets, other = _targets(), _targets(1)
        rotations = other.rotations.clone().requires_grad_()
        betas = other.params.betas.clone().requires_grad_()
        params = SmplParams.from_rotations(rotations, betas)
        mesh_terms(params, targets, toy_body, frozenset({name}))[name].sum().backward()
        for value, used in ((rotations, name != "shape"), (betas, name != "pose")):
            if used:
                assert value.grad is not None and value.grad.isfinite().all() and value.grad.abs().max() > 0, name


def test_clips_one_by_one_or_in_a_batch(toy_body: BodyModel) -> None:
    targets, other = _targets(), _targets(1)
    together = mesh_terms(other.params, targets, toy_body, ALL)
    for item in range(SIZE):
        one = slice(item, item + 1)
        alone = mesh_terms(
            other.params.map(lambda value, one=one: value[one]),
            ClipTargets(targets.rotations[one], targets.betas[one]),
            toy_body,
            ALL,
        )
        for name in ALL:
            torch.testing.assert_close(alone[name][0], together[name][item])
