"""Keypoints of a clip from pixels to the coordinates that MotionBERT's networks take, and back.

Both ways of MotionBERT (Zhu et al., ICCV 2023), of which a network must be given the one it was trained with:

* by the picture: ``((x, y) - (width, height) / 2) / (min(width, height) / 2)``. The shorter side of the picture becomes
  [-1, 1], so size and place of the person in the picture are kept, which tell how far away the person is.
* by the person: the smallest square that holds all seen points of all frames of the clip, centred on their box, becomes
  [-1, 1]. Small and large people look alike; walking across the picture remains.

y points down. Confidences pass unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_MIN_SEEN = 4


@dataclass(frozen=True)
class ClipFrame:
    """The square of the picture that becomes [-1, 1], in pixels.

    Attributes:
        centre: ``[..., 2]``.
        half_side: ``[...]``.
    """

    centre: Tensor
    half_side: Tensor


def normalise_clip(
    points: Tensor, frame_size: tuple[float, float] | Tensor | None = None, ratio: float = 1.0
) -> tuple[Tensor, ClipFrame]:
    """Normalised points of the shape of ``points``, and the square that :func:`denormalise_clip` needs.

    By the person, everything is limited to [-1, 1], which moves unseen points only (and seen ones if ``ratio`` < 1); a
    clip with fewer than four seen points, or with all in one place, becomes 0.

    Args:
        points: ``[..., T, K, 3]`` pixels x, y and confidence; unseen points have confidence 0.
        frame_size: width and height of the picture in pixels, ``[..., 2]`` or for all clips: by the picture. None: by
            the person.
        ratio: side of the square as a multiple of the box's longer side, by the person only.
    """
    if frame_size is not None:
        frame = _picture(points, frame_size)
        return _scaled(points, frame), frame
    frame, usable = _box(points, ratio)
    scaled = _scaled(points, frame).clamp(-1, 1)
    return torch.where(usable[..., None, None, None], scaled, 0.0), frame


def denormalise_clip(points: Tensor, frame: ClipFrame) -> Tensor:
    """Pixels of normalised ``points [..., T, K, 2 or more]``; what comes after x and y passes unchanged."""
    xy = points[..., :2] * frame.half_side[..., None, None, None] + frame.centre[..., None, None, :]
    return torch.cat([xy, points[..., 2:]], dim=-1)


def _scaled(points: Tensor, frame: ClipFrame) -> Tensor:
    xy = (points[..., :2] - frame.centre[..., None, None, :]) / frame.half_side[..., None, None, None]
    return torch.cat([xy, points[..., 2:]], dim=-1)


def _picture(points: Tensor, frame_size: tuple[float, float] | Tensor) -> ClipFrame:
    size = torch.as_tensor(frame_size, dtype=points.dtype, device=points.device).expand(*points.shape[:-3], 2)
    return ClipFrame(size / 2, size.amin(-1) / 2)


def _box(points: Tensor, ratio: float) -> tuple[ClipFrame, Tensor]:
    """The square around the seen points, and ``[...]`` bool whether there is one; else it is [-1, 1] itself."""
    seen = (points[..., 2] > 0).flatten(-2)[..., None]
    xy = points[..., :2].flatten(-3, -2)
    low = torch.where(seen, xy, torch.inf).amin(-2)
    high = torch.where(seen, xy, -torch.inf).amax(-2)
    half_side = (high - low).amax(-1) * (ratio / 2)
    usable = (seen.sum((-2, -1)) >= _MIN_SEEN) & (half_side > 0)
    centre = torch.where(usable[..., None], (low + high) / 2, 0.0)
    return ClipFrame(centre, torch.where(usable, half_side, 1.0)), usable
