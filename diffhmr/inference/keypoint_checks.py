"""Values of keypoint files: what is mended, with a warning that counts it, and what is refused."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from diffhmr.body.joints import COCO17, H36M17
from diffhmr.errors import UserError
from diffhmr.inference.clear_points import CLEAR_CONFIDENCE
from diffhmr.inference.keypoint_anatomy import legs_exchanged, likely_order, sides_exchanged

log = logging.getLogger(__name__)

_SURE = 1.05  # some detectors go a little over 1
_NORMALISED = 2.0  # no person in pixels is so small
_FAR = 0.5  # of the picture's size beyond its border: nobody is detected there
_FLAGS = (0, 1, 2)
_FARTHEST = 1e6  # pixels


def clean_points(points: NDArray[np.float64], source: str) -> NDArray[np.float64]:
    """Points ``[N, K, 3]`` without values that are not finite or a million pixels away, confidences in [0, 1].

    Points with such a value become unseen (all three numbers 0). COCO's flags of visibility become confidence 1, or 0
    for points that are not labelled. Nothing else is changed: low confidences and outliers are for the model to judge.

    Raises:
        UserError: no point is finite, or all confidences are 0.
    """
    finite = np.asarray(np.isfinite(points).all(axis=-1) & (np.abs(points[..., :2]) < _FARTHEST).all(axis=-1))
    if not finite.any():
        raise UserError(f"{source}: all keypoints are NaN or no pixels: run the detector again")
    if not finite.all():
        count = int((~finite).sum())
        words = "%s: %d of %d keypoints are NaN or no pixels; their confidence is set to 0"
        log.warning(words, source, count, finite.size)
        points = np.where(finite[..., None], points, 0.0)
    confidence = points[..., 2]
    high = float(confidence.max())
    if high <= 0:
        raise UserError(
            f"{source}: all confidences are 0: give the detector's scores, or leave the confidences out of the file"
        )
    if high > _SURE and not np.isin(confidence, _FLAGS).all():
        log.warning("%s: confidences go up to %.3g; those above 1 count as 1", source, high)
    return np.concatenate([points[..., :2], confidence.clip(0, 1)[..., None]], axis=-1)


def check_coordinates(points: NDArray[np.float64], frame_size: tuple[int, int] | None, source: str) -> None:
    """Refuse coordinates that are not pixels of the video; warn of single ones far outside the picture.

    Args:
        points: ``[N, K, 3]`` from :func:`clean_points`.
        frame_size: width and height of the video in pixels, if it is known.
        source: the file, for messages.

    Raises:
        UserError: coordinates are normalised, or most points lie outside the picture.
    """
    clear = points[..., 2] >= min(CLEAR_CONFIDENCE, float(points[..., 2].max()))
    places = points[clear][:, :2]
    low, high = places.min(axis=0), places.max(axis=0)
    if float(np.quantile(np.abs(places), 0.99)) <= _NORMALISED:
        kind = "between 0 and 1" if low.min() >= 0 else "between -1 and 1"
        raise UserError(
            f"{source}: coordinates are {kind}, not pixels: multiply them by the size of the video (OpenPose: "
            "--keypoint_scale 0)"
        )
    if frame_size is None:
        return
    size = np.array(frame_size)
    outside = ((places < -0.5) | (places > size - 0.5)).any(axis=-1)
    if outside.mean() > 0.5:
        raise UserError(
            f"{source}: most keypoints lie outside the picture of {size[0]} x {size[1]} pixels (x {low[0]:.0f} to "
            f"{high[0]:.0f}, y {low[1]:.0f} to {high[1]:.0f}): find them on this video, at its own size"
        )
    far = int(((places < -_FAR * size) | (places > (1 + _FAR) * size)).any(axis=-1).sum())
    if far:
        log.warning(
            "%s: %d of %d keypoints lie far outside the picture of %d x %d pixels; they are kept",
            source, far, len(places), *frame_size,
        )  # fmt: skip


def checked_order(points: NDArray[np.float64], joint_set: str, source: str) -> str:
    """The joint set of the file, or the other one of 17 points if the bodies in it are clearly in that order."""
    if joint_set not in (COCO17.name, H36M17.name):
        return joint_set
    likely = likely_order(points) or joint_set
    if likely != joint_set:
        log.warning("%s: its points are in the order of %s, not %s, and are read so", source, likely, joint_set)
    return likely


def check_sides(points: NDArray[np.float64], joint_set: str, source: str) -> None:
    """Warn if left and right look exchanged; nothing is swapped."""
    sides = sides_exchanged(points, joint_set)
    if sides.clear:
        log.warning(
            "%s: left and right look exchanged: %d of %d people who face the camera have the left shoulder on the "
            "left of the picture; if the overlay confirms it, swap them in the file",
            source, sides.count, sides.of,
        )  # fmt: skip
    legs = legs_exchanged(points, joint_set)
    if legs.clear:
        log.warning(
            "%s: the sides of the legs look exchanged: %d of %d people have the left hip and the left shoulder on "
            "different sides; Human3.6M's order has the right leg first here",
            source, legs.count, legs.of,
        )  # fmt: skip
