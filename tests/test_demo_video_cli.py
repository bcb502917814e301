"""demo.py --video: what works, and for everything that does not, one line and exit code 2."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import demo
from diffhmr.body.model import BodyModel
from diffhmr.command_line import run_command
from diffhmr.inference import detection
from diffhmr.inference.video import pipeline as pipeline_module
from diffhmr.inference.video.track_result import load_track
from tests.inference.example_people import save_small_checkpoint, small_config
from tests.inference.video.scenes import alphapose, film, save_small_clip_model, walk
from tests.inference.video.test_footage import torn

FRAMES = 10


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, toy_body: BodyModel) -> Path:
    """A folder with a video, its keypoints and models."""
    folder = tmp_path_factory.mktemp("video")
    truth = walk(toy_body, FRAMES)
    film(folder / "walk.mp4", [truth], toy_body, drawn=False)
    alphapose(folder / "walk.json", [truth])
    save_small_clip_model(folder / "clip.safetensors")
    save_small_checkpoint(folder / "photo.safetensors", small_config())
    save_small_checkpoint(folder / "image.safetensors", small_config("image"))
    return folder


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> Callable[..., tuple[int, str, list[str]]]:
    """The command in a folder of its own: exit code, standard output and the lines of standard error."""
    monkeypatch.setattr(pipeline_module, "CLIP_CHECKPOINT", place / "clip.safetensors")
    monkeypatch.setattr(pipeline_module, "KEYPOINT_CHECKPOINT", place / "photo.safetensors")

    def command(*arguments: object) -> tuple[int, str, list[str]]:
        words = [str(word) for word in arguments]
        monkeypatch.setattr(sys, "argv", ["demo.py", *words, "--out", str(tmp_path / "out")])
        code = run_command(demo.main)
        out, err = capfd.readouterr()
        return code, out, err.splitlines()

    return command


def test_a_video_and_its_keypoints(run: Any, place: Path, tmp_path: Path) -> None:
    code, out, errors = run("--video", place / "walk.mp4", "--keypoints", place / "walk.json", "--num-samples", 2)
    assert code == 0 and not [line for line in errors if line.startswith("error")]
    assert f"{place / 'clip.safetensors'} (ours), body: free body, not SMPL" in out and "motions: 1, in " in out
    assert "track 1: frames 0 to 9, " in out and "off its keypoints" in out
    names = {"track1.npz", "track1.json", "overlay.mp4", "track1_skeleton.mp4"}
    assert {path.name for path in (tmp_path / "out/walk").iterdir()} == names
    assert all(str(tmp_path / "out/walk" / name) in out for name in names)
    assert load_track(tmp_path / "out/walk/track1.npz").num_hypotheses == 2


@pytest.mark.parametrize(("model", "needs_video"), [("photo", False), ("image", True)])
def test_a_model_of_photos_frame_by_frame(run: Any, place: Path, tmp_path: Path, model: str, needs_video: bool) -> None:
    options = ["--checkpoint", place / f"{model}.safetensors", "--model", "diffhmr", "--seed", 3, "--focal-px", 500]
    options += ["--keypoints", place / "walk.json", "--data-only", "--steps", 3, "--guidance", 0]
    assert run("--video", place / "walk.mp4", *options)[0] == 0
    metadata = load_track(tmp_path / "out/walk/track1.npz").metadata
    assert metadata["checkpoint"]["input"] == ("image" if needs_video else "keypoints")
    assert metadata["sampling"]["seed"] == metadata["sampling"]["steps"] == 3 and metadata["guidance"] == 0
    assert metadata["camera"]["focal_px"] == 500 and metadata["camera"]["focal_source"] == "given"
    options += ["--filter", "one-euro:0.5,0.2"]
    code, _, errors = run("--size", "320x240", *options)
    assert (code, len(errors)) == ((2, 1) if needs_video else (0, 0)), errors
    assert not needs_video or "is a model of pictures and needs --video" in errors[0]
    if not needs_video:
        filtered = load_track(tmp_path / "out/walk/track1.npz").metadata
        assert filtered["filter"] == {"one-euro": {"min_cutoff": 0.5, "beta": 0.2}} and "filter" not in metadata


def test_keypoints_alone(run: Any, place: Path, tmp_path: Path) -> None:
    code, out, _ = run("--size", "320x240", "--keypoints", place / "walk.json", "--fps", 12, "--mesh", "bvh", "glb")
    assert code == 0 and "walk: 10 frames of 320 x 240 at 12 per second" in out
    assert (tmp_path / "out/walk/overlay.mp4").is_file() and (tmp_path / "out/walk/track1.bvh").is_file()
    assert load_track(tmp_path / "out/walk/track1.npz").fps == 12


def test_a_torn_video_is_used_as_far_as_it_goes(
    run: Any, toy_body: BodyModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    video = torn(tmp_path / "torn.avi")
    people = walk(toy_body, 20)
    people.halpe[..., :2] *= 0.2
    assert run("--video", video, "--keypoints", alphapose(tmp_path / "k.json", [people]), "--data-only")[0] == 0
    assert "announces 20 frames, but only" in caplog.text
    assert 2 <= len(load_track(tmp_path / "out/torn/track1.npz")) < 18


def bad_input(folder: Path, place: Path) -> dict[str, tuple[list[object], str]]:
    """Options, and what the message has to say."""
    entries = json.loads((place / "walk.json").read_text())

    def keypoints(name: str, change: Callable[[np.ndarray], np.ndarray], kept: slice = slice(None)) -> Path:
        changed = [
            entry | {"keypoints": change(np.array(entry["keypoints"]).reshape(26, 3)).ravel().tolist()}
            for entry in entries[kept]
        ]
        (folder / name).write_text(json.dumps(changed))
        return folder / name

    (folder / "text.mp4").write_bytes(b"no video\n" * 300)
    whole = (place / "walk.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "unknown.json").write_text('{"hello": [1, 2]}')
    (folder / "broken.json").write_text('[{"image_id": ')
    (folder / "nobody.json").write_text("[]")
    long = [entry | {"image_id": f"{frame}.jpg"} for frame, entry in enumerate(entries * 3)]
    (folder / "long.json").write_text(json.dumps(long))
    video = ["--video", place / "walk.mp4"]
    zero = keypoints("zero.json", lambda rows: rows * [1, 1, 0])
    nan = keypoints("nan.json", lambda rows: rows * np.nan)
    one = keypoints("one.json", lambda rows: rows, slice(0, 1))
    far = keypoints("far.json", lambda rows: rows + np.array([9000, 0, 0]))
    good = ["--keypoints", place / "walk.json"]
    return {
        "keypoints of a longer video": ([*video, "--keypoints", folder / "long.json"], "has 30 frames, but the video"),
        "unknown format": ([*video, "--keypoints", folder / "unknown.json"], "unknown.json"),
        "broken file": ([*video, "--keypoints", folder / "broken.json"], "broken.json"),
        "missing file": ([*video, "--keypoints", folder / "missing.json"], "missing.json"),
        "nobody": ([*video, "--keypoints", folder / "nobody.json"], "nobody.json"),
        "all confidences 0": ([*video, "--keypoints", zero], "all confidences are 0"),
        "NaN": ([*video, "--keypoints", nan], "all keypoints are NaN"),
        "one frame": ([*video, "--keypoints", one], "has people in 1 frame of the video"),
        "outside the picture": ([*video, "--keypoints", far], "most keypoints lie outside"),
        "no such track": ([*video, *good, "--track", "9"], "there is no track 9"),
        "track in words": ([*video, *good, "--track", "me"], "--track is 'me'"),
        "no video": (["--video", folder / "missing.mp4", *good], "video not found"),
        "a name that is too long": (["--video", folder / f"{'x' * 300}.mp4", *good], "File name too long"),
        "keypoints of too long a name": ([*video, "--keypoints", folder / f"{'x' * 300}.json"], "File name too long"),
        "text": (["--video", folder / "text.mp4", *good], "cannot be read as a video"),
        "cut off": (["--video", folder / "cut.mp4", *good], "cut off"),
        "empty": (["--video", folder / "empty.mp4", *good], "video is empty"),
        "a picture": (["--video", Path("data/samples/photographer.jpg").resolve(), *good], "demo.py --image"),
        "no keypoints at hand": (video, "keypoint detector cannot be had"),
        "size without keypoints": (["--size", "320x240"], "give --video FILE, or --keypoints"),
        "size in words": (["--size", "large", *good], "--size is 'large'"),
        "rate": ([*video, *good, "--fps", "-3"], "--fps is -3"),
        "size and video": ([*video, *good, "--size", "320x240"], "not allowed with argument --video"),
        "photo's option": ([*video, *good, "--whole-image"], "--whole-image does not go with --video"),
        "photo's mesh": ([*video, *good, "--mesh", "ply"], "--mesh ply does not go with --video"),
        "guidance": ([*video, *good, "--guidance", "1"], "--guidance is for models of pictures"),
        "filter": ([*video, *good, "--filter", "kalman"], "--filter 'kalman' is no filter; give one-euro"),
        "no samples": ([*video, *good, "--num-samples", "0"], "--num-samples is 0"),
        "no checkpoint": ([*video, *good, "--checkpoint", folder / "none.safetensors"], "checkpoint not found"),
        "wrong checkpoint": (
            [*video, *good, "--checkpoint", place / "photo.safetensors", "--model", "diffmesh"],
            "holds a model of people in pictures",
        ),
    }


def test_bad_input(run: Any, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(_url: str, _path: Path) -> None:
        raise OSError("no network")

    monkeypatch.setattr(detection, "weights_path", lambda: tmp_path / "weights-0.pth")
    monkeypatch.setattr(detection, "fetch_weights", unreachable)
    for name, (options, reason) in bad_input(tmp_path, place).items():
        code, _, errors = run(*options)
        assert code == 2, (name, errors)
        assert len(errors) == 1 and errors[0].startswith("error: ") and reason in errors[0], (name, errors)
        assert not [path for path in tmp_path.glob("out/**/*") if path.is_file()], name


def test_errors_stand_alone(run: Any, place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is odd about a file is told if it can be used, not before an error."""
    entries = json.loads((place / "walk.json").read_text())
    gap, one = tmp_path / "gap.json", tmp_path / "one.json"
    gap.write_text(json.dumps([*entries[:3], *entries[6:]]))
    one.write_text(json.dumps(entries[1:2]))
    options = ["--video", place / "walk.mp4", "--data-only", "--keypoints"]
    assert run(*options, one)[0] == 2 and run(*options, gap, "--track", "9")[0] == 2
    assert caplog.text == ""
    assert run(*options, gap)[0] == 0 and "people are missing in 3 frames" in caplog.text


def test_options_of_videos_do_not_go_with_photos(run: Any) -> None:
    for option in (["--track", "1"], ["--filter", "x"], ["--fps", "30"], ["--model", "diffhmr"], ["--data-only"]):
        code, _, errors = run("--image", "photo.jpg", *option)
        assert code == 2 and errors == [f"error: {option[0]} does not go with --image, only with --video: leave it out"]
    assert "choose from none, obj, glb, ply" in run("--image", "photo.jpg", "--mesh", "bvh")[2][0]
    assert "takes one format" in run("--image", "photo.jpg", "--mesh", "obj", "glb")[2][0]
