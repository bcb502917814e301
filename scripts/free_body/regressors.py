"""Linear maps fitted to sampled bodies: the shape space (PCA) and sparse joint regressors (non-negative least squares).

Letters: S shapes, V vertices, J joints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ShapeSpace:
    """``mean`` (V, 3), ``directions`` (V, 3, C) in metres per unit beta, ``explained`` (C) shares of the variance."""

    mean: Array
    directions: Array
    explained: Array

    def bodies(self, betas: Array) -> Array:
        """Vertices [S, V, 3] of the bodies with betas [S, C]."""
        return self.mean + np.einsum("sc,vkc->svk", betas, self.directions, optimize=True)

    def betas(self, bodies: NDArray[np.floating]) -> Array:
        """The betas [S, C] whose bodies are nearest to bodies [S, V, 3]; the directions are orthogonal."""
        flat = self.directions.reshape(-1, self.directions.shape[-1])
        return (bodies - self.mean).reshape(len(bodies), -1) @ flat / (flat**2).sum(0)

    def reconstruction_error(self, bodies: NDArray[np.floating]) -> Array:
        """Distance [S, V] in metres between bodies [S, V, 3] and their nearest ones in the shape space."""
        return np.linalg.norm(self.bodies(self.betas(bodies)) - bodies, axis=-1)


def fit_shape_space(samples: NDArray[np.floating], num_components: int) -> ShapeSpace:
    """Principal components of bodies [S, V, 3], scaled so that the samples' betas have unit variance.

    The sign of each component is fixed: a positive beta makes the body taller in y or, where it hardly changes the
    height, wider. The eigenvectors come from the S x S Gram matrix, because S is much smaller than 3V.
    """
    count = len(samples)
    flat = samples.reshape(count, -1).astype(np.float64)
    mean = flat.mean(0)
    flat -= mean
    values, vectors = np.linalg.eigh(flat @ flat.T / (count - 1))
    order = np.argsort(values)[::-1][:num_components]
    total = float(values.sum())
    # flat.T @ u has the length sqrt(value * (S - 1)); one standard deviation along the unit direction is sqrt(value).
    directions = (flat.T @ vectors[:, order]) / np.sqrt(count - 1)
    shape = samples.shape[1:]
    directions = directions.reshape(*shape, num_components)
    mean = mean.reshape(shape)
    directions = directions * _component_signs(mean, directions)
    return ShapeSpace(mean=mean, directions=directions, explained=values[order] / total)


def _component_signs(mean: Array, directions: Array) -> Array:
    top, bottom = mean[:, 1].argmax(), mean[:, 1].argmin()
    taller = directions[top, 1] - directions[bottom, 1]
    wider = (np.sign(mean[:, :1]) * directions[:, 0]).mean(0)
    decisive = np.where(np.abs(taller) > 0.005, taller, wider)
    return np.where(decisive < 0, -1.0, 1.0)


def vertices_near(vertices: NDArray[np.floating], joints: Array, radii: Sequence[float]) -> list[NDArray[np.integer]]:
    """For each joint (J, 3) the vertices of a body (V, 3) that lie within its radius."""
    pairs = zip(joints, radii, strict=True)
    return [np.flatnonzero(np.linalg.norm(vertices - centre, axis=1) < radius) for centre, radius in pairs]


def fit_joint_regressor(vertices: NDArray[np.floating], joints: Array, near: Sequence[NDArray[np.integer]]) -> Array:
    """Non-negative weights (J, V), each row summing to 1, with ``weights @ vertices`` near ``joints`` for all samples.

    Args:
        vertices: [S, V, 3]. joints: [S, J, 3].
        near: for each joint the vertices that may carry weight.
    """
    regressor = np.zeros((joints.shape[1], vertices.shape[1]))
    for joint, candidates in enumerate(near):
        regressor[joint, candidates] = convex_weights(vertices[:, candidates], joints[:, joint])
    return regressor


def convex_weights(points: NDArray[np.floating], targets: Array, prune: float = 1e-3) -> Array:
    """Weights (N) >= 0, summing to 1, that bring ``weights @ points`` [S, N, 3] near ``targets`` [S, 3].

    Non-negative least squares with one heavy extra row for the sum; weights below ``prune`` are dropped.
    """
    matrix = np.moveaxis(points.astype(np.float64), 1, 2) - targets[:, :, None]  # relative: well conditioned
    matrix = matrix.reshape(-1, points.shape[1])
    heavy = 100.0 * np.sqrt(len(matrix)) * max(float(np.abs(matrix).mean()), 1e-6)
    stacked = np.vstack([matrix, np.full((1, matrix.shape[1]), heavy)])
    goal = np.zeros(len(stacked))
    goal[-1] = heavy
    weights, _ = nnls(stacked, goal, maxiter=50 * matrix.shape[1])
    weights = weights / weights.sum()
    weights[weights < prune] = 0.0
    return weights / weights.sum()


def regression_error(regressor: Array, vertices: NDArray[np.floating], joints: Array) -> Array:
    """Distance [S, J] in metres between regressed and true joints."""
    return np.linalg.norm(np.einsum("jv,svk->sjk", regressor, vertices, optimize=True) - joints, axis=-1)


def to_coo(matrix: Array) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.float32]]:
    """Rows, columns and values of the non-zero entries, row by row."""
    rows, columns = np.nonzero(matrix)
    return rows.astype(np.uint8), columns.astype(np.int32), matrix[rows, columns].astype(np.float32)
