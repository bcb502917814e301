"""The 1 Euro filter: smooth when slow, prompt when fast.

Casiez, Roussel and Vogel, "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive Systems",
CHI 2012. A first-order low-pass filter whose cutoff frequency grows with the speed of the signal: what stands still
does not tremble, what moves lags little behind. It looks at the past only.

A vector and a rotation have one cutoff for all their components, from the length of their speed. So the result does
not depend on the choice of axes, which filters of single numbers, quaternions or 6D numbers cannot say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffhmr.geometry.rotation import (
    axis_angle_to_matrix,
    matrix_to_axis_angle,
    matrix_to_rot6d_columns,
    rot6d_columns_to_matrix,
)


@dataclass(frozen=True)
class OneEuro:
    """Settings of the filter.

    Attributes:
        fps: frames per second.
        min_cutoff: Hz, the cutoff of a signal at rest: lower is smoother and later.
        beta: by how many Hz the cutoff grows per unit of speed (1 per second of a vector's unit, or radian per second).
        speed_cutoff: Hz, of the low-pass filter of the speed.

    Raises:
        ValueError: a frequency is not positive, or ``beta`` is negative.
    """

    fps: float
    min_cutoff: float = 0.7
    beta: float = 0.3
    speed_cutoff: float = 1.0

    def __post_init__(self) -> None:
        values = (self.fps, self.min_cutoff, self.speed_cutoff)
        if not all(math.isfinite(value) and value > 0 for value in values):
            raise ValueError(f"fps, min_cutoff and speed_cutoff must be positive, got {values}")
        if not (math.isfinite(self.beta) and self.beta >= 0):
            raise ValueError(f"beta must not be negative, got {self.beta}")

    def share(self, cutoff: Tensor) -> Tensor:
        """Share of a new value in the filtered one, in (0, 1), for a ``cutoff`` in Hz (equation 6 of the paper)."""
        return 1 / (1 + self.fps / (2 * math.pi * cutoff))

    def vectors(self, values: Tensor) -> Tensor:
        """Filtered ``values [..., T, D]``, a signal of D components in each leading dimension."""
        frames = [values[..., 0, :]]
        speed = torch.zeros_like(frames[0])
        for value in values.unbind(-2)[1:]:
            step = value - frames[-1]
            speed, share = self._advance(speed, step)
            frames.append(frames[-1] + share * step)
        return torch.stack(frames, dim=-2)

    def rotations(self, rotations: Tensor) -> Tensor:
        """Filtered ``rotations [..., T, 3, 3]``.

        Each step goes a share of the shortest way from the last filtered rotation to the new one, the share following
        from the angular speed.
        """
        frames = [rotations[..., 0, :, :]]
        speed = torch.zeros_like(rotations[..., 0, :, 0])
        for rotation in rotations.unbind(-3)[1:]:
            last = frames[-1]
            step = matrix_to_axis_angle(last.transpose(-1, -2) @ rotation)
            speed, share = self._advance(speed, step)
            turned = last @ axis_angle_to_matrix(share * step)
            # Products of thousands of matrices would drift away from rotations.
            frames.append(rot6d_columns_to_matrix(matrix_to_rot6d_columns(turned)))
        return torch.stack(frames, dim=-3)

    def _advance(self, speed: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """The filtered speed ``[..., D]`` after a step ``[..., D]`` from the last filtered value, and the share of the
        step to be taken ``[..., 1]``.
        """
        own = self.share(torch.tensor(self.speed_cutoff, dtype=step.dtype, device=step.device))
        speed = speed + own * (step * self.fps - speed)
        cutoff = self.min_cutoff + self.beta * torch.linalg.vector_norm(speed, dim=-1, keepdim=True)
        return speed, self.share(cutoff)
