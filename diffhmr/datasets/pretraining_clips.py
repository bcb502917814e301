"""Clips of files as MotionBERT is pretrained with them: corrupted, at first only those whose depths are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from diffhmr.clip_batch import LiftingBatch
from diffhmr.config_clips import ClipDataConfig
from diffhmr.datasets.clip_files.lifting_clips import LiftingClips
from diffhmr.datasets.corruption import corrupt
from diffhmr.datasets.synthetic_lifting import corruption_of


class PretrainingClips:
    """Training clips of the files of ``config``.

    Clips of annotated points are moved as by a detector; those of a detector have errors already. Joints and frames of
    all are hidden.

    Args:
        config: of the data.
        flat_after: the item from which on clips without depths are among them; if all files are without, from 0.

    Raises:
        UserError: a file cannot be used, of MotionBERT's noise too, or the weights do not add up.
    """

    def __init__(self, config: ClipDataConfig, flat_after: int) -> None:
        self._all = LiftingClips(config, "train", "pretrain")
        self._first = self._all.only("depth") if 0 < sum(self._all.flat) < len(self._all.flat) else self._all
        self._flat_after = flat_after
        self._corruption = corruption_of(config.augment)

    def __len__(self) -> int:
        return len(self._all)

    def __getitems__(self, indices: Sequence[int]) -> LiftingBatch:
        """The clips ``indices``, which lie on one side of ``flat_after``, as one batch on the CPU.

        Raises:
            IndexError: an index is negative or not smaller than the length.
            UserError: a file that is read only now is damaged.
        """
        late = [index >= self._flat_after for index in indices]
        assert all(late) or not any(late), "a step has one kind of clips"
        clips = self._all if all(late) else self._first
        batch = clips.__getitems__(indices)
        points = corrupt(
            batch.keypoints.double().numpy(), batch.item_seed.numpy(), self._corruption, clips.detected(indices)
        )
        # Whether millimetres are known may change with the files; nothing in training asks for them.
        return replace(batch, keypoints=torch.from_numpy(points).float(), mm_per_unit=None)
