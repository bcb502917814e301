"""Transformer layers written out from their formulas on a state dict, for tests that hold a network against them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

State = Mapping[str, Tensor]


def linear(state: State, name: str, x: Tensor) -> Tensor:
    return torch.einsum("...i,oi->...o", x, state[f"{name}.weight"]) + state[f"{name}.bias"]


def layer_norm(state: State, name: str, x: Tensor) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-6) * state[f"{name}.weight"] + state[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


def mlp(state: State, name: str, x: Tensor) -> Tensor:
    return linear(state, f"{name}.fc2", gelu(linear(state, f"{name}.fc1", x)))


def heads_of(x: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values ``[..., N, heads, C]`` of their projection: the three one after the other."""
    query, key, value = x.chunk(3, dim=-1)
    return query.unflatten(-1, (heads, -1)), key.unflatten(-1, (heads, -1)), value.unflatten(-1, (heads, -1))


def attention_weights(query: Tensor, key: Tensor) -> Tensor:
    """``[..., heads, N, N]``, rows sum to 1."""
    scores = torch.einsum("...nhc,...mhc->...hnm", query, key) / query.shape[-1] ** 0.5
    return torch.exp(scores) / torch.exp(scores).sum(-1, keepdim=True)


def attention(state: State, name: str, x: Tensor, heads: int) -> Tensor:
    """Self-attention over the next to last dimension."""
    query, key, value = heads_of(linear(state, f"{name}.qkv", x), heads)
    mixed = torch.einsum("...hnm,...mhc->...nhc", attention_weights(query, key), value)
    return linear(state, f"{name}.proj", mixed.flatten(-2))


def rotation_from_interleaved(rot6d: Tensor) -> Tensor:
    """Gram-Schmidt on the columns of a row-major 3x2 matrix, ``[..., 6]`` to ``[..., 3, 3]``."""
    first, second = rot6d[..., 0::2], rot6d[..., 1::2]
    b1 = first / first.norm(dim=-1, keepdim=True)
    b2 = second - (b1 * second).sum(-1, keepdim=True) * b1
    b2 = b2 / b2.norm(dim=-1, keepdim=True)
    return torch.stack([b1, b2, torch.linalg.cross(b1, b2)], dim=-1)


def randomised(module: torch.nn.Module, seed: int = 0) -> None:
    """Make every parameter and running statistic random, so that no part of a network is the identity or zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=generator)
            if name.endswith("running_var"):
                value.copy_(0.5 + noise.abs())
            elif value.dim() > 1 and "embed" not in name and not name.endswith("init_pose"):
                value.copy_(noise / value[0].numel() ** 0.5)
            else:
                value.add_(0.3 * noise)
