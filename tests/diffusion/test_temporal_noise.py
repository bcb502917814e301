"""Noise over frames: its covariance in closed form, windows of tracks, and sampling with it from a known Gaussian."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from diffhmr.diffusion.process import Denoiser, Process
from diffhmr.diffusion.sampling import SamplerName, sample
from diffhmr.diffusion.schedule import cosine_schedule
from diffhmr.diffusion.temporal_noise import TemporalNoise, TrackNoise, WindowNoise

FRAMES, DIM = 24, 4


def _draw(source: TemporalNoise, count: int, frames: int = FRAMES, dim: int = DIM) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return source.correlate(torch.randn(count, *source.white_shape(frames, dim), generator=generator))


def _covariance(source: TemporalNoise, frames: int) -> Tensor:
    """``[T, T]`` float64, of one number through the frames."""
    return torch.tensor([[source.covariance(i - j) for j in range(frames)] for i in range(frames)], dtype=torch.float64)


@pytest.mark.parametrize(("width", "white"), [(6.0, 0.1), (2.5, 0.5), (0.4, 0.3), (0.0, 0.1), (5.0, 1.0)])
def test_covariance_of_a_large_sample_is_the_closed_form(width: float, white: float) -> None:
    source = TemporalNoise(width, white)
    samples = _draw(source, 2500).transpose(1, 2)  # [N, D, T]
    assert samples.shape == (2500, DIM, FRAMES)
    assert samples.mean((0, 1)).abs().max() < 0.05
    found = torch.cov(samples.flatten(0, 1).double().T)
    torch.testing.assert_close(found, _covariance(source, FRAMES), atol=0.06, rtol=0)
    # The numbers of a frame know nothing of each other, at any lag.
    between = torch.einsum("nt,ns->ts", samples[:, 0], samples[:, 1]) / 2500
    assert between.abs().max() < 0.1


def test_covariance_is_that_of_a_gaussian_window_and_a_white_share() -> None:
    for width, white in ((6.0, 0.1), (20.0, 0.4)):
        source = TemporalNoise(width, white)
        assert source.covariance(0) == pytest.approx(1, abs=1e-6)
        for lag in (1, 3, int(width), int(2 * width)):
            expected = (1 - white**2) * math.exp(-(lag**2) / (4 * width**2))
            assert source.covariance(lag) == source.covariance(-lag) == pytest.approx(expected, abs=2e-3)
        assert source.covariance(2 * source.reach + 1) == 0
        # White noise keeps it regular: without, frames that are close would be the same number.
        assert torch.linalg.eigvalsh(_covariance(source, 40)).min() > 0.9 * white**2


def test_width_0_is_white() -> None:
    source = TemporalNoise(0.0, 0.1)
    assert source.reach == 0
    assert [source.covariance(lag) for lag in (0, 1, 5)] == [pytest.approx(1), 0, 0]


def test_more_frames_begin_with_fewer() -> None:
    source = TemporalNoise(3.0, 0.2)
    white = torch.randn(2, *source.white_shape(50, DIM), generator=torch.Generator().manual_seed(1))
    long = source.correlate(white)
    assert long.shape == (2, 50, DIM)
    short = source.correlate(white[:, : 30 + 2 * source.reach])
    torch.testing.assert_close(long[:, :30], short, atol=1e-6, rtol=0)


def test_arguments_out_of_range() -> None:
    for width, white in ((-1.0, 0.1), (2.0, 0.0), (2.0, 1.1)):
        with pytest.raises(ValueError, match="not possible"):
            TemporalNoise(width, white)


def test_tracks_follow_from_their_seeds_alone() -> None:
    source = TemporalNoise(3.0, 0.2)
    track = TrackNoise(source, [11, 12, 13], [False, True, False], FRAMES, DIM)
    first, second = track.draw(0), track.draw(1)
    assert first.shape == (3, FRAMES, DIM)
    for row in (0, 2):
        assert (first[row] - second[row]).abs().amax(1).min() > 1e-3, "every number is noise of its own"
        assert (first[row] - first[2 - row]).abs().amax(1).min() > 1e-3
        alone = TrackNoise(source, [11 + row], [False], FRAMES, DIM)
        # In any order, and again and again.
        assert torch.equal(alone.draw(1)[0], second[row])
        assert torch.equal(alone.draw(0)[0], first[row]) and torch.equal(alone.draw(0)[0], first[row])
    for number in range(4):
        assert (track.draw(number)[1] == 0).all(), "the zero-noise path has none at any step"
    assert torch.equal(track.draw(0), first)


def test_tracks_have_the_covariance_over_seeds() -> None:
    source = TemporalNoise(3.0, 0.2)
    noise = TrackNoise(source, range(400), [False] * 400, 10, 8).draw(3)
    found = torch.cov(noise.transpose(1, 2).flatten(0, 1).double().T)
    torch.testing.assert_close(found, _covariance(source, 10), atol=0.1, rtol=0)


def test_windows_are_slices_of_their_track() -> None:
    track = TrackNoise(TemporalNoise(3.0, 0.2), [1, 2, 3], [False, False, True], FRAMES, DIM)
    rows, starts = [0, 1, 2, 0], [0, 5, 5, FRAMES - 8]
    windows = WindowNoise(track, rows, starts, 8)
    for number in range(3):
        drawn = windows.draw((8, DIM), dtype=torch.float64)
        assert drawn.dtype == torch.float64
        for part, row, start in zip(drawn, rows, starts, strict=True):
            assert torch.equal(part.float(), track.draw(number)[row, start : start + 8])
    # Frames that windows share have the same noise.
    first, second = WindowNoise(track, [0, 0], [2, 6], 8).draw((8, DIM))
    assert torch.equal(first[4:], second[:4])


class _GaussianMotion:
    """Motions of T frames, normal with a known covariance; the optimal denoiser for noise of another covariance."""

    def __init__(self, frames: int, source: TemporalNoise) -> None:
        place = torch.arange(frames, dtype=torch.float64)
        smooth = torch.exp(-0.5 * ((place[:, None] - place) / 2.0) ** 2)
        # Louder towards the end: not stationary as the noise is.
        loudness = 0.3 + 0.15 * place
        self.covariance = loudness[:, None] * (0.9 * smooth + 0.1 * torch.eye(frames)) * loudness
        self.noise = _covariance(source, frames)
        self.process = Process(cosine_schedule(1000), "x0")

    def denoise(self, noise: Tensor) -> Denoiser:
        def x0(x_t: Tensor, t: Tensor) -> Tensor:
            alpha_bar = self.process.schedule.alpha_bar_at(int(t[0]))
            marginal = alpha_bar * self.covariance + (1 - alpha_bar) * noise
            gain = math.sqrt(alpha_bar) * self.covariance @ torch.linalg.inv(marginal)
            return torch.einsum("ij,njd->nid", gain, x_t)

        return x0


@pytest.mark.parametrize(("name", "steps", "tolerance"), [("ddim", 400, 0.02), ("dpm_solver_pp_2m", 60, 0.02)])
def test_samples_have_the_covariance_of_the_data_although_the_noise_is_correlated(
    name: SamplerName, steps: int, tolerance: float
) -> None:
    """The chain is linear here: the images of the unit vectors are its matrix M, and M C M' its exact covariance."""
    frames, source = 8, TemporalNoise(1.5, 0.3)
    motion = _GaussianMotion(frames, source)
    unit = torch.eye(frames, dtype=torch.float64)[:, :, None]
    unused = WindowNoise(TrackNoise(source, [], [], frames, 1), [], [], frames)
    chain = sample(name, motion.denoise(motion.noise), motion.process, unit, steps, unused)[..., 0].T
    error = chain @ motion.noise @ chain.T - motion.covariance
    assert error.norm() < tolerance * motion.covariance.norm()
    # Who starts from white noise, or denoises as if it were, gets something else.
    assert (chain @ chain.T - motion.covariance).norm() > 0.2 * motion.covariance.norm()
    white = sample(name, motion.denoise(torch.eye(frames).double()), motion.process, unit, steps, unused)[..., 0].T
    assert (white @ motion.noise @ white.T - motion.covariance).norm() > 0.1 * motion.covariance.norm()


class _OneNumber:
    """Draws for N * T samples: each sees a unit vector of the T frames at one of the N draws, and else zeros."""

    def __init__(self, draws: int, frames: int) -> None:
        self._draws, self._frames, self._number = draws, frames, 0

    def draw(
        self, shape: Sequence[int], device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Tensor:
        result = torch.zeros(self._draws, self._frames, self._frames, dtype=dtype, device=device)
        result[self._number] = torch.eye(self._frames, dtype=dtype)
        self._number += 1
        return result.reshape(-1, *shape)


@pytest.mark.parametrize(("name", "eta"), [("ddpm", 0.0), ("ddim", 1.0), ("ddim", 0.5)])
def test_stochastic_samplers_need_correlated_noise_at_every_step(name: SamplerName, eta: float) -> None:
    """Exactly again: the sum of M_k C M_k' over all draws k."""
    frames, source, steps = 8, TemporalNoise(1.5, 0.3), 250
    motion = _GaussianMotion(frames, source)
    noise = _OneNumber(steps, frames)
    start = noise.draw((frames, 1), dtype=torch.float64)
    ends = sample(name, motion.denoise(motion.noise), motion.process, start, steps, noise, eta=eta)
    chain = ends.reshape(steps, frames, frames).transpose(1, 2)
    found = (chain @ motion.noise @ chain.transpose(1, 2)).sum(0)
    assert (found - motion.covariance).norm() < 0.03 * motion.covariance.norm()
    first = chain[0] @ motion.noise @ chain[0].T
    white = first + (chain[1:] @ chain[1:].transpose(1, 2)).sum(0)
    assert (white - motion.covariance).norm() > 0.1 * motion.covariance.norm()


def test_shared_frames_of_windows_stay_together_through_a_chain() -> None:
    """With a denoiser of single frames: windows of one track tell of the same motion."""
    source = TemporalNoise(2.0, 0.3)
    track = TrackNoise(source, [5], [False], 20, DIM)
    starts = [0, 6, 12]
    process = Process(cosine_schedule(100), "x0")
    for name in ("ddpm", "ddim", "dpm_solver_pp_2m"):
        windows = WindowNoise(track, [0] * 3, starts, 8)
        start = windows.draw((8, DIM))
        parts = sample(name, lambda x, _: torch.tanh(x), process, start, 12, windows)
        for first, second in pairwise(parts):
            torch.testing.assert_close(first[6:], second[:2])
