"""Protocols against errors worked out by hand and formulas written out in NumPy."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffhmr.batch import ImageBatch, Prediction
from diffhmr.body.files import BodyData, find_smpl, read_body
from diffhmr.body.joints import JointSet
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.config import SamplerConfig
from diffhmr.datasets.labels import Labels
from diffhmr.errors import UserError
from diffhmr.evaluation import run as evaluation_run
from diffhmr.evaluation import truth as evaluation_truth
from diffhmr.evaluation.measures import Measured, Measurer
from diffhmr.evaluation.protocols import EVALUATED_DATASETS, PROTOCOLS, SYNTHETIC, find_protocol, name_of_run
from diffhmr.evaluation.run import Evaluation, EvaluationOptions, evaluate
from diffhmr.evaluation.terms import EvaluationProtocol, RowFilter
from diffhmr.evaluation.truth import Bodies, find_bodies
from diffhmr.geometry.rotation import axis_angle_to_matrix
from tests.body.test_files import smpl_sized_fields, write_npz
from tests.evaluation.measured_people import (
    SIDE,
    Noisy,
    Oracle,
    altered,
    bodies_for,
    labelled_for,
    params_of,
    people_of,
    random_rows,
    write_bodies,
)

CONSTANT = SmplParams.from_rotations(torch.eye(3).expand(24, 3, 3), torch.zeros(10))
ERRORS = ("mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "pa_pve_mm")
JOINT_PROTOCOLS = [protocol for protocol in PROTOCOLS.values() if protocol.joint_set and protocol is not SYNTHETIC]
ON_OTHER_BODIES = [protocol for protocol in JOINT_PROTOCOLS if protocol.truth_body != "model"]

# Two differ from others in the choice of rows only.
DISTINCT = [protocol for protocol in ON_OTHER_BODIES if protocol.name not in ("3dpw-occ", "h36m-p2")]

# The places of the joints as the projects publish them: rows of their regressor file, their root, slots of the truth.
H36M_TO_J17 = [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10, 0, 7, 9]
J24_TO_J17 = [*range(13), 18, 14, 16, 17]
PUBLISHED: dict[str, dict[str, Any]] = {
    "3dpw-spin": {"file": "h36m", "rows": H36M_TO_J17[:14], "root": [0]},
    "3dpw-occ": {"file": "h36m", "rows": H36M_TO_J17[:14], "root": [0]},
    "3dpw-prohmr": {"file": "j19", "rows": [*range(13), 18], "root": [14]},
    "3dpw-prohmr-stored": {"file": "j19", "rows": [*range(13), 18], "root": [14], "slots": [*range(13), 18]},
    "3dpw-neutral17": {"file": "h36m", "rows": [0, 4, 5, 6, 1, 2, 3, *range(7, 17)], "root": [0]},
    "emdb1-24": {"file": "", "rows": list(range(24)), "root": [1, 2]},
    "h36m-p1": {"file": "h36m", "rows": H36M_TO_J17[:14], "root": [0], "slots": J24_TO_J17[:14]},
    "h36m-p2": {"file": "h36m", "rows": H36M_TO_J17[:14], "root": [0], "slots": J24_TO_J17[:14]},
    "mpi-inf-3dhp": {"file": "h36m", "rows": H36M_TO_J17, "root": [0], "slots": J24_TO_J17},
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_bodies(tmp_path_factory.mktemp("bodies"))


@pytest.fixture(scope="module")
def neutral(paths: dict[str, Path]) -> BodyModel:
    return BodyModel.load(paths["neutral"])


@pytest.fixture(scope="module")
def gendered(paths: dict[str, Path]) -> dict[str, BodyModel]:
    return {gender: BodyModel.load(path) for gender, path in paths.items()}


def run(protocol: EvaluationProtocol, bodies: Bodies, labels: Labels, model: Any, num_samples: int = 3) -> Evaluation:
    measurer = Measurer(protocol, bodies, CONSTANT, torch.full((len(labels),), SIDE / 160))
    return evaluate(model, people_of(labels), measurer, SamplerConfig(), EvaluationOptions(num_samples))


def same_for_all(body: BodyModel) -> dict[str, BodyModel]:
    return dict.fromkeys(("neutral", "male", "female"), body)


def values_of(metric: dict[str, Any]) -> list[float]:
    return [metric[name] for name in ("mode", "random")] + [*metric["min_of"].values(), *metric["min_of_curve"]]


# An oracle, and oracles with known mistakes


@pytest.mark.parametrize("protocol", JOINT_PROTOCOLS, ids=lambda protocol: protocol.name)
def test_the_truth_scores_nothing(protocol: EvaluationProtocol, neutral: BodyModel, tmp_path: Path) -> None:
    labels = labelled_for(protocol, neutral, tmp_path)
    found = run(protocol, bodies_for(protocol, neutral, same_for_all(neutral)), labels, Oracle())
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
        right = run(protocol, bodies_for(protocol, gendered[name], gendered), some, Oracle()).metrics
        assert right["mpjpe_mm"]["mode"] < 0.005 and right["pve_mm"]["mode"] < 0.005
        wrong = run(protocol, bodies_for(protocol, gendered["neutral"], gendered), some, Oracle()).metrics
        assert wrong["mpjpe_mm"]["mode"] > 20 and wrong["pve_mm"]["mode"] > 20


def moved(names: tuple[str, ...], offset: Tensor) -> Any:
    def alter(points: Tensor, joint_set: JointSet | None) -> Tensor:
        if joint_set is None:
            return points
        hit = torch.tensor([name in names for name in joint_set.joint_names])
        return points + hit.to(points).unsqueeze(-1) * offset

    return alter


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
    metrics = run(protocol, bodies_for(protocol, body, truth), labels, Oracle()).metrics
    count = len(protocol.joints)
    assert values_of(metrics["mpjpe_mm"]) == [pytest.approx(10 / count, abs=1e-3)] * 7
    assert 0 < metrics["pa_mpjpe_mm"]["mode"] < 10 / math.sqrt(count)  # it minimises the squares
    if protocol.truth_body is not None:
        assert metrics["pve_mm"]["mode"] < 0.005

    body = altered(paths["neutral"], moved(protocol.root[:1], offset))
    metrics = run(protocol, bodies_for(protocol, body, truth), labels, Oracle()).metrics
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
    metrics = run(protocol, bodies_for(protocol, body, same_for_all(neutral)), labels, Oracle()).metrics
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

    def turned(params: SmplParams) -> SmplParams:
        turn = axis_angle_to_matrix(torch.tensor([0, 0, math.pi]))
        return SmplParams(turn @ params.global_orient, params.body_pose, params.betas)

    labels = labelled_for(protocol, neutral, tmp_path)
    metrics = run(protocol, bodies_for(protocol, neutral, same_for_all(neutral)), labels, Oracle(turned)).metrics
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
    metrics = run(protocol, bodies_for(protocol, body, same_for_all(neutral)), labels, Oracle()).metrics
    joints, _, _ = true_points(protocol, neutral)
    names = protocol.joints.joint_names
    pairs = [(k, names.index(name.replace("left", "right", 1))) for k, name in enumerate(names) if "left_" in name]
    between = sum(np.linalg.norm(joints[:, left] - joints[:, right], axis=-1) for left, right in pairs)
    assert len(pairs) >= 6
    assert values_of(metrics["mpjpe_mm"]) == [pytest.approx(2000 * between.mean() / len(names), rel=1e-4)] * 7
    if protocol.truth_body is not None:
        assert metrics["pve_mm"]["mode"] < 0.005  # the mesh is not swapped


# The formulas


def published_joints(name: str, data: BodyData, body: BodyModel, params: SmplParams) -> tuple[np.ndarray, np.ndarray]:
    """Joints ``(N, J, 3)`` and root ``(N, 1, 3)`` from the full mesh, by the published indices; float64."""
    how = PUBLISHED[name]
    posed = body(params)
    if how["file"]:
        regressor = getattr(data, f"{how['file']}_regressor").astype(np.float64)
        points = np.einsum("jv,...vc->...jc", regressor, posed.vertices.double().numpy())
    else:
        points = posed.joints.double().numpy()
    return points[..., how["rows"], :], points[..., how["root"], :].mean(-2, keepdims=True)


def similarity(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Scale, rotation and shift of one person: the Procrustes solution as SPIN computes it."""
    mean_x, mean_y = x.mean(0), y.mean(0)
    k = (x - mean_x).T @ (y - mean_y)
    u, _, vt = np.linalg.svd(k)
    z = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = vt.T @ z @ u.T
    scale = np.trace(rotation @ k) / ((x - mean_x) ** 2).sum()
    return scale, rotation, mean_y - scale * rotation @ mean_x


def mean_error_mm(x: np.ndarray, y: np.ndarray) -> float:
    return float(1000 * np.sqrt(((x - y) ** 2).sum(-1)).mean())


def reference_errors(name: str, pred: dict[str, np.ndarray], true: dict[str, np.ndarray]) -> dict[str, list[float]]:
    """MPJPE, PA-MPJPE, PVE and PA-PVE of each person."""
    found: dict[str, list[float]] = {metric: [] for metric in ERRORS}
    for k in range(len(pred["joints"])):
        x, y, mesh, target = pred["joints"][k], true["joints"][k], pred["mesh"][k], true["mesh"][k]
        found["mpjpe_mm"].append(mean_error_mm(x - pred["root"][k], y - true["root"][k]))
        scale, rotation, shift = similarity(x, y)
        found["pa_mpjpe_mm"].append(mean_error_mm(scale * x @ rotation.T + shift, y))
        if "slots" in PUBLISHED[name]:
            continue
        found["pve_mm"].append(mean_error_mm(mesh - pred["root"][k], target - true["root"][k]))
        if name != "emdb1-24":
            scale, rotation, shift = similarity(mesh, target)
        found["pa_pve_mm"].append(mean_error_mm(scale * mesh @ rotation.T + shift, target))
    return found


def reference_truth(
    name: str, labels: Labels, rows: dict[str, np.ndarray], gendered: dict[str, BodyModel]
) -> dict[str, np.ndarray]:
    """Joints, root and mesh by the rule of the protocol."""
    params = params_of(rows)
    parts = {}
    for gender, body in gendered.items():
        joints, root = published_joints(name, read_body(body.path), body, params)
        parts[gender] = {"joints": joints, "root": root, "mesh": body(params).vertices.double().numpy()}
    if "slots" in PUBLISHED[name]:
        stored = labels.joints3d[:, 25:, :3].astype(np.float64)
        return {"joints": stored[:, PUBLISHED[name]["slots"]], "root": 0 * stored[:, :1], "mesh": 0 * stored}
    if name == "3dpw-neutral17":
        return parts["neutral"]
    male = (rows["gender"] == "m")[:, None, None]
    return {key: np.where(male, parts["male"][key], parts["female"][key]) for key in parts["male"]}


@pytest.mark.parametrize("protocol", DISTINCT, ids=lambda protocol: protocol.name)
def test_errors_are_those_of_the_formulas_for_every_person(
    protocol: EvaluationProtocol, neutral: BodyModel, gendered: dict[str, BodyModel], tmp_path: Path
) -> None:
    """Within 0.001 mm, for 1,000 poses and predictions around them, with the truth on bodies of other shapes."""
    name = protocol.name
    labels = labelled_for(protocol, gendered["male"], tmp_path, count=1000)
    rows = random_rows(1000)
    measurer = Measurer(protocol, bodies_for(protocol, neutral, gendered), CONSTANT)
    batch = people_of(labels).__getitems__(range(1000))
    prediction = Noisy().sample(batch, 2, SamplerConfig(), 0)
    assert batch.targets is not None
    errors = measurer(batch.targets, prediction).errors
    true = reference_truth(name, labels, rows, gendered)
    for hypothesis in range(2):
        params = prediction.params.map(lambda value, k=hypothesis: value[:, k])
        joints, root = published_joints(name, read_body(neutral.path), neutral, params)
        pred = {"joints": joints, "root": root, "mesh": neutral(params).vertices.double().numpy()}
        expected = {metric: values for metric, values in reference_errors(name, pred, true).items() if values}
        assert set(expected) == {metric for metric in errors if metric in ERRORS}
        for metric in expected:
            off = np.abs(errors[metric][:, hypothesis].numpy() - np.array(expected[metric])).max()
            assert off < 1e-3, (metric, off)
        assert min(expected["mpjpe_mm"]) > 10


def test_pck_and_auc_of_known_errors(paths: dict[str, Path], neutral: BodyModel, tmp_path: Path) -> None:
    """One of 17 joints off by 160 mm, another by 52 mm: 16/17 are within 150 mm; the curve of the second ends at 50."""
    protocol = PROTOCOLS["mpi-inf-3dhp"]
    labels = labelled_for(protocol, neutral, tmp_path)

    def alter(points: Tensor, joint_set: JointSet | None) -> Tensor:
        far = moved(("left_elbow_h36m17",), torch.tensor([0.16, 0, 0]))(points, joint_set)
        return moved(("right_knee_h36m17",), torch.tensor([0, 0.052, 0]))(far, joint_set)

    bodies = bodies_for(protocol, altered(paths["neutral"], alter), {})
    metrics = run(protocol, bodies, labels, Oracle()).metrics
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
        metrics = run(protocol, Bodies(neutral, {}), moved_labels, Oracle()).metrics
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
    metrics = run(protocol, Bodies(neutral, {}), changed, Oracle()).metrics
    assert metrics["pck_0.1"]["mode"] == pytest.approx(22 / 23)


# Hypotheses


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
        errors = run(protocol, bodies_for(protocol, neutral, same_for_all(neutral)), labels, model, 10)
        metric = errors.metrics["mpjpe_mm"]
        assert model.asked == asked and len(metric["min_of_curve"]) == 10
        assert list(metric["min_of"]) == ["1", "5", "10"]
        assert (max(metric["min_of_curve"]) < 0.005) == counts
        assert (metric["min_of"]["1"] == metric["mode"]) == counts


def test_the_minimum_with_the_single_answer_agrees_with_brute_force(neutral: BodyModel, tmp_path: Path) -> None:
    from itertools import combinations

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
    whole = run(protocol, bodies, labels, Noisy(), 6)
    monkeypatch.setattr(evaluation_run, "_ITEMS_AT_ONCE", 1)
    single = run(protocol, bodies, labels, Noisy(), 6)
    compare(whole.metrics, single.metrics)


def compare(left: Any, right: Any) -> None:
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            compare(left[key], right[key])
    elif left is None:
        assert right is None
    else:
        assert left == pytest.approx(right, rel=1e-4, abs=1e-3)


# Names, rows and what is refused


def test_names_are_unique_and_defaults_are_known() -> None:
    assert EVALUATED_DATASETS == ("synthetic", "3dpw", "emdb", "h36m", "mpi_inf_3dhp", "coco")
    defaults = [find_protocol(dataset).full_name for dataset in EVALUATED_DATASETS]
    assert defaults == ["synthetic-v1", "3dpw-spin-v1", "emdb1-24-v1", "h36m-p1-v1", "mpi-inf-3dhp-v1", "coco-pck-v1"]
    assert find_protocol("3dpw", "3dpw-occ-v1") is PROTOCOLS["3dpw-occ"] is find_protocol("3dpw", "3dpw-occ")
    with pytest.raises(UserError, match="3dpw has no protocol 'h36m-p1'; choose one of 3dpw-spin"):
        find_protocol("3dpw", "h36m-p1")
    assert name_of_run("3dpw-spin-v1", 35515, 35515) == "3dpw-spin-v1"
    assert name_of_run("3dpw-spin-v1", 100, 35515) == "3dpw-spin-v1 (first 100 of 35515)"
    assert name_of_run("3dpw-spin-v1", 9, 9, True) == "3dpw-spin-v1 (partial release)"
    assert name_of_run("3dpw-spin-v1", 1, 9, True) == "3dpw-spin-v1 (first 1 of 9, partial release)"


def test_variants_on_the_models_own_body_say_so() -> None:
    variants = [protocol for protocol in PROTOCOLS.values() if protocol.truth_body == "model"]
    for protocol in variants:
        assert protocol is SYNTHETIC or protocol.name.endswith("-free-body")
        assert protocol is SYNTHETIC or "NOT comparable" in protocol.describe()["truth"]
    assert not any(protocol.needs_smpl for protocol in variants)
    assert PROTOCOLS["3dpw-prohmr-free-body"].regressors() == ("J_regressor_extra",)


def labels_of(count: int, tmp_path: Path, **extra: np.ndarray) -> Labels:
    labels = labelled_for(PROTOCOLS["3dpw-spin"], BodyModel.load(write_bodies(tmp_path)["neutral"]), tmp_path, count)
    return Labels(**{**vars(labels), "extra": extra})


def test_rows_of_a_protocol(tmp_path: Path) -> None:
    valid = np.array([True, True, False, True])
    sequence = np.array(["courtyard_box_00", "downtown_bus_00", "courtyard_box_00", "outdoors_golf_01"])
    labels = labels_of(4, tmp_path, valid=valid, sequence=sequence)
    assert RowFilter().select(labels).tolist() == [0, 1, 3]
    assert PROTOCOLS["3dpw-occ"].rows.select(labels).tolist() == [0, 3]
    names = [f"imageFiles/{name}/image_00000.jpg" for name in sequence]
    by_name = Labels(**{**vars(labels), "imgname": np.array(names), "extra": {}})
    assert PROTOCOLS["3dpw-occ"].rows.select(by_name).tolist() == [0, 2, 3]
    assert "courtyard_backpack" in PROTOCOLS["3dpw-occ"].rows.describe()


def test_the_frontal_camera_is_found_in_the_labels_or_the_names(tmp_path: Path) -> None:
    rows = PROTOCOLS["h36m-p2"].rows
    labels = labels_of(3, tmp_path, camera=np.array(["54138969", "60457274", "60457274"]))
    assert rows.select(labels).tolist() == [1, 2]
    names = np.array([f"images/S9_Walking_1.{camera}_000006.jpg" for camera in ("60457274", "55011271", "58860488")])
    assert rows.select(Labels(**{**vars(labels), "imgname": names, "extra": {}})).tolist() == [0]
    with pytest.raises(UserError, match="from which camera"):
        rows.select(labels_of(3, tmp_path))


def test_people_without_what_is_measured_are_refused(neutral: BodyModel, tmp_path: Path) -> None:
    protocol = PROTOCOLS["3dpw-spin"]
    labels = labelled_for(protocol, neutral, tmp_path)
    bodies = bodies_for(protocol, neutral, same_for_all(neutral))
    genderless = Labels(**{**vars(labels), "gender": np.full(len(labels), -1, np.int8)})
    with pytest.raises(UserError, match=r"without a gender \(12 of 12.*3dpw-spin-v1"):
        run(protocol, bodies, genderless, Oracle())
    bare = Labels(**{**vars(labels), "has_smpl": np.zeros(len(labels), bool)})
    with pytest.raises(UserError, match="without SMPL parameters"):
        run(protocol, bodies, bare, Oracle())
    with pytest.raises(UserError, match="without 3D joints"):
        run(PROTOCOLS["h36m-p1"], Bodies(neutral, {}), labels, Oracle())


def test_bodies_of_both_genders_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_truth, "find_smpl", lambda gender: find_smpl(gender, tmp_path))
    fields = smpl_sized_fields()
    body = BodyModel.load(write_npz(tmp_path / "SMPL_NEUTRAL.npz", **fields))
    assert body.is_smpl and find_bodies(PROTOCOLS["3dpw-neutral17"], body) == Bodies(body, {"neutral": body})
    write_npz(tmp_path / "SMPL_FEMALE.npz", **fields)
    with pytest.raises(UserError, match=r"male body is missing: register at https://smpl.is.tue.mpg.de") as caught:
        find_bodies(PROTOCOLS["3dpw-spin"], body)
    assert f"SMPL_MALE.pkl, into {tmp_path}" in str(caught.value) and "\n" not in str(caught.value)
    write_npz(tmp_path / "SMPL_MALE.npz", **fields)
    found = find_bodies(PROTOCOLS["3dpw-spin"], body).truth
    assert {gender: one.path.name for gender, one in found.items()} == {
        "male": "SMPL_MALE.npz", "female": "SMPL_FEMALE.npz",
    }  # fmt: skip


@pytest.mark.gpu
@pytest.mark.parametrize("protocol", ON_OTHER_BODIES, ids=lambda protocol: protocol.name)
def test_the_gpu_measures_the_same(
    protocol: EvaluationProtocol, neutral: BodyModel, gendered: dict[str, BodyModel], tmp_path: Path
) -> None:
    labels = labelled_for(protocol, neutral, tmp_path)
    on_cpu = run(protocol, bodies_for(protocol, neutral, gendered), labels, Noisy(), 6)
    moved_bodies = {gender: copy.deepcopy(body).cuda() for gender, body in gendered.items()}
    bodies = bodies_for(protocol, moved_bodies["neutral"], moved_bodies)
    measurer = Measurer(protocol, bodies, CONSTANT.to("cuda"))
    on_gpu = evaluate(Noisy(), people_of(labels), measurer, SamplerConfig(), EvaluationOptions(6))
    compare(on_cpu.metrics, on_gpu.metrics)


def test_bodies_are_smpl_or_the_protocol_says_otherwise(neutral: BodyModel, free_body: BodyModel) -> None:
    with pytest.raises(UserError, match=r"--protocol 3dpw-spin-free-body, whose numbers are not comparable"):
        find_bodies(PROTOCOLS["3dpw-spin"], neutral)
    assert find_bodies(PROTOCOLS["3dpw-spin-free-body"], neutral) == Bodies(neutral, {})
    assert find_bodies(PROTOCOLS["h36m-p2"], neutral) == Bodies(neutral, {})
    with pytest.raises(UserError, match="192 vertices, that of the model 7000"):
        Bodies(free_body, {"male": neutral})
