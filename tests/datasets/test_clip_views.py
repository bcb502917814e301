"""Cameras before moving people, and what stands between them."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from diffhmr.datasets.clip_views import ClipViews, blocked, inside_picture, middle_extent, sample_views
from diffhmr.random import Floats, Seeds, item_seeds

SIZE, FRAMES = 250, 40
SEEDS = item_seeds(0, "train", np.arange(SIZE))


def _walk(size: int = SIZE) -> Floats:
    """A pelvis that goes two metres along x."""
    along = np.linspace(0.0, 2.0, FRAMES)
    path = np.stack([along, np.full(FRAMES, 0.9), np.zeros(FRAMES)], axis=-1)
    return np.broadcast_to(path, (size, FRAMES, 3)).copy()


@pytest.fixture(scope="module")
def views() -> ClipViews:
    return sample_views(SEEDS, _walk(), 30.0)


def _simple(half_size: tuple[float, float] = (1.5, 1.0)) -> ClipViews:
    """A level camera at a height of one metre, three metres in front of someone who faces it."""
    rotation = np.diag([1.0, -1.0, -1.0])[None, None].repeat(2, 1)
    return ClipViews(rotation, np.array([[0.0, 1.0, 3.0]]), np.array([2.0]), np.array([half_size]))


def test_a_point_in_the_picture() -> None:
    camera = _simple()
    world = np.array([[[[0.0, 1.0, 0.0], [0.3, 1.6, 0.0], [0.0, 1.0, 1.0]]]]).repeat(2, 1)
    in_camera = camera.to_camera(world)
    np.testing.assert_allclose(in_camera[0, 1], [[0, 0, 3], [0.3, -0.6, 3], [0, 0, 2]], atol=1e-12)
    # To the right and, as y points down, above the middle.
    np.testing.assert_allclose(camera.project(in_camera)[0, 0], [[0, 0], [0.2, -0.4], [0, 0]], atol=1e-12)


def test_what_is_in_the_picture() -> None:
    points = np.array([[1.4, 0.9], [1.6, 0.0], [0.0, 1.1], [-1.4, -0.9], [-1.6, 0.0]])[None, None]
    inside = [True, False, False, True, False]
    np.testing.assert_array_equal(inside_picture(points, _simple())[0, 0], inside)
    portrait = [False, False, True, False, False]
    np.testing.assert_array_equal(inside_picture(points, _simple((1.0, 1.5)))[0, 0], portrait)


def test_cameras_look_at_the_person(views: ClipViews) -> None:
    product = views.rotations @ views.rotations.swapaxes(-1, -2)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), product.shape), atol=1e-12)
    assert (np.linalg.det(views.rotations) > 0).all()
    pelvis = _walk()[:, :, None]
    in_camera = views.to_camera(pelvis)[:, :, 0]
    assert in_camera[..., 2].min() > 1.0
    away = np.linalg.norm(in_camera, axis=-1)
    np.testing.assert_allclose(away, np.linalg.norm(pelvis[:, :, 0] - views.centre[:, None], axis=-1))
    # In the middle of the way the person is near the middle of the picture.
    centred = views.project(in_camera[:, :, None])[:, FRAMES // 2, 0]
    assert np.abs(centred).max() < 0.5 and np.abs(centred).mean() < 0.1
    # People stand upright: the head is above the feet.
    ends = views.project(views.to_camera(pelvis + np.array([[0.0, 0.8, 0.0], [0.0, -0.9, 0.0]])))
    assert (ends[:, :, 0, 1] < ends[:, :, 1, 1]).all()
    upright = (ends[:, :, 1] - ends[:, :, 0])[:, FRAMES // 2]
    assert np.median(np.abs(np.arctan2(upright[:, 0], upright[:, 1]))) < np.deg2rad(8)


def test_distances_lenses_and_pictures(views: ClipViews) -> None:
    assert views.focal.min() >= 1.1 and views.focal.max() <= 9.0 and len(np.unique(views.focal.round(3))) > SIZE / 2
    np.testing.assert_array_equal(views.half_size.min(1), 1.0)
    wide = (views.half_size[:, 0] > 1).mean()
    assert wide == pytest.approx(0.65, abs=0.08)
    distance = np.linalg.norm(views.centre - _walk().mean(1), axis=-1)
    assert distance.min() > 2.1 and distance.max() < 17 and 4 < np.median(distance) < 7.5
    # Headings all around: the camera is on all sides.
    angle = np.arctan2(views.centre[:, 0] - 1.0, views.centre[:, 2])
    assert np.histogram(angle, 4, (-np.pi, np.pi))[0].min() > SIZE / 10


def test_some_cameras_follow(views: ClipViews) -> None:
    turned = np.abs(views.rotations - views.rotations[:, :1]).max((1, 2, 3)) > 1e-9
    assert turned.mean() == pytest.approx(0.45, abs=0.07)
    place = views.project(views.to_camera(_walk()[:, :, None]))[:, :, 0]
    spread = (place.max(1) - place.min(1)).max(-1)
    assert np.median(spread[turned]) < 0.5 * np.median(spread[~turned])
    # They turn smoothly: at 2 m/s and two metres away not by more than some degrees a frame.
    step = views.rotations[:, 1:] @ views.rotations[:, :-1].swapaxes(-1, -2)
    angle = np.arccos(np.clip((np.trace(step, axis1=-2, axis2=-1) - 1) / 2, -1, 1))
    assert np.rad2deg(angle).max() < 3


def test_the_camera_keeps_away_from_people_who_come_near() -> None:
    path = np.stack([np.zeros(FRAMES), np.full(FRAMES, 0.9), np.linspace(-8.0, 8.0, FRAMES)], axis=-1)
    many = sample_views(SEEDS, np.broadcast_to(path, (SIZE, FRAMES, 3)), 30.0)
    still = np.abs(many.rotations - many.rotations[:, :1]).max((1, 2, 3)) < 1e-9
    depth = many.to_camera(np.broadcast_to(path, (SIZE, FRAMES, 3))[:, :, None])[still, :, 0, 2]
    assert depth.min() > 1.2 - 1e-9 and (depth.min(1) < 1.2 + 1e-9).any()


def test_the_box_of_the_middle_frame() -> None:
    points = np.zeros((1, 3, 4, 2))
    points[0, 1] = [[0.1, 0.2], [0.5, 0.2], [0.3, 1.0], [0.3, 0.4]]
    points[0, 0] = 7
    extent = middle_extent(points)
    np.testing.assert_allclose(extent.centre, [[0.3, 0.6]])
    np.testing.assert_allclose(extent.half_side, [0.5 * 1.2 * 0.8])


# What hides


def _standing(size: int = SIZE) -> tuple[Floats, Floats]:
    """Points of someone who stands still, ``[B, T, 49, 2]``, and the same in the middle frame."""
    generator = np.random.default_rng(0)
    figure = generator.uniform([-0.15, -0.4], [0.15, 0.4], (49, 2))
    return np.broadcast_to(figure, (size, FRAMES, 49, 2)), np.broadcast_to(figure, (size, 49, 2))


def _blocked(seeds: Seeds, occluder: float, cut: float) -> np.ndarray:
    points, spin = _standing(len(seeds))
    return blocked(seeds, points, spin, occluder, cut)


def test_nothing_hides_if_nothing_is_asked_for() -> None:
    assert not _blocked(SEEDS, 0.0, 0.0).any()


def test_shares_of_objects_and_cuts() -> None:
    for share in (0.3, 1.0):
        touched = _blocked(SEEDS, share, 0.0).any((1, 2)).mean()
        # An object is placed over a joint, but passes by or comes beside it in a few clips.
        assert 0.75 * share - 0.05 < touched <= share + 0.05
        # A cut is a share of the square box: at the side of someone who stands, a small one meets nobody.
        assert 0.85 * share - 0.05 < _blocked(SEEDS, 0.0, share).any((1, 2)).mean() <= share + 0.05


def test_cut_people_lose_a_side_in_all_frames() -> None:
    hidden = _blocked(SEEDS, 0.0, 1.0)
    np.testing.assert_array_equal(hidden, hidden[:, :1].repeat(FRAMES, 1))
    figure = _standing(1)[1][0]
    below = 0
    for lost in hidden[:, 0]:
        if not lost.any():
            continue
        kept = figure[~lost]
        assert len(kept) > 0.1 * 49
        # What is left fills a box: no lost point lies within it.
        low, high = kept.min(0), kept.max(0)
        assert not ((figure[lost] >= low) & (figure[lost] <= high)).all(1).any()
        below += figure[lost][:, 1].mean() > 0.05
    assert below > 0.5 * SIZE, "mostly the legs"


def test_objects_stay_pass_or_come_for_a_while() -> None:
    hidden = _blocked(SEEDS, 1.0, 0.0)
    touched = hidden.any((1, 2))
    still = (hidden == hidden[:, :1]).all((1, 2))
    assert 0.15 < (still & touched).mean() < 0.5
    for clip in hidden[~still][:100]:
        # Every point is hidden in few runs of frames.
        for lost in clip.T[:10]:
            assert sum(a != b for a, b in pairwise(lost)) <= 4
    assert 0.05 < hidden.mean() < 0.5


def test_clips_one_by_one_or_together(views: ClipViews) -> None:
    hidden = _blocked(SEEDS, 0.6, 0.4)
    for item in (0, 3, SIZE - 1):
        one = slice(item, item + 1)
        alone = sample_views(SEEDS[one], _walk(1), 30.0)
        for name in ("rotations", "centre", "focal", "half_size"):
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(views, name)[item])
        np.testing.assert_array_equal(_blocked(SEEDS[one], 0.6, 0.4)[0], hidden[item])
