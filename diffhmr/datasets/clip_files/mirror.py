"""Clips of the 17 points of Human3.6M as seen in a mirror."""

from __future__ import annotations

import torch
from torch import Tensor

from diffhmr.body.joints import H36M17

_FLIP = list(H36M17.flip)


def mirror_where(points: Tensor, where: Tensor) -> Tensor:
    """``points [B, ..., 17, 3]`` with x = 0 in the middle, those of ``where [B]`` mirrored left to right.

    What comes after x passes unchanged: y, and depths or confidences.
    """
    mirrored = points[..., _FLIP, :] * points.new_tensor([-1, 1, 1])
    return torch.where(where.view(-1, *[1] * (points.dim() - 1)), mirrored, points)


def exchange_where(values: Tensor, where: Tensor) -> Tensor:
    """``values [B, ..., 17]`` of the points, those of ``where [B]`` with left and right exchanged."""
    return torch.where(where.view(-1, *[1] * (values.dim() - 1)), values[..., _FLIP], values)
