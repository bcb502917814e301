"""What is evaluated on sequences: a model of clips, a model of pictures frame by frame, and both with more around."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Protocol

import torch
from torch import Tensor

from diffhmr.body.joints import COCO17, H36M17, JointSet
from diffhmr.body.params import SmplParams
from diffhmr.clip_batch import ClipBatch, ClipPrediction
from diffhmr.config import SamplerConfig
from diffhmr.datasets.augment import mirror_rotations
from diffhmr.errors import UserError
from diffhmr.evaluation.clips.data import MeasuredClips
from diffhmr.geometry.rotation import mean_rotation
from diffhmr.models.framewise import FramewiseModel
from diffhmr.motion_filter import FilterOptions, filtered


class Predictor(Protocol):
    """Answers sequences.

    Attributes:
        deterministic: there is one answer only.
    """

    @property
    def deterministic(self) -> bool:
        """There is one answer only."""

    def __call__(self, clips: MeasuredClips, num_samples: int, seed: int) -> ClipPrediction:
        """S hypotheses ``[B, S, T]``, of which number 0 is the single answer."""


class SampledModel(Protocol):
    """What an evaluation needs of a model of clips."""

    @property
    def deterministic(self) -> bool:
        """It has one answer only."""

    def sample(self, batch: ClipBatch, num_samples: int, sampler: SamplerConfig, seed: int) -> ClipPrediction:
        """Hypothesis 0 is the single answer, the others are random."""


@dataclass(frozen=True)
class OfClips:
    """A model of clips. It does not see the truth."""

    model: SampledModel
    sampler: SamplerConfig

    @property
    def deterministic(self) -> bool:
        """The model has one answer only."""
        return self.model.deterministic

    def __call__(self, clips: MeasuredClips, num_samples: int, seed: int) -> ClipPrediction:
        """Its hypotheses."""
        return self.model.sample(replace(clips.batch, targets=None), num_samples, self.sampler, seed)


@dataclass(frozen=True)
class Given:
    """The parameters that are to be refined, as they are: what a refinement has to improve on."""

    deterministic: bool = True

    def __call__(self, clips: MeasuredClips, num_samples: int, seed: int) -> ClipPrediction:  # noqa: ARG002
        """They, ``num_samples`` times.

        Raises:
            UserError: the sequences have none.
        """
        initial = clips.batch.initial
        if initial is None:
            raise UserError("these sequences have no parameters to be refined; measure a model that refines nothing")
        repeated = initial.map(lambda value: value.unsqueeze(1).expand(-1, num_samples, *value.shape[1:]))
        return ClipPrediction(repeated, deterministic=True)


@dataclass(frozen=True)
class FrameByFrame:
    """A model of people in pictures, on the same detections."""

    model: FramewiseModel
    sampler: SamplerConfig
    deterministic: bool

    def __call__(self, clips: MeasuredClips, num_samples: int, seed: int) -> ClipPrediction:
        """Its hypotheses for every frame.

        Raises:
            UserError: the sequences have no points of COCO.
        """
        if clips.coco is None:
            raise UserError(
                "these sequences have no COCO keypoints, which a model of pictures reads; evaluate a model of clips, "
                "or on synthetic-motion or 3dpw-video"
            )
        return self.model.sample(clips.coco, clips.batch.item_seed, num_samples, self.sampler, seed)


@dataclass(frozen=True)
class Flipped:
    """The single answer is the mean of that to the keypoints and that to their mirror image, as MotionBERT does it.

    The mean is that of rotations, so the result is a body, which means of vertices are not. Random hypotheses stay as
    they are: their means would spread less.
    """

    inner: Predictor

    @property
    def deterministic(self) -> bool:
        """There is one answer only."""
        return self.inner.deterministic

    def __call__(self, clips: MeasuredClips, num_samples: int, seed: int) -> ClipPrediction:
        """The hypotheses of ``inner``, the single answer averaged."""
        prediction = self.inner(clips, num_samples, seed)
        other = mirrored_params(self.inner(mirrored(clips), 1, seed).params)
        params = prediction.params
        both = torch.stack([params.rotations[:, :1], other.rotations])
        rotations = torch.cat([mean_rotation(both), params.rotations[:, 1:]], dim=1)
        betas = torch.cat([(params.betas[:, :1] + other.betas) / 2, params.betas[:, 1:]], dim=1)
        if prediction.deterministic:
            rotations, betas = rotations[:, :1].expand_as(rotations), betas[:, :1].expand_as(betas)
        return ClipPrediction(SmplParams.from_rotations(rotations, betas), prediction.deterministic)


@dataclass(frozen=True)
class Filtered:
    """The rotations of every hypothesis are filtered over time, its betas are averaged."""

    inner: Predictor
    options: FilterOptions

    @property
    def deterministic(self) -> bool:
        """There is one answer only."""
        return self.inner.deterministic

    def __call__(self, clips: MeasuredClips, num_samples: int, seed: int) -> ClipPrediction:
        """The hypotheses of ``inner``, smoother."""
        prediction = self.inner(clips, num_samples, seed)
        smooth = [
            filtered(prediction.params.map(itemgetter(clip)), fps, self.options)
            for clip, fps in enumerate(clips.batch.fps.tolist())
        ]
        rotations, betas = torch.stack([one.rotations for one in smooth]), torch.stack([one.betas for one in smooth])
        return ClipPrediction(SmplParams.from_rotations(rotations, betas), prediction.deterministic)


def mirrored(clips: MeasuredClips) -> MeasuredClips:
    """The input as a mirror shows it, without the truth."""
    batch = clips.batch
    initial = None if batch.initial is None else mirrored_params(batch.initial)
    swapped = replace(batch, keypoints=_mirrored_points(batch.keypoints, H36M17), initial=initial, targets=None)
    return MeasuredClips(swapped, clips.valid, None if clips.coco is None else _mirrored_points(clips.coco, COCO17))


def mirrored_params(params: SmplParams) -> SmplParams:
    """Bodies ``[...]`` in the mirror image of the picture. The shape stays: SMPL's is the same on both sides."""
    return SmplParams.from_rotations(mirror_rotations(params.rotations), params.betas)


def _mirrored_points(points: Tensor, joint_set: JointSet) -> Tensor:
    return points[..., list(joint_set.flip), :] * points.new_tensor([-1.0, 1.0, 1.0])
