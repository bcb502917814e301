"""Random views of a clip of keypoints, as MotionBERT's action recognition is trained with.

Zhu et al., "MotionBERT: A Unified Perspective on Learning Human Motion Representations", ICCV 2023, and the official
code, with shorter ways: people turn, grow and move in the picture, linearly in time, and the box around them has a
random margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffhmr.geometry.clip_frame import normalise_clip
from diffhmr.models.item_random import item_uniforms

_MOVE_STREAM, _RATIO_STREAM = 120, 121


@dataclass(frozen=True)
class ViewOptions:
    """How far views of one clip differ; the defaults are MotionBERT's numbers.

    They do not move people as far in pictures that are no squares, whose size a model is not given. The official code
    (``make_cam``) measures in halves of the longer side: in pictures of 16:9, as those of NTU RGB+D, the shift here is
    0.56 of its. And it turns and scales about the point that lies half a longer side from the left and from the top,
    here it is the middle of the picture.

    Attributes:
        turn_deg: largest turn about the middle of the picture, at the beginning and at the end of a clip.
        scale: largest share by which people grow or shrink, about the middle of the picture.
        shift: largest way in x and in y, in halves of the picture's shorter side.
        least_ratio: smallest side of the square as a multiple of the box around the people in training.
        most_ratio: largest one.
        ratio: that of evaluation.
    """

    turn_deg: float = 10.0
    scale: float = 0.1
    shift: float = 0.1
    least_ratio: float = 1.0
    most_ratio: float = 3.0
    ratio: float = 2.0


VIEWS = ViewOptions()
"""MotionBERT's numbers."""


def moved(keypoints: Tensor, keys: Tensor, options: ViewOptions) -> Tensor:
    """``keypoints [B, M, T, 17, 3]`` turned, scaled and shifted; unseen points stay.

    Args:
        keys: ``[B]`` int64, see :mod:`diffhmr.models.item_random`; everything random follows from them.
    """
    frames = keypoints.shape[2]
    ends = 2 * item_uniforms(keys, _MOVE_STREAM, (4, 2)) - 1  # [B, what, beginning and end]
    share = torch.linspace(0, 1, frames, device=keypoints.device)
    course = ends[..., :1] + (ends[..., 1:] - ends[..., :1]) * share  # [B, 4, T]
    angle = math.radians(options.turn_deg) * course[:, 0]
    size = 1 + options.scale * course[:, 1]
    cos, sin = size * angle.cos(), size * angle.sin()
    turn = torch.stack([cos, -sin, sin, cos], dim=-1).unflatten(-1, (2, 2))[:, None, :, None]  # [B, 1, T, 1, 2, 2]
    shift = options.shift * course[:, 2:].transpose(1, 2)[:, None, :, None]  # [B, 1, T, 1, 2]
    xy = (turn @ keypoints[..., :2].unsqueeze(-1)).squeeze(-1) + shift
    confidence = keypoints[..., 2:]
    return torch.cat([torch.where(confidence > 0, xy, keypoints[..., :2]), confidence], dim=-1)


def framed(keypoints: Tensor, keys: Tensor | None, options: ViewOptions) -> Tensor:
    """``keypoints [B, M, T, 17, 3]`` in the square around all people of the clip, which becomes [-1, 1].

    Args:
        keys: as in :func:`moved`, for a random ratio; None for that of evaluation.
    """
    together = keypoints.transpose(1, 2).flatten(2, 3)  # [B, T, M * 17, 3]
    scaled = normalise_clip(together)[0].unflatten(2, (-1, keypoints.shape[3])).transpose(1, 2)
    if keys is None:
        ratio = scaled.new_full((len(scaled),), options.ratio)
    else:
        spread = options.most_ratio - options.least_ratio
        ratio = options.least_ratio + spread * item_uniforms(keys, _RATIO_STREAM, ()).to(scaled)
    return torch.cat([scaled[..., :2] / ratio[:, None, None, None, None], scaled[..., 2:]], dim=-1)
