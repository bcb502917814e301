"""The 24 rotations of a pose, each relative to its parent joint or each relative to the camera.

SMPL's own are relative to the parent. Relative to the camera, the direction of a bone in the picture is linear in that
bone's rotation alone, while relative to the parent it is a product of all rotations from the pelvis outwards: what a
network sees says far more directly what it has to answer, and an error at the spine does not move the hands.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from diffhmr.body.joints import SMPL_PARENTS

RotationFrame = Literal["parent", "camera"]


def to_frame(rotations: Tensor, frame: RotationFrame) -> Tensor:
    """Rotations ``[..., 24, 3, 3]`` relative to the parents as those of ``frame``, of the same shape.

    In the frame "camera", number k takes directions of the rest pose to where bone k points in the camera.
    """
    if frame == "parent":
        return rotations
    bones = [rotations[..., 0, :, :]]
    for joint in range(1, len(SMPL_PARENTS)):
        bones.append(bones[SMPL_PARENTS[joint]] @ rotations[..., joint, :, :])
    return torch.stack(bones, dim=-3)


def from_frame(rotations: Tensor, frame: RotationFrame) -> Tensor:
    """Inverse of :func:`to_frame`, for valid rotations."""
    if frame == "parent":
        return rotations
    parents = rotations[..., list(SMPL_PARENTS[1:]), :, :]
    return torch.cat([rotations[..., :1, :, :], parents.transpose(-1, -2) @ rotations[..., 1:, :, :]], dim=-3)
