"""demo.py --initial: parameters of a person in a video that are to be refined."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import demo
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.checkpoint import load_body
from diffhmr.clip_checkpoint import save_clip_model
from diffhmr.command_line import run_command
from diffhmr.config_clips import BackboneConfig, ChainConfig, ClipDataConfig, ClipExperimentConfig, ClipModelConfig
from diffhmr.errors import UserError
from diffhmr.files import sha256_file
from diffhmr.geometry.rotation import axis_angle_to_matrix, geodesic_distance, matrix_to_axis_angle
from diffhmr.inference.video.footage import Footage
from diffhmr.inference.video.initial import InitialMotion, read_initial
from diffhmr.inference.video.track_result import load_track
from diffhmr.models.clip_models import build_clip_model
from tests.inference.example_people import save_small_checkpoint, small_config
from tests.inference.video.scenes import FPS, SIZE, alphapose, film, save_small_clip_model, walk

FRAMES = 12
FOOTAGE = Footage(Path("walk.mp4"), "walk", SIZE, FPS, FRAMES)
ALL = np.arange(FRAMES)


def save_refiner(path: Path) -> Path:
    """A new model that refines, and so hardly changes what it is given, for the free body."""
    config = ClipExperimentConfig(
        name="refiner",
        task="mesh",
        model=ClipModelConfig(
            head="paper",
            refine=True,
            backbone=BackboneConfig(width=16, hidden=16, depth=1, heads=2, features=16, max_frames=16),
            chain=ChainConfig(width=8, depth=1, heads=2, condition_width=8, condition_depth=1, warm_up=2),
            hidden=8,
            window=8,
            overlap=2,
        ),
        data=ClipDataConfig(initial=True),
    )
    body = load_body(config.body.path)
    torch.manual_seed(0)
    save_clip_model(path, build_clip_model(config.model, body, config.loss), config, body, step=3)
    return path


def axis_angles(params: SmplParams) -> np.ndarray:
    angles: np.ndarray = matrix_to_axis_angle(params.rotations).flatten(-2).numpy()
    return angles


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, free_body: BodyModel) -> Path:
    folder = tmp_path_factory.mktemp("initial")
    truth = walk(free_body, FRAMES)
    film(folder / "walk.mp4", [truth], free_body, drawn=False)
    alphapose(folder / "walk.json", [truth])
    save_refiner(folder / "refine.st")
    save_small_clip_model(folder / "ours.st")
    save_small_checkpoint(folder / "photo.st", small_config())
    poses = axis_angles(truth.params)
    np.savez(folder / "good.npz", poses=poses, betas=truth.params.betas[0].numpy())
    np.savez(folder / "some.npz", poses=poses[2:7], betas=truth.params.betas[2:7].numpy(), frames=np.arange(2, 7))
    return folder


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> Callable[..., tuple[int, str, list[str]]]:
    """The command on the keypoints of the video: exit code, standard output and the lines of standard error."""

    def command(*options: object, checkpoint: str = "refine.st") -> tuple[int, str, list[str]]:
        words = ["--video", place / "walk.mp4", "--keypoints", place / "walk.json", "--checkpoint", place / checkpoint]
        words += [*options, "--out", tmp_path / "out", "--data-only"]
        monkeypatch.setattr(sys, "argv", ["demo.py", *map(str, words)])
        code = run_command(demo.main)
        out, err = capfd.readouterr()
        return code, out, [line for line in err.splitlines() if line.startswith("error")]

    return command


# The file


def _read(path: Path, **arrays: Any) -> InitialMotion:
    np.savez(path, **arrays)
    return read_initial(path)


def test_every_frame_has_its_parameters(place: Path, free_body: BodyModel) -> None:
    truth = walk(free_body, FRAMES).params
    given = read_initial(place / "good.npz").of(FOOTAGE, ALL[3:9], 1)
    torch.testing.assert_close(given.rotations, truth.rotations[3:9], atol=1e-5, rtol=0)
    assert torch.equal(given.betas, truth.betas[3:9])


def test_frames_that_are_missing_are_bridged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    poses = np.zeros((3, 72))
    poses[:, 1] = 0.2, 0.4, 1.0
    betas = np.stack([np.full(10, value) for value in (1.0, 2.0, 6.0)])
    initial = _read(tmp_path / "a.npz", poses=poses, betas=betas, frames=np.array([2, 4, 9]))
    given = initial.of(FOOTAGE, ALL[3:], 7)
    angles = np.array([0.3, 0.4, 0.52, 0.64, 0.76, 0.88, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(axis_angles(given)[:, 1], angles, atol=1e-5)
    assert torch.allclose(given.betas, torch.tensor(4.0)), "of the frames of the track"
    assert "lacks 7 of 9 frames of track 7" in caplog.text
    with pytest.raises(UserError, match="has no frame of track 7, which goes from 5 to 8"):
        initial.of(FOOTAGE, ALL[5:9], 7)


def test_the_length_is_that_of_the_video(place: Path) -> None:
    initial, part = read_initial(place / "good.npz"), read_initial(place / "some.npz")
    with pytest.raises(UserError, match="has 12 frames, but the video has 11"):
        initial.of(replace(FOOTAGE, num_frames=11), ALL, 1)
    with pytest.raises(UserError, match=r"has the frame 6, but the video has 6 frames \(from 0\)"):
        part.of(replace(FOOTAGE, num_frames=6), ALL[:6], 1)
    # Of a video that is cut off, the file may have what can no longer be read.
    cut = replace(FOOTAGE, num_frames=6, announced=12)
    assert initial.of(cut, ALL[:6], 1).shape == (6,)


def test_the_file_of_another_track(tmp_path: Path) -> None:
    arrays = {"poses": np.zeros((FRAMES, 72)), "betas": np.zeros(10)}
    initial = _read(tmp_path / "a.npz", **arrays, metadata=np.array(json.dumps({"track": {"id": 2}})))
    assert initial.track_id == 2 and initial.of(FOOTAGE, ALL, 2).shape == (FRAMES,)
    with pytest.raises(UserError, match="is of track 2, but track 1 is chosen: choose the other one with --track"):
        initial.of(FOOTAGE, ALL, 1)
    for text in ("{}", "[1]", "no JSON", '{"track": {"id": "x"}}'):
        assert _read(tmp_path / "b.npz", **arrays, metadata=np.array(text)).of(FOOTAGE, ALL, 1).shape == (FRAMES,)


def test_the_file_of_another_video(tmp_path: Path) -> None:
    arrays = {"poses": np.zeros((4, 72)), "betas": np.zeros(10), "frames": np.arange(4)}
    for frames, fits in ((FRAMES, True), (FRAMES + 2, True), (FRAMES + 3, False), (5, False), ("x", True)):
        metadata = np.array(json.dumps({"video": {"frames": frames}}))
        initial = _read(tmp_path / "a.npz", **arrays, metadata=metadata)
        if fits:
            assert initial.of(FOOTAGE, ALL, 1).shape == (FRAMES,)
        else:
            with pytest.raises(UserError, match=f"is of a video of {frames} frames, but this one has {FRAMES}: give"):
                initial.of(FOOTAGE, ALL, 1)
    cut = replace(FOOTAGE, num_frames=6, announced=FRAMES)
    metadata = np.array(json.dumps({"video": {"frames": FRAMES}}))
    assert _read(tmp_path / "a.npz", **arrays, metadata=metadata).of(cut, ALL[:6], 1).shape == (6,)


def test_bad_files_get_a_line(tmp_path: Path) -> None:
    poses, betas = np.zeros((5, 72)), np.zeros(10)
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "no poses": ({"betas": betas}, "has no poses; give an .npz with poses (frames, 72)"),
        "no betas": ({"poses": poses}, "has no betas"),
        "SMPL-H": ({"poses": np.zeros((5, 156)), "betas": betas}, "poses has shape (5, 156), expected (frames, 72)"),
        "no frames": ({"poses": poses[:0], "betas": betas}, "poses has shape (0, 72)"),
        "betas": ({"poses": poses, "betas": np.zeros((4, 10))}, "betas has shape (4, 10), expected (10,) or (5, 10)"),
        "NaN": ({"poses": poses * np.nan, "betas": betas}, "poses hold values that are not finite"),
        "damage": ({"poses": poses, "betas": betas + 1e9}, "betas hold values beyond 100"),
        "text": ({"poses": poses.astype(str), "betas": betas}, "poses are no numbers"),
        "objects": ({"poses": np.array([{}]), "betas": betas}, "cannot read the initial parameters"),
        "frames": ({"poses": poses, "betas": betas, "frames": np.array([0, 1, 2, 2, 3])}, "5 ascending whole numbers"),
        "negative": ({"poses": poses, "betas": betas, "frames": np.arange(5) - 1}, "5 ascending whole numbers"),
        "AMASS": ({"poses": poses, "betas": betas, "mocap_framerate": 120.0}, "a motion in the world"),
    }
    for name, (arrays, message) in cases.items():
        with pytest.raises(UserError) as caught:
            _read(tmp_path / "a.npz", **arrays)
        assert message in str(caught.value) and "\n" not in str(caught.value), name
    np.save(tmp_path / "a.npy", poses)
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:200])
    for path, message in ((tmp_path / "a.npy", "is no .npz file"), (tmp_path / "b.npz", "cannot read"),
                          (tmp_path / "c.npz", "initial parameters not found")):  # fmt: skip
        with pytest.raises(UserError, match=message):
            read_initial(path)


# The command


def test_parameters_are_refined(run: Any, place: Path, tmp_path: Path, free_body: BodyModel) -> None:
    code, out, _ = run("--initial", place / "good.npz")
    assert code == 0 and f"{place / 'refine.st'} (paper)" in out
    track, truth = load_track(tmp_path / "out/walk/track1.npz"), walk(free_body, FRAMES).params
    assert track.metadata["initial"] == {
        "path": str(place / "good.npz"), "sha256": sha256_file(place / "good.npz"),
    }  # fmt: skip
    angles = geodesic_distance(track.answer.rotations, truth.rotations)
    assert 1e-5 < angles.max() < 0.1, "a new model hardly corrects"
    torch.testing.assert_close(track.answer.betas, truth.betas)
    # What comes out can be given again.
    first = (tmp_path / "out/walk/track1.npz").rename(tmp_path / "first.npz")
    assert run("--initial", first)[0] == 0
    again = load_track(tmp_path / "out/walk/track1.npz").answer
    assert geodesic_distance(again.rotations, track.answer.rotations).max() < 0.1


def test_a_model_of_pictures_gives_what_is_refined(run: Any, tmp_path: Path) -> None:
    assert run("--model", "diffhmr", checkpoint="photo.st")[0] == 0
    first = (tmp_path / "out/walk/track1.npz").rename(tmp_path / "first.npz")
    assert run("--initial", first)[0] == 0
    given, refined = (load_track(path).answer for path in (first, tmp_path / "out/walk/track1.npz"))
    assert geodesic_distance(given.rotations, refined.rotations).max() < 0.1


def test_bad_input(run: Any, place: Path, tmp_path: Path, toy_body: BodyModel) -> None:
    with np.load(place / "good.npz") as arrays:
        good = dict(arrays)
    np.savez(tmp_path / "long.npz", **(good | {"poses": np.concatenate([good["poses"]] * 2)}))
    other = json.dumps({"body": {"sha256": toy_body.sha256}})
    np.savez(tmp_path / "other.npz", **good, metadata=np.array(other))
    (tmp_path / "text.npz").write_text("poses")
    initial = ["--initial", place / "good.npz"]
    cases: list[tuple[list[object], str, str]] = [
        ([], "refine.st", "refines given SMPL parameters: give them with --initial FILE.npz"),
        (initial, "ours.st", "does not refine given parameters: leave --initial out"),
        (initial, "photo.st", "--initial is for models of clips that refine"),
        ([*initial, "--track", "all"], "refine.st", "--initial is of one person"),
        (["--initial", tmp_path / "none.npz"], "refine.st", "initial parameters not found"),
        (["--initial", tmp_path / "text.npz"], "refine.st", "cannot read the initial parameters"),
        (["--initial", tmp_path / "long.npz"], "refine.st", "has 24 frames, but the video has 12"),
        (["--initial", tmp_path / "other.npz"], "refine.st", "are of another body than those of"),
    ]
    for options, checkpoint, message in cases:
        code, _, errors = run(*options, checkpoint=checkpoint)
        assert code == 2 and len(errors) == 1 and message in errors[0], (options, checkpoint, errors)
    assert not [path for path in tmp_path.glob("out/**/*") if path.is_file()]


def test_photos_have_no_initial_parameters(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["demo.py", "--image", "a.jpg", "--initial", "a.npz"])
    assert run_command(demo.main) == 2
    assert "--initial does not go with --image, only with --video" in capfd.readouterr().err


def test_rotations_come_back_as_they_were(tmp_path: Path) -> None:
    vectors = torch.randn(4, 24, 3, generator=torch.Generator().manual_seed(0)) * 2
    initial = _read(tmp_path / "a.npz", poses=vectors.flatten(1).numpy(), betas=np.zeros((4, 10), np.float32))
    torch.testing.assert_close(initial.rotations, axis_angle_to_matrix(vectors), atol=1e-5, rtol=0)
    assert initial.frames is None and initial.body_sha256 is None
