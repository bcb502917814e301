"""The denoiser in the frame of a point estimate. Not in the paper."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffhmr.diffusion.process import Process

Network = Callable[[Tensor, Tensor], Tensor]
"""``(input [B, S, D], t [B, S] or [B, 1]) -> [B, S, D]``."""

_MIN_SPREAD, _FIRST_SPREAD, _MAX_SPREAD = 0.02, 0.5, 1.5


@dataclass(frozen=True)
class Reference:
    """A Gaussian guess of the clean state of each item: ``mean [B, D]`` and standard deviation ``spread [B, D]``.

    Mean 0 and spread 1 is what is known of a z-scored state before anything is seen.
    """

    mean: Tensor
    spread: Tensor


class SpreadHead(nn.Module):
    """How far from the estimate the truth may lie: a standard deviation per item and entry of the state.

    It needs no loss of its own: the diffusion loss is least when the spread is that of the estimate's errors. Starts
    near 0.5 for everything and stays in (0.02, 1.5), in units of the spread of the data.
    """

    def __init__(self, z_dim: int, state_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(z_dim, state_dim)
        share = (_FIRST_SPREAD - _MIN_SPREAD) / (_MAX_SPREAD - _MIN_SPREAD)
        with torch.no_grad():
            self.linear.weight.mul_(0.1)
            self.linear.bias.fill_(math.log(share / (1 - share)))

    def forward(self, z: Tensor) -> Tensor:
        """``z [B, C]``, normalised, to the spread ``[B, D]``."""
        return _MIN_SPREAD + (_MAX_SPREAD - _MIN_SPREAD) * self.linear(z).sigmoid()


def denoise_around(network: Network, process: Process, x_t: Tensor, t: Tensor, reference: Reference) -> Tensor:
    """Estimate of the clean state, built on the one that would be exact if the reference were the whole truth.

    For ``x0 ~ N(mean, spread^2)`` the posterior of x0 given x_t is Gaussian with a known mean and deviation. The
    network sees the residual of x_t scaled to unit variance, and its output, in units of that deviation, corrects the
    posterior mean. A network that says nothing thus samples from the reference, and the zero-noise chain gives its
    mean. This is the preconditioning of Karras et al. (2022, equation 7 and table 1) with a mean that depends on the
    item and a spread per entry.

    Args:
        network: see ``Network``.
        process: gives signal and noise at t.
        x_t: ``[B, S, D]``.
        t: ``[B, S]`` long, or ``[B, 1]`` when all S of an item share it.
        reference: of the B items.
    """
    signal, sigma = signal_sigma(process, x_t, t)
    mean, spread = reference.mean.unsqueeze(1), reference.spread.unsqueeze(1)
    scale = (signal.square() * spread.square() + sigma.square()).sqrt()
    residual = (x_t - signal * mean) / scale
    posterior_mean = mean + signal * spread.square() / scale * residual
    posterior_deviation = spread * sigma / scale
    return posterior_mean + posterior_deviation * network(residual, t)


def signal_sigma(process: Process, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """``sqrt(alpha_bar_t)`` and ``sqrt(1 - alpha_bar_t)`` of ``t [B, R]``, ``[B, R, 1]`` in the dtype of ``x_t``."""
    signal, sigma = process.signal_sigma(t.flatten(), x_t.flatten(0, 1))
    return signal.reshape(*t.shape, 1), sigma.reshape(*t.shape, 1)
