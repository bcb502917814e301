"""Directions and turns of bones."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from diffhmr.motion.directions import between_turns, frame_of, shortest_turn, unit, upright


def test_the_shortest_turn_takes_one_direction_to_another_about_what_is_across() -> None:
    rng = np.random.default_rng(0)
    start, end = rng.normal(size=(2, 50, 3))
    turn = shortest_turn(start, end)
    np.testing.assert_allclose((turn @ unit(start)[..., None])[..., 0], unit(end), atol=1e-12)
    angle = np.arccos((unit(start) * unit(end)).sum(-1))
    np.testing.assert_allclose(Rotation.from_matrix(turn).magnitude(), angle, atol=1e-9)


def test_equal_and_opposite_directions_have_turns() -> None:
    x = np.array([1.0, 0.0, 0.0])
    np.testing.assert_allclose(shortest_turn(x, 2 * x), np.eye(3), atol=1e-12)
    half = shortest_turn(x, -x)
    np.testing.assert_allclose(half @ x, -x, atol=1e-12)
    np.testing.assert_allclose(half @ half.T, np.eye(3), atol=1e-12)


def test_frames() -> None:
    frame = frame_of(np.array([0.0, 2.0, 0.0]), np.array([0.0, 1.0, 3.0]))
    np.testing.assert_allclose(frame, np.stack([[0, 1, 0], [0, 0, 1], [1, 0, 0]], axis=-1), atol=1e-12)
    body = upright(np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.3, -2.0]))
    np.testing.assert_allclose(body[:, 0], [0, 0, -1], atol=1e-12)
    np.testing.assert_allclose(body[:, 2], [1, 0, 0], atol=1e-12)
    assert np.linalg.det(body) > 0.99


def test_between_two_turns() -> None:
    first, second = (Rotation.from_euler("y", [[20.0], [30.0]], degrees=True).as_matrix(),
                     Rotation.from_euler("y", [[60.0], [-30.0]], degrees=True).as_matrix())  # fmt: skip
    expected = Rotation.from_euler("y", [[30.0], [15.0]], degrees=True).as_matrix()
    np.testing.assert_allclose(between_turns(first, second, 0.25), expected, atol=1e-12)
