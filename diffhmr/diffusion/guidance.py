"""Guidance at x0: pulling samples towards an observation that the network was not trained on.

Both functions wrap a denoiser and return a denoiser, so that they work with every sampler. The loss is evaluated on the
estimated clean state and every sample follows its own gradient. Nothing is propagated through the denoiser, as in
ScoreHMR (Stathopoulos et al. 2024, section 3.3). Sample under ``torch.no_grad()``, not under
``torch.inference_mode()``: the loss needs gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from diffhmr.diffusion.process import Denoiser, Process

SampleLoss = Callable[[Tensor], Tensor]
"""``x0 [N, ...] -> loss [N]``; entry n may depend on sample n only."""
Prior = Literal["flat", "unit"]

_ARMIJO = 1e-4
_SHRINK = 0.25
_MAX_SHRINKS = 12


def guided(
    denoise: Denoiser,
    loss: SampleLoss,
    scale: float,
    process: Process,
    prior: Prior = "unit",
    max_shift: float | None = None,
) -> Denoiser:
    """Shift x0 down the gradient of ``loss`` once per denoising step.

    ``flat`` is the rule of ScoreHMR: ``noise' = noise + sqrt(1 - alpha_bar) g`` with ``g`` the gradient in ``x_t`` at
    constant noise, which is ``x0' = x0 - scale (1 - alpha_bar) / alpha_bar dL/dx0``. It fits the last steps of a chain
    only, because the factor is unbounded at high noise. ``unit`` replaces the factor by ``1 - alpha_bar``, the
    variance of x0 given x_t when the data have unit variance: bounded by 1 on the whole chain and the same as ``flat``
    at low noise.

    Args:
        denoise: the denoiser to wrap.
        loss: per-sample loss; with a negative log-likelihood and ``scale`` 1 the shift follows Bayes' rule.
        scale: strength.
        process: gives ``alpha_bar``.
        prior: see above.
        max_shift: bound on the root mean square shift of a sample's entries in one step, against stiff losses.

    Raises:
        ValueError: the prior is not known.
    """
    if prior not in get_args(Prior):
        raise ValueError(f"unknown prior {prior!r}; choose one of {', '.join(get_args(Prior))}")

    def denoise_guided(x_t: Tensor, t: Tensor) -> Tensor:
        x0 = denoise(x_t, t)
        _, gradient = _value_and_gradient(loss, x0)
        signal, sigma = process.signal_sigma(t, x0)
        variance = sigma**2 if prior == "unit" else (sigma / signal) ** 2
        shift = -scale * variance * gradient
        if max_shift is not None:
            length = _per_sample(shift.flatten(1).square().mean(1).sqrt(), shift)
            shift = shift * (max_shift / length.clamp(min=1e-12)).clamp(max=1.0)
        return x0 + shift

    return denoise_guided


def proximal(denoise: Denoiser, loss: SampleLoss, scale: float, process: Process, num_iterations: int = 5) -> Denoiser:
    """Replace x0 by the minimiser of ``scale L(x) + ||x - x0||^2 / (2 (1 - alpha_bar))``.

    The implicit form of :func:`guided` with the ``unit`` prior. It cannot overshoot: for a Gaussian prior of unit
    variance and a Gaussian likelihood it is the exact posterior mean given ``x_t`` and the observation. The minimum is
    sought by gradient descent with a line search of its own for every sample.

    Args:
        denoise: the denoiser to wrap.
        loss: per-sample negative log-likelihood of the observation.
        scale: strength.
        process: gives ``alpha_bar``.
        num_iterations: gradient evaluations per denoising step.

    Raises:
        ValueError: fewer than one iteration.
    """
    if num_iterations < 1:
        raise ValueError(f"proximal guidance needs at least one iteration, got {num_iterations}")

    def denoise_proximal(x_t: Tensor, t: Tensor) -> Tensor:
        x0 = denoise(x_t, t)
        variance = process.signal_sigma(t, x0)[1] ** 2

        def objective(x: Tensor) -> Tensor:
            return scale * loss(x) + 0.5 * ((x - x0) ** 2 / variance).flatten(1).sum(1)

        return _descend(objective, x0, variance, num_iterations)

    return denoise_proximal


def _descend(objective: SampleLoss, start: Tensor, largest_step: Tensor, num_iterations: int) -> Tensor:
    """Gradient descent with per-sample Armijo backtracking; the objective of a sample never rises."""
    x, step = start, largest_step
    for _ in range(num_iterations):
        value, gradient = _value_and_gradient(objective, x)
        slope = gradient.flatten(1).square().sum(1)
        candidate, accepted = x, torch.zeros_like(value, dtype=torch.bool)
        for _ in range(_MAX_SHRINKS):
            candidate = x - step * gradient
            accepted = objective(candidate) <= value - _ARMIJO * step.flatten() * slope
            if bool(accepted.all()):
                break
            step = torch.where(_per_sample(accepted, step), step, _SHRINK * step)
        x = torch.where(_per_sample(accepted, x), candidate, x)
        step = torch.minimum(2 * step, largest_step)
    return x


def _value_and_gradient(loss: SampleLoss, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.enable_grad():
        variable = x.detach().clone().requires_grad_(True)
        value = loss(variable)
        if tuple(value.shape) != (x.shape[0],):
            raise ValueError(
                f"a guidance loss must return one value per sample [{x.shape[0]}], got {tuple(value.shape)}"
            )
        (gradient,) = torch.autograd.grad(value.sum(), variable)
    return value.detach(), gradient


def _per_sample(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *(1,) * (like.dim() - 1))
