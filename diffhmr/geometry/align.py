"""Alignment of point sets before an error is measured: by the root, or by the best similarity transform."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def root_align(points: Tensor, root: Tensor) -> Tensor:
    """``points [..., N, 3]`` relative to ``root [..., 3]``."""
    return points - root.unsqueeze(-2)


@dataclass(frozen=True)
class Similarity:
    """``x -> scale * (x - centre) @ rotation^T + target_centre``.

    Attributes:
        scale: ``[...]``.
        rotation: ``[..., 3, 3]``.
        centre: ``[..., 1, 3]`` of the points that were fitted.
        target_centre: ``[..., 1, 3]``.
    """

    scale: Tensor
    rotation: Tensor
    centre: Tensor
    target_centre: Tensor

    def apply(self, points: Tensor) -> Tensor:
        """``points [..., N, 3]`` moved; they need not be those that were fitted."""
        turned = self.scale[..., None, None] * (points - self.centre) @ self.rotation.transpose(-1, -2)
        return turned + self.target_centre


def fit_similarity(pred: Tensor, target: Tensor) -> Similarity:
    """The scale, rotation and shift of least squared error from ``pred [..., N, 3]`` to ``target [..., N, 3]``.

    Orthogonal Procrustes analysis with the reflection excluded (Umeyama, "Least-Squares Estimation of Transformation
    Parameters Between Two Point Patterns", PAMI 1991, eq. 40-43). Leading dimensions broadcast. A ``pred`` whose points
    coincide is moved to the centre of ``target``.
    """
    pred, target = torch.broadcast_tensors(pred, target)
    pred_centre = pred.mean(-2, keepdim=True)
    target_centre = target.mean(-2, keepdim=True)
    pred_centred = pred - pred_centre
    target_centred = target - target_centre
    left, singular, right = torch.linalg.svd(target_centred.transpose(-1, -2) @ pred_centred)
    # The nearest orthogonal matrix may be a reflection; with the weakest direction reversed it is the nearest rotation.
    sign = torch.det(left @ right).sign()
    signs = torch.stack([torch.ones_like(sign), torch.ones_like(sign), sign], dim=-1)
    rotation = (left * signs.unsqueeze(-2)) @ right
    variance = pred_centred.square().sum((-2, -1))
    scale = (singular * signs).sum(-1) / variance.clamp_min(torch.finfo(pred.dtype).tiny)
    return Similarity(scale, rotation, pred_centre, target_centre)


def similarity_align(pred: Tensor, target: Tensor) -> Tensor:
    """``pred [..., N, 3]`` moved onto ``target [..., N, 3]`` as :func:`fit_similarity` says; shapes broadcast."""
    return fit_similarity(pred, target).apply(pred)
