"""Rotations relative to the parent and to the camera: there and back, and what the camera's frame makes linear."""

from __future__ import annotations

import torch

from diffhmr.body.frames import from_frame, to_frame
from diffhmr.body.joints import SMPL24, SMPL_PARENTS
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.geometry.rotation import random_rotations


def _rotations(count: int, seed: int = 0) -> torch.Tensor:
    return random_rotations((count, 24), torch.Generator().manual_seed(seed))


def test_there_and_back() -> None:
    rotations = _rotations(6).unflatten(0, (2, 3))
    for frame in ("parent", "camera"):
        there = to_frame(rotations, frame)
        assert there.shape == rotations.shape
        assert torch.allclose(from_frame(there, frame), rotations, atol=1e-5)
    assert torch.equal(to_frame(rotations, "parent"), rotations)


def test_turning_the_person_turns_every_bone_alike() -> None:
    rotations, turn = _rotations(2), _rotations(1, seed=1)[0, 0]
    turned = torch.cat([turn @ rotations[:, :1], rotations[:, 1:]], dim=1)
    assert torch.allclose(to_frame(turned, "camera"), turn @ to_frame(rotations, "camera"), atol=1e-5)


def test_a_bone_points_where_its_own_camera_rotation_says(free_body: BodyModel) -> None:
    rotations = _rotations(3)
    betas = torch.zeros(3, 10)
    posed = free_body.joints(SmplParams.from_rotations(rotations, betas), SMPL24)
    rest = free_body.joints(SmplParams.from_rotations(torch.eye(3).repeat(3, 24, 1, 1), betas), SMPL24)
    bones = to_frame(rotations, "camera")
    for joint in range(1, 24):
        parent = SMPL_PARENTS[joint]
        expected = (bones[:, parent] @ (rest[:, joint] - rest[:, parent]).unsqueeze(-1)).squeeze(-1)
        assert torch.allclose(posed[:, joint] - posed[:, parent], expected, atol=1e-5)


def test_gradients_reach_all_rotations() -> None:
    rotations = _rotations(1).requires_grad_()
    (to_frame(rotations, "camera") * _rotations(1, seed=2)).sum().backward()
    assert rotations.grad is not None and bool((rotations.grad.abs().amax((0, 2, 3)) > 0).all())
