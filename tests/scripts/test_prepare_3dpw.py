"""3DPW: label values against the people from whom a miniature release was made."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffhmr.body.joints import OPENPOSE25, SMPL24
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.command_line import run_command
from diffhmr.datasets.labels import Labels, read_labels
from diffhmr.evaluation.protocols import OCC_SEQUENCES
from diffhmr.geometry.rotation import axis_angle_to_matrix
from scripts.prepare_3dpw import OCC, SEQUENCES, main, sequences_of
from tests.releases.smpl_tracks import SIZE
from tests.releases.three_dpw import POINTS, TruePerson, write_three_dpw


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, toy_body: BodyModel) -> tuple[Path, list[TruePerson]]:
    root = tmp_path_factory.mktemp("3dpw") / "raw"
    return root, write_three_dpw(root, toy_body)


@pytest.fixture(scope="module")
def prepared(release: tuple[Path, list[TruePerson]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert main(["--root", str(release[0]), "--out", str(out), "--partial"]) == 0
    return out


def row_of(labels: Labels, person: TruePerson, frame: Any) -> int:
    same = (labels.extra["sequence"] == person.sequence) & (labels.extra["subject"] == str(person.person))
    rows = np.flatnonzero(same & (labels.extra["frame"] == frame))
    assert len(rows) == 1
    return int(rows[0])


def test_the_labels_are_the_people(release: tuple[Path, list[TruePerson]], prepared: Path, toy_body: BodyModel) -> None:
    for split in SEQUENCES:
        labels = read_labels(prepared / f"{split}.npz")
        people = [person for person in release[1] if person.split == split]
        assert len(labels) == sum(person.labelled.sum() for person in people)
        for person in people:
            for frame in np.flatnonzero(person.labelled):
                row = row_of(labels, person, frame)
                rotations = axis_angle_to_matrix(torch.tensor(labels.pose[row]).reshape(24, 3))
                np.testing.assert_allclose(rotations, person.track.pose_in_camera[frame], atol=1e-5)
                np.testing.assert_allclose(labels.betas[row], person.track.betas, rtol=1e-6)
                assert labels.has_smpl[row] and labels.gender[row] == "mf".index(person.track.gender)
                assert labels.imgname[row] == f"imageFiles/{person.sequence}/image_{frame:05d}.jpg"
                assert (release[0] / str(labels.imgname[row])).is_file()
                # The body of the label stands as the world's body stands before the camera.
                label = SmplParams.from_rotations(rotations, torch.tensor(labels.betas[row]))
                joints = toy_body.joints(label, SMPL24).numpy()
                world = person.track.camera.to_camera(person.track.joints(SMPL24))[frame]
                np.testing.assert_allclose(joints - joints[0], world - world[0], atol=1e-5)


def test_the_2d_pose_goes_to_the_slots_of_body_25(release: tuple[Path, list[TruePerson]], prepared: Path) -> None:
    labels = read_labels(prepared / "test.npz")
    for person in (person for person in release[1] if person.split == "test"):
        for frame in np.flatnonzero(person.labelled):
            row = row_of(labels, person, frame)
            expected = np.zeros((25, 3))
            for name, point in zip(POINTS, person.points[frame], strict=True):
                expected[OPENPOSE25.joint_names.index(name)] = point
            np.testing.assert_allclose(labels.keypoints[row, :25], expected, atol=1e-4)
            assert not labels.keypoints[row, 25:].any()
            known = person.points[frame][person.points[frame, :, 2] > 0, :2]
            low, high = known.min(axis=0), known.max(axis=0)
            np.testing.assert_allclose(labels.center[row], (low + high) / 2, atol=1e-4)
            np.testing.assert_allclose(labels.side[row], 1.2 * (high - low).max(), rtol=1e-5)
            np.testing.assert_allclose(labels.extra["bbox"][row], [*low, *(high - low)], atol=1e-4)
    assert (labels.extra["image_size"] == SIZE).all()


def test_what_is_left_out_is_counted(release: tuple[Path, list[TruePerson]], prepared: Path) -> None:
    people = [person for person in release[1] if person.split == "test"]
    counts = read_labels(prepared / "test.npz").meta["counts"]
    assert counts == {"people without a valid camera pose": 2, "people without a 2D pose": 2}
    assert sum(counts.values()) == sum((~person.labelled).sum() for person in people)


def test_occ_takes_sequences_of_all_splits_by_prefix(release: tuple[Path, list[TruePerson]], prepared: Path) -> None:
    labels = read_labels(prepared / "occ.npz")
    expected = {"courtyard_backpack_00", "courtyard_basketball_01", "downtown_stairs_00"}
    assert set(labels.extra["sequence"]) == expected
    assert len(labels) == sum(person.labelled.sum() for person in release[1] if person.sequence in expected)
    everything = [name for names in SEQUENCES.values() for name in names]
    assert len(everything) == len(set(everything)) == 60 and len(SEQUENCES["test"]) == 24
    # Every prefix is of use, and the numbers after the names do not matter.
    assert all(any(name.startswith(prefix) for name in everything) for prefix in OCC_SEQUENCES)
    occ = [name for _, name in sequences_of(OCC)]
    assert "outdoors_climbing_02" in occ and "downtown_walking_00" not in occ
    assert sequences_of("test") == [("test", name) for name in SEQUENCES["test"]]


def test_a_partial_release_needs_a_word_and_says_so(
    release: tuple[Path, list[TruePerson]], prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--root", str(release[0]), "--out", str(tmp_path / "out")]
    assert run_command(lambda: main(arguments)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "train sequences incomplete" in error and "courtyard_arguing_00" in error
    assert not (tmp_path / "out").exists()
    partial = read_labels(prepared / "train.npz").meta["partial"]
    assert len(partial) == 1 and "2 of 24 files" in partial[0]
    # What other sequences lack does not make it partial.
    (occ,) = read_labels(prepared / "occ.npz").meta["partial"]
    assert occ.startswith("occ sequences: 3 of ") and "courtyard_basketball_00" in occ and "arguing" not in occ


def test_check_names_what_is_missing(toy_body: BodyModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", "--root", str(tmp_path / "nothing")]) == 0
    told = capsys.readouterr().out
    assert "0 of 24 files" in told and "0 of 12 files" in told
    assert told.count("register at https://virtualhumans") == 1 and "sequenceFiles.zip" in told

    root = tmp_path / "raw"
    write_three_dpw(root, toy_body)
    (root / "imageFiles" / "downtown_arguing_00" / "image_00003.jpg").unlink()
    damaged = root / "sequenceFiles" / "train" / "courtyard_dancing_01.pkl"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    assert main(["--check", "--root", str(root)]) == 0
    told = capsys.readouterr().out
    assert "7 of 8 that the sequences have; downtown_arguing_00 lacks image_00003.jpg  " in told
    assert "found       occ pictures" in told
    assert "courtyard_dancing_01.pkl is no readable pickle" in told


def change(root: Path, **entries: Any) -> None:
    path = root / "sequenceFiles" / "test" / "downtown_stairs_00.pkl"
    with open(path, "rb") as stream:
        content = pickle.load(stream, encoding="latin1")
    content |= entries
    path.write_bytes(pickle.dumps({key: value for key, value in content.items() if value is not None}, protocol=2))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"betas": None}, "has no betas"),
        ({"poses": [np.zeros((4, 156))]}, r"poses.0 has shape \(4, 156\)"),
        ({"poses2d": [np.zeros((4, 18, 3))]}, r"poses2d.0 has shape"),
        ({"genders": ["x"]}, "the gender is 'x'"),
        ({"sequence": "another"}, "is the sequence another"),
        ({"cam_poses": np.zeros((4, 4, 4))}, "no rotations"),
        ({"poses": []}, "has no people"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_another_file_in_its_place_is_refused(
    toy_body: BodyModel, tmp_path: Path, entries: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "raw"
    write_three_dpw(root, toy_body)
    change(root, **entries)
    arguments = ["--root", str(root), "--out", str(tmp_path / "out"), "--splits", "test", "--partial"]
    assert run_command(lambda: main(arguments)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    with pytest.raises(Exception, match=message):
        main(arguments)


def test_betas_may_be_a_column(toy_body: BodyModel, tmp_path: Path) -> None:
    root = tmp_path / "raw"
    people = write_three_dpw(root, toy_body)
    track = next(person.track for person in people if person.sequence == "downtown_stairs_00")
    change(root, betas=[track.betas[:, None]])
    assert main(["--root", str(root), "--out", str(tmp_path / "out"), "--splits", "test", "--partial"]) == 0
    labels = read_labels(tmp_path / "out" / "test.npz")
    mine = labels.extra["sequence"] == "downtown_stairs_00"
    np.testing.assert_allclose(labels.betas[mine], np.tile(track.betas, (mine.sum(), 1)), rtol=1e-6)


def test_a_pickle_that_runs_code_is_refused(toy_body: BodyModel, tmp_path: Path) -> None:
    root = tmp_path / "raw"
    write_three_dpw(root, toy_body)
    path = root / "sequenceFiles" / "test" / "downtown_stairs_00.pkl"
    path.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "witness").encode() + b"'\ntR.")
    arguments = ["--root", str(root), "--out", str(tmp_path / "out"), "--splits", "test"]
    assert run_command(lambda: main(arguments)) == 2
    assert not (tmp_path / "witness").exists()
