"""MPII Human Pose as a label file: python -m scripts.prepare_mpii --root RAW

RAW is the folder in which the official archives were unpacked: it has ``images/`` and, in
``mpii_human_pose_v1_u12_2/``, ``mpii_human_pose_v1_u12_1.mat`` (Andriluka et al., CVPR 2014). Only training pictures
have joints. As in SPIN, people with all 16 joints are taken, and the box is the annotated one: its centre ``objpos``
and 200 times ``scale`` as its side, unchanged. The ``train.h5`` that SPIN started from can be given instead.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from diffhmr.command_line import run_command
from diffhmr.errors import UserError
from diffhmr.files import require_file
from scripts.preparation import job
from scripts.preparation.people2d import (
    LabelOptions,
    Parts,
    People2D,
    Rows,
    chosen_rows,
    existing_folder,
    read_mat,
    to_slots,
)

SLOTS = (0, 1, 2, 3, 4, 5, 14, 15, 12, 13, 6, 7, 8, 9, 10, 11)
"""Where MPII's 16 joints go: ankle to hip right, left; pelvis, thorax, neck, head top; the arms (SPIN)."""

NUM_JOINTS = 16
NUM_PICTURES = 24_984
"""In the archive; three of the 24,987 entries of the annotations have no picture of their own."""

MAT = "mpii_human_pose_v1_u12_1.mat"
_MAT_FOLDER = "mpii_human_pose_v1_u12_2"


@dataclass
class Mpii(People2D):
    """One split, for training.

    Attributes:
        single_person: only people whom the release lists as apart from others.
        spin_h5: SPIN's ``train.h5``, to be used instead of the official annotations.
    """

    single_person: bool = False
    spin_h5: Path | None = None
    splits: ClassVar[tuple[str, ...]] = ("train",)
    name: ClassVar[str] = "mpii"
    source: ClassVar[str] = "http://human-pose.mpi-inf.mpg.de"
    licence: ClassVar[str] = "Simplified BSD, which the page states for the annotations; the pictures are from YouTube"

    def parts(self, root: Path, split: str) -> Parts:  # noqa: ARG002
        """The ``.mat`` file, in its folder or without it, and ``images/``."""
        site = "https://datasets.d2.mpi-inf.mpg.de/andriluka14cvpr"
        remedy = (
            f"download {site}/mpii_human_pose_v1.tar.gz (12.9 GB) and {site}/{_MAT_FOLDER}.zip (12.5 MB) and unpack "
            f"both into {root}"
        )
        file = self.spin_h5 or existing_folder([root / _MAT_FOLDER, root], MAT) / MAT
        return Parts(file, root / "images", ".jpg", NUM_PICTURES, remedy)

    def read(self, root: Path, split: str) -> Rows:
        """All people."""
        file = self.parts(root, split).annotations
        if self.spin_h5 is not None:
            return read_spin_people(file, self.options)
        return read_people(file, self.options, self.single_person)


def read_people(path: Path, options: LabelOptions, single_person: bool) -> Rows:
    """The rows of the official annotations, in their order, without OpenPose's detections.

    Args:
        path: the ``.mat`` file.
        options: the user's. A joint without ``is_visible`` counts as visible: head and neck have none in part of the
            file.
        single_person: only people whom the release lists as apart from others.

    Raises:
        UserError: the file is missing or is another one.
    """
    release = read_mat(path, "RELEASE", "unpack mpii_human_pose_v1_u12_2.zip again")
    try:
        entries = _items(release["annolist"])
        train = [int(flag) == 1 for flag in np.ravel(release["img_train"])]
        if len(train) != len(entries):
            raise ValueError(f"{len(entries)} pictures but {len(train)} training flags")
        apart = _people_apart(release, len(entries)) if single_person else None
        names, joints, boxes = [], [], []
        for index, entry in enumerate(entries):
            if not train[index]:
                continue
            for number, person in enumerate(_items(entry.get("annorect")), start=1):
                if apart is not None and number not in apart[index]:
                    continue
                annotated = _box(person), _joints(person)
                if annotated[0] is not None and annotated[1] is not None:
                    names.append(str(entry["image"]["name"]))
                    boxes.append(annotated[0])
                    joints.append(annotated[1])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise UserError(
            f"{path}: RELEASE is not laid out as in MPII's release 1 update 12 ({error!r}); "
            "unpack mpii_human_pose_v1_u12_2.zip again"
        ) from error
    table = np.array(joints, np.float64).reshape(len(joints), NUM_JOINTS, 3)
    box = np.array(boxes, np.float64).reshape(len(boxes), 3)
    return _rows(names, table, box, options)


def read_spin_people(path: Path, options: LabelOptions) -> Rows:
    """The rows of SPIN's ``train.h5``: ``imgname``, ``part (N, 16, 2)`` (0 without label), ``center``, ``scale``.

    Raises:
        UserError: the file is missing or is another one, or h5py is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise UserError('h5py is needed to read HDF5 files: pip install -e ".[data]"') from error
    require_file(path, "SPIN's MPII annotations", "leave --spin-h5 out to use the official annotations")
    try:
        with h5py.File(path) as file:
            names = [_file_name(item) for item in file["imgname"][()]]
            points = np.asarray(file["part"][()], np.float64).reshape(len(names), NUM_JOINTS, 2)
            center = np.asarray(file["center"][()], np.float64).reshape(len(names), 2)
            scale = np.asarray(file["scale"][()], np.float64).reshape(len(names), 1)
            visible = np.asarray(file["visible"][()], np.float64).reshape(-1) if "visible" in file else np.ones(1)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not SPIN's train.h5 ({error}); it has to hold imgname, part, center and scale"
        ) from error
    labelled = (points > 0).all(axis=2)
    flags = np.broadcast_to(visible.reshape(-1, NUM_JOINTS) if visible.size > 1 else visible, labelled.shape)
    state = np.where(labelled, np.where(flags > 0, 2.0, 1.0), 0.0)
    table = np.concatenate([points, state[..., None]], axis=2)
    return _rows(names, table, np.concatenate([center, scale], axis=1), options)


def _rows(names: list[str], table: np.ndarray, box: np.ndarray, options: LabelOptions) -> Rows:
    """From ``table (N, 16, 3)``: x, y from 1, COCO's flag (0, 1 hidden, 2); and ``box (N, 3)``: x, y from 1, scale."""
    confidence = np.select([table[..., 2] == 2, table[..., 2] == 1], [1.0, options.hidden_confidence], 0.0)
    rows = {
        "imgname": np.array([f"images/{name}" for name in names], np.str_),
        "center": box[:, :2] - 1,
        "scale": box[:, 2],
        "part": to_slots(table[..., :2] - 1, confidence, SLOTS),
    }
    enough = (table[..., 2] > 0).sum(axis=1) >= options.min_keypoints
    return chosen_rows(rows, enough)


def _items(value: Any) -> list[Any]:
    """The elements of a struct array, which is a single dictionary if it has one and an empty array if it has none."""
    if isinstance(value, dict):
        return [value]
    return [] if value is None else [item for item in value if isinstance(item, dict)]


def _number(value: Any) -> float | None:
    """A scalar field; some are text, and those without a value are empty arrays."""
    array = np.ravel(np.asarray(value))
    return float(array[0]) if array.size and str(array[0]).strip() else None


def _people_apart(release: dict[str, Any], count: int) -> list[set[int]]:
    """Numbers from 1 of the people of each picture that are apart from others."""
    cells = release["single_person"]
    if len(cells) != count:
        raise ValueError(f"{count} pictures but {len(cells)} cells of single_person")
    return [{int(number) for number in np.ravel(np.asarray(cell))} for cell in cells]


def _box(person: dict[str, Any]) -> tuple[float, float, float] | None:
    """Centre and scale, None if the release does not say."""
    place = person.get("objpos")
    if not isinstance(place, dict):
        return None
    x, y, scale = _number(place.get("x", [])), _number(place.get("y", [])), _number(person.get("scale", []))
    return None if x is None or y is None or scale is None else (x, y, scale)


def _joints(person: dict[str, Any]) -> np.ndarray | None:
    """``(16, 3)`` x, y from 1 and COCO's flag; None if there are none."""
    points = person.get("annopoints")
    if not isinstance(points, dict):
        return None
    table = np.zeros((NUM_JOINTS, 3))
    for point in _items(points.get("point")):
        x, y = _number(point["x"]), _number(point["y"])
        if x is not None and y is not None:
            hidden = _number(point.get("is_visible", [])) == 0
            table[int(point["id"]), :] = x, y, 1 if hidden else 2
    return table


def _file_name(item: Any) -> str:
    """Text, bytes, or the numbers of its letters."""
    if isinstance(item, bytes):
        return item.decode("utf-8")
    if isinstance(item, np.ndarray):
        return "".join(chr(int(letter)) for letter in item if letter)
    return str(item)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""

    def add_options(parser: argparse.ArgumentParser) -> None:
        LabelOptions.add_to(parser, (NUM_JOINTS, NUM_JOINTS, "the 16 joints"))
        add = parser.add_argument
        add("--single-person", action="store_true", help="only people listed as apart from others (default: all)")
        add("--spin-h5", type=Path, metavar="FILE", help="SPIN's train.h5 instead of the official annotations")

    def make(arguments: argparse.Namespace) -> Mpii:
        if arguments.spin_h5 is not None:
            if arguments.single_person:
                raise UserError("--single-person needs the official annotations: leave it or --spin-h5 out")
            require_file(arguments.spin_h5, "SPIN's MPII annotations", "leave --spin-h5 out to use the official ones")
        return Mpii(LabelOptions.of(arguments), arguments.single_person, arguments.spin_h5)

    return job.main(make, argv, description=__doc__, add_options=add_options)


if __name__ == "__main__":
    sys.exit(run_command(main))
