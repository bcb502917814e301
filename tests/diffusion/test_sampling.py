"""Samplers on Gaussians and mixtures with the exact denoiser: moments, mode weights, order, determinism."""

from __future__ import annotations

from itertools import pairwise
from typing import get_args

import pytest
import torch
from torch import Tensor

from diffhmr.diffusion.noise import SampleNoise
from diffhmr.diffusion.process import Denoiser, Process, Target
from diffhmr.diffusion.sampling import (
    SamplerName,
    Spacing,
    ddim,
    ddim_invert,
    ddpm,
    dpm_solver_pp_2m,
    sample,
    step_times,
)
from diffhmr.diffusion.schedule import CLEAN, NoiseSchedule, cosine_schedule, linear_schedule
from tests.diffusion.gaussians import GaussianMixture, correlated, two_modes

TARGETS = get_args(Target)
SAMPLERS = get_args(SamplerName)
COUNT = 4000


def _exact(data: GaussianMixture, target: Target = "v", num_steps: int = 1000) -> tuple[Process, Denoiser]:
    process = Process(cosine_schedule(num_steps), target)
    return process, process.denoiser(data.network(process))


def _start(count: int = COUNT) -> tuple[SampleNoise, Tensor]:
    noise = SampleNoise(range(count))
    return noise, noise.draw((2,), dtype=torch.float64)


def _check_moments(samples: Tensor, data: GaussianMixture) -> None:
    spread = data.covariance.diagonal().sqrt()
    assert bool(((samples.mean(0) - data.mean).abs() < 0.07 * spread).all())
    assert (torch.cov(samples.T) - data.covariance).norm() < 0.07 * data.covariance.norm()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("name", "steps", "eta"), [("ddim", 100, 0), ("ddim", 120, 1.0), ("dpm_solver_pp_2m", 20, 0)])
def test_mixture_is_reproduced_by_every_sampler_and_target(
    target: Target, name: SamplerName, steps: int, eta: float
) -> None:
    data = two_modes()
    process, denoise = _exact(data, target)
    noise, start = _start()
    samples = sample(name, denoise, process, start, steps, noise, eta=eta)
    _check_moments(samples, data)
    assert (samples[:, 0] < -0.5).double().mean().item() == pytest.approx(0.3, abs=0.025)


@pytest.mark.parametrize("target", TARGETS)
def test_full_ddpm_chain_gives_the_covariance_of_a_correlated_gaussian(target: Target) -> None:
    data = correlated()
    process, denoise = _exact(data, target, num_steps=150)
    noise, start = _start(3000)
    _check_moments(ddpm(denoise, process, start, 150, noise), data)


def test_ddpm_with_1000_steps_reproduces_the_modes() -> None:
    data = two_modes()
    process, denoise = _exact(data)
    noise, start = _start(1500)
    samples = ddpm(denoise, process, start, 1000, noise)
    assert (samples[:, 0] < -0.5).double().mean().item() == pytest.approx(0.3, abs=0.04)
    left = samples[samples[:, 0] < -0.5]
    torch.testing.assert_close(left.mean(0), data.means[0], atol=0.05, rtol=0)
    torch.testing.assert_close(torch.cov(left.T), data.covariances[0], atol=0.02, rtol=0)


def test_respaced_ddpm_uses_the_posterior_of_the_shortened_chain() -> None:
    """For unit Gaussian data every step is linear, so that the variance at the end follows a scalar recursion."""
    data = GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.0, 1.0]]])
    process, denoise = _exact(data)
    expected = []
    for steps in (20, 60):
        variance = 1.0
        for t, s in pairwise(step_times(process, steps)):
            later, earlier = process.schedule.alpha_bar_at(t), process.schedule.alpha_bar_at(s)
            # With x0 = sqrt(alpha_bar_t) x_t the posterior mean collapses to sqrt(alpha_bar_t / alpha_bar_s) x_t.
            variance = later / earlier * variance + (1 - later / earlier) * (1 - earlier) / (1 - later)
        expected.append(variance)
        noise, start = _start(5000)
        measured = ddpm(denoise, process, start, steps, noise).var(0)
        torch.testing.assert_close(measured, torch.full((2,), variance, dtype=torch.float64), atol=0, rtol=0.06)
    assert expected[0] < expected[1] < 1


def test_ddim_with_eta_one_is_ancestral_sampling() -> None:
    process, denoise = _exact(two_modes())
    for steps in (1, 7, 40):
        (noise_a, start), (noise_b, _) = _start(50), _start(50)
        ancestral = ddpm(denoise, process, start, steps, noise_a)
        torch.testing.assert_close(ddim(denoise, process, start, steps, noise_b, eta=1.0), ancestral)


def test_second_order_beats_ddim_at_the_same_number_of_steps() -> None:
    for data in (correlated(), two_modes()):
        process, denoise = _exact(data)
        _, start = _start(500)
        exact = dpm_solver_pp_2m(denoise, process, start, 1000, spacing="time")
        for steps in (8, 15, 30):
            first = (ddim(denoise, process, start, steps) - exact).norm(dim=1).mean()
            second = (dpm_solver_pp_2m(denoise, process, start, steps) - exact).norm(dim=1).mean()
            assert second.item() < 0.6 * first.item()


def test_errors_fall_with_the_order_of_the_method() -> None:
    """Halving the step must halve the error of DDIM and cut that of 2M by clearly more than two."""
    process, denoise = _exact(two_modes(), num_steps=4000)
    _, start = _start(300)
    exact = dpm_solver_pp_2m(denoise, process, start, 2000, spacing="time")

    def error(samples: Tensor) -> float:
        return (samples - exact).norm(dim=1).mean().item()

    first = error(ddim(denoise, process, start, 20)) / error(ddim(denoise, process, start, 40))
    coarse, fine = (dpm_solver_pp_2m(denoise, process, start, steps, spacing="time") for steps in (20, 40))
    assert 1.7 < first < 2.5
    assert error(coarse) / error(fine) > 3.2


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("schedule", [linear_schedule(1000), cosine_schedule(1000), cosine_schedule(1)])
def test_one_step_returns_the_denoiser_output(name: SamplerName, schedule: NoiseSchedule) -> None:
    process = Process(schedule, "x0")
    noise, start = _start(3)
    result = sample(name, lambda x, t: 2 * x + t[:, None], process, start, 1, noise)
    assert torch.equal(result, 2 * start + (schedule.num_steps - 1))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 5, 50, 100])
def test_every_number_of_steps_ends_on_the_clean_state(name: SamplerName, steps: int) -> None:
    """A denoiser that always gives the same x0 must be obeyed exactly, whatever the start."""
    process = Process(linear_schedule(100), "x0")
    noise, start = _start(4)
    answer = torch.tensor([[1.0, -2.0]], dtype=torch.float64).expand(4, 2)
    torch.testing.assert_close(sample(name, lambda *_: answer, process, start, steps, noise), answer)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sample_does_not_depend_on_the_batch(name: SamplerName) -> None:
    process, denoise = _exact(two_modes())
    noise, start = _start(6)
    together = sample(name, denoise, process, start, 9, noise)
    alone = SampleNoise([4])
    torch.testing.assert_close(
        sample(name, denoise, process, alone.draw((2,), dtype=torch.float64), 9, alone), together[4:5]
    )


@pytest.mark.parametrize("name", SAMPLERS)
def test_zero_noise_path_is_deterministic_whatever_the_seed(name: SamplerName) -> None:
    process, denoise = _exact(two_modes())
    results = []
    for seed in (1, 2):
        noise = SampleNoise([seed, seed], zero=[True, False])
        results.append(sample(name, denoise, process, noise.draw((2,)), 10, noise))
    assert torch.equal(results[0][0], results[1][0])
    assert not torch.equal(results[0][1], results[1][1])


def test_ddim_is_deterministic_and_draws_only_the_start() -> None:
    process, denoise = _exact(two_modes())
    noise, start = _start(5)
    untouched, _ = _start(5)
    assert torch.equal(ddim(denoise, process, start, 12, noise), ddim(denoise, process, start, 12))
    assert torch.equal(noise.draw((2,)), untouched.draw((2,)))


def test_ddim_inversion_recovers_the_start_noise() -> None:
    process, denoise = _exact(correlated())
    _, start = _start(100)
    errors = []
    for steps in (100, 1000):
        back = ddim_invert(denoise, process, ddim(denoise, process, start, steps), steps)
        errors.append((back - start).norm(dim=1).mean().item())
    assert errors[1] < 0.25 * errors[0]
    assert errors[1] < 0.03


def test_states_of_any_rank_and_dtype() -> None:
    process = Process(cosine_schedule(100), "v")
    for name in SAMPLERS:
        noise = SampleNoise([1, 2, 3])
        start = noise.draw((4, 2, 5))
        shaped = sample(name, process.denoiser(lambda x, _: 0.5 * x), process, start, 6, noise)
        assert shaped.shape == (3, 4, 2, 5) and shaped.dtype == torch.float32


@pytest.mark.parametrize("spacing", ["time", "angle"])
@pytest.mark.parametrize("schedule", [linear_schedule(1000), cosine_schedule(1000), cosine_schedule(7)])
def test_step_times_fall_strictly_from_the_top_to_clean(spacing: Spacing, schedule: NoiseSchedule) -> None:
    process = Process(schedule)
    for steps in {1, 2, 3, 5, 7, min(50, process.num_steps), process.num_steps}:
        times = step_times(process, steps, spacing)
        assert len(times) == steps + 1
        assert (times[0], times[-1]) == (process.num_steps - 1, CLEAN)
        assert all(a > b for a, b in pairwise(times))
    assert step_times(process, process.num_steps, spacing) == list(range(process.num_steps - 1, -2, -1))


def test_angle_spacing_needs_fewer_steps_for_a_narrow_posterior() -> None:
    data = GaussianMixture([1.0], [[0.0, 0.0]], [[[0.04, 0.0], [0.0, 0.0025]]])
    process, denoise = _exact(data)
    _, start = _start(1000)
    exact = dpm_solver_pp_2m(denoise, process, start, 1000)
    angle, time = (
        (dpm_solver_pp_2m(denoise, process, start, 10, spacing=spacing) - exact).norm(dim=1).mean().item()
        for spacing in ("angle", "time")
    )
    assert angle < 0.4 * time


@pytest.mark.parametrize("name", SAMPLERS)
def test_callback_sees_every_step(name: SamplerName) -> None:
    process, denoise = _exact(two_modes())
    noise, start = _start(2)
    seen: list[tuple[int, int]] = []
    last: list[Tensor] = []

    def record(step: int, t: int, x_t: Tensor, x0: Tensor) -> None:
        assert x_t.shape == x0.shape == (2, 2)
        seen.append((step, t))
        last.append(x0)

    result = sample(name, denoise, process, start, 6, noise, callback=record)
    assert [step for step, _ in seen] == list(range(6))
    assert seen[0][1] == 999
    torch.testing.assert_close(last[-1], result)


def test_sampling_keeps_no_graph() -> None:
    process = Process(cosine_schedule(10), "v")
    weight = torch.ones(1, requires_grad=True)
    noise, start = _start(2)
    assert not ddim(process.denoiser(lambda x, _: weight * x), process, start, 3, noise).requires_grad


def test_wrong_arguments_are_refused() -> None:
    process = Process(cosine_schedule(10), "x0")
    noise, start = _start(2)
    for steps in (0, 11):
        with pytest.raises(ValueError, match="1 to 10"):
            ddim(lambda x, _: x, process, start, steps)
    with pytest.raises(ValueError, match="eta must"):
        ddim(lambda x, _: x, process, start, 5, noise, eta=1.5)
    with pytest.raises(ValueError, match="needs noise"):
        ddim(lambda x, _: x, process, start, 5, eta=0.5)
    with pytest.raises(ValueError, match="no meaning"):
        sample("ddpm", lambda x, _: x, process, start, 5, noise, eta=0.5)
    with pytest.raises(ValueError, match="unknown sampler"):
        sample("heun", lambda x, _: x, process, start, 5, noise)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="spacing"):
        step_times(process, 5, "even")  # type: ignore[arg-type]


@pytest.mark.gpu
@pytest.mark.parametrize("name", SAMPLERS)
def test_cuda_gives_the_samples_of_the_cpu(name: SamplerName) -> None:
    process = Process(cosine_schedule(100), "v")
    results = []
    for device in ("cpu", "cuda"):
        noise = SampleNoise([1, 2, 3])
        start = noise.draw((7,), device)
        results.append(sample(name, process.denoiser(lambda x, _: torch.sin(x)), process, start, 10, noise).cpu())
    torch.testing.assert_close(results[0], results[1], atol=1e-4, rtol=1e-4)
