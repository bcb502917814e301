"""The denoiser around a Gaussian guess: exact when the guess is the truth."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffhmr.diffusion.noise import SampleNoise
from diffhmr.diffusion.process import Process
from diffhmr.diffusion.sampling import ddim
from diffhmr.diffusion.schedule import cosine_schedule
from diffhmr.models.precondition import Reference, denoise_around, signal_sigma

PROCESS = Process(cosine_schedule(100), "v")
REFERENCE = Reference(torch.tensor([[2.0, -1.0], [0.5, 3.0]]), torch.tensor([[0.5, 0.1], [1.0, 2.0]]))


def _silent(x: Tensor, t: Tensor) -> Tensor:  # noqa: ARG001
    return torch.zeros_like(x)


def test_signal_and_noise_of_a_grid_of_times() -> None:
    t = torch.tensor([[0, 99, 50]])
    signal, sigma = signal_sigma(PROCESS, torch.zeros(1, 3, 2), t)
    assert signal.shape == sigma.shape == (1, 3, 1)
    torch.testing.assert_close(signal[0, :, 0] ** 2, PROCESS.schedule.alpha_bar[t[0]].float())
    torch.testing.assert_close(signal**2 + sigma**2, torch.ones(1, 3, 1))


def test_a_silent_network_gives_the_posterior_mean_of_the_reference() -> None:
    t = torch.tensor([[30, 70], [5, 99]])
    x_t = torch.randn(2, 2, 2, generator=torch.Generator().manual_seed(0))
    x0 = denoise_around(_silent, PROCESS, x_t, t, REFERENCE)
    for item in range(2):
        for draw in range(2):
            alpha_bar = PROCESS.schedule.alpha_bar_at(int(t[item, draw]))
            mean, variance = REFERENCE.mean[item], REFERENCE.spread[item] ** 2
            # Bayes' rule for a linear observation with Gaussian noise.
            precision = 1 / variance + alpha_bar / (1 - alpha_bar)
            expected = (mean / variance + alpha_bar**0.5 * x_t[item, draw] / (1 - alpha_bar)) / precision
            torch.testing.assert_close(x0[item, draw], expected, atol=1e-4, rtol=1e-4)


def test_sampling_with_a_silent_network_draws_from_the_reference() -> None:
    noise = SampleNoise(range(2 * 2000))
    start = noise.draw((2,))

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        states, times = x_t.unflatten(0, (2, -1)), t.unflatten(0, (2, -1))[:, :1]
        return denoise_around(_silent, PROCESS, states, times, REFERENCE).flatten(0, 1)

    samples = ddim(denoise, PROCESS, start, 100).unflatten(0, (2, -1))
    torch.testing.assert_close(samples.mean(1), REFERENCE.mean, atol=0.15, rtol=0)
    torch.testing.assert_close(samples.std(1), REFERENCE.spread, atol=0.02, rtol=0.08)


def test_the_network_sees_unit_variance_and_speaks_in_units_of_the_posterior() -> None:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(2, 4000, 2, generator=generator)
    clean = REFERENCE.mean.unsqueeze(1) + REFERENCE.spread.unsqueeze(1) * torch.randn(2, 4000, 2, generator=generator)
    for index in (2, 50, 97):
        t = torch.full((2, 1), index)
        signal, sigma = signal_sigma(PROCESS, clean, t)
        seen: list[Tensor] = []

        def network(x: Tensor, at: Tensor, seen: list[Tensor] = seen) -> Tensor:  # noqa: ARG001
            seen.append(x)
            return torch.ones_like(x)

        x_t = signal * clean + sigma * noise
        shifted = denoise_around(network, PROCESS, x_t, t, REFERENCE)
        assert seen[0].var(1).sub(1).abs().max().item() < 0.15
        silent = denoise_around(_silent, PROCESS, x_t, t, REFERENCE)
        # The step of one unit is the deviation of the truth from the posterior mean.
        deviation = (clean - silent).std(1)
        torch.testing.assert_close((shifted - silent).mean(1), deviation, rtol=0.05, atol=1e-3)


def test_unknown_items_are_denoised_as_without_a_reference() -> None:
    """With mean 0 and spread 1 the network sees x_t itself."""
    seen: list[Tensor] = []

    def network(x: Tensor, t: Tensor) -> Tensor:  # noqa: ARG001
        seen.append(x)
        return torch.zeros_like(x)

    x_t = torch.randn(1, 3, 2, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([[10, 50, 90]])
    x0 = denoise_around(network, PROCESS, x_t, t, Reference(torch.zeros(1, 2), torch.ones(1, 2)))
    torch.testing.assert_close(seen[0], x_t)
    torch.testing.assert_close(x0, signal_sigma(PROCESS, x_t, t)[0] * x_t)
    assert x0[0, 2, 0].item() == pytest.approx(PROCESS.schedule.signal_at(90) * x_t[0, 2, 0].item(), rel=1e-5)
