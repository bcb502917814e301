"""Tracks: conversions against their tables, filling, boxes, choice of a person."""

from __future__ import annotations

import numpy as np
import pytest

from diffhmr.body.joints import COCO17, H36M17, HALPE26, OPENPOSE25
from diffhmr.errors import UserError
from diffhmr.inference.tracks import TRACK_SETS, Track, choose_track
from tests.inference.keypoint_motion import Floats, openpose25, two_people, walk


def random_track(joint_set: str, count: int, seed: int = 0) -> Track:
    generator = np.random.default_rng(seed)
    points = generator.uniform(1, 500, (5, count, 3))
    points[..., 2] = generator.uniform(0.1, 1, (5, count))
    return Track(7, np.array([0, 1, 2, 5, 6]), points, joint_set)


def middle(points: Floats, *rows: int) -> Floats:
    """Mean of places, lowest confidence."""
    chosen = points[:, rows]
    return np.concatenate([chosen[..., :2].mean(1), chosen[..., 2:].min(1)], axis=-1)


# The publication's maps: for each of the 17 points of Human3.6M its parents in the source.
MAPS = {
    COCO17.name: [(11, 12), 12, 14, 16, 11, 13, 15, (11, 12, 5, 6), (5, 6), 0, (1, 2), 5, 7, 9, 6, 8, 10],
    HALPE26.name: [19, 12, 14, 16, 11, 13, 15, (18, 19), 18, 0, 17, 5, 7, 9, 6, 8, 10],
    OPENPOSE25.name: [8, 9, 10, 11, 12, 13, 14, (1, 8), 1, 0, (16, 15), 5, 6, 7, 2, 3, 4],
}
COUNTS = {COCO17.name: 17, HALPE26.name: 26, OPENPOSE25.name: 25, H36M17.name: 17}


@pytest.mark.parametrize("joint_set", MAPS)
def test_h36m17_by_the_tables(joint_set: str) -> None:
    track = random_track(joint_set, COUNTS[joint_set])
    made = track.h36m17()
    assert made.joint_set == H36M17.name and made.track_id == 7 and made.frames.tolist() == [0, 1, 2, 5, 6]
    for joint, parents in enumerate(MAPS[joint_set]):
        wanted = middle(track.points, *parents) if isinstance(parents, tuple) else track.points[:, parents]
        np.testing.assert_allclose(made.points[:, joint], wanted)


def test_coco17() -> None:
    halpe = random_track(HALPE26.name, 26)
    assert np.array_equal(halpe.coco17().points, halpe.points[:, :17])
    openpose = random_track(OPENPOSE25.name, 25)
    wanted = openpose.points[:, [0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11]]
    assert np.array_equal(openpose.coco17().points, wanted)
    human36m = random_track(H36M17.name, 17).coco17()
    rows = [9, 11, 14, 12, 15, 13, 16, 4, 1, 5, 2, 6, 3]
    assert np.array_equal(human36m.points[:, [0, *range(5, 17)]], random_track(H36M17.name, 17).points[:, rows])
    assert (human36m.points[:, 1:5] == 0).all()  # no eyes and ears


def test_conversion_to_the_own_set_changes_nothing() -> None:
    assert random_track(COCO17.name, 17).coco17().points.shape == (5, 17, 3)
    track = random_track(H36M17.name, 17)
    assert track.h36m17() is track


def test_a_point_with_an_unseen_parent_is_unseen() -> None:
    track = random_track(COCO17.name, 17)
    track.points[2, 5] = 0
    track.points[3, 5, 2] = 0  # a place that the detector is not sure of at all
    made = track.h36m17()
    assert made.points[2, 8].tolist() == made.points[2, 7].tolist() == [0, 0, 0]
    np.testing.assert_allclose(made.points[3, 8, :2], track.points[3, 5:7, :2].mean(0))
    assert made.points[3, 8, 2] == 0 and made.points[1, 8, 2] > 0


def test_the_same_person_in_different_sets() -> None:
    """A figure whose neck, pelvis and head are where they would be made up."""
    points = walk(np.arange(9), 100, 2.0)
    frames = np.arange(9)
    wanted = Track(0, frames, points, HALPE26.name).h36m17().points
    for other, name in ((points[:, :17], COCO17.name), (openpose25(points), OPENPOSE25.name)):
        np.testing.assert_allclose(Track(0, frames, other, name).h36m17().points, wanted, atol=1e-9)


# Filling


def test_filled_interpolates_between_the_nearest_frames() -> None:
    frames = np.array([2, 3, 7, 8])
    points = np.zeros((4, 17, 3))
    points[..., 0] = 10.0 * frames[:, None] + np.arange(17)
    points[..., 1] = 300 - 5.0 * frames[:, None]
    points[..., 2] = 0.8
    dense = Track(0, frames, points, COCO17.name).filled(12)
    assert dense.present.tolist() == [frame in frames for frame in range(12)]
    inside = np.arange(2, 9)
    np.testing.assert_allclose(dense.points[inside, 4, 0], 10.0 * inside + 4)
    np.testing.assert_allclose(dense.points[inside, 4, 1], 300 - 5.0 * inside)
    assert (dense.points[:2, 4, 0] == 24).all() and (dense.points[9:, 4, 0] == 84).all()
    assert (dense.points[..., 2] == np.where(dense.present, 0.8, 0.0)[:, None]).all()
    assert np.array_equal(dense.points[frames], points)


def test_filled_gives_unseen_points_a_place_too() -> None:
    frames = np.arange(5)
    points = walk(frames, 100, 3.0)[:, :17]
    whole = points.copy()
    points[2, 9] = 0
    points[3, 10, 2] = 0  # has a place: stays
    points[:, 16] = 0
    dense = Track(0, frames, points, COCO17.name).filled(5)
    np.testing.assert_allclose(dense.points[2, 9, :2], (whole[1, 9, :2] + whole[3, 9, :2]) / 2)
    assert dense.points[2, 9, 2] == 0 and np.array_equal(dense.points[3, 10], points[3, 10])
    np.testing.assert_allclose(dense.points[:, 16, :2], dense.points[:, :16, :2].mean(1))
    assert (dense.points[:, 16, 2] == 0).all() and dense.present.all()


def test_filled_of_somebody_unseen_is_finite() -> None:
    dense = Track(0, np.array([1]), np.zeros((1, 17, 3)), COCO17.name).filled(3)
    assert (dense.points == 0).all() and dense.present.tolist() == [False, True, False]


def test_filled_refuses_a_video_that_is_too_short() -> None:
    with pytest.raises(ValueError, match="frame 6, the video only 6 frames"):
        random_track(COCO17.name, 17).filled(6)


# Boxes and choice


def test_box_counts_from_the_edge_and_leaves_out_uncertain_points() -> None:
    points = np.zeros((1, 17, 3))
    points[0, :4] = [[10, 20, 0.9], [30, 20, 0.9], [10, 60, 0.5], [15, 25, 0.3]]
    points[0, 4] = [900, 900, 0.2]
    track = Track(0, np.array([3]), points, COCO17.name)
    assert track.box(3) == (10.5, 20.5, 30.5, 60.5)
    assert track.box(2) is None and track.box(4) is None
    points[0, :2] = 0
    assert track.box(3) == (10.5, 25.5, 900.5, 900.5)  # three points are too few to leave out others
    assert Track(0, np.array([0]), np.zeros((1, 17, 3)), COCO17.name).box(0) is None


def test_choice() -> None:
    people = two_people(20)
    tracks = [Track(number, np.arange(20), rows, HALPE26.name) for number, rows in zip((4, 9), people, strict=True)]
    assert tracks[0].size < tracks[1].size
    assert choose_track(tracks, "largest") is tracks[1]
    assert choose_track(tracks, 4) is choose_track(tracks, "4") is tracks[0]
    short = Track(9, np.arange(3), people[1, :3], HALPE26.name)
    assert choose_track([tracks[0], short], "largest") is tracks[0]  # larger, but not for long
    for which in (5, "smallest"):
        with pytest.raises(UserError, match=f"no track {which}: choose largest or one of 4, 9"):
            choose_track(tracks, which)
    with pytest.raises(UserError, match="nobody was found"):
        choose_track([], "largest")


def test_size_is_that_of_the_boxes() -> None:
    track = random_track(COCO17.name, 17)
    boxes = [track.box(int(frame)) for frame in track.frames]
    assert track.size == pytest.approx(sum((b[2] - b[0]) * (b[3] - b[1]) for b in boxes if b is not None))
    assert track.score == pytest.approx(track.points[..., 2].mean()) and len(track) == 5
    assert track.joint_names == COCO17.joint_names and track.joint_set in TRACK_SETS


@pytest.mark.parametrize(
    ("frames", "value", "joint_set"),
    [
        ([0, 0], 0.5, COCO17.name),
        ([1, 0], 0.5, COCO17.name),
        ([-1, 0], 0.5, COCO17.name),
        ([0], 0.5, COCO17.name),
        ([0, 1], np.nan, COCO17.name),
        ([0, 1], 1.5, COCO17.name),
        ([0, 1], -0.5, COCO17.name),
        ([0, 1], 0.5, HALPE26.name),
        ([0, 1], 0.5, "LSP14"),
    ],
)
def test_wrong_tracks(frames: list[int], value: float, joint_set: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Track(0, np.array(frames), np.full((2, 17, 3), value), joint_set)
    Track(0, np.array([0, 1]), np.full((2, 17, 3), 0.5), COCO17.name)
