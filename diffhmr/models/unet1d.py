"""A 1D U-Net as f_omega, in the lineage that the paper names.

The joints are the sequence and the six numbers of a rotation the channels. The network follows the U-Net of Ho et al.
(2020) in one dimension, with the linear attention of Shen et al. (2021) at every level.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from diffhmr.models.time_embedding import TimeEmbedding

TOKEN_CHANNELS = 6

_HEADS = 4
_HEAD_DIM = 32
_EPSILON = 1e-8


class UnetDenoiser(nn.Module):
    """The U-Net on a state vector.

    The state is cut into tokens of six numbers: 24 joints, and for the state with shape and camera their 13 numbers in
    three more tokens, the last five entries zero. The sequence is padded with zero tokens to the length that the
    down-samplings need (a multiple of 8 with four levels: 24 stays 24, 27 becomes 32); what comes out at padded
    places is dropped.

    Args:
        state_dim: D of the state.
        condition_dim: C of the condition.
        dim: channels of the first level.
        mults: channels of the levels, in units of ``dim``.
    """

    def __init__(self, state_dim: int, condition_dim: int, dim: int = 64, mults: Sequence[int] = (1, 2, 4, 8)) -> None:
        super().__init__()
        divisor = 2 ** (len(mults) - 1)
        tokens = -(-state_dim // TOKEN_CHANNELS)
        self.length = -(-tokens // divisor) * divisor
        self.state_dim = state_dim
        self.condition_in = nn.Linear(condition_dim, 4 * dim)
        self.unet = Unet1d(TOKEN_CHANNELS, dim, mults)

    def condition(self, features: Tensor) -> Tensor:
        """The part that depends on the item only: ``features [B, C]`` to ``[B, K]`` for :meth:`forward`."""
        projected: Tensor = self.condition_in(features)
        return projected

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Network output ``[B, S, D]``; arguments as for ``MlpDenoiser``. z is added to the time embedding."""
        embedding = self.unet.time(t) + condition.unsqueeze(1)
        embedding = embedding.expand(-1, x_t.shape[1], -1).flatten(0, 1)
        padded = functional.pad(x_t.flatten(0, 1), (0, self.length * TOKEN_CHANNELS - self.state_dim))
        tokens = padded.unflatten(-1, (self.length, TOKEN_CHANNELS)).transpose(1, 2)
        output = self.unet(tokens, embedding).transpose(1, 2).flatten(1)
        return output[:, : self.state_dim].reshape(x_t.shape)


class Unet1d(nn.Module):
    """``[N, channels, L]`` and an embedding ``[N, 4 dim]`` to ``[N, channels, L]``.

    Each level has two residual blocks and a linear attention, on the way down and, with the features of the way down
    as further input, on the way up; full attention lies in the middle. L is a multiple of 2 to the number of levels
    less one.
    """

    def __init__(self, channels: int, dim: int, mults: Sequence[int]) -> None:
        super().__init__()
        embedding_dim = 4 * dim
        widths = [dim, *(dim * mult for mult in mults)]
        pairs = list(itertools.pairwise(widths))
        self.time = TimeEmbedding(dim, embedding_dim)
        self.stem = nn.Conv1d(channels, dim, 7, padding=3)
        self.down = nn.ModuleList(
            _DownLevel(inner, outer, embedding_dim, last=level == len(pairs) - 1)
            for level, (inner, outer) in enumerate(pairs)
        )
        self.middle_in = _ResidualBlock(widths[-1], widths[-1], embedding_dim)
        self.middle_attention = _Attention(widths[-1])
        self.middle_out = _ResidualBlock(widths[-1], widths[-1], embedding_dim)
        self.up = nn.ModuleList(
            _UpLevel(inner, outer, embedding_dim, last=level == 0)
            for level, (inner, outer) in reversed(list(enumerate(pairs)))
        )
        self.final = _ResidualBlock(2 * dim, dim, embedding_dim)
        self.out = nn.Conv1d(dim, channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """See the class."""
        stem = self.stem(x)
        hidden, skips = stem, []
        for level in self.down:
            hidden, level_skips = level(hidden, embedding)
            skips.append(level_skips)
        hidden = self.middle_in(hidden, embedding)
        hidden = self.middle_out(hidden + self.middle_attention(hidden), embedding)
        for level in self.up:
            hidden = level(hidden, skips.pop(), embedding)
        output: Tensor = self.out(self.final(torch.cat([hidden, stem], dim=1), embedding))
        return output


class _DownLevel(nn.Module):
    def __init__(self, inner: int, outer: int, embedding_dim: int, last: bool) -> None:
        super().__init__()
        self.first = _ResidualBlock(inner, inner, embedding_dim)
        self.second = _ResidualBlock(inner, inner, embedding_dim)
        self.attention = _LinearAttention(inner)
        self.resample = nn.Conv1d(inner, outer, 3, padding=1) if last else nn.Conv1d(inner, outer, 4, 2, padding=1)

    def forward(self, x: Tensor, embedding: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        first = self.first(x, embedding)
        second = self.second(first, embedding)
        second = second + self.attention(second)
        return self.resample(second), (first, second)


class _UpLevel(nn.Module):
    def __init__(self, inner: int, outer: int, embedding_dim: int, last: bool) -> None:
        super().__init__()
        self.last = last
        self.first = _ResidualBlock(outer + inner, outer, embedding_dim)
        self.second = _ResidualBlock(outer + inner, outer, embedding_dim)
        self.attention = _LinearAttention(outer)
        self.resample = nn.Conv1d(outer, inner, 3, padding=1)

    def forward(self, x: Tensor, skips: tuple[Tensor, Tensor], embedding: Tensor) -> Tensor:
        x = self.first(torch.cat([x, skips[1]], dim=1), embedding)
        x = self.second(torch.cat([x, skips[0]], dim=1), embedding)
        x = x + self.attention(x)
        if not self.last:
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
        upsampled: Tensor = self.resample(x)
        return upsampled


class _ChannelRMSNorm(nn.Module):
    """Root-mean-square normalisation over the channels (Zhang and Sennrich 2019)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(dim=1, keepdim=True) + _EPSILON).rsqrt() * self.gain


class _ResidualBlock(nn.Module):
    """Two convolutions; the embedding scales and shifts the first one's normalised output (FiLM)."""

    def __init__(self, inner: int, outer: int, embedding_dim: int) -> None:
        super().__init__()
        self.modulation = nn.Linear(embedding_dim, 2 * outer)
        self.conv1 = nn.Conv1d(inner, outer, 3, padding=1)
        self.norm1 = _ChannelRMSNorm(outer)
        self.conv2 = nn.Conv1d(outer, outer, 3, padding=1)
        self.norm2 = _ChannelRMSNorm(outer)
        self.shortcut = nn.Identity() if inner == outer else nn.Conv1d(inner, outer, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(functional.silu(embedding)).unsqueeze(-1).chunk(2, dim=1)
        hidden = functional.silu(self.norm1(self.conv1(x)) * (1 + scale) + shift)
        hidden = functional.silu(self.norm2(self.conv2(hidden)))
        result: Tensor = hidden + self.shortcut(x)
        return result


class _LinearAttention(nn.Module):
    """Efficient attention (Shen et al. 2021): softmax of the queries over features and of the keys over positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = _HEADS * _HEAD_DIM
        self.norm = _ChannelRMSNorm(channels)
        self.qkv = nn.Conv1d(channels, 3 * hidden, 1, bias=False)
        self.out = nn.Sequential(nn.Conv1d(hidden, channels, 1), _ChannelRMSNorm(channels))

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = _heads(self.qkv(self.norm(x)))
        query = query.softmax(dim=-2) * _HEAD_DIM**-0.5
        context = key.softmax(dim=-1) @ value.transpose(-1, -2)
        attended: Tensor = self.out((context.transpose(-1, -2) @ query).flatten(1, 2))
        return attended


class _Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = _HEADS * _HEAD_DIM
        self.norm = _ChannelRMSNorm(channels)
        self.qkv = nn.Conv1d(channels, 3 * hidden, 1, bias=False)
        self.out = nn.Conv1d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (part.transpose(-1, -2) for part in _heads(self.qkv(self.norm(x))))
        attended = functional.scaled_dot_product_attention(query, key, value)
        result: Tensor = self.out(attended.transpose(-1, -2).flatten(1, 2))
        return result


def _heads(qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``[N, 3 heads dim, L]`` to three tensors ``[N, heads, dim, L]``."""
    query, key, value = qkv.chunk(3, dim=1)
    shape = (_HEADS, _HEAD_DIM)
    return query.unflatten(1, shape), key.unflatten(1, shape), value.unflatten(1, shape)
