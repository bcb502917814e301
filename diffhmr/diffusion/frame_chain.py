"""A reverse diffusion chain whose steps are the frames of a clip.

Zheng et al., "DiffMesh: A Motion-aware Diffusion Framework for Human Mesh Recovery from Videos", WACV 2025: the chain
starts from one fixed state, warms up for some steps, and from then on the state after each step is that of a frame.
Nothing here is random: the network's output takes the place of the noise in DDIM's update, and no noise is added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from diffhmr.diffusion.schedule import NoiseSchedule

StepNetwork = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""``(state [B, ...], condition [B, ...], t) -> (noise [B, ...], the condition of the next step [B, ...])``."""

_FIRST_BETA, _LAST_BETA = 1e-4, 1e-3


@dataclass(frozen=True)
class ChainResult:
    """What a chain of T frames gives for B clips.

    Attributes:
        frames: ``[B, T, ...]``, the state after the step of each frame.
        next_conditions: ``[B, T - 1, ...]``, what the step of each frame but the last said of the condition of the
            following frame.
    """

    frames: Tensor
    next_conditions: Tensor


class FrameChain:
    """DDIM without noise (Song et al. 2021, equation 12 with sigma 0) through all indices of a schedule.

    Step k of the N steps has the diffusion index N - 1 - k and looks at condition k. The last T steps are the frames,
    forward in time; the N - T steps before them warm the chain up.

    Args:
        schedule: N indices.
        num_frames: T.

    Raises:
        ValueError: T is not 1 to N.
    """

    def __init__(self, schedule: NoiseSchedule, num_frames: int) -> None:
        if not 1 <= num_frames <= schedule.num_steps:
            raise ValueError(f"a chain of {schedule.num_steps} steps cannot have {num_frames} frames")
        self.schedule = schedule
        self.num_frames = num_frames

    @property
    def num_steps(self) -> int:
        """N."""
        return self.schedule.num_steps

    @property
    def warm_up(self) -> int:
        """Number of steps before the first frame, N - T."""
        return self.num_steps - self.num_frames

    def run(self, network: StepNetwork, start: Tensor, conditions: Tensor) -> ChainResult:
        """Go through all steps. Differentiable in everything; a caller who wants no gradients says so.

        Args:
            network: called once per step, from index N - 1 down to 0.
            start: ``[B, ...]``, the state before the first step.
            conditions: ``[B, N, ...]``, one per step.

        Raises:
            ValueError: there is not one condition per step.
        """
        if conditions.shape[1] != self.num_steps:
            raise ValueError(f"{conditions.shape[1]} conditions for a chain of {self.num_steps} steps")
        state = start
        frames, next_conditions = [], []
        for step, condition in enumerate(conditions.unbind(1)):
            t = self.num_steps - 1 - step
            noise, next_condition = network(state, condition, t)
            state = self.update(state, noise, t)
            if step >= self.warm_up:
                frames.append(state)
                next_conditions.append(next_condition)
        return ChainResult(torch.stack(frames, dim=1), torch.stack(next_conditions, dim=1)[:, :-1])

    def update(self, state: Tensor, noise: Tensor, t: int) -> Tensor:
        """The state at index ``t - 1`` from that at ``t`` and the noise in it; index -1 is clean.

        ``x0 = (x - sqrt(1 - abar_t) eps) / sqrt(abar_t)`` and ``x' = sqrt(abar_{t-1}) x0 + sqrt(1 - abar_{t-1}) eps``,
        written as one weighted sum whose weights are computed in float64.
        """
        schedule = self.schedule
        keep = schedule.signal_at(t - 1) / schedule.signal_at(t)
        return keep * state + (schedule.sigma_at(t - 1) - keep * schedule.sigma_at(t)) * noise


def frame_schedule(num_steps: int) -> NoiseSchedule:
    """DiffMesh's schedule: betas linear from 1e-4 to 1e-3, whatever the number of steps.

    With its 30 steps ``alpha_bar`` ends at 0.98363: the state at the start is taken to be nearly clean.
    """
    betas = torch.linspace(_FIRST_BETA, _LAST_BETA, num_steps, dtype=torch.float64, device="cpu")
    return NoiseSchedule(torch.cumprod(1 - betas, dim=0))
