"""Accelerations and jitter of motions whose derivatives are known."""

from __future__ import annotations

import pytest
import torch

from diffhmr.metrics.video import (
    acceleration_error_mm,
    acceleration_mm,
    accelerations,
    all_valid,
    jitter_m_per_s3,
    m_per_s2,
)

FPS = 30.0


def _path(*coefficients: float, frames: int = 8) -> torch.Tensor:
    """Two points ``[T, 2, 3]``, 1 m apart, on the polynomial of time in seconds along x, in float64."""
    time = torch.arange(frames, dtype=torch.float64) / FPS
    points = torch.zeros(frames, 2, 3, dtype=torch.float64)
    points[..., 0] = sum(factor * time**power for power, factor in enumerate(coefficients))[:, None]  # type: ignore[index]
    points[:, 1, 1] = 1
    return points


def test_a_falling_body_has_the_acceleration_of_gravity() -> None:
    """x = g t^2 / 2."""
    found = acceleration_mm(_path(0.3, -1.0, 9.81 / 2))
    torch.testing.assert_close(found, torch.full((6,), 9810 / FPS**2, dtype=torch.float64))
    torch.testing.assert_close(m_per_s2(found, FPS), torch.full((6,), 9.81, dtype=torch.float64))


def test_a_shift_and_a_constant_velocity_are_no_error() -> None:
    still, moving = _path(0.0), _path(2.0, 5.0)
    assert acceleration_error_mm(moving, still).max() < 1e-9
    assert acceleration_mm(moving).max() < 1e-9


def test_the_error_is_the_difference_of_vectors_not_of_sizes() -> None:
    """Two accelerations of the same size in opposite directions differ by twice the size."""
    error = acceleration_error_mm(_path(0, 0, 3.0), _path(0, 0, -3.0))
    torch.testing.assert_close(m_per_s2(error, FPS), torch.full((6,), 12.0, dtype=torch.float64))


def test_one_frame_that_is_off_disturbs_three_moments() -> None:
    """A joint of two is 10 mm off in frame 4: (10, 20, 10) mm over two joints."""
    pred, target = _path(0.0), _path(0.0)
    pred[4, 1, 2] += 0.010
    expected = torch.tensor([0, 0, 5.0, 10.0, 5.0, 0], dtype=torch.float64)
    torch.testing.assert_close(acceleration_error_mm(pred, target), expected)


def test_jitter_of_a_known_jerk() -> None:
    """x = j t^3 / 6; parabolas have none."""
    found = jitter_m_per_s3(_path(0.1, 1.0, -2.0, 7.0 / 6), FPS)
    torch.testing.assert_close(found, torch.full((5,), 7.0, dtype=torch.float64))
    assert jitter_m_per_s3(_path(1.0, 2.0, 3.0), FPS).max() < 1e-6


def test_leading_dimensions_are_sequences_and_hypotheses() -> None:
    points = torch.randn(2, 3, 9, 17, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = points[:, :1] * 0.5
    found = acceleration_error_mm(points, target)
    assert found.shape == (2, 3, 7) and accelerations(points).shape == (2, 3, 7, 17, 3)
    torch.testing.assert_close(found[1, 2], acceleration_error_mm(points[1, 2], target[1, 0]))
    fps = torch.tensor([25.0, 50.0], dtype=torch.float64)
    each = jitter_m_per_s3(points, fps[:, None, None])
    torch.testing.assert_close(each[1], jitter_m_per_s3(points[1], 50.0))
    torch.testing.assert_close(m_per_s2(found, fps[:, None, None])[0], m_per_s2(found[0], 25.0))


@pytest.mark.parametrize("frames", [0, 1, 2, 3])
def test_short_sequences_have_no_moments(frames: int) -> None:
    points = torch.zeros(frames, 2, 3)
    assert acceleration_mm(points).shape == (max(frames - 2, 0),)
    assert jitter_m_per_s3(points, FPS).shape == (0,)
    assert all_valid(torch.ones(frames, dtype=torch.bool), 3).shape == (max(frames - 2, 0),)


def test_moments_need_all_their_frames() -> None:
    valid = torch.tensor([[1, 1, 1, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1]], dtype=torch.bool)
    assert all_valid(valid, 3)[0].tolist() == [True, False, False, False, True, True]
    assert all_valid(valid, 4)[0].tolist() == [False, False, False, False, True]
    assert all_valid(valid, 3)[1].all() and all_valid(valid, 1).equal(valid)
