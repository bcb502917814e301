"""DiffMesh: SMPL parameters of a clip from a diffusion chain in which each step is a frame.

Zheng et al., "DiffMesh: A Motion-aware Diffusion Framework for Human Mesh Recovery from Videos", WACV 2025, in the form
of the official code, whose names and shapes all parameters have. The features of the frames, narrowed, are the frames'
conditions; the template mesh, projected, is where the chain starts (:mod:`diffhmr.diffusion.frame_chain`).

Two variants share everything but what is learned:

* ``released``: what the official code does. Its whole chain runs without gradients, condition generator included, so
  that the template's projection, the condition generator and the diffusion network stay at their random initial values
  for ever: 2,690,640 parameters in the official size. What learns is the backbone, ``fc_ds``, the linear layer after
  the chain and the two output layers. The forward direction is no different, so this is the variant for official
  weights and for comparison.
* ``paper``: the same process as the paper describes it, trained: every parameter gets a gradient, given a loss that
  includes :func:`condition_error`.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from diffhmr.diffusion.frame_chain import ChainResult, FrameChain, frame_schedule
from diffhmr.errors import UserError
from diffhmr.models.dstformer import NORM_EPS, NUM_JOINTS, DSTformer, Mlp, SelfAttention, split_heads
from diffhmr.models.motion_heads import ClipEstimate, SmplHead, with_frozen_head
from diffhmr.models.point_estimator import without_autocast
from diffhmr.models.time_embedding import sinusoidal

Variant = Literal["released", "paper"]

_ROWS_PER_COORDINATE = 5
_TEMPLATE_ROWS = 3 * _ROWS_PER_COORDINATE


@dataclass(frozen=True)
class DiffMeshSize:
    """Sizes of the process; the defaults are the official ones.

    Attributes:
        features: C of the backbone's features.
        width: of a state's or condition's token; there are 17 of each.
        depth, heads: of the diffusion network, whose MLPs are twice as wide as its tokens.
        condition_width: of a step's token in the condition generator, a multiple of 8.
        condition_depth: of the condition generator.
        frames: of a clip, at least 2.
        warm_up: steps of the chain before the first frame.
    """

    features: int = 512
    width: int = 128
    depth: int = 4
    heads: int = 4
    condition_width: int = 256
    condition_depth: int = 2
    frames: int = 16
    warm_up: int = 14

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise UserError(f"a clip of DiffMesh has at least 2 frames, not {self.frames}")


OFFICIAL = DiffMeshSize()
"""As in the official weights."""


@dataclass(frozen=True)
class DiffMeshEstimate(ClipEstimate):
    """What DiffMesh says of B clips.

    Attributes:
        condition: ``[B, T - 1, 17, D]``, the conditions of the frames 1 to T - 1.
        predicted_condition: ``[B, T - 1, 17, D]``, what the step of the frame before each of them said it would be.

    For single frames both are ``[B, 1, 17, D]``: the condition of the frame, and the mean of what the steps said.
    """

    condition: Tensor
    predicted_condition: Tensor


@dataclass(frozen=True)
class FrameTokens:
    """What the process gives for B clips.

    Attributes:
        tokens: ``[B, T, 17 * D]``, the answer of the chain added to the narrowed features.
        condition, predicted_condition: as in :class:`DiffMeshEstimate`.
    """

    tokens: Tensor
    condition: Tensor
    predicted_condition: Tensor


def condition_error(estimate: DiffMeshEstimate) -> Tensor:
    """Mean distance of the predicted conditions from the conditions, a scalar; the official weight is 0.001.

    A distance is the norm over all 17 x D numbers of a frame. The conditions get a gradient too.
    """
    return torch.linalg.vector_norm(estimate.condition - estimate.predicted_condition, dim=(-2, -1)).mean()


class DiffMesh(nn.Module):
    """Backbone and :class:`DiffMeshHead`: SMPL parameters of clips of 16 frames.

    The backbone's own head, which gives joint positions, is in the state dict as in official files, but not used and
    not trained.

    Args:
        backbone: gives the features.
        head: takes them.
    """

    def __init__(self, backbone: DSTformer, head: DiffMeshHead) -> None:
        super().__init__()
        self.backbone = with_frozen_head(backbone)
        self.head = head

    @property
    def frames(self) -> int:
        """The length of the clips that it takes; single frames are taken too."""
        return self.head.size.frames

    def forward(self, x: Tensor) -> DiffMeshEstimate:
        """Parameters of the clips ``x [B, T, 17, 3]``, see :meth:`DSTformer.get_representation`.

        Raises:
            UserError: T is neither :attr:`frames` nor 1.
        """
        self.head.check_frames(x.shape[1])
        estimate: DiffMeshEstimate = self.head(self.backbone.get_representation(x))
        return estimate


class ChainHead(nn.Module):
    """What every head of DiffMesh has before its outputs: the process on given features, one token per joint and frame.

    Attributes:
        variant: ``released`` or ``paper``, see the module.
        size: of the process.
    """

    mesh_template: Tensor
    variant: Variant
    size: DiffMeshSize

    def add_process(self, template: Tensor, variant: Variant, size: DiffMeshSize) -> None:
        """Give the head its process.

        Args:
            template: ``[V, 3]`` vertices of the body's template in metres, where the chain starts; they are in the
                state dict. The width of the projection of the template follows from V, see :func:`template_rows`.

        Raises:
            UserError: the variant is unknown.
        """
        if variant not in get_args(Variant):
            raise UserError(f"unknown variant {variant!r} of DiffMesh; choose one of {', '.join(get_args(Variant))}")
        self.variant = variant
        self.size = size
        self.fc_ds = nn.Sequential(nn.Linear(size.features, size.width), nn.ReLU())
        self.register_buffer("mesh_template", template.detach().to(torch.float32).reshape(1, -1, 3).clone())
        self.fc_mesh_temp = nn.Sequential(
            nn.Linear(template_rows(self.mesh_template).shape[-1], size.width),
            nn.GELU(),
            nn.Conv1d(_TEMPLATE_ROWS, NUM_JOINTS, kernel_size=1),
            nn.GELU(),
        )
        self.diffmesh_process = _Process(size)
        if variant == "released":
            # No gradient reaches these; saying so keeps weight decay and distributed training away from them too.
            self.fc_mesh_temp.requires_grad_(False)
            self.diffmesh_process.entire_process.requires_grad_(False)

    def check_frames(self, frames: int) -> None:
        """Refuse clips of a length that the chain does not have.

        Raises:
            UserError: ``frames`` is neither that of the chain nor 1.
        """
        if frames not in (1, self.size.frames):
            raise UserError(
                f"DiffMesh takes clips of {self.size.frames} frames, or single ones, not {frames}: cut the clip into "
                "windows"
            )

    def run_process(self, features: Tensor) -> FrameTokens:
        """The clips ``features [B, T, 17, C]`` in float32; T is 16, or 1.

        A single frame is repeated 16 times, and the states of its 16 steps are averaged, as are the predicted
        conditions of the first 15.

        Raises:
            UserError: T is something else.
        """
        self.check_frames(features.shape[1])
        conditions = self.fc_ds(features.float())
        with contextlib.nullcontext() if self.variant == "paper" else torch.no_grad():
            chain = self._run_chain(conditions)
        tokens = self.diffmesh_process.fc1(chain.frames) + conditions
        target = conditions if features.shape[1] == 1 else conditions[:, 1:]
        return FrameTokens(tokens.flatten(2), target, chain.next_conditions)

    def _run_chain(self, conditions: Tensor) -> ChainResult:
        """States ``[B, T, 17, D]`` of the frames and the predicted conditions, from ``[B, T, 17, D]``."""
        start = self.fc_mesh_temp(template_rows(self.mesh_template)).expand(len(conditions), -1, -1)
        result: ChainResult = self.diffmesh_process.entire_process(
            start, conditions.expand(-1, self.size.frames, -1, -1)
        )
        if conditions.shape[1] == self.size.frames:
            return result
        return ChainResult(result.frames.mean(dim=1, keepdim=True), result.next_conditions.mean(dim=1, keepdim=True))


class DiffMeshHead(SmplHead, ChainHead):
    """The process on given features, and the outputs. Runs in float32 whatever autocast says.

    Args:
        template: where the chain starts, see :meth:`ChainHead.add_process`.
        variant: ``released`` or ``paper``, see the module.
        size: of the process.

    Raises:
        UserError: the variant is unknown.
    """

    def __init__(self, template: Tensor, variant: Variant = "paper", size: DiffMeshSize = OFFICIAL) -> None:
        super().__init__(NUM_JOINTS * size.width)
        self.add_process(template, variant, size)

    def forward(self, features: Tensor) -> DiffMeshEstimate:
        """Parameters of the clips ``features [B, T, 17, C]``; T is 16, or 1, see :meth:`ChainHead.run_process`.

        Raises:
            UserError: T is something else.
        """
        with without_autocast(features):
            frames = self.run_process(features)
            estimate = self.decode(frames.tokens, frames.tokens.mean(dim=1))
        return DiffMeshEstimate(estimate.rotations, estimate.betas, frames.condition, frames.predicted_condition)


def template_rows(template: Tensor) -> Tensor:
    """Vertices ``[..., V, 3]`` as 15 rows of ``ceil(V / 5)`` numbers: 5 rows of x, then 5 of y, then 5 of z.

    The last row of each coordinate is filled up with zeros. SMPL's 6,890 vertices fill 1,378 columns exactly, and the
    result is then that of the official code.
    """
    count = template.shape[-2]
    columns = -(-count // _ROWS_PER_COORDINATE)
    padded = functional.pad(template.transpose(-1, -2), (0, columns * _ROWS_PER_COORDINATE - count))
    return padded.reshape(*template.shape[:-2], _TEMPLATE_ROWS, columns)


class _Process(nn.Module):
    """The chain, and the layer that turns the state of a frame into what is added to its features."""

    def __init__(self, size: DiffMeshSize) -> None:
        super().__init__()
        self.entire_process = _ConditionedChain(size)
        self.fc1 = nn.Sequential(nn.Linear(size.width, size.width), nn.GELU())


class _ConditionedChain(nn.Module):
    """The chain with its two networks."""

    def __init__(self, size: DiffMeshSize) -> None:
        super().__init__()
        self.chain = FrameChain(frame_schedule(size.warm_up + size.frames), size.frames)
        self.diffusion_model = _StepNetwork(size)
        self.condition_generator = _ConditionGenerator(size)

    def forward(self, start: Tensor, conditions: Tensor) -> ChainResult:
        """``start [B, 17, D]`` and the frames' ``conditions [B, T, 17, D]``; those of the warm-up are zeros."""
        padded = functional.pad(conditions, (0, 0, 0, 0, self.chain.warm_up, 0))
        generated = self.condition_generator(padded.flatten(2)).unflatten(2, conditions.shape[2:])
        times = self.diffusion_model.embed_times(self.chain.num_steps)

        def network(state: Tensor, condition: Tensor, t: int) -> tuple[Tensor, Tensor]:
            noise, next_condition = self.diffusion_model(state, condition, times[t])
            return noise, next_condition

        return self.chain.run(network, start, generated)


class _ConditionGenerator(nn.Module):
    """A transformer over all steps of the chain, one token per step; it adds to what comes in."""

    _HEADS = 8
    _MLP_SHARE = 8

    def __init__(self, size: DiffMeshSize) -> None:
        super().__init__()
        width, flat = size.condition_width, NUM_JOINTS * size.width
        hidden = width // self._MLP_SHARE
        self.pos_embed = nn.Parameter(torch.zeros(1, size.warm_up + size.frames, width))
        self.fc1 = nn.Sequential(nn.Linear(flat, width), nn.GELU())
        self.fc2 = nn.Sequential(nn.Linear(width, flat), nn.GELU())
        self.blocks = nn.Sequential(
            *(_Block(width, SelfAttention(width, self._HEADS), hidden) for _ in range(size.condition_depth))
        )
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)

    def forward(self, conditions: Tensor) -> Tensor:
        """``[B, N, 17 * D]`` to the same."""
        tokens = self.blocks(self.pos_embed + self.fc1(conditions))
        result: Tensor = self.fc2(self.norm(tokens)) + conditions
        return result


class _StepNetwork(nn.Module):
    """One step of the chain: noise and next condition from state and condition, 17 tokens each."""

    def __init__(self, size: DiffMeshSize) -> None:
        super().__init__()
        width = size.width
        self.width = width
        self.temb_fc = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.diffmodel_encoder = _CrossTransformer(width, size.depth, size.heads)

    def embed_times(self, num_steps: int) -> Tensor:
        """Embeddings ``[N, D]`` of the diffusion indices 0 to N - 1."""
        device = next(self.parameters()).device
        embeddings: Tensor = self.temb_fc(sinusoidal(torch.arange(num_steps, device=device), self.width))
        return embeddings

    def forward(self, state: Tensor, condition: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """``state`` and ``condition`` ``[B, 17, D]`` and the embedding ``time [D]``; two ``[B, 17, D]``."""
        tokens = self.diffmodel_encoder(torch.cat([state + time, condition + time], dim=1))
        noise, next_condition = tokens.chunk(2, dim=1)
        return noise, next_condition


class _CrossTransformer(nn.Module):
    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(_Block(width, _CrossAttention(width, heads), 2 * width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=NORM_EPS)

    def forward(self, tokens: Tensor) -> Tensor:
        result: Tensor = self.norm(self.blocks(tokens))
        return result


class _Block(nn.Module):
    """Attention and an MLP, both on normalised input and both added to it."""

    def __init__(self, width: int, attention: nn.Module, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=NORM_EPS)
        self.attn = attention
        self.norm2 = nn.LayerNorm(width, eps=NORM_EPS)
        self.mlp = Mlp(width, hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        result: Tensor = tokens + self.mlp(self.norm2(tokens))
        return result


class _CrossAttention(nn.Module):
    """Attention within each half of the tokens; the state's result is mixed once more by the condition's weights.

    The first half are the tokens of the state, the second those of the condition. As in the official code, nothing of
    the state reaches the condition's half, so that a predicted condition follows from the conditions alone; and the
    condition reaches the state only by saying which of its tokens are mixed.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv_diff = nn.Linear(width, 3 * width)
        self.qkv_cond = nn.Linear(width, 3 * width)
        self.proj_diff = nn.Linear(width, width)
        self.proj_cond = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, 34, width]`` to the same."""
        state, condition = tokens.chunk(2, dim=1)
        attended = functional.scaled_dot_product_attention(*split_heads(self.qkv_diff(state), self.heads))
        state = self.proj_diff(_merge_heads(attended)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        query, key, value = split_heads(self.qkv_cond(condition), self.heads)
        # Used for two sets of values, the second of which is not known before the first attention.
        weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(dim=-1)
        mixed, condition = (weights @ torch.cat([state, value], dim=-1)).chunk(2, dim=-1)
        return torch.cat([_merge_heads(mixed), self.proj_cond(_merge_heads(condition))], dim=1)


def _merge_heads(values: Tensor) -> Tensor:
    """``[B, heads, N, C]`` to ``[B, N, heads * C]``."""
    return values.transpose(1, 2).flatten(2)
