from __future__ import annotations

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from diffhmr.body.files import FREE_BODY
from diffhmr.body.joints import HALPE26, SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.command_line import run_command
from diffhmr.config_clips import ClipNoiseConfig
from diffhmr.geometry.camera import intrinsics, project
from diffhmr.geometry.rotation import axis_angle_to_matrix
from diffhmr.inference.keypoint_files import read_tracks
from diffhmr.motion.acting.score import Activity
from scripts import build_video_sample
from scripts.build_video_sample import CAMERA, FRAMES, GAP, Sample, make_sample
from scripts.video_sample.detector import alphapose_entries, detected_points
from scripts.video_sample.stage import Part, before_camera, joints_of

SAMPLES = Path(__file__).parents[2] / "data/samples"
EXACT = ClipNoiseConfig(
    jitter=0, outlier=0, drop_point=0, drop_limb=0, drop_frame=0, drop_hidden=0, swap=0
)  # fmt: skip


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel.load(FREE_BODY)


@pytest.fixture(scope="module")
def beginning(body: BodyModel) -> Sample:
    return make_sample(body, 3)


@pytest.fixture(scope="module")
def truth() -> SmplParams:
    arrays = np.load(SAMPLES / "walker_truth.npz")
    rotations = axis_angle_to_matrix(torch.from_numpy(arrays["poses"]).unflatten(1, (24, 3)))
    betas = torch.from_numpy(arrays["betas"]).expand(len(rotations), -1)
    return SmplParams.from_rotations(rotations, betas, torch.from_numpy(arrays["transl"]))


def read_frames(path: Path, count: int) -> list[np.ndarray]:
    video = cv2.VideoCapture(str(path))
    frames = [video.read()[1] for _ in range(count)]
    more = video.grab()
    video.release()
    assert not more or count < FRAMES
    return frames


def test_the_shipped_clip_is_small_and_whole() -> None:
    frames = read_frames(SAMPLES / "walker.mp4", FRAMES)
    assert all(frame is not None and frame.shape == (270, 480, 3) for frame in frames)
    files = [SAMPLES / name for name in ("walker.mp4", "walker.json", "walker_truth.npz")]
    assert sum(path.stat().st_size for path in files) < 1e6


def test_the_shipped_keypoints_are_two_people_with_gaps() -> None:
    walker, runner = read_tracks(SAMPLES / "walker.json", frame_size=CAMERA.size, num_frames=FRAMES, fps=30)
    assert (walker.track_id, runner.track_id) == (1, 2) and walker.joint_set == HALPE26.name
    assert sorted(set(range(FRAMES)) - set(walker.frames.tolist())) == list(GAP)
    assert 20 < len(runner) < 70 and runner.frames[0] > 0 and runner.frames[-1] < FRAMES - 1
    assert walker.size > 2 * runner.size
    lost = (walker.points[..., 2] == 0).mean()
    assert 0.01 < lost < 0.15


def test_the_shipped_keypoints_lie_on_the_true_body(body: BodyModel, truth: SmplParams) -> None:
    walker = read_tracks(SAMPLES / "walker.json", frame_size=CAMERA.size, num_frames=FRAMES, fps=30)[0]
    intrinsic = torch.from_numpy(np.load(SAMPLES / "walker_truth.npz")["K"])
    pixels = project(body.joints(truth, HALPE26), intrinsic)[walker.frames].numpy()
    seen = walker.points[..., 2] > 0
    distance = np.linalg.norm(walker.points[..., :2] - pixels, axis=-1)[seen]
    side = np.ptp(pixels, axis=1).max()
    assert 0.002 < np.median(distance) / side < 0.02 and (distance < 0.1 * side).mean() > 0.99


def test_the_walker_is_upright_and_in_the_picture(body: BodyModel, truth: SmplParams) -> None:
    joints = body.joints(truth, HALPE26)
    names = HALPE26.joint_names
    head, ankles = joints[:, names.index("head_top_lsp")], joints[:, [names.index("left_ankle"), 16]]
    assert ((ankles[..., 1] - head[:, None, 1]) > 1.2).all()
    pixels = project(joints, CAMERA.intrinsic)
    assert (pixels >= 0).all() and (pixels < torch.tensor(CAMERA.size)).all()
    height = (pixels[..., 1].amax(1) - pixels[..., 1].amin(1)) / CAMERA.size[1]
    assert height.min() > 0.5


def test_the_same_clip_comes_out_again(beginning: Sample, truth: SmplParams) -> None:
    shipped = read_frames(SAMPLES / "walker.mp4", 3)
    for ours, theirs in zip(beginning.pictures, shipped, strict=True):
        error = ours[..., ::-1].astype(float) - theirs
        assert np.sqrt((error**2).mean()) < 8  # of 255: what the codec loses
    torch.testing.assert_close(beginning.params[1].rotations, truth.rotations[:3], atol=1e-4, rtol=0)
    torch.testing.assert_close(beginning.params[1].transl, truth.transl[:3])  # type: ignore[index]


def test_people_are_drawn_where_they_are(body: BodyModel, beginning: Sample) -> None:
    film = build_video_sample.Film(body, CAMERA, 158)
    person = beginning.params[1].map(lambda value: value[0])
    picture, (depth,) = film.draw([(person, 105)])
    empty, _ = film.draw([])
    seen = np.isfinite(depth.numpy())
    changed = np.abs(picture.astype(int) - empty).max(axis=-1) > 4
    # The shadow changes pixels beside the person, but darkens them only.
    assert 0.02 < seen.mean() < 0.2 and changed[seen].mean() > 0.9
    outside = ~cv2.dilate(seen.astype(np.uint8), np.ones((5, 5))).astype(bool)
    assert 0.002 < changed[outside].mean() < 0.1
    assert (picture[outside].astype(int) <= empty[outside].astype(int) + 1).all()
    pixels = project(body.joints(person, HALPE26), CAMERA.intrinsic).round().long().numpy()
    assert seen[pixels[:17, 1], pixels[:17, 0]].mean() > 0.8


def test_who_stands_behind_somebody_is_covered() -> None:
    joints = np.array([[[0.0, 0.0, 5.0], [0.0, 0.0, 4.05], [1.0, 0.0, 5.0]]])
    depths = np.full((1, CAMERA.size[1], CAMERA.size[0]), np.inf, np.float32)
    depths[:, :, :300] = 4.0
    assert build_video_sample._covered(joints, depths).tolist() == [[True, False, False]]


def test_without_errors_the_detector_finds_the_truth(body: BodyModel) -> None:
    motion = Part(3, (Activity.STAND,), 0.5, (0.2, 0.0)).motion(4, 30.0)
    assert motion.position[0, [0, 2]] == pytest.approx([0.2, 0.0])
    params = before_camera(motion, np.zeros(10), body, CAMERA.rotation, CAMERA.eye)
    joints = joints_of(params, body)
    found = detected_points(joints, CAMERA.intrinsic, CAMERA.size, EXACT, 0)
    names = list(SPIN49.joint_names)
    true = project(torch.from_numpy(joints), CAMERA.intrinsic.double()).numpy()
    true = true[:, [names.index(name) for name in HALPE26.joint_names]]
    assert (found[:, :20, 2] > 0).all()
    side = np.ptp(true, axis=1).max()
    assert np.abs(found[..., :2] - true)[found[..., 2] > 0].max() < 0.06 * side  # people click beside joints
    half = (CAMERA.size[0], 100)
    cut = detected_points(joints, intrinsics(CAMERA.focal, *CAMERA.size), half, EXACT, 0)
    assert ((cut[..., 2] > 0) == (true[..., 1] < 99.5)).all()


def test_entries_are_those_of_alphapose() -> None:
    points = np.zeros((2, 26, 3))
    points[0] = 1.0, 2.0, 0.5
    points[0, 0] = 4.123, 8.0, 0.9
    points[1, :5] = 1.0
    (entry,) = alphapose_entries({7: points})
    assert (entry["image_id"], entry["idx"], entry["category_id"]) == ("0.jpg", 7, 1)
    assert entry["keypoints"][:6] == [4.12, 8.0, 0.9, 1.0, 2.0, 0.5] and len(entry["keypoints"]) == 78
    assert entry["box"] == [1.0, 2.0, 3.1, 6.0]


def test_the_command_writes_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], beginning: Sample
) -> None:
    monkeypatch.setattr(build_video_sample, "make_sample", lambda _body, _frames: beginning)
    arguments = ["build", "--out", str(tmp_path), "--frames", "3", "--sheet", str(tmp_path / "s.png")]
    monkeypatch.setattr(sys, "argv", arguments)
    assert run_command(build_video_sample.main) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"walker.mp4", "walker.json", "walker_truth.npz", "s.png"}
    entries = json.loads((tmp_path / "walker.json").read_text())
    assert [entry["image_id"] for entry in entries] == ["0.jpg", "1.jpg", "2.jpg"]
    assert str(tmp_path / "walker.mp4") in capsys.readouterr().out


def test_bad_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["build", "--out", str(tmp_path), "--frames", "1"])
    assert run_command(build_video_sample.main) == 2
    assert "--frames is 1" in capsys.readouterr().err and not list(tmp_path.iterdir())
