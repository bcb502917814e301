"""Signs are tested on stick figures: x to the person's left, y up, z to the front."""

from __future__ import annotations

import numpy as np
import pytest

from diffhmr.body import anatomy
from diffhmr.body.anatomy import DOFS, INDEX, REST, Floats
from diffhmr.body.base_poses import ARMS, STANCES, SYNERGIES, Angles, Posture
from diffhmr.datasets.poses import (
    BROAD_SHARE,
    _base_angles,
    _broad_angles,
    _collides,
    posture_angles,
    sample_angles,
    sample_poses,
)
from diffhmr.random import item_seeds

PELVIS, LEFT_HIP, RIGHT_HIP, LEFT_KNEE, RIGHT_KNEE, LEFT_ANKLE, RIGHT_ANKLE = 0, 1, 2, 4, 5, 7, 8
CHEST, LEFT_FOOT, HEAD, LEFT_SHOULDER, RIGHT_SHOULDER = 9, 10, 15, 16, 17
LEFT_ELBOW, RIGHT_ELBOW, LEFT_WRIST, RIGHT_WRIST, LEFT_HAND = 18, 19, 20, 21, 22
X, Y, Z = 0, 1, 2
SEEDS = item_seeds(1, "train", np.arange(3000))


def figure(angles: Angles) -> Floats:
    """Joints ``[24, 3]`` of a person standing at ease but for ``angles`` (degrees)."""
    return joints_of(posture_angles(Posture("", 1, angles)))


def joints_of(angles: Floats) -> Floats:
    return anatomy.stick_joints(anatomy.rotations_from_angles(angles[None]))[0]


def named(name: str) -> Floats:
    (posture,) = [p for p in (*STANCES, *ARMS) if p.name == name]
    return joints_of(posture_angles(posture))


def test_t_pose_is_the_rest_pose() -> None:
    angles = np.zeros(len(DOFS))
    for side in "lr":
        angles[INDEX[f"{side}_elevation"]] = np.pi / 2
    identity = np.tile(np.eye(3), (24, 1, 1))
    np.testing.assert_allclose(anatomy.rotations_from_angles(angles[None])[0], identity, atol=1e-12)
    np.testing.assert_allclose(joints_of(angles), REST, atol=1e-12)


@pytest.mark.parametrize(
    ("angles", "joint", "reference", "axis", "sign"),
    [
        ({}, LEFT_WRIST, LEFT_SHOULDER, Y, -1),
        ({"root_pitch": 40}, HEAD, PELVIS, Z, 1),
        ({"root_roll": 30}, HEAD, PELVIS, X, 1),
        ({"bend": 40}, HEAD, PELVIS, Z, 1),
        ({"side": 30}, HEAD, PELVIS, X, 1),
        ({"twist": 40}, LEFT_SHOULDER, PELVIS, Z, -1),
        ({"nod": 50}, HEAD, CHEST, Z, 1),
        ({"hip_flex": 60}, LEFT_KNEE, LEFT_HIP, Z, 1),
        ({"hip_flex": -25}, RIGHT_KNEE, RIGHT_HIP, Z, -1),
        ({"hip_abd": 40}, LEFT_KNEE, LEFT_HIP, X, 1),
        ({"hip_abd": 40}, RIGHT_KNEE, RIGHT_HIP, X, -1),
        ({"knee": 80}, LEFT_ANKLE, LEFT_KNEE, Z, -1),
        ({"knee": 80}, RIGHT_ANKLE, RIGHT_KNEE, Z, -1),
        ({"hip_flex": 90, "knee": 90, "hip_rot": -50}, LEFT_ANKLE, LEFT_KNEE, X, -1),
        ({"hip_flex": 90, "knee": 90, "hip_rot": -50}, RIGHT_ANKLE, RIGHT_KNEE, X, 1),
        ({"elbow": 90}, LEFT_WRIST, LEFT_ELBOW, Z, 1),
        ({"elbow": 90}, RIGHT_WRIST, RIGHT_ELBOW, Z, 1),
        ({"elbow": 90, "axial": 80}, LEFT_WRIST, LEFT_ELBOW, X, -1),
        ({"elbow": 90, "axial": 80}, RIGHT_WRIST, RIGHT_ELBOW, X, 1),
        ({"elevation": 90, "plane": 0, "axial": -90, "elbow": 90}, LEFT_WRIST, LEFT_ELBOW, Y, 1),
        ({"elevation": 90, "plane": 0}, LEFT_WRIST, LEFT_SHOULDER, X, 1),
        ({"elevation": 90, "plane": 90}, RIGHT_WRIST, RIGHT_SHOULDER, Z, 1),
        ({"elevation": 170}, LEFT_WRIST, HEAD, Y, 1),
        ({"elevation": -40, "plane": 80}, LEFT_WRIST, LEFT_SHOULDER, Z, -1),
        ({"wrist_flex": 60}, LEFT_HAND, LEFT_WRIST, X, -1),
        ({"shrug": 25}, LEFT_SHOULDER, CHEST, Y, 1),
    ],
)
def test_angles_move_joints_the_right_way(angles: Angles, joint: int, reference: int, axis: int, sign: int) -> None:
    offset = figure(angles)[joint] - figure(angles)[reference]
    assert sign * offset[axis] > 0.05


def test_toes_up_is_positive() -> None:
    def rise(ankle: float) -> float:
        joints = figure({"ankle": ankle})
        return float(joints[LEFT_FOOT, Y] - joints[LEFT_ANKLE, Y])

    assert rise(25) > rise(0) > rise(-25)


def test_a_hanging_arm_hangs_and_a_flexed_knee_keeps_its_length() -> None:
    hanging = figure({"elevation": 0, "elbow": 0, "bend": 0})
    np.testing.assert_allclose((hanging[LEFT_WRIST] - hanging[LEFT_SHOULDER])[[X, Z]], 0, atol=1e-3)
    bent = figure({"knee": 100})
    length = np.linalg.norm(bent[LEFT_ANKLE] - bent[LEFT_KNEE])
    assert np.isclose(length, np.linalg.norm(REST[LEFT_ANKLE] - REST[LEFT_KNEE]))


def test_named_postures_look_like_their_names() -> None:
    sitting = named("sit on chair")
    for hip, knee, ankle in ((LEFT_HIP, LEFT_KNEE, LEFT_ANKLE), (RIGHT_HIP, RIGHT_KNEE, RIGHT_ANKLE)):
        assert sitting[knee, Z] - sitting[hip, Z] > 0.3
        assert abs(sitting[knee, Y] - sitting[hip, Y]) < 0.1
        assert sitting[knee, Y] - sitting[ankle, Y] > 0.35
    walking = named("walk contact")
    legs = walking[LEFT_ANKLE, Z] - walking[RIGHT_ANKLE, Z]
    arms = walking[LEFT_WRIST, Z] - walking[RIGHT_WRIST, Z]
    assert legs > 0.3 and arms < -0.2
    squatting = named("squat")
    assert squatting[PELVIS, Y] - squatting[LEFT_ANKLE, Y] < 0.4
    for name in ("lie on back", "lie on front", "lie on side"):
        lying = named(name)
        assert np.ptp(lying[[HEAD, PELVIS, LEFT_ANKLE], Y]) < 0.3
    crossed = named("crossed")
    assert crossed[LEFT_WRIST, X] < 0.05 and crossed[RIGHT_WRIST, X] > -0.05


@pytest.mark.parametrize("name", [p.name for p in STANCES if not p.lying and p.name not in ("downward dog", "climb")])
def test_upright_stances_stand_on_their_feet_or_knees(name: str) -> None:
    joints = named(name)
    lowest = joints[:, Y].min()
    lower_body = joints[[LEFT_KNEE, RIGHT_KNEE, LEFT_ANKLE, RIGHT_ANKLE, 10, 11], Y].min()
    assert lower_body - lowest < 0.06
    assert joints[HEAD, Y] > lowest + 0.2


def test_library_is_sound() -> None:
    for posture in (*STANCES, *ARMS):
        angles = posture_angles(posture)
        np.testing.assert_allclose(angles, anatomy.clip_to_limits(angles[None])[0], atol=1e-9, err_msg=posture.name)
        assert posture.weight > 0 and posture.spread > 0
        assert set(posture.synergy) <= set(SYNERGIES)
    for table in (STANCES, ARMS):
        assert len({posture.name for posture in table}) == len(table)


def test_mirroring_mirrors_the_figure() -> None:
    angles = sample_angles(SEEDS[:200])
    flip = [0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22]
    joints = anatomy.stick_joints(anatomy.rotations_from_angles(angles))
    mirrored = anatomy.stick_joints(anatomy.rotations_from_angles(anatomy.mirror_angles(angles)))
    np.testing.assert_allclose(mirrored, joints[:, flip] * [-1, 1, 1], atol=1e-12)


def test_samples_are_rotations_within_the_limits() -> None:
    angles = sample_angles(SEEDS)
    assert (angles >= anatomy.LOW - 1e-12).all() and (angles <= anatomy.HIGH + 1e-12).all()
    rotations = sample_poses(SEEDS[:300])
    np.testing.assert_allclose(rotations @ rotations.swapaxes(-1, -2), np.tile(np.eye(3), (300, 24, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotations), 1, atol=1e-12)


def test_samples_do_not_depend_on_the_batch() -> None:
    whole = sample_poses(SEEDS[:64])
    assert np.array_equal(np.concatenate([sample_poses(SEEDS[i : i + 1]) for i in range(64)]), whole)
    assert np.array_equal(sample_poses(SEEDS[[40, 2, 17]]), whole[[40, 2, 17]])


def test_left_and_right_are_alike_in_the_mean() -> None:
    angles = sample_angles(SEEDS)
    error = 5 * angles.std(0) / np.sqrt(len(angles))
    assert (np.abs(angles.mean(0) - anatomy.mirror_angles(angles).mean(0)) < np.sqrt(2) * error).all()


def test_variety() -> None:
    """Standing, sitting, squatting, lying and raised arms all occur in sensible shares."""
    angles = sample_angles(SEEDS)
    joints = anatomy.stick_joints(anatomy.rotations_from_angles(angles))
    trunk = joints[:, HEAD] - joints[:, PELVIS]
    uprightness = trunk[:, Y] / np.linalg.norm(trunk, axis=-1)
    assert 0.04 < (uprightness < 0.4).mean() < 0.25
    assert 0.6 < (uprightness > 0.75).mean() < 0.95
    knees = np.rad2deg(angles[:, [INDEX["l_knee"], INDEX["r_knee"]]])
    assert 0.1 < (knees > 75).all(1).mean() < 0.4
    assert 0.1 < (knees < 25).all(1).mean() < 0.5
    assert 0.08 < (joints[:, [LEFT_WRIST, RIGHT_WRIST], Y] > joints[:, [HEAD], Y]).any(1).mean() < 0.4
    assert (angles.std(0) > np.deg2rad(2)).all()


def test_broad_samples_correlate_the_sides_and_fill_the_range() -> None:
    angles = anatomy.clip_to_limits(_broad_angles(SEEDS, 0))
    left, right = (angles[:, INDEX[f"{side}_knee"]] for side in "lr")
    assert 0.2 < np.corrcoef(left, right)[0, 1] < 0.7
    hip = angles[:, INDEX["l_hip_flex"]]
    assert np.corrcoef(hip, left)[0, 1] > 0.3
    spread = np.ptp(angles, axis=0)[3:] / (anatomy.HIGH - anatomy.LOW)[3:]
    assert (spread > 0.7).all()


def test_collisions_become_rare() -> None:
    first = np.concatenate([_base_angles(SEEDS, 0), _broad_angles(SEEDS[: int(BROAD_SHARE * len(SEEDS))], 0)])
    raw = anatomy.stick_joints(anatomy.rotations_from_angles(anatomy.clip_to_limits(first)))
    kept = anatomy.stick_joints(anatomy.rotations_from_angles(sample_angles(SEEDS)))
    assert _collides(raw).mean() > 0.05
    assert _collides(kept).mean() < 0.01


def test_an_arm_through_the_chest_collides() -> None:
    angles = np.stack([posture_angles(Posture("", 1, {})), posture_angles(Posture("", 1, {"axial": 90, "elbow": 120}))])
    rotations = anatomy.rotations_from_angles(angles)
    assert _collides(anatomy.stick_joints(rotations)).tolist() == [False, True]
