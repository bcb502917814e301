"""Leeds Sports Pose from a miniature release."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from diffhmr.body.model import BodyModel
from diffhmr.datasets.labels import read_labels
from diffhmr.errors import UserError
from scripts.prepare_lsp import FOLDERS, main
from tests.releases.lsp import LspTruth, write_lsp


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, free_body: BodyModel) -> tuple[Path, LspTruth]:
    root = tmp_path_factory.mktemp("lsp")
    return root, write_lsp(root, free_body)


def _prepare(root: Path, out: Path, *words: str) -> int:
    return main(["--root", str(root), "--out", str(out), *words])


def test_labels_are_those_of_the_release(release: tuple[Path, LspTruth], tmp_path: Path) -> None:
    root, truth = release
    assert _prepare(root, tmp_path, "--hidden-confidence", "0.5") == 0
    for split in ("train", "test"):
        labels = read_labels(tmp_path / f"{split}.npz")
        names = [f"{FOLDERS[split]}/images/im{number:04d}.jpg" for number in truth.numbers[split]]
        assert list(labels.imgname) == names
        points = np.stack([person.gt24()[:14] for person in truth.people[split]])
        np.testing.assert_allclose(labels.keypoints[:, 25:39, :2], points, atol=1e-4)
        # The flag of LSP is 1 for joints that cannot be seen.
        np.testing.assert_array_equal(labels.keypoints[:, 25:39, 2], np.where(truth.hidden[split], 0.5, 1.0))
        assert not labels.keypoints[:, :25].any() and not labels.keypoints[:, 39:].any()
        low, high = points.min(axis=1), points.max(axis=1)
        np.testing.assert_allclose(labels.center, (low + high) / 2, rtol=1e-5)
        np.testing.assert_allclose(labels.side, 1.2 * (high - low).max(axis=1), rtol=1e-5)
        assert labels.meta["counts"]["people without enough labels"] == 1000 - len(names)


def test_hidden_joints_count_by_default_and_always_for_the_box(release: tuple[Path, LspTruth], tmp_path: Path) -> None:
    root, _ = release
    assert _prepare(root, tmp_path / "one", "--splits", "test") == 0
    assert _prepare(root, tmp_path / "zero", "--splits", "test", "--hidden-confidence", "0") == 0
    one, zero = (read_labels(tmp_path / name / "test.npz") for name in ("one", "zero"))
    assert (one.keypoints[:, 25:39, 2] == 1).all()
    assert (zero.keypoints[:, 25:39, 2] == 0).any()
    np.testing.assert_array_equal(one.side, zero.side)
    np.testing.assert_array_equal(one.center, zero.center)


def test_archives_that_unpack_into_a_folder_of_their_own(tmp_path: Path, free_body: BodyModel) -> None:
    write_lsp(tmp_path / "lsp_dataset_original", free_body, people=1)
    assert _prepare(tmp_path, tmp_path / "out", "--splits", "train") == 0
    labels = read_labels(tmp_path / "out" / "train.npz")
    assert list(labels.imgname) == ["lsp_dataset_original/lsp_dataset_original/images/im0001.jpg"]


@pytest.mark.parametrize(
    ("joints", "message"),
    [
        ({"joints": np.ones((14, 3, 10000))}, r"has shape \(14, 3, 10000\) .*expected numbers \(3, 14, N\)"),
        ({"joints": np.ones((3, 14, 1000))}, "has 1000 people, expected 2000"),
        ({"poses": np.ones((3, 14, 2000))}, "has no variable joints"),
        ({"joints": "right ankle"}, "joints has shape"),
        (None, "is no readable MATLAB file"),
    ],
)
def test_wrong_files(tmp_path: Path, joints: dict[str, object] | None, message: str) -> None:
    path = tmp_path / "lsp_dataset_original" / "joints.mat"
    path.parent.mkdir()
    if joints is None:
        path.write_text("<html>404 not found</html>" * 20, encoding="utf-8")
    else:
        scipy.io.savemat(path, joints)
    with pytest.raises(UserError, match=message) as caught:
        _prepare(tmp_path, tmp_path / "out", "--splits", "train")
    assert "\n" not in str(caught.value)
