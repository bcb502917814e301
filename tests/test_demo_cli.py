from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import demo
from diffhmr.body.model import BodyModel
from diffhmr.checkpoint import read_metadata
from diffhmr.command_line import run_command
from diffhmr.inference import people as people_module
from diffhmr.inference import predict as predict_module
from diffhmr.inference.detection import Detector
from diffhmr.inference.result import load_result
from diffhmr.render import opengl as opengl_module
from diffhmr.render.overlay import render_mesh
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


def test_the_renderer_can_be_chosen(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--image", SAMPLE, "--box", "0,64,332,512", "--keypoints", LABELS, "--checkpoint", checkpoint]
    options += ["--num-samples", "2", "--renderer", "opengl"]
    drawn = []

    class Replacement:
        """Stands for OpenGL, which is not everywhere."""

        def __call__(self, *arguments: Any) -> tuple[Tensor, Tensor]:
            drawn.append(arguments)
            return render_mesh(*arguments)

    with monkeypatch.context() as replaced:
        replaced.setattr(opengl_module, "OpenGLRenderer", Replacement)
        assert run(monkeypatch, *options, "--out", tmp_path / "out") == 0
    assert len(drawn) == 6, "overlays, sheets and spread, from both sides"
    capsys.readouterr()
    monkeypatch.setitem(sys.modules, "pyrender", None)
    assert run(monkeypatch, *options, "--out", tmp_path / "other") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and "pip install pyrender" in errors[0]
    assert not list(tmp_path.glob("other/**/*.npz")), "known before anything is predicted"


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


def damaged_checkpoints(folder: Path, checkpoint: Path) -> dict[str, tuple[Path, str]]:
    """Files that are no good model, and what the message has to say."""
    content, weights, header = checkpoint.read_bytes(), load_file(checkpoint), read_metadata(checkpoint)
    name = next(name for name, value in weights.items() if value.is_floating_point())
    poisoned = weights | {name: torch.full_like(weights[name], float("nan"))}
    (folder / "truncated.st").write_bytes(content[:-1000])
    (folder / "beginning.st").write_bytes(content[:100])
    (folder / "empty.st").write_bytes(b"")
    (folder / "pickle.st").write_bytes(pickle.dumps({"model": weights}))
    torch.save(weights, folder / "zip.st")
    save_file({"weight": torch.zeros(2)}, folder / "other.st")
    save_file(poisoned, folder / "nan.st", metadata=header)
    save_file({"weight": torch.zeros(2)}, folder / "lacking.st", metadata=header)
    reasons = {
        "truncated.st": "is truncated",
        "beginning.st": "is truncated",
        "empty.st": "checkpoint is empty",
        "pickle.st": "no safetensors file",
        "zip.st": "no safetensors file",
        "other.st": "not one of this project",
        "nan.st": f"not all values are finite in {name}",
        "lacking.st": "holds the weights of another model",
        "missing.st": "checkpoint not found",
        "file": "no safetensors file",
    }
    return {file: (folder / file, reason) for file, reason in reasons.items()}


def bad_images(folder: Path) -> dict[str, tuple[list[str | Path], str]]:
    """Pictures that are none."""
    picture = np.random.default_rng(0).integers(0, 255, (90, 90, 3)).astype(np.uint8)
    (folder / "corrupt.jpg").write_bytes(SAMPLE.read_bytes()[:2000])
    (folder / "corrupt.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes()[:9000])
    (folder / "text.png").write_text("no picture")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "no_pictures").mkdir()
    (folder / "two").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (folder / "two" / name).write_bytes(SAMPLE.read_bytes())
    return {
        "missing image": (["--image", folder / "missing.jpg"], "not found"),
        "corrupt JPEG": (["--image", folder / "corrupt.jpg"], "cut off"),
        "corrupt PNG": (["--image", folder / "corrupt.png"], "cannot be read"),
        "text as image": (["--image", folder / "text.png"], "cannot be read"),
        "empty image": (["--image", folder / "empty.jpg"], "is empty"),
        "folder without images": (["--image", folder / "no_pictures"], "no picture"),
        "one box for a folder": (["--image", folder / "two", "--box", "0,0,90,90"], "--box is for one image"),
        "a list for a folder": (
            ["--image", folder / "two", "--boxes", folder / "list.json"],
            "does not say which image",
        ),
    }


def bad_people(folder: Path) -> dict[str, tuple[list[str | Path], str]]:
    """Boxes and keypoints that cannot be."""
    points = [[100 + 5 * k, 100 + 20 * k, 2] for k in range(17)]
    contents: dict[str, object] = {
        "list": [[0, 0, 90, 90]],
        "others": {"somebody_else.jpg": [[1, 2, 3, 4]]},
        "five": [[1, 2, 3, 4, 5]],
        "reversed": [[300, 300, 100, 100]],
        "nan": [[float("nan"), 0, 90, 90]],
        "number": 5,
        "coco": {"images": [], "annotations": [{"image_id": 1, "bbox": [0, 0, 9, 9]}]},
        "sixteen": [points[:16]],
        "unseen": [[[x, y, 0] for x, y, _ in points]],
        "elsewhere": [[[x + 300, y, 2] for x, y, _ in points]],
        "shares": [[[x / 512, y / 512, 2] for x, y, _ in points]],
    }
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "bad.json").write_text("{")
    boxes = {
        "900,900,950,950": "outside",
        "300,300,100,100": "reversed",
        "-9,-9,-1,-1": "outside",
        "1,2,3": "not four numbers",
        "a,b,c,d": "not four numbers",
        "nan,0,90,90": "not a finite number",
    }
    files = {
        "bad": "not a JSON file", "others": "names nobody", "five": "expected 17", "reversed": "reversed",
        "nan": "not a finite number", "number": "a single value", "coco": "no complete COCO", "missing": "not found",
    }  # fmt: skip
    keypoints = {"sixteen": "have 48 numbers, expected 17", "unseen": "neither bbox nor",
                 "missing": "not found",
                 "elsewhere": "is where --box is: correct one (both are in pixels)",
                 "shares": "is where --box is: correct one (both are in pixels)"}  # fmt: skip
    on_box = ["--box", "90,90,200,480"]
    return (
        {f"box {box}": (["--box", box], reason) for box, reason in boxes.items()}
        | {f"boxes {name}": (["--boxes", folder / f"{name}.json"], reason) for name, reason in files.items()}
        | {
            f"keypoints {name}": ([*on_box, "--keypoints", folder / f"{name}.json"], reason)
            for name, reason in keypoints.items()
        }
        | {
            "box and whole image": (["--box", "1,2,90,90", "--whole-image"], "only one of"),
            "box and boxes": (["--box", "1,2,90,90", "--boxes", LABELS], "only one of"),
            "a keypoint model without keypoints": (["--whole-image"], "needs COCO keypoints"),
        }
    )


def bad_options(folder: Path) -> dict[str, tuple[list[str | Path], str]]:
    """Numbers, names and places that cannot be."""
    options: dict[tuple[str | Path, ...], str] = {
        ("--num-samples", "0"): "--num-samples is 0",
        ("--num-samples", "-1"): "--num-samples is -1",
        ("--num-samples", "many"): "invalid int",
        ("--steps", "0"): "--steps is 0",
        ("--steps", "2000"): "2000 sampling steps, but the model has 1000",
        ("--seed", "-1"): "--seed is -1",
        ("--focal-px", "-5"): "--focal-px is -5",
        ("--focal-px", "nan"): "--focal-px is nan",
        ("--mesh", "fbx"): "invalid choice",
        ("--sample", "3"): "unknown option --sample, did you mean --num-samples?",
        ("--num_samples", "3"): "did you mean --num-samples?",
        ("more.jpg",): "unrecognized arguments: more.jpg",
        ("--device", "gpu"): "unknown device 'gpu'",
        ("--device", f"cuda:{torch.cuda.device_count()}"): "cannot be used",
        ("--out", folder / "file"): "cannot write",
        ("--out", folder / "file" / "deeper"): "cannot write",
    }
    return {" ".join(map(str, words)): (["--boxes", LABELS, *words], reason) for words, reason in options.items()}


def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    good = ["--image", SAMPLE, "--checkpoint", checkpoint, "--num-samples", "1", "--out", tmp_path / "out"]
    cases = bad_people(tmp_path) | bad_images(tmp_path) | bad_options(tmp_path)
    for name, (path, reason) in damaged_checkpoints(tmp_path, checkpoint).items():
        cases[f"checkpoint {name}"] = (["--boxes", LABELS, "--checkpoint", path], reason)
    for name, (arguments, reason) in cases.items():
        code = run(monkeypatch, *good, *arguments)
        errors = capfd.readouterr().err.splitlines()
        assert code == 2, name
        assert len(errors) == 1 and errors[0].startswith("error: ") and reason in errors[0], (name, errors)
    assert not list((tmp_path / "out").rglob("*")), "nothing is written before all input is known to be good"


def test_no_image_and_no_arguments(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch) == 2
    assert capsys.readouterr().err == "error: one of the arguments --image --video --size is required; see --help\n"


def test_a_bad_picture_in_a_folder_loses_nothing(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/photographer.jpg").write_bytes(SAMPLE.read_bytes())
    (tmp_path / "photos/torn.jpg").write_bytes(SAMPLE.read_bytes()[:2000])
    options = ["--image", tmp_path / "photos", "--boxes", LABELS, "--checkpoint", checkpoint, "--num-samples", "1"]
    assert run(monkeypatch, *options, "--out", tmp_path / "out") == 2
    assert "torn.jpg" in capsys.readouterr().err
    assert len(load_result(tmp_path / "out/photographer/person0.json")) == 1
    assert not [path for path in (tmp_path / "out").rglob("*") if path.name.startswith(".")], "temporary files"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    arguments = ["--image", SAMPLE, "--boxes", LABELS, "--checkpoint", checkpoint, "--out", tmp_path / "locked"]
    assert run(monkeypatch, *arguments) == 2
    assert "cannot write" in capsys.readouterr().err
