"""The 1 Euro filter: closed forms of a first-order filter, invariance, and what it is for."""

from __future__ import annotations

import math

import pytest
import torch

from diffhmr.geometry.one_euro import OneEuro
from diffhmr.geometry.rotation import axis_angle_to_matrix, geodesic_distance, random_rotations

FPS = 30.0


def _about_z(angles: torch.Tensor) -> torch.Tensor:
    vectors = torch.zeros(*angles.shape, 3, dtype=angles.dtype)
    vectors[..., 2] = angles
    return axis_angle_to_matrix(vectors)


def test_what_stands_still_stays() -> None:
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(3, 1, 5, generator=generator).expand(3, 20, 5)
    torch.testing.assert_close(OneEuro(FPS).vectors(value), value)
    rotation = random_rotations((4, 1), generator).expand(4, 20, 3, 3)
    torch.testing.assert_close(OneEuro(FPS).rotations(rotation), rotation)


def test_without_beta_a_step_is_answered_as_by_a_low_pass_filter() -> None:
    """After n frames the rest is (1 - share)^n with share = 1 / (1 + fps / (2 pi cutoff))."""
    filtering = OneEuro(FPS, min_cutoff=2.0, beta=0.0)
    share = 1 / (1 + FPS / (4 * math.pi))
    assert float(filtering.share(torch.tensor(2.0))) == pytest.approx(share)
    step = torch.cat([torch.zeros(1), torch.ones(10)]).double()
    rest = (1 - share) ** torch.arange(11, dtype=torch.float64)
    rest[0] = 1
    torch.testing.assert_close(filtering.vectors(step[:, None])[:, 0], 1 - rest)
    turned = filtering.rotations(_about_z(step))
    torch.testing.assert_close(turned, _about_z(1 - rest), atol=1e-9, rtol=0)


def test_the_first_answer_to_a_step_follows_the_paper() -> None:
    """Algorithm 1 by hand: speed, cutoff, share."""
    filtering = OneEuro(FPS, min_cutoff=1.5, beta=0.2, speed_cutoff=3.0)
    speed = FPS * 0.4 / (1 + FPS / (2 * math.pi * 3.0))
    expected = 0.4 / (1 + FPS / (2 * math.pi * (1.5 + 0.2 * speed)))
    values = torch.tensor([[0.0, 0.0], [0.4, 0.0]], dtype=torch.float64)
    assert float(filtering.vectors(values)[1, 0]) == pytest.approx(expected, rel=1e-12)


def test_fast_motion_lags_less_with_beta() -> None:
    """On a ramp of speed v the lag becomes v / (2 pi cutoff), where the cutoff follows from the speed v / share."""
    speed = 4.0
    ramp = (torch.arange(600, dtype=torch.float64) / FPS)[:, None] * speed
    lags = []
    for beta in (0.0, 0.5):
        filtering = OneEuro(FPS, min_cutoff=1.0, beta=beta)
        lags.append(float((ramp - filtering.vectors(ramp))[-1]))
        cutoff = torch.tensor(speed / (2 * math.pi * lags[-1]), dtype=torch.float64)
        assert float(cutoff) == pytest.approx(1.0 + beta * speed / float(filtering.share(cutoff)), rel=1e-6)
    assert lags[1] < 0.25 * lags[0]


def test_noise_is_reduced_and_the_motion_kept() -> None:
    generator = torch.Generator().manual_seed(1)
    time = torch.arange(300) / FPS
    truth = _about_z(0.8 * torch.sin(2 * math.pi * 0.3 * time))
    noise = axis_angle_to_matrix(0.1 * torch.randn(300, 3, generator=generator))
    noisy = truth @ noise
    filtered = OneEuro(FPS, min_cutoff=1.0, beta=0.2).rotations(noisy)
    assert geodesic_distance(filtered, truth)[20:].mean() < 0.7 * geodesic_distance(noisy, truth)[20:].mean()
    trembling = [geodesic_distance(path[1:], path[:-1]).mean() for path in (truth, filtered, noisy)]
    assert trembling[1] < 0.4 * trembling[2] and trembling[1] < 2 * trembling[0]


def test_the_choice_of_axes_does_not_matter_and_rotations_stay_rotations() -> None:
    generator = torch.Generator().manual_seed(2)
    steps = axis_angle_to_matrix(0.3 * torch.randn(2, 500, 3, generator=generator))
    path = [random_rotations((2,), generator)]
    for step in steps.unbind(1):
        path.append(path[-1] @ step)
    rotations = torch.stack(path, 1)
    filtered = OneEuro(FPS).rotations(rotations)
    identity = filtered.transpose(-1, -2) @ filtered
    torch.testing.assert_close(identity, torch.eye(3).expand_as(identity), atol=1e-5, rtol=0)
    left, right = random_rotations((2,), generator)
    turned = OneEuro(FPS).rotations(left @ rotations[:, :100] @ right)
    torch.testing.assert_close(turned, left @ filtered[:, :100] @ right, atol=1e-4, rtol=0)


def test_only_the_past_counts_and_batches_are_one_by_one() -> None:
    generator = torch.Generator().manual_seed(3)
    rotations = random_rotations((3, 12), generator)
    filtered = OneEuro(FPS).rotations(rotations)
    torch.testing.assert_close(OneEuro(FPS).rotations(rotations[1, :5]), filtered[1, :5])


@pytest.mark.parametrize("change", [{"fps": 0.0}, {"min_cutoff": -1.0}, {"beta": -0.1}, {"speed_cutoff": math.inf}])
def test_impossible_settings_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must"):
        OneEuro(**({"fps": FPS} | change))
