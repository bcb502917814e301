"""A residual MLP as f_omega."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffhmr.models.time_embedding import TimeEmbedding

_EMBEDDING_DIM = 192
_SINUSOID_DIM = 128
_BRANCH_GAIN = 0.5
_OUTPUT_GAIN = 0.1


class MlpDenoiser(nn.Module):
    """Pre-LN residual blocks on the whole state, modulated by time and condition.

    The condition is projected once per item, by :meth:`condition`, to an offset of the first hidden layer and to an
    embedding that joins that of the time. Scale and shift of every block and of the output follow from their sum
    (FiLM, Perez et al. 2018; adaLN, Peebles and Xie 2023). Samples that share item and time share the modulation, so
    that a sampling step of many hypotheses costs little more than the trunk.

    The residual branches and the output start small, not at zero: every parameter has a gradient from the first step.

    Args:
        state_dim: D of the state.
        condition_dim: C of the condition.
        width: of the trunk.
        blocks: residual blocks of two linear layers each.
    """

    def __init__(self, state_dim: int, condition_dim: int, width: int = 1024, blocks: int = 3) -> None:
        super().__init__()
        self.width = width
        self.time = TimeEmbedding(_SINUSOID_DIM, _EMBEDDING_DIM)
        self.condition_in = nn.Linear(condition_dim, width + _EMBEDDING_DIM)
        # Its bias would be the same as that of condition_in.
        self.state_in = nn.Linear(state_dim, width, bias=False)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(blocks))
        self.out_norm = _ModulatedNorm(width)
        self.out = nn.Linear(width, state_dim)
        _scale_weight(self.out, _OUTPUT_GAIN)

    def condition(self, features: Tensor) -> Tensor:
        """The part that depends on the item only: ``features [B, C]`` to ``[B, K]`` for :meth:`forward`."""
        projected: Tensor = self.condition_in(features)
        return projected

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Network output ``[B, S, D]``.

        Args:
            x_t: states ``[B, S, D]``: S per item.
            t: ``[B, S]`` long, or ``[B, 1]`` when all S of an item share it.
            condition: ``[B, K]`` from :meth:`condition`.
        """
        offset, embedding = condition.unsqueeze(1).split([self.width, _EMBEDDING_DIM], dim=-1)
        embedding = nn.functional.silu(self.time(t) + embedding)
        hidden = self.state_in(x_t) + offset
        for block in self.blocks:
            hidden = block(hidden, embedding)
        output: Tensor = self.out(self.out_norm(hidden, embedding))
        return output


class _ModulatedNorm(nn.Module):
    """Layer normalisation whose scale and shift follow from the embedding."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(_EMBEDDING_DIM, 2 * width)

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.modulation(embedding).chunk(2, dim=-1)
        return torch.addcmul(shift, self.norm(hidden), 1 + scale)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _ModulatedNorm(width)
        self.fc1 = nn.Linear(width, width)
        self.fc2 = nn.Linear(width, width)
        _scale_weight(self.fc2, _BRANCH_GAIN)

    def forward(self, hidden: Tensor, embedding: Tensor) -> Tensor:
        result: Tensor = hidden + self.fc2(nn.functional.silu(self.fc1(self.norm(hidden, embedding))))
        return result


def _scale_weight(layer: nn.Linear, gain: float) -> None:
    with torch.no_grad():
        layer.weight.mul_(gain)
        layer.bias.zero_()
