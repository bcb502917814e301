"""Sequences with known truth on small bodies, and predictors whose errors against it are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from diffhmr.body.joints import SMPL24
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.clip_batch import ClipPrediction
from diffhmr.evaluation.clips.data import MeasuredClips, SequenceSet
from diffhmr.evaluation.clips.evaluate import ClipEvaluation, evaluate_clips
from diffhmr.evaluation.clips.measures import SequenceMeasurer
from diffhmr.evaluation.clips.protocols import SYNTHETIC_MOTION, ClipProtocol
from diffhmr.evaluation.clips.sequences import LabelledSequence
from diffhmr.evaluation.run import EvaluationOptions
from diffhmr.evaluation.truth import Bodies
from diffhmr.geometry.rotation import axis_angle_to_matrix

ON_TREE = replace(SYNTHETIC_MOTION, name="tree", joint_set="SMPL24", root=("pelvis",))
"""Measures the 24 joints, whose places on the toy body are round numbers."""

ELBOW = SMPL24.joint_names.index("left_elbow")
WRIST_M, HAND_M = 0.25, 0.35
"""How far from the elbow of the toy body the wrist and the hand are."""
FPS = 25.0


def sequence(frames: int, name: str = "one", seed: int = 0, gender: int = -1, moving: float = 0.3) -> LabelledSequence:
    """Random poses of the mean shape with straight wrists, or with ``moving=0`` its rest pose."""
    generator = torch.Generator().manual_seed(seed)
    pose = moving * torch.randn(frames, 24, 3, generator=generator)
    pose[:, ELBOW + 2] = 0
    return LabelledSequence(
        name=name,
        keypoints=torch.rand(frames, 17, 3, generator=generator),
        rotations=axis_angle_to_matrix(pose),
        betas=torch.zeros(10),
        valid=torch.ones(frames, dtype=torch.bool),
        fps=FPS,
        coco=torch.rand(frames, 17, 3, generator=generator),
        gender=gender,
    )


@dataclass
class Oracle:
    """Answers with the truth, changed by ``change(params [B, S, T], clips)``."""

    change: Callable[[SmplParams, MeasuredClips], SmplParams] = lambda params, clips: params  # noqa: ARG005
    deterministic: bool = True

    def __call__(self, clips: MeasuredClips, num_samples: int, seed: int) -> ClipPrediction:
        """The truth ``num_samples`` times."""
        assert clips.batch.targets is not None and seed >= 0
        params = clips.batch.targets.params
        repeated = params.map(lambda value: value.unsqueeze(1).expand(-1, num_samples, *value.shape[1:]))
        return ClipPrediction(self.change(repeated, clips), self.deterministic)


def bend(params: SmplParams, angle: Tensor) -> SmplParams:
    """``params [B, S, T]`` with the left elbow turned further by ``angle``, which broadcasts to their shape."""
    vectors = torch.zeros(*params.shape, 3)
    vectors[..., 2] = angle
    rotations = params.rotations.clone()
    rotations[..., ELBOW, :, :] = rotations[..., ELBOW, :, :] @ axis_angle_to_matrix(vectors)
    return SmplParams.from_rotations(rotations, params.betas)


def chord(angle: float) -> float:
    """Metres that a point one metre away moves when it turns by ``angle``."""
    return 2 * float(np.sin(abs(angle) / 2))


def evaluation_of(
    predictor: Oracle,
    sequences: Sequence[LabelledSequence],
    body: BodyModel,
    protocol: ClipProtocol = ON_TREE,
    num_samples: int = 1,
    truth: dict[str, BodyModel] | None = None,
) -> ClipEvaluation:
    """Errors of ``predictor`` on ``sequences``; all n up to ``num_samples`` for the minima."""
    measurer = SequenceMeasurer(protocol, Bodies(body, truth or {}), tuple(range(1, num_samples + 1)))
    return evaluate_clips(predictor, SequenceSet(sequences), measurer, EvaluationOptions(seed=3))
