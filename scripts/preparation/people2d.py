"""What the data sets with 2D labels only have in common: slots, boxes, confidences, and OpenPose's detections.

Positions in the rows are pixels with the origin at the centre of the top-left pixel. The 24 slots of ``part`` are the
last 24 joints of SPIN49: LSP's 14 joints first.
"""

from __future__ import annotations

import argparse
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from diffhmr.errors import UserError
from diffhmr.files import require_file
from scripts.preparation.contract import COUNT, Finding, Piece

Rows = dict[str, np.ndarray]
State = Literal["found", "missing", "incomplete"]

NUM_SLOTS = 24
BOX_FACTOR = 1.2
"""Side of the box over the longer side of the tight box (SPIN; Kolotouros et al., ICCV 2019)."""

PIECE_ROWS = 10_000

_LIMBS = 12  # the first slots: ankles, knees, hips, wrists, elbows, shoulders
_OPENPOSE_LIMBS = (11, 10, 9, 12, 13, 14, 4, 3, 2, 5, 6, 7)  # the same in BODY_25
_FEWEST_LIMBS = 6
_MOST_APART = 0.1


@dataclass(frozen=True)
class LabelOptions:
    """What a user can choose about 2D labels.

    Attributes:
        min_keypoints: people with fewer labelled joints are left out.
        hidden_confidence: of joints that were labelled although they cannot be seen.
        openpose: folder with one ``NAME_keypoints.json`` per picture.
    """

    min_keypoints: int = 1
    hidden_confidence: float = 1.0
    openpose: Path | None = None

    @staticmethod
    def add_to(parser: argparse.ArgumentParser, min_keypoints: tuple[int, int, str] | None) -> None:
        """Add the options; ``min_keypoints`` is (default, most, of which joints), None where nobody is left out."""
        if min_keypoints is not None:
            default, most, joints = min_keypoints
            parser.add_argument(
                "--min-keypoints", type=_whole_number(1, most), default=default, metavar="N",
                help=f"leave out people with fewer than N of {joints} labelled (default: %(default)s, as SPIN)",
            )  # fmt: skip
        parser.add_argument(
            "--hidden-confidence", type=_fraction, default=1.0, metavar="C",
            help="confidence of joints that are labelled as hidden (default: %(default)s, as SPIN)",
        )  # fmt: skip
        parser.add_argument(
            "--openpose", type=Path, metavar="DIR",
            help="folder with OpenPose's BODY_25 detections NAME_keypoints.json of all pictures (default: none)",
        )  # fmt: skip

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> LabelOptions:
        """Those of the command line.

        Raises:
            UserError: the folder of detections does not exist.
        """
        if arguments.openpose is not None and not arguments.openpose.is_dir():
            raise UserError(f"--openpose {arguments.openpose} is no folder; leave it out if there are no detections")
        return cls(getattr(arguments, "min_keypoints", 1), arguments.hidden_confidence, arguments.openpose)


def _whole_number(least: int, most: int) -> Callable[[str], int]:
    def parse(word: str) -> int:
        value = int(word)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not in {least} ... {most}")
        return value

    parse.__name__ = "whole number"
    return parse


def _fraction(word: str) -> float:
    value = float(word)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{value} is not in 0 ... 1")
    return value


@dataclass(frozen=True)
class Parts:
    """The files of a split.

    Attributes:
        annotations: a file.
        pictures: a folder.
        suffix: of the pictures.
        num_pictures: that the official archive has.
        remedy: what to download and where to unpack it.
    """

    annotations: Path
    pictures: Path
    suffix: str
    num_pictures: int
    remedy: str


@dataclass
class People2D(ABC):
    """The preparation of a data set whose splits are each an annotation file and a folder of pictures.

    A split is read as a whole and converted ``PIECE_ROWS`` people at a time. Only pictures with labelled people are
    asked for; where some of these are absent, their people are left out.
    """

    options: LabelOptions
    splits: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        # Not fields, because they are no settings.
        self._rows: dict[tuple[Path, str], Rows] = {}
        self._absent: dict[tuple[Path, str], list[str]] = {}

    @abstractmethod
    def parts(self, root: Path, split: str) -> Parts:
        """What a split needs."""

    @abstractmethod
    def read(self, root: Path, split: str) -> Rows:
        """All rows of a split without ``openpose``; and numbers named ``count.WORDS`` of the whole split."""

    def check(self, root: Path) -> list[Finding]:
        """Per split the annotations and the pictures of the people that will be taken."""
        findings = []
        for split in self.splits:
            parts = self.parts(root, split)
            there = parts.annotations.is_file()
            state: State = "found" if there else "missing"
            findings.append(
                Finding(f"{split} annotations", parts.annotations, state, remedy=parts.remedy, splits=(split,))
            )
            findings.append(self.picture_finding(root, split) if there else _count_finding(split, parts))
        return findings

    def picture_finding(self, root: Path, split: str) -> Finding:
        """Whether the pictures are there that the annotations, which are, speak of."""
        parts = self.parts(root, split)
        there = len(np.unique(self.rows(root, split)["imgname"]))
        absent = self._absent[root, split]
        count = count_pictures(parts.pictures, parts.suffix)
        detail = f"{there} of {there + len(absent)} with labelled people, {count} of {parts.num_pictures} in all"
        if absent:
            detail += f", the first missing is {absent[0]}"
        state: State = "found" if not absent else "incomplete" if there else "missing"
        return Finding(f"{split} pictures", parts.pictures, state, detail, remedy=parts.remedy, splits=(split,))

    def pieces(self, root: Path, splits: Sequence[str] | None) -> list[Piece]:
        """All pieces in the order of the rows.

        Raises:
            UserError: nobody has enough labels.
        """
        found = []
        for split in self.splits if splits is None else [split for split in self.splits if split in splits]:
            if not self.parts(root, split).annotations.is_file():
                continue
            count = len(self.rows(root, split)["imgname"])
            if not count and not self._absent[root, split]:
                raise UserError(
                    f"{self.parts(root, split).annotations}: nobody has {self.options.min_keypoints} labelled joints; "
                    "the file is a wrong one, or --min-keypoints too large"
                )
            for first in range(0, count, PIECE_ROWS):
                end = min(first + PIECE_ROWS, count)
                found.append(Piece(split, f"{first:07d}-{end:07d}", rows=end - first))
        return found

    def convert(self, root: Path, piece: Piece) -> Rows:
        """The rows of a piece, with OpenPose's detections if there are any."""
        first, end = (int(number) for number in piece.key.split("-"))
        rows = {}
        for name, array in self.rows(root, piece.split).items():
            # Counts are those of the split, of which the pieces' are the sum.
            rows[name] = array[first:end] if not name.startswith(COUNT) else array * (first == 0)
        if self.options.openpose is not None:
            rows["openpose"] = openpose_detections(self.options.openpose, rows["imgname"], rows["part"])
        return rows

    def image_root(self, root: Path) -> Path:
        """``root``: names begin with the folder of the pictures."""
        return root

    def extracted_images(self, root: Path, piece: Piece) -> None:  # noqa: ARG002
        """None: the pictures are files."""
        return

    def rows(self, root: Path, split: str) -> Rows:
        """As :meth:`read`, without people whose picture is absent.

        They stay in memory, because annotation files take long to read.
        """
        if (root, split) not in self._rows:
            rows = self.read(root, split)
            names, inverse = np.unique(rows["imgname"], return_inverse=True)
            there = np.array([(root / str(name)).is_file() for name in names], bool)
            self._absent[root, split] = [str(name) for name in names[~there]]
            counts = {name: number for name, number in rows.items() if name.startswith(COUNT)}
            counts[f"{COUNT}people without picture"] = np.array(int((~there[inverse]).sum()))
            chosen = {name: array[there[inverse]] for name, array in rows.items() if name not in counts}
            self._rows[root, split] = chosen | counts
        return self._rows[root, split]


def _count_finding(split: str, parts: Parts) -> Finding:
    """For pictures without annotations: all that can be said is how many there are."""
    count = count_pictures(parts.pictures, parts.suffix)
    state: State = "missing" if not count else "found" if count >= parts.num_pictures else "incomplete"
    detail = f"{count} of {parts.num_pictures}"
    return Finding(f"{split} pictures", parts.pictures, state, detail, remedy=parts.remedy, splits=(split,))


def existing_folder(candidates: Sequence[Path], file: str) -> Path:
    """The first of some folders that has ``file``, or the first of them."""
    return next((folder for folder in candidates if (folder / file).is_file()), candidates[0])


def to_slots(points: np.ndarray, confidence: np.ndarray, slots: Sequence[int]) -> np.ndarray:
    """``part (N, 24, 3)`` from ``points (N, K, 2)`` and ``confidence (N, K)``; joint k goes to ``slots[k]``.

    Points without confidence become 0, whatever their coordinates are.
    """
    part = np.zeros((len(points), NUM_SLOTS, 3))
    known = confidence > 0
    part[:, list(slots), :2] = np.where(known[..., None], points, 0.0)
    part[:, list(slots), 2] = np.where(known, confidence, 0.0)
    return part


def boxes_of_points(points: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre ``(N, 2)`` and longer side ``(N,)`` of the tight boxes of the ``known (N, K)`` among ``points (N, K, 2)``.

    The side is 0 where no point is known.
    """
    low = np.where(known[..., None], points, np.inf).min(axis=1)
    high = np.where(known[..., None], points, -np.inf).max(axis=1)
    somebody = known.any(axis=1, keepdims=True)
    low, high = np.where(somebody, low, 0.0), np.where(somebody, high, 0.0)
    return (low + high) / 2, (high - low).max(axis=1)


def chosen_rows(rows: Rows, enough: np.ndarray) -> Rows:
    """The rows of people with ``enough (N,)`` labels and a box, and the number of those that are left out."""
    good = enough & (rows["scale"] > 0)
    left_out = {f"{COUNT}people without enough labels": np.array(int((~good).sum()))}
    return {name: array[good] for name, array in rows.items()} | left_out


def count_pictures(folder: Path, suffix: str) -> int:
    """Files in ``folder`` with a suffix, 0 if there is no such folder."""
    return sum(1 for _ in _pictures(folder, suffix))


def sorted_pictures(folder: Path, suffix: str) -> list[str]:
    """Names of the files in ``folder`` with a suffix, in order."""
    return sorted(_pictures(folder, suffix))


def _pictures(folder: Path, suffix: str) -> Iterator[str]:
    if folder.is_dir():
        for path in folder.iterdir():
            if path.suffix.lower() == suffix and not path.name.startswith("."):
                yield path.name


def openpose_detections(folder: Path, names: np.ndarray, part: np.ndarray) -> np.ndarray:
    """``(N, 25, 3)``: for each person the detection that agrees with the labels, 0 where none does.

    Of the people that OpenPose found in the picture, the nearest counts: the mean distance over the labelled limb
    joints (ankles to shoulders, all of which must have been detected; at least 6) may be a tenth of the larger extent
    of the labels. SPIN compares like this (Kolotouros et al., ICCV 2019), but keeps the first person when nobody has
    all joints, and any distance above 10 (COCO) or 30 (MPII) pixels, which here is no agreement.

    Args:
        folder: holds ``NAME_keypoints.json`` for each picture ``NAME.jpg``.
        names: ``(N,)`` pictures.
        part: ``(N, 24, 3)`` labels.

    Raises:
        UserError: there is no file for a picture, or it is none of OpenPose.
    """
    found = np.zeros((len(part), 25, 3))
    read: tuple[str, np.ndarray] | None = None
    for row, name in enumerate(names):
        if read is None or read[0] != name:
            read = (str(name), _read_openpose(folder / f"{Path(str(name)).stem}_keypoints.json"))
        limbs = part[row, :_LIMBS]
        labelled = limbs[:, 2] > 0
        everything = part[row][part[row, :, 2] > 0, :2]
        if labelled.sum() < _FEWEST_LIMBS or not len(read[1]):
            continue
        theirs = read[1][:, _OPENPOSE_LIMBS][:, labelled]
        distance = np.linalg.norm(theirs[..., :2] - limbs[labelled, :2], axis=-1).mean(axis=1)
        distance[(theirs[..., 2] <= 0).any(axis=1)] = np.inf
        nearest = int(np.argmin(distance))
        if distance[nearest] <= _MOST_APART * np.ptp(everything, axis=0).max():
            found[row] = read[1][nearest]
    return found


def _read_openpose(path: Path) -> np.ndarray:
    """``(P, 25, 3)`` of all people."""
    require_file(path, "OpenPose detections", "run OpenPose with --write_json on all pictures, or omit --openpose")
    try:
        people = json.loads(path.read_text(encoding="utf-8"))["people"]
        points = np.array([person["pose_keypoints_2d"] for person in people], np.float64)
        return points.reshape(len(people), 25, 3)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} holds no BODY_25 detections of OpenPose ({error}); make it again") from error


def read_mat(path: Path, name: str, remedy: str) -> Any:
    """A variable of a MATLAB file as plain dictionaries, lists and arrays.

    Raises:
        UserError: the file is missing or damaged, or has no such variable.
    """
    import scipy.io  # takes long; --help should not

    require_file(path, "annotation file", remedy)
    try:
        content = scipy.io.loadmat(path, variable_names=[name], simplify_cells=True)
    except (OSError, ValueError, TypeError, KeyError, NotImplementedError, MemoryError, zlib.error) as error:
        raise UserError(f"{path} is no readable MATLAB file ({str(error)[:80] or type(error).__name__})") from error
    if name not in content:
        raise UserError(f"{path} has no variable {name}: this is another file; {remedy}")
    return content[name]
