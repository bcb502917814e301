"""Motions: checks, kinematics, resampling, mirroring, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from diffhmr.body.joints import SMPL24
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.datasets.archive import MotionArchive
from diffhmr.errors import UserError
from diffhmr.motion.sequence import Motion, load_motion
from diffhmr.random import item_seeds


def random_motion(frames: int = 7, fps: float = 30.0, seed: int = 0) -> Motion:
    rng = np.random.default_rng(seed)
    rotations = Rotation.from_rotvec(rng.normal(0, 0.5, (frames * 24, 3))).as_matrix().reshape(frames, 24, 3, 3)
    return Motion(rotations, rng.normal(0, 1, (frames, 3)), fps, "random")


def turning(frames: int, fps: float, rate: float) -> Motion:
    """Every joint turns about y at ``rate`` radians per second; the pelvis is at t, t squared, t to the third."""
    time = np.arange(frames) / fps
    turn = Rotation.from_rotvec(rate * time[:, None] * [0.0, 1.0, 0.0]).as_matrix()
    return Motion(np.repeat(turn[:, None], 24, axis=1), np.stack([time, time**2, time**3], axis=1), fps)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rotations": np.zeros((2, 23, 3, 3))}, "shape"),
        ({"position": np.zeros((3, 3))}, "shape"),
        ({"rotations": np.zeros((0, 24, 3, 3)), "position": np.zeros((0, 3))}, "shape"),
        ({"rotations": np.zeros((2, 24, 3, 3))}, "not rotations"),
        ({"rotations": np.tile(-np.eye(3), (2, 24, 1, 1))}, "not rotations"),
        ({"position": np.full((2, 3), np.nan)}, "finite"),
        ({"fps": 0.0}, "frames per second"),
    ],
)
def test_impossible_motions_are_refused(change: dict, message: str) -> None:
    good = {"rotations": np.tile(np.eye(3), (2, 24, 1, 1)), "position": np.zeros((2, 3)), "fps": 30.0}
    Motion(**good)
    with pytest.raises(ValueError, match=message):
        Motion(**{**good, **change})


def test_kinematics_equal_those_of_the_body(free_body: BodyModel) -> None:
    motion = random_motion()
    rest = free_body.rest_joints.view(24, 3).double().numpy()
    params = SmplParams.from_rotations(torch.from_numpy(motion.rotations).float(), torch.zeros(len(motion), 10))
    expected = free_body.joints(params, SMPL24).numpy() - rest[0] + motion.position[:, None]
    np.testing.assert_allclose(motion.joints(rest), expected, atol=1e-5)


@pytest.mark.parametrize("fps", [24.0, 60.0, 120.0])
def test_resampling_constant_turns_and_cubic_paths_is_exact(fps: float) -> None:
    motion = turning(31, 30.0, 2.0).resample(fps)
    expected = turning(int(fps) + 1, fps, 2.0)
    assert motion.fps == fps and len(motion) == len(expected)
    np.testing.assert_allclose(motion.rotations, expected.rotations, atol=1e-9)
    np.testing.assert_allclose(motion.position, expected.position, atol=1e-9)


def test_resampling_does_not_extrapolate_and_keeps_short_motions() -> None:
    motion = turning(8, 30.0, 1.0).resample(20.0)
    assert len(motion) == 5 and motion.seconds <= turning(8, 30.0, 1.0).seconds
    for frames in (1, 2, 3):
        short = turning(frames, 30.0, 1.0).resample(60.0)
        assert len(short) == 2 * frames - 1 and short.fps == 60.0


def test_the_mirror_image_has_mirrored_joints(free_body: BodyModel) -> None:
    rest = free_body.rest_joints.view(24, 3).double().numpy()
    symmetric = (rest + rest[list(SMPL24.flip)] * [-1, 1, 1]) / 2
    motion = random_motion()
    expected = motion.joints(symmetric)[:, list(SMPL24.flip)] * [-1, 1, 1]
    np.testing.assert_allclose(motion.mirror().joints(symmetric), expected, atol=1e-12)
    np.testing.assert_allclose(motion.mirror().mirror().rotations, motion.rotations, atol=1e-12)


def test_slices_keep_rate_and_name() -> None:
    motion = random_motion()
    part = motion.slice(2, 5)
    assert len(part) == 3 and part.fps == motion.fps and part.name == motion.name
    np.testing.assert_array_equal(part.position, motion.position[2:5])


def test_files_return_the_motion(tmp_path: Path) -> None:
    motion = random_motion()
    for rest in (None, np.array([0.1, -0.2, 0.3])):
        again = load_motion(motion.save(tmp_path / "random.npz", rest))
        assert (again.fps, again.name) == (motion.fps, "random")
        np.testing.assert_allclose(again.rotations, motion.rotations, atol=1e-12)
        np.testing.assert_allclose(again.position, motion.position, atol=1e-12)


def test_files_have_z_up_and_serve_as_pose_archive(tmp_path: Path) -> None:
    rotations = np.tile(np.eye(3), (1, 24, 1, 1))
    standing = Motion(rotations, np.array([[1.0, 0.9, 2.0]]), 10.0)
    with np.load(standing.save(tmp_path / "standing.npz")) as content:
        np.testing.assert_allclose(content["trans"], [[1.0, -2.0, 0.9]])
        np.testing.assert_allclose(content["poses"][0, :3], [np.pi / 2, 0, 0], atol=1e-12)
        assert not np.abs(content["poses"][0, 3:]).any()
    poses = MotionArchive(tmp_path)(item_seeds(0, "train", range(2)))
    np.testing.assert_allclose(poses, np.repeat(rotations, 2, axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"poses": None}, "no motion"),
        ({"poses": np.zeros((2, 63))}, "shape"),
        ({"poses": np.full((2, 72), np.nan)}, "finite"),
        ({"trans": np.zeros((3, 3))}, "trans"),
        ({"mocap_framerate": None}, "frame rate"),
        ({"mocap_framerate": np.array(-1.0)}, "frame rate"),
        ({"mocap_framerate": np.array(1e-9)}, "frame rate of 1e-09, expected 1 to 1000"),
        ({"mocap_framerate": np.array(1e9)}, "frame rate"),
        ({"mocap_framerate": np.array(np.nan)}, "frame rate"),
        ({"poses": np.full((2, 72), 1e30)}, r"poses of up to 1e\+30"),
        ({"trans": np.full((2, 3), -1e30)}, r"trans of up to 1e\+30"),
        ({"trans": np.full((2, 3), np.inf)}, "trans that are not finite"),
        ({"rest_pelvis": np.zeros((2, 3))}, r"rest_pelvis of shape \(2, 3\)"),
        ({"rest_pelvis": np.array(["a", "b", "c"])}, "rest_pelvis of shape"),
        ({"rest_pelvis": np.full(3, np.nan)}, "rest_pelvis that are not finite"),
        ({"rest_pelvis": np.full(3, 99.0)}, "rest_pelvis of up to 99"),
        ({"mocap_framerate": np.array("fast")}, "no number"),
        ({"poses": np.array([None, {}], dtype=object)}, "cannot read"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, change: dict, message: str) -> None:
    fields = {"poses": np.zeros((2, 72)), "trans": np.zeros((2, 3)), "mocap_framerate": np.array(30.0), **change}
    file = tmp_path / "bad.npz"
    np.savez(file, **{name: value for name, value in fields.items() if value is not None})
    with pytest.raises(UserError, match=message) as raised:
        load_motion(file)
    assert str(file) in str(raised.value) and "\n" not in str(raised.value)


def test_damaged_zips_are_named(tmp_path: Path) -> None:
    """Broken compressed data, which fails in zlib before a checksum can tell."""
    file = random_motion(60).save(tmp_path / "torn.npz")
    whole = file.read_bytes()
    messages = set()
    for start in range(100, len(whole) * 4 // 5, 997):  # within the poses
        file.write_bytes(whole[:start] + b"\xff" * 40 + whole[start + 40 :])
        with pytest.raises(UserError, match=r"torn\.npz") as raised:
            load_motion(file)
        assert "\n" not in str(raised.value)
        messages.add(type(raised.value.__cause__).__name__)
    assert "error" in messages  # zlib.error
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"torn\.npz"):
        load_motion(file)


def test_what_is_no_npz_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("not a file of numbers")
    np.save(tmp_path / "array.npy", np.zeros(3))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    for name in ("text.npz", "array.npz", "missing.npz"):
        with pytest.raises(UserError, match=name):
            load_motion(tmp_path / name)
    with pytest.raises(UserError, match="npz"):
        random_motion().save(tmp_path / "motion.bvh")
