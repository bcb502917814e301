"""The order of 17 points and their sides, told from bodies seen from all around."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffhmr.body.joints import COCO17, COCO17_FROM_SPIN49, H36M17
from diffhmr.body.model import BodyModel
from diffhmr.config import DataConfig
from diffhmr.datasets.people import sample_people
from diffhmr.inference.keypoint_anatomy import Vote, legs_exchanged, likely_order, sides_exchanged
from diffhmr.inference.tracks import Track
from tests.inference.keypoint_motion import Floats, walk

COUNT = 300


@pytest.fixture(scope="module")
def bodies(free_body: BodyModel) -> dict[str, Floats]:
    """Procedural postures as both sets see them; the face is uncertain from behind."""
    people = sample_people(free_body, np.arange(COUNT, dtype=np.int64), DataConfig())
    coco = (300 + 200 * people.joints2d[:, list(COCO17_FROM_SPIN49)]).double()
    points = torch.cat([coco, torch.full((COUNT, 17, 1), 0.9)], dim=-1).numpy()
    behind = people.params.global_orient[:, 2, 2] > 0  # the body's z points forward, the camera's away from it
    points[behind.numpy(), :5, 2] = 0.3
    return {COCO17.name: points, H36M17.name: Track(0, np.arange(COUNT), points, COCO17.name).h36m17().points}


@pytest.mark.parametrize("name", [COCO17.name, H36M17.name])
def test_the_order_of_17_points(name: str, bodies: dict[str, Floats]) -> None:
    assert likely_order(bodies[name]) == name
    upper = bodies[name].copy()
    upper[:, [13, 14, 15, 16] if name == COCO17.name else [2, 3, 5, 6]] = 0
    assert likely_order(upper) == name


def test_the_order_of_too_few_points_is_not_told() -> None:
    points = walk(np.arange(5), 100, 0.0)[:, :17]
    points[:, 4:] = 0
    assert likely_order(points) is None
    assert likely_order(np.zeros((3, 17, 3))) is None


def test_sides(bodies: dict[str, Floats]) -> None:
    points = bodies[COCO17.name]
    right = sides_exchanged(points, COCO17.name)
    assert right.of > 40 and right.count < 0.05 * right.of and not right.clear
    wrong = sides_exchanged(points[:, list(COCO17.flip)], COCO17.name)
    assert wrong.of == right.of and wrong.count > 0.95 * wrong.of and wrong.clear


def test_people_from_behind_have_no_say() -> None:
    points = walk(np.arange(50), 100, 1.0)[:, list(COCO17.flip)]  # their left is on the left: from behind, or exchanged
    points[:, :5, 2] = 0.4
    assert sides_exchanged(points, COCO17.name) == Vote(0, 0)
    points[:, :5, 2] = 0.8
    assert sides_exchanged(points, COCO17.name) == Vote(50, 50)


def test_who_else_has_no_say() -> None:
    points = walk(np.arange(50), 100, 1.0)[:, list(COCO17.flip)]
    assert sides_exchanged(points, COCO17.name).of == 0  # no differences of confidence: nothing is known of faces
    points[:, 9, 2] = 0.5
    assert sides_exchanged(points, COCO17.name).of == 50
    lying = points[..., [1, 0, 2]]
    assert sides_exchanged(lying, COCO17.name).of == 0
    profile = points.copy()
    profile[..., 0] = 100 + 0.2 * (profile[..., 0] - 100)
    assert sides_exchanged(profile, COCO17.name).of == 0


def test_legs(bodies: dict[str, Floats]) -> None:
    for name, legs in ((COCO17.name, [11, 12, 13, 14, 15, 16]), (H36M17.name, [1, 4, 2, 5, 3, 6])):
        points = bodies[name]
        right = legs_exchanged(points, name)
        assert right.of > 60 and right.count < 0.05 * right.of and not right.clear
        swapped = points.copy()
        swapped[:, legs] = points[:, [legs[i ^ 1] for i in range(6)]]
        wrong = legs_exchanged(swapped, name)
        assert wrong.of == right.of and wrong.clear


def test_a_vote_needs_people() -> None:
    assert Vote(8, 8).clear and Vote(8, 10).clear and not Vote(7, 7).clear and not Vote(7, 10).clear
