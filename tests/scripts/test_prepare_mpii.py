"""MPII from a miniature release with the nested structures of the official file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from diffhmr.body.joints import SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.datasets.labels import Labels, read_labels
from diffhmr.errors import UserError
from scripts.prepare_mpii import main
from tests.releases.mpii import HIDDEN, MPII16, MpiiTruth, write_mpii

COLUMNS = [25 + SPIN49.joint_names[25:].index(name) for name in MPII16]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, free_body: BodyModel) -> tuple[Path, MpiiTruth]:
    root = tmp_path_factory.mktemp("mpii")
    return root, write_mpii(root, free_body)


def _prepare(root: Path, out: Path, *words: str) -> Labels:
    assert main(["--root", str(root), "--out", str(out), *words]) == 0
    return read_labels(out / "train.npz")


def _require_people(labels: Labels, truth: MpiiTruth, people: list[int]) -> None:
    assert list(labels.imgname) == [f"images/{truth.names[index]}" for index in people]
    points = np.stack([truth.people[index].named(MPII16) for index in people])
    np.testing.assert_allclose(labels.keypoints[:, COLUMNS, :2], points, atol=1e-4)
    assert not np.delete(labels.keypoints, COLUMNS, axis=1).any()
    np.testing.assert_allclose(labels.center, truth.objpos[people] - 1, rtol=1e-6)
    np.testing.assert_allclose(labels.side, 200 * truth.scale[people], rtol=1e-5)


def test_labels_are_those_of_the_release(release: tuple[Path, MpiiTruth], tmp_path: Path) -> None:
    root, truth = release
    labels = _prepare(root, tmp_path)
    _require_people(labels, truth, [0, 1, 2])
    assert (labels.keypoints[:, COLUMNS, 2] == 1).all()
    # Those without joints or place are no labelled people.
    assert labels.meta["counts"] == {"people without enough labels": 1, "people without picture": 0}


def test_fewer_joints_and_hidden_ones(release: tuple[Path, MpiiTruth], tmp_path: Path) -> None:
    root, truth = release
    labels = _prepare(root, tmp_path, "--min-keypoints", "14", "--hidden-confidence", "0.5")
    assert list(labels.imgname) == [f"images/{truth.names[index]}" for index in (0, 0, 1, 2)]
    expected = np.ones((4, 16))
    expected[:, HIDDEN] = 0.5
    expected[1, 14:] = 0
    # Joints without a flag, and those whose flag is text, are visible.
    np.testing.assert_array_equal(labels.keypoints[:, COLUMNS, 2], expected)


def test_people_who_are_apart(release: tuple[Path, MpiiTruth], tmp_path: Path) -> None:
    root, truth = release
    assert truth.apart == [0, 2]
    _require_people(_prepare(root, tmp_path, "--single-person"), truth, truth.apart)


@pytest.mark.parametrize("letters", [False, True])
def test_annotations_of_spin(release: tuple[Path, MpiiTruth], tmp_path: Path, letters: bool) -> None:
    root, truth = release
    path = tmp_path / "train.h5"
    with h5py.File(root / "train.h5") as old, h5py.File(path, "w") as new:
        for name in ("part", "center", "scale"):
            new[name] = old[name][()]
        names = old["imgname"][()]
        # Some tools write the names as numbers of letters.
        new["imgname"] = np.array([[*name, 0, 0] for name in names], np.float64) if letters else names
    _require_people(_prepare(root, tmp_path / "out", "--spin-h5", str(path)), truth, [0, 1, 2])


def _mat(content: dict[str, Any]) -> dict[str, Any]:
    return {"RELEASE": content}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"annolist": 1}, "has no variable RELEASE"),
        (_mat({"annolist": np.zeros((0, 0))}), "is not laid out as in MPII's release"),
        (_mat({"annolist": {"image": {"name": "a.jpg"}}, "img_train": np.array([[1, 0]])}), "2 training flags"),
    ],
)
def test_wrong_files(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    scipy.io.savemat(tmp_path / "mpii_human_pose_v1_u12_1.mat", content)
    with pytest.raises(UserError, match=message) as caught:
        main(["--root", str(tmp_path), "--out", str(tmp_path / "out")])
    assert "\n" not in str(caught.value)


def test_wrong_annotations_of_spin(release: tuple[Path, MpiiTruth], tmp_path: Path) -> None:
    root, _ = release
    words = ["--root", str(root), "--out", str(tmp_path / "out"), "--spin-h5"]
    with pytest.raises(UserError, match="not found"):
        main([*words, str(tmp_path / "nothing.h5")])
    (tmp_path / "text.h5").write_text("no HDF5", encoding="utf-8")
    with pytest.raises(UserError, match=r"is not SPIN's train\.h5"):
        main([*words, str(tmp_path / "text.h5")])
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["imgname"] = np.array([b"a.jpg"])
    with pytest.raises(UserError, match=r"is not SPIN's train\.h5"):
        main([*words, str(tmp_path / "other.h5")])
    with pytest.raises(UserError, match="--single-person needs the official annotations"):
        main([*words, str(root / "train.h5"), "--single-person"])
