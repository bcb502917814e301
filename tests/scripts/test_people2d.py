"""What the sets with 2D labels have in common: nothing there, slices, workers, crops."""

from __future__ import annotations

import importlib
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from diffhmr.body.model import BodyModel
from diffhmr.datasets.labels import read_labels
from diffhmr.errors import UserError
from scripts.preparation import people2d
from scripts.preparation.people2d import LabelOptions, boxes_of_points, openpose_detections, to_slots
from scripts.prepare_coco import Coco
from tests.releases.coco import write_coco
from tests.releases.drawn_people import openpose_json
from tests.releases.hr_lspet import write_hr_lspet
from tests.releases.lsp import write_lsp
from tests.releases.mpii import write_mpii
from tests.scripts.preparing import ROOT

SETS: dict[str, tuple[Callable[..., Any], str]] = {
    "coco": (write_coco, "person_keypoints_train2014.json"),
    "lsp": (write_lsp, "lsp_dataset_original.zip"),
    "hr_lspet": (write_hr_lspet, "hr-lspet.zip"),
    "mpii": (write_mpii, "mpii_human_pose_v1_u12_2.zip"),
}


def _main(name: str) -> Callable[[list[str]], int]:
    main: Callable[[list[str]], int] = importlib.import_module(f"scripts.prepare_{name}").main
    return main


def _words(root: Path, out: Path, *words: str) -> list[str]:
    return ["--root", str(root), "--out", str(out), "--splits", "train", *words]


@pytest.mark.parametrize("name", SETS)
def test_a_machine_that_has_nothing(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _main(name)(["--root", str(tmp_path / "nothing"), "--check"]) == 0
    text = capsys.readouterr().out
    assert "missing" in text and "found" not in text
    assert SETS[name][1] in text and "download" in text and "licence" in text
    with pytest.raises(UserError, match=r"missing.*download"):
        _main(name)(["--root", str(tmp_path / "nothing"), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "annotations", "picture"),
    [
        ("lsp", "lsp_dataset_original/joints.mat", "lsp_dataset_original/images/im0008.jpg"),
        ("mpii", "mpii_human_pose_v1_u12_2/mpii_human_pose_v1_u12_1.mat", "images/015602864.jpg"),
    ],
)
def test_check_names_the_one_file_that_is_gone(
    name: str, annotations: str, picture: str, tmp_path: Path, free_body: BodyModel, capsys: pytest.CaptureFixture[str]
) -> None:
    SETS[name][0](tmp_path, free_body)
    (tmp_path / picture).unlink()
    assert _main(name)(_words(tmp_path, tmp_path / "out", "--check")) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  incomplete")]
    assert "train pictures" in line and "2 of 3 with labelled people, " in line
    assert f"the first missing is {picture} " in line
    (tmp_path / annotations).unlink()
    assert _main(name)(_words(tmp_path, tmp_path / "out", "--check")) == 0
    text = capsys.readouterr().out
    assert f"missing     train annotations  {tmp_path / annotations}" in text and SETS[name][1] in text


def test_exit_codes_from_the_shell(tmp_path: Path) -> None:
    for words, code in ((["--check"], 0), (["--root", "README.md"], 2)):
        command = [sys.executable, "-m", "scripts.prepare_lsp", "--root", str(tmp_path), "--out", str(tmp_path), *words]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert result.returncode == code, result.stderr
        assert result.stderr.count("\n") == (code == 2)


def test_slices_and_other_processes_make_no_difference(
    tmp_path: Path, free_body: BodyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_coco(tmp_path / "raw", free_body, people=3)
    main = _main("coco")
    assert main(_words(tmp_path / "raw", tmp_path / "one")) == 0
    monkeypatch.setattr(people2d, "PIECE_ROWS", 2)
    assert main(_words(tmp_path / "raw", tmp_path / "two")) == 0
    one, two = (read_labels(tmp_path / name / "train.npz") for name in ("one", "two"))
    np.testing.assert_array_equal(one.imgname, two.imgname)
    np.testing.assert_array_equal(one.keypoints, two.keypoints)
    assert one.meta["counts"] == two.meta["counts"]

    coco = Coco(LabelOptions(12), "2014")
    pieces = coco.pieces(tmp_path / "raw", None)
    assert [(piece.key, piece.rows) for piece in pieces] == [("0000000-0000002", 2), ("0000002-0000003", 1)]
    sent: Coco = pickle.loads(pickle.dumps(coco))  # as workers get it
    for piece in pieces:
        theirs, ours = sent.convert(tmp_path / "raw", piece), coco.convert(tmp_path / "raw", piece)
        assert theirs.keys() == ours.keys()
        for name in ours:
            np.testing.assert_array_equal(theirs[name], ours[name])


def test_crops_hold_the_person(tmp_path: Path, free_body: BodyModel) -> None:
    write_coco(tmp_path / "raw", free_body, people=2)
    assert _main("coco")(_words(tmp_path / "raw", tmp_path / "out", "--crops")) == 0
    whole, crops = (read_labels(tmp_path / "out" / f"{name}.npz") for name in ("train", "train_crops"))
    for row in range(2):
        picture = cv2.imread(str(tmp_path / "out" / "crops" / str(crops.imgname[row])))
        assert picture is not None
        there = whole.keypoints[row, :, 2] > 0
        before, after = whole.keypoints[row, there, :2], crops.keypoints[row, there, :2]
        assert (after >= 0).all() and (after < picture.shape[1::-1]).all()
        scale = np.ptp(after, axis=0) / np.ptp(before, axis=0)
        np.testing.assert_allclose(scale, crops.side[row] / whole.side[row], rtol=1e-3)


def test_slots_and_boxes() -> None:
    points = np.array([[[3.0, 4.0], [5.0, 10.0], [np.nan, 1.0]], [[7.0, 7.0], [8.0, 8.0], [9.0, 9.0]]])
    confidence = np.array([[1.0, 0.5, 0.0], [0.0, 0.0, 0.0]])
    part = to_slots(points, confidence, (23, 0, 5))
    assert part.shape == (2, 24, 3) and part[0, 23].tolist() == [3, 4, 1] and part[0, 0].tolist() == [5, 10, 0.5]
    assert not part[0, 1:23].any() and not part[1].any()
    center, side = boxes_of_points(points, confidence > 0)
    assert center.tolist() == [[4, 7], [0, 0]] and side.tolist() == [6, 0]


def test_openpose_needs_half_of_the_limbs_and_all_that_are_labelled(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    body25 = np.concatenate([rng.uniform(0, 100, (25, 2)), np.ones((25, 1))], axis=1)
    part = np.zeros((1, 24, 3))
    part[0, :12] = body25[[11, 10, 9, 12, 13, 14, 4, 3, 2, 5, 6, 7]]
    names = np.array(["images/a.jpg"])

    def detected(points: np.ndarray, labels: np.ndarray) -> bool:
        path = tmp_path / "a_keypoints.json"
        path.write_text(json.dumps(openpose_json(points[None])), encoding="utf-8")
        return bool(openpose_detections(tmp_path, names, labels).any())

    assert detected(body25, part)
    moved = body25.copy()
    extent = np.ptp(part[0, :12, :2], axis=0).max()
    moved[:, 0] += 0.099 * extent
    assert detected(moved, part)
    moved[:, 0] += 0.002 * extent
    assert not detected(moved, part)
    without_knee = body25.copy()
    without_knee[10] = 0
    assert not detected(without_knee, part)
    part[0, 1] = 0  # nor is the knee labelled
    assert detected(without_knee, part)
    part[0, :6] = 0
    assert detected(without_knee, part)
    part[0, 6] = 0
    assert not detected(without_knee, part)
