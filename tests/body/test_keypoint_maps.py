"""Maps between the keypoint sets of detectors."""

from __future__ import annotations

import numpy as np
import pytest

from diffhmr.body.joints import COCO17, H36M17, HALPE26, OPENPOSE25, JointSet
from diffhmr.body.keypoint_maps import map_keypoints


def _points(joint_set: JointSet, *lead: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.1, 0.9, (*lead, len(joint_set), 3))


def test_trunk_of_coco_is_made_of_midpoints() -> None:
    points = _points(COCO17, 2, 5)
    mapped = map_keypoints(points, COCO17, H36M17)
    hips, shoulders = points[..., 11:13, :], points[..., 5:7, :]
    np.testing.assert_allclose(mapped[..., 0, :2], hips[..., :2].mean(-2))
    np.testing.assert_allclose(mapped[..., 0, 2], hips[..., 2].min(-1))
    np.testing.assert_allclose(mapped[..., 7, :2], (hips.mean(-2) + shoulders.mean(-2))[..., :2] / 2)
    np.testing.assert_allclose(mapped[..., [1, 2, 3, 16], :], points[..., [12, 14, 16, 10], :])


@pytest.mark.parametrize(("source", "neck"), [(HALPE26, 18), (OPENPOSE25, 1)])
def test_sets_with_a_neck_give_theirs(source: JointSet, neck: int) -> None:
    points = _points(source, 3)
    np.testing.assert_array_equal(map_keypoints(points, source, H36M17)[:, 8], points[:, neck])


def test_a_point_with_an_unseen_parent_is_unseen() -> None:
    points = _points(COCO17, 2)
    points[0, 11] = 0
    mapped = map_keypoints(points, COCO17, H36M17)
    assert (mapped[0, [0, 4, 7]] == 0).all()
    assert (mapped[1] != 0).all()
    assert (mapped[0, 1] != 0).all()


def test_what_the_source_lacks_is_unseen() -> None:
    mapped = map_keypoints(_points(H36M17, 4), H36M17, COCO17)
    eyes_and_ears = list(range(1, 5))
    assert (mapped[:, eyes_and_ears] == 0).all()
    assert (np.delete(mapped, eyes_and_ears, axis=1) != 0).all()
