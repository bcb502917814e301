"""The sheet of training pictures is written as asked."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from diffhmr.command_line import run_command
from scripts import preview_data


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["preview_data", *arguments])
    return run_command(preview_data.main)


def test_sheets_with_and_without_joints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, joints = tmp_path / "plain.png", tmp_path / "joints.png"
    assert run(monkeypatch, "--out", str(plain), "--count", "3", "--size", "64") == 0
    assert run(monkeypatch, "--out", str(joints), "--count", "3", "--size", "64", "--joints") == 0
    sheet = cv2.imread(str(plain))
    assert sheet.shape == (128, 128, 3), "three pictures in two rows of two"
    assert not sheet[64:, 64:].any() and sheet[:64, :64].std() > 1
    enlarged = cv2.imread(str(joints))
    assert enlarged.shape == (512, 512, 3)
    same = cv2.resize(sheet, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)
    drawn = (np.abs(same.astype(int) - enlarged) > 0).any(-1)
    assert 0.005 < drawn.mean() < 0.3, "joints and limbs are drawn over the pictures"


def test_a_sheet_of_motions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "motions.png"
    assert run(monkeypatch, "--out", str(out), "--count", "2", "--size", "48", "--motion", "wave") == 0
    assert "2 motions" in capsys.readouterr().out
    sheet = cv2.imread(str(out))
    assert sheet.shape[0] >= 2 * 48 and sheet.shape[1] >= 10 * 48
    top, bottom = sheet[: len(sheet) // 2], sheet[len(sheet) // 2 :]
    assert top.std() > 10 and np.abs(top.astype(int) - bottom).max() > 50, "two people who wave in different ways"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--count", "0"], "--count is 0: it has to be at least 1"),
        (["--size", "31"], "--size is 31: it has to be at least 32"),
        (["--seed", "-1"], "--seed is -1"),
        (["--start", str(10**30)], "less than 2**31"),
        (["--cuont", "3"], "did you mean --count?"),
        (["--out", "sheet.txt"], "--out sheet.txt should end in .png or .jpg"),
        (["--out", "train.py/sheet.png"], "cannot write to the folder train.py: it is a file"),
        (["--body", "none.npz"], "body file not found: none.npz"),
        (["--body", "train.py"], "train.py is not a body file"),
        (["--backgrounds", "nowhere"], "nowhere"),
        (["--backgrounds", "configs"], "no pictures"),
        (["--motion", "walk", "--joints"], "--motion shows bodies only"),
        (["--motion", "swim"], "swim"),
    ],
)
def test_bad_input(
    tmp_path: Path,
    arguments: list[str],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    assert run(monkeypatch, "--out", str(tmp_path / "a.png"), *arguments) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("error: ") and reason in message
    assert list(tmp_path.iterdir()) == []
