"""An oracle, and oracles with known mistakes: errors worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffhmr.batch import ImageBatch, Prediction
from diffhmr.body.files import read_body
from diffhmr.body.joints import JointSet
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.config import SamplerConfig
from diffhmr.evaluation.protocols import PROTOCOLS
from diffhmr.evaluation.terms import EvaluationProtocol
from diffhmr.geometry.rotation import axis_angle_to_matrix
from tests.evaluation.measured_people import (
    Oracle,
    altered,
    bodies_for,
    labelled_for,
    measure,
    moved,
    params_of,
    random_rows,
    same_for_all,
)
from tests.evaluation.published import DISTINCT, JOINT_PROTOCOLS, published_joints

ERRORS = ("mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "pa_pve_mm")


def values_of(metric: dict[str, Any]) -> list[float]:
    return [metric[name] for name in ("mode", "random")] + [*metric["min_of"].values(), *metric["min_of_curve"]]


@pytest.mark.parametrize("protocol", JOINT_PROTOCOLS, ids=lambda protocol: protocol.name)
def test_the_truth_scores_nothing(protocol: EvaluationProtocol, neutral: BodyModel, tmp_path: Path) -> None:
    labels = labelled_for(protocol, neutral, tmp_path)
    found = measure(protocol, bodies_for(protocol, neutral, same_for_all(neutral)), labels, Oracle())
    assert found.num_items == len(labels) and found.slices == {}
    errors = [name for name in ERRORS if name in found.metrics]
    assert ("pve_mm" in errors) == (protocol.truth_body is not None)
    for name in errors:
        assert max(values_of(found.metrics[name])) < 0.005, name
        assert len(found.metrics[name]["min_of_curve"]) == 3
    assert found.metrics["energy_score_mm"] < 0.005 and found.metrics["diversity_mm"] < 0.005
    assert found.metrics["mean_pose"]["mpjpe_mm"] > 20
    if protocol.pck3d:
        assert found.metrics["pck_150mm"] == {"mode": 1, "random": 1}
        assert found.metrics["auc"]["mode"] == pytest.approx(30 / 31)  # nothing is below 0 mm


def test_the_truth_scores_nothing_on_bodies_of_the_right_gender_only(
    gendered: dict[str, BodyModel], tmp_path: Path
) -> None:
    protocol = PROTOCOLS["3dpw-spin"]
    labels = labelled_for(protocol, gendered["neutral"], tmp_path)
    for name, code in (("male", 0), ("female", 1)):
        some = labels.rows(labels.gender == code)
        right = measure(protocol, bodies_for(protocol, gendered[name], gendered), some, Oracle()).metrics
        assert right["mpjpe_mm"]["mode"] < 0.005 and right["pve_mm"]["mode"] < 0.005
        wrong = measure(protocol, bodies_for(protocol, gendered["neutral"], gendered), some, Oracle()).metrics
        assert wrong["mpjpe_mm"]["mode"] > 20 and wrong["pve_mm"]["mode"] > 20


@pytest.mark.parametrize("protocol", DISTINCT, ids=lambda protocol: protocol.name)
def test_ten_millimetres_at_one_joint(
    protocol: EvaluationProtocol, paths: dict[str, Path], neutral: BodyModel, tmp_path: Path
) -> None:
    """An elbow off by 10 mm is 10 / J. A root off by 10 mm moves everything that is not moved with it."""
    labels = labelled_for(protocol, neutral, tmp_path)
    offset = torch.tensor([0.0, 0.006, 0.008])
    truth = same_for_all(neutral)
    elbow = next(name for name in protocol.joints.joint_names if name.startswith("left_elbow"))
    body = altered(paths["neutral"], moved((elbow,), offset))
    metrics = measure(protocol, bodies_for(protocol, body, truth), labels, Oracle()).metrics
    count = len(protocol.joints)
    assert values_of(metrics["mpjpe_mm"]) == [pytest.approx(10 / count, abs=1e-3)] * 7
    assert 0 < metrics["pa_mpjpe_mm"]["mode"] < 10 / math.sqrt(count)  # it minimises the squares
    if protocol.truth_body is not None:
        assert metrics["pve_mm"]["mode"] < 0.005

    body = altered(paths["neutral"], moved(protocol.root[:1], offset))
    metrics = measure(protocol, bodies_for(protocol, body, truth), labels, Oracle()).metrics
    expected = 10.0
    if len(protocol.root) == 2:  # the mean of two moves by half; so does the one that is moved, the other way
        expected = 5.0
    elif protocol.root[0] in protocol.joints.joint_names:  # the root has no error of its own
        expected = 10 * (count - 1) / count
    assert values_of(metrics["mpjpe_mm"]) == [pytest.approx(expected, abs=1e-3)] * 7
    if protocol.truth_body is not None:
        whole = 5.0 if len(protocol.root) == 2 else 10.0
        assert metrics["pve_mm"]["mode"] == pytest.approx(whole, abs=1e-3)


def true_points(
    protocol: EvaluationProtocol, body: BodyModel, count: int = 12
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joints, root and vertices of the labelled people, from the full mesh."""
    rows = random_rows(count)
    joints, root = published_joints(protocol.name, read_body(body.path), body, params_of(rows))
    return joints, root, body(params_of(rows)).vertices.numpy()


@pytest.mark.parametrize("protocol", DISTINCT, ids=lambda protocol: protocol.name)
def test_scaled_by_a_tenth(
    protocol: EvaluationProtocol, paths: dict[str, Path], neutral: BodyModel, tmp_path: Path
) -> None:
    labels = labelled_for(protocol, neutral, tmp_path)
    body = altered(paths["neutral"], lambda points, _: 1.1 * points)
    metrics = measure(protocol, bodies_for(protocol, body, same_for_all(neutral)), labels, Oracle()).metrics
    joints, root, vertices = true_points(protocol, neutral)
    expected = 100 * np.linalg.norm(joints - root, axis=-1).mean()
    assert values_of(metrics["mpjpe_mm"]) == [pytest.approx(expected, rel=1e-4)] * 7
    assert metrics["pa_mpjpe_mm"]["mode"] < 0.005
    if protocol.truth_body is not None:
        expected = 100 * np.linalg.norm(vertices - root, axis=-1).mean()
        assert metrics["pve_mm"]["mode"] == pytest.approx(expected, rel=1e-4)
        assert max(values_of(metrics["pa_pve_mm"])) < 0.005


@pytest.mark.parametrize("protocol", DISTINCT, ids=lambda protocol: protocol.name)
def test_half_a_turn(protocol: EvaluationProtocol, neutral: BodyModel, tmp_path: Path) -> None:
    """Every point moves by twice its distance from the axis through the root."""
    half_turn = turned(0, torch.tensor([0, 0, math.pi]))
    labels = labelled_for(protocol, neutral, tmp_path)
    metrics = measure(protocol, bodies_for(protocol, neutral, same_for_all(neutral)), labels, Oracle(half_turn)).metrics
    joints, root, vertices = true_points(protocol, neutral)
    expected = 2000 * np.linalg.norm((joints - root)[..., :2], axis=-1).mean()
    assert values_of(metrics["mpjpe_mm"]) == [pytest.approx(expected, rel=1e-4)] * 7
    assert metrics["pa_mpjpe_mm"]["mode"] < 0.005
    if protocol.truth_body is not None:
        expected = 2000 * np.linalg.norm((vertices - root)[..., :2], axis=-1).mean()
        assert metrics["pve_mm"]["mode"] == pytest.approx(expected, rel=1e-4)
        assert metrics["pa_pve_mm"]["mode"] < 0.005


@pytest.mark.parametrize("protocol", DISTINCT, ids=lambda protocol: protocol.name)
def test_left_for_right(
    protocol: EvaluationProtocol, paths: dict[str, Path], neutral: BodyModel, tmp_path: Path
) -> None:
    """Both joints of a pair are off by the distance between them, those in the middle are right."""
    labels = labelled_for(protocol, neutral, tmp_path)

    def swap(points: Tensor, joint_set: JointSet | None) -> Tensor:
        return points if joint_set is None else points[..., list(joint_set.flip), :]

    body = altered(paths["neutral"], swap)
    metrics = measure(protocol, bodies_for(protocol, body, same_for_all(neutral)), labels, Oracle()).metrics
    joints, _, _ = true_points(protocol, neutral)
    names = protocol.joints.joint_names
    pairs = [(k, names.index(name.replace("left", "right", 1))) for k, name in enumerate(names) if "left_" in name]
    between = sum(np.linalg.norm(joints[:, left] - joints[:, right], axis=-1) for left, right in pairs)
    assert len(pairs) >= 6
    assert values_of(metrics["mpjpe_mm"]) == [pytest.approx(2000 * between.mean() / len(names), rel=1e-4)] * 7
    if protocol.truth_body is not None:
        assert metrics["pve_mm"]["mode"] < 0.005  # the mesh is not swapped


def test_stored_truth_is_relative_to_its_root(neutral: BodyModel, tmp_path: Path) -> None:
    """Files whose joints are not relative to the pelvis measure the same."""
    for name in ("h36m-p1", "mpi-inf-3dhp", "3dpw-prohmr-stored"):
        protocol = PROTOCOLS[name]
        labels = labelled_for(protocol, neutral, tmp_path)
        labels.joints3d[..., :3] += np.array([0.5, -1.0, 3.0], np.float32)
        metrics = measure(protocol, bodies_for(protocol, neutral, {}), labels, Oracle()).metrics
        assert max(values_of(metrics["mpjpe_mm"])) < 0.005


def turned(joint: int, angle: Tensor) -> Callable[[SmplParams], SmplParams]:
    """What turns one of the 24 joints by ``angle [3]``, radians, in the frame of its parent."""

    def change(params: SmplParams) -> SmplParams:
        rotations = params.rotations.clone()
        rotations[:, joint] = axis_angle_to_matrix(angle) @ rotations[:, joint]
        return SmplParams.from_rotations(rotations, params.betas)

    return change


@pytest.mark.parametrize(
    ("joint", "share"),
    [
        (18, 1 / 9),  # left elbow: the wrist is not measured
        (2, 2 / 9),  # right hip and knee, but no ankle
        (13, 2 / 9),  # left collar bone: not measured itself, but shoulder and elbow turn with it
        (9, 4 / 9),  # upper spine: both arms
        (7, 0.0),  # an ankle
        (0, 1.0),  # the whole person
    ],
)
def test_a_joint_turned_by_ten_degrees(joint: int, share: float, neutral: BodyModel, tmp_path: Path) -> None:
    """EMDB's angular error is that of nine rotations relative to the camera: what hangs on a joint turns with it."""
    protocol = PROTOCOLS["emdb1-24"]
    labels = labelled_for(protocol, neutral, tmp_path)
    model = Oracle(turned(joint, torch.deg2rad(torch.tensor([6.0, 0.0, 8.0]))))
    metrics = measure(protocol, bodies_for(protocol, neutral, same_for_all(neutral)), labels, model).metrics
    assert [*values_of(metrics["mpjae_deg"]), metrics["mpjae_deg"]["mean_of_samples"]] == [
        pytest.approx(10 * share, abs=2e-3)
    ] * 8
    if joint == 0:
        assert max(values_of(metrics["pa_mpjae_deg"])) < 2e-3
    elif joint != 7:
        assert metrics["pa_mpjae_deg"]["mode"] > 0.1


def test_the_mean_of_opposite_turns_is_right(neutral: BodyModel, tmp_path: Path) -> None:
    @dataclass
    class ThereAndBack(Oracle):
        def sample(self, batch: ImageBatch, num_samples: int, sampler: SamplerConfig, seed: int) -> Prediction:
            exact = super().sample(batch, num_samples, sampler, seed)
            rotations = exact.params.rotations.clone()
            for sample, degrees in ((1, 20.0), (2, -20.0)):
                turn = axis_angle_to_matrix(torch.deg2rad(torch.tensor([0.0, degrees, 0.0])))
                rotations[:, sample, 18] = turn @ rotations[:, sample, 18]
            return Prediction(SmplParams.from_rotations(rotations, exact.params.betas), exact.camera)

    protocol = PROTOCOLS["emdb1-24"]
    labels = labelled_for(protocol, neutral, tmp_path)
    bodies = bodies_for(protocol, neutral, same_for_all(neutral))
    angles = measure(protocol, bodies, labels, ThereAndBack(), 2).metrics["mpjae_deg"]
    assert angles["mode"] < 2e-3 and angles["mean_of_samples"] < 2e-3
    assert angles["random"] == pytest.approx(20 / 9, abs=2e-3) == angles["min_of"]["2"]
