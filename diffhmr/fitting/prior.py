"""Pose priors of SMPLify: a mixture of Gaussians over the axis-angle body pose, and joints that only bend one way."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.body.files import BODY_FOLDER
from diffhmr.body.params import NUM_BODY_JOINTS
from diffhmr.body.safe_pickle import load_pickle, to_array
from diffhmr.errors import UserError
from diffhmr.files import require_file

POSE_NUMBERS = 3 * NUM_BODY_JOINTS
"""Axis-angle numbers of the joints 1 to 23."""

FREE_PRIOR = BODY_FOLDER / "pose_prior.npz"
"""The mixture that comes with the project, made by ``scripts/build_pose_prior.py`` from its own procedural poses."""

# Left elbow (y), right elbow (y), left knee (x), right knee (x), and the sign of an overstretched joint.
_ONE_WAY = ((52, 1.0), (55, -1.0), (9, -1.0), (12, -1.0))
_REMEDY = "give gmm_08.pkl of SMPLify or an .npz with means (K, 69), covars (K, 69, 69) and weights (K,)"

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PosePrior:
    """A mixture of K Gaussians over the 69 axis-angle numbers of the body pose.

    Called with ``body_pose [..., 69]`` (radians) it gives, per pose, the smallest over the components of
    ``(x - mean)^T covariance^-1 (x - mean) / 2 - log weight + log det(covariance) / 2``, counted from the smallest
    determinant: the negative logarithm of the mixture with the sum replaced by its largest term, up to a constant
    (Bogo et al., "Keep it SMPL", ECCV 2016, eq. 4).

    Attributes:
        means: ``[K, 69]`` radians.
        whitening: ``[69, K * 69]``; a pose times it, less ``shift``, has the identity as covariance in each component.
        shift: ``[K * 69]``.
        cost: ``[K]``, the part that does not depend on the pose.
    """

    means: Tensor
    whitening: Tensor
    shift: Tensor
    cost: Tensor

    def __call__(self, body_pose: Tensor) -> Tensor:
        white = (body_pose @ self.whitening - self.shift).unflatten(-1, (len(self.cost), POSE_NUMBERS))
        return (0.5 * white.square().sum(-1) + self.cost).amin(-1)

    def to(self, device: torch.device | str) -> PosePrior:
        """The same prior on ``device``."""
        return PosePrior(*(getattr(self, name).to(device) for name in ("means", "whitening", "shift", "cost")))

    @classmethod
    def from_mixture(cls, means: Floats, covariances: Floats, weights: Floats) -> PosePrior:
        """From ``means (K, 69)``, ``covariances (K, 69, 69)`` and ``weights (K,)``.

        Raises:
            UserError: a shape does not fit, a number is not finite, a weight not positive, or a covariance singular.
        """
        count, shapes = weights.size, (means.shape, covariances.shape, weights.shape)
        if shapes != ((count, POSE_NUMBERS), (count, POSE_NUMBERS, POSE_NUMBERS), (count,)) or count == 0:
            raise UserError(f"its means, covariances and weights have the shapes {shapes}; {_REMEDY}")
        if not all(np.isfinite(values).all() for values in (means, covariances, weights)) or (weights <= 0).any():
            raise UserError(f"it holds numbers that are not finite or weights that are not positive; {_REMEDY}")
        try:
            factors = np.linalg.cholesky(covariances)
        except np.linalg.LinAlgError as error:
            raise UserError(f"one of its covariances is not positive definite; {_REMEDY}") from error
        # covariance = L L^T, so that L^-1 (x - mean) is white.
        inverse = np.linalg.inv(factors)
        log_det = 2 * np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(1)
        cost = 0.5 * (log_det - log_det.min()) - np.log(weights)
        whitening = inverse.transpose(2, 0, 1).reshape(POSE_NUMBERS, -1)
        shift = np.einsum("kij,kj->ki", inverse, means).reshape(-1)
        return cls(*(torch.from_numpy(np.ascontiguousarray(v)).float() for v in (means, whitening, shift, cost)))


def load_prior(path: str | Path | None = None) -> PosePrior:
    """The mixture in ``path``: SMPLify's ``gmm_08.pkl`` or an ``.npz``; None means the one that the project ships.

    Raises:
        UserError: the file is missing, damaged, holds something else, or is a pickle that asks for code.
    """
    path = require_file(FREE_PRIOR if path is None else path, "pose prior", _REMEDY)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as content:
                arrays = [content[name].astype(np.float64) for name in ("means", "covars", "weights")]
        else:
            pickled = load_pickle(path, "a pose prior")
            arrays = [to_array(pickled[name]).astype(np.float64) for name in ("means", "covars", "weights")]
    except (KeyError, ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} is damaged or no pose prior ({error}); {_REMEDY}") from error
    try:
        return PosePrior.from_mixture(*arrays)
    except UserError as error:
        raise UserError(f"{path} is no pose prior: {error}") from error


def angle_prior(body_pose: Tensor) -> Tensor:
    """Cost ``[...]`` of elbows and knees bent the wrong way in ``body_pose [..., 69]`` (radians).

    ``sum exp(+-angle)^2`` over the bending angles of both elbows and knees (Bogo et al. 2016, eq. 3).
    """
    indices = [index for index, _ in _ONE_WAY]
    signs = body_pose.new_tensor([sign for _, sign in _ONE_WAY])
    return (2 * signs * body_pose[..., indices]).exp().sum(-1)
