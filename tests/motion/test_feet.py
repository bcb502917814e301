"""Where the floor is, and feet that do not sink into it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diffhmr.motion.feet import lift_balls, on_floor
from diffhmr.motion.rest_body import RestBody
from diffhmr.motion.sequence import Motion
from tests.motion.rigs import INDEX, squats, turn


def standing(rest: RestBody, frames: int = 30) -> Motion:
    motion = Motion(np.tile(np.eye(3), (frames, 24, 1, 1)), np.zeros((frames, 3)), 30.0)
    return on_floor(motion, rest)


def test_standing_people_stand_on_the_floor(rest: RestBody) -> None:
    for height in (0.0, 5.0, -3.0):
        motion = squats(rest)
        moved = on_floor(replace(motion, position=motion.position + np.array([1.0, height, 2.0])), rest)
        np.testing.assert_allclose(moved.position, motion.position + np.array([1.0, 0.0, 2.0]), atol=1e-6)


def test_a_jump_leaves_the_floor_and_a_bad_frame_does_not_lift_the_rest(rest: RestBody) -> None:
    motion = standing(rest, 60)
    jump = motion.position.copy()
    jump[20:40, 1] += 0.4 * np.sin(np.linspace(0, np.pi, 20))
    jump[50, 1] -= 0.3
    result = on_floor(replace(motion, position=jump), rest)
    np.testing.assert_allclose(result.position, jump, atol=1e-3)


def test_a_raised_heel_does_not_push_the_toes_into_the_ground(rest: RestBody) -> None:
    motion = standing(rest, 10)
    rotations = motion.rotations.copy()
    rotations[:, INDEX["left_ankle"]] = [turn("x", angle) for angle in np.linspace(0, 25, 10)]
    rotations[:, INDEX["left_foot"]] = [turn("x", -angle) for angle in np.linspace(0, 25, 10)]
    sunk = replace(motion, rotations=rotations)
    lifted = lift_balls(sunk, rest)
    assert rest.lowest(sunk).min() < -0.03 and rest.lowest(lifted).min() > -0.01
    same = [k for k in range(24) if k not in (INDEX["left_ankle"], INDEX["left_foot"])]
    # All but the foot in the ground: the other foot gives way by the millimetres of the round corner.
    assert np.abs(lifted.rotations[:, same] - rotations[:, same]).max() < 0.03
    toes = INDEX["left_foot"]
    np.testing.assert_allclose(lifted.global_rotations()[:, toes], sunk.global_rotations()[:, toes], atol=1e-9)


def test_feet_in_the_air_stay_as_they_are(rest: RestBody) -> None:
    motion = squats(rest)
    high = replace(motion, position=motion.position + np.array([0.0, 0.1, 0.0]))
    np.testing.assert_allclose(lift_balls(high, rest).rotations, high.rotations, atol=1e-9)


def test_the_soles_of_the_rest_body(rest: RestBody) -> None:
    low = rest.sole[:, 1].min()
    assert np.all(rest.sole[:, 1] < low + 0.02) and rest.sole[:, 1].max() < rest.joints[:, 1].min()
    assert set(rest.sole_joint) == {7, 8, 10, 11}
    assert rest.heel("left_ankle")[2] < -0.03 and rest.clearance("left_foot") > 0.01
    still = standing(rest, 1)
    np.testing.assert_allclose(rest.lowest(still), 0, atol=1e-9)
    assert 0.7 < rest.leg_length() < 0.9
