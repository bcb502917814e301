from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diffhmr.datasets.corruption import NOISE, Corruption, PointNoise, box_sides, corrupt
from diffhmr.random import Floats, item_seeds

UNMASKED = Corruption(mask_joint=0, mask_frame=0)


def _clips(size: int = 3, frames: int = 55, side: float = 1.0) -> Floats:
    """A standing still person whose box has the given side."""
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (17, 2))
    points[0], points[1] = (0.1, -0.5), (0.2, 0.5)
    one = np.concatenate([side * points, np.ones((17, 1))], axis=-1)
    return np.tile(one, (size, frames, 1, 1))


def _seeds(size: int = 3) -> np.ndarray:
    return item_seeds(0, "train", range(size))


def _gaussian(deviation: float, mean: float = 0.0) -> PointNoise:
    return replace(
        NOISE,
        normal=np.ones(17),
        mean=np.full((17, 2), mean),
        deviation=np.full((17, 2), deviation),
        tremble=0.0,
        confidence_deviation=0.0,
    )


def test_every_clip_follows_from_its_own_seed() -> None:
    clips, seeds = _clips(), _seeds()
    result = corrupt(clips, seeds, Corruption())
    assert np.array_equal(corrupt(clips, seeds, Corruption()), result)
    for k in range(3):
        assert np.array_equal(corrupt(clips[k : k + 1], seeds[k : k + 1], Corruption())[0], result[k])
    # Nothing is shared: neither displacements nor hidden frames.
    hidden = (result[..., 2] == 0).all(-1)
    assert not np.array_equal(hidden[0], hidden[1])
    both = ~hidden[0] & ~hidden[1]
    assert not np.isclose(result[0, both, 3, 0], result[1, both, 3, 0]).all()
    assert not np.array_equal(corrupt(clips, seeds + 4, Corruption()), result)


def test_displacements_are_linear_between_key_frames() -> None:
    frames = 55  # 6 key frames, every 10.8 frames
    shift = (corrupt(_clips(frames=frames), _seeds(), replace(UNMASKED, noise=_gaussian(0.01))) - _clips())[..., :2]
    place = np.linspace(0, 5, frames)
    inside = np.floor(place[:-2]) == np.floor(place[2:] - 1e-9)
    bend = np.abs(np.diff(shift, n=2, axis=1)).max(axis=(0, 2, 3))
    assert inside.sum() > 40
    assert bend[inside].max() < 1e-12 < 1e-4 < bend[~inside].min()


def test_displacements_have_the_wanted_distribution() -> None:
    seeds = _seeds(300)
    noise = replace(_gaussian(0.01, mean=0.02), deviation=np.stack([np.full(17, 0.01), np.full(17, 0.03)], axis=1))
    clips = _clips(300, 10, side=3.0)
    first = (corrupt(clips, seeds, replace(UNMASKED, noise=noise)) - clips)[:, 0, :, :2] / 3  # a key frame
    np.testing.assert_allclose(first.mean(axis=(0, 1)), 0.02, atol=0.002)
    np.testing.assert_allclose(first.std(axis=(0, 1)), [0.01, 0.03], rtol=0.05)
    flat = replace(noise, normal=np.zeros(17))
    first = (corrupt(clips, seeds, replace(UNMASKED, noise=flat)) - clips)[:, 0, :, :2] / 3
    assert np.abs(first).max() <= 0.03
    np.testing.assert_allclose(first.std(), 0.06 / np.sqrt(12), rtol=0.03)
    mixed = replace(noise, normal=np.full(17, 0.25), mean=np.full((17, 2), 1.0))
    first = (corrupt(clips, seeds, replace(UNMASKED, noise=mixed)) - clips)[:, 0, :, :2] / 3
    assert abs((first[..., 0] > 0.5).mean() - 0.25) < 0.02
    still = replace(_gaussian(0.0), tremble=0.004)
    trembling = (corrupt(clips, seeds, replace(UNMASKED, noise=still)) - clips)[..., :2] / 3
    np.testing.assert_allclose(trembling.std(), 0.004, rtol=0.03)


def test_the_default_is_a_detector_of_one_percent() -> None:
    clips = _clips(300, 10)
    moved = corrupt(clips, _seeds(300), UNMASKED)
    distance = np.linalg.norm((moved - clips)[..., :2], axis=-1)
    assert 0.01 < distance.mean() < 0.02
    assert 0.6 < moved[..., 2].mean() < 0.95
    by_joint = distance.mean(axis=(0, 1))
    assert by_joint[3] > by_joint[9] and by_joint[1] == pytest.approx(by_joint[4], rel=0.1)  # ankle, nose; hips


def test_the_confidence_falls_with_the_displacement() -> None:
    clips, seeds = _clips(20), _seeds(20)
    noise = replace(_gaussian(0.05), slope=0.4)
    moved = corrupt(clips, seeds, replace(UNMASKED, noise=noise))
    d = np.linalg.norm((moved - clips)[..., :2], axis=-1)
    np.testing.assert_allclose(moved[..., 2], np.clip(0.06 / (d + 0.06) + 0.4 * d, 0, 1), atol=1e-9)
    doubtful = corrupt(clips, seeds, replace(UNMASKED, noise=replace(noise, confidence_deviation=0.5)))
    assert doubtful[..., 2].min() == 0 and doubtful[..., 2].max() == 1
    half = clips * np.array([1, 1, 0.5])
    np.testing.assert_allclose(corrupt(half, seeds, replace(UNMASKED, noise=noise))[..., 2], moved[..., 2] / 2)


def test_shares_of_hidden_joints_and_frames() -> None:
    clips, seeds = _clips(100, 81), _seeds(100)
    without = Corruption(noise=None, mask_joint=0.05, mask_frame=0.1)
    result = corrupt(clips, seeds, without)
    hidden = (result == 0).all(-1)
    assert np.array_equal(result[~hidden], clips[~hidden])
    frames = hidden.all(-1)
    assert abs(frames.mean() - 0.1) < 0.01
    assert abs(hidden[~frames].mean() - 0.05) < 0.005
    assert np.array_equal(corrupt(clips, seeds, Corruption(None, 0, 0)), clips)


def test_unseen_points_stay_unseen() -> None:
    clips = _clips()
    clips[1, 5:9, 3] = (7.0, 7.0, 0.0)
    result = corrupt(clips, _seeds(), UNMASKED)
    assert (result[1, 5:9, 3] == 0).all() and (result[1, :5, 3] != 0).all()
    empty = np.zeros((1, 20, 17, 3))
    assert np.array_equal(corrupt(empty, _seeds(1), Corruption()), empty)


def test_the_box_is_the_median_of_seen_points() -> None:
    clips = _clips(2, 5, side=2.0)
    clips[0, 0, 4] = (9, 9, 1)  # one frame does not count for much
    clips[1, :, 4] = (9, 9, 0)
    np.testing.assert_allclose(box_sides(clips), [2.0, 2.0])
    assert box_sides(np.zeros((1, 4, 17, 3))).tolist() == [0.0]
    # Noise grows with the person.
    noise = replace(UNMASKED, noise=_gaussian(0.01))
    small, large = _clips(), _clips(side=4.0)
    np.testing.assert_allclose(
        4 * (corrupt(small, _seeds(), noise) - small)[..., :2], (corrupt(large, _seeds(), noise) - large)[..., :2]
    )


def test_points_of_a_detector_are_hidden_but_not_moved() -> None:
    clips, seeds = _clips(), _seeds()
    detected = np.array([False, True, False])
    result, everywhere = corrupt(clips, seeds, Corruption(), detected), corrupt(clips, seeds, Corruption())
    assert np.array_equal(result[~detected], everywhere[~detected])
    assert np.array_equal(result[1], np.where(everywhere[1] == 0, 0, clips[1]))
