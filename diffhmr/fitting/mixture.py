"""A mixture of Gaussians fitted to poses: expectation-maximisation in float64, on one core in seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffhmr.errors import UserError
from diffhmr.files import atomic_path

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Mixture:
    """``means (K, D)``, ``covariances (K, D, D)``, ``weights (K,)`` and the mean log-likelihood of every iteration."""

    means: Floats
    covariances: Floats
    weights: Floats
    log_likelihood: tuple[float, ...]


def fit_mixture(
    poses: Floats, components: int = 8, *, spread_floor: float = 0.07, iterations: int = 100, seed: int = 0
) -> Mixture:
    """A mixture of Gaussians for ``poses (N, D)`` by expectation-maximisation from a k-means++ start.

    The same poses and seed give the same mixture, up to the rounding of the linear algebra library.

    Args:
        poses: one per row.
        components: K.
        spread_floor: standard deviation added in all directions (as a variance): without it, directions in which the
            poses never differ would forbid every deviation.
        iterations: at most; ends when the log-likelihood rises by less than 1e-4.
        seed: of the start.

    Raises:
        UserError: there are fewer poses than numbers in a pose, or fewer different ones than components.
    """
    count, size = poses.shape
    if count < max(size, components):
        raise UserError(f"{count} poses are too few for a mixture over {size} numbers; give at least {size}")
    responsibility = _nearest(poses, _spread_out(poses, components, np.random.default_rng(seed)))
    history: list[float] = []
    for _ in range(iterations):
        mixture = _maximise(poses, responsibility, spread_floor)
        log_joint = _log_joint(poses, *mixture)
        log_density = np.logaddexp.reduce(log_joint, axis=1)
        responsibility = np.exp(log_joint - log_density[:, None])
        history.append(float(log_density.mean()))
        if len(history) > 1 and history[-1] - history[-2] < 1e-4:
            break
    return Mixture(*mixture, tuple(history))


def save_mixture(path: str | Path, mixture: Mixture, source: str) -> None:
    """Write a mixture as ``.npz``, atomically; ``source`` says what poses it describes."""
    with atomic_path(path) as temporary:
        np.savez_compressed(
            temporary,
            means=mixture.means.astype(np.float32),
            covars=mixture.covariances.astype(np.float32),
            weights=mixture.weights.astype(np.float32),
            source=np.array(source),
        )


def _spread_out(poses: Floats, count: int, generator: np.random.Generator) -> Floats:
    """Starting centres ``(K, D)``: each far from the ones before (Arthur and Vassilvitskii, SODA 2007)."""
    centres = [poses[generator.integers(len(poses))]]
    for _ in range(count - 1):
        distance = np.min([np.square(poses - centre).sum(1) for centre in centres], axis=0)
        if not distance.any():
            raise UserError(f"only {len(centres)} of the poses are different; take fewer components or other poses")
        centres.append(poses[generator.choice(len(poses), p=distance / distance.sum())])
    return np.stack(centres)


def _nearest(poses: Floats, centres: Floats) -> Floats:
    """Responsibilities ``(N, K)``, 0 or 1, after ten rounds of k-means."""
    for _ in range(10):
        distance = np.stack([np.square(poses - centre).sum(1) for centre in centres], axis=1)
        member = np.eye(len(centres))[distance.argmin(1)]
        share = member.sum(0)
        centres = np.where(share[:, None] > 0, member.T @ poses / np.maximum(share, 1)[:, None], centres)
    return member


def _maximise(poses: Floats, responsibility: Floats, spread_floor: float) -> tuple[Floats, Floats, Floats]:
    share = responsibility.sum(0) + 1e-6
    means = responsibility.T @ poses / share[:, None]
    size = poses.shape[1]
    covariances = np.empty((len(share), size, size))
    for k, mean in enumerate(means):
        centred = poses - mean
        covariances[k] = (responsibility[:, k, None] * centred).T @ centred / share[k]
        covariances[k] += spread_floor**2 * np.eye(size)
    return means, covariances, share / share.sum()


def _log_joint(poses: Floats, means: Floats, covariances: Floats, weights: Floats) -> Floats:
    """Logarithm of weight times density, ``(N, K)``."""
    columns = []
    for mean, covariance, weight in zip(means, covariances, weights, strict=True):
        factor = np.linalg.cholesky(covariance)
        white = np.linalg.solve(factor, (poses - mean).T)
        log_det = 2 * np.log(np.diagonal(factor)).sum()
        constant = np.log(weight) - 0.5 * (log_det + poses.shape[1] * math.log(2 * math.pi))
        columns.append(constant - 0.5 * np.square(white).sum(0))
    return np.stack(columns, axis=1)
