"""High-resolution LSP Extended from a miniature release."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffhmr.body.model import BodyModel
from diffhmr.datasets.labels import read_labels
from diffhmr.errors import UserError
from scripts.prepare_hr_lspet import main
from tests.releases.hr_lspet import write_hr_lspet


def _prepare(root: Path, out: Path, *words: str) -> int:
    return main(["--root", str(root), "--out", str(out), *words])


def test_labels_are_those_of_the_release(tmp_path: Path, free_body: BodyModel) -> None:
    truth = write_hr_lspet(tmp_path, free_body)
    assert _prepare(tmp_path, tmp_path / "out", "--hidden-confidence", "0.5") == 0
    labels = read_labels(tmp_path / "out" / "train.npz")
    assert list(labels.imgname) == truth.names
    points = np.stack([person.gt24()[:14] for person in truth.people])
    known = ~truth.unlabelled
    np.testing.assert_allclose(labels.keypoints[:, 25:39, :2][known], points[known], atol=1e-4)
    # The flag of the extended sets is 1 for joints that can be seen.
    confidence = np.where(known, np.where(truth.visible, 1.0, 0.5), 0.0)
    np.testing.assert_array_equal(labels.keypoints[:, 25:39, 2], confidence)
    low = np.where(known[..., None], points, np.inf).min(axis=1)
    high = np.where(known[..., None], points, -np.inf).max(axis=1)
    np.testing.assert_allclose(labels.center, (low + high) / 2, rtol=1e-5)
    np.testing.assert_allclose(labels.side, 1.2 * (high - low).max(axis=1), rtol=1e-5)


@pytest.mark.parametrize("folder", ["hr-lspet", "hr-lspet/images"])
def test_where_the_archive_may_be_unpacked(tmp_path: Path, free_body: BodyModel, folder: str) -> None:
    truth = write_hr_lspet(tmp_path / "hr-lspet", free_body, people=2)
    (tmp_path / folder).mkdir(exist_ok=True)
    for name in truth.names:
        (tmp_path / "hr-lspet" / name).rename(tmp_path / folder / name)
    assert _prepare(tmp_path, tmp_path / "out") == 0
    assert list(read_labels(tmp_path / "out" / "train.npz").imgname) == [f"{folder}/{name}" for name in truth.names]


def test_a_missing_picture_is_no_shift(
    tmp_path: Path, free_body: BodyModel, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = write_hr_lspet(tmp_path, free_body)
    (tmp_path / truth.names[1]).unlink()
    assert _prepare(tmp_path, tmp_path / "out", "--check") == 0
    text = capsys.readouterr().out
    assert "incomplete" in text and "3 of 4 people's, 9428 in the archive" in text and "hr-lspet.zip" in text
    with pytest.raises(UserError, match="train pictures incomplete"):
        _prepare(tmp_path, tmp_path / "out")
