"""What the data sets of SMPL sequences in pickles have in common: reading them, the camera's frame, boxes, pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from diffhmr.body.safe_pickle import load_pickle, to_array
from diffhmr.errors import UserError
from diffhmr.files import require_file
from scripts.preparation.contract import Finding, State

BOX_FACTOR = 1.2
"""Side of the box over the longer side of the tight box (SPIN; Kolotouros et al., ICCV 2019)."""


class SequenceFile:
    """The pickled dictionary of a sequence; entries are taken out by name and checked.

    Raises:
        UserError: the file is missing, damaged, or holds anything but plain data.
    """

    def __init__(self, path: Path, remedy: str) -> None:
        self._path, self._remedy = require_file(path, "sequence file", remedy), remedy
        self._content = load_pickle(path, "a sequence")

    def entry(self, *keys: str | int) -> Any:
        """What lies under the keys, one inside the other, as the unpickler gives it."""
        found: Any = self._content
        for depth, key in enumerate(keys):
            numbered = isinstance(found, (list, tuple)) and isinstance(key, int) and key < len(found)
            if not numbered and not (isinstance(found, dict) and key in found):
                name = ".".join(str(part) for part in keys[: depth + 1])
                raise self._error(f"it has no {name}, so it is another file")
            found = found[key]
        return found

    def array(self, *keys: str | int, shape: tuple[int | None, ...] | None) -> np.ndarray:
        """An array of numbers or flags; None in ``shape`` stands for any length, None for any shape."""
        name = ".".join(str(key) for key in keys)
        try:
            array = to_array(self.entry(*keys))
        except UserError as error:
            raise self._error(f"{name}: {error}") from error
        fits = shape is None or (
            array.ndim == len(shape)
            and all(wanted is None or wanted == length for wanted, length in zip(shape, array.shape, strict=True))
        )
        if not fits or array.dtype.kind not in "biuf":
            wanted_shape = "" if shape is None else str(shape).replace("None", "any")
            raise self._error(f"{name} has shape {array.shape} and type {array.dtype}, expected numbers {wanted_shape}")
        return array

    def text(self, *keys: str | int) -> str:
        """A text."""
        value = self.entry(*keys)
        if not isinstance(value, str):
            array = to_array(value)
            if array.ndim or array.dtype.kind not in "SU":
                raise self._error(f"{'.'.join(map(str, keys))} is no text")
            value = array.item().decode("latin1") if array.dtype.kind == "S" else array.item()
        return str(value)

    def length(self, *keys: str | int) -> int:
        """Number of entries of a list."""
        value = self.entry(*keys)
        if not isinstance(value, (list, tuple)):
            raise self._error(f"{'.'.join(map(str, keys))} is no list")
        return len(value)

    def _error(self, what: str) -> UserError:
        return UserError(f"{self._path}: {what}; {self._remedy}")


def pose_in_camera(pose: np.ndarray, extrinsics: np.ndarray) -> np.ndarray:
    """Axis-angle poses ``(N, 72)`` in the world as poses in the cameras, whose ``extrinsics (N, 4, 4)`` map to them.

    Only the root changes: R_camera = R_extrinsic R_world.

    Raises:
        UserError: an extrinsic matrix is no rotation.
    """
    turned = np.array(pose, np.float64)
    if len(turned):
        try:
            root = Rotation.from_matrix(extrinsics[:, :3, :3]) * Rotation.from_rotvec(turned[:, :3])
        except ValueError as error:
            raise UserError(f"the camera's extrinsics are no rotations ({error})") from error
        turned[:, :3] = root.as_rotvec()
    return turned


def box_rows(low: np.ndarray, high: np.ndarray) -> dict[str, np.ndarray]:
    """``center``, ``scale`` and ``bbox`` of tight boxes from ``low`` to ``high``, both ``(N, 2)``."""
    side = BOX_FACTOR * (high - low).max(axis=1, initial=0.0)
    return {"center": (low + high) / 2, "scale": side / 200, "bbox": np.concatenate([low, high - low], axis=1)}


def picture_size(path: Path, remedy: str) -> tuple[int, int]:
    """Width and height of a stored picture.

    Raises:
        UserError: it is missing or damaged.
    """
    import cv2  # --check does without

    image = cv2.imread(str(require_file(path, "picture", remedy)), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise UserError(f"picture damaged: {path}; {remedy}")
    return image.shape[1], image.shape[0]


@dataclass(frozen=True)
class SequenceState:
    """What is there of a sequence.

    Attributes:
        name: of the sequence.
        file: its pickle.
        frames: number of its frames.
        rows: number of people in them that can become rows.
        lacking: names of the pictures that are not there.
        error: why the pickle cannot be read; empty: it can.
    """

    name: str
    file: Path
    frames: int = 0
    rows: int = 0
    lacking: tuple[str, ...] = ()
    error: str = ""

    @property
    def complete(self) -> bool:
        """Whether it can be converted."""
        return not self.error and not self.lacking


def sequence_state(
    name: str, file: Path, count: Callable[[SequenceFile], tuple[int, int]], pictures: tuple[Path, str], remedy: str
) -> SequenceState:
    """Look at a sequence.

    Args:
        name: of the sequence.
        file: its pickle.
        count: gives frames and rows.
        pictures: their folder and the form of their names, such as ``image_{:05d}.jpg``, which count from 0.
        remedy: what to do when the pickle is missing.
    """
    if not file.is_file():
        return SequenceState(name, file, error=f"{file} is missing")
    status = file.stat()
    frames, rows, error = _count(file, count, remedy, status.st_size, status.st_mtime_ns)
    folder, form = pictures
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    lacking = tuple(picture for frame in range(frames) if (picture := form.format(frame)) not in there)
    return SequenceState(name, file, frames, rows, lacking, error)


@lru_cache(maxsize=1000)  # --check and the list of pieces need the same
def _count(
    file: Path, count: Callable[[SequenceFile], tuple[int, int]], remedy: str, *_status: int
) -> tuple[int, int, str]:
    try:
        return *count(SequenceFile(file, remedy)), ""
    except UserError as error:
        return 0, 0, str(error)


def sequence_findings(
    what: str, folders: tuple[Path, Path], states: Sequence[SequenceState], remedy: str, splits: tuple[str, ...] = ()
) -> list[Finding]:
    """Findings about the pickles and about the pictures of some sequences, whose ``folders`` are these."""
    absent = [state.name for state in states if not state.file.is_file()]
    damaged = [state.error for state in states if state.error and state.name not in absent]
    there = len(states) - len(absent)
    words = [f"{there} of {len(states)} files"]
    if absent and there:
        words.append(f"missing is {_some(absent, ', ')}")
    if damaged:
        words.append(f"{len(damaged)} cannot be read: {damaged[0]}")
    found: State = "missing" if not there else "incomplete" if absent or damaged else "found"
    files = Finding(f"{what} sequences", folders[0], found, "; ".join(words), True, remedy, splits)

    lacking = [f"{state.name} lacks {_some(state.lacking, '', 1)}" for state in states if state.lacking]
    expected = sum(state.frames for state in states)
    there = expected - sum(len(state.lacking) for state in states)
    detail = f"{there} of {expected} that the sequences have" if expected else "their number is in the sequences"
    if there and lacking:
        detail += f"; {_some(lacking, '; ')}"
    found = "missing" if not there else "incomplete" if lacking else "found"
    return [files, Finding(f"{what} pictures", folders[1], found, detail, True, remedy, splits)]


def _some(words: Sequence[str], between: str, most: int = 8) -> str:
    """The first of some words, and how many more there are."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return between.join(words[:most]) + more
