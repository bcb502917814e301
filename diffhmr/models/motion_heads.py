"""MotionBERT's heads: from the features of a clip to a mesh per frame, or to an action.

Zhu et al., "MotionBERT: A Unified Perspective on Learning Human Motion Representations", ICCV 2023, section 3.3 and the
official code. Names and shapes of all parameters are those of its checkpoints: ``backbone.*`` and ``head.*``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffhmr.body.params import NUM_BETAS, SmplParams
from diffhmr.geometry.rotation import (
    matrix_to_rot6d_columns,
    rot6d_columns_to_interleaved,
    rot6d_columns_to_matrix,
    rot6d_interleaved_to_columns,
)
from diffhmr.models.dstformer import NUM_JOINTS, DSTformer
from diffhmr.models.item_random import item_keep

_POSE_DIM = 24 * 6
_HEAD_GAIN = 0.01
_POSE_STREAM, _SHAPE_STREAM, _ACTION_STREAM = 110, 111, 112
_ACTION_WIDTH = 2048


@dataclass(frozen=True)
class ClipEstimate:
    """SMPL parameters of B clips.

    Attributes:
        rotations: ``[B, T, 24, 3, 3]``: of the pelvis into the camera frame, of the others relative to their parents.
        betas: ``[B, 10]``, one shape per clip.
    """

    rotations: Tensor
    betas: Tensor

    @property
    def params(self) -> SmplParams:
        """The same per frame, ``[B, T]``."""
        frames = self.rotations.shape[1]
        return SmplParams.from_rotations(self.rotations, self.betas.unsqueeze(1).expand(-1, frames, -1))


class SmplHead(nn.Module):
    """Two linear layers that give pose and shape as offsets from their means.

    The weights and the mean pose are in the order of the official ones, 6D rotations as row-major 3x2 matrices
    ``[a1x a2x a1y a2y a1z a2z]``; what comes out is permuted before it becomes matrices.

    Args:
        width: of the input of both layers.
    """

    init_pose: Tensor
    init_shape: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head_pose = nn.Linear(width, _POSE_DIM)
        self.head_shape = nn.Linear(width, NUM_BETAS)
        for head in (self.head_pose, self.head_shape):
            nn.init.xavier_uniform_(head.weight, gain=_HEAD_GAIN)
        self.register_buffer("init_pose", torch.zeros(1, _POSE_DIM))
        self.register_buffer("init_shape", torch.zeros(1, NUM_BETAS))
        # Until set_mean: the rest pose, upright before the camera (SMPL is y up, the camera y down).
        rotations = torch.eye(3).repeat(24, 1, 1)
        rotations[0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
        self.set_mean(rotations, torch.zeros(NUM_BETAS))

    def set_mean(self, rotations: Tensor, betas: Tensor) -> None:
        """Offsets count from ``rotations [24, 3, 3]``, relative to parents, and ``betas [10]``."""
        self.init_pose.copy_(rot6d_columns_to_interleaved(matrix_to_rot6d_columns(rotations)).flatten())
        self.init_shape.copy_(betas)

    def decode(self, pose: Tensor, shape: Tensor) -> ClipEstimate:
        """Parameters of B clips from the features ``pose [B, T, width]`` and ``shape [B, width]``."""
        rot6d = (self.head_pose(pose) + self.init_pose).unflatten(-1, (24, 6))
        rotations = rot6d_columns_to_matrix(rot6d_interleaved_to_columns(rot6d))
        return ClipEstimate(rotations, self.head_shape(shape) + self.init_shape)


class MeshHead(SmplHead):
    """Pose from the features of each frame, one shape from their mean over the clip.

    Args:
        features: C of the features.
        hidden: width of the layer before each output.
        dropout: of the features, before the first layers.
    """

    def __init__(self, features: int = 512, hidden: int = 1024, dropout: float = 0.1) -> None:
        super().__init__(hidden)
        self.dropout = dropout
        self.fc1 = nn.Linear(NUM_JOINTS * features, hidden)
        self.bn1 = nn.BatchNorm1d(hidden)
        self.fc2 = nn.Linear(NUM_JOINTS * features, hidden)
        self.bn2 = nn.BatchNorm1d(hidden)

    def forward(self, features: Tensor, dropout_keys: Tensor | None = None) -> ClipEstimate:
        """Parameters of the clips ``features [B, T, 17, C]``.

        In training mode batch normalisation takes its statistics over the frames of all clips for the pose and over the
        clips for the shape: B is then at least 2, and the biases before it have no effect and no gradient.

        Args:
            features: from :meth:`DSTformer.get_representation`.
            dropout_keys: ``[B]`` int64, see :mod:`diffhmr.models.item_random`. Given, dropout is on and its masks
                follow from them; None switches dropout off, whatever the module's mode.
        """
        flat = features.flatten(2)
        pose = self.fc1(dropped(flat, dropout_keys, _POSE_STREAM, self.dropout))
        pose = self.bn1(pose.flatten(0, 1)).relu().unflatten(0, flat.shape[:2])
        shape = self.fc2(dropped(flat.mean(dim=1), dropout_keys, _SHAPE_STREAM, self.dropout))
        return self.decode(pose, self.bn2(shape).relu())


class ActionClassifier(nn.Module):
    """Scores of the actions from the features of all people in a clip.

    Args:
        num_classes: of actions.
        features: C of the features.
        dropout: of the features, before they are averaged.
    """

    def __init__(self, num_classes: int = 60, features: int = 512, dropout: float = 0.5) -> None:
        super().__init__()
        self.dropout = dropout
        self.bn = nn.BatchNorm1d(_ACTION_WIDTH)
        self.fc1 = nn.Linear(NUM_JOINTS * features, _ACTION_WIDTH)
        self.fc2 = nn.Linear(_ACTION_WIDTH, num_classes)

    def forward(self, features: Tensor, dropout_keys: Tensor | None = None) -> Tensor:
        """Logits ``[B, classes]`` of the clips ``features [B, M, T, 17, C]`` with M people each.

        In training mode batch normalisation takes its statistics over the clips: B is then at least 2, and the bias
        before it has no effect and no gradient.

        Args:
            features: of each person; those of an empty place count as they are.
            dropout_keys: ``[B]`` int64, or None for no dropout, as in :class:`MeshHead`.
        """
        pooled = _pooled(features, dropout_keys, self.dropout)
        logits: Tensor = self.fc2(self.bn(self.fc1(pooled)).relu())
        return logits


class ActionEmbedding(nn.Module):
    """A vector of length 1 per clip, in which clips of the same action are near to each other.

    Args:
        features: C of the features.
        dim: of the vector.
        dropout: of the features, before they are averaged.
    """

    def __init__(self, features: int = 512, dim: int = _ACTION_WIDTH, dropout: float = 0.1) -> None:
        super().__init__()
        self.dropout = dropout
        self.fc1 = nn.Linear(NUM_JOINTS * features, dim)

    def forward(self, features: Tensor, dropout_keys: Tensor | None = None) -> Tensor:
        """``[B, dim]`` of the clips ``features [B, M, T, 17, C]``; arguments as in :class:`ActionClassifier`."""
        return nn.functional.normalize(self.fc1(_pooled(features, dropout_keys, self.dropout)), dim=-1)


class MotionBertMesh(nn.Module):
    """Backbone and mesh head: SMPL parameters of clips of keypoints.

    The backbone's own head, which gives joint positions, is in the state dict as in official files, but not used and
    not trained.

    Args:
        backbone: gives the features.
        head: takes them.
    """

    def __init__(self, backbone: DSTformer, head: MeshHead) -> None:
        super().__init__()
        self.backbone = with_frozen_head(backbone)
        self.head = head

    def forward(self, x: Tensor, dropout_keys: Tensor | None = None) -> ClipEstimate:
        """Parameters of the clips ``x [B, T, 17, 3]``, T up to 243; ``dropout_keys`` as in :class:`MeshHead`.

        Raises:
            UserError: the clips are too long.
        """
        estimate: ClipEstimate = self.head(self.backbone.get_representation(x), dropout_keys)
        return estimate


class MotionBertAction(nn.Module):
    """Backbone and one of the action heads; of the backbone's own head see :class:`MotionBertMesh`.

    Args:
        backbone: gives the features.
        head: takes them.
    """

    def __init__(self, backbone: DSTformer, head: ActionClassifier | ActionEmbedding) -> None:
        super().__init__()
        self.backbone = with_frozen_head(backbone)
        self.head = head

    def forward(self, x: Tensor, dropout_keys: Tensor | None = None) -> Tensor:
        """Logits or vectors ``[B, K]`` of the clips ``x [B, M, T, 17, 3]`` with M people each, T up to 243.

        Raises:
            UserError: the clips are too long.
        """
        features = self.backbone.get_representation(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        result: Tensor = self.head(features, dropout_keys)
        return result


def with_frozen_head(backbone: DSTformer) -> DSTformer:
    """``backbone``, whose own head is from now on no trainable parameter: its representation alone is used."""
    backbone.head.requires_grad_(False)
    return backbone


def _pooled(features: Tensor, keys: Tensor | None, drop: float) -> Tensor:
    """``[B, 17 * C]``: dropout, then the mean over the frames and people of ``[B, M, T, 17, C]``."""
    return dropped(features.flatten(3), keys, _ACTION_STREAM, drop).mean(dim=(1, 2))


def dropped(values: Tensor, keys: Tensor | None, stream: int, drop: float) -> Tensor:
    """``values [B, ...]`` with a share of ``drop`` set to 0 and the rest enlarged to keep the expectation.

    Args:
        keys: ``[B]`` int64, from which the masks follow; None for no dropout.
        stream: which random numbers of the keys; 110 to 113 are taken.
        drop: the share.
    """
    if keys is None or drop == 0:
        return values
    keep = item_keep(keys, stream, values.shape[1:], drop)
    return values * keep.to(values.dtype) / (1 - drop)
