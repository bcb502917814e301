"""Motions of which the measures are known."""

from __future__ import annotations

import numpy as np

from diffhmr.body.anatomy import NEUTRAL, Floats, rotations_from_angles
from diffhmr.motion.acting.legs import STAND_HEIGHT
from diffhmr.motion.plausibility import Plausibility, measure

FPS = 50.0
FRAMES = 40
TIMES = np.arange(FRAMES) / FPS
ON_FLOOR = np.ones((1, FRAMES, 2), bool)


def standing() -> tuple[Floats, Floats]:
    """Rotations and positions of a body in its rest pose on the floor."""
    rotations = np.tile(np.eye(3), (1, FRAMES, 24, 1, 1))
    position = np.zeros((1, FRAMES, 3))
    position[..., 1] = STAND_HEIGHT
    return rotations, position


def measured(rotations: Floats, position: Floats) -> Plausibility:
    return measure(rotations, position, ON_FLOOR, FPS)


def test_a_statue_does_nothing() -> None:
    result = measured(*standing())
    for name in ("skating", "penetration", "speed", "acceleration", "turning", "angular_acceleration"):
        np.testing.assert_allclose(getattr(result, name), 0.0, atol=1e-9)
    assert result.skating.shape == (2 * (FRAMES - 1),)


def test_a_statue_on_a_trolley_skates() -> None:
    rotations, position = standing()
    position[..., 0] += 0.7 * TIMES
    position[..., 2] += 0.5 * 3.0 * TIMES**2
    result = measured(rotations, position)
    np.testing.assert_allclose(result.skating.reshape(-1, 2)[0], np.hypot(0.7, 1.5 / FPS), rtol=1e-6)
    np.testing.assert_allclose(result.acceleration, 3.0, rtol=1e-6)
    assert (measure(rotations, position, ~ON_FLOOR, FPS).skating).size == 0


def test_sinking_in_is_seen() -> None:
    rotations, position = standing()
    position[:, 7, 1] -= 0.03
    result = measured(rotations, position)
    np.testing.assert_allclose(result.penetration[0, 7], 0.03, atol=1e-9)
    assert np.delete(result.penetration[0], 7).max() < 1e-9


def test_a_spinning_top_turns() -> None:
    rotations, position = standing()
    rotations[0, :, 0] = rotations_from_angles(np.zeros((1, len(NEUTRAL))))[0, 0]
    speed = 2.5 * TIMES + 0.5 * 4.0 * TIMES**2
    cosine, sine = np.cos(speed), np.sin(speed)
    turn = np.zeros((FRAMES, 3, 3))
    turn[:, 1, 1] = 1.0
    turn[:, 0, 0] = turn[:, 2, 2] = cosine
    turn[:, 0, 2], turn[:, 2, 0] = sine, -sine
    rotations[0, :, 0] = turn
    result = measured(rotations, position)
    np.testing.assert_allclose(result.turning[0, 0, 0], 2.5 + 4.0 * 0.5 / FPS, rtol=1e-6)
    np.testing.assert_allclose(result.angular_acceleration[..., 0], 4.0, rtol=1e-6)
    np.testing.assert_allclose(result.turning[..., 1:], 0.0, atol=1e-9)


def test_a_raised_heel_does_not_count_as_skating() -> None:
    """A foot that rolls over its ball: the ankle moves, the ball stays."""
    rotations, position = standing()
    angle = 0.6 * TIMES / TIMES[-1]
    cosine, sine = np.cos(angle), np.sin(angle)
    # Only the left ankle bends; the pelvis rises so that the ball stays where it was.
    bend = np.tile(np.eye(3), (FRAMES, 1, 1))
    bend[:, 1, 1] = bend[:, 2, 2] = cosine
    bend[:, 2, 1], bend[:, 1, 2] = sine, -sine
    rotations[0, :, 7] = bend
    rotations[0, :, 10] = np.swapaxes(bend, -1, -2)
    from diffhmr.body.anatomy import stick_joints

    ball = stick_joints(rotations[0])[:, 10]
    position[0] += ball[0] - ball
    only_left = ON_FLOOR & np.array([True, False])
    skating = measure(rotations, position, only_left, FPS).skating
    # While the foot is still nearly flat, heel and ball are both its lower end.
    assert np.quantile(skating, 0.9) < 1e-6
