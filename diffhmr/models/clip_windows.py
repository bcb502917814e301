"""Windows of a clip that is longer than a network takes, and joining what they give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class WindowOptions:
    """How a model sees clips.

    Attributes:
        frames: of a window.
        overlap: frames shared by the windows of longer clips.
        input: what of the picture becomes [-1, 1]: its shorter side, or the box of the person in the window.
    """

    frames: int
    overlap: int
    input: Literal["picture", "person"]


def window_starts(frames: int, window: int, overlap: int) -> list[int]:
    """First frames of the windows that cover ``frames`` frames, neighbours sharing ``overlap``.

    The last window ends with the last frame and may share more. A clip that is no longer than a window is one window.

    Raises:
        ValueError: windows that do not advance.
    """
    if not 0 <= overlap < window:
        raise ValueError(f"windows of {window} frames cannot share {overlap}")
    if frames <= window:
        return [0]
    return [*range(0, frames - window, window - overlap), frames - window]


def cut_windows(values: Tensor, starts: list[int], window: int) -> Tensor:
    """``[B, N, W, ...]``: the windows of ``values [B, T, ...]``, with W = min(T, ``window``)."""
    return torch.stack([values[:, start : start + window] for start in starts], dim=1)


def window_shares(frames: int, starts: list[int], window: int, overlap: int) -> Tensor:
    """``[N, W]``: how much each window counts in its frames; in every frame the shares of all windows add up to 1.

    Shared frames pass from one window to the next along a cubic that begins and ends level: a straight ramp would put
    a kink, and with it a jerk, where it begins wherever two windows disagree.
    """
    length = min(frames, window)
    place = torch.arange(length)
    share = torch.minimum(place + 1, length - place).clamp_max(overlap + 1).to(torch.float32) / (overlap + 1)
    ramp = share.square() * (3 - 2 * share)
    shares = ramp.expand(len(starts), length)
    total = join_windows(shares.unsqueeze(0), starts, frames)[0]
    return torch.stack([ramp / total[start : start + length] for start in starts])


def join_windows(parts: Tensor, starts: list[int], frames: int) -> Tensor:
    """``[B, T, ...]``: the sum of the windows ``parts [B, N, W, ...]``, each in its place."""
    whole = parts.new_zeros(parts.shape[0], frames, *parts.shape[3:])
    for index, start in enumerate(starts):
        whole[:, start : start + parts.shape[2]] += parts[:, index]
    return whole
