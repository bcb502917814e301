"""A diffusion model over the motion of a clip: all frames are denoised together in a few steps.

DiffMesh (Zheng et al., WACV 2025) makes a chain of the frames, one reverse step each, 30 steps for 16 frames, and has
one answer. Here the features of a DSTformer condition a denoiser that attends over all frames of a window, and noise
that is correlated over time (:mod:`diffhmr.diffusion.temporal_noise`) makes several smooth motions of it. As in the
model of pictures, a point estimate comes first, and the denoiser works relative to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from diffhmr.body.codec import PART_SIZES, StateCodec
from diffhmr.body.frames import RotationFrame, from_frame, to_frame
from diffhmr.body.params import NUM_BETAS, SmplParams
from diffhmr.diffusion.process import Process
from diffhmr.diffusion.schedule import cosine_schedule, linear_schedule
from diffhmr.diffusion.temporal_noise import TemporalNoise
from diffhmr.errors import UserError
from diffhmr.geometry.rotation import matrix_to_rot6d_columns, mean_rotation, rot6d_columns_to_matrix
from diffhmr.models.dstformer import NUM_JOINTS, DSTformer, SelfAttention
from diffhmr.models.motion_heads import with_frozen_head
from diffhmr.models.precondition import Reference, SpreadHead, denoise_around
from diffhmr.models.time_embedding import TimeEmbedding

Schedule = Literal["cosine", "linear"]

STATE_DIM = PART_SIZES["pose"]
_EMBEDDING_DIM, _SINUSOID_DIM = 128, 64
_LARGEST = 10_000
_HEAD_GAIN, _SHORTCUT_GAIN, _BRANCH_GAIN, _OUTPUT_GAIN = 0.1, 0.01, 0.5, 0.1


@dataclass(frozen=True)
class MotionDiffusionSize:
    """Everything but the backbone that a :class:`MotionDiffusion` is built from.

    Attributes:
        width: of a frame's token.
        head_blocks: residual layers of each frame's token behind the backbone.
        shortcut: see :class:`EstimateHead`.
        depth, heads: of the denoiser.
        steps, schedule, target: of the process.
        noise_frames, noise_white: of the noise, see :class:`TemporalNoise`.
        smoothing: standard deviation in frames of the window over time through which estimates and states leave; 0 for
            none. People do not tremble, but what a detector says of them does.
        frame: what the rotations of the state are relative to.

    Raises:
        UserError: there is no such network.
    """

    width: int = 256
    head_blocks: int = 3
    shortcut: bool = False
    depth: int = 4
    heads: int = 4
    steps: int = 1000
    schedule: Schedule = "cosine"
    target: Literal["x0", "v"] = "v"
    noise_frames: float = 6.0
    noise_white: float = 0.03
    smoothing: float = 2.0
    frame: RotationFrame = "parent"

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads", "steps"):
            number = getattr(self, name)
            if not isinstance(number, int) or not 1 <= number <= _LARGEST:
                raise UserError(f"the denoiser's {name} is {str(number)[:20]}, expected 1 to {_LARGEST}")
        for name in ("head_blocks", "noise_frames", "smoothing"):
            if not 0 <= getattr(self, name) <= _LARGEST:
                raise UserError(f"the denoiser's {name} is {getattr(self, name):g}, expected 0 to {_LARGEST}")
        for name, kind in (("schedule", Schedule), ("frame", RotationFrame)):
            if getattr(self, name) not in get_args(kind):
                words = " or ".join(get_args(kind))
                raise UserError(f"the denoiser's {name} is {str(getattr(self, name))[:20]!r}, expected {words}")
        if self.width % self.heads:
            raise UserError(f"the denoiser's width ({self.width}) must be a multiple of its heads ({self.heads})")


@dataclass(frozen=True)
class MotionCondition:
    """What the denoiser knows of B windows of T frames.

    Attributes:
        tokens: ``[B, T, W]`` added to the tokens of the state.
        rotations: ``[B, T, 24, 3, 3]``, the point estimate, relative to the parents.
        mean: ``[B, T, D]``, its state, without gradient.
        spread: ``[B, T, D]``, how far from it the truth may lie.
        betas: ``[B, 10]``.
    """

    tokens: Tensor
    rotations: Tensor
    mean: Tensor
    spread: Tensor
    betas: Tensor


class MotionDiffusion(nn.Module):
    """Backbone, point estimate of every frame, and a denoiser over the frames.

    The backbone's own head is in the state dict but not used and not trained.

    Args:
        backbone: gives the features.
        size: of everything else.
    """

    def __init__(self, backbone: DSTformer, size: MotionDiffusionSize) -> None:
        super().__init__()
        self.size = size
        self.backbone = with_frozen_head(backbone)
        self.codec = StateCodec(("pose",), size.frame)
        with torch.device("cpu"):  # constants have values also where a file's weights are still to come
            schedule = cosine_schedule(size.steps) if size.schedule == "cosine" else linear_schedule(size.steps)
            self.process = Process(schedule, size.target)
            self.noise = TemporalNoise(size.noise_frames, size.noise_white)
        self.head = EstimateHead(backbone.size.features, size.width, size.head_blocks, size.shortcut)
        self.spread = SpreadHead(size.width, STATE_DIM)
        self.condition_in = nn.Linear(size.width + STATE_DIM, size.width)
        self.denoiser = TemporalDenoiser(size.width, size.depth, size.heads, backbone.size.max_frames)

    def set_mean(self, rotations: Tensor, betas: Tensor) -> None:
        """Statistics of the data: of the state from ``rotations [N, 24, 3, 3]``, the mean of ``betas [N, 10]``."""
        params = SmplParams.from_rotations(rotations, betas)
        self.codec.fit(params, torch.zeros(len(betas), 3, device=betas.device))
        mean = mean_rotation(to_frame(rotations, self.size.frame))
        self.head.mean_pose.copy_(matrix_to_rot6d_columns(mean).flatten())
        self.head.mean_shape.copy_(betas.mean(0))

    def condition(self, features: Tensor) -> MotionCondition:
        """From the backbone's features ``[B, T, 17, C]``."""
        tokens, offsets, betas = self.head(features)
        rot6d = self._smoothed(offsets) + self.head.mean_pose
        rotations = rot6d_columns_to_matrix(rot6d.unflatten(-1, (-1, 6)))
        # The denoiser sees the estimate as it will in use; its losses do not pull at the estimate.
        raw = matrix_to_rot6d_columns(rotations.detach()).flatten(-2)
        mean = (raw - self.codec.mean) / self.codec.std
        added = self.condition_in(torch.cat([tokens, mean], dim=-1))
        return MotionCondition(added, from_frame(rotations, self.size.frame), mean, self.spread(tokens), betas)

    def decode(self, state: Tensor, betas: Tensor) -> SmplParams:
        """Parameters ``[...]`` of states ``[..., D]`` and ``betas [..., 10]`` of the same leading dimensions."""
        raw = state * self.codec.std + self.codec.mean
        rotations = from_frame(rot6d_columns_to_matrix(raw.unflatten(-1, (-1, 6))), self.size.frame)
        return SmplParams.from_rotations(rotations, betas)

    def encode(self, rotations: Tensor) -> Tensor:
        """States ``[..., D]`` of ``rotations [..., 24, 3, 3]``."""
        raw = matrix_to_rot6d_columns(to_frame(rotations, self.size.frame)).flatten(-2)
        return (raw - self.codec.mean) / self.codec.std

    def denoise(self, x_t: Tensor, t: Tensor, condition: MotionCondition) -> Tensor:
        """Estimates ``[B, S, T, D]`` of the clean states from ``x_t [B, S, T, D]`` at ``t [B, S]``."""
        size, frames = x_t.shape[0], x_t.shape[2]
        reference = Reference(condition.mean.flatten(0, 1), condition.spread.flatten(0, 1))

        def per_frame(values: Tensor) -> Tensor:
            return values.transpose(1, 2).flatten(0, 1)

        def network(residual: Tensor, at: Tensor) -> Tensor:  # noqa: ARG001
            states = residual.unflatten(0, (size, frames)).transpose(1, 2)
            return per_frame(self.denoiser(states, t, condition.tokens))

        times = t.unsqueeze(1).expand(-1, frames, -1).flatten(0, 1)
        x0 = denoise_around(network, self.process, per_frame(x_t), times, reference)
        return self._smoothed(x0.unflatten(0, (size, frames)).transpose(1, 2))

    def _smoothed(self, values: Tensor) -> Tensor:
        """``[..., T, D]`` under a Gaussian window over the frames, shorter at both ends."""
        if self.size.smoothing == 0:
            return values
        place = torch.arange(values.shape[-2], device=values.device, dtype=values.dtype)
        distance = (place.unsqueeze(1) - place) / self.size.smoothing
        weights = torch.exp(-0.5 * distance.square())
        return (weights / weights.sum(1, keepdim=True)) @ values


class EstimateHead(nn.Module):
    """A token and the offset of its pose from the mean for every frame, one shape for the clip.

    Args:
        features: C of the backbone's features.
        width: of a token.
        blocks: residual layers.
        shortcut: a second way from the features to the pose, a layer per joint and one for all, as in DiffMesh. On a
            trained backbone it has learned what there is to read off while the layers of the token still begin.
    """

    mean_pose: Tensor
    mean_shape: Tensor

    def __init__(self, features: int, width: int, blocks: int, shortcut: bool = False) -> None:
        super().__init__()
        self.token = nn.Linear(NUM_JOINTS * features, width, bias=False)
        # Over the frames of all clips: at first the features hardly differ from frame to frame, and a norm of each
        # token would keep them so for hundreds of steps.
        self.norm = nn.BatchNorm1d(width)
        self.blocks = nn.ModuleList(_FrameBlock(width) for _ in range(blocks))
        self.pose = nn.Linear(width, STATE_DIM)
        self.shape = nn.Linear(width, NUM_BETAS)
        for layer in (self.pose, self.shape):
            nn.init.xavier_uniform_(layer.weight, gain=_HEAD_GAIN)
            nn.init.zeros_(layer.bias)
        self.shortcut: nn.Sequential | None = None
        if shortcut:
            whole = nn.Linear(NUM_JOINTS * features, STATE_DIM, bias=False)
            nn.init.xavier_uniform_(whole.weight, gain=_SHORTCUT_GAIN)
            self.shortcut = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Flatten(2), whole)
        self.register_buffer("mean_pose", matrix_to_rot6d_columns(torch.eye(3)).repeat(STATE_DIM // 6))
        self.register_buffer("mean_shape", torch.zeros(NUM_BETAS))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens ``[B, T, W]``, offsets of 6D rotations ``[B, T, D]`` and betas ``[B, 10]``.

        Args:
            features: ``[B, T, 17, C]``.
        """
        projected = self.token(features.flatten(2))
        tokens = functional.gelu(self.norm(projected.flatten(0, 1)).unflatten(0, projected.shape[:2]))
        for block in self.blocks:
            tokens = block(tokens)
        pose = self.pose(tokens)
        if self.shortcut is not None:
            pose = pose + self.shortcut(features)
        return tokens, pose, self.shape(tokens.mean(1)) + self.mean_shape


class _FrameBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        with torch.no_grad():
            self.fc2.weight.mul_(_BRANCH_GAIN)
            self.fc2.bias.zero_()

    def forward(self, tokens: Tensor) -> Tensor:
        result: Tensor = tokens + self.fc2(functional.gelu(self.fc1(self.norm(tokens))))
        return result


class TemporalDenoiser(nn.Module):
    """A transformer over the frames of a window, modulated by the time of the process (adaLN, Peebles and Xie 2023).

    Branches and output start small, not at zero: every parameter has a gradient from the first step.

    Args:
        width: of a token.
        depth: blocks of attention over frames and an MLP.
        heads: of the attention.
        max_frames: the longest window.
    """

    def __init__(self, width: int, depth: int, heads: int, max_frames: int) -> None:
        super().__init__()
        self.time = TimeEmbedding(_SINUSOID_DIM, _EMBEDDING_DIM)
        self.state_in = nn.Linear(STATE_DIM, width)
        self.places = nn.Parameter(torch.randn(max_frames, width) * 0.02)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.out_norm = _ModulatedNorm(width)
        self.out = nn.Linear(width, STATE_DIM)
        with torch.no_grad():
            self.out.weight.mul_(_OUTPUT_GAIN)
            self.out.bias.zero_()

    def forward(self, states: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """``states [B, S, T, D]`` at ``t [B, S]`` given ``condition [B, T, W]``; ``[B, S, T, D]``."""
        embedding = functional.silu(self.time(t)).flatten(0, 1).unsqueeze(1)
        hidden = self.state_in(states) + (condition + self.places[: states.shape[2]]).unsqueeze(1)
        tokens = hidden.flatten(0, 1)
        for block in self.blocks:
            tokens = block(tokens, embedding)
        output: Tensor = self.out(self.out_norm(tokens, embedding))
        return output.unflatten(0, states.shape[:2])


class _ModulatedNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(_EMBEDDING_DIM, 2 * width)

    def forward(self, tokens: Tensor, embedding: Tensor) -> Tensor:
        """``[N, T, W]`` and ``[N, 1, E]``."""
        scale, shift = self.modulation(embedding).chunk(2, dim=-1)
        return torch.addcmul(shift, self.norm(tokens), 1 + scale)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = _ModulatedNorm(width), _ModulatedNorm(width)
        self.attention = SelfAttention(width, heads)
        self.fc1, self.fc2 = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        with torch.no_grad():
            for layer in (self.attention.proj, self.fc2):
                layer.weight.mul_(_BRANCH_GAIN)
                layer.bias.zero_()

    def forward(self, tokens: Tensor, embedding: Tensor) -> Tensor:
        tokens = tokens + self.attention(self.norm1(tokens, embedding))
        result: Tensor = tokens + self.fc2(functional.gelu(self.fc1(self.norm2(tokens, embedding))))
        return result
