"""Rotations: matrices <-> axis-angle <-> 6D, distances, means and look-at rotations.

Rotation matrices act on column vectors. 6D rotations (Zhou et al., "On the Continuity of Rotation Representations in
Neural Networks", CVPR 2019) are the first two COLUMNS of the matrix, in one of two layouts that the name always says:
contiguous ``[a1x a1y a1z a2x a2y a2z]`` (``rot6d_columns``, used everywhere inside) and interleaved
``[a1x a2x a1y a2y a1z a2z]`` (files and weights of the SPIN family).
"""

from __future__ import annotations

import roma
import torch
from torch import Tensor

_DEGENERATE = 1e-7


def axis_angle_to_matrix(axis_angle: Tensor) -> Tensor:
    """Rotation vectors ``[..., 3]`` (radians) to matrices ``[..., 3, 3]`` (Rodrigues' formula)."""
    matrix: Tensor = roma.rotvec_to_rotmat(axis_angle)
    return matrix


def matrix_to_axis_angle(matrix: Tensor) -> Tensor:
    """Matrices ``[..., 3, 3]`` to rotation vectors ``[..., 3]`` of length at most pi.

    Goes through unit quaternions, so that it is accurate near 0 and near pi. At exactly pi both signs are right.
    """
    axis_angle: Tensor = roma.rotmat_to_rotvec(matrix)
    return axis_angle


def matrix_to_rot6d_columns(matrix: Tensor) -> Tensor:
    """First two columns of ``[..., 3, 3]``, one after the other: ``[..., 6]``."""
    return matrix[..., :2].transpose(-1, -2).flatten(-2)


def rot6d_columns_to_matrix(rot6d: Tensor) -> Tensor:
    """Contiguous 6D ``[..., 6]`` to the rotation matrix ``[..., 3, 3]`` by Gram-Schmidt (Zhou et al. 2019, eq. 14).

    Every finite input gives a valid rotation: where a column vanishes or both are parallel, which leaves the rotation
    undetermined, a fixed axis takes its place.
    """
    a1, a2 = rot6d[..., :3], rot6d[..., 3:]
    x_axis = torch.zeros_like(a1)
    x_axis[..., 0] = 1
    b1 = _normalise_or(a1, x_axis, _DEGENERATE)
    perpendicular = a2 - (b1 * a2).sum(-1, keepdim=True) * b1
    # Rounding leaves a residue of about 1e-7 |a2| even for parallel columns; its direction means nothing.
    threshold = torch.linalg.vector_norm(a2.detach(), dim=-1, keepdim=True) * 1e-5 + _DEGENERATE
    b2 = _normalise_or(perpendicular, _any_perpendicular(b1), threshold)
    return torch.stack([b1, b2, torch.linalg.cross(b1, b2, dim=-1)], dim=-1)


def rot6d_interleaved_to_columns(rot6d: Tensor) -> Tensor:
    """Layout of the SPIN family (row-major 3x2 matrix) to contiguous columns, both ``[..., 6]``."""
    return rot6d.unflatten(-1, (3, 2)).transpose(-1, -2).flatten(-2)


def rot6d_columns_to_interleaved(rot6d: Tensor) -> Tensor:
    """Contiguous columns to the layout of the SPIN family (row-major 3x2 matrix), both ``[..., 6]``."""
    return rot6d.unflatten(-1, (2, 3)).transpose(-1, -2).flatten(-2)


def geodesic_distance(first: Tensor, second: Tensor) -> Tensor:
    """Angle in radians ``[...]`` of the rotation between ``[..., 3, 3]`` and ``[..., 3, 3]``.

    Uses atan2 of sine and cosine: accurate for small angles and near pi, with finite gradients (zero at both ends).
    """
    relative = first.transpose(-1, -2) @ second
    sine = torch.linalg.vector_norm(_skew_part(relative), dim=-1)
    cosine = (relative.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return torch.atan2(sine, cosine)


def random_rotations(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniformly distributed rotations ``[*shape, 3, 3]`` on the generator's device (normalised Gaussian 4-vectors)."""
    quaternion = torch.randn((*shape, 4), generator=generator, device=generator.device)
    matrix: Tensor = roma.unitquat_to_rotmat(torch.nn.functional.normalize(quaternion, dim=-1))
    return matrix


def mean_rotation(rotations: Tensor, dim: int = 0) -> Tensor:
    """Chordal mean of ``[..., 3, 3]`` over the leading dimension ``dim``: the rotation nearest to the mean matrix.

    ``dim`` counts over all dimensions of ``rotations``; -3 is the last leading one (Hartley et al., "Rotation
    Averaging", IJCV 2013, section 5.3).
    """
    mean: Tensor = roma.special_procrustes(rotations.mean(dim=dim))
    return mean


def rotation_between(source: Tensor, target: Tensor) -> Tensor:
    """Smallest rotation ``[..., 3, 3]`` that turns the direction ``source [..., 3]`` into ``target [..., 3]``.

    For opposite directions the axis is undetermined and an arbitrary perpendicular one is taken.
    """
    a = torch.nn.functional.normalize(source, dim=-1)
    b = torch.nn.functional.normalize(target, dim=-1)
    a, b = torch.broadcast_tensors(a, b)
    # A rotation by twice the angle between a and the half-way direction h: R = (2 h h^T - 1)(2 a a^T - 1).
    half = _normalise_or(a + b, _any_perpendicular(a), 1e-6)
    identity = torch.eye(3, dtype=a.dtype, device=a.device)
    return (2 * half.unsqueeze(-1) * half.unsqueeze(-2) - identity) @ (2 * a.unsqueeze(-1) * a.unsqueeze(-2) - identity)


def look_rotation(direction: Tensor) -> Tensor:
    """Smallest rotation ``[..., 3, 3]`` that points the camera axis (0, 0, 1) along ``direction [..., 3]``."""
    forward = torch.zeros_like(direction)
    forward[..., 2] = 1
    return rotation_between(forward, direction)


def _skew_part(matrix: Tensor) -> Tensor:
    """Rotation axis times sine: the vector of the skew-symmetric part of ``[..., 3, 3]``."""
    return torch.stack(
        [
            matrix[..., 2, 1] - matrix[..., 1, 2],
            matrix[..., 0, 2] - matrix[..., 2, 0],
            matrix[..., 1, 0] - matrix[..., 0, 1],
        ],
        dim=-1,
    ).div(2)


def _normalise_or(vector: Tensor, fallback: Tensor, threshold: Tensor | float) -> Tensor:
    """``vector [..., 3]`` scaled to length 1, or ``fallback`` where it is not longer than ``threshold``."""
    usable = torch.linalg.vector_norm(vector.detach(), dim=-1, keepdim=True) > threshold
    chosen = torch.where(usable, vector, fallback)
    return chosen / torch.linalg.vector_norm(chosen, dim=-1, keepdim=True)


def _any_perpendicular(unit: Tensor) -> Tensor:
    """A unit vector perpendicular to ``unit [..., 3]``: its cross product with the coordinate axis farthest from it."""
    farthest = unit.detach().abs().argmin(dim=-1)
    axis = torch.nn.functional.one_hot(farthest, 3).to(unit.dtype)
    cross = torch.linalg.cross(unit, axis, dim=-1)
    return cross / torch.linalg.vector_norm(cross, dim=-1, keepdim=True)
