"""What a detector reports of a person through a video: shares, runs, correlation in time, confidences."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from diffhmr.body.joints import COCO17, HALPE26
from diffhmr.config_clips import ClipNoiseConfig
from diffhmr.datasets.clip_keypoints import DETECTED, Seen, detect, smooth_normals
from diffhmr.datasets.keypoints import LIMB_MASKS, RELATIVE_SIGMA, SWAP_MASKS
from diffhmr.random import Floats, Seeds, Stream, item_seeds

SILENT = ClipNoiseConfig(jitter=0, outlier=0, drop_point=0, drop_limb=0, drop_frame=0, drop_hidden=0, swap=0)
SIZE, FRAMES = 300, 24
HALF_SIDE = 0.5
NOISY = 0.9  # people whose detections have errors at all
FLIP = np.array(DETECTED.flip)
# COCO's points, top of the head, neck, pelvis of someone who stands, y down.
FIGURE = np.array(
    [[0, -0.36], [0.02, -0.38], [-0.02, -0.38], [0.04, -0.37], [-0.04, -0.37], [0.1, -0.25], [-0.1, -0.25],
     [0.15, -0.1], [-0.15, -0.1], [0.18, 0.02], [-0.18, 0.02], [0.06, 0], [-0.06, 0], [0.08, 0.2], [-0.08, 0.2],
     [0.08, 0.4], [-0.08, 0.4], [0.0, -0.43], [0.0, -0.26], [0.0, 0.01]]
)  # fmt: skip


def _seen(size: int = SIZE, frames: int = FRAMES) -> Seen:
    """People who walk to the side, everything in view."""
    step = 0.003 * np.arange(frames)[:, None, None] * [1.0, 0.1]
    points = np.broadcast_to(FIGURE + step, (size, frames, 20, 2)).copy()
    everything = np.ones((size, frames, 20), bool)
    return Seen(points, everything, everything, np.full(size, HALF_SIDE), item_seeds(0, "train", np.arange(size)))


def _settings(**changes: float) -> ClipNoiseConfig:
    return SILENT.model_copy(update=changes)


def _reported(seen: Seen, **changes: float) -> NDArray[np.bool_]:
    keypoints = detect(seen, _settings(**changes))
    reported: NDArray[np.bool_] = keypoints[..., 2] > 0
    assert (keypoints[~reported] == 0).all(), "all three numbers of a lost point are 0"
    return reported


def _noisy(seeds: Seeds) -> NDArray[np.bool_]:
    """``[B]``: people whose detections are not exact."""
    seen = replace(_seen(len(seeds), 1), seeds=seeds)
    moved = detect(seen, _settings(jitter=0.01))[..., :2]
    result: NDArray[np.bool_] = (np.abs(moved - seen.points) > 1e-6).any((1, 2, 3))
    return result


def _average(share: float, most: float) -> float:
    """Share of the average noisy person: nothing for half of them, else exponential up to ``most``."""
    return share * (1 - math.exp(-most / (2 * share)))


def test_the_detected_points_are_cocos_and_three_more() -> None:
    assert DETECTED.joint_names[:17] == COCO17.joint_names
    assert DETECTED.joint_names == HALPE26.joint_names[:20]
    assert [DETECTED.joint_names[k] for k in FLIP[[5, 16, 17, 18, 19]]] == [
        "right_shoulder", "left_ankle", *DETECTED.joint_names[17:]
    ]  # fmt: skip


def test_without_noise_the_points_are_exact() -> None:
    seen = _seen(50)
    keypoints = detect(seen, SILENT)
    assert keypoints.shape == (50, FRAMES, 20, 3)
    np.testing.assert_allclose(keypoints[..., :2], seen.points, atol=1e-12)
    assert (keypoints[..., 2] >= 0.05).all() and (keypoints[..., 2] <= 1).all()


def test_what_is_hidden_or_outside() -> None:
    generator, seen = np.random.default_rng(0), _seen(200)
    visible, inside = generator.uniform(size=(2, *seen.visible.shape)) < 0.7
    seen = replace(seen, visible=visible & inside, inside=inside)
    np.testing.assert_array_equal(_reported(seen, drop_hidden=1.0), seen.visible)
    always = _reported(seen)
    noisy = _noisy(seen.seeds)
    np.testing.assert_array_equal(always[noisy], inside[noisy])
    # Of the others only what can be seen is reported.
    np.testing.assert_array_equal(always[~noisy], seen.visible[~noisy])
    everything = detect(seen, ClipNoiseConfig(swap=0))[..., 2] > 0
    assert not everything[~inside].any()


def test_a_clip_is_a_function_of_its_seed_alone() -> None:
    seen = _seen(30)
    seen = replace(seen, visible=np.random.default_rng(0).uniform(size=seen.visible.shape) < 0.7)
    settings = ClipNoiseConfig(jitter=0.02, outlier=0.05, drop_point=0.1, drop_limb=0.2, swap=0.2)
    together = detect(seen, settings)
    for item in (0, 7, 29):
        one = slice(item, item + 1)
        alone = Seen(seen.points[one], seen.visible[one], seen.inside[one], seen.half_side[one], seen.seeds[one])
        np.testing.assert_array_equal(detect(alone, settings)[0], together[item])
    # More frames continue what fewer began.
    short = Seen(seen.points[:, :11], seen.visible[:, :11], seen.inside[:, :11], seen.half_side, seen.seeds)
    np.testing.assert_allclose(detect(short, settings), together[:, :11], atol=1e-12)
    other = detect(replace(seen, seeds=seen.seeds + 4), settings)
    assert (np.abs(other - together).max((1, 2, 3)) > 1e-3).all()


def test_smooth_normals_have_the_covariance_of_a_gaussian_window() -> None:
    values = smooth_normals(item_seeds(1, "train", np.arange(2000)), Stream.CLIP_CONFIDENCE, 12, 3, 3.0)
    assert values.shape == (2000, 12, 3)
    rows = values.transpose(0, 2, 1).reshape(-1, 12)
    lag = np.subtract.outer(np.arange(12), np.arange(12))
    np.testing.assert_allclose(np.cov(rows.T), np.exp(-(lag**2) / 36), atol=0.06)


# Lost points


def test_share_of_lost_points() -> None:
    """Of the average clip: half of the people lose nothing, the others twice as much."""
    lost = ~_reported(_seen(), drop_point=0.1)
    assert lost[..., :17].mean() == pytest.approx(_average(0.1, 0.6) * NOISY, abs=0.03)
    assert 0.45 < (~lost.any((1, 2))).mean() < 0.7
    # Points are lost one by one, but neck, pelvis and head also with what they are found from.
    assert np.corrcoef(lost[..., 7].ravel(), lost[..., 15].ravel())[0, 1] < 0.4
    assert lost[..., 18][lost[..., 5] & lost[..., 6]].all()
    assert lost[..., 19][lost[..., 11] & lost[..., 12]].all()


def test_share_of_lost_limbs() -> None:
    lost = ~_reported(_seen(), drop_limb=0.12)
    assert lost.any(-1).mean() == pytest.approx(_average(0.12, 0.6) * NOISY, abs=0.035)
    masks = {tuple(mask) for mask in LIMB_MASKS}
    found = {tuple(row[:17]) for row in lost.reshape(-1, 20) if row.any()}
    assert found <= masks and len(found) > 7
    for clip in lost:
        assert len({tuple(row) for row in clip if row.any()}) <= 1, "a person loses the same limb all the time"
    legs = lost[..., 11] & lost[..., 12]
    assert legs.any() and lost[..., 19][legs].all()


def test_share_of_lost_frames() -> None:
    lost = ~_reported(_seen(), drop_frame=0.1)
    np.testing.assert_array_equal(lost.any(-1), lost.all(-1))
    assert lost.mean() == pytest.approx(_average(0.1, 0.5) * NOISY, abs=0.03)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_share_of_lost_hidden_points(share: float) -> None:
    seen = replace(_seen(), visible=np.zeros((SIZE, FRAMES, 20), bool))
    assert _reported(seen, drop_hidden=share)[..., :17].mean() == pytest.approx((1 - share) * NOISY, abs=0.03)


def test_losses_come_in_runs() -> None:
    """A smooth normal curve of width w crosses its mean upwards every 2 sqrt(2) pi w frames (Rice's formula)."""
    seen = replace(_seen(60, 200), visible=np.zeros((60, 200, 20), bool))
    reported = _reported(seen, drop_hidden=0.5)[_noisy(seen.seeds)][..., :17]
    begins = reported[:, 1:] & ~reported[:, :-1]
    assert 1 / begins.mean() == pytest.approx(2 * math.sqrt(2) * math.pi * 9.0, rel=0.06)


# Moved points


def test_exchanged_sides() -> None:
    seen = _seen()
    where = detect(seen, _settings(swap=0.12))[..., :2]
    own = np.abs(where - seen.points).max(-1) < 1e-9
    flipped = np.abs(where - seen.points[:, :, FLIP]).max(-1) < 1e-9
    assert (own | flipped).all()
    happens = ~own.all(-1)
    assert happens.mean() == pytest.approx(_average(0.12, 0.5) * NOISY, abs=0.035)
    kinds = {tuple(row) for row in ~own[happens]}
    # Points in the middle of the body are their own mirror image.
    masks = {tuple(np.append(mask & (FLIP[:17] != np.arange(17)), [False] * 3)) for mask in SWAP_MASKS}
    assert kinds == masks
    switches = (happens[:, 1:] != happens[:, :-1]).mean()
    assert switches < 0.5 * 2 * happens.mean() * (1 - happens.mean()), "in runs"


def test_exchanged_points_keep_their_confidence() -> None:
    """A lost left wrist becomes a lost right one."""
    seen = _seen()
    visible = seen.visible.copy()
    visible[..., 9] = False
    seen = replace(seen, visible=visible)
    keypoints = detect(seen, _settings(drop_hidden=1.0, swap=0.3))
    plain = detect(seen, _settings(drop_hidden=1.0))
    for row in (9, 10):
        same = keypoints[..., row, :] == plain[..., row, :]
        other = keypoints[..., row, :] == plain[..., FLIP[row], :]
        assert (same.all(-1) | other.all(-1)).all()
    lost = keypoints[..., 2] == 0
    assert 0.02 < lost[..., 10].mean() < 0.3 and (lost[..., 9] != lost[..., 10]).all()


def test_outliers() -> None:
    seen = _seen()
    keypoints = detect(seen, _settings(outlier=0.05))
    off = np.linalg.norm(keypoints[..., :2] - seen.points, axis=-1)
    outlier = off > 1e-9
    # Of 20 points one is itself: 3 % of the outliers are where they should be.
    assert outlier.mean() == pytest.approx(0.05 * NOISY * 0.97, abs=0.006)
    where = keypoints[outlier][:, :2]
    points = seen.points[outlier.nonzero()[:2]]
    nearest = np.linalg.norm(points - where[:, None], axis=-1).min(1)
    assert (nearest < 1e-9).mean() == pytest.approx(0.6 * 0.95 / 0.97, abs=0.06), "where another point is"
    middle = points.mean(1)
    assert (np.abs(where - middle) <= HALF_SIDE + 1e-9).all()
    annotated = (keypoints[..., 2] == 1).all((1, 2))
    far = (off > 0.3) & ~annotated[:, None, None]
    assert keypoints[far][:, 2].mean() < 0.3 * keypoints[~outlier & ~annotated[:, None, None]][:, 2].mean()
    begins = outlier[:, 1:] & ~outlier[:, :-1]
    assert begins.mean() < 0.4 * outlier.mean(), "in runs"


def _jitter(seen: Seen, jitter: float) -> Floats:
    """Displacements of the noisy people in shares of the side of the box."""
    moved = detect(seen, _settings(jitter=jitter))[..., :2] - seen.points
    return moved[_noisy(seen.seeds)] / (2 * HALF_SIDE)


def test_jitter_has_the_configured_size() -> None:
    """Points that are not clicked elsewhere; COCO's deviations, log-normal over people and points."""
    seen = _seen()
    moved = _jitter(seen, 0.01)
    for point in (0, 1, 3, 17, 18, 19):
        relative = RELATIVE_SIGMA[point] if point < 17 else (0.9, 1.0, 1.1)[point - 17]
        of_people = np.sqrt((moved[:, :, point] ** 2).mean((1, 2)))
        assert np.median(of_people) == pytest.approx(0.01 * relative, rel=0.18)
    twice = _jitter(seen, 0.02)
    np.testing.assert_allclose(twice[:, :, 17:], 2 * moved[:, :, 17:], atol=1e-12)
    hidden = _jitter(replace(seen, visible=~seen.visible), 0.01)
    np.testing.assert_allclose(hidden[:, :, 17:], 2.5 * moved[:, :, 17:], atol=1e-12)


def test_points_drift_and_tremble() -> None:
    moved = _jitter(_seen(), 0.01)[:, :, 17:]
    moved = moved / moved.std((1, 3), keepdims=True)
    for lag in (1, 5, 10):
        covariance = (moved[:, lag:] * moved[:, :-lag]).mean() / (moved**2).mean()
        assert covariance == pytest.approx(0.75**2 * math.exp(-(lag**2) / 100), abs=0.06), lag


def test_hips_are_clicked_alike_through_a_clip() -> None:
    seen = _seen()
    moved = detect(seen, _settings(jitter=1e-9))[..., :2] - seen.points
    hips = moved[:, :, 11:13]
    assert np.abs(hips - hips[:, :1]).max() < 1e-6
    # Outwards by 12 % of half their distance, up by 5 % of the trunk, in the mean.
    expected = NOISY * np.array([[0.12 * 0.06, -0.05 * 0.25], [-0.12 * 0.06, -0.05 * 0.25]])
    np.testing.assert_allclose(hips.mean((0, 1)), expected, atol=0.0025)
    np.testing.assert_allclose(moved[:, :, [0, 1, 17, 18, 19]], 0, atol=1e-7)


# Confidences


def test_confidences_tell_of_errors() -> None:
    seen = _seen()
    visible = seen.visible.copy()
    visible[:, :, ::2] = False
    seen = replace(seen, visible=visible)
    confidence = detect(seen, _settings(jitter=0.01))[..., 2]
    annotated = (confidence == 1).all((1, 2))
    noisy = _noisy(seen.seeds)
    reported = confidence > 0
    ones = np.array([(row[mask] == 1).all() for row, mask in zip(confidence, reported, strict=True)])
    assert ones.mean() == pytest.approx(0.15, abs=0.05) and annotated.sum() <= ones.sum()
    detected = confidence[~ones & noisy]
    hidden, clear = detected[:, :, ::2], detected[:, :, 1::2]
    assert 0.6 < clear.mean() < 0.97 and hidden.mean() < clear.mean() - 0.15
    assert (hidden.mean((1, 2)) < clear.mean((1, 2))).mean() > 0.95
    off = np.linalg.norm(_jitter(seen, 0.03)[~ones[noisy]], axis=-1)[:, :, 1::2]
    clear = detect(seen, _settings(jitter=0.03))[~ones & noisy][:, :, 1::2, 2]
    assert np.corrcoef(off.ravel(), clear.ravel())[0, 1] < -0.3
    # They change slowly.
    changes = np.abs(np.diff(detected, axis=1)).mean()
    shuffled = np.abs(detected[:, 10:] - detected[:, :-10]).mean()
    assert changes < 0.6 * shuffled
