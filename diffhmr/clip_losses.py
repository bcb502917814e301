"""Losses on SMPL parameters of clips: those of MotionBERT's mesh task, in metres.

Zhu et al., "MotionBERT", ICCV 2023, and the official ``lib/model/loss_mesh.py``. All give one number per clip.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffhmr.body.frames import RotationFrame, to_frame
from diffhmr.body.joints import H36M17
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.clip_batch import ClipTargets
from diffhmr.geometry.rotation import geodesic_distance

ROOT = 0
"""Of H36M-17."""


def root_relative_joints(params: SmplParams, body: BodyModel) -> Tensor:
    """H36M-17 joints ``[..., 17, 3]`` in metres, relative to the pelvis of that set."""
    joints = body.joints(params, H36M17)
    return joints - joints[..., ROOT : ROOT + 1, :]


def joints_error(pred: Tensor, target: Tensor) -> Tensor:
    """Mean distance ``[...]`` of joints ``[..., T, J, 3]`` over joints and frames, in their unit."""
    return torch.linalg.vector_norm(pred - target, dim=-1).mean((-2, -1))


def velocity_error(pred: Tensor, target: Tensor) -> Tensor:
    """Mean distance ``[...]`` of the changes of joints ``[..., T, J, 3]`` from frame to frame; 0 for single frames."""
    if pred.shape[-3] == 1:
        return pred.sum((-3, -2, -1)) * 0
    return joints_error(pred.diff(dim=-3), target.diff(dim=-3))


def acceleration_error(pred: Tensor, target: Tensor) -> Tensor:
    """Mean distance ``[...]`` of the second differences of joints ``[..., T, J, 3]``; 0 for less than three frames.

    The acceleration error of the evaluations, as a loss.
    """
    if pred.shape[-3] < 3:
        return pred.sum((-3, -2, -1)) * 0
    return joints_error(pred.diff(n=2, dim=-3), target.diff(n=2, dim=-3))


POINT_TERMS = {"joints3d": joints_error, "velocity": velocity_error, "acceleration": acceleration_error}
"""Terms on the joints of a clip."""


def mesh_terms(
    params: SmplParams,
    targets: ClipTargets,
    body: BodyModel,
    active: frozenset[str],
    frame: RotationFrame = "parent",
) -> dict[str, Tensor]:
    """The terms on an estimate that are named in ``active``, ``[B]`` each.

    They are :data:`POINT_TERMS`, ``pose``, ``shape`` and ``norm``.

    Args:
        params: estimate ``[B, T]``.
        targets: of the B clips.
        body: gives the joints.
        active: names of the terms that are wanted; others are ignored.
        frame: in which rotations are compared.
    """
    terms: dict[str, Tensor] = {}
    if active & set(POINT_TERMS):
        joints, truth = root_relative_joints(params, body), root_relative_joints(targets.params, body)
        terms |= {name: error(joints, truth) for name, error in POINT_TERMS.items() if name in active}
    if "pose" in active:
        difference = to_frame(params.rotations, frame) - to_frame(targets.rotations, frame)
        terms["pose"] = difference.abs().mean((-4, -3, -2, -1))
    if "shape" in active:
        terms["shape"] = (params.betas - targets.betas.unsqueeze(1)).abs().mean((-2, -1))
    if "norm" in active:
        identity = torch.eye(3, dtype=params.betas.dtype, device=params.betas.device)
        angles = geodesic_distance(identity, params.rotations)
        length = torch.cat([angles, params.betas], dim=-1).square().sum(-1)
        terms["norm"] = (length + 1e-12).sqrt().mean(-1)
    return terms
