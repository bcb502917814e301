"""Pose priors against the density they stand for, and the files they come from."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from diffhmr.errors import UserError
from diffhmr.fitting.prior import POSE_NUMBERS, PosePrior, angle_prior, load_prior


def random_mixture(seed: int = 0, count: int = 3) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    factors = 0.2 * generator.normal(size=(count, POSE_NUMBERS, POSE_NUMBERS)) / np.sqrt(POSE_NUMBERS)
    covars = factors @ factors.transpose(0, 2, 1) + 0.02 * np.eye(POSE_NUMBERS)
    means = generator.normal(size=(count, POSE_NUMBERS)) * 0.3
    return {"means": means, "covars": covars, "weights": generator.dirichlet(np.ones(count))}


def test_equals_the_negative_logarithm_of_the_likeliest_component() -> None:
    mixture = random_mixture()
    prior = PosePrior.from_mixture(*mixture.values())
    poses = np.random.default_rng(1).normal(size=(20, POSE_NUMBERS)) * 0.3
    densities = np.stack(
        [
            multivariate_normal(mean, covariance).logpdf(poses) + np.log(weight)
            for mean, covariance, weight in zip(*mixture.values(), strict=True)
        ]
    )
    smallest = min(np.linalg.slogdet(covariance)[1] for covariance in mixture["covars"])
    constant = 0.5 * (POSE_NUMBERS * np.log(2 * np.pi) + smallest)
    expected = torch.from_numpy(-densities.max(axis=0) - constant).float()
    torch.testing.assert_close(prior(torch.from_numpy(poses).float()), expected, rtol=1e-4, atol=1e-3)


def test_gradient_points_to_the_mean() -> None:
    mixture = random_mixture(count=1)
    prior = PosePrior.from_mixture(*mixture.values())
    mean = torch.from_numpy(mixture["means"]).float().requires_grad_()
    (at_mean,) = torch.autograd.grad(prior(mean).sum(), mean)
    assert at_mean.abs().max() < 1e-3
    assert prior(torch.from_numpy(mixture["means"] + 0.1).float()) > prior(mean)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_reads_the_pickle_of_smplify(tmp_path: Path, protocol: int) -> None:
    """``gmm_08.pkl`` is a pickled dictionary of NumPy arrays, written by Python 2."""
    mixture = random_mixture(count=8)
    path = tmp_path / "gmm_08.pkl"
    path.write_bytes(pickle.dumps(mixture, protocol=protocol))
    prior, expected = load_prior(path), PosePrior.from_mixture(*mixture.values())
    pose = torch.full((1, POSE_NUMBERS), 0.1)
    torch.testing.assert_close(prior(pose), expected(pose))


def test_the_shipped_prior_knows_people() -> None:
    prior = load_prior()
    assert len(prior.cost) == 8
    contorted = torch.full((1, POSE_NUMBERS), 1.5)
    assert prior(torch.zeros(1, POSE_NUMBERS)) < 0.1 * prior(contorted)


class _Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1/0",)


def test_bad_files_are_refused(tmp_path: Path) -> None:
    good = random_mixture(count=2)
    with pytest.raises(UserError, match="not found"):
        load_prior(tmp_path / "none.pkl")
    cases = {
        "attack.pkl": {"means": _Attack()},
        "other.pkl": {"something": 1},
        "shape.pkl": good | {"means": good["means"][:, :60]},
        "nan.pkl": good | {"means": good["means"] * np.nan},
        "singular.pkl": good | {"covars": 0 * good["covars"]},
        "weights.pkl": good | {"weights": np.array([1.0, 0.0])},
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(pickle.dumps(content))
        with pytest.raises(UserError, match=name):
            load_prior(tmp_path / name)
    (tmp_path / "text.npz").write_text("no archive")
    np.savez_compressed(tmp_path / "whole.npz", **good)
    torn = bytearray((tmp_path / "whole.npz").read_bytes())
    torn[60] ^= 0xFF  # zlib, not the checksum of the archive, is the first to notice
    (tmp_path / "torn.npz").write_bytes(torn)
    np.savez(tmp_path / "number.npz", **good | {"weights": np.float64(1)})
    with open(tmp_path / "single.npz", "wb") as stream:
        np.save(stream, good["means"])
    for name in ("text.npz", "torn.npz", "number.npz", "single.npz"):
        with pytest.raises(UserError, match=name):
            load_prior(tmp_path / name)


def test_knees_and_elbows_bend_one_way() -> None:
    straight = torch.zeros(POSE_NUMBERS)
    assert angle_prior(straight) == 4
    # SMPL: a knee bends about +x; the left elbow about -y, the right one about +y.
    for index, bend in ((9, 1.0), (12, 1.0), (52, -1.0), (55, 1.0)):
        bent = straight.clone()
        bent[index] = bend
        overstretched = straight.clone()
        overstretched[index] = -bend
        torch.testing.assert_close(angle_prior(bent), torch.tensor(3 + np.exp(-2.0)).float())
        torch.testing.assert_close(angle_prior(overstretched), torch.tensor(3 + np.exp(2.0)).float())
