"""SMPL parameters as one typed, shape-checked value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

NUM_BODY_JOINTS = 23
NUM_BETAS = 10


@dataclass(frozen=True)
class SmplParams:
    """Parameters of an SMPL-format body.

    Attributes:
        global_orient: ``[..., 3, 3]`` rotation of the pelvis into the camera frame (x right, y down, z forward).
        body_pose: ``[..., 23, 3, 3]`` rotations of the joints 1 to 23 relative to their parents.
        betas: ``[..., 10]`` shape coefficients, about N(0, 1).
        transl: ``[..., 3]`` translation in metres, or None for a body at the origin of its own frame.

    Raises:
        ValueError: a shape does not fit.
    """

    global_orient: Tensor
    body_pose: Tensor
    betas: Tensor
    transl: Tensor | None = None

    def __post_init__(self) -> None:
        lead = self.global_orient.shape[:-2]
        expected = {
            "global_orient": (self.global_orient, (*lead, 3, 3)),
            "body_pose": (self.body_pose, (*lead, NUM_BODY_JOINTS, 3, 3)),
            "betas": (self.betas, (*lead, self.betas.shape[-1] if self.betas.dim() else 0)),
        }
        if self.transl is not None:
            expected["transl"] = (self.transl, (*lead, 3))
        for name, (tensor, shape) in expected.items():
            if tuple(tensor.shape) != tuple(shape):
                raise ValueError(f"SmplParams.{name} has shape {tuple(tensor.shape)}, expected {tuple(shape)}")

    @property
    def shape(self) -> torch.Size:
        """The leading dimensions shared by all fields."""
        return self.global_orient.shape[:-2]

    @property
    def rotations(self) -> Tensor:
        """``[..., 24, 3, 3]``: global orientation and body pose in one tensor."""
        return torch.cat([self.global_orient.unsqueeze(-3), self.body_pose], dim=-3)

    @classmethod
    def from_rotations(cls, rotations: Tensor, betas: Tensor, transl: Tensor | None = None) -> SmplParams:
        """Build from ``rotations [..., 24, 3, 3]``."""
        return cls(rotations[..., 0, :, :], rotations[..., 1:, :, :], betas, transl)

    def map(self, function: Callable[[Tensor], Tensor]) -> SmplParams:
        """Apply ``function`` (indexing, ``.to``, ``.detach`` ...) to every field that is there."""
        return SmplParams(
            function(self.global_orient),
            function(self.body_pose),
            function(self.betas),
            None if self.transl is None else function(self.transl),
        )

    def to(self, device: torch.device | str) -> SmplParams:
        """The same parameters on ``device``."""
        return self.map(lambda tensor: tensor.to(device))
