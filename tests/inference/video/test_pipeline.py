"""The whole way: known people in a video, a model that knows them, and every file that comes out."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

from diffhmr.body.joints import SMPL24
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.errors import UserError
from diffhmr.inference.predict import PredictOptions
from diffhmr.inference.video import pipeline as pipeline_module
from diffhmr.inference.video.exports import motion_of
from diffhmr.inference.video.footage import open_footage
from diffhmr.inference.video.motions import ClipMotionModel, FrameMotionModel
from diffhmr.inference.video.pipeline import VideoOptions, VideoRun, load_motion_source, process_video
from diffhmr.inference.video.track_result import load_track
from diffhmr.motion.bvh import read_bvh
from tests.inference.example_people import save_small_checkpoint, small_config
from tests.inference.video.scenes import FOCAL, SIZE, alphapose, film, knowing, save_small_clip_model, walk
from tests.render.glb_reader import read_glb

FRAMES = 12
OPTIONS = PredictOptions(num_samples=3, focal_px=FOCAL)


@pytest.fixture
def run(tmp_path: Path, free_body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> VideoRun:
    """One person, missing in two frames, with everything that can be written."""
    truth = walk(free_body, FRAMES)
    video = film(tmp_path / "walk.mp4", [truth], free_body)
    keypoints = alphapose(tmp_path / "keypoints.json", [truth], [*range(5), *range(7, FRAMES)])
    monkeypatch.setattr(
        pipeline_module, "load_motion_source", lambda *_arguments: knowing(truth.params, free_body, OPTIONS)
    )
    options = VideoOptions(video=video, keypoints=keypoints, predict=OPTIONS, exports=("glb", "bvh", "obj"))
    return process_video(options, tmp_path / "out")


def test_everything_that_was_named_is_written(run: VideoRun, tmp_path: Path, free_body: BodyModel) -> None:
    names = {"track1.npz", "track1.json", "track1.glb", "track1.bvh", "track1_obj", "track1_skeleton.mp4"}
    assert {path.name for path in run.files} == names | {"overlay.mp4"}
    assert {path.name for path in (tmp_path / "out/walk").iterdir()} == names | {"overlay.mp4"}, "and nothing else"
    result = load_track(tmp_path / "out/walk/track1.json")
    assert result.num_hypotheses == 3 and result.missing.tolist() == [frame in (5, 6) for frame in range(FRAMES)]
    assert result.metadata["keypoints"] == str(tmp_path / "keypoints.json")
    assert result.metadata["checkpoint"]["sha256"] == "0" * 64 and result.metadata["camera"]["focal_px"] == FOCAL
    text = "\n".join(run.summary())
    assert "12 frames of 320 x 240 at 25 per second" in text and "1 person in it" in text
    assert "frames 0 to 11, 2 of them missing and marked, 0.0 px (0.0 % of the box) off its keypoints" in text
    assert str(tmp_path / "out/walk/track1.bvh") in text
    for name, count in (("overlay", FRAMES), ("track1_skeleton", FRAMES)):
        assert sum(1 for _ in open_footage(tmp_path / f"out/walk/{name}.mp4").frames()) == count

    # All exports show the joints of the result, heads above feet.
    joints = result.joints_smpl24.double().numpy() * [1, -1, -1]
    assert (joints[:, 15, 1] > joints[:, 10, 1] + 1).all(), "head and left foot"
    assert np.abs(motion_of(result).joints(_rest(free_body, result.answer.betas[0])) - joints).max() < 1e-4
    bvh = read_bvh(tmp_path / "out/walk/track1.bvh")
    order = [bvh.joint_names.index(name) for name in SMPL24.joint_names]
    assert bvh.fps == pytest.approx(25, rel=1e-4) and np.abs(bvh.world()[1][:, order] - joints).max() < 1e-3
    glb = read_glb(tmp_path / "out/walk/track1.glb")
    nodes = [node["name"] for node in glb.document["nodes"]]
    for frame in (0, 6, 11):
        world = glb.world(frame)
        shown = np.stack([world[nodes.index(name)][:3, 3] for name in SMPL24.joint_names])
        assert np.abs(shown - joints[frame]).max() < 1e-3
    meshes = sorted((tmp_path / "out/walk/track1_obj").iterdir())
    assert [path.name for path in meshes] == [f"{frame:06d}.obj" for frame in range(FRAMES)]
    vertices = free_body(result.answer.map(lambda value: value[4:5])).vertices[0].numpy() * [1, -1, -1]
    assert np.abs(trimesh.load(meshes[4], process=False).vertices - vertices).max() < 1e-4


def _rest(body: BodyModel, betas: torch.Tensor) -> np.ndarray:
    params = SmplParams.from_rotations(torch.eye(3).expand(1, 24, 3, 3), betas[None])
    joints: np.ndarray = body.joints(params, SMPL24)[0].double().numpy()
    return joints


@pytest.fixture
def two(tmp_path: Path, toy_body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> VideoOptions:
    """Two people without a video; the second is nearer."""
    walks = [walk(toy_body, 6, (-0.8, 0.0, 4.5)), walk(toy_body, 6, (0.4, 0.0, 3.2))]
    keypoints = alphapose(tmp_path / "two.json", walks)
    monkeypatch.setattr(
        pipeline_module, "load_motion_source", lambda *_arguments: knowing(walks[0].params, toy_body, OPTIONS)
    )
    return VideoOptions(keypoints=keypoints, size=SIZE, fps=25.0, predict=OPTIONS)


@pytest.mark.parametrize(("which", "numbers"), [("largest", [2]), ("1", [1]), ("all", [1, 2])])
def test_who_is_followed(two: VideoOptions, tmp_path: Path, which: str, numbers: list[int]) -> None:
    options = VideoOptions(keypoints=two.keypoints, size=SIZE, track=which, predict=OPTIONS, pictures=False)
    run = process_video(options, tmp_path / "out")
    assert [result.metadata["track"]["id"] for result in run.results] == numbers and len(run.tracks) == 2
    files = [f"track{number}.{suffix}" for number in numbers for suffix in ("npz", "json")]
    assert sorted(path.name for path in (tmp_path / "out/two").iterdir()) == sorted(files)
    assert run.results[0].metadata["video"]["path"] is None


def test_exports_keep_the_time_of_the_video(two: VideoOptions, tmp_path: Path) -> None:
    """Who comes later has key frames later, and stands still in the BVH before: two people stay in step."""
    assert two.keypoints is not None
    entries = json.loads(two.keypoints.read_text())
    late = [entry for entry in entries if entry["idx"] == 1 or int(entry["image_id"][:-4]) >= 3]
    two.keypoints.write_text(json.dumps(late))
    options = replace(two, track="all", exports=("glb", "bvh", "obj"), pictures=False)
    for result, first in zip(process_video(options, tmp_path / "out").results, (0, 3), strict=True):
        stem = tmp_path / f"out/two/track{result.metadata['track']['id']}"
        assert result.frames.tolist() == list(range(first, 6))
        joints = result.joints_smpl24.double().numpy() * [1, -1, -1]
        glb, bvh = read_glb(stem.with_suffix(".glb")), read_bvh(stem.with_suffix(".bvh"))
        np.testing.assert_allclose(glb.key_frames()[0], result.frames / 25, atol=1e-6)
        pelvis = [node["name"] for node in glb.document["nodes"]].index("pelvis")
        assert np.abs(glb.world(0)[pelvis][:3, 3] - joints[0, 0]).max() < 1e-4, "the first key is of the first frame"
        places = bvh.world()[1][:, [bvh.joint_names.index(name) for name in SMPL24.joint_names]]
        assert len(places) == 6 and np.abs(places[first:] - joints).max() < 1e-3, "line k is frame k"
        assert np.abs(places[:first] - joints[0]).max(initial=0) < 1e-3
        names = sorted(path.name for path in stem.with_name(f"{stem.name}_obj").iterdir())
        assert names == [f"{frame:06d}.obj" for frame in range(first, 6)]


def test_junk_is_left_out_and_nobody_else(two: VideoOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Points that coincide say nothing about the distance, toes alone nothing about the pose."""
    assert two.keypoints is not None
    entries = json.loads(two.keypoints.read_text())
    toes = [0.0] * 3 * 20 + [value for toe in range(6) for value in (300.0 + 9 * toe, 200.0 + 5 * (toe % 3), 0.9)]
    parts = {9: [100.0, 100.0, 0.5] * 26, 8: toes}
    junk = [{"image_id": f"{frame}.jpg", "idx": number, "keypoints": points}
            for number, points in parts.items() for frame in range(2, 5)]  # fmt: skip
    two.keypoints.write_text(json.dumps(entries + junk))
    options = replace(two, track="all", pictures=False)
    run = process_video(options, tmp_path / "out")
    assert [result.metadata["track"]["id"] for result in run.results] == [1, 2] and len(run.tracks) == 4
    assert "the points of track 8, 9 do not tell how a person stands, and where: left out" in caplog.text
    for number in parts:
        with pytest.raises(UserError, match=f"the points of track {number} do not tell"):
            process_video(replace(options, track=str(number)), tmp_path / "out")
    two.keypoints.write_text(json.dumps(junk))
    with pytest.raises(UserError, match="nobody has points that tell how a person stands"):
        process_video(options, tmp_path / "out")


def test_numbers_survive_a_picture_that_cannot_be_drawn(two: VideoOptions, tmp_path: Path) -> None:
    def no_renderer(*_arguments: object) -> Any:
        raise UserError("no renderer")

    with pytest.raises(UserError, match="no renderer"):
        process_video(two, tmp_path / "out", renderer=no_renderer)
    assert sorted(path.name for path in (tmp_path / "out/two").iterdir()) == ["track2.json", "track2.npz"]
    assert len(load_track(tmp_path / "out/two/track2.npz")) == 6

    def interrupted(*_arguments: object) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        process_video(two, tmp_path / "out", renderer=interrupted)
    assert sorted(path.name for path in (tmp_path / "out/two").iterdir()) == ["track2.json", "track2.npz"]


def test_a_checkpoint_says_which_model_it_is(tmp_path: Path) -> None:
    clip = save_small_clip_model(tmp_path / "clip.safetensors")
    photo = save_small_checkpoint(tmp_path / "photo.safetensors", small_config())

    def source(**settings: Any) -> object:
        return load_motion_source(VideoOptions(video=Path("a.mp4"), **settings))

    assert isinstance(source(checkpoint=clip), ClipMotionModel)
    assert isinstance(source(checkpoint=photo), FrameMotionModel)
    assert isinstance(source(checkpoint=photo, model="diffhmr"), FrameMotionModel)
    with pytest.raises(UserError, match="holds a model of people in pictures, but"):
        source(checkpoint=photo, model="diffmesh")
    with pytest.raises(UserError, match="holds a network of clips"):
        source(checkpoint=clip, model="diffhmr")
    with pytest.raises(UserError, match="--guidance is for models of pictures"):
        source(checkpoint=clip, guided=True)


def test_a_model_of_clips_from_its_file(tmp_path: Path, toy_body: BodyModel) -> None:
    keypoints = alphapose(tmp_path / "k.json", [walk(toy_body, 20)])
    checkpoint = save_small_clip_model(tmp_path / "clip.safetensors")

    def recovered(name: str, samples: int, seed: int = 0) -> Any:
        options = VideoOptions(
            keypoints=keypoints,
            size=SIZE,
            checkpoint=checkpoint,
            predict=PredictOptions(num_samples=samples, seed=seed),
            pictures=False,
        )
        (result,) = process_video(options, tmp_path / name).results
        return result

    one, three, other = recovered("one", 1), recovered("three", 3), recovered("other", 3, seed=1)
    assert torch.allclose(one.params.rotations[0], three.params.rotations[0], atol=1e-4), "the single answer"
    assert torch.allclose(three.params.rotations[0], other.params.rotations[0], atol=1e-4)
    assert not torch.allclose(three.params.rotations[1], other.params.rotations[1], atol=1e-3)
    metadata = three.metadata
    assert metadata["checkpoint"]["model"] == "ours" and metadata["checkpoint"]["config"] == "small"
    assert metadata["sampling"] == {
        "hypotheses": 3, "single_answer": 0, "seed": 0, "sampler": "dpm_solver_pp_2m", "steps": 2, "eta": 0.0,
        "deterministic": False,
    }  # fmt: skip
    assert three.joint_spread_mm.mean() > 1


def test_settings_that_do_not_go_together() -> None:
    video, keypoints = Path("a.mp4"), Path("k.json")
    for settings, reason in (
        ({}, "give --video FILE, or --keypoints"),
        ({"keypoints": keypoints}, "give --video FILE, or --keypoints"),
        ({"size": SIZE}, "give --video FILE, or --keypoints"),
        ({"video": video, "size": SIZE}, "--size is for keypoints without a video"),
        ({"video": video, "track": "biggest"}, "--track is 'biggest'"),
    ):
        with pytest.raises(UserError, match=reason):
            VideoOptions(**settings)  # type: ignore[arg-type]


@pytest.mark.slow
def test_ten_minutes_of_keypoints_take_little_memory(tmp_path: Path, toy_body: BodyModel) -> None:
    """18,000 frames; the whole program, so that nothing else counts."""
    truth = walk(toy_body, 150)
    points = truth.halpe.double().numpy()[np.abs((np.arange(18_000) % 298) - 149)]
    entries = [
        {"image_id": f"{frame}.jpg", "category_id": 1, "idx": 1, "keypoints": rows.ravel().tolist()}
        for frame, rows in enumerate(points)
    ]
    (tmp_path / "long.json").write_text(json.dumps(entries))
    checkpoint = save_small_clip_model(tmp_path / "clip.safetensors")
    code = (
        "import sys, resource; sys.argv[0] = 'demo.py'; import demo; from diffhmr.command_line import run_command; "
        "code = run_command(demo.main); print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); "
        "sys.exit(code)"
    )
    options = ["--keypoints", tmp_path / "long.json", "--size", "320x240", "--fps", "30", "--checkpoint", checkpoint]
    options += ["--data-only", "--mesh", "bvh", "--device", "cpu", "--out", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, options)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    peak = int(done.stdout.rsplit("peak", 1)[1]) * (1 if sys.platform != "darwin" else 1 / 1024)
    assert peak < 3 * 2**20, "KiB"
    assert len(load_track(tmp_path / "out/long/track1.npz")) == 18_000
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >= peak
