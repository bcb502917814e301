"""Keypoints of a video in NumPy files: ``.npy`` with one array, ``.npz`` with keypoints, confidences, frame numbers."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffhmr.body.joints import H36M17, HALPE26, OPENPOSE25
from diffhmr.errors import UserError
from diffhmr.inference.frame_numbers import MOST

EXPECTED = "expected (frames, 17, 2 or 3) with x, y and perhaps confidence, or an axis of people before them"

_NPY, _ZIP = b"\x93NUMPY", b"PK\x03\x04"
_SETS = {17: H36M17.name, 25: OPENPOSE25.name, 26: HALPE26.name}
_POINTS = ("keypoints", "keypoint", "points")
_CONFIDENCE = ("confidence", "scores", "keypoint_score", "keypoint_scores")
_FRAMES = "frames"


@dataclass(frozen=True)
class KeypointArray:
    """The people of an array, frame by frame.

    Attributes:
        frames: ``[N]`` int64 frame of each row.
        listed: ``[T]`` int64 all frames, or None if the file numbers only some.
        ids: ``[N]`` int64 place on the axis of people.
        points: ``[N, K, 3]`` float64 x, y, confidence.
        joint_set: name of the K points; 17 are those of Human3.6M.
    """

    frames: NDArray[np.int64]
    listed: NDArray[np.int64] | None
    ids: NDArray[np.int64]
    points: NDArray[np.float64]
    joint_set: str


def is_array_file(path: Path) -> bool:
    """Whether ``path`` begins as ``.npy`` or ``.npz`` files do."""
    with open(path, "rb") as stream:
        head = stream.read(len(_NPY))
    return head == _NPY or head.startswith(_ZIP)


def read_array(path: Path, num_frames: int | None = None) -> KeypointArray:
    """Read ``.npy`` or ``.npz``.

    Of the two axes before the points, one is that of people: the other one has the length of ``frames`` or of the
    video, if that is known, and else the shorter one is it. People that are NaN or 0 in a frame are not there in it. A
    ``.npz`` has ``keypoints`` (or ``points``), and may have ``confidence`` (or ``scores``) of the same shape without
    the last axis, and ``frames (T,)``, the numbers of the frames.

    Args:
        path: of the file.
        num_frames: of the video, if it is known.

    Raises:
        UserError: it cannot be read, holds Python objects, or has another shape.
    """
    arrays = _load(path)
    points, confidence, frames = _chosen(arrays, path)
    if points.ndim not in (3, 4) or points.shape[-1] not in (2, 3) or points.shape[-2] not in _SETS or not points.size:
        raise UserError(f"{path} holds an array of shape {points.shape}: {EXPECTED}")
    if confidence is not None:
        if confidence.shape not in (points.shape[:-1], (*points.shape[:-1], 1)):
            raise UserError(f"{path}: confidence of shape {confidence.shape} does not fit points of {points.shape}")
        points = np.concatenate([points[..., :2], confidence.reshape(*points.shape[:-1], 1)], axis=-1)
    elif points.shape[-1] == 2:
        # Nowhere else is (0, 0) a place where a point is: there it means that none was found.
        points = np.concatenate([points, (points != 0).any(axis=-1, keepdims=True).astype(np.float64)], axis=-1)
    length = num_frames if frames is None else frames.size
    people = points[None] if points.ndim == 3 else points if _people_first(points, length) else points.swapaxes(0, 1)
    times, listed = np.arange(people.shape[1]), None
    if frames is None:
        listed = times
    elif frames.shape != times.shape or frames.dtype.kind not in "iu" or len(np.unique(frames)) < len(times):
        raise UserError(f"{path}: frames must be {len(times)} different whole numbers, one per frame")
    elif frames.size and int(frames.max()) >= MOST:
        raise UserError(f"{path}: {frames.max()} is no frame number: number the frames from 0 or 1")
    else:
        times = frames.astype(np.int64)
    # NaN is kept where somebody is seen in part; a row without any number is nobody.
    there = (np.isfinite(people[..., :2]).all(-1) & (people[..., :2] != 0).any(-1)).any(-1)
    if not there.any():
        raise UserError(f"{path} holds nothing but NaN or 0: run the detector again")
    ids, rows = np.nonzero(there)
    return KeypointArray(times[rows], listed, ids.astype(np.int64), people[there], _SETS[people.shape[-2]])


def _people_first(points: NDArray[np.float64], num_frames: int | None) -> bool:
    first, second = points.shape[:2]
    if (first == num_frames) != (second == num_frames):
        return second == num_frames
    return first <= second


# What NumPy lets through of files that are torn, changed or no arrays at all.
_DAMAGE = (
    ValueError, EOFError, OSError, zipfile.BadZipFile, KeyError, SyntaxError, tokenize.TokenError, zlib.error,
    NotImplementedError, RuntimeError,
)  # fmt: skip


def _load(path: Path) -> dict[str, NDArray[np.generic]]:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return {_POINTS[0]: content}
        with content:
            arrays = {name: content[name] for name in content.files}
        if others := [name for name, array in arrays.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"{others[0]} is not an array")
        return arrays
    except _DAMAGE as error:
        if "allow_pickle" in str(error):
            raise UserError(f"{path} holds Python objects, which could run code: save arrays of numbers") from error
        raise UserError(f"{path} breaks off or is damaged ({error}): write or copy it again") from error


def _chosen(
    arrays: dict[str, NDArray[np.generic]], path: Path
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.generic] | None]:
    """Points, confidences and frame numbers among the arrays of a file."""
    for name, array in arrays.items():
        if array.dtype.kind not in "iuf":
            raise UserError(f"{path}: {name} is not an array of numbers; {EXPECTED}")
    names = [name for name in _POINTS if name in arrays] or list(arrays)
    if not names or (len(arrays) > 1 and names[0] not in _POINTS):
        raise UserError(f"{path} holds {', '.join(list(arrays)[:6]) or 'nothing'}: call the points keypoints")
    confidence = next((arrays[key] for key in _CONFIDENCE if key in arrays), None)
    return (
        arrays[names[0]].astype(np.float64),
        None if confidence is None else confidence.astype(np.float64),
        arrays.get(_FRAMES),
    )
