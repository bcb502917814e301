"""Noise that is correlated over the frames of a clip.

White noise asks of a network to make every frame agree with its neighbours from nothing. What people do has most of its
energy in slow changes; noise with a similar spectrum puts the randomness where it belongs, and samples are smooth
because their noise is. A linear map of unit normal noise, the same for all clips, is all that changes: the process, its
targets and its samplers stay what they are.

    n = sqrt(1 - w^2) g * white + w white'

with g a Gaussian window of unit energy, so that every single frame has unit variance; w > 0 keeps the covariance
regular.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor

from diffhmr.diffusion.noise import sample_seed


class TemporalNoise:
    """Stationary Gaussian noise over frames.

    Args:
        width: standard deviation of the window in frames; 0 gives white noise.
        white: w, the share of the deviation that is independent from frame to frame, in (0, 1].

    Attributes:
        reach: frames of white noise that are needed beyond either end.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, width: float, white: float) -> None:
        if width < 0 or not 0 < white <= 1:
            raise ValueError(f"noise with a width of {width} frames and a white share of {white} is not possible")
        self.width = width
        self.white = white
        self.reach = math.ceil(3 * width)
        place = torch.arange(-self.reach, self.reach + 1, dtype=torch.float64)
        window = torch.exp(-0.5 * (place / max(width, 1e-9)) ** 2)
        self._window = (window / window.square().sum().sqrt()).to(torch.float32)

    def covariance(self, lag: int) -> float:
        """Covariance of two frames ``lag`` apart; 1 for the same frame."""
        window = self._window.double()
        lag = abs(lag)
        slow = 0.0 if lag >= len(window) else float((window[: len(window) - lag] * window[lag:]).sum())
        return (1 - self.white**2) * slow + (self.white**2 if lag == 0 else 0.0)

    def white_shape(self, frames: int, dim: int) -> tuple[int, int, int]:
        """Shape of the white noise of one clip that :meth:`correlate` takes."""
        return frames + 2 * self.reach, 2, dim

    def correlate(self, white: Tensor) -> Tensor:
        """Noise ``[N, T, D]`` from unit normal ``white [N, T + 2 reach, 2, D]``.

        The first of two is smoothed, the second stays white. Noise of more frames begins with that of fewer if their
        white noise does.
        """
        frames = white.shape[1] - 2 * self.reach
        window = self._window.to(white)
        rows = white[:, :, 0].transpose(1, 2).flatten(0, 1).unsqueeze(1)
        slow = functional.conv1d(rows, window.reshape(1, 1, -1)).reshape(len(white), -1, frames).transpose(1, 2)
        return math.sqrt(1 - self.white**2) * slow + self.white * white[:, :frames, 1]


class TrackNoise:
    """Noise for whole clips, a function of the seeds alone, of which windows can be taken.

    Args:
        source: the noise.
        seeds: one per sample, see :func:`~diffhmr.diffusion.noise.sample_seed`.
        zero: per sample, True for the zero-noise path.
        frames: T.
        dim: D numbers per frame.
    """

    def __init__(
        self, source: TemporalNoise, seeds: Sequence[int], zero: Sequence[bool], frames: int, dim: int
    ) -> None:
        self._source, self._seeds, self._zero = source, list(seeds), list(zero)
        self._frames, self._dim = frames, dim
        self._known: tuple[int, Tensor] | None = None

    def draw(self, number: int) -> Tensor:
        """The noise number ``number`` (0: the start of the chain) of all samples, ``[N, T, D]`` on the CPU."""
        if self._known is None or self._known[0] != number:
            noise = torch.zeros(len(self._seeds), self._frames, self._dim)
            for row, seed, zero in zip(noise, self._seeds, self._zero, strict=True):
                if not zero:
                    row.copy_(self._one(sample_seed(seed, "track", number)))
            self._known = (number, noise)
        return self._known[1]

    def _one(self, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        white = torch.empty(1, *self._source.white_shape(self._frames, self._dim)).normal_(generator=generator)
        return self._source.correlate(white)[0]


class WindowNoise:
    """The part of a :class:`TrackNoise` that falls to some windows, drawn as samplers draw it.

    Args:
        track: of all samples.
        rows: which sample each of the W windows belongs to.
        starts: first frame of each window.
        frames: of a window.
    """

    def __init__(self, track: TrackNoise, rows: Sequence[int], starts: Sequence[int], frames: int) -> None:
        self._track, self._rows, self._starts, self._frames = track, list(rows), list(starts), frames
        self._number = 0

    def draw(
        self, shape: Sequence[int], device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """The next ``[W, frames, D]``; ``shape`` is ``(frames, D)``."""
        noise = self._track.draw(self._number)
        self._number += 1
        parts = [noise[row, start : start + self._frames] for row, start in zip(self._rows, self._starts, strict=True)]
        result = torch.stack(parts)
        assert tuple(result.shape[1:]) == tuple(shape)
        return result.to(device, dtype)
