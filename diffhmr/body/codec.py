"""Between SMPL parameters and the z-scored vector that a denoiser sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from diffhmr.body.frames import RotationFrame, from_frame, to_frame
from diffhmr.body.params import NUM_BETAS, NUM_BODY_JOINTS, SmplParams
from diffhmr.errors import UserError
from diffhmr.geometry.rotation import matrix_to_rot6d_columns, rot6d_columns_to_matrix

PART_SIZES = {"pose": 6 * (1 + NUM_BODY_JOINTS), "shape": NUM_BETAS, "camera": 3}
"""Parts of a state in their order, and their lengths."""

MIN_STD = 0.01
"""Least standard deviation by which a dimension is divided.

Joints that never move in the data (hands, feet) have constant 6D entries. Divided by their own spread, the slightest
deviation of other data would become huge; 0.01 is half a degree in a 6D entry.
"""


class StateCodec(nn.Module):
    """The state: pose, shape and camera in one vector, each dimension scaled to mean 0 and standard deviation 1.

    ``pose`` is the global orientation and the 23 body joints as contiguous 6D columns, joint by joint, each rotation in
    ``frame``; ``shape`` the betas; ``camera`` (s, tx, ty).

    Mean and deviation are buffers, so that they are saved with the weights; before :meth:`fit` they are 0 and 1.

    Args:
        parts: some of ``("pose", "shape", "camera")`` in this order, ``pose`` always.
        frame: what the rotations in the state are relative to, see :mod:`diffhmr.body.frames`.

    Attributes:
        parts: of the state.
        dim: D, the length of the state.
        mean, std: ``[D]``.

    Raises:
        UserError: unknown, repeated or misordered parts, or no pose.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, parts: Sequence[str], frame: RotationFrame = "parent") -> None:
        super().__init__()
        self.frame = frame
        self.parts = tuple(parts)
        if self.parts != tuple(part for part in PART_SIZES if part in self.parts) or "pose" not in self.parts:
            raise UserError(
                f"the state {list(self.parts)} is not possible: choose from {list(PART_SIZES)} in this order, with pose"
            )
        self.dim = sum(PART_SIZES[part] for part in self.parts)
        self.register_buffer("mean", torch.zeros(self.dim))
        self.register_buffer("std", torch.ones(self.dim))

    def encode(self, params: SmplParams, camera: Tensor) -> Tensor:
        """State ``[..., D]`` of ``params`` and ``camera [..., 3]``; ``transl`` is no part of it."""
        return (self._raw(params, camera) - self.mean) / self.std

    def decode(self, state: Tensor) -> tuple[SmplParams, Tensor | None]:
        """Parameters and camera ``[..., 3]`` of a state ``[..., D]``; any finite state gives valid rotations.

        What the state does not hold is visibly absent: the betas are ``[..., 0]``, the camera None.
        """
        raw = state * self.std + self.mean
        values = dict(zip(self.parts, raw.split([PART_SIZES[part] for part in self.parts], dim=-1), strict=True))
        rotations = from_frame(rot6d_columns_to_matrix(values["pose"].unflatten(-1, (-1, 6))), self.frame)
        betas = values.get("shape", raw[..., :0])
        return SmplParams.from_rotations(rotations, betas), values.get("camera")

    @torch.no_grad()
    def fit(self, params: SmplParams, camera: Tensor) -> None:
        """Set mean and standard deviation from data with any leading dimensions, at least two people."""
        raw = self._raw(params, camera).reshape(-1, self.dim).double()
        if len(raw) < 2:
            raise ValueError(f"{len(raw)} people give no statistics")
        self.mean.copy_(raw.mean(0))
        self.std.copy_(raw.std(0, correction=0).clamp_min(MIN_STD))

    def _raw(self, params: SmplParams, camera: Tensor) -> Tensor:
        values = {"shape": params.betas, "camera": camera}
        pose = matrix_to_rot6d_columns(to_frame(params.rotations, self.frame)).flatten(-2)
        return torch.cat([pose, *(values[part] for part in self.parts[1:])], dim=-1)
