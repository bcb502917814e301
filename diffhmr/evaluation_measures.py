"""What an evaluation measures on a batch, and how it is summed up in constant memory.

A measure has a value and a weight for every item. What is reported is the sum of the values over the sum of the
weights, over all items or over a slice of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffhmr.batch import Prediction, Targets
from diffhmr.body.joints import COCO17_FROM_SPIN49, J14_FROM_SPIN49, PELVIS_SPIN49, SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.errors import UserError
from diffhmr.geometry.align import root_align
from diffhmr.geometry.camera import project_crop
from diffhmr.metrics.distribution import (
    apd_mm,
    calibration_error,
    calibration_hits,
    crps_mm,
    diversity_sums_mm,
    energy_score_mm,
    min_of_n,
    pose_energy_score_mm,
    sample_ranks,
)
from diffhmr.metrics.joints import mpjpe_mm, pa_mpjpe_mm, pve_mm, weighted_errors

MIN_OF = (1, 5, 10, 25)
PIXEL_CROP = 256
"""Image errors are given in pixels of a crop of this side, as HuManiFlow and HuMR do."""

_BODIES_AT_ONCE = 64
_HITS = "calibration_hits"

Measures = dict[str, tuple[Tensor, Tensor]]
"""Name to values ``[B, ...]`` and weights ``[B]``. A dot in a name makes a group in the result."""

DISTRIBUTION_METRICS = (
    "energy_score_mm", "pose_energy_score_mm", "crps_depth_mm", "apd_mm", "ece", "ece_bias", "diversity_visible_mm",
    "diversity_invisible_mm", "depth_rank_histogram",
)  # fmt: skip
"""Those that a single random hypothesis cannot give; they are None then."""


def measure(targets: Targets, prediction: Prediction, body: BodyModel, constant: SmplParams) -> Measures:
    """Compare a prediction with the truth.

    Args:
        targets: B people.
        prediction: ``[B, 1 + S]``: the single answer, then S random hypotheses.
        body: for joints and meshes.
        constant: ``[]``, the same pose for everybody: the baseline that any model must beat.

    Raises:
        UserError: a person has no SMPL parameters or lacks a joint of the protocol.
    """
    _require_truth(targets)
    truth = targets.joints3d[..., :3]
    pred = body.joints(prediction.params, SPIN49)
    measures = _joint_measures(pred, truth)
    measures |= _baseline_measures(body.joints(constant, SPIN49), truth)
    measures |= _vertex_measures(prediction.params, targets.params, body, pred[..., PELVIS_SPIN49, :])
    measures |= _image_measures(pred, prediction.camera, targets)
    if prediction.deterministic or pred.shape[1] > 2:
        measures |= _distribution_measures(_relative(pred[:, 1:]), _relative(truth))
        measures |= _diversity_measures(pred[:, 1:], targets.visible)
    return measures


class Sums:
    """Weighted sums of measures in float64. The memory depends on neither the items nor the hypotheses."""

    def __init__(self) -> None:
        self.num_items = 0
        self._values: dict[str, Tensor] = {}
        self._weights: dict[str, Tensor] = {}

    def add(self, measures: Measures, selected: Tensor) -> None:
        """Add the items where ``selected [B]`` is True."""
        self.num_items += int(selected.sum())
        for name, (values, weights) in measures.items():
            value = values[selected].double().sum(0).cpu()
            weight = weights[selected].double().sum().cpu()
            self._values[name] = self._values.get(name, 0) + value
            self._weights[name] = self._weights.get(name, 0) + weight

    def result(self) -> dict[str, Any]:
        """Nested means as JSON values; None where nothing was measured, and empty without any item."""
        if self.num_items == 0:
            return {}
        flat: dict[str, Any] = {}
        for name, value in self._values.items():
            weight = self._weights[name]
            mean = value / weight if weight > 0 else None
            if name == _HITS:
                assert mean is not None
                calibration = calibration_error(mean)
                flat["ece"], flat["ece_bias"] = calibration.ece, calibration.bias
            else:
                flat[name] = None if mean is None else mean.tolist()
        return _nest(flat | {name: None for name in DISTRIBUTION_METRICS if name not in flat})


@dataclass(frozen=True)
class _Errors:
    """Errors ``[B, 1 + S]`` of all hypotheses and ``[B]`` of the mean of the random ones."""

    each: Tensor
    of_mean: Tensor

    def measures(self, name: str) -> Measures:
        random = self.each[:, 1:]
        found = {
            f"{name}.mode": self.each[:, 0],
            f"{name}.mean_of_samples": self.of_mean,
            f"{name}.random": random.mean(1),
        }
        found |= {f"{name}.min_of.{size}": values for size, values in min_of_n(random, MIN_OF).items()}
        return _equally_weighted(found)


def _joint_measures(pred: Tensor, truth: Tensor) -> Measures:
    """Errors of ``SPIN49`` joints ``[B, 1 + S, 49, 3]``. The mean of aligned points is the mean aligned by the mean."""
    joints, roots = _selected(pred)
    target, target_root = _selected(truth)
    mean = joints[:, 1:].mean(1)
    direct = _Errors(
        mpjpe_mm(joints, target.unsqueeze(1), roots, target_root.unsqueeze(1)),
        mpjpe_mm(mean, target, roots[:, 1:].mean(1), target_root),
    )
    aligned = _Errors(pa_mpjpe_mm(joints, target.unsqueeze(1)), pa_mpjpe_mm(mean, target))
    return direct.measures("mpjpe_mm") | aligned.measures("pa_mpjpe_mm")


def _baseline_measures(constant: Tensor, truth: Tensor) -> Measures:
    joints, root = _selected(constant)
    target, target_root = _selected(truth)
    return _equally_weighted(
        {
            "mean_pose.mpjpe_mm": mpjpe_mm(joints, target, root, target_root),
            "mean_pose.pa_mpjpe_mm": pa_mpjpe_mm(joints, target),
        }
    )


def _vertex_measures(params: SmplParams, true_params: SmplParams, body: BodyModel, roots: Tensor) -> Measures:
    """Errors over all vertices, a few bodies at a time: large temporary meshes would cost more than the skinning."""
    count, hypotheses = params.shape
    at_once = max(1, _BODIES_AT_ONCE // hypotheses)
    each, of_mean = [], []
    for start in range(0, count, at_once):
        part = slice(start, start + at_once)
        target_params, root = _part(true_params, part), roots[part]
        target_root = body.joints(target_params, SPIN49)[:, PELVIS_SPIN49]
        target = body(target_params).vertices
        mesh = body(_part(params, part)).vertices
        each.append(pve_mm(mesh, target.unsqueeze(1), root, target_root.unsqueeze(1)))
        of_mean.append(pve_mm(mesh[:, 1:].mean(1), target, root[:, 1:].mean(1), target_root))
    return _Errors(torch.cat(each), torch.cat(of_mean)).measures("pve_mm")


def _image_measures(pred: Tensor, camera: Tensor, targets: Targets) -> Measures:
    """Distance in the image to the visible COCO joints: how well the hypotheses agree with what can be seen."""
    coco = list(COCO17_FROM_SPIN49)
    points = project_crop(pred[:, :, coco], camera)
    truth, seen = targets.joints2d[:, coco], targets.visible[:, coco]
    weight = seen & (truth[..., 2] > 0)
    sums, weights = weighted_errors(points, truth[:, None, :, :2], weight.unsqueeze(1))
    sums = sums * (PIXEL_CROP / 2)
    return {
        "reprojection_px.mode": (sums[:, 0], weights[:, 0]),
        "reprojection_px.random": (sums[:, 1:].mean(1), weights[:, 0]),
    }


def _distribution_measures(samples: Tensor, target: Tensor) -> Measures:
    """Proper scores, spread and calibration of the random hypotheses ``[B, S, J, 3]``, relative to the root."""
    rank = sample_ranks(samples, target)[..., 2]
    ranks = torch.nn.functional.one_hot(rank.floor().long(), samples.shape[1] + 1).double().mean(1)
    return _equally_weighted(
        {
            "energy_score_mm": energy_score_mm(samples, target),
            "pose_energy_score_mm": pose_energy_score_mm(samples, target),
            "crps_depth_mm": crps_mm(samples, target)[..., 2].mean(-1),
            "apd_mm": apd_mm(samples),
            "depth_rank_histogram": ranks,
            _HITS: calibration_hits(samples, target).double(),
        }
    )


def _diversity_measures(samples: Tensor, visible: Tensor) -> Measures:
    """Spread of the COCO joints of ``samples [B, S, 49, 3]`` that can be seen, and of those that cannot."""
    coco = list(COCO17_FROM_SPIN49)
    joints, seen = _relative(samples, coco), visible[:, coco]
    return {
        "diversity_visible_mm": diversity_sums_mm(joints, seen),
        "diversity_invisible_mm": diversity_sums_mm(joints, ~seen),
    }


def _selected(joints: Tensor, selection: Sequence[int] = J14_FROM_SPIN49) -> tuple[Tensor, Tensor]:
    """A selection of ``SPIN49`` joints ``[..., 49, 3]``, and the pelvis ``[..., 3]``."""
    return joints[..., list(selection), :], joints[..., PELVIS_SPIN49, :]


def _relative(joints: Tensor, selection: Sequence[int] = J14_FROM_SPIN49) -> Tensor:
    """A selection of ``SPIN49`` joints ``[..., 49, 3]`` relative to the pelvis."""
    return root_align(*_selected(joints, selection))


def _part(params: SmplParams, part: slice) -> SmplParams:
    return params.map(lambda value: value[part])


def _require_truth(targets: Targets) -> None:
    needed = [*J14_FROM_SPIN49, PELVIS_SPIN49]
    if not bool(targets.has_params.all()) or not bool((targets.joints3d[:, needed, 3] > 0).all()):
        raise UserError(
            "the data set has people without SMPL parameters or 3D joints; evaluate on one that labels them all"
        )


def _equally_weighted(values: Mapping[str, Tensor]) -> Measures:
    return {name: (value, value.new_ones(len(value))) for name, value in values.items()}


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *groups, last = name.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return nested
