"""Errors of joints and vertices per item: metres in, millimetres out, and of rotations. No averages over items here."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffhmr.geometry.align import root_align, similarity_align
from diffhmr.geometry.rotation import geodesic_distance

MM_PER_M = 1000.0


def point_errors_mm(pred: Tensor, target: Tensor) -> Tensor:
    """Euclidean distances ``[..., N]`` between ``pred`` and ``target`` ``[..., N, 3]``, as they stand."""
    return MM_PER_M * torch.linalg.vector_norm(pred - target, dim=-1)


def mpjpe_mm(pred: Tensor, target: Tensor, pred_root: Tensor, target_root: Tensor) -> Tensor:
    """Mean per-joint position error ``[...]`` of ``[..., J, 3]``, each side relative to its own root ``[..., 3]``."""
    return point_errors_mm(root_align(pred, pred_root), root_align(target, target_root)).mean(-1)


def pve_mm(pred: Tensor, target: Tensor, pred_root: Tensor, target_root: Tensor) -> Tensor:
    """Per-vertex error ``[...]`` of ``[..., V, 3]`` relative to a root *joint* ``[..., 3]``, not the vertices' mean."""
    return mpjpe_mm(pred, target, pred_root, target_root)


def pa_mpjpe_mm(pred: Tensor, target: Tensor) -> Tensor:
    """Joint error ``[...]`` of ``[..., J, 3]`` after the best similarity transform of each item: scale is included."""
    return point_errors_mm(similarity_align(pred, target), target).mean(-1)


def mpjae_deg(pred: Tensor, target: Tensor) -> Tensor:
    """Mean per-joint angular error ``[...]`` in degrees of rotations ``[..., J, 3, 3]``, each relative to the camera.

    The angle of the rotation between both (Kaufmann et al., "EMDB", ICCV 2023, as in the challenge of 3DPW).
    """
    return torch.rad2deg(geodesic_distance(pred, target)).mean(-1)


def pck(errors: Tensor, threshold: float) -> Tensor:
    """Share ``[...]`` of the points whose error ``[..., J]`` is below ``threshold``, both in the same unit."""
    return (errors < threshold).to(errors.dtype).mean(-1)


def auc(errors: Tensor, thresholds: Sequence[float]) -> Tensor:
    """Area under the curve of the correct points ``[...]``: the mean of :func:`pck` over ``thresholds``."""
    return torch.stack([pck(errors, threshold) for threshold in thresholds]).mean(0)


def weighted_errors(pred: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted sum of point distances and sum of weights per item, to be pooled over items.

    Args:
        pred: ``[..., K, D]`` in any unit, such as image points.
        target: ``[..., K, D]``.
        weight: ``[..., K]``, for example 1 where a point is visible.

    Returns:
        ``(sum [...], weight [...])``, in the unit of the points.
    """
    distance = torch.linalg.vector_norm(pred - target, dim=-1)
    weight = weight.to(distance).expand_as(distance)
    return (distance * weight).sum(-1), weight.sum(-1)
