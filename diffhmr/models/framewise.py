"""A model of people in pictures on the keypoints of a clip: every frame is a picture of its own.

It is what a model that knows time has to beat. As for photographs (``diffhmr/inference/people.py``), the crop of a
frame is a square around the keypoints, and the body comes out in the frame of a camera that looks at its middle.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffhmr.batch import ImageBatch
from diffhmr.body.params import SmplParams
from diffhmr.clip_batch import ClipPrediction
from diffhmr.config import SamplerConfig
from diffhmr.geometry.camera import box_to_normalised
from diffhmr.geometry.rotation import look_rotation
from diffhmr.models import HmrModel

DIAGONAL_FOCAL = 4.079
"""Focal length in halves of the shorter side that equals the diagonal of a 16:9 picture, for cameras nobody knows."""

FEWEST_POINTS = 4
"""Frames with fewer seen points say too little about place and size of the person to be answered."""

_SIDE_PER_EXTENT = 1.2 * 1.2
"""Side of the crop: the points end at eyes and ankles, so they get a margin of a tenth on each side, and the box that
results one more, as in training."""

_SURE = 0.3  # points of less confidence do not make the box larger if there are enough others
_FRAMES_AT_ONCE = 256


class FramewiseModel:
    """Answers clips with the answers of a model of pictures to their frames.

    Args:
        model: takes keypoints, not pictures.
        focal: of the clips' camera in halves of the picture's shorter side. The body is turned from the camera that
            looks at the crop into that one.
    """

    def __init__(self, model: HmrModel, focal: float = DIAGONAL_FOCAL) -> None:
        self._model = model
        self._focal = focal

    @torch.no_grad()
    def sample(
        self, keypoints: Tensor, item_seed: Tensor, num_samples: int, sampler: SamplerConfig, seed: int
    ) -> ClipPrediction:
        """Hypotheses for B clips; number 0 is the single answer.

        Hypothesis k has the same noise in all frames of a clip. Other than those of models of clips, its betas change
        from frame to frame. Frames with fewer than :data:`FEWEST_POINTS` seen points have the answer of the last frame
        before them that has more; those at the beginning, that of the first frame behind them.

        Args:
            keypoints: ``[B, T, 17, 3]`` COCO-17, x and y from the middle of the picture in halves of its shorter side,
                and confidence, 0 for unseen points.
            item_seed: ``[B]`` int64.
            num_samples: S.
            sampler: how noise becomes a hypothesis.
            seed: of the noise.
        """
        clips, frames = keypoints.shape[:2]
        source = answering_frames((keypoints[..., 2] > 0).sum(-1) >= FEWEST_POINTS)
        centre, side = crop_squares(keypoints)
        crops = _in_crops(keypoints, centre, side).flatten(0, 1)
        seeds = item_seed.unsqueeze(1).expand(clips, frames).flatten()
        asked, place = (source + frames * torch.arange(clips, device=source.device).unsqueeze(1)).unique(
            return_inverse=True
        )
        answers = []
        deterministic = False
        for some in asked.split(_FRAMES_AT_ONCE):
            prediction = self._model.sample(ImageBatch(seeds[some], keypoints=crops[some]), num_samples, sampler, seed)
            answers.append(prediction.params)
            deterministic = prediction.deterministic
        ray = torch.cat([centre, torch.full_like(centre[..., :1], self._focal)], dim=-1)
        turn = look_rotation(ray).flatten(0, 1)[asked, None]
        params = SmplParams(
            turn @ torch.cat([some.global_orient for some in answers]),
            torch.cat([some.body_pose for some in answers]),
            torch.cat([some.betas for some in answers]),
        )
        return ClipPrediction(params.map(lambda value: value[place].transpose(1, 2)), deterministic)


def answering_frames(usable: Tensor) -> Tensor:
    """Which frame's answer each frame has: ``[B, T]`` int64 of ``usable [B, T]`` bool.

    The last usable one up to it; before the first, that one. Without any it is frame 0.
    """
    frames = torch.arange(usable.shape[1], device=usable.device).expand_as(usable)
    last = torch.where(usable, frames, -1).cummax(dim=1).values
    first = usable.to(torch.int8).argmax(dim=1, keepdim=True)
    return torch.where(last < 0, first, last)


def crop_squares(keypoints: Tensor) -> tuple[Tensor, Tensor]:
    """Centre ``[..., 2]`` and side ``[...]`` of the crop around ``keypoints [..., K, 3]``, in their unit.

    Points that are not sure count if there are fewer than :data:`FEWEST_POINTS` others. Without points it is the
    square of side 1 in the middle.
    """
    confidence = keypoints[..., 2]
    sure = confidence >= _SURE
    enough = sure.sum(-1, keepdim=True) >= FEWEST_POINTS
    counted = torch.where(enough, sure, confidence > 0).unsqueeze(-1)
    low = torch.where(counted, keypoints[..., :2], torch.inf).amin(-2)
    high = torch.where(counted, keypoints[..., :2], -torch.inf).amax(-2)
    extent = (high - low).amax(-1)
    known = counted.any(-2) & (extent > 0).unsqueeze(-1)
    centre = torch.where(counted.any(-2), (low + high) / 2, 0.0)
    return centre, torch.where(known.squeeze(-1), _SIDE_PER_EXTENT * extent, 1.0)


def _in_crops(keypoints: Tensor, centre: Tensor, side: Tensor) -> Tensor:
    """``[..., K, 3]`` in [-1, 1] over the crop; points outside are unseen, as they are in training."""
    scaled = torch.cat([box_to_normalised(keypoints[..., :2], centre, side), keypoints[..., 2:]], dim=-1)
    given = (keypoints[..., 2:] > 0) & (scaled[..., :2].abs() <= 1).all(-1, keepdim=True)
    return torch.where(given, scaled, 0.0)
