"""Guidance on Gaussians, where the posterior given an observation is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffhmr.diffusion.guidance import guided, proximal
from diffhmr.diffusion.noise import SampleNoise
from diffhmr.diffusion.process import Denoiser, Process
from diffhmr.diffusion.sampling import ddim, ddpm
from diffhmr.diffusion.schedule import cosine_schedule
from tests.diffusion.gaussians import GaussianMixture

OBSERVED, OBSERVATION_STD = 1.5, 0.5


def _loss(x0: Tensor) -> Tensor:
    """Negative log-likelihood of observing the first coordinate."""
    return (x0[:, 0] - OBSERVED) ** 2 / (2 * OBSERVATION_STD**2)


def _unit() -> tuple[Process, Denoiser]:
    data = GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.0, 1.0]]])
    process = Process(cosine_schedule(100), "v")
    return process, process.denoiser(data.network(process))


def _noise(count: int = 3000) -> tuple[SampleNoise, Tensor]:
    noise = SampleNoise(range(count))
    return noise, noise.draw((2,), dtype=torch.float64)


def test_proximal_guidance_samples_the_exact_posterior_of_a_unit_gaussian() -> None:
    process, denoise = _unit()
    noise, start = _noise()
    samples = ddpm(proximal(denoise, _loss, 1.0, process, num_iterations=20), process, start, 100, noise)
    precision = 1 + 1 / OBSERVATION_STD**2
    assert samples[:, 0].mean().item() == pytest.approx(OBSERVED / OBSERVATION_STD**2 / precision, abs=0.03)
    assert samples[:, 0].var().item() == pytest.approx(1 / precision, rel=0.1)
    assert samples[:, 1].mean().item() == pytest.approx(0.0, abs=0.05)
    assert samples[:, 1].var().item() == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("scale", [0.1, 0.3])
def test_gradient_guidance_moves_the_observed_coordinate_only(scale: float) -> None:
    process, denoise = _unit()
    _, start = _noise(500)
    free = ddim(denoise, process, start, 50)
    pulled = ddim(guided(denoise, _loss, scale, process), process, start, 50)
    assert bool((pulled[:, 0] - free[:, 0]).mul((OBSERVED - free[:, 0]).sign()).mean() > 0.05)
    assert _loss(pulled).mean().item() < 0.7 * _loss(free).mean().item()
    torch.testing.assert_close(pulled[:, 1], free[:, 1])


def test_flat_prior_is_the_published_change_of_the_noise() -> None:
    """noise' = noise + sqrt(1 - alpha_bar) * grad_{x_t} L at constant noise, and x0 computed from noise'."""
    process, denoise = _unit()
    _, x_t = _noise(5)
    t = torch.full((5,), 60)
    signal, sigma = process.schedule.signal_at(60), process.schedule.sigma_at(60)
    noise = process.to_noise(denoise(x_t, t), x_t, t)
    variable = x_t.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(_loss((variable - sigma * noise) / signal).sum(), variable)
    expected = (x_t - sigma * (noise + sigma * 0.2 * gradient)) / signal
    torch.testing.assert_close(guided(denoise, _loss, 0.2, process, prior="flat")(x_t, t), expected)


def test_max_shift_bounds_the_root_mean_square_shift_of_each_sample() -> None:
    process, denoise = _unit()
    _, x_t = _noise(20)
    t = torch.full((20,), 75)
    free = denoise(x_t, t)
    shift = (guided(denoise, _loss, 100.0, process, max_shift=0.1)(x_t, t) - free).square().mean(1).sqrt()
    torch.testing.assert_close(shift, torch.full((20,), 0.1, dtype=torch.float64))
    small = guided(denoise, _loss, 1e-4, process)(x_t, t)
    torch.testing.assert_close(guided(denoise, _loss, 1e-4, process, max_shift=0.1)(x_t, t), small)


def test_each_sample_follows_its_own_gradient() -> None:
    process, denoise = _unit()
    _, x_t = _noise(6)
    t = torch.full((6,), 60)
    for wrap in (guided, proximal):
        wrapped = wrap(denoise, _loss, 3.0, process)
        torch.testing.assert_close(wrapped(x_t, t)[3:4], wrapped(x_t[3:4], t[3:4]))


def test_proximal_never_raises_a_stiff_loss_and_stays_finite() -> None:
    process, denoise = _unit()
    _, x_t = _noise(50)

    def stiff(x0: Tensor) -> Tensor:
        return 1e5 * (x0.square().sum(1) - 1) ** 2

    for index in (0, 25, 75, 99):
        t = torch.full((50,), index)
        before, after = denoise(x_t, t), proximal(denoise, stiff, 1.0, process)(x_t, t)
        assert bool(torch.isfinite(after).all())
        assert bool((stiff(after) <= stiff(before)).all())


def test_guidance_works_without_gradients_enabled_and_keeps_no_graph() -> None:
    process, denoise = _unit()
    _, x_t = _noise(4)
    with torch.no_grad():
        for wrap in (guided, proximal):
            assert not wrap(denoise, _loss, 0.5, process)(x_t, torch.full((4,), 50)).requires_grad


def test_wrong_arguments_are_refused() -> None:
    process, denoise = _unit()
    _, x_t = _noise(4)
    t = torch.full((4,), 50)
    with pytest.raises(ValueError, match="one value per sample"):
        guided(denoise, lambda x0: x0.sum(), 1.0, process)(x_t, t)
    with pytest.raises(ValueError, match="unknown prior"):
        guided(denoise, _loss, 1.0, process, prior="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one"):
        proximal(denoise, _loss, 1.0, process, num_iterations=0)
