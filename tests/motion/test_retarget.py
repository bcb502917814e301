"""Known motions, recorded by foreign rigs, come back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from diffhmr.errors import UserError
from diffhmr.motion.acclaim import read_acclaim
from diffhmr.motion.amass_layout import Z_UP_TO_Y_UP
from diffhmr.motion.joint_names import map_joints
from diffhmr.motion.rest_body import RestBody
from diffhmr.motion.rest_pose import align
from diffhmr.motion.retarget import LIMB_BONES, retarget
from diffhmr.motion.sequence import Motion
from diffhmr.motion.skeleton import Recording
from tests.motion.rigs import INDEX, MIXAMO, a_pose, bones_along_x, rig, squats, turn, write_acclaim

RIGS = {"T-pose": {}, "A-pose": a_pose(), "bones along x": bones_along_x()}
READ_FROM = {"T-pose": "zero pose", "A-pose": "zero pose", "bones along x": "bones and hinges"}
LIMBS = tuple(near for near, _ in LIMB_BONES)


def degrees(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Angles between rotations ``[..., 3, 3]``."""
    return np.rad2deg(Rotation.from_matrix((first.swapaxes(-1, -2) @ second).reshape(-1, 3, 3)).magnitude())


def differences(motion: Motion, truth: Motion, *names: str) -> float:
    """Largest angle in the world between joints of two motions."""
    joints = [INDEX[name] for name in names]
    return float(degrees(motion.global_rotations()[:, joints], truth.global_rotations()[:, joints]).max())


@pytest.mark.parametrize("kind", RIGS)
def test_every_rig_gives_the_motion_back(rest: RestBody, kind: str) -> None:
    truth = squats(rest)
    result = retarget(rig(truth, rest, RIGS[kind]), rest)
    motion = result.motion
    assert result.rest_pose == READ_FROM[kind] and result.limb_degrees < 1e-4 and result.trunk_degrees < 0.1
    assert abs(result.scale - 1) < 1e-9 and motion.fps == truth.fps and motion.name == truth.name
    # Bones and their turns about themselves. Without a rest pose the elbow's axis is set to the rig's: it is exact
    # here but for the few degrees by which SMPL's bones lie off the axes.
    assert differences(motion, truth, "pelvis", *LIMBS) < (0.2 if kind != "bones along x" else 6.0)
    assert differences(motion, truth, "spine3", "neck", "head") < (0.5 if kind != "bones along x" else 3.0)
    assert differences(motion, truth, "left_wrist", "right_wrist") < (0.2 if kind != "bones along x" else 6.0)
    assert differences(motion, truth, "left_ankle", "right_ankle", "left_foot", "right_foot") < 3.0
    assert np.abs(motion.joints(rest.joints) - truth.joints(rest.joints)).max() < 0.03
    assert np.abs(rest.lowest(motion)).max() < 0.01


def test_the_limbs_of_another_body_point_the_same_way(rest: RestBody) -> None:
    """A recorded person with other proportions: directions stay, the path is scaled by the length of the legs."""
    stretched = rest.joints.copy()
    for name, share in (("knee", 1.2), ("ankle", 1.3), ("elbow", 0.8)):
        for side in ("left", "right"):
            below = ("ankle", "foot") if name == "knee" else ("foot",) if name == "ankle" else ("wrist", "hand")
            above = {"knee": "hip", "ankle": "knee", "elbow": "shoulder"}[name]
            way = rest.between(f"{side}_{above}", f"{side}_{name}") * (share - 1)
            stretched[[INDEX[f"{side}_{part}"] for part in (name, *below)]] += way
    other = replace(rest, joints=stretched)
    truth = squats(rest)
    result = retarget(rig(replace(truth, position=truth.position * 1.25), other, a_pose()), rest)
    assert result.limb_degrees < 1e-4 and result.trunk_degrees < 0.1
    assert result.scale == pytest.approx(rest.leg_length() / other.leg_length(), rel=1e-9)
    travelled = np.ptp(result.motion.position[:, 2]) / np.ptp(truth.position[:, 2] * 1.25)
    assert travelled == pytest.approx(result.scale, rel=0.05)


def test_sides_and_heading(rest: RestBody) -> None:
    """One raised arm: the recording's left is the motion's left, and the walk goes where the person faces."""
    truth = squats(rest, frames=30).slice(0, 10)
    rotations = truth.rotations.copy()
    rotations[:, INDEX["left_shoulder"]] = turn("z", 60)
    rotations[:, 0] = turn("y", 90) @ rotations[:, 0]
    truth = replace(truth, rotations=rotations, position=truth.position + np.linspace(0, 1, 10)[:, None] * [1, 0, 0])
    motion = retarget(rig(truth, rest, {}), rest).motion
    joints = motion.joints(rest.joints)
    assert (joints[:, INDEX["left_wrist"], 1] > joints[:, INDEX["head"], 1]).all()
    assert (joints[:, INDEX["right_wrist"], 1] < joints[:, INDEX["spine3"], 1]).all()
    np.testing.assert_allclose(motion.rotations[:, 0, :, 2], np.tile([1.0, 0.0, 0.0], (10, 1)), atol=1e-5)
    np.testing.assert_allclose(motion.position[-1] - motion.position[0], [1, 0, 0], atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_units_and_z_up_change_nothing(rest: RestBody, scale: float) -> None:
    truth = squats(rest)
    recording = rig(truth, rest, a_pose())
    plain = retarget(recording, rest)
    turned = recording.turned(Z_UP_TO_Y_UP.T)
    turned = replace(turned, translations=turned.translations * scale, offsets=turned.offsets * scale)
    result = retarget(turned, rest)
    np.testing.assert_allclose(result.motion.rotations, plain.motion.rotations, atol=1e-6)
    np.testing.assert_allclose(result.motion.position, plain.motion.position, atol=1e-6)
    assert result.scale == pytest.approx(1 / scale)
    # Somebody who lies along z is not taken for a world with z up when told otherwise.
    lying = retarget(turned, rest, up="y").motion
    assert abs(lying.global_rotations()[0, 0, 1, 1]) < 0.2


def test_any_number_of_spine_joints(rest: RestBody) -> None:
    truth = squats(rest)
    for left_out in (("spine1",), ("spine1", "spine2"), ("neck",)):
        names = {smpl: name for smpl, name in MIXAMO.items() if smpl not in left_out}
        result = retarget(rig(truth, rest, {}, names), rest)
        assert result.limb_degrees < 1e-4 and result.trunk_degrees < 0.1
        assert differences(result.motion, truth, "pelvis", *LIMBS) < 0.01
        assert differences(result.motion, truth, "head") < 6.0


@pytest.mark.parametrize("kind", ["A-pose", "bones along x"])
def test_smpls_names_on_another_rig_are_no_smpl(rest: RestBody, kind: str) -> None:
    """All 24 names in SMPL's tree, but a zero pose of its own: rotations cannot be taken over, hands have no frame."""
    truth = squats(rest)
    recording = rig(truth, rest, RIGS[kind], {name: name for name in INDEX})
    assert map_joints(recording).is_smpl
    result = retarget(recording, rest)
    assert result.rest_pose == READ_FROM[kind] and result.limb_degrees < 1e-4 and result.trunk_degrees < 0.1
    assert differences(result.motion, truth, "pelvis", *LIMBS) < (0.2 if kind == "A-pose" else 6.0)
    hands = [[INDEX[f"{side}_{part}"] for side in ("left", "right")] for part in ("wrist", "hand")]
    bones = result.motion.global_rotations()
    np.testing.assert_allclose(bones[:, hands[1]], bones[:, hands[0]], atol=1e-12)  # straight


def test_limbs_without_collars_or_toes(rest: RestBody) -> None:
    truth = squats(rest)
    left_out = ("left_collar", "right_collar", "left_foot", "right_foot", "head", "neck")
    names = {smpl: name for smpl, name in MIXAMO.items() if smpl not in left_out}
    for kind, axes in RIGS.items():
        result = retarget(rig(truth, rest, axes, names), rest)
        assert result.limb_degrees < 1e-4, kind
        assert differences(result.motion, truth, *LIMBS) < (1.0 if kind != "bones along x" else 8.0), kind


def test_the_first_frame_can_be_the_rest_pose(rest: RestBody) -> None:
    """A rig whose zero pose is no pose, but which begins in a T-pose."""
    truth = squats(rest)
    start = Motion(np.tile(np.eye(3), (1, 24, 1, 1)), truth.position[:1], truth.fps)
    with_start = Motion(
        np.concatenate([start.rotations, truth.rotations]), np.concatenate([start.position, truth.position]), truth.fps
    )
    result = retarget(rig(with_start, rest, bones_along_x()), rest)
    assert result.rest_pose == "first frame"
    assert differences(result.motion, with_start, "pelvis", "head", *LIMBS) < 0.5


def test_a_rig_is_read_alike_from_different_movements(rest: RestBody) -> None:
    """Hinges that are estimated from a movement must not depend on it, where a rig has its joints' axes along them."""
    first = rig(squats(rest), rest, bones_along_x())
    other = squats(rest, frames=90)
    rotations = other.rotations.copy()
    rotations[:, INDEX["left_shoulder"]] = turn("y", -40) @ rotations[:, INDEX["left_shoulder"]]
    rotations[:, INDEX["head"]] = turn("y", 50)
    second = rig(replace(other, rotations=rotations), rest, bones_along_x())
    frames = [align(recording, map_joints(recording), rest).frames for recording in (first, second)]
    feet = {map_joints(first).joints[f"{side}_{part}"] for side in ("left", "right") for part in ("ankle", "foot")}
    for joint in frames[0]:
        limit = 3.0 if joint in feet else 0.5
        assert degrees(frames[0][joint][None], frames[1][joint][None])[0] < limit, first.joint_names[joint]


def test_exchanged_sides_are_noticed(rest: RestBody) -> None:
    truth = squats(rest)
    mirrored = {smpl: name.replace("Left", "@").replace("Right", "Left").replace("@", "Right")
                for smpl, name in MIXAMO.items()}  # fmt: skip
    with pytest.raises(UserError, match="toes point backwards"):
        retarget(rig(truth, rest, {}, mirrored), rest)


def test_limbs_without_length_are_refused(rest: RestBody) -> None:
    recording = rig(squats(rest), rest, {})
    knee = recording.joint_names.index("mixamorig:LeftLeg")
    translations = recording.translations.copy()
    translations[:, knee] = 0
    with pytest.raises(UserError, match="same place"):
        retarget(replace(recording, translations=translations), rest)


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_absurd_sizes_are_refused(rest: RestBody, scale: float) -> None:
    recording = rig(squats(rest), rest, {})
    absurd = replace(recording, translations=recording.translations * scale, offsets=recording.offsets * scale)
    with pytest.raises(UserError, match="a unit would be"):
        retarget(absurd, rest)


def test_one_frame_is_enough(rest: RestBody) -> None:
    for axes in RIGS.values():
        recording = rig(squats(rest).slice(40, 41), rest, axes)
        assert retarget(recording, rest).limb_degrees < 1e-4


def test_a_cmu_skeleton_stands_and_bends_its_knee(tmp_path: Path, rest: RestBody) -> None:
    result = retarget(read_acclaim(write_acclaim(tmp_path, rest, [0.0, 40.0, 80.0], [0.0, 0.0, 0.0])), rest)
    assert result.rest_pose == "zero pose" and result.limb_degrees < 1e-4
    assert result.scale == pytest.approx(1)
    knee = result.motion.rotations[:, INDEX["left_knee"]]
    np.testing.assert_allclose(knee, np.stack([turn("x", angle) for angle in (0, 40, 80)]), atol=1e-6)
    others = [k for k in range(24) if k not in (INDEX["left_knee"], INDEX["left_ankle"])]
    assert degrees(result.motion.rotations[:, others], np.eye(3)).max() < 3


def test_twist_joints_share_their_turn_with_the_bone(rest: RestBody) -> None:
    """A forearm whose lower half turns by 60 degrees: SMPL's, which has one joint there, turns by half of it."""
    recording = rig(squats(rest), rest, {})
    names, parents = list(recording.joint_names), list(recording.parents)
    elbow, hand = (names.index(f"mixamorig:Left{part}") for part in ("ForeArm", "Hand"))
    # The new joint stands at the end of the list, so it needs to come before the hand: the hand moves there too.
    order = [k for k in range(len(names)) if k != hand]
    half = recording.offsets[hand] / 2
    roll = np.asarray(Rotation.from_rotvec(np.deg2rad(60) * half / np.linalg.norm(half)).as_matrix())

    def arranged(values: np.ndarray, twist: np.ndarray, last: np.ndarray) -> np.ndarray:
        axis = values.ndim - (3 if values.shape[-2:] == (3, 3) else 2)
        return np.concatenate([np.take(values, order, axis=axis), twist, last], axis=axis)

    frames = len(recording)
    last = roll.T @ recording.rotations[:, [hand]]
    twisted = Recording(
        (*(names[k] for k in order), "mixamorig:LeftForeArmRoll", names[hand]),
        (*(order.index(parents[k]) if parents[k] >= 0 else -1 for k in order), order.index(elbow), len(order)),
        np.concatenate([recording.offsets[order], half[None], half[None]]),
        arranged(recording.rotations, np.tile(roll, (frames, 1, 1, 1)), last),
        arranged(recording.translations, np.tile(half, (frames, 1, 1)), np.tile(half, (frames, 1, 1))),
        recording.fps,
        recording.name,
    )
    plain, result = retarget(recording, rest), retarget(twisted, rest)
    turned = degrees(
        plain.motion.global_rotations()[:, INDEX["left_elbow"]],
        result.motion.global_rotations()[:, INDEX["left_elbow"]],
    )
    np.testing.assert_allclose(turned, 30, atol=0.1)
    assert differences(result.motion, plain.motion, "left_wrist", "right_elbow") < 0.1
