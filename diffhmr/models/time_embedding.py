"""Embedding of the diffusion index."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_LONGEST_PERIOD = 10000.0


def sinusoidal(t: Tensor, dim: int) -> Tensor:
    """Sines and cosines ``[..., dim]`` of ``t [...]`` at ``dim / 2`` frequencies from 1 to 1e-4 (Vaswani et al. 2017).

    Raises:
        ValueError: ``dim`` is odd or below 4.
    """
    if dim % 2 or dim < 4:
        raise ValueError(f"a sinusoidal embedding needs an even size of at least 4, got {dim}")
    half = dim // 2
    exponent = torch.arange(half, device=t.device, dtype=torch.float32) / (half - 1)
    angle = t.to(torch.float32).unsqueeze(-1) * torch.exp(-math.log(_LONGEST_PERIOD) * exponent)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class TimeEmbedding(nn.Module):
    """Sinusoids of ``sinusoid_dim`` numbers, then two linear layers to ``dim`` (Ho et al. 2020, appendix B)."""

    def __init__(self, sinusoid_dim: int, dim: int) -> None:
        super().__init__()
        self.sinusoid_dim = sinusoid_dim
        self.layers = nn.Sequential(nn.Linear(sinusoid_dim, dim), nn.GELU(), nn.Linear(dim, dim))

    def forward(self, t: Tensor) -> Tensor:
        """``t [...]`` long to ``[..., dim]``."""
        embedding: Tensor = self.layers(sinusoidal(t, self.sinusoid_dim))
        return embedding
