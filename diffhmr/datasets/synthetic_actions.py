"""Synthetic clips for action recognition: people who do one thing, as a 2D detector sees them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from diffhmr.body.model import BodyModel
from diffhmr.clip_batch import ActionBatch
from diffhmr.config_clips import ClipDataConfig
from diffhmr.datasets.class_pairs import PAIR, classes_in_turn
from diffhmr.datasets.clips import SyntheticClips, parse_activities
from diffhmr.datasets.synthetic import Split
from diffhmr.errors import UserError
from diffhmr.random import item_seeds


class SyntheticActions:
    """Clips of ``config.frames`` frames in all splits, of one person who performs one of ``config.activities``.

    Item k shows the clip k of :class:`SyntheticClips` with its activity alone. Any ``len(activities)`` items from a
    multiple of that number on show each activity once, in an order that the seed decides. In pairs, the items 2k and
    2k + 1 show the same activity, and pairs take the place of items in that order.

    Attributes:
        protocol: name of the data for result files.
        classes: the activities; the label is the place in them.
        num_classes: how many there are.

    Args:
        in_pairs: see above.

    Raises:
        UserError: fewer than two activities, an unknown one, or a folder of motions, whose activities nobody knows.
    """

    protocol = "synthetic-motion"

    def __init__(self, body: BodyModel, config: ClipDataConfig, split: Split, in_pairs: bool = False) -> None:
        self._repeats = PAIR if in_pairs else 1
        self.classes = config.activities
        self.num_classes = len(self.classes)
        if config.motions is not None:
            raise UserError("data.motions does not say what people do: leave it out, actions are procedural")
        if len(self.classes) < 2:
            raise UserError("data.activities must name at least two activities: they are the classes")
        self._seed, self._split = config.seed, split
        clips = SyntheticClips(body, config.model_copy(update={"test_frames": config.frames}), split)
        self._members = [clips.doing(activity) for activity in parse_activities(self.classes)]

    def __len__(self) -> int:
        return len(self._members[0])

    def __getitems__(self, indices: Sequence[int]) -> ActionBatch:
        """The clips ``indices`` as one batch on the CPU.

        Raises:
            IndexError: an index is negative or not smaller than the size of the split.
        """
        array = np.asarray(indices, dtype=np.int64)
        if array.size and (array.min() < 0 or array.max() >= len(self)):
            raise IndexError(f"index outside the {len(self)} items of the split {self._split}")
        labels = self.labels(array)
        parts, rows = [], []
        for label in np.unique(labels):
            own = np.flatnonzero(labels == label)
            parts.append(self._members[label].__getitems__(array[own]).keypoints)
            rows.append(own)
        back = np.argsort(np.concatenate(rows))
        return ActionBatch(
            item_seed=torch.from_numpy(item_seeds(self._seed, self._split, array)),
            keypoints=torch.cat(parts)[back].unsqueeze(1),
            label=torch.from_numpy(labels),
        )

    def labels(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """``[B]`` of the items ``indices [B]``."""
        return classes_in_turn(self._seed, self._split, indices // self._repeats, len(self.classes))
