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


def test_bad_arguments_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--out", str(tmp_path / "a.png"), "--count", "0") == 2
    assert run(monkeypatch, "--out", str(tmp_path / "a.png"), "--body", str(tmp_path / "none.npz")) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line]
    assert len(errors) == 2 and all(line.startswith("error: ") for line in errors)
