"""How motion differs over time, per frame of a sequence: metres in, millimetres per frame squared or m/s^2 out.

Points are ``[..., T, N, 3]`` over T frames at equal distances in time; leading dimensions are sequences, hypotheses or
both. Use points relative to a root (in both the same) where the position of the body is not to count. Results have a
value for every moment that has all the frames it needs; nothing is averaged over moments.

Publications do not agree on the unit. The line of VIBE (Kocabas et al., CVPR 2020; Kanazawa et al., CVPR 2019) gives
mm/frame^2; WHAM (Shin et al., CVPR 2024) multiplies by 30^2, which makes m/s^2 of metres, and leaves out the first and
last moment. Both are here, of all moments.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffhmr.metrics.joints import MM_PER_M, point_errors_mm


def accelerations(points: Tensor) -> Tensor:
    """Second differences ``p[t-1] - 2 p[t] + p[t+1]``: ``[..., T - 2, N, 3]`` metres per frame squared.

    Entry t belongs to frame t + 1.
    """
    return points[..., :-2, :, :] - 2 * points[..., 1:-1, :, :] + points[..., 2:, :, :]


def acceleration_error_mm(pred: Tensor, target: Tensor) -> Tensor:
    """Mean distance of both accelerations over the N points: ``[..., T - 2]`` mm per frame squared.

    For m/s^2 multiply by :func:`m_per_s2` of 1.
    """
    return point_errors_mm(accelerations(pred), accelerations(target)).mean(-1)


def acceleration_mm(points: Tensor) -> Tensor:
    """Mean size of the acceleration over the N points: ``[..., T - 2]`` mm per frame squared."""
    return MM_PER_M * torch.linalg.vector_norm(accelerations(points), dim=-1).mean(-1)


def jitter_m_per_s3(points: Tensor, fps: Tensor | float) -> Tensor:
    """Mean size of the third difference over the N points: ``[..., T - 3]`` metres per second cubed.

    Entry t is made of the frames t to t + 3. Trembling from frame to frame, which errors of position hardly see,
    dominates it (EMDB, Kaufmann et al., ICCV 2023, reports a tenth of this number).

    Args:
        points: ``[..., T, N, 3]``.
        fps: frames per second, a number or ``[..., 1]``.
    """
    third = torch.linalg.vector_norm(accelerations(points).diff(dim=-3), dim=-1).mean(-1)
    return third * fps**3


def m_per_s2(mm_per_frame2: Tensor, fps: Tensor | float) -> Tensor:
    """An acceleration in mm per frame squared as metres per second squared, for ``fps`` frames per second."""
    return mm_per_frame2 * fps**2 / MM_PER_M


def all_valid(valid: Tensor, frames: int) -> Tensor:
    """Which stretches of ``frames`` frames consist of valid ones: ``[..., T - frames + 1]`` bool.

    A second difference needs 3 frames and a third one 4: where a single frame is missing, several moments are.

    Args:
        valid: ``[..., T]`` bool.
        frames: at least 1. If there are fewer frames than that, the result is empty.
    """
    count = max(valid.shape[-1] - frames + 1, 0)
    return torch.stack([valid[..., start : start + count] for start in range(frames)]).all(0)
