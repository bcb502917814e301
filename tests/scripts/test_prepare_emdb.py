"""EMDB 1: label values against the people from whom a miniature release was made."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffhmr.body.joints import OPENPOSE25, SMPL24
from diffhmr.body.model import BodyModel
from diffhmr.command_line import run_command
from diffhmr.datasets.labels import read_labels
from diffhmr.geometry.rotation import axis_angle_to_matrix
from scripts.prepare_emdb import SEQUENCES, data_file, main
from tests.releases.emdb import TruePerson, write_emdb


@pytest.fixture
def release(tmp_path: Path, toy_body: BodyModel) -> tuple[Path, list[TruePerson]]:
    return tmp_path / "raw", write_emdb(tmp_path / "raw", toy_body)


def arguments(root: Path) -> list[str]:
    return ["--root", str(root), "--out", str(root.parent / "out"), "--partial"]


def test_the_labels_are_the_people(release: tuple[Path, list[TruePerson]]) -> None:
    assert main(arguments(release[0])) == 0
    labels = read_labels(release[0].parent / "out" / "emdb1.npz")
    people = [person for person in release[1] if person.sequence in SEQUENCES]
    assert [person.sequence for person in people] == ["P1/14_outdoor_climb", "P5/44_indoor_rom"]
    assert len(labels) == sum(person.labelled.sum() for person in people)
    row = 0
    for person in people:
        track = person.track
        for frame in np.flatnonzero(person.labelled):
            rotations = axis_angle_to_matrix(torch.tensor(labels.pose[row]).reshape(24, 3))
            np.testing.assert_allclose(rotations, track.pose_in_camera[frame], atol=1e-5)
            np.testing.assert_allclose(labels.betas[row], track.betas, rtol=1e-6)
            assert labels.gender[row] == "mf".index(track.gender)
            assert labels.imgname[row] == f"{person.sequence}/images/{frame:05d}.jpg"
            assert labels.extra["frame"][row] == frame
            low, high = person.boxes[frame, :2], person.boxes[frame, 2:]
            np.testing.assert_allclose(labels.center[row], (low + high) / 2, atol=1e-4)
            np.testing.assert_allclose(labels.side[row], 1.2 * (high - low).max(), rtol=1e-5)
            expected = np.zeros((25, 3))
            for joint, name in enumerate(OPENPOSE25.joint_names):
                if name in SMPL24.joint_names:
                    expected[joint] = [*track.pixels((name,))[frame, 0], 1]
            assert expected[:, 2].sum() == 14
            np.testing.assert_allclose(labels.keypoints[row, :25], expected, atol=1e-3)
            row += 1
    assert labels.meta["counts"] == {"frames that are not good": 2, "good frames without a valid box": 2}
    assert set(labels.extra["sequence"]) == {"P1_14_outdoor_climb", "P5_44_indoor_rom"}


def test_check_names_what_is_missing(
    release: tuple[Path, list[TruePerson]], capsys: pytest.CaptureFixture[str]
) -> None:
    root = release[0]
    assert main(["--check", "--root", str(root / "nothing")]) == 0
    assert "0 of 17 files" in capsys.readouterr().out
    for frame in (1, 3):
        (root / f"P5/44_indoor_rom/images/{frame:05d}.jpg").unlink()
    assert main(["--check", "--root", str(root)]) == 0
    told = capsys.readouterr().out
    assert "2 of 17 files; missing is P2/23_outdoor_hug_tree" in told
    assert "6 of 8 that the sequences have; P5/44_indoor_rom lacks 00001.jpg and 1 more  " in told
    # What is complete can be converted.
    assert main(arguments(root)) == 0
    assert set(read_labels(root.parent / "out" / "emdb1.npz").extra["subject"]) == {"P1"}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"emdb1": False}, "does not belong to EMDB 1"),
        ({"gender": "unknown"}, "the gender is 'unknown'"),
        ({"smpl": {}}, "no smpl.poses_root"),
        ({"kp2d": np.zeros((4, 17, 2))}, "kp2d has shape"),
        ({"bboxes": {"bboxes": np.zeros((3, 4)), "invalid_idxs": np.zeros(0)}}, "bboxes.bboxes has shape"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_file_in_its_place_is_refused(
    release: tuple[Path, list[TruePerson]],
    entries: dict[str, Any],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = data_file(release[0], "P1/14_outdoor_climb")
    path.write_bytes(pickle.dumps({**pickle.loads(path.read_bytes()), **entries}))
    assert run_command(lambda: main(arguments(release[0]))) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_points_and_boxes_that_are_no_numbers_are_no_labels(release: tuple[Path, list[TruePerson]]) -> None:
    path = data_file(release[0], "P1/14_outdoor_climb")
    content = pickle.loads(path.read_bytes())
    content["kp2d"][1, SMPL24.joint_names.index("left_knee"), 0] = np.nan
    content["bboxes"]["bboxes"][3, 0] = np.nan
    path.write_bytes(pickle.dumps(content))
    assert main(arguments(release[0])) == 0
    labels = read_labels(release[0].parent / "out" / "emdb1.npz")
    assert list(labels.extra["frame"]) == [1, 1, 3]
    assert list(np.flatnonzero(labels.keypoints[0, :25, 2] == 0)) == sorted(
        {*np.flatnonzero(labels.keypoints[1, :25, 2] == 0), OPENPOSE25.joint_names.index("left_knee")}
    )


def test_people_of_no_gender_have_none(release: tuple[Path, list[TruePerson]]) -> None:
    path = data_file(release[0], "P1/14_outdoor_climb")
    path.write_bytes(pickle.dumps({**pickle.loads(path.read_bytes()), "gender": "neutral"}))
    assert main(arguments(release[0])) == 0
    labels = read_labels(release[0].parent / "out" / "emdb1.npz")
    assert set(labels.gender) == {-1, 1}
