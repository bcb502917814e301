"""The bodies of the truth, and people who lack what is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffhmr.body.files import find_smpl, read_body
from diffhmr.body.model import BodyModel
from diffhmr.datasets.labels import Labels
from diffhmr.errors import UserError
from diffhmr.evaluation import truth as evaluation_truth
from diffhmr.evaluation.data import describe_body, synthetic_protocol
from diffhmr.evaluation.protocols import PROTOCOLS
from diffhmr.evaluation.truth import Bodies, find_bodies
from diffhmr.files import sha256_file
from tests.body.test_files import smpl_sized_fields, write_npz
from tests.evaluation.measured_people import Oracle, assert_alike, bodies_for, labelled_for, measure, same_for_all
from tests.toy_body import make_fields


def test_people_without_what_is_measured_are_refused(neutral: BodyModel, tmp_path: Path) -> None:
    protocol = PROTOCOLS["3dpw-spin"]
    labels = labelled_for(protocol, neutral, tmp_path)
    bodies = bodies_for(protocol, neutral, same_for_all(neutral))
    genderless = Labels(**{**vars(labels), "gender": np.full(len(labels), -1, np.int8)})
    with pytest.raises(UserError, match=r"without a gender \(12 of 12.*3dpw-spin-v1"):
        measure(protocol, bodies, genderless, Oracle())
    bare = Labels(**{**vars(labels), "has_smpl": np.zeros(len(labels), bool)})
    with pytest.raises(UserError, match="without SMPL parameters"):
        measure(protocol, bodies, bare, Oracle())
    with pytest.raises(UserError, match="without 3D joints"):
        measure(PROTOCOLS["h36m-p1"], Bodies(neutral, {}), labels, Oracle())


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


def test_bodies_are_smpl_or_the_protocol_says_otherwise(neutral: BodyModel, free_body: BodyModel) -> None:
    with pytest.raises(UserError, match=r"--protocol 3dpw-spin-free-body, whose numbers are not comparable"):
        find_bodies(PROTOCOLS["3dpw-spin"], neutral)
    assert find_bodies(PROTOCOLS["3dpw-spin-free-body"], neutral) == Bodies(neutral, {})
    assert find_bodies(PROTOCOLS["h36m-p2"], neutral) == Bodies(neutral, {})
    with pytest.raises(UserError, match="192 vertices, that of the model 7000"):
        Bodies(free_body, {"male": neutral})


def test_regressors_beside_a_body_are_in_the_result(tmp_path: Path) -> None:
    """SMPL's are files of their own, so that the hash of the body does not vouch for them."""
    fields = make_fields()
    names = ("J_regressor_extra", "J_regressor_h36m", "SMPL_to_J19")
    for name in names[:2]:
        np.save(tmp_path / f"{name}.npy", fields[name])
    kept = {name: value for name, value in fields.items() if name not in names}
    body = BodyModel.load(write_npz(tmp_path / "body.npz", **kept))
    described = describe_body(body, PROTOCOLS["3dpw-spin"].regressors())
    assert described["sha256"] == sha256_file(tmp_path / "body.npz")
    for name in names[:2]:
        path = tmp_path / f"{name}.npy"
        assert described["regressors"][name] == {"path": str(path), "sha256": sha256_file(path)}
    synthetic = synthetic_protocol(body, {})["body"]
    assert synthetic["regressors"] == {names[0]: described["regressors"][names[0]]}


def test_the_truth_needs_the_regressors_of_its_joints_only(
    neutral: BodyModel, gendered: dict[str, BodyModel], tmp_path: Path
) -> None:
    """The 2D points are those of the prediction, so that the gendered bodies do without their regressor."""
    protocol = PROTOCOLS["3dpw-spin"]
    labels = labelled_for(protocol, neutral, tmp_path)
    expected = measure(protocol, bodies_for(protocol, neutral, gendered), labels, Oracle()).metrics
    bare = {}
    for gender in ("male", "female"):
        data = read_body(gendered[gender].path)
        bare[gender] = BodyModel(replace(data, extra_regressor=None, j19_regressor=None))
    assert_alike(measure(protocol, bodies_for(protocol, neutral, bare), labels, Oracle()).metrics, expected)
    assert (protocol.truth_regressors(), PROTOCOLS["h36m-p1"].truth_regressors()) == (("J_regressor_h36m",), ())
