"""Recordings as their files tell them."""

from __future__ import annotations

import numpy as np

from diffhmr.motion.amass_layout import Z_UP_TO_Y_UP
from diffhmr.motion.skeleton import Recording
from tests.motion.rigs import turn


def elbow() -> Recording:
    """A root that turns by 90 degrees about z, a joint above it that turns by 90 about x, and one above that."""
    offsets = np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 2.0, 0.0]])
    rotations = np.stack([turn("z", 90), turn("x", 90), np.eye(3)])[None]
    moved = offsets[None].copy()
    moved[0, 0] = [5.0, 0.0, 0.0]
    return Recording(("a", "b", "c"), (-1, 0, 1), offsets, rotations, moved, 30.0, "elbow")


def test_the_world_of_a_chain() -> None:
    turns, points = elbow().world()
    np.testing.assert_allclose(points[0], [[5, 0, 0], [4, 0, 0], [4, 0, 2]], atol=1e-12)
    np.testing.assert_allclose(turns[0, 2], turn("z", 90) @ turn("x", 90), atol=1e-12)
    np.testing.assert_allclose(elbow().zero_pose().world()[1][0], [[0, 0, 0], [0, 1, 0], [0, 3, 0]])


def test_other_axes_of_the_world() -> None:
    points = elbow().turned(Z_UP_TO_Y_UP).world()[1]
    np.testing.assert_allclose(points[0], elbow().world()[1][0] @ Z_UP_TO_Y_UP.T, atol=1e-12)


def test_the_tree() -> None:
    recording = elbow()
    assert list(recording.ancestors(2)) == [1, 0] and recording.path(0, 2) == [1, 2]
    assert recording.path(2, 1) == [] and len(recording.frame(0)) == 1
