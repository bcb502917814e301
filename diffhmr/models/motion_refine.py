"""DiffMesh's refinement of given SMPL parameters, such as those that a model of pictures gives frame by frame.

Zheng et al., "DiffMesh", WACV 2025, who refine HybrIK. From the tokens of DiffMesh's process
(:class:`diffhmr.models.diffmesh.ChainHead`) and from the given poses, looked at over five frames, follows a correction
that is added to the given poses in 6D. The shape is the given one. Names and shapes of all parameters are those of the
official code, but not all of what they mean:

**One 6D layout.** The official code writes the given rotations as the first two ROWS of their matrices, ``[R00 R01 R02
R10 R11 R12]`` (PyTorch3D's ``matrix_to_rotation_6d``), adds the correction, and reads the sum as the first two COLUMNS,
``[a1x a2x a1y a2y a1z a2z]``. Without a correction a rotation comes back as quite another one (116 degrees away on
average), and of the identity the second column is zero, so that there is none. Here both ends are the columns in the
layout in which the official code reads, which all other weights of this family have: without a correction the given
poses come back.

Official weights of the refinement therefore load, name by name, but have learnt a correction for poses written the
other way, for which no change of weights makes up (the rows hold the third column, which the columns do not). They do
not refine anything here before they are trained again, of which they can be the start (``init``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffhmr.body.params import SmplParams
from diffhmr.geometry.rotation import (
    matrix_to_rot6d_columns,
    rot6d_columns_to_interleaved,
    rot6d_columns_to_matrix,
    rot6d_interleaved_to_columns,
)
from diffhmr.models.diffmesh import OFFICIAL, ChainHead, DiffMeshEstimate, DiffMeshSize, Variant
from diffhmr.models.dstformer import NUM_JOINTS, DSTformer
from diffhmr.models.motion_heads import dropped, with_frozen_head
from diffhmr.models.point_estimator import without_autocast

_POSE_DIM = 24 * 6
_FRAMES_SEEN = 5
_FIRST_GAIN = 0.01
_DROPOUT_STREAM = 113
OFFICIAL_HIDDEN = 512


class RefineHead(ChainHead):
    """The process on given features, and the correction of given poses. Runs in float32 whatever autocast says.

    It begins with next to no correction (the official code with a random one), so that the first steps of a training
    do not have to find the given poses again.

    Args:
        template: where the chain starts, see :meth:`ChainHead.add_process`.
        variant: ``released`` or ``paper``, see :mod:`diffhmr.models.diffmesh`.
        size: of the process.
        hidden: numbers per frame that the correction makes of the tokens, and as many of the given poses.
        dropout: of the tokens.

    Raises:
        UserError: the variant is unknown.
    """

    def __init__(
        self,
        template: Tensor,
        variant: Variant = "paper",
        size: DiffMeshSize = OFFICIAL,
        hidden: int = OFFICIAL_HIDDEN,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.add_process(template, variant, size)
        self.dropout = dropout
        self.fc1 = nn.Sequential(nn.Linear(NUM_JOINTS * size.width, hidden), nn.ReLU())
        self.fc2 = nn.Sequential(_over_time(_POSE_DIM, hidden), nn.ReLU())
        self.head_pose = _over_time(2 * hidden, _POSE_DIM)
        nn.init.xavier_uniform_(self.head_pose.weight, gain=_FIRST_GAIN)
        assert self.head_pose.bias is not None
        nn.init.zeros_(self.head_pose.bias)

    def forward(self, features: Tensor, initial: SmplParams, dropout_keys: Tensor | None = None) -> DiffMeshEstimate:
        """Refined parameters of B clips, whose shape is :func:`shape_of_clip` of the given ones.

        Args:
            features: ``[B, T, 17, C]``; T is 16, or 1, see :meth:`ChainHead.run_process`.
            initial: ``[B, T]``, what is refined.
            dropout_keys: ``[B]`` int64, or None for no dropout, as in :class:`diffhmr.models.motion_heads.MeshHead`.

        Raises:
            UserError: T is something else.
        """
        with without_autocast(features):
            frames = self.run_process(features)
            given = encode_pose(initial.rotations.float())
            seen = self.fc1(dropped(frames.tokens, dropout_keys, _DROPOUT_STREAM, self.dropout))
            posed = self.fc2(given.transpose(1, 2)).transpose(1, 2)
            correction = self.head_pose(torch.cat([seen, posed], dim=-1).transpose(1, 2)).transpose(1, 2)
            rotations = decode_pose(given + correction)
        betas = shape_of_clip(initial.betas.float())
        return DiffMeshEstimate(rotations, betas, frames.condition, frames.predicted_condition)


class DiffMeshRefine(nn.Module):
    """Backbone and :class:`RefineHead`: better SMPL parameters of clips of 16 frames from given ones.

    The backbone's own head, which gives joint positions, is in the state dict as in official files, but not used and
    not trained.

    Args:
        backbone: gives the features.
        head: takes them.
    """

    def __init__(self, backbone: DSTformer, head: RefineHead) -> None:
        super().__init__()
        self.backbone = with_frozen_head(backbone)
        self.head = head

    @property
    def frames(self) -> int:
        """The length of the clips that it takes; single frames are taken too."""
        return self.head.size.frames

    def forward(self, x: Tensor, initial: SmplParams, dropout_keys: Tensor | None = None) -> DiffMeshEstimate:
        """Refined parameters of the clips ``x [B, T, 17, 3]`` with the parameters ``initial [B, T]``.

        Raises:
            UserError: T is neither :attr:`frames` nor 1.
        """
        self.head.check_frames(x.shape[1])
        estimate: DiffMeshEstimate = self.head(self.backbone.get_representation(x), initial, dropout_keys)
        return estimate


def encode_pose(rotations: Tensor) -> Tensor:
    """``[..., 24, 3, 3]`` as ``[..., 144]``: per joint the first two columns, row by row."""
    return rot6d_columns_to_interleaved(matrix_to_rot6d_columns(rotations)).flatten(-2)


def decode_pose(pose: Tensor) -> Tensor:
    """What :func:`encode_pose` made, or any other ``[..., 144]``, as rotations ``[..., 24, 3, 3]``."""
    return rot6d_columns_to_matrix(rot6d_interleaved_to_columns(pose.unflatten(-1, (24, 6))))


def shape_of_clip(betas: Tensor) -> Tensor:
    """``[B, 10]``: the mean of ``betas [B, T, 10]`` over the frames; exactly theirs if they all have the same."""
    first = betas[:, :1]
    return (first + (betas - first).mean(dim=1, keepdim=True))[:, 0]


def _over_time(channels: int, out: int) -> nn.Conv1d:
    return nn.Conv1d(channels, out, kernel_size=_FRAMES_SEEN, padding=_FRAMES_SEEN // 2)
