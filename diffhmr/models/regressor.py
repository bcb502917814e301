"""SPIN's iterative regressor: from z to one estimate of pose, shape and camera."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffhmr.body.frames import RotationFrame, from_frame, to_frame
from diffhmr.body.params import NUM_BETAS, SmplParams
from diffhmr.geometry.rotation import matrix_to_rot6d_columns, rot6d_columns_to_matrix
from diffhmr.models.item_random import item_keep

_POSE_DIM = 24 * 6
_CAMERA_DIM = 3
_DROPOUT_STREAM = 100
_HEAD_GAIN = 0.01


@dataclass(frozen=True)
class Estimate:
    """A point estimate for B items.

    Attributes:
        rot6d: ``[B, 144]`` raw output, 24 rotations as contiguous 6D columns, relative to what the regressor's are.
        params: SMPL parameters ``[B]`` with the rotations made orthogonal.
        camera: ``[B, 3]`` (s, tx, ty).
    """

    rot6d: Tensor
    params: SmplParams
    camera: Tensor


class Regressor(nn.Module):
    """Iterative error feedback on (pose, shape, camera), starting from their means.

    As in SPIN (Kolotouros et al. 2019; ``models/hmr.py``) and HMR (Kanazawa et al. 2018, section 3.2): in each
    iteration z and the current estimate go through two linear layers with dropout and **no activation between**, and
    three heads give what is added to the estimate. The 6D columns are contiguous here, interleaved there.

    Args:
        z_dim: size of z.
        width: of the two hidden layers.
        iterations: number of corrections.
        dropout: after each hidden layer, in training only.
        frame: what the 24 rotations are relative to, see :mod:`diffhmr.body.frames`; SPIN's are relative to the parent.
    """

    mean_rot6d: Tensor
    mean_betas: Tensor
    mean_camera: Tensor

    def __init__(
        self,
        z_dim: int,
        width: int = 1024,
        iterations: int = 3,
        dropout: float = 0.5,
        frame: RotationFrame = "parent",
    ) -> None:
        super().__init__()
        self.frame = frame
        self.width = width
        self.iterations = iterations
        self.dropout = dropout
        self.fc1 = nn.Linear(z_dim + _POSE_DIM + NUM_BETAS + _CAMERA_DIM, width)
        self.fc2 = nn.Linear(width, width)
        self.pose_head = nn.Linear(width, _POSE_DIM)
        self.shape_head = nn.Linear(width, NUM_BETAS)
        self.camera_head = nn.Linear(width, _CAMERA_DIM)
        for head in (self.pose_head, self.shape_head, self.camera_head):
            nn.init.xavier_uniform_(head.weight, gain=_HEAD_GAIN)
        # Until set_mean: the rest pose, upright before the camera (SMPL is y up, the camera y down).
        rotations = torch.eye(3).repeat(24, 1, 1)
        rotations[0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
        self.register_buffer("mean_rot6d", matrix_to_rot6d_columns(to_frame(rotations, frame)).flatten())
        self.register_buffer("mean_betas", torch.zeros(NUM_BETAS))
        self.register_buffer("mean_camera", torch.tensor([0.9, 0.0, 0.0]))

    def set_mean(self, rotations: Tensor, betas: Tensor, camera: Tensor) -> None:
        """Start the iterations at ``rotations [24, 3, 3]`` relative to parents, ``betas [10]`` and ``camera [3]``."""
        self.mean_rot6d.copy_(matrix_to_rot6d_columns(to_frame(rotations, self.frame)).flatten())
        self.mean_betas.copy_(betas)
        self.mean_camera.copy_(camera)

    def mean_params(self) -> SmplParams:
        """The person ``[]`` from whom the iterations start."""
        rotations = rot6d_columns_to_matrix(self.mean_rot6d.unflatten(0, (-1, 6)))
        return SmplParams.from_rotations(from_frame(rotations, self.frame), self.mean_betas)

    def forward(self, z: Tensor, dropout_keys: Tensor | None = None) -> Estimate:
        """Estimate from ``z [B, z_dim]``.

        Args:
            z: features.
            dropout_keys: ``[B]`` int64, see :mod:`diffhmr.models.item_random`. Given, dropout is on and its masks
                follow from them; None switches dropout off, whatever the module's mode.
        """
        size = z.shape[0]
        estimate = torch.cat([self.mean_rot6d, self.mean_betas, self.mean_camera]).expand(size, -1)
        masks = self._dropout_masks(dropout_keys)
        for iteration in range(self.iterations):
            hidden = self.fc1(torch.cat([z, estimate], dim=-1))
            if masks is not None:
                hidden = hidden * masks[:, iteration, 0]
            hidden = self.fc2(hidden)
            if masks is not None:
                hidden = hidden * masks[:, iteration, 1]
            correction = torch.cat([self.pose_head(hidden), self.shape_head(hidden), self.camera_head(hidden)], dim=-1)
            estimate = estimate + correction
        rot6d, betas, camera = estimate.split([_POSE_DIM, NUM_BETAS, _CAMERA_DIM], dim=-1)
        rotations = from_frame(rot6d_columns_to_matrix(rot6d.unflatten(-1, (24, 6))), self.frame)
        return Estimate(rot6d, SmplParams.from_rotations(rotations, betas), camera)

    def _dropout_masks(self, keys: Tensor | None) -> Tensor | None:
        """``[B, iterations, 2, width]``: 0, or what keeps the expectation."""
        if keys is None or self.dropout == 0:
            return None
        keep = item_keep(keys, _DROPOUT_STREAM, (self.iterations, 2, self.width), self.dropout)
        return keep.to(self.fc1.weight.dtype) / (1 - self.dropout)
