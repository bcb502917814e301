"""Data distributions whose optimal denoiser is known in closed form."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from diffhmr.diffusion.process import Denoiser, Process


class GaussianMixture:
    """A mixture of full-covariance Gaussians in float64 with its exact ``E[x0 | x_t]``."""

    def __init__(self, weights: list[float], means: list[list[float]], covariances: list[list[list[float]]]) -> None:
        self.weights = torch.tensor(weights, dtype=torch.float64)
        self.means = torch.tensor(means, dtype=torch.float64)
        self.covariances = torch.tensor(covariances, dtype=torch.float64)

    @property
    def mean(self) -> Tensor:
        return self.weights @ self.means

    @property
    def covariance(self) -> Tensor:
        centred = self.means - self.mean
        between = torch.einsum("k,ki,kj->ij", self.weights, centred, centred)
        return torch.einsum("k,kij->ij", self.weights, self.covariances) + between

    def posterior_mean(self, x_t: Tensor, alpha_bar: float) -> Tensor:
        """``E[x0 | x_t]`` for ``x_t [N, D]``: responsibilities times the Gaussian regressions of the components."""
        signal = math.sqrt(alpha_bar)
        eye = torch.eye(self.means.shape[1], dtype=torch.float64)
        marginal = alpha_bar * self.covariances + (1 - alpha_bar) * eye
        offset = x_t.double()[:, None] - signal * self.means
        solved = torch.linalg.solve(marginal, offset.transpose(0, 1).mT).mT.transpose(0, 1)
        log_density = -0.5 * (offset * solved).sum(-1) - 0.5 * torch.logdet(marginal)
        responsibility = torch.softmax(log_density + self.weights.log(), dim=-1)
        regression = self.means + signal * torch.einsum("kij,nkj->nki", self.covariances, solved)
        return (responsibility[..., None] * regression).sum(1).to(x_t)

    def network(self, process: Process) -> Denoiser:
        """The optimal network for the target of ``process``: what perfect training would give."""

        def output(x_t: Tensor, t: Tensor) -> Tensor:
            assert bool((t == t[0]).all())
            x0 = self.posterior_mean(x_t, process.schedule.alpha_bar_at(int(t[0])))
            if process.target == "x0":
                return x0
            noise = process.to_noise(x0, x_t, t)
            return process.training_target(x0, t, noise)

        return output


def two_modes() -> GaussianMixture:
    """Weights 0.3 and 0.7, well apart, with different, correlated covariances."""
    return GaussianMixture(
        [0.3, 0.7],
        [[-1.5, 0.5], [0.8, -0.4]],
        [[[0.06, 0.03], [0.03, 0.05]], [[0.10, -0.05], [-0.05, 0.08]]],
    )


def correlated() -> GaussianMixture:
    """One Gaussian with strong correlation."""
    return GaussianMixture([1.0], [[0.5, -0.3]], [[[1.0, 0.8], [0.8, 0.9]]])
