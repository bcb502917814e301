"""What a data set says to be prepared: what it needs, its pieces, and what files their rows become."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

COUNT = "count."
"""Prefix of entries of a piece's rows that are no rows but a number, such as of frames that were left out."""

State = Literal["found", "missing", "incomplete"]


@dataclass(frozen=True)
class Finding:
    """What a check says about one part of a release.

    Attributes:
        what: the part in words, such as "train sequences".
        path: where it is or should be.
        state: found; missing: nothing of it is there; incomplete: something of it is, and :meth:`Preparation.pieces`
            gives the pieces that can be converted, for users who want no more.
        detail: such as "24 of 24 files".
        needed: whether the conversion is impossible without it.
        remedy: what to download from where and where to unpack it.
        splits: the splits that need it; empty: all.
    """

    what: str
    path: Path
    state: State
    detail: str = ""
    needed: bool = True
    remedy: str = ""
    splits: tuple[str, ...] = ()


@dataclass(frozen=True)
class Piece:
    """A unit of work that is done wholly or not at all: a sequence, a video, a slice of an annotation file.

    Attributes:
        split: name of the label file to which it belongs, such as "train".
        key: its name within the split, of letters, digits and ``_.+-``.
        rows: about how many rows it will have, for the estimate of the size; 0: unknown.
        picture_bytes: about how much the pictures take that are extracted for it.
    """

    split: str
    key: str
    rows: int = 0
    picture_bytes: int = 0


class Preparation(Protocol):
    """What :func:`scripts.preparation.job.main` asks of a data set.

    A dataclass: its fields are the settings on which the labels depend.

    Attributes:
        name: of the data set and of the folders ``data/raw/NAME`` and ``data/NAME``.
        source: the official page.
        licence: in a few words.
    """

    @property
    def name(self) -> str: ...

    @property
    def source(self) -> str: ...

    @property
    def licence(self) -> str: ...

    def check(self, root: Path) -> list[Finding]:
        """What is there and what is missing, with the expected counts. ``root`` need not exist."""
        ...

    def pieces(self, root: Path, splits: Sequence[str] | None) -> list[Piece]:
        """The pieces of ``splits`` (None: of all), always in the same order."""
        ...

    def convert(self, root: Path, piece: Piece) -> dict[str, np.ndarray]:
        """The rows of a piece, as :func:`diffhmr.datasets.labels.write_labels` takes them, and counts.

        An entry ``count.WORDS`` is a single number; those of all pieces are summed up, shown and kept in the meta data.
        All pieces of a split have the same entries.
        """
        ...

    def image_root(self, root: Path) -> Path:
        """The folder to which ``imgname`` is relative, where the pictures are files."""
        ...

    def extracted_images(self, root: Path, piece: Piece) -> Iterable[tuple[str, np.ndarray]] | None:
        """Where the pictures are frames of videos: ``imgname`` and BGR uint8 of all that the rows name, each once."""
        ...


@dataclass(frozen=True)
class FileKind:
    """What kind of file the rows of a split become.

    Attributes:
        place: path of the file below the output folder, given the split or the split with ``_crops``.
        write: writes rows and meta data; the same content gives the same bytes.
        read: number of rows and meta data of a file.
        row_bytes: about how much a row takes.
        pictures: whether rows have pictures, so that crops make sense.

    The functions are those of a module: worker processes get them by name.
    """

    place: Callable[[str], Path]
    write: Callable[[Path, dict[str, np.ndarray], dict[str, Any]], None]
    read: Callable[[Path], tuple[int, dict[str, Any]]]
    row_bytes: int
    pictures: bool


def _label_file(stem: str) -> Path:
    return Path(f"{stem}.npz")


def _write_labels(path: Path, rows: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    from diffhmr.datasets.labels import write_labels  # --help and --check do without

    write_labels(path, rows, meta)


def _read_labels(path: Path) -> tuple[int, dict[str, Any]]:
    from diffhmr.datasets.labels import read_labels

    labels = read_labels(path)
    return len(labels), labels.meta


LABELS = FileKind(_label_file, _write_labels, _read_labels, row_bytes=2500, pictures=True)
"""Label files, ``OUT/SPLIT.npz``."""


@dataclass(frozen=True)
class Options:
    """The options that all preparations share."""

    root: Path
    out: Path
    splits: tuple[str, ...] | None
    crops: bool
    crop_margin: float
    shards: bool
    partial: bool
    workers: int


def settings_of(preparation: Preparation) -> dict[str, Any]:
    """The fields of a preparation that is a dataclass, as JSON can hold them."""
    if not dataclasses.is_dataclass(preparation):
        return {}
    return {name: _plain(value) for name, value in dataclasses.asdict(preparation).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
