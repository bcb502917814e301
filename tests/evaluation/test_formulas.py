"""Protocols against the published formulas, written out in NumPy for one person after the other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from diffhmr.body.files import read_body
from diffhmr.body.joints import SMPL_PARENTS
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.config import SamplerConfig
from diffhmr.datasets.labels import Labels
from diffhmr.evaluation.measures import Measurer
from diffhmr.evaluation.terms import EvaluationProtocol
from tests.evaluation.measured_people import (
    CONSTANT,
    Noisy,
    bodies_for,
    labelled_for,
    params_of,
    people_of,
    random_rows,
)
from tests.evaluation.published import DISTINCT, PUBLISHED, published_joints

ERRORS = ("mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "pa_pve_mm", "mpjae_deg", "pa_mpjae_deg")
EMDB_TURNED = [0, 1, 2, 4, 5, 16, 17, 18, 19]


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
    """The errors of each person, by metric."""
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
        else:
            for metric, first in (("mpjae_deg", np.eye(3)), ("pa_mpjae_deg", rotation)):
                found[metric].append(mean_angle_deg(first @ pred["rotations"][k], true["rotations"][k]))
        found["pa_pve_mm"].append(mean_error_mm(scale * mesh @ rotation.T + shift, target))
    return found


def mean_angle_deg(x: np.ndarray, y: np.ndarray) -> float:
    """Of the rotations ``(J, 3, 3)`` from ``x`` to ``y``."""
    return float(np.degrees(Rotation.from_matrix(x @ y.transpose(0, 2, 1)).magnitude()).mean())


def in_camera(params: SmplParams) -> np.ndarray:
    """Rotations ``(N, 9, 3, 3)`` of EMDB's joints, multiplied up from the pelvis."""
    local = params.rotations.double().numpy()
    found = np.empty_like(local)
    for joint, parent in enumerate(SMPL_PARENTS):
        found[:, joint] = local[:, joint] if parent < 0 else found[:, parent] @ local[:, joint]
    return found[:, EMDB_TURNED]


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
    both = {key: np.where(male, parts["male"][key], parts["female"][key]) for key in parts["male"]}
    return both | {"rotations": in_camera(params)}


@pytest.mark.parametrize("protocol", DISTINCT, ids=lambda protocol: protocol.name)
def test_errors_are_those_of_the_formulas_for_every_person(
    protocol: EvaluationProtocol, neutral: BodyModel, gendered: dict[str, BodyModel], tmp_path: Path
) -> None:
    """Within 0.001 mm and degrees, for 1,000 poses and predictions around them, the truth on bodies of other shapes."""
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
        params = prediction.params.map(lambda value, k=hypothesis: value[:, k])  # type: ignore[misc]
        joints, root = published_joints(name, read_body(neutral.path), neutral, params)
        mesh = neutral(params).vertices.double().numpy()
        pred = {"joints": joints, "root": root, "mesh": mesh, "rotations": in_camera(params)}
        expected = {metric: values for metric, values in reference_errors(name, pred, true).items() if values}
        assert set(expected) == {metric for metric in errors if metric in ERRORS}
        for metric in expected:
            off = np.abs(errors[metric][:, hypothesis].numpy() - np.array(expected[metric])).max()
            assert off < 1e-3, (metric, off)
        assert min(expected["mpjpe_mm"]) > 10
