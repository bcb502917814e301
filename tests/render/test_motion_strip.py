"""Strips of frames: who is where, which side is which."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diffhmr.body.model import BodyModel
from diffhmr.motion.rest_body import rest_body
from diffhmr.motion.sequence import Motion
from diffhmr.render.colors import BACKGROUND, PALETTE
from diffhmr.render.motion_strip import motion_strip

SIZE, GAP, LABEL = 120, 2, 18


@pytest.fixture(scope="module")
def standing(free_body: BodyModel) -> Motion:
    rest = rest_body(free_body)
    height = rest.lowest(Motion(np.tile(np.eye(3), (1, 24, 1, 1)), np.zeros((1, 3)), 1.0))[0]
    return Motion(np.tile(np.eye(3), (5, 24, 1, 1)), np.tile([0.0, -height, 0.0], (5, 1)), 10.0)


def cell(strip: np.ndarray, index: int) -> np.ndarray:
    """Picture ``index`` without the line of text at its lower edge."""
    left = index * (SIZE + GAP)
    return strip[LABEL : LABEL + SIZE - 14, left : left + SIZE].astype(int)


def where(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Pixels ``[N, 2]`` (row, column) of the hue of ``colour``, lighter or darker."""
    wanted = np.array(colour) / np.linalg.norm(colour)
    hue = picture / np.linalg.norm(picture, axis=-1, keepdims=True).clip(1)
    return np.argwhere((hue @ wanted > 0.99) & (picture.min(axis=-1) < BACKGROUND - 60))


def test_a_person_who_faces_the_camera_has_the_left_side_on_the_right(free_body: BodyModel, standing: Motion) -> None:
    for turned in (np.eye(3), np.diag([-1.0, 1.0, -1.0])):
        rotations = standing.rotations.copy()
        rotations[:, 0] = turned
        strip = motion_strip(replace(standing, rotations=rotations), free_body, count=3, size=SIZE)
        assert strip.shape == (LABEL + SIZE, 3 * SIZE + 2 * GAP, 3) and strip.dtype == np.uint8
        left, right = (where(cell(strip, 1), PALETTE[k]) for k in (0, 1))
        assert len(left) > 50 and len(right) > 50
        assert left[:, 1].mean() > right[:, 1].mean() + 15


def test_the_camera_goes_along_but_the_floor_stands_still(free_body: BodyModel, standing: Motion) -> None:
    walk = standing.position + np.linspace(0, 1, 5)[:, None] * [0.0, 0.0, 1.1]
    strip = motion_strip(replace(standing, position=walk), free_body, count=5, size=SIZE)
    columns = [where(cell(strip, k), PALETTE[0])[:, 1].mean() for k in range(5)]
    assert np.ptp(columns) < 2
    floors = [cell(strip, k)[80:] for k in (0, 4)]
    assert (floors[0] != floors[1]).any()


def test_short_motions_have_fewer_pictures(free_body: BodyModel, standing: Motion) -> None:
    strip = motion_strip(standing.slice(0, 2), free_body, count=8, size=SIZE)
    assert strip.shape[1] == 2 * SIZE + GAP
