"""``eval.py`` on sequences from the command line: models of clips, and of pictures frame by frame."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffhmr.command_line import run_command
from diffhmr.files import sha256_file
from tests.evaluation.clips.test_data import write_videos
from tests.evaluation.small_clip_models import save_small_clip_model, small_clip_config
from tests.inference.example_people import save_small_checkpoint, small_config

ROOT = Path(__file__).parents[1]
FREE = ("--dataset", "3dpw-video", "--protocol", "3dpw-video-neutral17-labels-free-body")
eval_script = importlib.import_module("eval")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of all kinds, and a label file of three people through time."""
    path = tmp_path_factory.mktemp("models")
    for head in ("ours", "motionbert"):
        save_small_clip_model(path / f"{head}.st", small_clip_config(head))
    save_small_checkpoint(path / "pictures.st", small_config("image"))
    save_small_checkpoint(path / "points.st", small_config())
    write_videos(path)
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["eval.py", *(str(argument) for argument in arguments)])
    return run_command(eval_script.main)


def _result(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path, model: str, *options: object
) -> dict[str, Any]:
    out = tmp_path / "r.json"
    good = ["--checkpoint", folder / model, *FREE, "--data", folder, "--device", "cpu", "--out", out]
    assert run(monkeypatch, *good, *options) == 0
    result: dict[str, Any] = json.loads(out.read_text())
    return result


def test_a_stochastic_model_of_clips(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = tmp_path / "d.npz"
    result = _result(monkeypatch, tmp_path, folder, "ours.st", "--num-samples", 3, "--seed", 4, "--dump", dump)
    assert (result["num_items"], result["num_frames"], result["num_samples"], result["seed"]) == (3, 29, 3, 4)
    assert result["unit"] == "sequences" and result["model"] == "ours" and result["sampler"]["steps"] == 2
    assert result["checkpoint"] == {
        "path": str(folder / "ours.st"), "sha256": sha256_file(folder / "ours.st"), "step": 7,
    }  # fmt: skip
    assert result["experiment"]["name"] == "small" and result["experiment"]["seed"] == 0
    protocol = result["protocol"]
    assert protocol["name"] == "3dpw-video-neutral17-labels-free-body-v1" and protocol["sequences"].startswith("whole")
    assert protocol["file"] == "a label file (.npz)" and "squares of 1920 px" in protocol["pictures"]
    assert protocol["people"]["test_items"] == 3 and "NOT comparable" in protocol["truth"]
    error = result["metrics"]["mpvpe_mm"]
    assert error["min_of"]["3"] < error["min_of_sequence"]["3"] < error["random"]
    assert (error["min_of"]["1"], error["min_of_sequence"]["1"]) == pytest.approx((error["random"],) * 2, rel=1e-5)
    assert [one["num_frames"] for one in sorted(result["sequences"], key=lambda one: str(one["name"]))] == [5, 4, 20]
    text = capsys.readouterr().out
    assert "3 samples, body: free body, not SMPL, measured on a label file (.npz)\n" in text
    assert "walk, person 1" in text and "n=3 seq." in text and text.endswith(f"written: {dump}\n")
    assert max(map(len, text.splitlines()[1:-3])) <= 120
    with np.load(dump) as arrays:
        measured = arrays["valid"] == 1
        assert arrays["pose"].shape == (31, 4, 72) and measured.sum() == 29
        for name in ("mpjpe_mm", "pa_mpjpe_mm", "mpvpe_mm", "mpjpe_14_mm"):
            assert arrays[name][measured, 0].mean() == pytest.approx(result["metrics"][name]["mode"], rel=1e-5)
            assert arrays[name][measured, 1:].mean() == pytest.approx(result["metrics"][name]["random"], rel=1e-5)
        assert arrays["frame"].max() == 19 and set(arrays["sequence"]) == {0, 1, 2} and len(arrays["name"]) == 3


def test_the_same_options_give_the_same_result(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, same, other = (
        _result(monkeypatch, tmp_path, folder, "ours.st", "--num-samples", 2, "--seed", seed) for seed in (0, 0, 1)
    )
    assert one == same
    assert one["metrics"]["mpjpe_mm"]["mode"] == other["metrics"]["mpjpe_mm"]["mode"]
    assert one["metrics"]["mpjpe_mm"]["random"] != other["metrics"]["mpjpe_mm"]["random"]


def test_models_with_one_answer_flipped_filtered_and_cut(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = _result(monkeypatch, tmp_path, folder, "motionbert.st")
    assert plain["num_samples"] == 1 and plain["flip"] is False and plain["filter"] is None
    assert plain["metrics"]["energy_score_mm"] == pytest.approx(plain["metrics"]["mpjpe_mm"]["mode"], rel=1e-5)
    assert "min of n" not in capsys.readouterr().out
    flipped = _result(monkeypatch, tmp_path, folder, "motionbert.st", "--flip")
    assert flipped["metrics"]["mpjpe_mm"] != plain["metrics"]["mpjpe_mm"]
    smooth = _result(monkeypatch, tmp_path, folder, "motionbert.st", "--filter", "one-euro:0.1,0")
    assert smooth["filter"] == {"one-euro": {"min_cutoff": 0.1, "beta": 0.0}}
    moves = "accel_of_prediction_m_per_s2"
    assert smooth["metrics"][moves]["mode"] < 0.5 * plain["metrics"][moves]["mode"]
    cut = _result(
        monkeypatch, tmp_path, folder, "motionbert.st", "--protocol", "3dpw-video-neutral17-labels-clips16-free-body"
    )
    assert (cut["num_items"], cut["num_frames"]) == (1, 16)
    part = _result(monkeypatch, tmp_path, folder, "motionbert.st", "--limit", 1)
    assert part["protocol"]["name"].endswith("(first 1 of 3)") and len(part["sequences"]) == 1


def test_a_model_of_pictures_frame_by_frame_on_the_same_sequences(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--num-samples", 2, "--steps", 1)
    own = _result(monkeypatch, tmp_path, folder, "points.st", *options)
    assert own["model"] == "diffhmr, frame by frame" and own["sampler"]["steps"] == 1
    assert own["protocol"] == _result(monkeypatch, tmp_path, folder, "ours.st", *options)["protocol"]
    smooth = _result(monkeypatch, tmp_path, folder, "points.st", *options, "--filter", "one-euro")
    assert smooth["metrics"]["accel_error_m_per_s2"]["mode"] < own["metrics"]["accel_error_m_per_s2"]["mode"]


def test_synthetic_motion(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--dataset", "synthetic-motion", "--limit", 1, "--num-samples", 2, "--device", "cpu"]
    assert run(monkeypatch, "--checkpoint", folder / "ours.st", *options) == 0
    text = capsys.readouterr().out
    assert "synthetic-motion-v1 (first 1 of 100)" in text and "1 sequences, 150 frames" in text
    assert "spread of samples mm" in text and "clip 000" in text


def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "no.st").write_bytes(b"x" * 100)
    clips = ("--dataset", "synthetic-motion")
    cases: dict[tuple[object, ...], str] = {
        (
            "--checkpoint",
            folder / "ours.st",
            "--dataset",
            "synthetic",
        ): "which is measured on sequences: give --dataset",
        ("--checkpoint", folder / "pictures.st", *clips): "reads pictures, but these sequences are keypoints",
        ("--checkpoint", folder / "none.st", *clips): "checkpoint not found",
        ("--checkpoint", tmp_path / "no.st", *clips): "no safetensors file",
        ("--filter", "one-euro", "--dataset", "synthetic"): "--filter is for sequences (synthetic-motion, 3dpw-video, ",
        ("--flip", "--dataset", "3dpw"): "--flip is for sequences",
        ("--images", tmp_path, *clips): "--images is for people in pictures, but --dataset is synthetic-motion",
        ("--data", tmp_path, *clips): "--data belongs to other data sets",
        ("--filter", "kalman", *clips): "give one-euro, or one-euro:MIN_CUTOFF,BETA",
        ("--protocol", "3dpw-spin", *clips): "synthetic-motion has no protocol '3dpw-spin'",
        ("--dataset", "3dpw-video"): "3dpw-video-gendered14-v2 measures on SMPL, but the body of the model is",
        (*FREE, "--data", tmp_path): "there is no ",
        (*FREE[:3], "3dpw-video-neutral17-free-body", "--data", folder / "test.npz"): "test.npz is a label file",
        ("--num-samples", "0", *clips): "--num-samples must be at least 1",
        ("--steps", "2000", *clips): "2000 sampling steps, but the model has 1000",
        ("--dump", tmp_path / "d.txt", *clips): "name it FILE.npz",
    }
    good = ["--checkpoint", folder / "ours.st", "--limit", "1", "--out", tmp_path / "r.json"]
    for arguments, reason in cases.items():
        assert run(monkeypatch, *good, *arguments) == 2, arguments
        errors = capsys.readouterr().err.splitlines()
        assert len(errors) == 1 and errors[0].startswith("error: ") and reason in errors[0], (arguments, errors)
    assert [path.name for path in tmp_path.iterdir()] == ["no.st"]
