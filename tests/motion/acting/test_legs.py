from __future__ import annotations

import numpy as np
import pytest

from diffhmr.body.anatomy import (
    INDEX,
    LEFT_LEG,
    NEUTRAL,
    REST,
    RIGHT_LEG,
    Floats,
    rotations_from_angles,
    stick_joints,
)
from diffhmr.motion.acting.legs import ANKLE, ANKLE_HEIGHT, BALL, FootPlaces, knee_directions, leg_angles, leg_length

COUNT = 400
HIPS, ANKLES = [1, 2], [7, 8]


def feet_at(ankles: Floats, yaw: Floats, pitch: float = 0.0) -> FootPlaces:
    return FootPlaces(ankles[..., 0], ankles[..., 2], ankles[..., 1] - ANKLE_HEIGHT, yaw, np.full(yaw.shape, pitch))


def random_bodies() -> tuple[Floats, Floats]:
    """Angles of bodies with all sorts of legs and tilted pelvis, and their joints."""
    rng = np.random.default_rng(0)
    angles = np.tile(NEUTRAL, (COUNT, 1))
    ranges = {"hip_flex": (-20, 110), "hip_abd": (-10, 30), "hip_rot": (-30, 20), "knee": (12, 130)}
    for side in "lr":
        for name, (low, high) in ranges.items():
            angles[:, INDEX[f"{side}_{name}"]] = np.deg2rad(rng.uniform(low, high, COUNT))
    angles[:, :3] = rng.uniform(-0.5, 0.5, (COUNT, 3))
    return angles, stick_joints(rotations_from_angles(angles))


def test_legs_reach_feet_wherever_the_knees_point() -> None:
    angles, joints = random_bodies()
    rng = np.random.default_rng(1)
    feet = feet_at(joints[:, ANKLES], rng.uniform(-0.4, 0.4, (COUNT, 2)))
    pelvis = rotations_from_angles(angles)[:, 0]
    solved = leg_angles(joints[:, HIPS], pelvis, feet, rng.uniform(-0.4, 0.4, (COUNT, 2)), np.zeros((COUNT, 2)))
    angles[:, LEFT_LEG], angles[:, RIGHT_LEG] = solved[:, 0], solved[:, 1]
    rotations = rotations_from_angles(angles)
    np.testing.assert_allclose(stick_joints(rotations)[:, ANKLES], joints[:, ANKLES], atol=1e-9)
    for side in range(2):
        world = rotations[:, 0] @ rotations[:, 1 + side] @ rotations[:, 4 + side] @ rotations[:, 7 + side]
        np.testing.assert_allclose(world, feet.rotations()[:, side], atol=1e-9)


def test_a_standing_leg_has_the_angles_of_standing() -> None:
    hips = REST[HIPS][None] - [0.0, 0.02, 0.0]
    feet = feet_at(REST[ANKLES][None], np.zeros((1, 2)))
    left, right = leg_angles(hips, np.eye(3)[None], feet, np.zeros((1, 2)), np.zeros((1, 2)))[0]
    np.testing.assert_allclose(left, right, atol=1e-12)
    knee = np.rad2deg(left[INDEX["l_knee"] - LEFT_LEG.start])
    assert 15 < knee < 30
    others = np.delete(np.rad2deg(left), INDEX["l_knee"] - LEFT_LEG.start)
    assert np.abs(others).max() < 16


def test_the_knee_points_where_it_is_told() -> None:
    hips = REST[HIPS][None] - [0.0, 0.25, 0.0]
    feet = feet_at(REST[ANKLES][None], np.zeros((1, 2)))
    for outward in (-0.3, 0.0, 0.5):
        angles = np.tile(NEUTRAL, (1, 1))
        angles[:, :3] = 0.0
        yaw = np.full((1, 2), outward)
        solved = leg_angles(hips, np.eye(3)[None], feet, yaw, np.zeros((1, 2)))
        angles[:, LEFT_LEG], angles[:, RIGHT_LEG] = solved[:, 0], solved[:, 1]
        knees = stick_joints(rotations_from_angles(angles))[0, [4, 5]] - REST[HIPS]
        direction = np.arctan2(knees[:, 0] * [1, -1], knees[:, 2])
        np.testing.assert_allclose(direction, outward, atol=0.12)


@pytest.mark.parametrize("free", [0.0, 1.0])
def test_out_of_reach_the_leg_goes_smoothly_nearly_straight(free: float) -> None:
    distance = np.linspace(0.5, 1.2, 2000)
    hips = np.zeros((2000, 2, 3))
    ankles = np.zeros((2000, 2, 3))
    ankles[..., 1] = -distance[:, None]
    knee = leg_angles(
        hips, np.tile(np.eye(3), (2000, 1, 1)), feet_at(ankles, np.zeros((2000, 2))), np.zeros((2000, 2)),
        np.full((2000, 2), free),
    )[:, 0, 3]  # fmt: skip
    assert (np.diff(knee) <= 1e-12).all() and knee[-1] > 0
    assert knee[-1] == pytest.approx(np.deg2rad(14.0 if free else 1.5), abs=1e-2)
    within = distance < leg_length(np.deg2rad(45.0))
    expected = [leg_length(k) for k in knee[within]]
    np.testing.assert_allclose(expected, distance[within], atol=1e-9)


def test_a_foot_rolls_over_its_ball_and_its_heel() -> None:
    pitch = np.deg2rad(np.array([[-25.0, -10.0], [10.0, 45.0]]))
    feet = FootPlaces(np.full((2, 2), 0.3), np.full((2, 2), 0.7), np.zeros((2, 2)), np.full((2, 2), 0.4), pitch)
    flat = FootPlaces(feet.x, feet.z, feet.lift, feet.yaw, np.zeros((2, 2)))
    ball, heel = REST[BALL] - REST[ANKLE], np.array([0.0, -ANKLE_HEIGHT, -0.042])
    ball[0] = 0.0

    def point(places: FootPlaces, offset: Floats) -> Floats:
        return places.ankles() + places.rotations() @ offset

    np.testing.assert_allclose(point(feet, ball)[1], point(flat, ball)[1], atol=1e-9)
    np.testing.assert_allclose(point(feet, heel)[0], point(flat, heel)[0], atol=1e-9)
    np.testing.assert_allclose(flat.ankles()[..., 1], ANKLE_HEIGHT)
    # The toes stay on the floor while the heel is up, and not in the air.
    np.testing.assert_allclose(feet.toes(), np.maximum(pitch, 0.0), atol=1e-12)
    lifted = FootPlaces(feet.x, feet.z, feet.lift + 0.2, feet.yaw, pitch)
    np.testing.assert_array_equal(lifted.toes(), 0.0)


def test_knees_point_over_the_feet() -> None:
    ankles = np.zeros((1, 2, 3))
    feet = feet_at(ankles, np.deg2rad([[30.0, 10.0]]))
    out = np.rad2deg(knee_directions(feet, np.deg2rad([20.0]), np.deg2rad([[0.0, 5.0]])))
    # Relative to a body that faces 20 degrees to the left, the left foot points 10 outwards, so does the right one.
    np.testing.assert_allclose(out, [[10 - 3, 10 - 3 + 5]])
