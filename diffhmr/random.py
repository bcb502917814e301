"""Counter-based random numbers: every number is a pure function of (item seed, stream, position).

A stream of millions of items needs numbers that do not depend on which other items share the batch, on the order of
calls or on the version of a library, at a cost far below one generator object per item. SplitMix64 (Steele et al.,
"Fast splittable pseudorandom number generators", OOPSLA 2014) run from a hashed starting point gives them, vectorised.
Uniform numbers are exact everywhere; normals go through the inverse distribution function and agree to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Seeds = NDArray[np.int64]
Floats = NDArray[np.float64]
_Option = TypeVar("_Option")

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_STREAM_KEY = np.uint64(0xD1342543DE82EF95)
_SPLITS = ("train", "val", "test")


class Stream(IntEnum):
    """Names of the independent streams of one item. Numbers from 1000 on are free for the appearance of images."""

    POSE_KIND = 1
    POSE_STANCE = 2
    POSE_ARMS = 3
    POSE_NOISE = 4
    POSE_BLEND = 5
    POSE_BROAD = 6
    POSE_ARCHIVE = 7
    SHAPE = 20
    VIEW = 21
    VIEW_MORE = 22
    BOX = 23
    BOX_MORE = 24
    BORDER = 25
    BORDER_MORE = 26
    OCCLUDER = 27
    OCCLUDER_MORE = 28
    KEYPOINT_PERSON = 40
    KEYPOINT_JITTER = 41
    KEYPOINT_OUTLIER = 42
    KEYPOINT_DROP = 43
    KEYPOINT_CONFIDENCE = 44
    KEYPOINT_CLICKED = 45
    AUGMENTATION = 60
    AUGMENTATION_MORE = 61
    MIXTURE_BLOCK = 70
    MIXTURE_EPOCH = 71
    MOTION_PLAN = 80
    MOTION_WANDER = 81
    CLIP_VIEW = 90
    CLIP_OBJECT = 91
    CLIP_SOURCE = 92
    CLIP_DETECTOR = 93
    CLIP_JITTER = 94
    CLIP_JITTER_SLOW = 95
    CLIP_OUTLIER = 96
    CLIP_OUTLIER_PLACE = 97
    CLIP_DROP_POINT = 98
    CLIP_DROP_LIMB = 99
    CLIP_DROP_FRAME = 100
    CLIP_DROP_HIDDEN = 101
    CLIP_SWAP = 102
    CLIP_CONFIDENCE = 103
    CLIP_SWAP_RUN = 104
    CLIP_CONFIDENCE_PERSON = 105
    CLIP_KEPT = 106
    CLIP_SCALE = 107
    CLIP_ACTIVITY = 108
    CLIP_PAIR = 109
    CLIP_FLIP = 110
    CLIP_SHARE = 111
    CLIP_RESAMPLING = 112
    INITIAL_PERSON = 113
    INITIAL_SLOW = 114
    INITIAL_QUICK = 115
    INITIAL_FAR = 116
    INITIAL_FAR_TURN = 117
    INITIAL_SHAPE = 118
    CORRUPTION_KIND = 120
    CORRUPTION_SHIFT = 121
    CORRUPTION_TREMBLE = 122
    CORRUPTION_CONFIDENCE = 123
    CORRUPTION_MASK_JOINT = 124
    CORRUPTION_MASK_FRAME = 125


def hash64(item_seeds: Seeds, stream: int, count: int) -> NDArray[np.uint64]:
    """``[B, count]`` uniformly distributed 64-bit words for ``item_seeds [B]``."""
    seeds = np.ascontiguousarray(item_seeds, dtype=np.int64).view(np.uint64)
    with np.errstate(over="ignore"):
        offset = _mix(np.full(1, stream, np.uint64) * _STREAM_KEY + _GOLDEN)
        start = _mix(seeds ^ offset)
        steps = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
        return _mix(start[:, None] + steps)


def uniforms(item_seeds: Seeds, stream: int, count: int) -> Floats:
    """``[B, count]`` uniform numbers in the open interval (0, 1); number k does not depend on ``count``."""
    words = hash64(item_seeds, stream, count)
    return ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def normals(item_seeds: Seeds, stream: int, count: int) -> Floats:
    """``[B, count]`` standard normal numbers; number k does not depend on ``count``."""
    values: Floats = ndtri(uniforms(item_seeds, stream, count))
    return values


def pick(uniform: Floats, weights: Sequence[float] | Floats) -> NDArray[np.int64]:
    """Indices drawn with probabilities proportional to ``weights [N]`` from uniform numbers of any shape."""
    edges = np.cumsum(np.asarray(weights, dtype=np.float64))
    return np.minimum(np.searchsorted(edges, uniform * edges[-1], side="right"), len(edges) - 1).astype(np.int64)


def item_seeds(seed: int, split: str, indices: Sequence[int] | NDArray[np.int64]) -> Seeds:
    """Seeds ``[B]`` (int64, not negative) of the items ``indices`` of one split of the stream ``seed``.

    The two lowest bits name the split, so that no item of one split is an item of another.
    """
    code = _SPLITS.index(split)
    base = np.full(1, seed, np.int64)
    index = np.asarray(indices, dtype=np.int64).view(np.uint64)
    with np.errstate(over="ignore"):
        start = hash64(base, code, 1)[0, 0]
        words = _mix(start + (index + np.uint64(1)) * _GOLDEN)
    return ((words >> np.uint64(3)) << np.uint64(2) | np.uint64(code)).view(np.int64)


class Dice:
    """A sequence of uniform numbers, drawn one after the other, with convenient ways to use them up.

    Every call takes the next numbers; running out of them is a defect of the caller and raises ``IndexError``.
    """

    def __init__(self, numbers: Sequence[float]) -> None:
        self._numbers = numbers
        self._next = 0

    def unit(self) -> float:
        """Uniform in (0, 1)."""
        value = self._numbers[self._next]
        self._next += 1
        return value

    def uniform(self, low: float, high: float) -> float:
        """Uniform in (low, high)."""
        return low + (high - low) * self.unit()

    def spread(self, low: float, high: float) -> float:
        """Between two positive numbers, uniform in the logarithm."""
        return float(low * (high / low) ** self.unit())

    def integer(self, count: int) -> int:
        """One of 0 .. count - 1."""
        return min(int(self.unit() * count), count - 1)

    def chance(self, probability: float) -> bool:
        """True with ``probability``."""
        return self.unit() < probability

    def pick(self, options: Sequence[_Option]) -> _Option:
        """One of ``options``, all equally likely."""
        return options[self.integer(len(options))]

    def weighted(self, options: Mapping[_Option, float]) -> _Option:
        """One of the keys of ``options``, with probabilities proportional to their values."""
        rest = self.unit() * sum(options.values())
        for option, weight in options.items():
            rest -= weight
            if rest < 0:
                return option
        return option


def _mix(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64, a bijection of 64-bit words."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
