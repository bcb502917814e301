"""Errors of lifted keypoints, per frame."""

from __future__ import annotations

import torch
from torch import Tensor

from diffhmr.clip_batch import LiftingBatch
from diffhmr.geometry.align import similarity_align
from diffhmr.metrics.joints import MM_PER_M, mpjpe_mm, pa_mpjpe_mm, weighted_errors


def lifting_errors(positions: Tensor, batch: LiftingBatch) -> dict[str, Tensor]:
    """Errors ``[N, T]`` of the N clips of ``batch`` whose depths are known; each frame relative to its root.

    ``mpjpe_mm`` and ``pa_mpjpe_mm``, the second after the best similarity transform of every frame, as MotionBERT
    reports them. Where the size of people is not known, ``mpjpe_units`` and ``pa_mpjpe_units`` in the unit of the
    keypoints, halves of the picture's shorter side.

    Args:
        positions: ``[B, T, 17, 3]`` in the unit of the keypoints.
        batch: with the truth.
    """
    known = batch.has_depth
    pred, truth = positions[known], batch.positions[known]
    if batch.mm_per_unit is None:
        relative, wanted = pred - pred[..., :1, :], truth - truth[..., :1, :]
        aligned = similarity_align(relative, wanted)
        errors = {"mpjpe_units": relative - wanted, "pa_mpjpe_units": aligned - wanted}
        return {name: torch.linalg.vector_norm(value, dim=-1).mean(-1) for name, value in errors.items()}
    metres = batch.mm_per_unit[known][..., None, None] / MM_PER_M
    pred, truth = metres * pred, metres * truth
    return {
        "mpjpe_mm": mpjpe_mm(pred, truth, pred[..., 0, :], truth[..., 0, :]),
        "pa_mpjpe_mm": pa_mpjpe_mm(pred, truth),
    }


def reprojection_error(positions: Tensor, batch: LiftingBatch) -> tuple[Tensor, Tensor]:
    """Weighted sums ``[B]`` of the distances in x and y, and of the weights, to be pooled over clips.

    Arguments as of :func:`lifting_errors`. Roots are put upon each other, as a model may leave out where people are.
    """
    relative = positions[..., :2] - positions[..., :1, :2]
    wanted = batch.positions[..., :2] - batch.positions[..., :1, :2]
    weight = batch.weight * (batch.weight[..., :1] > 0)
    total, weights = weighted_errors(relative, wanted, weight)
    return total.sum(-1), weights.sum(-1)
