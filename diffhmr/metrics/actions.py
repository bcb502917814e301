"""How often actions are recognised."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def among_top(scores: Tensor, labels: Tensor, count: int) -> Tensor:
    """``[B]`` bool: whether fewer than ``count`` of the classes have a higher score than the right one.

    Classes with the same score as the right one, if there are any, are taken to come before it, so that a model
    without an opinion is right by no accident.

    Args:
        scores: ``[B, C]``.
        labels: ``[B]``.
    """
    own = scores.gather(1, labels[:, None])
    return (scores >= own).sum(1) <= count


def nearest(vectors: Tensor, exemplars: Tensor) -> Tensor:
    """``[B]``: which of ``exemplars [N, K]`` has the greatest cosine with each of ``vectors [B, K]``."""
    return (torch.nn.functional.normalize(vectors, dim=-1) @ torch.nn.functional.normalize(exemplars, dim=-1).T).argmax(
        1
    )


def same_as_nearest_other(vectors: Tensor, labels: Tensor) -> Tensor:
    """``[B]`` bool: whether the other one of ``vectors [B, K]`` with the greatest cosine has the same label."""
    unit = normalize(vectors, dim=-1)
    cosine = (unit @ unit.T).fill_diagonal_(-torch.inf)
    return labels[cosine.argmax(1)] == labels
