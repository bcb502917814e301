"""Several label files as one endless stream of training items.

What stands at a position is a function of (seed, position): which file, which row, and what is done to the picture. The
stream consists of blocks in which every file has its share, in an order that changes from block to block; a file is
walked through again and again, each time in another order, so that no row comes twice before all have come once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffhmr.batch import ImageBatch
from diffhmr.body.joints import J14_FROM_SPIN49, PELVIS_SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.config import DataConfig, SourceConfig
from diffhmr.datasets.augment import draw_augmentation
from diffhmr.datasets.labelled import BatchMaker, LabelledPeople, PeopleOptions, Rows, exact_body
from diffhmr.datasets.labels import Labels, read_labels
from diffhmr.errors import UserError
from diffhmr.files import require_file
from diffhmr.random import Stream, hash64, item_seeds

BLOCK = 10_000
"""Items in which the shares of the files are kept, to half an item."""

_REACH = 1.5  # in half crops from the middle: 2D joints beyond have confidence 0
_BLOCKS_KEPT = 4

Indices = NDArray[np.int64]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Member:
    """One label file of a mixture.

    Attributes:
        name: in the settings.
        path: of the label file.
        images: folder of its pictures.
        labels: all its rows.
        rows: ``(N,)`` those that are used: the valid ones.
        first: number of the file's row 0 among the rows of all files.
    """

    name: str
    path: Path
    images: Path
    labels: Labels
    rows: Indices
    first: int = 0


def read_member(source: SourceConfig, images: bool, first: int = 0) -> Member:
    """Read the label file of ``source``.

    Args:
        source: of the settings.
        images: pictures will be read, so that their folder has to be there.
        first: see :class:`Member`.

    Raises:
        UserError: the file or the folder cannot be used, or no row is valid.
    """
    _require_images(source, images)
    try:
        labels = read_labels(source.labels, source.scale_unit)
    except UserError as error:
        raise UserError(f"{source.name}: {error}") from error
    rows = np.flatnonzero(labels.extra.get("valid", np.ones(len(labels), bool)))
    if not len(rows):
        raise UserError(f"{source.name}: no row of {source.labels} is valid")
    return Member(source.name, source.labels, source.images, labels, rows, first)


def _require_images(source: SourceConfig, images: bool) -> None:
    if images and not source.images.is_dir():
        raise UserError(f"{source.name}: folder of images not found: {source.images}; mend images of this source")


def shares(weights: Sequence[float | None], sizes: Sequence[int]) -> NDArray[np.float64]:
    """Shares of files in the items, which add up to 1: their weights; those without share the rest by size.

    Raises:
        UserError: the weights are more than 1, or less and no file could take the rest, or leave nothing for a file.
    """
    fixed = np.array([0.0 if weight is None else weight for weight in weights])
    free = np.array([size if weight is None else 0 for weight, size in zip(weights, sizes, strict=True)], np.float64)
    rest = 1 - fixed.sum()
    if free.any():
        if rest <= 1e-9:
            raise UserError(f"the weights of data.sources add up to {fixed.sum():g}: nothing is left for those without")
        return np.asarray(fixed + rest * free / free.sum())
    if abs(rest) > 1e-6:
        raise UserError(
            f"the weights of data.sources add up to {fixed.sum():g} instead of 1: change them, or leave out the weight "
            "of those that should share the rest"
        )
    return np.asarray(fixed / fixed.sum())


class Positions:
    """Which row of which file stands at a position.

    Args:
        seed: of the stream.
        share: of the files, as from :func:`shares`.
        sizes: how many rows each has.
    """

    def __init__(self, seed: int, share: NDArray[np.float64], sizes: Sequence[int]) -> None:
        self._seed, self._sizes = seed, list(sizes)
        self._counts = _whole_counts(share)
        self._blocks: dict[int, tuple[Indices, Indices]] = {}
        self._orders: dict[tuple[int, int], Indices] = {}

    def __call__(self, positions: Indices) -> tuple[Indices, Indices]:
        """File and row in it, both ``[B]``, of ``positions [B]``."""
        files, rows = np.empty_like(positions), np.empty_like(positions)
        for k, position in enumerate(positions.tolist()):
            block, place = divmod(position, BLOCK)
            members, ranks = self._block(block)
            member = int(members[place])
            epoch, step = divmod(block * int(self._counts[member]) + int(ranks[place]), self._sizes[member])
            files[k], rows[k] = member, self._order(member, epoch)[step]
        return files, rows

    def _block(self, block: int) -> tuple[Indices, Indices]:
        """File of each place of a block, and how many places of the same file come before it in the block."""
        if block not in self._blocks:
            if len(self._blocks) >= _BLOCKS_KEPT:
                self._blocks.clear()
            members = np.repeat(np.arange(len(self._counts)), self._counts)
            members = members[self._shuffled(BLOCK, Stream.MIXTURE_BLOCK, block)]
            ranks = np.empty(BLOCK, np.int64)
            for member, count in enumerate(self._counts.tolist()):
                ranks[members == member] = np.arange(count)
            self._blocks[block] = (members, ranks)
        return self._blocks[block]

    def _order(self, member: int, epoch: int) -> Indices:
        """The rows of a file in the order of one epoch."""
        if (member, epoch) not in self._orders:
            if len(self._orders) >= _BLOCKS_KEPT * len(self._sizes):
                self._orders.clear()
            number = epoch * len(self._sizes) + member
            self._orders[member, epoch] = self._shuffled(self._sizes[member], Stream.MIXTURE_EPOCH, number)
        return self._orders[member, epoch]

    def _shuffled(self, count: int, stream: Stream, number: int) -> Indices:
        keys = hash64(item_seeds(self._seed, "train", [number]), stream, count)[0]
        return np.argsort(keys, kind="stable")


class Mixture:
    """Training items of the label files of ``config``.

    Attributes:
        members: the files; :class:`diffhmr.batch.Targets` counts their rows on from one to the next.

    Args:
        body: gives the camera of people with SMPL parameters.
        config: ``kind`` labelled.

    Raises:
        UserError: a file or folder cannot be used, or the weights do not add up.
    """

    def __init__(self, body: BodyModel, config: DataConfig) -> None:
        self._config = config
        if config.validation is not None:
            # Its absence should not show up at the first validation only.
            _require_images(config.validation, config.images)
            require_file(config.validation.labels, "label file", "set data.validation.labels")
        self.members: list[Member] = []
        for source in config.sources:
            first = self.members[-1].first + len(self.members[-1].labels) if self.members else 0
            self.members.append(read_member(source, config.images, first))
        sizes = [len(member.rows) for member in self.members]
        share = shares([source.weight for source in config.sources], sizes)
        for member, part in zip(self.members, share, strict=True):
            _log.info("%s: %d people, %.1f %% of the training items", member.name, len(member.rows), 100 * part)
        self._positions = Positions(config.seed, share, sizes)
        options = PeopleOptions(
            size=config.image_size,
            images=config.images,
            body=exact_body(body),
            noise=config.keypoint_noise,
            occluder=config.augment.occluder,
            openpose_weight=config.openpose_weight,
            reach=_REACH,
        )
        self._maker = BatchMaker(options)

    def __len__(self) -> int:
        return self._config.train_items

    def __getitem__(self, index: int) -> ImageBatch:
        """The batch of the one item ``index``."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> ImageBatch:
        """The items ``indices`` as one batch on the CPU.

        Raises:
            IndexError: an index is negative or not smaller than the length.
            UserError: a picture is missing or damaged.
        """
        positions = np.asarray(indices, dtype=np.int64)
        if positions.size and (positions.min() < 0 or positions.max() >= len(self)):
            raise IndexError(f"index outside the {len(self)} training items")
        files, places = self._positions(positions)
        seeds = item_seeds(self._config.seed, "train", positions)
        parts = []
        for file, place in zip(files.tolist(), places.tolist(), strict=True):
            member = self.members[file]
            parts.append((member, int(member.rows[place])))
        rows = Rows(
            labels=_gather(parts),
            pictures=[member.images / str(member.labels.imgname[row]) for member, row in parts],
            origin=[f"{member.path}, row {row}" for member, row in parts],
            item=np.array([member.first + row for member, row in parts], np.int64),
            seeds=seeds,
        )
        return self._maker.batch(rows, draw_augmentation(seeds, self._config.augment))


def _whole_counts(share: NDArray[np.float64]) -> Indices:
    """How many items of a block each file has: its share, rounded, but at least one."""
    exact = share * BLOCK
    counts = np.maximum(np.floor(exact), 1).astype(np.int64)
    missing = BLOCK - int(counts.sum())
    if missing > 0:
        counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
    elif missing < 0:
        counts[np.argmax(counts)] += missing
    return counts


def _gather(parts: Sequence[tuple[Member, int]]) -> Labels:
    """One row each of several files as one set of labels, without the optional arrays."""
    names = [field.name for field in fields(Labels) if field.name not in ("extra", "meta")]
    arrays = {name: np.stack([getattr(member.labels, name)[row] for member, row in parts]) for name in names}
    return Labels(**arrays, extra={}, meta={})


def validation_people(body: BodyModel, config: DataConfig) -> LabelledPeople:
    """The people of ``config.validation`` whose 3D joints or SMPL parameters are known, at most ``val_items`` of them.

    Raises:
        UserError: the label file or the folder of its pictures cannot be used, or it holds no such people.
    """
    assert config.validation is not None
    member = read_member(config.validation, config.images)
    labels = member.labels
    needed = [PELVIS_SPIN49, *J14_FROM_SPIN49]
    known = labels.has_smpl | (labels.joints3d[:, needed, 3] > 0).all(axis=1)
    rows = member.rows[known[member.rows]]
    if not len(rows):
        raise UserError(f"{member.name}: no row of {member.path} has 3D joints or SMPL parameters to validate on")
    count = min(config.val_items, len(rows))
    rows = rows[np.arange(count) * len(rows) // count]
    name = str(member.path)
    return LabelledPeople(labels, member.images, config.image_size, body, rows=rows, images=config.images, name=name)
