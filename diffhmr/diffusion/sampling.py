"""Samplers: from noise to clean states with a denoiser ``(x_t, t) -> x0``, whatever the network predicts.

All of them take any number of steps from 1 to T, evaluate the denoiser once per step, and end exactly on the clean
state (index -1), never one index before it. Coefficients are float64 Python numbers; states keep their dtype.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from diffhmr.diffusion.noise import Noise
from diffhmr.diffusion.process import Denoiser, Process
from diffhmr.diffusion.schedule import CLEAN

SamplerName = Literal["ddpm", "ddim", "dpm_solver_pp_2m"]
Spacing = Literal["time", "angle"]
Callback = Callable[[int, int, Tensor, Tensor], None]
"""``(step, t, x_t, x0_hat)``, called after the denoiser and before the state moves on; step counts from 0."""

_ANGLE_POWER = 1.5


def step_times(process: Process, num_steps: int, spacing: Spacing = "time") -> list[int]:
    """The ``num_steps + 1`` falling indices that a sampler visits: from T-1 to ``CLEAN``.

    ``time`` is even in the index. ``angle`` places step i of K at ``angle(T-1) (1 - i/K)^1.5``, where the tangent of
    the angle is the noise-to-signal ratio: the result hardly depends on the schedule, and steps get shorter towards the
    clean end, where narrow conditional distributions are decided. Measured with DPM-Solver++(2M) on Gaussians and
    mixtures against the exact flow, 1.5 has a third of the error of ``time`` at 8 to 10 steps when the spread is a
    tenth of the unit, and is no worse when it is the unit; even spacing in the log-SNR is far worse below 10 steps.

    Args:
        process: gives T and the schedule.
        num_steps: 1 ... T, the number of denoiser evaluations.
        spacing: see above. Repeated indices are moved to the nearest free ones.

    Raises:
        ValueError: the number of steps is not in 1 ... T, or the spacing is unknown.
    """
    total = process.num_steps
    if not 1 <= num_steps <= total:
        raise ValueError(f"the number of sampling steps must be 1 to {total}, got {num_steps}")
    if spacing not in get_args(Spacing):
        raise ValueError(f"unknown step spacing {spacing!r}; choose one of {', '.join(get_args(Spacing))}")
    if spacing == "time":
        return [round(CLEAN + total * step / num_steps) for step in range(num_steps, -1, -1)]
    alpha_bar = process.schedule.alpha_bar
    angle = torch.atan2((1 - alpha_bar).sqrt(), alpha_bar.sqrt())
    times = [total - 1]
    for step in range(1, num_steps):
        wanted = angle[-1] * (1 - step / num_steps) ** _ANGLE_POWER
        nearest = int((angle - wanted).abs().argmin())
        # Leave one index for each step that is still to come.
        times.append(max(min(nearest, times[-1] - 1), num_steps - 1 - step))
    return [*times, CLEAN]


@torch.no_grad()
def ddpm(
    denoise: Denoiser,
    process: Process,
    x_T: Tensor,
    num_steps: int,
    noise: Noise,
    callback: Callback | None = None,
) -> Tensor:
    """Ancestral sampling (Ho et al. 2020, algorithm 2) with T steps or fewer.

    With fewer steps the posterior is that of the shortened chain, ``q(x_s | x_t, x_0)`` with the true ratio of
    ``alpha_bar``, so that the variance of every visited index stays right.
    """
    x = x_T
    times = step_times(process, num_steps)
    for step, (t, s) in enumerate(pairwise(times)):
        x0 = _denoise_at(denoise, x, t, step, callback)
        x, deviation = process.posterior(x0, x, t, s)
        if deviation > 0:
            x = x + deviation * noise.draw(x.shape[1:], x.device, x.dtype)
    return x


@torch.no_grad()
def ddim(
    denoise: Denoiser,
    process: Process,
    x_T: Tensor,
    num_steps: int,
    noise: Noise | None = None,
    callback: Callback | None = None,
    eta: float = 0.0,
) -> Tensor:
    """DDIM (Song et al. 2021, equations 12 and 16): ``eta`` 0 is deterministic, 1 is ancestral sampling.

    Raises:
        ValueError: ``eta`` is outside [0, 1], or positive without ``noise``.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must lie in [0, 1], got {eta}")
    if eta > 0 and noise is None:
        raise ValueError("DDIM with eta > 0 is stochastic and needs noise")
    x = x_T
    times = step_times(process, num_steps)
    for step, (t, s) in enumerate(pairwise(times)):
        x0 = _denoise_at(denoise, x, t, step, callback)
        later, earlier = process.schedule.alpha_bar_at(t), process.schedule.alpha_bar_at(s)
        deviation = eta * math.sqrt((1 - earlier) / (1 - later) * (1 - later / earlier))
        direction = math.sqrt(max(1 - earlier - deviation**2, 0.0)) / math.sqrt(1 - later)
        x = math.sqrt(earlier) * x0 + direction * (x - math.sqrt(later) * x0)
        if deviation > 0 and noise is not None:
            x = x + deviation * noise.draw(x.shape[1:], x.device, x.dtype)
    return x


@torch.no_grad()
def ddim_invert(denoise: Denoiser, process: Process, x_0: Tensor, num_steps: int) -> Tensor:
    """Run deterministic DDIM backwards: the noise from which it would reach ``x_0``, up to the step size.

    The clean state is taken as the state at index 0, where almost no noise is left.
    """
    x = x_0
    times = step_times(process, num_steps)[::-1]
    for step, (s, t) in enumerate(pairwise(times)):
        at = max(s, 0)
        x0 = _denoise_at(denoise, x, at, step, None)
        unit_noise = (x - process.schedule.signal_at(at) * x0) / process.schedule.sigma_at(at)
        x = process.schedule.signal_at(t) * x0 + process.schedule.sigma_at(t) * unit_noise
    return x


@torch.no_grad()
def dpm_solver_pp_2m(
    denoise: Denoiser,
    process: Process,
    x_T: Tensor,
    num_steps: int,
    callback: Callback | None = None,
    spacing: Spacing = "angle",
) -> Tensor:
    """DPM-Solver++(2M): second-order multistep in the log-SNR with data prediction (Lu et al. 2022, algorithm 2).

    The first step has no predecessor and the last one lands on the clean state, where the log-SNR is infinite: both
    are first order, and the last is then exactly the denoiser's output.
    """
    x = x_T
    times = step_times(process, num_steps, spacing)
    log_snr = process.schedule.log_snr().tolist()
    before: tuple[Tensor, float] | None = None
    for step, (t, s) in enumerate(pairwise(times)):
        x0 = _denoise_at(denoise, x, t, step, callback)
        if s == CLEAN:
            return x0
        h = log_snr[s] - log_snr[t]
        estimate = x0
        if before is not None:
            previous, h_previous = before
            estimate = x0 + (0.5 * h / h_previous) * (x0 - previous)
        ratio = process.schedule.sigma_at(s) / process.schedule.sigma_at(t)
        x = ratio * x - process.schedule.signal_at(s) * math.expm1(-h) * estimate
        before = (x0, h)
    raise AssertionError("step_times always ends on the clean index")


def sample(
    name: SamplerName,
    denoise: Denoiser,
    process: Process,
    x_T: Tensor,
    num_steps: int,
    noise: Noise,
    callback: Callback | None = None,
    eta: float = 0.0,
) -> Tensor:
    """Run the sampler called ``name`` from ``x_T [N, ...]`` to the clean state.

    Raises:
        ValueError: the name is unknown, the number of steps is not in 1 ... T, or ``eta`` is given to a sampler that
            has none.
    """
    if eta != 0 and name != "ddim":
        raise ValueError(f"eta = {eta} has no meaning for {name}; it belongs to ddim")
    if name == "ddpm":
        return ddpm(denoise, process, x_T, num_steps, noise, callback)
    if name == "ddim":
        return ddim(denoise, process, x_T, num_steps, noise, callback, eta)
    if name == "dpm_solver_pp_2m":
        return dpm_solver_pp_2m(denoise, process, x_T, num_steps, callback)
    raise ValueError(f"unknown sampler {name!r}; choose one of {', '.join(get_args(SamplerName))}")


def _denoise_at(denoise: Denoiser, x: Tensor, t: int, step: int, callback: Callback | None) -> Tensor:
    x0 = denoise(x, torch.full((x.shape[0],), t, dtype=torch.long, device=x.device))
    if callback is not None:
        callback(step, t, x, x0)
    return x0
