"""Noise schedules: how much of the clean signal is left at each diffusion index."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

CLEAN = -1
"""The diffusion index of clean data: ``alpha_bar`` is 1 there. Noisy indices are 0 to T-1."""

_MAX_BETA = 0.999
_SMALLEST_ALPHA_BAR = 1e-20


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """A variance-preserving schedule: ``x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise``.

    Attributes:
        alpha_bar: ``[T]`` float64 on the CPU, strictly falling inside (0, 1). No entry is below 1e-20, so that dividing
            a float32 by ``sqrt(alpha_bar)`` stays finite at every index.

    Raises:
        ValueError: ``alpha_bar`` is not such a tensor.
    """

    alpha_bar: Tensor

    def __post_init__(self) -> None:
        table = self.alpha_bar
        if table.dim() != 1 or table.numel() == 0 or table.dtype != torch.float64 or table.device.type != "cpu":
            raise ValueError("alpha_bar must be a float64 CPU tensor of shape [T] with T >= 1")
        inside = bool((table < 1).all()) and bool((table >= _SMALLEST_ALPHA_BAR).all())
        if not inside or not bool((table.diff() < 0).all()):
            raise ValueError(f"alpha_bar must fall strictly and lie in [{_SMALLEST_ALPHA_BAR}, 1)")

    @property
    def num_steps(self) -> int:
        """T, the number of noisy indices."""
        return self.alpha_bar.numel()

    @property
    def betas(self) -> Tensor:
        """``[T]`` float64: the variance added by each single step, ``1 - alpha_bar_t / alpha_bar_{t-1}``."""
        previous = torch.cat([torch.ones(1, dtype=torch.float64), self.alpha_bar[:-1]])
        return 1 - self.alpha_bar / previous

    def alpha_bar_at(self, t: int) -> float:
        """``alpha_bar`` at one index; 1 at ``CLEAN``."""
        if not CLEAN <= t < self.num_steps:
            raise ValueError(f"diffusion index {t} is outside -1 ... {self.num_steps - 1}")
        return 1.0 if t == CLEAN else float(self.alpha_bar[t])

    def signal_at(self, t: int) -> float:
        """``sqrt(alpha_bar)`` at one index."""
        return math.sqrt(self.alpha_bar_at(t))

    def sigma_at(self, t: int) -> float:
        """``sqrt(1 - alpha_bar)`` at one index."""
        return math.sqrt(1 - self.alpha_bar_at(t))

    def log_snr(self) -> Tensor:
        """``[T]`` float64: ``log(sqrt(alpha_bar) / sqrt(1 - alpha_bar))``, the lambda of DPM-Solver."""
        return 0.5 * (torch.log(self.alpha_bar) - torch.log1p(-self.alpha_bar))


def linear_schedule(num_steps: int = 1000) -> NoiseSchedule:
    """Linear betas, 1e-4 to 2e-2 at T = 1000 (Ho et al. 2020, section 4), scaled by ``1000 / T`` for another T.

    Betas are clipped at 0.999, which matters only below T = 21.
    """
    _check_length(num_steps)
    scale = 1000 / num_steps
    betas = torch.linspace(1e-4 * scale, 2e-2 * scale, num_steps, dtype=torch.float64)
    return _from_betas(betas)


def cosine_schedule(num_steps: int = 1000, offset: float = 0.008) -> NoiseSchedule:
    """Squared-cosine ``alpha_bar`` (Nichol and Dhariwal 2021, equation 17) with betas clipped at 0.999.

    ``alpha_bar_t = f(t + 1) / f(0)`` with ``f(u) = cos^2(pi / 2 (u / T + offset) / (1 + offset))``; the clip replaces
    the last entry, which would be 0.
    """
    _check_length(num_steps)
    grid = torch.arange(num_steps + 1, dtype=torch.float64) / num_steps
    curve = torch.cos((grid + offset) / (1 + offset) * math.pi / 2) ** 2
    return _from_betas(1 - curve[1:] / curve[:-1])


def _from_betas(betas: Tensor) -> NoiseSchedule:
    alpha_bar = torch.cumprod(1 - betas.clamp(max=_MAX_BETA), dim=0)
    return NoiseSchedule(alpha_bar.clamp(min=_SMALLEST_ALPHA_BAR))


def _check_length(num_steps: int) -> None:
    if num_steps < 1:
        raise ValueError(f"a noise schedule needs at least one step, got {num_steps}")
