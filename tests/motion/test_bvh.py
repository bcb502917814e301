"""BVH: hand-computed chains, what exporters do, damaged files, and files of our own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from diffhmr.body.joints import SMPL24
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.errors import UserError
from diffhmr.motion.bvh import read_bvh, write_bvh
from diffhmr.motion.procedural import sample_motion
from diffhmr.motion.rest_body import RestBody
from diffhmr.motion.retarget import retarget
from tests.motion.rigs import squats
from tests.motion.test_sequence import random_motion

CHAIN = """HIERARCHY
ROOT Hip
{
  OFFSET 5 6 7
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Knee
  {
    OFFSET 0 -2 0
    CHANNELS 3 Xrotation Yrotation Zrotation
    End Site
    {
      OFFSET 0 -1 0
    }
  }
}
MOTION
Frames: 2
Frame Time: 0.0333333
1 2 3 90 0 0 0 0 0
0 0 0 0 90 90 90 0 0
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "take.bvh"
    path.write_bytes(text.encode())
    return path


def end_of(path: Path) -> np.ndarray:
    """Where the knee's bone of CHAIN ends, per frame."""
    recording = read_bvh(path)
    turns, points = recording.world()
    return points[:, 1] + turns[:, 1] @ recording.ends[1]


def test_a_chain_is_where_the_hand_computed_one_is(tmp_path: Path) -> None:
    recording = read_bvh(write(tmp_path, CHAIN))
    assert recording.joint_names == ("Hip", "Knee") and recording.parents == (-1, 0)
    assert recording.fps == 30 and recording.name == "take" and len(recording) == 2
    points = recording.world()[1]
    # Frame 0: the root's position channels replace its offset; 90 degrees about z take (0, -2, 0) to (2, 0, 0).
    np.testing.assert_allclose(points[0], [[1, 2, 3], [3, 2, 3]], atol=1e-12)
    # Frame 1, Rx(90) Ry(90): Ry leaves (0, -2, 0), Rx takes it to (0, 0, -2). The knee adds Rx(90) on the right:
    # Rx Ry Rx (0, -1, 0) = Rx Ry (0, 0, -1) = Rx (-1, 0, 0) = (-1, 0, 0).
    np.testing.assert_allclose(points[1], [[0, 0, 0], [0, 0, -2]], atol=1e-12)
    np.testing.assert_allclose(end_of(write(tmp_path, CHAIN)), [[4, 2, 3], [-1, 0, -2]], atol=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("  ", "\t"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("rotation", "ROTATION").replace("ROOT", "Root").replace("End Site", "END SITE"),
        lambda text: text.replace("ROOT Hip\n{", "ROOT Hip {"),
        lambda text: text.replace("Frames: 2", "Frames:\t2  ").replace("Frame Time: 0.0333333", "Frame Time:\t.033333"),
        lambda text: text.replace("1 2 3 90 0 0 0 0 0", "1 2 3 90 0\n0 0 0 0\n").rstrip(),
        lambda text: text.replace("1 2 3", "1.0e0 +2 3."),
    ],
)
def test_what_exporters_do_differently_changes_nothing(tmp_path: Path, change: Callable[[str], str]) -> None:
    changed = change(CHAIN)
    assert changed != CHAIN
    np.testing.assert_allclose(end_of(write(tmp_path, changed)), [[4, 2, 3], [-1, 0, -2]], atol=1e-12)
    assert read_bvh(write(tmp_path, changed)).fps == 30


def test_channel_orders_are_products_in_their_order(tmp_path: Path) -> None:
    turned = CHAIN.replace("Zrotation Xrotation Yrotation", "Yrotation Zrotation Xrotation")
    # The same numbers are now Ry(0) Rz(90) Rx(90) in frame 1: Rx takes (0, -2, 0) to (0, 0, -2), Rz leaves it.
    # (0, -1, 0) under Rz Rx Rx: (0, 1, 0), then (-1, 0, 0).
    np.testing.assert_allclose(end_of(write(tmp_path, turned))[1], [-1, 0, -2], atol=1e-12)
    np.testing.assert_allclose(read_bvh(write(tmp_path, turned)).world()[1][0, 1], [1, 0, 3], atol=1e-12)


def test_position_channels_below_the_root_move_a_joint_unless_they_are_empty(tmp_path: Path) -> None:
    six = CHAIN.replace("CHANNELS 3 Xrotation", "CHANNELS 6 Xposition Yposition Zposition Xrotation")
    moved = six.replace("90 0 0 0 0 0", "90 0 0 0 -3 0 0 0 0").replace("0 90 90 90 0 0", "0 90 90 0 -2 0 90 0 0")
    np.testing.assert_allclose(end_of(write(tmp_path, moved)), [[5, 2, 3], [-1, 0, -2]], atol=1e-12)
    empty = six.replace("90 0 0 0 0 0", "90 0 0 0 0 0 0 0 0").replace("0 90 90 90 0 0", "0 90 90 0 0 0 90 0 0")
    np.testing.assert_allclose(end_of(write(tmp_path, empty)), [[4, 2, 3], [-1, 0, -2]], atol=1e-12)


def test_joints_without_channels_and_names_with_blanks(tmp_path: Path) -> None:
    stiff = CHAIN.replace("JOINT Knee", "JOINT Bip01 L Calf").replace(
        "CHANNELS 3 Xrotation Yrotation Zrotation\n", "\n"
    )
    stiff = stiff.replace("90 0 0 0 0 0", "90 0 0").replace("0 90 90 90 0 0", "0 90 90")
    recording = read_bvh(write(tmp_path, stiff))
    assert recording.joint_names[1] == "Bip01 L Calf"
    np.testing.assert_array_equal(recording.rotations[:, 1], np.tile(np.eye(3), (2, 1, 1)))


@pytest.mark.parametrize(
    ("frame_time", "fps"),
    [("0.0333333", 30), ("0.0333", 30), ("0.008333", 120), ("0.0083333333", 120), ("0.0416667", 24), ("0.04", 25),
     ("0.033367", 1 / 0.033367), ("3.33333e-02", 30), ("0.0111111", 90),
     ("0.033333335", 30)],
)  # fmt: skip
def test_frame_times_are_unrounded(tmp_path: Path, frame_time: str, fps: float) -> None:
    assert read_bvh(write(tmp_path, CHAIN.replace("0.0333333", frame_time))).fps == fps


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Frames: 2", "Frames: 3", "announces 3 frames of 9 channels but holds 18"),
        ("0 0 0 0 90 90 90 0 0\n", "0 0 0 0 90", "14 values"),
        ("0 0 0 0 90 90 90 0 0", "0 0 0 0 90 90,5 90 0 0", "'90,5'"),
        ("0 0 0 0 90 90 90 0 0", "0 0 0 0 nan 90 90 0 0", "not finite"),
        ("0 0 0 0 90 90 90 0 0", "0 0 0 0 1e300 90 90 0 0", "absurdly large"),
        ("Frame Time: 0.0333333", "Frame Time: 0", "frame time"),
        ("Frame Time: 0.0333333", "Frame Time: 1e9", "frame time of '1e9', expected 0.001 to 1 seconds"),
        ("Frame Time: 0.0333333", "Frame Time: 33.3333", "frame time"),
        ("Frame Time: 0.0333333", "Frame Time: 1e-9", "frame time"),
        ("Frame Time: 0.0333333", "Frame Time: -0.0333", "frame time"),
        ("Frame Time: 0.0333333", "Frame Time: nan", "frame time"),
        ("Frame Time: 0.0333333", "Frame Time: inf", "frame time"),
        ("Frame Time: 0.0333333", "Frame Time: fast", "frame time"),
        ("Frame Time: 0.0333333\n", "", "Frame Time"),
        ("Frames: 2", "Frames: two", "'two'"),
        ("MOTION", "", "MOTION"),
        ("HIERARCHY", "", "HIERARCHY"),
        ("OFFSET 0 -2 0", "OFFSET 0 -2", "OFFSET"),
        ("OFFSET 0 -2 0", "OFFSET 0 -2e300 0", "OFFSET"),
        ("CHANNELS 3 Xrotation", "CHANNELS 3 Wrotation", "CHANNELS"),
        ("CHANNELS 3 Xrotation", "CHANNELS 2 Xrotation", "CHANNELS"),
        ("}\nMOTION", "MOTION", "incomplete"),
        ("}\nMOTION", "}\n}\nMOTION", "more braces"),
        ("}\nMOTION", "}\nROOT Other\n{\nOFFSET 0 0 0\n}\nMOTION", "second skeleton"),
        ("JOINT Knee", "KNEE Knee", "does not know"),
    ],
)
def test_damaged_files_get_one_clear_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert CHAIN.count(old) >= 1
    path = write(tmp_path, CHAIN.replace(old, new))
    with pytest.raises(UserError) as raised:
        read_bvh(path)
    assert message in str(raised.value) and str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_written_files_have_the_joints_of_the_motion(tmp_path: Path, rest: RestBody) -> None:
    motion = random_motion(frames=9, fps=25.0)
    recording = read_bvh(write_bvh(tmp_path / "own.bvh", motion, rest.joints, scale=100.0))
    assert recording.fps == 25 and recording.joint_names[0] == "pelvis"
    points = recording.world()[1] / 100
    order = [recording.joint_names.index(name) for name in SMPL24.joint_names]
    assert np.abs(points[:, order] - motion.joints(rest.joints)).max() < 1e-5
    assert set(recording.ends) == {recording.joint_names.index(name) for name in (
        "head", "left_hand", "right_hand", "left_foot", "right_foot")}  # fmt: skip
    with pytest.raises(UserError, match="bvh"):
        write_bvh(tmp_path / "own.txt", motion, rest.joints)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_a_shaped_body_keeps_its_bones_and_stands_upright(tmp_path: Path, free_body: BodyModel, scale: float) -> None:
    betas = torch.tensor([2.0, -1.5, 1.0, 0.5, 0.0, -0.5, 1.0, 0.0, 0.0, 1.0])
    shaped = free_body(SmplParams.from_rotations(torch.eye(3).expand(24, 3, 3), betas)).joints.double().numpy()
    mean = free_body.rest_joints.view(24, 3).double().numpy()
    assert np.abs((shaped - shaped[0]) - (mean - mean[0])).max() > 0.02, "another body"
    motion = sample_motion(3, 60, 30.0)
    params = SmplParams.from_rotations(
        torch.from_numpy(motion.rotations).float(),
        betas.expand(60, -1),
        torch.from_numpy(motion.position - shaped[0]).float(),
    )
    recording = read_bvh(write_bvh(tmp_path / "shaped.bvh", motion, shaped, scale))
    order = [recording.joint_names.index(name) for name in SMPL24.joint_names]
    points = recording.world()[1][:, order] / scale
    assert np.abs(points - free_body.joints(params, SMPL24).numpy()).max() < 1e-4
    head, feet = (SMPL24.joint_names.index(name) for name in ("head", "left_foot"))
    assert (points[:, head, 1] > points[:, feet, 1] + 0.8).mean() > 0.9
    zero = recording.zero_pose().world()[1][0, order] / scale
    assert zero[head, 1] - zero[feet, 1] > 1.2, "the T-pose stands, too"


def test_written_angles_do_not_jump(tmp_path: Path, rest: RestBody) -> None:
    """Programs interpolate angle by angle: no angle may go from 180 to -180 while a joint turns round and round."""
    motion = squats(rest)
    spin = np.linspace(0, 4 * np.pi, len(motion))
    rotations = motion.rotations.copy()
    rotations[:, 0] = Rotation.from_rotvec(spin[:, None] * [0.0, 1.0, 0.0]).as_matrix()
    motion = replace(motion, rotations=rotations)
    text = write_bvh(tmp_path / "spin.bvh", motion, rest.joints).read_text()
    rows = np.array([line.split() for line in text.splitlines()[-len(motion) :]], dtype=float)
    assert np.abs(np.diff(rows[:, 3:], axis=0)).max() < 40


def test_a_written_file_comes_back_as_the_motion(tmp_path: Path, rest: RestBody) -> None:
    motion = squats(rest)
    result = retarget(read_bvh(write_bvh(tmp_path / "squats.bvh", motion, rest.joints)), rest)
    assert result.rest_pose == "SMPL's own joints"
    np.testing.assert_allclose(result.motion.rotations, motion.rotations, atol=1e-5)
    np.testing.assert_allclose(result.motion.position, motion.position, atol=1e-3)
