"""Shares of correct points, what counts as a hypothesis, and batches."""

from __future__ import annotations

import copy
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from diffhmr.batch import ImageBatch, Prediction
from diffhmr.body.joints import JointSet
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.config import SamplerConfig
from diffhmr.datasets.labels import Labels
from diffhmr.evaluation import run as evaluation_run
from diffhmr.evaluation.measures import Measured, Measurer
from diffhmr.evaluation.protocols import PROTOCOLS
from diffhmr.evaluation.run import EvaluationOptions, evaluate
from diffhmr.evaluation.terms import EvaluationProtocol
from diffhmr.evaluation.truth import Bodies
from tests.evaluation.measured_people import (
    CONSTANT,
    SIDE,
    Noisy,
    Oracle,
    altered,
    assert_alike,
    bodies_for,
    labelled_for,
    measure,
    moved,
    people_of,
    same_for_all,
)
from tests.evaluation.published import ON_OTHER_BODIES

ERRORS = ("mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "pa_pve_mm")


def test_pck_and_auc_of_known_errors(paths: dict[str, Path], neutral: BodyModel, tmp_path: Path) -> None:
    """One of 17 joints off by 160 mm, another by 52 mm: 16/17 are within 150 mm; the curve of the second ends at 50."""
    protocol = PROTOCOLS["mpi-inf-3dhp"]
    labels = labelled_for(protocol, neutral, tmp_path)

    def alter(points: Tensor, joint_set: JointSet | None) -> Tensor:
        far = moved(("left_elbow_h36m17",), torch.tensor([0.16, 0, 0]))(points, joint_set)
        return moved(("right_knee_h36m17",), torch.tensor([0, 0.052, 0]))(far, joint_set)

    bodies = bodies_for(protocol, altered(paths["neutral"], alter), {})
    metrics = measure(protocol, bodies, labels, Oracle()).metrics
    assert metrics["mpjpe_mm"]["mode"] == pytest.approx((160 + 52) / 17, abs=1e-3)
    assert metrics["pck_150mm"]["mode"] == pytest.approx(16 / 17)
    # Of the thresholds 0, 5 ... 150 mm, 30 are above no error, and 20 (55 ... 150) above 52 mm.
    assert metrics["auc"]["mode"] == pytest.approx((15 * 30 + 20) / (17 * 31))
    assert metrics["pck_150mm_pa"]["mode"] == 1 and metrics["auc_pa"]["mode"] < 30 / 31


def test_pck_in_the_image(neutral: BodyModel, tmp_path: Path) -> None:
    """The box is 200 pixels, the tight box 160: 0.05 of it are 8 pixels, 0.1 are 16."""
    protocol = PROTOCOLS["coco-pck"]
    labels = labelled_for(protocol, neutral, tmp_path)
    for shift_px, expected in ((0.0, (1, 1)), (7.5, (1, 1)), (8.5, (0, 1)), (15.5, (0, 1)), (16.5, (0, 0))):
        keypoints = labels.keypoints.copy()
        keypoints[..., 0] += shift_px * (keypoints[..., 2] > 0)
        moved_labels = Labels(**{**vars(labels), "keypoints": keypoints})
        metrics = measure(protocol, Bodies(neutral, {}), moved_labels, Oracle()).metrics
        assert (metrics["pck_0.05"]["mode"], metrics["pck_0.1"]["mode"]) == expected
        assert metrics["pck_0.05"]["random"] == expected[0]
        assert metrics["reprojection_px"]["mode"] == pytest.approx(shift_px * 256 / SIDE, abs=1e-2)
        assert "mpjpe_mm" not in metrics and "ece" not in metrics


def test_pck_in_the_image_is_a_mean_over_joints(neutral: BodyModel, tmp_path: Path) -> None:
    """One joint is labelled in one person only, where it is wrong: it counts as much as the 23 that are right."""
    protocol = PROTOCOLS["coco-pck"]
    labels = labelled_for(protocol, neutral, tmp_path)
    keypoints = labels.keypoints.copy()
    keypoints[1:, 30, 2] = 0
    keypoints[0, 30, 0] += 50
    keypoints[:, 25, 2] = 0.4  # unsure labels do not count
    changed = Labels(**{**vars(labels), "keypoints": keypoints})
    metrics = measure(protocol, Bodies(neutral, {}), changed, Oracle()).metrics
    assert metrics["pck_0.1"]["mode"] == pytest.approx(22 / 23)


def test_the_single_answer_counts_where_the_protocol_says_so(neutral: BodyModel, tmp_path: Path) -> None:
    class ExactMode(Noisy):
        def sample(self, batch: ImageBatch, num_samples: int, sampler: SamplerConfig, seed: int) -> Prediction:
            self.asked = num_samples
            prediction = super().sample(batch, num_samples, sampler, seed)
            assert batch.targets is not None
            exact = batch.targets.params
            rotations, betas = prediction.params.rotations, prediction.params.betas
            rotations[:, 0], betas[:, 0] = exact.rotations, exact.betas
            return Prediction(SmplParams.from_rotations(rotations, betas), prediction.camera)

    for name, asked, counts in (("3dpw-prohmr", 10, True), ("3dpw-spin", 11, False)):
        protocol, model = PROTOCOLS[name], ExactMode()
        labels = labelled_for(protocol, neutral, tmp_path)
        errors = measure(protocol, bodies_for(protocol, neutral, same_for_all(neutral)), labels, model, 10)
        metric = errors.metrics["mpjpe_mm"]
        assert model.asked == asked and len(metric["min_of_curve"]) == 10
        assert list(metric["min_of"]) == ["1", "5", "10"]
        assert (max(metric["min_of_curve"]) < 0.005) == counts
        assert (metric["min_of"]["1"] == metric["mode"]) == counts


def test_the_minimum_with_the_single_answer_agrees_with_brute_force(neutral: BodyModel, tmp_path: Path) -> None:

    protocol = PROTOCOLS["3dpw-prohmr"]
    labels = labelled_for(protocol, neutral, tmp_path, count=4)
    measurer = Measurer(protocol, bodies_for(protocol, neutral, same_for_all(neutral)), CONSTANT)
    batch = people_of(labels).__getitems__(range(4))
    assert batch.targets is not None
    measured: Measured = measurer(batch.targets, Noisy().sample(batch, 7, SamplerConfig(), 0))
    for metric in ERRORS:
        errors = measured.errors[metric].numpy()
        curve = measured.measures[f"{metric}/min_of_curve"][0].numpy()
        for n in range(1, 8):
            subsets = [[0, *others] for others in combinations(range(1, 7), n - 1)]
            expected = np.mean([errors[:, subset].min(1) for subset in subsets], axis=0)
            np.testing.assert_allclose(curve[:, n - 1], expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["3dpw-spin", "emdb1-24", "mpi-inf-3dhp"])
def test_one_by_one_equals_batched(
    name: str, neutral: BodyModel, gendered: dict[str, BodyModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = PROTOCOLS[name]
    labels = labelled_for(protocol, neutral, tmp_path)
    bodies = bodies_for(protocol, neutral, gendered)
    whole = measure(protocol, bodies, labels, Noisy(), 6)
    monkeypatch.setattr(evaluation_run, "_ITEMS_AT_ONCE", 1)
    single = measure(protocol, bodies, labels, Noisy(), 6)
    assert_alike(whole.metrics, single.metrics)


@pytest.mark.gpu
@pytest.mark.parametrize("protocol", ON_OTHER_BODIES, ids=lambda protocol: protocol.name)
def test_the_gpu_measures_the_same(
    protocol: EvaluationProtocol, neutral: BodyModel, gendered: dict[str, BodyModel], tmp_path: Path
) -> None:
    labels = labelled_for(protocol, neutral, tmp_path)
    on_cpu = measure(protocol, bodies_for(protocol, neutral, gendered), labels, Noisy(), 6)
    moved_bodies = {gender: copy.deepcopy(body).cuda() for gender, body in gendered.items()}
    bodies = bodies_for(protocol, moved_bodies["neutral"], moved_bodies)
    measurer = Measurer(protocol, bodies, CONSTANT.to("cuda"))
    on_gpu = evaluate(Noisy(), people_of(labels), measurer, SamplerConfig(), EvaluationOptions(6))
    assert_alike(on_cpu.metrics, on_gpu.metrics)
