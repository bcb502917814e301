"""Where a person is in every frame: translations that put a moving body onto its 2D keypoints, smooth in time.

A point x of the body, moved by t, is seen by a camera of focal length f and principal point c at
``u = c + f (x + t)_xy / (x + t)_z``. With the tangent ``a = (u - c) / f`` this is linear in t:

    t_x - a_x t_z = a_x x_z - x_x        t_y - a_y t_z = a_y x_z - x_y

(as in SPIN, Kolotouros et al., ICCV 2019, for one picture). The equations of all frames are solved at once, weighted
with the confidences, together with a Gaussian prior on the acceleration, ``(t_(i-1) - 2 t_i + t_(i+1)) fps^2``: a
banded system, whose time and memory grow with the number of frames. Frames without keypoints follow from their
neighbours. Four more rounds replace the measured tangents in front of t_z by those of the round before, which makes
the residual that of the picture (Gauss-Newton) and keeps noise from pulling people closer, and weigh outliers down
(Geman and McClure).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded
from scipy.ndimage import median_filter

from diffhmr.inference.clear_points import FEW_POINTS, clear_points

Floats = NDArray[np.float64]

_OUTLIER_STEPS = (4.0, 2.0, 1.0, 1.0)
"""One for each round: what counts as an outlier narrows down, so that a wrong start is left."""
_ANCHOR = 1e-6  # 1/m^2 towards the first guess: it decides only where nothing else does
_MEDIAN_SECONDS = 1.0
_DEPTH_RANGE = 2.0  # a depth may differ by this factor from what the person's size says
_BAND = 6  # unknowns between those that an equation joins: two frames of three


@dataclass(frozen=True)
class Pinhole:
    """A camera without distortion.

    Attributes:
        focal: in pixels.
        centre: principal point x, y in pixels.
    """

    focal: float
    centre: tuple[float, float]

    def project(self, points: Floats) -> Floats:
        """Pixels ``[..., 2]`` of ``points [..., 3]`` before the camera, metres."""
        return self.focal * points[..., :2] / np.maximum(points[..., 2:], 1e-3) + np.array(self.centre)


@dataclass(frozen=True)
class TrackPrior:
    """What is known before looking at the keypoints.

    Attributes:
        point_error: standard deviation in metres, at the person, of a keypoint with confidence 1 from the body's
            joint: errors of the detector and, mostly, of the pose.
        acceleration: standard deviation in m/s^2 of a person's x, y and z.
        outlier: distance in metres beyond which a keypoint counts for less than a quarter.
        longest_gap: seconds without keypoints that are bridged smoothly; longer ones linearly.
    """

    point_error: float = 0.05
    acceleration: tuple[float, float, float] = (6.0, 6.0, 3.0)
    outlier: float = 0.2
    longest_gap: float = 2.0


def fit_translations(
    joints: Floats, keypoints: Floats, camera: Pinhole, fps: float, prior: TrackPrior | None = None
) -> Floats:
    """Translations ``[T, 3]`` in metres that put the joints of a moving body onto keypoints.

    Args:
        joints: ``[T, K, 3]`` metres, turned as seen by the camera, but not moved.
        keypoints: ``[T, K, 3]`` pixels x, y and confidence, 0 where a point is unseen; a frame may have none.
        camera: of the picture.
        fps: frames per second.
        prior: of noise and movement.

    Raises:
        ValueError: no frame has two keypoints.
    """
    prior = prior or TrackPrior()
    tangents = (keypoints[..., :2] - np.array(camera.centre)) / camera.focal
    weight = keypoints[..., 2]
    guess = _first_guess(joints, tangents, weight, fps)
    rows = np.flatnonzero((weight > 0).any(axis=1))
    pieces = np.split(rows, np.flatnonzero(np.diff(rows) > prior.longest_gap * fps) + 1)
    known, found = [], []
    for piece in pieces:
        span = slice(piece[0], piece[-1] + 1)
        known.append(np.arange(piece[0], piece[-1] + 1))
        found.append(_fit_piece(joints[span], tangents[span], weight[span], guess[span], fps, prior))
    return _interpolated(len(joints), np.concatenate(known), np.concatenate(found))


def tells_size(keypoints: Floats) -> bool:
    """Whether keypoints ``[T, K, 3]`` have two points at different places in a frame, as a person's distance needs."""
    use = clear_points(keypoints[..., 2])
    several = use.sum(axis=1) >= 2
    _, spread = _middle_and_spread(keypoints[several, :, :2], use[several, :, None])
    return bool((spread > 0).any())


def reprojection_errors(joints: Floats, transl: Floats, keypoints: Floats, camera: Pinhole) -> Floats:
    """Mean distance ``[T]`` in pixels of joints from keypoints, weighted with the confidences; NaN without keypoints.

    Args:
        joints: ``[T, K, 3]`` as for :func:`fit_translations`.
        transl: ``[T, 3]``.
        keypoints: ``[T, K, 3]``.
        camera: of the picture.
    """
    pixels = camera.project(joints + transl[:, None])
    distance = np.linalg.norm(pixels - keypoints[..., :2], axis=-1)
    weight = keypoints[..., 2]
    total = weight.sum(axis=1)
    mean = (weight * distance).sum(axis=1) / np.maximum(total, 1e-9)
    return np.where(total > 0, mean, np.nan)


def _fit_piece(
    joints: Floats, tangents: Floats, weight: Floats, guess: Floats, fps: float, prior: TrackPrior
) -> Floats:
    """Translations of frames without a long gap."""
    smooth = _acceleration_band(len(joints), fps, prior)
    shares = weight / prior.point_error**2
    off = tangents * (joints[..., 2:] + guess[:, None, 2:]) - joints[..., :2] - guess[:, None, :2]
    trust = _trust(off, weight, _OUTLIER_STEPS[0] * prior.outlier)
    transl = _solve(shares * trust, tangents, tangents * joints[..., 2:] - joints[..., :2], guess, smooth)
    for step in _OUTLIER_STEPS:
        transl = _limited(transl, guess)
        moved = joints + transl[:, None]
        distance = np.maximum(moved[..., 2:], 0.1)
        seen = moved[..., :2] / distance
        residual = distance * (seen - tangents)
        target = transl[:, None, :2] - seen * transl[:, None, 2:] - residual
        transl = _solve(shares * _trust(residual, weight, step * prior.outlier), seen, target, guess, smooth)
    return _limited(transl, guess)


def _trust(residual: Floats, weight: Floats, scale: float) -> Floats:
    """Weights ``[T, K]`` of points that are ``residual [T, K, 2]`` metres off, a quarter at ``scale``.

    A body that fits badly as a whole is not put aside: the scale is at least twice the median residual of seen points.
    """
    squares = (residual**2).sum(-1)
    scale = max(scale, 2 * float(np.sqrt(np.median(squares[weight > 0]))))
    return np.asarray((1 + squares / scale**2) ** -2.0)


def _limited(transl: Floats, guess: Floats) -> Floats:
    """Distances within a factor of what the person's size says: no way leads back from behind the camera.

    Whoever is moved is moved along the ray to the person and so stays in its place in the picture.
    """
    depth = transl[:, 2:].clip(guess[:, 2:] / _DEPTH_RANGE, guess[:, 2:] * _DEPTH_RANGE)
    return transl + guess / guess[:, 2:] * (depth - transl[:, 2:])


def _solve(weight: Floats, slopes: Floats, target: Floats, guess: Floats, smooth: Floats) -> Floats:
    """The t ``[T, 3]`` with least ``sum weight |t_xy - slopes t_z - target|^2`` + the prior's ``t smooth t``.

    Args:
        weight: ``[T, K]``.
        slopes: ``[T, K, 2]``.
        target: ``[T, K, 2]`` metres.
        guess: ``[T, 3]`` where t is if nothing else says it.
        smooth: ``[7, 3 T]`` lower band of the prior's matrix.
    """
    frames = len(weight)
    share = weight[..., None]
    band = smooth.copy()
    total = weight.sum(axis=1)
    columns = 3 * np.arange(frames)
    for axis in range(2):
        band[0, columns + axis] += total
        band[2 - axis, columns + axis] -= (share[..., 0] * slopes[..., axis]).sum(axis=1)
    band[0, columns + 2] += (share * slopes**2).sum(axis=(1, 2))
    band[0] += _ANCHOR
    right = _ANCHOR * guess
    right[:, :2] += (share * target).sum(axis=1)
    right[:, 2] -= (share * slopes * target).sum(axis=(1, 2))
    solved: Floats = solveh_banded(band, right.ravel(), lower=True).reshape(frames, 3)
    return solved


def _acceleration_band(frames: int, fps: float, prior: TrackPrior) -> Floats:
    """``[7, 3 T]`` lower band of the matrix of the prior on accelerations; row 3 d joins frames d apart."""
    band = np.zeros((_BAND + 1, frames, 3))
    stiffness = (fps**2 / np.array(prior.acceleration)) ** 2
    stencil = (1.0, -2.0, 1.0)
    inner = max(frames - 2, 0)
    for first in range(3):
        for second in range(first, 3):
            band[3 * (second - first), first : first + inner] += stencil[first] * stencil[second] * stiffness
    return band.reshape(_BAND + 1, 3 * frames)


def _first_guess(joints: Floats, tangents: Floats, weight: Floats, fps: float) -> Floats:
    """Translations ``[T, 3]`` that make the body as large in the picture as the keypoints are, and put it there.

    Medians over the points and, for the distance, over a second make it sturdy. Frames without keypoints lie between
    their neighbours.

    Raises:
        ValueError: no frame has two keypoints at different places.
    """
    use = clear_points(weight)
    rows = np.flatnonzero(use.any(axis=1))
    body, points, use = joints[rows, :, :2], tangents[rows], use[rows, :, None]
    (body_middle, large), (middle, seen) = (_middle_and_spread(values, use) for values in (body, points))
    counts = use.sum(axis=(1, 2))
    for fewest in (FEW_POINTS, 2):
        sized = (counts >= fewest) & (seen > 0) & (large > 0)
        if sized.any():
            break
    else:
        raise ValueError("no frame has two keypoints at different places")
    width = min(round(_MEDIAN_SECONDS * fps), int(sized.sum())) // 2 * 2 + 1
    smoothed = median_filter(large[sized] / seen[sized], width, mode="nearest")
    depth = np.interp(rows, rows[sized], smoothed)
    places = np.concatenate([middle * depth[:, None] - body_middle, depth[:, None]], axis=1)
    return _interpolated(len(joints), rows, places)


def _middle_and_spread(points: Floats, use: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Median ``[N, 2]`` of the used points of ``[N, K, 2]``, and the length ``[N]`` of their median deviations."""
    chosen = np.where(use, points, np.nan)
    middle = np.nanmedian(chosen, axis=1)
    deviation = np.nanmedian(np.abs(chosen - middle[:, None]), axis=1)
    return middle, np.linalg.norm(deviation, axis=-1)


def _interpolated(count: int, rows: NDArray[np.int64], values: Floats) -> Floats:
    """``[count, C]`` from ``values [N, C]`` at ascending ``rows [N]``, linear between them, constant at the ends."""
    everywhere = np.arange(count)
    return np.stack([np.interp(everywhere, rows, column) for column in values.T], axis=1)
