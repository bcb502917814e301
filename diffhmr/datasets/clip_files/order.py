"""Which clip of which file is an item, and how the clips of several files become one batch."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.body.params import SmplParams
from diffhmr.config_clips import ClipDataConfig, ClipSourceConfig
from diffhmr.datasets.class_pairs import ClassPairs
from diffhmr.datasets.clip_files.videos import Indices
from diffhmr.datasets.mixture import Positions, shares
from diffhmr.datasets.synthetic import Split
from diffhmr.errors import UserError
from diffhmr.random import Seeds, Stream, item_seeds, uniforms

_Batch = TypeVar("_Batch")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """The items of a batch that come from one file.

    Attributes:
        source: number of the file.
        places: ``[n]`` where they stand in the batch.
        rows: ``[n]`` which clips of the file they are.
        seeds: ``[n]`` of the items.
    """

    source: int
    places: Indices
    rows: Indices
    seeds: Seeds


def from_files(config: ClipDataConfig, split: Split) -> bool:
    """Whether the clips of a split come from files: those of training by ``kind``, others where a file is named."""
    return config.kind == "files" and (split == "train" or config.validation is not None)


def sources_of(config: ClipDataConfig, split: Split) -> tuple[ClipSourceConfig, ...]:
    """The files of a split: those of ``sources`` in training, else ``validation``."""
    if split == "train":
        return config.sources
    assert config.validation is not None
    return (config.validation,)


class ClipOrder:
    """What the items of a split are: a function of (seed, split, index).

    Training is endless: every file has its share, and is walked through again and again in another order; or it takes
    pairs of a class from all files together. Otherwise the items are clips of the one file, evenly spaced, as many as
    the settings allow.

    Args:
        config: of the data.
        split: of the items.
        sizes: how many clips each file has.
        chosen: the files that are used, which keep their shares relative to each other; None: all.
        pairs: of training in pairs (:class:`ClassPairs`) the classes of the clips of each file, ``[size]``.

    Raises:
        UserError: a file has no clip, or the weights do not add up.
    """

    def __init__(
        self,
        config: ClipDataConfig,
        split: Split,
        sizes: Sequence[int],
        chosen: Sequence[int] | None = None,
        pairs: Sequence[Indices] | None = None,
    ) -> None:
        self._seed, self._split = config.seed, split
        sources = sources_of(config, split)
        for source, size in zip(sources, sizes, strict=True):
            if not size:
                raise UserError(f"{source.name}: {source.path} has no usable clip in the split {source.split}")
        self._chosen = list(range(len(sizes)) if chosen is None else chosen)
        self._positions: Positions | ClassPairs | None = None
        self._length = config.train_items
        if pairs is not None:
            assert split == "train" and chosen is None
            self._positions = ClassPairs(config.seed, pairs)
            for source, labels in zip(sources, pairs, strict=True):
                _log.info("%s: %d clips of %d classes, in pairs", source.name, len(labels), len(np.unique(labels)))
        elif split == "train":
            share = shares([source.weight for source in sources], sizes)[self._chosen]
            share = share / share.sum()
            theirs = [sizes[number] for number in self._chosen]
            for number, part in zip(self._chosen, share, strict=True):
                _log.info("%s: %d clips, %.1f %% of the items", sources[number].name, sizes[number], 100 * part)
            self._positions = Positions(config.seed, share, theirs)
        else:
            self._length = min(sizes[0], config.val_items if split == "val" else config.test_items)
            self._rows = np.arange(self._length) * sizes[0] // self._length

    def __len__(self) -> int:
        return self._length

    def parts(self, indices: Sequence[int]) -> Iterator[Part]:
        """The items ``indices``, file by file.

        Raises:
            IndexError: an index is negative or not smaller than the length.
        """
        items = np.asarray(indices, dtype=np.int64)
        if items.size and (items.min() < 0 or items.max() >= len(self)):
            raise IndexError(f"index outside the {len(self)} items of the split {self._split}")
        seeds = item_seeds(self._seed, self._split, items)
        if self._positions is None:
            files, rows = np.zeros_like(items), self._rows[items]
        else:
            files, rows = self._positions(items)
        for number, source in enumerate(self._chosen):
            places = np.flatnonzero(files == number)
            if len(places):
                yield Part(source, places, rows[places], seeds[places])


def draw_flips(seeds: Seeds, share: float) -> NDArray[np.bool_]:
    """``[B]``: which items are mirrored."""
    return uniforms(seeds, Stream.CLIP_FLIP, 1)[:, 0] < share


def join(batches: Sequence[_Batch], places: Sequence[Indices]) -> _Batch:
    """Batches of parts as one, every item at its place. Fields that are None are so in all."""
    order = torch.from_numpy(np.argsort(np.concatenate(places)))
    return _join(batches, order)


def _join(values: Sequence[Any], order: Tensor) -> Any:
    first = values[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        return torch.cat(list(values))[order]
    if isinstance(first, SmplParams):
        betas = torch.cat([value.betas for value in values])[order]
        return SmplParams.from_rotations(torch.cat([value.rotations for value in values])[order], betas)
    assert is_dataclass(first) and not isinstance(first, type)
    changes = {field.name: _join([getattr(value, field.name) for value in values], order) for field in fields(first)}
    return replace(first, **changes)
