"""Synthetic clips for lifting: keypoints of people who move, and where their joints are in the picture and in depth."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from diffhmr.body.joints import H36M17, SMPL24, extended
from diffhmr.body.model import BodyModel
from diffhmr.clip_batch import ClipBatch, LiftingBatch
from diffhmr.config_clips import ClipAugmentConfig, ClipDataConfig
from diffhmr.datasets.clips import SyntheticClips
from diffhmr.datasets.corruption import NOISE, Corruption, corrupt
from diffhmr.datasets.official_noise import read_official_noise
from diffhmr.datasets.synthetic import Split

_JOINTS = extended(H36M17, ("pelvis",))
assert SMPL24.joint_names[0] == "pelvis"


class SyntheticLifting:
    """Synthetic clips as :class:`LiftingBatch`; item k is the clip k of :class:`SyntheticClips`.

    Positions are those of a camera that sees every frame without perspective, in the scale that the real one has at the
    person's root: x and y of the root are those of the picture, all joints are around it as they are in space, and z
    grows with the logarithm of the root's depth. ``mm_per_unit`` tells this scale, so that lengths within a frame are
    true.

    Attributes:
        protocol: name of the data for result files.

    Args:
        task: what is seen of training clips: in pretraining (``pretrain``) the positions, corrupted; in 3D pose
            estimation (``pose3d``) what a detector reports. Other splits show what a detector reports.

    Raises:
        UserError: as :class:`SyntheticClips`, or MotionBERT's files of noise cannot be used.
    """

    protocol = "synthetic-motion"

    def __init__(
        self,
        body: BodyModel,
        config: ClipDataConfig,
        split: Split,
        task: Literal["pretrain", "pose3d"],
    ) -> None:
        self._clips = SyntheticClips(body, config, split)
        self._body = copy.deepcopy(body).cpu().double()
        self._corruption = None if task == "pose3d" or split != "train" else corruption_of(config.augment)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitems__(self, indices: Sequence[int]) -> LiftingBatch:
        """The clips ``indices`` as one batch on the CPU.

        Raises:
            IndexError: an index is negative or not smaller than the size of the split.
        """
        batch, focal = self._clips.with_focal(indices)
        positions, scale = self._positions(batch, focal.double())
        keypoints = batch.keypoints
        if self._corruption is not None:
            clean = torch.cat([positions[..., :2], torch.ones_like(positions[..., :1])], dim=-1)
            keypoints = torch.from_numpy(corrupt(clean.numpy(), batch.item_seed.numpy(), self._corruption)).float()
        return LiftingBatch(
            item_seed=batch.item_seed,
            keypoints=keypoints,
            positions=positions.float(),
            weight=torch.ones(positions.shape[:-1]),
            has_depth=torch.ones(len(batch), dtype=torch.bool),
            mm_per_unit=(1000 / scale).float(),
        )

    def _positions(self, batch: ClipBatch, focal: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, T, 17, 3]``, and units per metre ``[B, T]``."""
        targets = batch.targets
        assert targets is not None and targets.position is not None
        joints = self._body.joints(targets.params.map(Tensor.double), _JOINTS)
        joints = joints[..., :17, :] - joints[..., 17:, :] + targets.position.double().unsqueeze(-2)
        root = joints[..., :1, :]
        depth = root[..., 2].clamp_min(_NEAREST)
        scale = focal[:, None, None] / depth  # [B, T, 1]
        walk = focal[:, None, None] * (depth / depth[:, :1]).log()
        place = torch.cat([scale * root[..., 0], scale * root[..., 1], walk], dim=-1)
        return place.unsqueeze(-2) + scale.unsqueeze(-1) * (joints - root), scale[..., 0]


_NEAREST = 0.1
"""Metres from the camera: nearer roots are taken to be so far away."""


def corruption_of(config: ClipAugmentConfig) -> Corruption:
    """The corruption that the settings want: with MotionBERT's noise if they name its files, else with this project's.

    Raises:
        UserError: a file cannot be used.
    """
    noise = NOISE
    if config.noise_file is not None and config.confidence_file is not None:
        noise = read_official_noise(config.noise_file, config.confidence_file)
    return Corruption(noise if config.noise else None, config.mask_joint, config.mask_frame)
