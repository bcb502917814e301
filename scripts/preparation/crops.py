"""Pictures that are cut out around people, with the labels moved along.

What is cut out is a rectangle of whole pixels, the person's box enlarged by a margin and cut at the border of the
picture; if the box is large, it is reduced by a whole number, so that every new pixel is the mean of a square of old
ones, and is exactly where the labels say. Nothing is enlarged or padded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from diffhmr.errors import UserError

BOX_PIXELS = 320
"""Boxes are not reduced below this side: three quarters of it still fill a network's input of 224 pixels."""

_MOST_REDUCED = 16


@dataclass(frozen=True)
class CropSettings:
    """How to cut: side of what is cut out over the side of the box."""

    margin: float = 1.75


@dataclass(frozen=True)
class Cut:
    """A rectangle of a picture and its reduction; new = (old - origin + 1/2) / reduction - 1/2."""

    left: int
    top: int
    width: int
    height: int
    reduction: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the result."""
        return self.width // self.reduction, self.height // self.reduction

    def points(self, points: np.ndarray) -> np.ndarray:
        """Points ``(..., 2)`` of the picture in pixels of the result."""
        return (points - (self.left, self.top) + 0.5) / self.reduction - 0.5

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The picture that is cut out."""
        part = image[self.top : self.top + self.height, self.left : self.left + self.width]
        return part if self.reduction == 1 else cv2.resize(part, self.size, interpolation=cv2.INTER_AREA)


def plan_cut(center: np.ndarray, side: float, image_size: tuple[int, int], settings: CropSettings) -> Cut | None:
    """Where to cut around a box in a picture of ``image_size`` (width, height); None: the box lies outside of it."""
    inside = np.abs(center - (np.array(image_size) - 1) / 2) < (np.array(image_size) + side) / 2
    if not inside.all():
        return None
    # A picture of a few pixels cannot be reduced, whatever its labels say.
    reduction = max(1, min(int(side / BOX_PIXELS), _MOST_REDUCED, *image_size))
    spans = [_span(center[i], settings.margin * side, image_size[i], reduction) for i in range(2)]
    return Cut(spans[0][0], spans[1][0], spans[0][1], spans[1][1], reduction)


def _span(center: float, length: float, limit: int, multiple: int) -> tuple[int, int]:
    """First pixel and number of pixels of an interval, cut at the border; the number is a multiple."""
    first = max(0, math.floor(center - length / 2 + 0.5))
    end = min(limit, math.ceil(center + length / 2 + 0.5))
    end = min(limit, end + (first - end) % multiple)
    first = max(0, first - (first - end) % multiple)
    return first, (end - first) // multiple * multiple


def move_rows(rows: dict[str, np.ndarray], cuts: list[Cut]) -> dict[str, np.ndarray]:
    """Labels of pictures as labels of what was cut out of them, row by row; ``imgname`` stays."""
    factors = np.array([1 / cut.reduction for cut in cuts])
    moved = dict(rows)

    def move(points: np.ndarray) -> np.ndarray:
        new = np.empty(points.shape)  # there may be no row
        for row, cut in enumerate(cuts):
            new[row] = cut.points(points[row])
        return new

    moved["center"] = move(rows["center"])
    moved["scale"] = rows["scale"] * factors
    moved["image_size"] = np.array([cut.size for cut in cuts], np.int64).reshape(len(cuts), 2)
    for name in {"part", "openpose"} & rows.keys():
        known = rows[name][..., 2:] > 0
        moved[name] = np.concatenate([np.where(known, move(rows[name][..., :2]), 0), rows[name][..., 2:]], axis=-1)
    if "bbox" in rows:
        moved["bbox"] = np.concatenate([move(rows["bbox"][:, :2]), rows["bbox"][:, 2:] * factors[:, None]], axis=1)
    if "area" in rows:
        moved["area"] = rows["area"] * factors**2
    return moved


def write_crops(
    rows: dict[str, np.ndarray],
    pictures: Iterable[tuple[str, np.ndarray]],
    folder: Path,
    below: Path,
    settings: CropSettings,
) -> tuple[dict[str, np.ndarray], int]:
    """Cut all rows out of their pictures.

    Args:
        rows: labels of N people.
        pictures: ``imgname`` and BGR uint8 of all pictures that the rows name, each once.
        folder: the new ``imgname`` are relative to it.
        below: folder within it for these rows.
        settings: how to cut.

    Returns:
        the rows whose boxes touch their pictures, and how many do not.

    Raises:
        UserError: a picture is missing or not of the size that the labels say.
    """
    of_picture: dict[str, list[int]] = {}
    for row, name in enumerate(rows["imgname"]):
        of_picture.setdefault(str(name), []).append(row)
    cuts: dict[int, Cut] = {}
    names: dict[int, str] = {}
    people: dict[Path, int] = {}  # counted by the name without suffix, which the crops share
    for name, image in pictures:
        size = (image.shape[1], image.shape[0])
        for row in of_picture.pop(name, []):
            if "image_size" in rows and tuple(rows["image_size"][row]) != size:
                raise UserError(f"{name} has {size} pixels, its labels are for {tuple(rows['image_size'][row])}")
            cut = plan_cut(rows["center"][row], 200 * float(rows["scale"][row]), size, settings)
            if cut is None:
                continue
            stem = below / Path(name).with_suffix("")
            person = people[stem] = people.get(stem, -1) + 1
            cuts[row], names[row] = cut, f"{stem.as_posix()}_{person}.jpg"
            _write_jpeg(folder / names[row], cut.apply(image))
    _require_none(of_picture)
    kept = sorted(cuts)
    taken = {name: array[kept] for name, array in rows.items()}
    taken["imgname"] = np.array([names[row] for row in kept], np.str_)
    return move_rows(taken, [cuts[row] for row in kept]), len(rows["imgname"]) - len(kept)


def write_pictures(pictures: Iterable[tuple[str, np.ndarray]], folder: Path, names: np.ndarray) -> None:
    """Write whole pictures, frames of videos, as JPEGs.

    Raises:
        UserError: one of ``names`` did not come.
    """
    wanted = dict.fromkeys(str(name) for name in names)
    for name, image in pictures:
        _write_jpeg(folder / name, image)
        wanted.pop(name, None)
    _require_none(wanted)


def picture_files(folder: Path, names: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Read each picture once, as it is stored: EXIF orientation is not applied.

    Raises:
        UserError: a picture is missing or damaged.
    """
    for name in dict.fromkeys(str(name) for name in names):
        image = cv2.imread(str(folder / name), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if image is None:
            state = "damaged" if (folder / name).is_file() else "missing"
            raise UserError(f"picture {state}: {folder / name}; unpack the pictures of the release again")
        yield name, image


def _require_none(names: Iterable[str]) -> None:
    lacking = list(names)
    if lacking:
        raise UserError(f"{len(lacking)} labelled frames are not in the videos, the first is {lacking[0]}")


def _write_jpeg(path: Path, image: np.ndarray) -> None:
    """Atomic; the temporary name is always the same, so that killed writers leave nothing that stays."""
    from diffhmr.datasets.jpeg import encode_jpeg  # torch comes with it, which takes seconds in every worker

    content = encode_jpeg(image)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    temporary.write_bytes(content)
    temporary.replace(path)
