"""What a 2D keypoint detector, or a person who annotates photographs, reports of the 17 COCO points of a body.

A model trained on exact projections meets something else on photographs: points that are off, more at the hips than at
the eyes; missing points, limbs and halves; exchanged sides; hidden points that are guessed or left out; confidences
that say something, or nothing. Everything here is a pure function of the item seeds.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.config import KeypointNoiseConfig
from diffhmr.random import Floats, Seeds, Stream, normals, pick, uniforms

NUM_POINTS = 17
CLEAN_SHARE = 0.12
"""Share of people whose seen points are exact."""
ANNOTATED_SHARE = 0.4
"""Share of people reported as annotations are: confidence 1 or nothing."""

# COCO's per-keypoint deviations of human annotators (the constants of OKS), which are also where detectors err.
_SIGMA = np.array([26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89]) / 1000
RELATIVE_SIGMA = _SIGMA / np.sqrt(np.mean(_SIGMA**2))
_SWAPPED = np.array([0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15])
# Left point, the left point towards which it is moved, mean and standard deviation of the share of the way: shoulders
# down the trunk, elbows and wrists along the arm, knees down and ankles up the shank.
_ALONG = ((5, 11, 0.02, 0.04), (7, 9, 0.0, 0.05), (9, 7, 0.02, 0.05), (13, 15, 0.02, 0.05), (15, 13, 0.04, 0.05))
_LEFT_HIP, _RIGHT_HIP, _LEFT_SHOULDER, _RIGHT_SHOULDER = 11, 12, 5, 6
# What gets lost together, with relative frequency.
_LIMBS: tuple[tuple[float, tuple[int, ...]], ...] = (
    (1.0, (7, 9)),
    (1.0, (8, 10)),
    (0.5, (5, 7, 9)),
    (0.5, (6, 8, 10)),
    (1.0, (13, 15)),
    (1.0, (14, 16)),
    (0.4, (11, 13, 15)),
    (0.4, (12, 14, 16)),
    (1.2, (15, 16)),
    (1.6, (13, 14, 15, 16)),
    (1.0, (11, 12, 13, 14, 15, 16)),
    (1.4, (0, 1, 2, 3, 4)),
    (0.6, (9, 10)),
    (0.3, (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)),
    (0.3, (5, 7, 9, 11, 13, 15)),
    (0.3, (6, 8, 10, 12, 14, 16)),
)
LIMB_WEIGHTS = [weight for weight, _ in _LIMBS]
LIMB_MASKS = np.array([[point in points for point in range(NUM_POINTS)] for _, points in _LIMBS])
# All sides, arms only, legs only, the face only, or one pair (knees and ankles, wrists).
SWAP_WEIGHTS = (0.3, 0.15, 0.25, 0.1, 0.2)
SWAP_MASKS = np.array(
    [[point in points for point in range(NUM_POINTS)]
     for points in (range(17), range(5, 11), range(11, 17), range(1, 5), range(13, 17))]
)  # fmt: skip


def corrupt_keypoints(
    points: Tensor,
    visible: Tensor,
    item_seeds: Seeds,
    settings: KeypointNoiseConfig,
    inside: Tensor | None = None,
    clicked: bool = False,
) -> Tensor:
    """Detector-like keypoints ``[B, 17, 3]`` (float32; x, y, confidence; all 0 when unseen).

    Before all noise, points are moved from the joints' centres to where annotators put them, by amounts that differ
    from person to person (not if they are ``clicked`` or ``settings.jitter`` is 0). Points outside the crop, before or
    after the noise, are unseen.

    Args:
        points: ``[B, 17, 2]`` true positions in crop coordinates.
        visible: ``[B, 17]`` bool.
        item_seeds: ``[B]`` int64.
        settings: how much of everything.
        inside: ``[B, 17]`` bool, points that the photograph contains; those outside are never reported. None: all that
            lie in the crop.
        clicked: the points lie where annotators put them already.
    """
    truth = points.double().numpy()
    seen = visible.numpy()
    in_crop = (np.abs(truth) <= 1).all(-1)
    inside_photo = in_crop if inside is None else in_crop & inside.numpy()
    person = uniforms(item_seeds, Stream.KEYPOINT_PERSON, 4)
    clean, annotated = person[:, 0] < CLEAN_SHARE, person[:, 1] < ANNOTATED_SHARE

    centre = truth if clicked or settings.jitter == 0 else clicked_points(truth, item_seeds)
    moved, error = _moved(centre, seen, item_seeds, settings)
    kept = _kept(seen, annotated, item_seeds, settings)
    where = np.where(clean[:, None, None], truth, moved)
    error = np.where(clean[:, None], 0.0, error)
    kept = np.where(clean[:, None], seen, kept) & inside_photo
    happens = np.where(clean, 1.0, person[:, 2])
    where, kept, error = _swapped(where, kept, error, happens, person[:, 3], settings)
    kept &= (np.abs(where) <= 1).all(-1)
    confidence = _confidence(error, seen, annotated, item_seeds)
    result = np.concatenate([where, confidence[..., None]], axis=-1) * kept[..., None]
    return torch.from_numpy(result.astype(np.float32))


def clicked_points(points: Floats, seeds: Seeds) -> Floats:
    """``points [B, 17, 2]`` where annotators of this person would put them.

    SMPL's hips are the centres of the joints; COCO's annotators click on the outside of the pelvis, often near the
    belt: 12 % of half the distance of the hips outwards, 5 % of the trunk's length up, in the mean. The other points of
    the limbs lie along their bones by ``_ALONG`` (mean and standard deviation in bone lengths), which also covers
    proportions that the body model lacks. Both sides of a person are moved alike.
    """
    normal = normals(seeds, Stream.KEYPOINT_CLICKED, 2 + len(_ALONG))
    outward = np.clip(0.12 + 0.16 * normal[:, 0], -0.3, 0.6)[:, None]
    upward = np.clip(0.05 + 0.06 * normal[:, 1], -0.12, 0.22)[:, None]
    left, right = points[:, _LEFT_HIP], points[:, _RIGHT_HIP]
    half = (left - right) / 2
    torso = (points[:, _LEFT_SHOULDER] + points[:, _RIGHT_SHOULDER] - left - right) / 2
    result = points.copy()
    result[:, _LEFT_HIP] = left + outward * half + upward * torso
    result[:, _RIGHT_HIP] = right - outward * half + upward * torso
    for k, (point, towards, mean, deviation) in enumerate(_ALONG):
        share = (mean + deviation * np.clip(normal[:, 2 + k], -2.5, 2.5))[:, None]
        for side in (0, 1):
            result[:, point + side] += share * (points[:, towards + side] - points[:, point + side])
    return result


def _moved(
    points: Floats, seen: NDArray[np.bool_], seeds: Seeds, settings: KeypointNoiseConfig
) -> tuple[Floats, Floats]:
    """Jitter and outliers: moved points ``[B, 17, 2]`` and by how much they were moved ``[B, 17]``."""
    normal = normals(seeds, Stream.KEYPOINT_JITTER, 4 * NUM_POINTS + 1)
    # Crop coordinates are half box sides, hence the 2. Some people are hard, some points of a person are.
    person = 2 * settings.jitter * np.exp(0.6 * np.clip(normal[:, -1:], -2.0, 2.5))
    point = np.exp(0.4 * np.clip(normal[:, 2 * NUM_POINTS : 3 * NUM_POINTS], -2.5, 2.5))
    scale = person * point * RELATIVE_SIGMA * np.where(seen, 1.0, 2.5)
    jitter = scale[..., None] * np.clip(normal[:, : 2 * NUM_POINTS], -3.5, 3.5).reshape(-1, NUM_POINTS, 2)
    moved = points + jitter
    uniform = uniforms(seeds, Stream.KEYPOINT_OUTLIER, 4 * NUM_POINTS).reshape(-1, NUM_POINTS, 4)
    # An outlier is another point of the person, or anywhere.
    other = (uniform[..., 1] * NUM_POINTS).astype(np.int64)
    elsewhere = np.take_along_axis(points, other[..., None], axis=1) + jitter
    elsewhere = np.where((uniform[..., 3] < 0.6)[..., None], elsewhere, 2 * uniform[..., 1:3] - 1)
    outlier = uniform[..., 0] < settings.outlier
    moved = np.where(outlier[..., None], elsewhere, moved)
    return moved, np.linalg.norm(moved - points, axis=-1)


def _kept(
    seen: NDArray[np.bool_], annotated: NDArray[np.bool_], seeds: Seeds, settings: KeypointNoiseConfig
) -> NDArray[np.bool_]:
    """``[B, 17]`` which points are reported at all."""
    uniform = uniforms(seeds, Stream.KEYPOINT_DROP, 2 * NUM_POINTS + 4)
    # Annotators label or leave out all hidden points of a person alike; detectors decide point by point.
    hidden_lost = uniform[:, :NUM_POINTS] < settings.drop_hidden
    alike = uniform[:, 2 * NUM_POINTS : 2 * NUM_POINTS + 1] < settings.drop_hidden
    hidden_lost = np.where(annotated[:, None], alike, hidden_lost)
    # The share of lost points is that of the average person: half lose none, the others twice as many.
    proneness = 2 * np.maximum(-np.log(2 * uniform[:, 2 * NUM_POINTS + 1 : 2 * NUM_POINTS + 2]), 0.0)
    single_lost = uniform[:, NUM_POINTS : 2 * NUM_POINTS] < np.minimum(settings.drop_point * proneness, 0.8)
    limb = LIMB_MASKS[pick(uniform[:, 2 * NUM_POINTS + 2], LIMB_WEIGHTS)]
    limb_lost = limb & (uniform[:, 2 * NUM_POINTS + 3 :] < settings.drop_limb)
    kept: NDArray[np.bool_] = ~single_lost & ~limb_lost & (seen | ~hidden_lost)
    return kept


def _swapped(
    points: Floats,
    kept: NDArray[np.bool_],
    error: Floats,
    happens: Floats,
    which: Floats,
    settings: KeypointNoiseConfig,
) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Exchange left and right, of everything or of a part, for a share of the people."""
    mask = SWAP_MASKS[pick(which, SWAP_WEIGHTS)] & (happens < settings.swap)[:, None]
    return (
        np.where(mask[..., None], points[:, _SWAPPED], points),
        np.where(mask, kept[:, _SWAPPED], kept),
        np.where(mask, error[:, _SWAPPED], error),
    )


def _confidence(error: Floats, seen: NDArray[np.bool_], annotated: NDArray[np.bool_], seeds: Seeds) -> Floats:
    """``[B, 17]`` confidence: high for small errors and seen points, with noise; 1 for annotations."""
    normal = normals(seeds, Stream.KEYPOINT_CONFIDENCE, NUM_POINTS + 1)
    logit = 3.0 - 18.0 * error + 0.8 * normal[:, :NUM_POINTS] + 0.7 * normal[:, NUM_POINTS:] - np.where(seen, 0.0, 2.2)
    detected = np.clip(1 / (1 + np.exp(-logit)), 0.05, 1.0)
    return np.where(annotated[:, None], 1.0, detected)
