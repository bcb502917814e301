"""What an evaluation measures on a sequence, as its protocol says: a value and a weight for every frame.

What is reported is the sum of the values over the sum of the weights, over a sequence or over all of them. A moment of
acceleration belongs to its middle frame.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from diffhmr.body.joints import JOINT_SETS, JointSet, extended
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.clip_batch import ClipTargets
from diffhmr.evaluation.clips.protocols import ClipProtocol
from diffhmr.evaluation.sums import Measures
from diffhmr.evaluation.truth import Bodies, body_joints, mean_root, params_on_bodies
from diffhmr.geometry.align import root_align
from diffhmr.metrics.distribution import (
    apd_mm,
    diversity_sums_mm,
    energy_score_mm,
    min_of_n,
    pose_energy_score_mm,
)
from diffhmr.metrics.joints import pa_mpjpe_mm, point_errors_mm
from diffhmr.metrics.video import acceleration_error_mm, acceleration_mm, all_valid, jitter_m_per_s3, m_per_s2

_BODIES_AT_ONCE = 64
_LIMBS = ("elbow", "wrist", "knee", "ankle")
_PAIRS = {"joints": ("visible_joints", "hidden_joints"), "limbs": ("visible_limbs", "hidden_limbs"),
          "humaniflow": ("humaniflow_visible", "hidden_limbs"),
          "frames": ("clear_frames", "hidden_frames")}  # fmt: skip

OF_SAMPLES = ("energy_score_mm", "pose_energy_score_mm", "apd_mm", "spread_mm/all")
"""What a single random motion cannot give; None then."""


@dataclass(frozen=True)
class TrueSequence:
    """The truth about one sequence of T frames.

    Attributes:
        targets: of one clip.
        valid: ``[T]`` bool, frames that are measured.
        fps: frames per second.
    """

    targets: ClipTargets
    valid: Tensor
    fps: float


@dataclass(frozen=True)
class MeasuredSequence:
    """What was measured on T frames.

    Attributes:
        measures: ``[T]`` values and weights, to be summed up over the valid frames.
        errors: ``[T, S]`` of every hypothesis, by metric.
    """

    measures: Measures
    errors: dict[str, Tensor]


@dataclass(frozen=True)
class _Joints:
    """Joints relative to the root, ``[T, S, J, 3]`` of the hypotheses or ``[T, J, 3]`` of the truth.

    Attributes:
        joints: of the protocol.
        subset: of its other joint set; J may be 0.
        root: ``[T, S, 3]`` or ``[T, 3]``, where the root is on the body.
    """

    joints: Tensor
    subset: Tensor
    root: Tensor


@dataclass(frozen=True)
class SequenceMeasurer:
    """Compares the hypotheses for a sequence with its truth under a protocol.

    Attributes:
        protocol: what is measured.
        bodies: for joints and meshes.
        min_of: values of n for the minimum of n random hypotheses.
    """

    protocol: ClipProtocol
    bodies: Bodies
    min_of: tuple[int, ...]

    def __call__(self, truth: TrueSequence, params: SmplParams, deterministic: bool) -> MeasuredSequence:
        """Measure one sequence.

        Args:
            truth: T frames.
            params: ``[S, T]``, the single answer and random hypotheses behind it. If there is only the single answer,
                it counts as the random one too.
            deterministic: the model has one answer only, so that there is nothing to know about other samples.

        Raises:
            UserError: the gender is needed and not known.
        """
        found, right = self._predicted(params), self._true(truth.targets)
        errors: dict[str, Tensor] = {}
        measures: Measures = {}
        target, mean = right.joints.unsqueeze(1), _random(found.joints).mean(1)
        pairs = {
            "mpjpe_mm": (point_errors_mm(found.joints, target).mean(-1), point_errors_mm(mean, right.joints).mean(-1)),
            "pa_mpjpe_mm": (pa_mpjpe_mm(found.joints, target), pa_mpjpe_mm(mean, right.joints)),
            "mpvpe_mm": self._vertex_errors(truth.targets, params, found.root, right.root),
        }
        if self.protocol.subset:
            target, mean = right.subset.unsqueeze(1), _random(found.subset).mean(1)
            pairs["mpjpe_14_mm"] = (
                point_errors_mm(found.subset, target).mean(-1), point_errors_mm(mean, right.subset).mean(-1),
            )  # fmt: skip
            pairs["pa_mpjpe_14_mm"] = (pa_mpjpe_mm(found.subset, target), pa_mpjpe_mm(mean, right.subset))
        for name, (each, of_mean) in pairs.items():
            errors[name] = each
            measures |= self._error(name, each, of_mean, truth.valid)
        measures |= _motion(found.joints.transpose(0, 1), right.joints, truth)
        if deterministic or params.shape[0] > 2:
            measures |= self._samples(_random(found.joints), right.joints, truth)
        return MeasuredSequence(measures, errors)

    def _error(self, name: str, each: Tensor, of_mean: Tensor, valid: Tensor) -> Measures:
        """Measures of the errors ``[T, S]`` of the hypotheses and ``[T]`` of the mean of the random ones."""
        samples = _random(each)
        found = {f"{name}/mode": each[:, 0], f"{name}/mean_of_samples": of_mean, f"{name}/random": samples.mean(1)}
        found |= {f"{name}/min_of/{size}": value for size, value in min_of_n(samples, self.min_of).items()}
        whole = (samples * valid.unsqueeze(1)).sum(0) / valid.sum().clamp_min(1)
        found |= {
            f"{name}/min_of_sequence/{size}": value.expand(len(each))
            for size, value in min_of_n(whole, self.min_of).items()
        }
        return {key: (value, torch.ones_like(value)) for key, value in found.items()}

    def _samples(self, samples: Tensor, target: Tensor, truth: TrueSequence) -> Measures:
        """Proper scores and spread of the random hypotheses ``[T, S, J, 3]``, relative to the root."""
        scores = {
            "energy_score_mm": energy_score_mm(samples, target),
            "pose_energy_score_mm": pose_energy_score_mm(samples, target),
            "apd_mm": apd_mm(samples),
        }
        measures: Measures = {name: (value, torch.ones_like(value)) for name, value in scores.items()}
        names = self.protocol.joints.joint_names
        counted = torch.tensor([name not in self.protocol.root for name in names], device=samples.device)
        weights = {"all": counted.expand(samples.shape[0], -1)}
        visible = truth.targets.visible
        if visible is not None:
            assert self.protocol.joint_set == "H36M17"
            limbs = torch.tensor([any(limb in name for limb in _LIMBS) for name in names], device=samples.device)
            seen = visible[0]
            clear = (seen | ~counted).all(-1, keepdim=True)
            weights |= {
                "visible_joints": seen & counted, "hidden_joints": ~seen & counted,
                "visible_limbs": seen & limbs, "hidden_limbs": ~seen & limbs,
                "humaniflow_visible": (seen | ~limbs) & counted,
                "clear_frames": clear & counted, "hidden_frames": ~clear & counted,
            }  # fmt: skip
        return measures | {f"spread_mm/{name}": diversity_sums_mm(samples, weight) for name, weight in weights.items()}

    def _predicted(self, params: SmplParams) -> _Joints:
        frames_first = params.map(lambda value: value.transpose(0, 1))
        return self._split(body_joints(self.bodies.prediction, frames_first, self._joint_set()))

    def _true(self, targets: ClipTargets) -> _Joints:
        joints = params_on_bodies(
            self.protocol, self.bodies, targets.params, targets.gender,
            lambda body, params: body_joints(body, params, self._joint_set()),
        )  # fmt: skip
        return self._split(joints[0])

    def _joint_set(self) -> JointSet:
        subset = JOINT_SETS[self.protocol.subset].joint_names if self.protocol.subset else ()
        return extended(self.protocol.joints, (*self.protocol.root, *subset))

    def _split(self, joints: Tensor) -> _Joints:
        own, roots = len(self.protocol.joints), len(self.protocol.root)
        root = mean_root(joints[..., own : own + roots, :])
        return _Joints(root_align(joints[..., :own, :], root), root_align(joints[..., own + roots :, :], root), root)

    def _vertex_errors(
        self, targets: ClipTargets, params: SmplParams, root: Tensor, true_root: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Errors over all vertices ``[T, S]``, and ``[T]`` of the mean of the random hypotheses, some frames at a time.

        Meshes are much larger than parameters: those of a whole sequence would fill the memory.
        """
        hypotheses, frames = params.shape
        at_once = max(1, _BODIES_AT_ONCE // hypotheses)
        each, of_mean = [], []
        true_params = targets.params
        for start in range(0, frames, at_once):
            chosen = slice(start, start + at_once)
            some = params.map(lambda value, chosen=chosen: value[:, chosen].transpose(0, 1))  # type: ignore[misc]
            right = params_on_bodies(
                self.protocol, self.bodies, true_params.map(lambda value, chosen=chosen: value[:, chosen]),  # type: ignore[misc]
                targets.gender, _vertices,
            )[0]  # fmt: skip
            target = root_align(right, true_root[chosen])
            mesh = root_align(self.bodies.prediction(some).vertices, root[chosen])
            each.append(point_errors_mm(mesh, target.unsqueeze(1)).mean(-1))
            of_mean.append(point_errors_mm(_random(mesh).mean(1), target).mean(-1))
        return torch.cat(each), torch.cat(of_mean)


def with_ratios(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Metrics with ``spread_ratio``: how much more the hidden spreads than the visible, where both were measured."""
    spread = metrics.get("spread_mm")
    if not isinstance(spread, Mapping) or "visible_joints" not in spread:
        return dict(metrics)
    ratios = {}
    for name, (seen, hidden) in _PAIRS.items():
        known = spread[seen] is not None and spread[hidden] is not None and spread[seen] > 0
        ratios[name] = spread[hidden] / spread[seen] if known else None
    return {**metrics, "spread_ratio": ratios}


def _random(each: Tensor) -> Tensor:
    """The random hypotheses of ``[T, S, ...]``: all but the single answer, unless there is nothing else."""
    return each[:, 1:] if each.shape[1] > 1 else each


def _vertices(body: BodyModel, params: SmplParams) -> Tensor:
    vertices: Tensor = body(params).vertices
    return vertices


def _motion(joints: Tensor, target: Tensor, truth: TrueSequence) -> Measures:
    """Accelerations and jitter of ``joints [S, T, J, 3]`` and of the truth ``[T, J, 3]``, relative to the root."""
    error = acceleration_error_mm(joints, target)
    own, right = acceleration_mm(joints), acceleration_mm(target)
    moments = {
        "accel_error_mm_per_frame2": error,
        "accel_error_m_per_s2": m_per_s2(error, truth.fps),
        "accel_of_prediction_m_per_s2": m_per_s2(own, truth.fps),
        "accel_of_truth_m_per_s2": m_per_s2(right, truth.fps),
        "jitter_of_prediction_m_per_s3": jitter_m_per_s3(joints, truth.fps),
        "jitter_of_truth_m_per_s3": jitter_m_per_s3(target, truth.fps),
    }
    measures: Measures = {}
    for name, value in moments.items():
        frames = 4 if name.startswith("jitter") else 3
        weight = _placed(all_valid(truth.valid, frames).to(value), len(truth.valid))
        placed = _placed(value, len(truth.valid)) * weight
        if value.dim() == 1:
            measures[name] = (placed, weight)
        else:
            samples = placed[1:] if len(placed) > 1 else placed
            measures |= {f"{name}/mode": (placed[0], weight), f"{name}/random": (samples.mean(0), weight)}
    return measures


def _placed(moments: Tensor, total: int) -> Tensor:
    """Values ``[..., N]`` of moments at the second of the frames that they are made of: ``[..., total]``."""
    behind = total - moments.shape[-1] - 1
    return pad(moments, (1, behind)) if moments.shape[-1] else moments.new_zeros(*moments.shape[:-1], total)
