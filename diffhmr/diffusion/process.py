"""The diffusion process: adding noise, and the only place that knows what the network predicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from diffhmr.diffusion.schedule import NoiseSchedule

Target = Literal["noise", "x0", "v"]
Weighting = Literal["uniform", "snr", "min_snr"]
Denoiser = Callable[[Tensor, Tensor], Tensor]
"""``(x_t [N, ...], t [N] long) -> estimate of x_0 [N, ...]``: what every sampler steps with."""

MIN_SNR_GAMMA = 5.0


class Process:
    """A noise schedule and a prediction target, with the conversions between noise, x0 and v.

    States have shape ``[N, ...]`` with any trailing dimensions; ``t`` is ``[N]`` long with values in 0 ... T-1, or -1
    for clean data where a function says so. Coefficients are computed in float64 and used in the dtype of the state.

    Args:
        schedule: ``alpha_bar`` per index.
        target: what the network predicts: the ``noise``, the clean state ``x0``, or
            ``v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x0`` (Salimans and Ho 2022, section 4 and appendix D).

    Raises:
        ValueError: the target is not one of the three.
    """

    def __init__(self, schedule: NoiseSchedule, target: Target = "v") -> None:
        if target not in get_args(Target):
            raise ValueError(f"unknown prediction target {target!r}; choose one of {', '.join(get_args(Target))}")
        self.schedule = schedule
        self.target = target
        # Entry 0 is clean data, so that index t is looked up at t + 1.
        alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), schedule.alpha_bar])
        self._signal = alpha_bar.sqrt()
        self._sigma = (1 - alpha_bar).sqrt()
        self._moved: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    @property
    def num_steps(self) -> int:
        """T of the schedule."""
        return self.schedule.num_steps

    def signal_sigma(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """``sqrt(alpha_bar_t)`` and ``sqrt(1 - alpha_bar_t)``, shaped ``[N, 1, ...]`` to multiply ``like [N, ...]``."""
        key = (like.device, like.dtype)
        if key not in self._moved:
            self._moved[key] = (self._signal.to(like), self._sigma.to(like))
        shape = (-1, *(1,) * (like.dim() - 1))
        signal, sigma = self._moved[key]
        index = t.to(like.device) + 1
        return signal[index].reshape(shape), sigma[index].reshape(shape)

    def add_noise(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """A draw of ``q(x_t | x_0)`` made with the given unit noise; ``t`` may be -1, which returns ``x0``."""
        signal, sigma = self.signal_sigma(t, x0)
        return signal * x0 + sigma * noise

    def training_target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """What the network should output for ``x_t = add_noise(x0, t, noise)``."""
        if self.target == "noise":
            return noise
        if self.target == "x0":
            return x0
        signal, sigma = self.signal_sigma(t, x0)
        return signal * noise - sigma * x0

    def to_x0(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The clean state that a network output stands for.

        For the noise target this divides by ``sqrt(alpha_bar)``, which a schedule keeps at 1e-10 or more (5e-5 at the
        last index of the cosine schedule with T = 1000): always finite in float32, but an error of the predicted noise
        is magnified by ``sqrt(1/alpha_bar - 1)``. Samplers therefore take a ``clip``, see :meth:`denoiser`. The other
        two targets magnify nothing.
        """
        if self.target == "x0":
            return output
        signal, sigma = self.signal_sigma(t, x_t)
        if self.target == "noise":
            return (x_t - sigma * output) / signal
        return signal * x_t - sigma * output

    def to_noise(self, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The unit noise that lies between ``x0`` and ``x_t``. Not defined for clean data (``t = -1``)."""
        signal, sigma = self.signal_sigma(t, x_t)
        return (x_t - signal * x0) / sigma

    def snr(self, t: Tensor) -> Tensor:
        """``alpha_bar_t / (1 - alpha_bar_t)`` as ``[N]`` float32 on the device of ``t``."""
        alpha_bar = self.schedule.alpha_bar
        return (alpha_bar / (1 - alpha_bar)).to(torch.float32).to(t.device)[t]

    def loss_weight(self, t: Tensor, weighting: Weighting = "uniform") -> Tensor:
        """``[N]`` factors for the squared error of the network's *own* target.

        ``uniform`` is 1: the plain error of the target. The other two name one weight of the squared error of x0,
        which is then expressed for the target in use, so that the loss is the same whatever is predicted: ``snr``
        weighs x0 with SNR (the plain noise loss of Ho et al. 2020), ``min_snr`` with ``min(SNR, 5)`` (Hang et al. 2023,
        equation 7 and section 3.4).

        Raises:
            ValueError: the weighting is not known.
        """
        if weighting not in get_args(Weighting):
            raise ValueError(f"unknown loss weighting {weighting!r}; choose one of {', '.join(get_args(Weighting))}")
        snr = self.snr(t)
        if weighting == "uniform":
            return torch.ones_like(snr)
        weight_of_x0 = snr if weighting == "snr" else snr.clamp(max=MIN_SNR_GAMMA)
        # ||noise error||^2 = SNR ||x0 error||^2 and ||v error||^2 = (SNR + 1) ||x0 error||^2.
        if self.target == "x0":
            return weight_of_x0
        return weight_of_x0 / (snr if self.target == "noise" else snr + 1)

    def posterior(self, x0: Tensor, x_t: Tensor, t: int, s: int) -> tuple[Tensor, float]:
        """Mean and standard deviation of ``q(x_s | x_t, x_0)`` for ``s < t``; ``s`` need not be the neighbour of ``t``.

        Ho et al. 2020, equations 6 and 7, with the step's ``alpha`` replaced by ``alpha_bar_t / alpha_bar_s``. At
        ``s = -1`` the mean is ``x0`` and the deviation 0.
        """
        if not s < t:
            raise ValueError(f"the posterior goes from a later index to an earlier one, got {t} -> {s}")
        later, earlier = self.schedule.alpha_bar_at(t), self.schedule.alpha_bar_at(s)
        alpha = later / earlier
        mean = (alpha**0.5 * (1 - earlier) / (1 - later)) * x_t + (earlier**0.5 * (1 - alpha) / (1 - later)) * x0
        return mean, ((1 - earlier) / (1 - later) * (1 - alpha)) ** 0.5

    def denoiser(self, network: Denoiser, clip: float | None = None) -> Denoiser:
        """Wrap a network that outputs the target into the denoiser ``(x_t, t) -> x0`` that samplers take.

        Args:
            network: ``(x_t, t) -> output`` in the parameterisation of ``target``.
            clip: bound on every entry of x0. With the noise target it keeps the first steps of the chain, where the
                division by ``sqrt(alpha_bar)`` magnifies errors, inside the range of the data.
        """

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            x0 = self.to_x0(network(x_t, t), x_t, t)
            return x0 if clip is None else x0.clamp(-clip, clip)

        return denoise
