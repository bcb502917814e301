"""What an evaluation measures on a batch, as its protocol says.

A measure has a value and a weight for every item. What is reported is the sum of the values over the sum of the
weights, over all items or over a slice of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from diffhmr.batch import Prediction, Targets
from diffhmr.body.frames import to_frame
from diffhmr.body.joints import COCO17_FROM_SPIN49, SMPL24, SPIN49
from diffhmr.body.params import SmplParams
from diffhmr.evaluation.sums import HITS, Measures
from diffhmr.evaluation.terms import AUC_MM, PCK_MM, PIXEL_CROP, EvaluationProtocol
from diffhmr.evaluation.truth import Bodies, Points, body_joints, predicted_points, true_meshes, true_points
from diffhmr.geometry.align import fit_similarity, root_align, similarity_align
from diffhmr.geometry.camera import project_crop
from diffhmr.geometry.rotation import mean_rotation
from diffhmr.metrics.distribution import (
    apd_mm,
    calibration_hits,
    crps_mm,
    diversity_sums_mm,
    energy_score_mm,
    min_of_n,
    min_of_n_curve,
    pose_energy_score_mm,
    sample_ranks,
)
from diffhmr.metrics.joints import (
    auc,
    mpjae_deg,
    mpjpe_mm,
    pa_mpjpe_mm,
    pck,
    point_errors_mm,
    pve_mm,
    weighted_errors,
)

_BODIES_AT_ONCE = 64
_SURE = 0.5  # confidence of a 2D label that PCK counts

_PROPER = ("energy_score_mm", "pose_energy_score_mm", "crps_depth_mm", "apd_mm", "ece", "ece_bias")
_DIVERSITY = (
    "diversity_visible_mm",
    "diversity_invisible_mm",
    "diversity_visible_limbs_mm",
    "diversity_humaniflow_visible_mm",
    "diversity_humaniflow_invisible_mm",
)
_LIMBS = (7, 8, 9, 10, 13, 14, 15, 16)  # of COCO-17: elbows, wrists, knees, ankles


@dataclass(frozen=True)
class Measured:
    """What was measured on B people.

    Attributes:
        measures: to be summed up.
        errors: ``[B, 1 + S]`` of every hypothesis, by metric.
    """

    measures: Measures
    errors: dict[str, Tensor]


def distribution_metrics(protocol: EvaluationProtocol) -> tuple[str, ...]:
    """Those that a single random hypothesis cannot give; they are None then."""
    if not protocol.joint_set:
        return ()
    return (*_PROPER, *(_DIVERSITY if protocol.visibility else ("diversity_mm",)), "depth_rank_histogram")


@dataclass(frozen=True)
class Measurer:
    """Compares predictions with the truth under a protocol.

    Attributes:
        protocol: what is measured.
        bodies: for joints and meshes.
        constant: ``[]``, the same pose for everybody: the baseline that any model must beat.
        crop_per_box: ``[N]`` for protocols in the image, side of the crop over the longer side of the tight box, of
            each row of the labels.
    """

    protocol: EvaluationProtocol
    bodies: Bodies
    constant: SmplParams
    crop_per_box: Tensor | None = None

    def __call__(self, targets: Targets, prediction: Prediction) -> Measured:
        """Measure B people.

        Args:
            targets: B people.
            prediction: ``[B, 1 + S]``: the single answer, then S random hypotheses.

        Raises:
            UserError: a person lacks a label that the protocol needs.
        """
        protocol, body = self.protocol, self.bodies.prediction
        if not protocol.joint_set:
            return self._in_image(body_joints(body, prediction.params, SPIN49), prediction.camera, targets)
        truth = true_points(protocol, self.bodies, targets)
        pred = predicted_points(protocol, body, prediction.params)
        assert pred.spin49 is not None
        found = _Errors(protocol)
        measures = self._joints(found, pred, truth)
        if protocol.turned_joints:
            measures |= self._rotations(found, prediction.params, targets.params, pred, truth)
        measures |= self._baseline(truth)
        if protocol.truth_body is not None:
            measures |= self._vertices(found, prediction.params, targets, pred, truth)
        measures |= self._reprojection(found, pred.spin49, prediction.camera, targets)
        if prediction.deterministic or pred.joints.shape[1] > 2:
            samples = root_align(pred.joints, pred.root)[:, 1:]
            measures |= _distribution_measures(samples, root_align(truth.joints, truth.root))
            measures |= self._diversity(pred, targets.visible)
        return Measured(measures, found.each)

    def _joints(self, found: _Errors, pred: Points, truth: Points) -> Measures:
        """Errors of joints ``[B, 1 + S, J, 3]``. The mean of aligned points is the mean aligned by the mean."""
        target, target_root = truth.joints.unsqueeze(1), truth.root.unsqueeze(1)
        mean, mean_root = pred.joints[:, 1:].mean(1), pred.root[:, 1:].mean(1)
        measures = found.add(
            "mpjpe_mm",
            mpjpe_mm(pred.joints, target, pred.root, target_root),
            mpjpe_mm(mean, truth.joints, mean_root, truth.root),
        )
        measures |= found.add("pa_mpjpe_mm", pa_mpjpe_mm(pred.joints, target), pa_mpjpe_mm(mean, truth.joints))
        if self.protocol.pck3d:
            direct = point_errors_mm(root_align(pred.joints, pred.root), root_align(target, target_root))
            aligned = point_errors_mm(similarity_align(pred.joints, target), target)
            for suffix, errors in (("", direct), ("_pa", aligned)):
                measures |= found.add_share(f"pck_{PCK_MM:.0f}mm{suffix}", pck(errors, PCK_MM))
                measures |= found.add_share(f"auc{suffix}", auc(errors, AUC_MM))
        return measures

    def _rotations(
        self, found: _Errors, params: SmplParams, target: SmplParams, pred: Points, truth: Points
    ) -> Measures:
        """Angular errors as they are, and after the rotation that fits the joints best."""
        chosen = [SMPL24.joint_names.index(name) for name in self.protocol.turned_joints]
        each, right = (to_frame(one.rotations, "camera")[..., chosen, :, :] for one in (params, target))
        mean = mean_rotation(each[:, 1:], dim=1)
        fit = fit_similarity(pred.joints, truth.joints.unsqueeze(1)).rotation.unsqueeze(-3)
        fit_mean = fit_similarity(pred.joints[:, 1:].mean(1), truth.joints).rotation.unsqueeze(-3)
        all_right = right.unsqueeze(1)
        measures = found.add("mpjae_deg", mpjae_deg(each, all_right), mpjae_deg(mean, right))
        return measures | found.add("pa_mpjae_deg", mpjae_deg(fit @ each, all_right), mpjae_deg(fit_mean @ mean, right))

    def _baseline(self, truth: Points) -> Measures:
        points = predicted_points(self.protocol, self.bodies.prediction, self.constant)
        return equally_weighted(
            {
                "mean_pose/mpjpe_mm": mpjpe_mm(points.joints, truth.joints, points.root, truth.root),
                "mean_pose/pa_mpjpe_mm": pa_mpjpe_mm(points.joints, truth.joints),
            }
        )

    def _vertices(self, found: _Errors, params: SmplParams, targets: Targets, pred: Points, truth: Points) -> Measures:
        """Errors over all vertices, a few bodies at a time: large temporary meshes would cost more than the skinning.

        The bodies are those of a few people, or some of the hypotheses of one.
        """
        count, hypotheses = params.shape
        at_once = max(1, _BODIES_AT_ONCE // hypotheses)
        parts = []
        for start in range(0, count, at_once):
            people = slice(start, start + at_once)
            mesh, root = true_meshes(self.protocol, self.bodies, targets, people)
            some = params.map(lambda value, people=people: value[people])  # type: ignore[misc]
            parts.append(self._mesh_errors(some, pred.part(people), mesh, Points(truth.joints[people], root)))
        measures: Measures = {}
        for name in parts[0]:
            each, of_mean = zip(*(part[name] for part in parts), strict=True)
            measures |= found.add(name, torch.cat(each), torch.cat(of_mean))
        return measures

    def _mesh_errors(
        self, params: SmplParams, pred: Points, target: Tensor, truth: Points
    ) -> dict[str, tuple[Tensor, Tensor]]:
        """Errors ``[P, 1 + S]``, and ``[P]`` of the mean of the random hypotheses, of P people.

        Args:
            params: ``[P, 1 + S]``.
            pred: their joints and roots.
            target: ``[P, V, 3]``.
            truth: joints of the protocol, and the root of ``target``.
        """
        pieces = -(-params.shape[1] // _BODIES_AT_ONCE)
        size = -(-params.shape[1] // pieces)
        direct, aligned, total = [], [], torch.zeros_like(target)
        for start in range(0, params.shape[1], size):
            chosen = slice(start, start + size)
            mesh = self.bodies.prediction(params.map(lambda value, chosen=chosen: value[:, chosen])).vertices  # type: ignore[misc]
            direct.append(pve_mm(mesh, target.unsqueeze(1), pred.root[:, chosen], truth.root.unsqueeze(1)))
            if self.protocol.pa_pve is not None:
                aligned.append(self._pa_pve(mesh, pred.joints[:, chosen], target, truth.joints))
            total += mesh[:, int(start == 0) :].sum(1)
        mean = total / (params.shape[1] - 1)
        errors = {"pve_mm": (torch.cat(direct, 1), pve_mm(mean, target, pred.root[:, 1:].mean(1), truth.root))}
        if self.protocol.pa_pve is not None:
            of_mean = self._pa_pve(mean.unsqueeze(1), pred.joints[:, 1:].mean(1, keepdim=True), target, truth.joints)
            errors["pa_pve_mm"] = (torch.cat(aligned, 1), of_mean[:, 0])
        return errors

    def _pa_pve(self, mesh: Tensor, joints: Tensor, target: Tensor, target_joints: Tensor) -> Tensor:
        """Errors ``[P, H]`` of ``mesh [P, H, V, 3]`` after the similarity that fits the vertices, or the joints."""
        target = target.unsqueeze(1)
        if self.protocol.pa_pve == "vertices":
            return pa_mpjpe_mm(mesh, target)
        return point_errors_mm(fit_similarity(joints, target_joints.unsqueeze(1)).apply(mesh), target).mean(-1)

    def _reprojection(self, found: _Errors, spin49: Tensor, camera: Tensor, targets: Targets) -> Measures:
        """Distance in the image to what can be seen of COCO's joints, or to the labelled joints where that is unknown.

        It says how well the hypotheses agree with the picture.
        """
        slots = list(COCO17_FROM_SPIN49) if self.protocol.visibility else list(range(len(SPIN49)))
        points = project_crop(spin49[:, :, slots], camera)
        truth = targets.joints2d[:, slots]
        weight = truth[..., 2] > 0
        if self.protocol.visibility:
            weight = targets.visible[:, slots] & weight
        sums, weights = weighted_errors(points, truth[:, None, :, :2], weight.unsqueeze(1))
        sums = sums * (PIXEL_CROP / 2)
        found.each["reprojection_px"] = torch.where(weights > 0, sums / weights, torch.nan)
        return {
            "reprojection_px/mode": (sums[:, 0], weights[:, 0]),
            "reprojection_px/random": (sums[:, 1:].mean(1), weights[:, 0]),
        }

    def _diversity(self, pred: Points, visible: Tensor) -> Measures:
        """Spread of the COCO joints: of those that can be seen and those that cannot, or of all.

        HuManiFlow counts only the limbs' joints as hidden and everything else as visible (the default of its
        evaluation), which mixes the effect of being hidden with that of being far from the root: beside it stands the
        spread of the visible joints of limbs.
        """
        assert pred.spin49 is not None
        coco = list(COCO17_FROM_SPIN49)
        joints = root_align(pred.spin49[:, 1:, coco], pred.root[:, 1:])
        if not self.protocol.visibility:
            return {"diversity_mm": diversity_sums_mm(joints, torch.ones_like(visible[:, coco]))}
        seen = visible[:, coco]
        limbs = torch.zeros(len(coco), dtype=torch.bool, device=seen.device)
        limbs[list(_LIMBS)] = True
        weights = (seen, ~seen, seen & limbs, seen | ~limbs, ~seen & limbs)
        return {name: diversity_sums_mm(joints, weight) for name, weight in zip(_DIVERSITY, weights, strict=True)}

    def _in_image(self, spin49: Tensor, camera: Tensor, targets: Targets) -> Measured:
        """2D PCK: per joint over all people, then the mean over joints; relative to the tight box."""
        found = _Errors(self.protocol)
        measures = self._reprojection(found, spin49, camera, targets)
        assert self.crop_per_box is not None and targets.item is not None
        sure = (targets.joints2d[..., 2] > _SURE).to(spin49.dtype)
        distance = torch.linalg.vector_norm(project_crop(spin49, camera) - targets.joints2d[:, None, :, :2], dim=-1)
        # Crop coordinates run over two half sides.
        distance = distance / 2 * self.crop_per_box.to(distance)[targets.item.to(distance.device), None, None]
        for share in self.protocol.pck2d:
            hits = (distance < share) * sure.unsqueeze(1)
            name = f"pck_{share}"
            measures[f"{name}/mode"] = (hits[:, 0], sure)
            measures[f"{name}/random"] = (hits[:, 1:].mean(1), sure)
            found.each[name] = hits.sum(-1) / sure.sum(-1).unsqueeze(1)
        return Measured(measures, found.each)


class _Errors:
    """Collects errors of all hypotheses, ``[B, 1 + S]`` each, and makes the measures of them."""

    def __init__(self, protocol: EvaluationProtocol) -> None:
        self._protocol = protocol
        self.each: dict[str, Tensor] = {}

    def add(self, name: str, each: Tensor, of_mean: Tensor) -> Measures:
        """Errors ``[B, 1 + S]`` and that of the mean of the random hypotheses ``[B]``."""
        self.each[name] = each
        found = {f"{name}/mode": each[:, 0], f"{name}/mean_of_samples": of_mean, f"{name}/random": each[:, 1:].mean(1)}
        found |= {f"{name}/min_of/{size}": values for size, values in self._min_of(each).items()}
        if self._protocol.whole_curve:
            found[f"{name}/min_of_curve"] = self._curve(each)
        return equally_weighted(found)

    def add_share(self, name: str, each: Tensor) -> Measures:
        """Something ``[B, 1 + S]`` of which more is better."""
        self.each[name] = each
        return equally_weighted({f"{name}/mode": each[:, 0], f"{name}/random": each[:, 1:].mean(1)})

    def _min_of(self, each: Tensor) -> dict[int, Tensor]:
        counted = self._protocol.mode_counts
        largest = each.shape[1] - 1 + counted
        sizes = sorted({*self._protocol.min_of, *([largest] if self._protocol.whole_curve else [])})
        if not counted:
            return min_of_n(each[:, 1:], sizes)
        others = min_of_n(_no_worse_than_mode(each), [size - 1 for size in sizes if size > 1])
        return {1: each[:, 0]} | {size + 1: values for size, values in others.items()}

    def _curve(self, each: Tensor) -> Tensor:
        """``[B, n]`` for n = 1, 2 ..."""
        if not self._protocol.mode_counts:
            return min_of_n_curve(each[:, 1:])
        return torch.cat([each[:, :1], min_of_n_curve(_no_worse_than_mode(each))], dim=1)


def _no_worse_than_mode(each: Tensor) -> Tensor:
    """``[B, S]``: the minimum over n - 1 of these is that over the single answer and n - 1 random hypotheses."""
    return torch.minimum(each[:, 1:], each[:, :1])


def _distribution_measures(samples: Tensor, target: Tensor) -> Measures:
    """Proper scores, spread and calibration of the random hypotheses ``[B, S, J, 3]``, relative to the root."""
    rank = sample_ranks(samples, target)[..., 2]
    ranks = torch.nn.functional.one_hot(rank.floor().long(), samples.shape[1] + 1).double().mean(1)
    return equally_weighted(
        {
            "energy_score_mm": energy_score_mm(samples, target),
            "pose_energy_score_mm": pose_energy_score_mm(samples, target),
            "crps_depth_mm": crps_mm(samples, target)[..., 2].mean(-1),
            "apd_mm": apd_mm(samples),
            "depth_rank_histogram": ranks,
            HITS: calibration_hits(samples, target).double(),
        }
    )


def equally_weighted(values: Mapping[str, Any]) -> Measures:
    """Measures in which every item counts the same."""
    return {name: (value, value.new_ones(len(value))) for name, value in values.items()}
