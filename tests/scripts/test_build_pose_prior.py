"""The pose prior from the command line: procedural poses, recorded ones, and the file that the project ships."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffhmr.command_line import run_command
from diffhmr.fitting.prior import FREE_PRIOR, POSE_NUMBERS, load_prior
from scripts import build_pose_prior


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["build_pose_prior", *map(str, words)])
    return run_command(build_pose_prior.main)


def test_procedural_poses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "prior.npz"
    assert call(monkeypatch, "--out", out, "--poses", 1500, "--components", 3) == 0
    assert "log-likelihood" in capsys.readouterr().out
    assert load_prior(out).means.shape == (3, POSE_NUMBERS)
    first = out.read_bytes()
    assert call(monkeypatch, "--out", out, "--poses", 1500, "--components", 3) == 0
    assert out.read_bytes() == first


def test_recorded_poses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "motion").mkdir()
    poses = np.zeros((300, 72), np.float32)
    poses[:, 3 * 18 + 1] = -1.5  # the left elbow is bent throughout
    np.savez(tmp_path / "motion/one.npz", poses=poses, mocap_framerate=10.0)
    out = tmp_path / "prior.npz"
    assert call(monkeypatch, "--out", out, "--archive", tmp_path / "motion", "--poses", 300, "--components", 1) == 0
    expected = np.zeros((1, POSE_NUMBERS))
    expected[0, 3 * 17 + 1] = -1.5
    np.testing.assert_allclose(load_prior(out).means.numpy(), expected, atol=1e-5)


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        "should end in .npz": ("--out", tmp_path / "prior.pkl"),
        "too few": ("--out", tmp_path / "a.npz", "--poses", 10),
        "--components": ("--out", tmp_path / "a.npz", "--components", 0),
        "nowhere": ("--out", tmp_path / "a.npz", "--archive", tmp_path / "nowhere"),
    }
    for message, words in cases.items():
        assert call(monkeypatch, *words) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_shipped_prior_is_what_the_command_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, "--out", tmp_path / "prior.npz") == 0
    with np.load(tmp_path / "prior.npz") as made, np.load(FREE_PRIOR) as shipped:
        assert sorted(made.files) == sorted(shipped.files)
        for name in ("means", "covars", "weights"):
            np.testing.assert_allclose(made[name], shipped[name], atol=1e-4)
