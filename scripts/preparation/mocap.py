"""What Human3.6M and MPI-INF-3DHP have in common: 17 joints of a motion-capture system as slots of the label files."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from diffhmr.errors import UserError
from scripts.preparation.contract import Finding

State = Literal["found", "missing", "incomplete"]

SLOTS = (14, 3, 4, 5, 2, 1, 0, 16, 12, 17, 18, 9, 10, 11, 8, 7, 6)
"""Slot of each of the 17 joints pelvis, left leg, right leg, spine, neck, jaw, head, left arm, right arm (SPIN)."""

JOINT_BOX = 1.2
"""Side of the box over the longer side of that of the joints (SPIN; Kolotouros et al., ICCV 2019)."""

COMPLETE = 0.98
"""Share of the labelled frames that have pictures, at least; videos are a few frames longer or shorter than labels."""

ROOT = 0  # the pelvis, of the 17
_log = logging.getLogger(__name__)


def part_of(points: np.ndarray) -> np.ndarray:
    """``part (N, 24, 3)`` from ``points (N, 17, 2)`` in pixels; all are labelled."""
    part = np.zeros((len(points), 24, 3))
    part[:, SLOTS, :2] = points
    part[:, SLOTS, 2] = 1
    return part


def joints_of(points_mm: np.ndarray) -> np.ndarray:
    """``S (N, 24, 4)``, metres from the pelvis, from ``points_mm (N, 17, 3)`` in millimetres."""
    joints = np.zeros((len(points_mm), 24, 4))
    joints[:, SLOTS, :3] = (points_mm - points_mm[:, ROOT : ROOT + 1]) / 1000
    joints[:, SLOTS, 3] = 1
    return joints


def joint_boxes(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre ``(N, 2)`` and side ``(N,)`` in pixels of the boxes of ``points (N, 17, 2)``."""
    low, high = points.min(axis=1), points.max(axis=1)
    return (low + high) / 2, JOINT_BOX * (high - low).max(axis=1)


def inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """``(N,)`` bool: all of ``points (N, 17, 2)`` lie within a picture of ``size`` (width, height)."""
    return np.asarray(((points >= 0) & (points < np.array(size))).all(axis=(1, 2)))


def require_finite(path: Path, *arrays: np.ndarray) -> None:
    """Raises: UserError: a number is not finite."""
    if not all(np.isfinite(array).all() for array in arrays):
        raise UserError(f"{path} holds numbers that are not finite; download it again")


def warn_if_short(pictures: Path, there: int, labelled: int) -> None:
    """Name a video or folder of pictures that has clearly fewer frames than are labelled."""
    if there < COMPLETE * labelled:
        _log.warning("%s has %d of %d labelled frames; is it whole?", pictures, there, labelled)


@dataclass(frozen=True)
class Group:
    """Files of a part of a release, such as a subject's.

    Attributes:
        files: that should be there as far as the rest of the release tells; it may itself lack some.
        expected: how many there should be.
    """

    files: Sequence[Path]
    expected: int


def count_finding(what: str, folder: Path, groups: Mapping[str, Group], like: Finding) -> Finding:
    """What a check says about files by groups, with the other facts of ``like``; groups that lack some are named."""
    there, expected = 0, 0
    short, without = [], []
    for name, group in groups.items():
        missing = [path for path in group.files if not path.is_file() or not path.stat().st_size]
        count = len(group.files) - len(missing)
        there, expected = there + count, expected + group.expected
        if count == 0:
            without.append(name)
        elif count < group.expected:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            short.append(f"{name} {count} of {group.expected}" + (f", no {missing[0].name}{more}" if missing else ""))
    if without:
        short.append(f"none of {', '.join(without)}")
    state: State = "found" if not short else "incomplete" if there else "missing"
    detail = f"{there} of {expected}"
    detail += f" ({'; '.join(short)})" if there and short else ""
    return replace(like, what=what, path=folder, state=state, detail=detail)


def lacking_library(error: ImportError) -> UserError:
    """What to say when one of the libraries that read the releases is not installed."""
    return UserError(f'{error.name or error} is not installed; run: pip install -e ".[data]"')
