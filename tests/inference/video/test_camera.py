from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from diffhmr.inference.video.camera import Pinhole, TrackPrior, fit_translations, reprojection_errors, tells_size

CAMERA = Pinhole(800.0, (319.5, 239.5))
FPS = 25.0
Floats = NDArray[np.float64]


def moving_body(frames: int, seed: int = 0) -> Floats:
    """``[T, 17, 3]`` joints of a body of 1.7 m whose points swing by a few centimetres, about its pelvis."""
    generator = np.random.default_rng(seed)
    points = generator.uniform((-0.3, -0.85, -0.2), (0.3, 0.85, 0.2), (17, 3))
    swing = 0.05 * np.sin(0.3 * np.arange(frames)[:, None, None] + generator.uniform(0, 6, (17, 3)))
    return points + swing


def straight(frames: int) -> Floats:
    """Somebody who walks past and away at 1.4 m/s."""
    return np.array([-1.0, 0.1, 4.0]) + np.arange(frames)[:, None] / FPS * np.array([0.8, 0.0, 1.1])


def curved(frames: int) -> Floats:
    """Somebody who walks in a circle of 1 m radius, with 1.5 m/s^2."""
    angle = 1.2 * np.arange(frames) / FPS
    return np.stack([np.sin(angle), 0.03 * np.cos(4 * angle), 5 + np.cos(angle)], axis=1)


def seen(joints: Floats, transl: Floats, confidence: float = 0.9) -> Floats:
    pixels = CAMERA.project(joints + transl[:, None])
    return np.concatenate([pixels, np.full((*pixels.shape[:2], 1), confidence)], axis=-1)


def acceleration(path: Floats) -> float:
    """Root mean square in m/s^2."""
    return float(np.sqrt((np.diff(path, 2, axis=0) ** 2).sum(-1).mean()) * FPS**2)


def test_a_straight_path_is_found_exactly() -> None:
    joints, truth = moving_body(60), straight(60)
    assert np.abs(fit_translations(joints, seen(joints, truth), CAMERA, FPS) - truth).max() < 1e-6


def test_a_single_frame_and_two_frames() -> None:
    for frames in (1, 2):
        joints, truth = moving_body(frames), straight(frames)
        assert np.abs(fit_translations(joints, seen(joints, truth), CAMERA, FPS) - truth).max() < 1e-5


def test_a_curved_path_loses_little_to_smoothness() -> None:
    joints, truth = moving_body(100), curved(100)
    found = fit_translations(joints, seen(joints, truth), CAMERA, FPS)
    error = np.linalg.norm(found - truth, axis=1)
    assert error.max() < 0.07 and error[6:-6].max() < 0.025 and np.abs(found - truth)[:, :2].max() < 0.005
    stiff = fit_translations(joints, seen(joints, truth), CAMERA, FPS, TrackPrior(acceleration=(1e4, 1e4, 1e4)))
    assert np.abs(stiff - truth).max() < 1e-5, "without the prior on accelerations nothing is lost"


def test_noise_gives_a_smooth_path() -> None:
    joints, truth = moving_body(150), curved(150)
    noisy = seen(joints, truth)
    noisy[..., :2] += np.random.default_rng(1).normal(0, 4, noisy[..., :2].shape)
    found = fit_translations(joints, noisy, CAMERA, FPS)
    alone = np.concatenate([fit_translations(joints[[t]], noisy[[t]], CAMERA, FPS) for t in range(150)])
    error, alone_error = (np.linalg.norm(path - truth, axis=1).mean() for path in (found, alone))
    assert error < 0.4 * alone_error and error < 0.06
    assert acceleration(found) < 4 < 30 < acceleration(alone)


def test_noise_does_not_pull_people_closer() -> None:
    joints, truth = moving_body(200), np.tile([0.2, 0.0, 4.0], (200, 1))
    noisy = seen(joints, truth)
    noisy[..., :2] += np.random.default_rng(2).normal(0, 12, noisy[..., :2].shape)
    assert abs(fit_translations(joints, noisy, CAMERA, FPS)[:, 2].mean() - 4.0) < 0.06


def test_outliers_and_exchanged_sides_hardly_matter() -> None:
    joints, truth = moving_body(100), straight(100)
    points = seen(joints, truth)
    generator = np.random.default_rng(3)
    wrong = generator.random(points.shape[:2]) < 0.1
    points[wrong, :2] = generator.uniform(0, (640, 480), (int(wrong.sum()), 2))
    points[40:44] = points[40:44, ::-1]
    error = np.linalg.norm(fit_translations(joints, points, CAMERA, FPS) - truth, axis=1)
    assert np.median(error) < 0.02 and error.max() < 0.25


def test_points_count_by_their_confidence() -> None:
    joints, truth = moving_body(50), straight(50)
    points = seen(joints, truth)
    points[:, :3, 0] += 60
    points[:, :3, 2] = 1e-4
    assert np.abs(fit_translations(joints, points, CAMERA, FPS) - truth).max() < 1e-3
    points[:, :3, 2] = 0
    assert np.abs(fit_translations(joints, points, CAMERA, FPS) - truth).max() < 1e-6


def test_frames_without_points_follow_smoothly() -> None:
    joints, truth = moving_body(80), straight(80)
    points = seen(joints, truth)
    points[20:45, :, 2] = 0
    points[60:70, 1:, 2] = 0
    points[20:45, :, :2] = 1e5
    assert np.abs(fit_translations(joints, points, CAMERA, FPS) - truth).max() < 1e-4


def test_long_gaps_are_bridged_by_a_straight_line() -> None:
    joints = moving_body(400)
    truth = curved(400)
    points = seen(joints, truth)
    points[100:300, :, 2] = 0
    found = fit_translations(joints, points, CAMERA, FPS)
    assert np.abs(np.diff(found[99:301], 2, axis=0)).max() < 1e-9
    assert np.linalg.norm(found - truth, axis=1)[[50, 99, 300, 350]].max() < 0.035


def test_ends_without_points_stand_still() -> None:
    joints, truth = moving_body(60), straight(60)
    points = seen(joints, truth)
    points[:10, :, 2] = points[50:, :, 2] = 0
    found = fit_translations(joints, points, CAMERA, FPS)
    assert np.allclose(found[:10], truth[10], atol=1e-5) and np.allclose(found[50:], truth[49], atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_a_body_that_fits_badly_stays_before_the_camera(seed: int) -> None:
    joints = moving_body(40)
    points = seen(moving_body(40, seed + 10)[..., [1, 0, 2]] * np.array([1, -1, 1]), straight(40))
    found = fit_translations(joints, points, CAMERA, FPS)
    assert np.isfinite(found).all() and found[:, 2].min() > 1 and found[:, 2].max() < 20
    # It is about where the keypoints are.
    middle = CAMERA.project((joints + found[:, None]).mean(axis=1)) - points[..., :2].mean(axis=1)
    assert np.linalg.norm(middle, axis=1).max() < 90, "pixels, of a person 200 to 350 pixels high"


def test_one_point_per_frame_is_too_little() -> None:
    joints = moving_body(20)
    points = seen(joints, straight(20))
    points[:, 1:, 2] = 0
    with pytest.raises(ValueError, match="two keypoints"):
        fit_translations(joints, points, CAMERA, FPS)


def test_errors_in_the_picture() -> None:
    joints, truth = moving_body(4), straight(4)
    points = seen(joints, truth)
    points[0, :, 0] += 3
    points[1, 0, :2] += (30, 40)
    points[1, 1:, 2] = 0.45
    points[2, :, 2] = 0
    errors = reprojection_errors(joints, truth, points, CAMERA)
    assert errors[0] == pytest.approx(3) and errors[1] == pytest.approx(50 * 0.9 / (0.9 + 16 * 0.45))
    assert np.isnan(errors[2]) and errors[3] < 1e-9


def test_ten_minutes_take_seconds() -> None:
    joints, truth = moving_body(18_000), np.tile(straight(100), (180, 1))
    points = seen(joints, truth)
    start = time.process_time()
    assert np.isfinite(fit_translations(joints, points, CAMERA, FPS)).all()
    assert time.process_time() - start < 5


def test_which_keypoints_tell_a_size() -> None:
    points = np.zeros((4, 5, 3))
    assert not tells_size(points), "nothing is seen"
    points[1, 2] = 10, 20, 0.9
    points[2, :] = 10, 20, 0.9
    assert not tells_size(points), "single points, and points at one place"
    points[3, :2] = [[10, 20, 0.9], [10, 21, 0.9]]
    assert tells_size(points)
