"""Directions and rotations of bones: numpy arrays with any leading dimensions."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation


def unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors ``[..., 3]`` at length 1; zeros stay."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(length > 1e-12, length, 1.0))


def shortest_turn(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The smallest rotations ``[..., 3, 3]`` that take directions ``start [..., 3]`` to ``end [..., 3]``."""
    start, end = np.broadcast_arrays(unit(start), unit(end))
    axis = np.cross(start, end)
    sine, cosine = np.linalg.norm(axis, axis=-1), (start * end).sum(-1)
    # Opposite directions have no shortest turn: any axis across serves.
    across = np.cross(start, np.eye(3)[np.abs(start).argmin(axis=-1)])
    axis = np.where((sine > 1e-9)[..., None], axis, across)
    vectors = unit(axis) * np.arctan2(sine, cosine)[..., None]
    return np.asarray(Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(*start.shape, 3))


def frame_of(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Rotation ``[3, 3]`` whose first column is ``first`` and whose second lies in the plane of both."""
    x = unit(first)
    z = unit(np.cross(x, second))
    return np.stack([x, np.cross(z, x), z], axis=-1)


def upright(up: np.ndarray, left: np.ndarray) -> np.ndarray:
    """Rotation ``[3, 3]`` of a body whose own y is ``up`` and whose x is as near to ``left`` as can be."""
    y = unit(up)
    z = unit(np.cross(left, y))
    return np.stack([np.cross(y, z), y, z], axis=-1)


def between_turns(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    """Rotations ``[T, 3, 3]`` at ``share`` of the shortest way from ``first`` to ``second``."""
    way = Rotation.from_matrix(first.swapaxes(-1, -2) @ second).as_rotvec()
    return np.asarray(first @ Rotation.from_rotvec(share * way).as_matrix())
