"""Random numbers that are a function of an item and a purpose: the same in any batch, process and order.

Counter-based (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011) with the mixing function of
SplitMix64 (Steele et al., OOPSLA 2014). Training draws its times, noise and dropout masks from here, so that a loss is
a pure function of weights, batch and step seed: a resumed run and a run on several processes see the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xBF58476D1CE4E5B9
_MIX_2 = 0x94D049BB133111EB


def draw_seed(generator: torch.Generator) -> int:
    """The seed of a step: the next 62 bits of ``generator``."""
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))


def step_keys(item_seed: Tensor, step_seed: int) -> Tensor:
    """Keys ``[B]`` int64 for the items ``item_seed [B]`` int64 at one training step."""
    return _mix(_mix(item_seed) ^ _mix(torch.tensor(_signed(step_seed), device=item_seed.device)))


def item_uniforms(keys: Tensor, stream: int, shape: Sequence[int]) -> Tensor:
    """Uniform numbers in (0, 1), ``[B, *shape]`` float32, for ``keys [B]``; each ``stream`` is independent."""
    words = _words(keys, stream, math.prod(shape))
    # 23 bits and a half: never 0 and never 1 in float32.
    uniforms = (((words >> 41) & 0x7FFFFF).to(torch.float32) + 0.5) * 2.0**-23
    return uniforms.reshape(keys.shape[0], *shape)


def item_normals(keys: Tensor, stream: int, shape: Sequence[int]) -> Tensor:
    """Standard normal numbers, ``[B, *shape]`` float32 (Box-Muller)."""
    count = math.prod(shape)
    half = (count + 1) // 2
    radius_source, angle = item_uniforms(keys, stream, (2, half)).unbind(1)
    radius = (-2 * radius_source.log()).sqrt()
    angle = 2 * math.pi * angle
    pairs = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
    return pairs[:, :count].reshape(keys.shape[0], *shape)


def item_keep(keys: Tensor, stream: int, shape: Sequence[int], drop: float) -> Tensor:
    """Dropout masks ``[B, *shape]`` bool, True with probability ``1 - drop`` (to 2^-16)."""
    count = math.prod(shape)
    words = _words(keys, stream, (count + 3) // 4)
    quarters = words.view(torch.int16)[:, :count]
    return (quarters >= round(drop * 2**16) - 2**15).reshape(keys.shape[0], *shape)


def _words(keys: Tensor, stream: int, count: int) -> Tensor:
    """``[B, count]`` int64 of 64 random bits each."""
    start = _mix(keys ^ _mix(torch.tensor(stream + 1, device=keys.device)))
    counter = torch.arange(1, count + 1, device=keys.device) * _signed(_GOLDEN)
    return _mix(start.unsqueeze(-1) + counter)


def _mix(value: Tensor) -> Tensor:
    value = (value ^ _shift_right(value, 30)) * _signed(_MIX_1)
    value = (value ^ _shift_right(value, 27)) * _signed(_MIX_2)
    return value ^ _shift_right(value, 31)


def _shift_right(value: Tensor, bits: int) -> Tensor:
    # torch's >> keeps the sign; the mask clears the copies of it.
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """The int64 with the same 64 bits."""
    value &= 2**64 - 1
    return value - 2**64 if value >= 2**63 else value
