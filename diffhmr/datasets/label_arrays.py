"""The arrays of label files: their names and shapes, and taking them out of a file with checks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from diffhmr.errors import UserError

NUM_KEYPOINTS = 49
NUM_OPENPOSE = 25

# Rows of the arrays of our files, with the kind of their dtype; the order is that in the file.
SCHEMA: dict[str, tuple[tuple[int, ...], str]] = {
    "imgname": ((), "text"),
    "center": ((2,), "number"),
    "scale": ((), "number"),
    "part": ((24, 3), "number"),
    "openpose": ((25, 3), "number"),
    "S": ((24, 4), "number"),
    "pose": ((72,), "number"),
    "shape": ((10,), "number"),
    "has_smpl": ((), "flag"),
    "gender": ((), "text"),
}
EXTRA: dict[str, tuple[tuple[int, ...], str]] = {
    "sequence": ((), "text"),
    "frame": ((), "count"),
    "camera": ((), "text"),
    "subject": ((), "text"),
    "action": ((), "text"),
    "valid": ((), "flag"),
    "image_size": ((2,), "count"),
    "area": ((), "number"),
    "bbox": ((4,), "number"),
}
_GENDERS = {"m": 0, "male": 0, "f": 1, "female": 1, "": -1, "n": -1, "neutral": -1, "0": 0, "1": 1, "-1": -1}
# ProHMR's 3D truth of these OpenPose joints comes from another skeleton than that of its 2D points.
_UNUSED_3D = slice(1, 15)
PROHMR: dict[str, tuple[int, ...]] = {
    "body_keypoints_2d": (25, 3),
    "extra_keypoints_2d": (19, 3),
    "body_keypoints_3d": (25, 4),
    "extra_keypoints_3d": (19, 4),
    "body_pose": (72,),
    "betas": (10,),
    "has_body_pose": (),
    "has_betas": (),
}


class ArrayReader:
    """Takes arrays of N rows out of a file and checks them."""

    def __init__(self, arrays: Mapping[str, np.ndarray], path: Path, count: int) -> None:
        self._arrays, self._path, self._count = arrays, path, count

    def points(self, prohmr: bool) -> tuple[np.ndarray, np.ndarray]:
        """2D ``(N, 49, 3)`` and 3D ``(N, 49, 4)``."""
        keypoints = np.zeros((self._count, NUM_KEYPOINTS, 3), np.float32)
        joints3d = np.zeros((self._count, NUM_KEYPOINTS, 4), np.float32)
        names = ("body_keypoints_2d", "extra_keypoints_2d") if prohmr else ("openpose", "part")
        for name, first in zip(names, (0, NUM_OPENPOSE), strict=True):
            self._fill(keypoints, name, first)
        if not prohmr:
            self._fill(joints3d, "S", NUM_OPENPOSE)
            return keypoints, joints3d
        self._fill(joints3d, "body_keypoints_3d", 0)
        joints3d[:, _UNUSED_3D, 3] = 0
        self._fill(joints3d, "extra_keypoints_3d", NUM_OPENPOSE)
        return keypoints, joints3d

    def parameters(self, prohmr: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pose ``(N, 72)``, betas ``(N, 10)`` and whether they are labels ``(N,)``."""
        names = ("body_pose", "betas") if prohmr else ("pose", "shape")
        flags = ("has_body_pose", "has_betas") if prohmr else ("has_smpl",)
        # SPIN takes pose and shape without has_smpl for labels, ProHMR takes them for none.
        complete = all(name in self._arrays for name in (names + flags if prohmr else names))
        known = np.full(self._count, complete)
        for flag in flags:
            if complete and flag in self._arrays:
                known &= self.flags(flag)
        values = []
        for name, width in zip(names, (72, 10), strict=True):
            array = np.zeros((self._count, width), np.float32)
            if complete:
                array = self._plain(name, (width,)).astype(np.float32)
                array[~known] = 0
                self._require_finite(name, array)
            values.append(array)
        return values[0], values[1], known

    def scale(self) -> np.ndarray:
        """``(N,)`` float64 in the unit of the file; of boxes with two sides the longer one."""
        array = self._arrays["scale"]
        if array.ndim == 2 and array.shape[1] in (1, 2) and len(array) == self._count:
            array = array.max(axis=1)
        scale = self._kind("scale", self._shape("scale", array, ()), "biuf", "numbers").astype(np.float64)
        self._require_finite("scale", scale)
        if (scale <= 0).any():
            row = int(np.argmax(scale <= 0))
            raise UserError(f"{self._path}: scale of row {row} is not positive: there is no box; leave the row out")
        return scale

    def numbers(self, name: str, tail: tuple[int, ...]) -> np.ndarray:
        """``(N, *tail)`` float32, finite."""
        array = self._plain(name, tail).astype(np.float32)
        self._require_finite(name, array)
        return array

    def flags(self, name: str) -> np.ndarray:
        """``(N,)`` bool."""
        array = self._plain(name, ())
        if not np.isin(array, (0, 1)).all():
            raise UserError(f"{self._path}: {name} holds other values than 0 and 1")
        return array.astype(bool)

    def text(self, name: str) -> np.ndarray:
        """``(N,)`` str."""
        array = self._shape(name, self._arrays[name], ())
        if array.dtype.kind == "S":
            try:
                return np.char.decode(array, "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(f"{self._path}: {name} is no UTF-8 text ({error})") from error
        return self._kind(name, array, "U", "text")

    def gender(self) -> np.ndarray:
        """``(N,)`` int8."""
        if "gender" not in self._arrays:
            return np.full(self._count, -1, np.int8)
        array = self._arrays["gender"]
        words = array.astype(np.int64).astype(np.str_) if array.dtype.kind in "biuf" else self.text("gender")
        distinct, inverse = np.unique(self._shape("gender", words, ()), return_inverse=True)
        unknown = [str(word) for word in distinct if str(word).lower() not in _GENDERS]
        if unknown:
            raise UserError(f"{self._path}: gender holds {unknown[0]!r}; it has to be 'm', 'f' or ''")
        return np.array([_GENDERS[str(word).lower()] for word in distinct], np.int8)[inverse]

    def extra(self, name: str) -> np.ndarray:
        """One of the optional arrays."""
        tail, kind = EXTRA[name]
        if kind == "text":
            array = self._arrays[name]
            return array.astype(np.str_) if array.dtype.kind in "iu" else self.text(name)
        if kind == "flag":
            return self.flags(name)
        if kind == "count":
            return self._kind(name, self._plain(name, tail), "biu", "whole numbers").astype(np.int64)
        return self.numbers(name, tail)

    def _fill(self, target: np.ndarray, name: str, first: int) -> None:
        """Copy the points of an array, if it is there, to the joints from ``first`` on; those without label as 0."""
        if name not in self._arrays:
            return
        tail = SCHEMA[name][0] if name in SCHEMA else PROHMR[name]
        array = self._plain(name, tail).astype(np.float32)
        self._require_finite(name, array[..., -1])
        array[array[..., -1] <= 0] = 0
        self._require_finite(name, array)
        target[:, first : first + tail[0]] = array

    def _plain(self, name: str, tail: tuple[int, ...]) -> np.ndarray:
        array = self._arrays[name]
        if array.ndim and len(array) == self._count and tail == (72,) and array.shape[1:] == (24, 3):
            array = array.reshape(self._count, 72)
        return self._kind(name, self._shape(name, array, tail), "biuf", "numbers")

    def _shape(self, name: str, array: np.ndarray, tail: tuple[int, ...]) -> np.ndarray:
        wanted = (self._count, *tail)
        if array.shape != wanted:
            raise UserError(f"{self._path}: {name} has shape {array.shape}, expected {wanted}")
        return array

    def _kind(self, name: str, array: np.ndarray, kinds: str, what: str) -> np.ndarray:
        if array.dtype.kind not in kinds:
            raise UserError(f"{self._path}: {name} holds {array.dtype}, expected {what}")
        return array

    def _require_finite(self, name: str, array: np.ndarray) -> None:
        bad = ~np.isfinite(array)
        if bad.any():
            row = int(np.argmax(bad.reshape(self._count, -1).any(axis=1)))
            raise UserError(f"{self._path}: {name} of row {row} is not finite; mend the row or leave it out")
