"""DSTformer: features of a clip of 2D keypoints, from attention over joints and over frames in two orders.

Zhu et al., "MotionBERT: A Unified Perspective on Learning Human Motion Representations", ICCV 2023, section 3.2.
Names and shapes of all parameters are those of the official code, so that its weights load key for key.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from diffhmr.errors import UserError

NUM_JOINTS = 17
"""H36M-17, the right leg first."""

INPUT_DIM = 3
"""x and y in [-1, 1] of the normalised picture, y down, and the confidence in [0, 1]."""

NORM_EPS = 1e-6
"""Of every layer normalisation of MotionBERT and DiffMesh."""

_INIT_STD = 0.02
_MOST_SEQUENCES = 65535
_LARGEST = 4096
"""CUDA kernels for attention do not launch on more sequences at once in all versions of PyTorch."""


@dataclass(frozen=True)
class DSTformerSize:
    """Sizes of a :class:`DSTformer`; the defaults are those of the full network.

    Attributes:
        width: of a token, a multiple of ``heads``.
        hidden: of the MLPs.
        depth: number of levels.
        heads: of every attention.
        features: of the representation.
        max_frames: the longest clip.
    """

    width: int = 512
    hidden: int = 1024
    depth: int = 5
    heads: int = 8
    features: int = 512
    max_frames: int = 243

    def __post_init__(self) -> None:
        for name, size in vars(self).items():
            if not isinstance(size, int) or not 1 <= size <= _LARGEST:
                raise UserError(f"the {name} of the DSTformer is {str(size)[:20]}, expected 1 to {_LARGEST}")
        if self.width % self.heads:
            raise UserError(f"the width of the DSTformer ({self.width}) must be a multiple of its heads ({self.heads})")


FULL = DSTformerSize()
"""MotionBERT, 42.5 million parameters."""

LITE = DSTformerSize(width=256)
"""MotionBERT-Lite, 16.0 million parameters."""


class DSTformer(nn.Module):
    """Two branches per level on the same tokens, joints first and frames first, mixed with weights per token.

    Initialised as the official network: linear layers and both embeddings from a normal distribution of deviation
    0.02, biases 0; the branches start with equal shares.

    Args:
        size: :data:`FULL`, :data:`LITE` or another.
    """

    def __init__(self, size: DSTformerSize = FULL) -> None:
        super().__init__()
        self.size = size
        width = size.width
        self.temp_embed = nn.Parameter(torch.zeros(1, size.max_frames, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, NUM_JOINTS, width))
        self.joints_embed = nn.Linear(INPUT_DIM, width)
        self.blocks_st = nn.ModuleList(_Level(size, joints_first=True) for _ in range(size.depth))
        self.blocks_ts = nn.ModuleList(_Level(size, joints_first=False) for _ in range(size.depth))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)
        self.pre_logits = nn.Sequential()
        self.pre_logits.add_module("fc", nn.Linear(width, size.features))
        self.pre_logits.add_module("act", nn.Tanh())
        self.head = nn.Linear(size.features, 3)
        self.ts_attn = nn.ModuleList(nn.Linear(2 * width, 2) for _ in range(size.depth))
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=_INIT_STD)
                nn.init.zeros_(module.bias)
        nn.init.trunc_normal_(self.temp_embed, std=_INIT_STD)
        nn.init.trunc_normal_(self.pos_embed, std=_INIT_STD)
        for fusion in self.ts_attn:
            assert isinstance(fusion, nn.Linear)
            nn.init.zeros_(fusion.weight)
            nn.init.constant_(fusion.bias, 0.5)

    def get_representation(self, x: Tensor) -> Tensor:
        """Features ``[B, T, 17, C]`` in (-1, 1) of clips; C is 512 in the official sizes.

        Args:
            x: ``[B, T, 17, 3]``: x, y and confidence of the joints of H36M-17, see :data:`INPUT_DIM`.

        Raises:
            UserError: T is not 1 to 243 (``size.max_frames``).
            ValueError: the other dimensions do not fit.
        """
        if x.dim() != 4 or x.shape[2:] != (NUM_JOINTS, INPUT_DIM):
            raise ValueError(f"keypoints must have the shape [B, T, {NUM_JOINTS}, {INPUT_DIM}], not {list(x.shape)}")
        frames = x.shape[1]
        if not 1 <= frames <= self.size.max_frames:
            raise UserError(
                f"a clip of {frames} frames does not fit this network, which takes 1 to {self.size.max_frames}: "
                "cut it into windows"
            )
        tokens = self.joints_embed(x) + self.pos_embed + self.temp_embed[:, :frames]
        for joints_first, frames_first, fusion in zip(self.blocks_st, self.blocks_ts, self.ts_attn, strict=True):
            first, second = joints_first(tokens), frames_first(tokens)
            share = fusion(torch.cat([first, second], dim=-1)).softmax(dim=-1)
            tokens = share[..., :1] * first + share[..., 1:] * second
        features: Tensor = self.pre_logits(self.norm(tokens))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Positions ``[B, T, 17, 3]`` of the joints, in the normalised units of x and y, of clips ``[B, T, 17, 3]``.

        Raises:
            UserError: T is not 1 to 243 (``size.max_frames``).
            ValueError: the other dimensions do not fit.
        """
        positions: Tensor = self.head(self.get_representation(x))
        return positions


class _Level(nn.Module):
    """Attention over joints and over frames, an MLP after each, all four on normalised input and added to it."""

    def __init__(self, size: DSTformerSize, joints_first: bool) -> None:
        super().__init__()
        self.joints_first = joints_first
        width = size.width
        self.norm1_s, self.norm1_t = nn.LayerNorm(width, eps=NORM_EPS), nn.LayerNorm(width, eps=NORM_EPS)
        self.norm2_s, self.norm2_t = nn.LayerNorm(width, eps=NORM_EPS), nn.LayerNorm(width, eps=NORM_EPS)
        self.attn_s, self.attn_t = SelfAttention(width, size.heads), SelfAttention(width, size.heads)
        self.mlp_s, self.mlp_t = Mlp(width, size.hidden), Mlp(width, size.hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, T, J, width]`` to the same."""
        if self.joints_first:
            return self._over_frames(self._over_joints(tokens))
        return self._over_joints(self._over_frames(tokens))

    def _over_joints(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn_s(self.norm1_s(tokens))
        result: Tensor = tokens + self.mlp_s(self.norm2_s(tokens))
        return result

    def _over_frames(self, tokens: Tensor) -> Tensor:
        attended: Tensor = self.attn_t(self.norm1_t(tokens).transpose(1, 2))
        tokens = tokens + attended.transpose(1, 2)
        result: Tensor = tokens + self.mlp_t(self.norm2_t(tokens))
        return result


class SelfAttention(nn.Module):
    """Multi-head attention among the N tokens of ``[..., N, width]``.

    Args:
        width: of a token.
        heads: ``width`` is a multiple of it.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[..., N, width]`` to the same."""
        query, key, value = split_heads(self.qkv(tokens).flatten(0, -3), self.heads)
        attended = _attend(query, key, value).transpose(1, 2).flatten(2)
        result: Tensor = self.proj(attended.reshape(tokens.shape))
        return result


def split_heads(qkv: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values, ``[L, heads, N, width / heads]`` each, of their projection ``[L, N, 3 * width]``."""
    query, key, value = qkv.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    return query, key, value


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention within each of the L sequences ``[L, heads, N, C]``."""
    if len(query) <= _MOST_SEQUENCES:
        return functional.scaled_dot_product_attention(query, key, value)
    parts = zip(*(tensor.split(_MOST_SEQUENCES) for tensor in (query, key, value)), strict=True)
    return torch.cat([functional.scaled_dot_product_attention(*part) for part in parts])


class Mlp(nn.Module):
    """Two linear layers with GELU between, ``width`` to ``hidden`` and back."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[..., width]`` to the same."""
        result: Tensor = self.fc2(self.act(self.fc1(tokens)))
        return result
