from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import demo
from diffhmr.body.model import BodyModel
from diffhmr.command_line import run_command
from diffhmr.inference import people as people_module
from diffhmr.inference import predict as predict_module
from diffhmr.inference.detection import Detector
from diffhmr.inference.result import load_result
from tests.inference.example_people import save_small_checkpoint, small_config

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "data/samples/photographer.jpg"
LABELS = ROOT / "data/samples/photographer.json"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_checkpoint(tmp_path_factory.mktemp("model") / "small.safetensors", small_config())


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["demo.py", *(str(argument) for argument in arguments)])
    return run_command(demo.main)


def test_photo_in_bodies_out(
    tmp_path: Path,
    checkpoint: Path,
    free_body: BodyModel,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = ["--image", SAMPLE, "--boxes", LABELS, "--checkpoint", checkpoint, "--num-samples", 3, "--mesh", "glb"]
    assert run(monkeypatch, *map(str, options), "--out", tmp_path / "out") == 0
    text = capsys.readouterr().out
    assert "free body, not SMPL" in text and "724 px (default: diagonal of the image)" in text
    assert "box from annotation file" in text and "% of the box off its keypoints" in text
    folder = tmp_path / "out/photographer"
    for picture in ("person0_overlay.png", "person0_sheet.png", "person0_spread.png", "people_overlay.png"):
        assert str(folder / picture) in text and (folder / picture).is_file()
    assert {path.name for path in folder.glob("*.glb")} == {
        f"person0_{n}.glb" for n in ("answer", "sample1", "sample2")
    }
    result = load_result(folder / "person0.json")
    assert result.vertices(free_body).shape[0] == 3
    assert result.metadata["reprojection"]["points"] == 11


def test_steps_seed_focal_and_box_are_used(tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--steps", "5", "--seed", "4", "--focal-px", "900", "--box", "0,64,332,512", "--keypoints", str(LABELS)]
    paths = ["--image", SAMPLE, "--checkpoint", checkpoint, "--out", tmp_path]
    assert run(monkeypatch, *paths, "--num-samples", "2", *options) == 0
    metadata = load_result(tmp_path / "photographer/person0.npz").metadata
    assert metadata["sampling"]["steps"] == 5 and metadata["sampling"]["seed"] == 4
    assert metadata["camera"]["focal_px"] == 900 and metadata["box"]["source"] == "given box"


def test_the_shipped_models_are_the_default(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image_model = save_small_checkpoint(tmp_path / "image.safetensors", small_config("image"))
    monkeypatch.setattr(predict_module, "KEYPOINT_CHECKPOINT", checkpoint)
    monkeypatch.setattr(predict_module, "IMAGE_CHECKPOINT", image_model)
    monkeypatch.setattr(people_module, "load_detector", lambda _device: Detector(None))
    common = ["--image", SAMPLE, "--num-samples", "1", "--out", tmp_path / "out"]
    for options, model in (
        (["--boxes", LABELS], checkpoint),
        (["--keypoints", LABELS], checkpoint),
        (["--whole-image"], image_model),
        ([], image_model),
    ):
        assert run(monkeypatch, *common, *options) == 0
        assert f"photographer.jpg: {model} (" in capsys.readouterr().out


def bad_inputs(folder: Path, checkpoint: Path) -> dict[str, tuple[list[str | Path], str]]:
    """Arguments that change a good call into a bad one, and what the message has to say."""
    (folder / "corrupt.jpg").write_bytes(SAMPLE.read_bytes()[:2000])
    (folder / "text.png").write_text("no picture")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "no_pictures").mkdir()
    (folder / "truncated.safetensors").write_bytes(checkpoint.read_bytes()[:-1000])
    save_file({"weight": torch.zeros(2)}, folder / "other.safetensors")
    (folder / "bad.json").write_text("{")
    (folder / "others.json").write_text(json.dumps({"somebody_else.jpg": [[1, 2, 3, 4]]}))
    (folder / "file").write_text("x")
    return {
        "missing image": (["--image", folder / "missing.jpg"], "not found"),
        "corrupt image": (["--image", folder / "corrupt.jpg"], "cut off"),
        "text as image": (["--image", folder / "text.png"], "cannot be read"),
        "empty image": (["--image", folder / "empty.jpg"], "is empty"),
        "folder without images": (["--image", folder / "no_pictures"], "no picture"),
        "box outside": (["--box", "900,900,950,950"], "outside"),
        "box reversed": (["--box", "300,300,100,100"], "reversed"),
        "box of three": (["--box", "1,2,3"], "not four numbers"),
        "box and whole image": (["--box", "1,2,90,90", "--whole-image"], "only one of"),
        "boxes no json": (["--boxes", folder / "bad.json"], "not a JSON file"),
        "boxes of others": (["--boxes", folder / "others.json"], "names nobody"),
        "keypoints missing": (["--keypoints", folder / "missing.json"], "not found"),
        "no keypoints": (["--whole-image"], "needs COCO keypoints"),
        "checkpoint missing": (["--boxes", LABELS, "--checkpoint", folder / "none.safetensors"], "not found"),
        "checkpoint truncated": (["--boxes", LABELS, "--checkpoint", folder / "truncated.safetensors"], "truncated"),
        "checkpoint of another": (["--boxes", LABELS, "--checkpoint", folder / "other.safetensors"], "not one of this"),
        "no samples": (["--boxes", LABELS, "--num-samples", "0"], "--num-samples is 0"),
        "samples no number": (["--boxes", LABELS, "--num-samples", "many"], "invalid int"),
        "no steps": (["--boxes", LABELS, "--steps", "0"], "--steps is 0"),
        "negative focal": (["--boxes", LABELS, "--focal-px", "-5"], "--focal-px is -5"),
        "unknown mesh": (["--boxes", LABELS, "--mesh", "fbx"], "invalid choice"),
        "unknown option": (["--boxes", LABELS, "--sample", "3"], "--sample"),
        "out is a file": (["--boxes", LABELS, "--out", folder / "file"], "cannot write"),
        "out below a file": (["--boxes", LABELS, "--out", folder / "file" / "deeper"], "cannot write"),
    }


def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    good = ["--image", SAMPLE, "--checkpoint", checkpoint, "--num-samples", "1", "--out", tmp_path / "out"]
    for name, (arguments, reason) in bad_inputs(tmp_path, checkpoint).items():
        code = run(monkeypatch, *good, *arguments)
        errors = capsys.readouterr().err.splitlines()
        assert code == 2, name
        assert len(errors) == 1 and errors[0].startswith("error: ") and reason in errors[0], (name, errors)
    assert not list((tmp_path / "out").rglob("*.npz")), "nothing is written before all input is known to be good"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    arguments = ["--image", SAMPLE, "--boxes", LABELS, "--checkpoint", checkpoint, "--out", tmp_path / "locked"]
    assert run(monkeypatch, *arguments) == 2
    assert "cannot write" in capsys.readouterr().err
