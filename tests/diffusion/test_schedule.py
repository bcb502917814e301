"""Noise schedules against hand formulas."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from diffhmr.diffusion.schedule import CLEAN, NoiseSchedule, cosine_schedule, linear_schedule


def test_linear_alpha_bar_is_the_product_of_the_published_betas() -> None:
    schedule = linear_schedule(1000)
    product = 1.0
    for step in range(1000):
        product *= 1 - (1e-4 + (2e-2 - 1e-4) * step / 999)
        assert schedule.alpha_bar_at(step) == pytest.approx(product, rel=1e-12)
    assert schedule.alpha_bar_at(999) == pytest.approx(4.0358e-5, rel=1e-4)


def test_linear_betas_scale_with_the_number_of_steps() -> None:
    betas = linear_schedule(100).betas
    assert betas[0].item() == pytest.approx(1e-3)
    assert betas[-1].item() == pytest.approx(0.2)


def test_cosine_alpha_bar_is_the_squared_cosine_up_to_the_clip() -> None:
    schedule = cosine_schedule(1000)
    start = math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    for step in (0, 1, 250, 499, 750, 998):
        hand = math.cos(((step + 1) / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 / start
        assert schedule.alpha_bar_at(step) == pytest.approx(hand, rel=1e-9)
    assert schedule.alpha_bar_at(999) == pytest.approx(1e-3 * schedule.alpha_bar_at(998), rel=1e-9)
    assert schedule.betas.max().item() == pytest.approx(0.999)


@pytest.mark.parametrize("make", [linear_schedule, cosine_schedule])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 10, 20, 100, 1000, 4000])
def test_any_length_is_strictly_falling_float64_and_invertible_in_float32(
    make: Callable[[int], NoiseSchedule], num_steps: int
) -> None:
    schedule = make(num_steps)
    assert schedule.num_steps == num_steps
    assert schedule.alpha_bar.dtype == torch.float64
    assert bool((schedule.alpha_bar.diff() < 0).all())
    assert schedule.alpha_bar[-1].item() > 0 and schedule.alpha_bar[0].item() < 1
    assert bool(torch.isfinite(1 / schedule.alpha_bar.sqrt().float()).all())
    torch.testing.assert_close(torch.cumprod(1 - schedule.betas, 0), schedule.alpha_bar)


def test_clean_index_has_all_signal_and_no_noise() -> None:
    schedule = cosine_schedule(10)
    assert (schedule.signal_at(CLEAN), schedule.sigma_at(CLEAN)) == (1.0, 0.0)
    assert schedule.signal_at(3) ** 2 + schedule.sigma_at(3) ** 2 == pytest.approx(1)


def test_log_snr_is_half_the_logarithm_of_the_ratio() -> None:
    schedule = linear_schedule(50)
    ratio = schedule.alpha_bar / (1 - schedule.alpha_bar)
    torch.testing.assert_close(schedule.log_snr(), 0.5 * ratio.log())


def test_indices_outside_the_schedule_are_refused() -> None:
    for index in (-2, 10):
        with pytest.raises(ValueError, match="outside"):
            cosine_schedule(10).alpha_bar_at(index)


@pytest.mark.parametrize(
    "table",
    [
        torch.tensor([0.5, 0.6], dtype=torch.float64),
        torch.tensor([1.0, 0.5], dtype=torch.float64),
        torch.tensor([0.5, 0.0], dtype=torch.float64),
        torch.tensor([0.9, 0.5], dtype=torch.float32),
        torch.zeros(0, dtype=torch.float64),
    ],
)
def test_bad_tables_are_refused(table: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="alpha_bar must"):
        NoiseSchedule(table)


def test_zero_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        linear_schedule(0)
