"""Training items in pairs of one class, for a loss that compares clips with each other.

MotionBERT's one-shot recognition is trained with two recordings of each of 16 classes per batch (its
``train_action_1shot.py``: ``MPerClassSampler`` of pytorch-metric-learning, m = 2, batches of 32), drawn anew for every
batch. Here the classes have their turn one after the other, so that what stands at a position is a function of
(seed, position) only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffhmr.datasets.mixture import Indices
from diffhmr.datasets.synthetic import Split
from diffhmr.random import Stream, hash64, item_seeds

PAIR = 2
"""Items of a class that follow each other."""


def classes_in_turn(seed: int, split: Split, places: Indices, count: int) -> Indices:
    """``[N]``: which of ``count`` classes have the ``places [N]`` of a split.

    Any ``count`` places from a multiple of that number on show each class once, in an order that the seed decides.
    """
    rounds, place = np.divmod(places, count)
    order = np.argsort(hash64(item_seeds(seed, split, rounds), Stream.CLIP_ACTIVITY, count), axis=1)
    return np.asarray(order[np.arange(len(places)), place])


class ClassPairs:
    """Which row of which file stands at a position: at 2k and 2k + 1 two recordings of the same class.

    Pairs have the classes that :func:`classes_in_turn` says, whatever their size. A class is walked through again and
    again, each time in another order and without the one that is left over of an odd number. Its only recording is a
    pair with itself.

    Args:
        seed: of the stream.
        labels: of the rows of each file, ``[rows]``.
    """

    def __init__(self, seed: int, labels: Sequence[Indices]) -> None:
        self._seed = seed
        self._files = np.repeat(np.arange(len(labels)), [len(one) for one in labels])
        self._rows = np.concatenate([np.arange(len(one)) for one in labels])
        classes, numbers = np.unique(np.concatenate(labels), return_inverse=True)
        self._members = [np.flatnonzero(numbers == number) for number in range(len(classes))]
        self._orders: dict[int, tuple[int, Indices]] = {}

    def __call__(self, positions: Indices) -> tuple[Indices, Indices]:
        """File and row in it, both ``[B]``, of ``positions [B]``."""
        pairs, sides = np.divmod(positions, PAIR)
        numbers = classes_in_turn(self._seed, "train", pairs, len(self._members))
        turns = pairs // len(self._members)
        found = [self._member(*one) for one in zip(numbers.tolist(), turns.tolist(), sides.tolist(), strict=True)]
        chosen = np.array(found, np.int64)
        return self._files[chosen], self._rows[chosen]

    def _member(self, number: int, turn: int, side: int) -> int:
        """Of all files' rows that one which a class shows on one side of its pair in a turn."""
        size = len(self._members[number])
        epoch, pair = divmod(turn, max(1, size // PAIR))
        return int(self._order(number, epoch)[(PAIR * pair + side) % size])

    def _order(self, number: int, epoch: int) -> Indices:
        """The rows of a class in the order of one epoch; the last one asked for is kept."""
        if self._orders.get(number, (-1,))[0] != epoch:
            members = self._members[number]
            seeds = item_seeds(self._seed, "train", [epoch * len(self._members) + number])
            keys = hash64(seeds, Stream.CLIP_PAIR, len(members))[0]
            self._orders[number] = epoch, members[np.argsort(keys, kind="stable")]
        return self._orders[number][1]
