"""The joints of Leeds Sports Pose and its extended sets (Johnson and Everingham, BMVC 2010 and CVPR 2011).

Their ``joints.mat`` has x and y as MATLAB counts them, 1 for the centre of the first pixel, and a flag per joint, whose
sense differs: in LSP 1 means hidden, in the extended sets 1 means visible.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diffhmr.errors import UserError
from scripts.preparation.people2d import (
    BOX_FACTOR,
    LabelOptions,
    Rows,
    boxes_of_points,
    chosen_rows,
    read_mat,
    to_slots,
)

NUM_JOINTS = 14


def read_joints(path: Path, joints_axis: int, remedy: str) -> np.ndarray:
    """``(N, 14, 3)`` of ``joints.mat`` as it is: x, y from 1 and the flag.

    Args:
        path: the file.
        joints_axis: which axis has the 14 joints: 1 in LSP (3, 14, N), 0 in the extended sets (14, 3, N).
        remedy: where to get the file.

    Raises:
        UserError: it is not such a file.
    """
    joints = np.asarray(read_mat(path, "joints", remedy))
    wanted = (3, NUM_JOINTS) if joints_axis else (NUM_JOINTS, 3)
    if joints.ndim == 2:  # the last axis of a single person is lost
        joints = joints[..., None]
    if joints.ndim != 3 or joints.shape[:2] != wanted or joints.dtype.kind not in "biuf":
        raise UserError(
            f"{path}: joints has shape {joints.shape} and type {joints.dtype}, expected numbers "
            f"({wanted[0]}, {wanted[1]}, N); {remedy}"
        )
    return joints.astype(np.float64).transpose((2, 1, 0) if joints_axis else (2, 0, 1))


def rows_of(joints: np.ndarray, visible: np.ndarray, names: Sequence[str], options: LabelOptions) -> Rows:
    """The rows of people without OpenPose's detections; the box is that of all labelled joints, hidden or not.

    Args:
        joints: ``(N, 14, 2)`` positions from 1. Joints left of and above the corner, or not finite, have no label.
        visible: ``(N, 14)`` bool.
        names: N pictures.
        options: the user's.
    """
    labelled = np.isfinite(joints).all(axis=2) & (joints > 0).any(axis=2)
    points = np.where(labelled[..., None], joints - 1, 0.0)
    center, side = boxes_of_points(points, labelled)
    confidence = np.where(labelled, np.where(visible, 1.0, options.hidden_confidence), 0.0)
    rows = {
        "imgname": np.array(list(names), np.str_),
        "center": center,
        "scale": BOX_FACTOR * side / 200,
        "part": to_slots(points, confidence, range(NUM_JOINTS)),
    }
    return chosen_rows(rows, labelled.any(axis=1))
