"""Expectation-maximisation on data whose mixture is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffhmr.errors import UserError
from diffhmr.fitting.mixture import fit_mixture, save_mixture
from diffhmr.fitting.prior import POSE_NUMBERS, load_prior


def two_clusters(count: int = 4000) -> np.ndarray:
    generator = np.random.default_rng(0)
    first = generator.multivariate_normal([0, 0, 0], np.diag([1.0, 0.25, 0.04]), 3 * count // 4)
    second = generator.multivariate_normal([5, -3, 2], 0.09 * np.eye(3), count // 4)
    return generator.permutation(np.concatenate([first, second]))


def test_finds_the_components() -> None:
    mixture = fit_mixture(two_clusters(), 2, spread_floor=0.0)
    order = np.argsort(-mixture.weights)
    np.testing.assert_allclose(mixture.weights[order], [0.75, 0.25], atol=0.01)
    np.testing.assert_allclose(mixture.means[order], [[0, 0, 0], [5, -3, 2]], atol=0.06)
    np.testing.assert_allclose(mixture.covariances[order[0]], np.diag([1.0, 0.25, 0.04]), atol=0.06)


def test_likelihood_rises_and_the_result_repeats() -> None:
    poses = two_clusters(800)
    first, second = (fit_mixture(poses, 3, spread_floor=0.0, seed=4) for _ in range(2))
    assert np.all(np.diff(first.log_likelihood) > -1e-9)
    np.testing.assert_array_equal(first.covariances, second.covariances)
    assert not np.array_equal(first.means, fit_mixture(poses, 3, spread_floor=0.0, seed=5).means)


def test_a_direction_without_movement_keeps_some_spread() -> None:
    poses = two_clusters(400)
    poses[:, 2] = 0
    mixture = fit_mixture(poses, 2, spread_floor=0.1)
    np.testing.assert_allclose(mixture.covariances[:, 2, 2], 0.01)


def test_round_trip_through_a_file(tmp_path: Path) -> None:
    poses = np.random.default_rng(0).normal(size=(200, POSE_NUMBERS))
    save_mixture(tmp_path / "prior.npz", fit_mixture(poses, 2), "noise")
    assert load_prior(tmp_path / "prior.npz").means.shape == (2, POSE_NUMBERS)


def test_too_few_poses() -> None:
    with pytest.raises(UserError, match="too few"):
        fit_mixture(np.zeros((10, POSE_NUMBERS)))
    still = np.repeat(two_clusters(8)[:2], 50, axis=0)
    assert len(fit_mixture(still, 2).weights) == 2
    with pytest.raises(UserError, match="only 2 of the poses are different"):
        fit_mixture(still, 3)
