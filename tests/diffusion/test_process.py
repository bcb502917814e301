"""Conversions between noise, x0 and v, weights and posterior, against closed forms."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from diffhmr.diffusion.process import Process, Target, Weighting
from diffhmr.diffusion.schedule import CLEAN, NoiseSchedule, cosine_schedule, linear_schedule
from tests.diffusion.gaussians import GaussianMixture

TARGETS = get_args(Target)
SCHEDULES = [linear_schedule(1000), cosine_schedule(1000)]


def _states(count: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(count, 3, 2, dtype=dtype, generator=generator)
    noise = torch.randn(count, 3, 2, dtype=dtype, generator=generator)
    return x0, noise, torch.linspace(0, 999, count).long()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("target", TARGETS)
def test_target_converts_back_to_x0_and_noise(schedule: NoiseSchedule, target: Target) -> None:
    process = Process(schedule, target)
    x0, noise, t = _states(64)
    x_t = process.add_noise(x0, t, noise)
    recovered = process.to_x0(process.training_target(x0, t, noise), x_t, t)
    torch.testing.assert_close(recovered, x0, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(process.to_noise(recovered, x_t, t), noise, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("target", TARGETS)
def test_float32_conversions_stay_finite_on_the_whole_chain(schedule: NoiseSchedule, target: Target) -> None:
    process = Process(schedule, target)
    output, x_t, _ = _states(1000, torch.float32)
    assert bool(torch.isfinite(process.to_x0(100 * output, 100 * x_t, torch.arange(1000))).all())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_v_in_float32_keeps_x0_precise_where_noise_prediction_cannot(schedule: NoiseSchedule) -> None:
    process = Process(schedule, "v")
    x0, noise, t = _states(64, torch.float32)
    x_t = process.add_noise(x0, t, noise)
    torch.testing.assert_close(process.to_x0(process.training_target(x0, t, noise), x_t, t), x0, atol=2e-6, rtol=0)


def test_v_is_the_published_combination() -> None:
    process = Process(cosine_schedule(10), "v")
    x0, noise = torch.tensor([[2.0]]), torch.tensor([[-3.0]])
    signal, sigma = process.schedule.signal_at(4), process.schedule.sigma_at(4)
    assert process.training_target(x0, torch.tensor([4]), noise).item() == pytest.approx(signal * -3 - sigma * 2)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_forward_marginals_have_the_right_mean_and_variance(schedule: NoiseSchedule) -> None:
    process = Process(schedule)
    generator = torch.Generator().manual_seed(1)
    x0 = torch.full((200_000, 1), 1.5)
    for index in (0, 300, 600, 999):
        t = torch.full((200_000,), index)
        x_t = process.add_noise(x0, t, torch.randn(x0.shape, generator=generator))
        alpha_bar = schedule.alpha_bar_at(index)
        assert x_t.mean().item() == pytest.approx(1.5 * math.sqrt(alpha_bar), abs=0.01)
        assert x_t.var().item() == pytest.approx(1 - alpha_bar, rel=0.01)


def test_clean_index_adds_no_noise() -> None:
    x0, noise, _ = _states(4)
    clean = Process(linear_schedule(10)).add_noise(x0, torch.full((4,), CLEAN), noise)
    assert torch.equal(clean, x0)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("weighting", ["snr", "min_snr"])
def test_snr_weightings_give_one_loss_for_every_target(target: Target, weighting: Weighting) -> None:
    process = Process(cosine_schedule(1000), target)
    x0, noise, t = _states(64)
    x_t = process.add_noise(x0, t, noise)
    guess = x0 + 0.1 * torch.sin(7 * x0)
    output = process.training_target(guess, t, process.to_noise(guess, x_t, t))
    error = (output - process.training_target(x0, t, noise)).square().flatten(1).sum(1)
    snr = process.snr(t).double()
    expected = (snr if weighting == "snr" else snr.clamp(max=5)) * (guess - x0).square().flatten(1).sum(1)
    torch.testing.assert_close(process.loss_weight(t, weighting).double() * error, expected, rtol=1e-4, atol=1e-12)


def test_uniform_weight_is_one_and_noise_snr_weight_is_one() -> None:
    t = torch.arange(1000)
    for target in TARGETS:
        assert torch.equal(Process(cosine_schedule(1000), target).loss_weight(t), torch.ones(1000))
    torch.testing.assert_close(Process(cosine_schedule(1000), "noise").loss_weight(t, "snr"), torch.ones(1000))


def test_optimal_loss_has_the_closed_form_value() -> None:
    """For x0 ~ N(0, s^2) the best noise prediction leaves an error of a s^2 / (a s^2 + 1 - a) with a = alpha_bar."""
    data = GaussianMixture([1.0], [[0.0]], [[[0.25]]])
    process = Process(linear_schedule(1000), "noise")
    generator = torch.Generator().manual_seed(2)
    x0 = 0.5 * torch.randn(100_000, 1, generator=generator, dtype=torch.float64)
    for index in (50, 300, 700):
        t = torch.full((100_000,), index)
        noise = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
        output = data.network(process)(process.add_noise(x0, t, noise), t)
        loss = (process.loss_weight(t)[:, None] * (output - process.training_target(x0, t, noise)) ** 2).mean()
        alpha_bar = process.schedule.alpha_bar_at(index)
        assert loss.item() == pytest.approx(0.25 * alpha_bar / (0.25 * alpha_bar + 1 - alpha_bar), rel=0.02)


def test_posterior_composes_with_the_forward_marginal() -> None:
    """Drawing x_t from q(x_t | x0) and x_s from q(x_s | x_t, x0) must give q(x_s | x0), also across skipped indices."""
    process = Process(cosine_schedule(1000))
    for t, s in ((999, 998), (999, 400), (500, 100), (10, 0)):
        x0 = torch.zeros(1, dtype=torch.float64)
        of_x_t, deviation = process.posterior(x0, torch.ones(1, dtype=torch.float64), t, s)
        of_x0, _ = process.posterior(torch.ones(1, dtype=torch.float64), x0, t, s)
        signal, sigma = process.schedule.signal_at(t), process.schedule.sigma_at(t)
        assert (of_x_t * signal + of_x0).item() == pytest.approx(process.schedule.signal_at(s))
        assert (of_x_t * sigma).item() ** 2 + deviation**2 == pytest.approx(process.schedule.sigma_at(s) ** 2)


def test_posterior_matches_the_ddpm_formula_for_neighbours_and_ends_clean() -> None:
    process = Process(linear_schedule(1000))
    _, deviation = process.posterior(torch.zeros(1), torch.zeros(1), 500, 499)
    schedule = process.schedule
    expected = (1 - schedule.alpha_bar_at(499)) / (1 - schedule.alpha_bar_at(500)) * schedule.betas[500].item()
    assert deviation**2 == pytest.approx(expected)
    mean, deviation = process.posterior(torch.tensor([3.0]), torch.tensor([7.0]), 0, CLEAN)
    assert (mean.item(), deviation) == (3.0, 0.0)
    with pytest.raises(ValueError, match="later index"):
        process.posterior(torch.zeros(1), torch.zeros(1), 5, 5)


def test_denoiser_clips_only_when_asked() -> None:
    process = Process(cosine_schedule(1000), "noise")
    x_t, t = torch.ones(2, 3), torch.tensor([999, 0])
    free = process.denoiser(lambda x, _: 0 * x)(x_t, t)
    assert free[0, 0].item() > 1e4
    assert process.denoiser(lambda x, _: 0 * x, clip=5.0)(x_t, t)[0, 0].item() == 5.0
    torch.testing.assert_close(process.denoiser(lambda x, _: 0 * x, clip=5.0)(x_t, t)[1], free[1])


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="noise, x0, v"):
        Process(linear_schedule(10), "eps")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="uniform, snr, min_snr"):
        Process(linear_schedule(10)).loss_weight(torch.tensor([1]), "p2")  # type: ignore[arg-type]
