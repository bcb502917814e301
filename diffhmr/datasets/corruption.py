"""What MotionBERT is pretrained to undo: points that are moved as by a detector, and hidden joints and frames.

Zhu et al., "MotionBERT: A Unified Perspective on Learning Human Motion Representations", ICCV 2023, section 3.2 and the
official code. Between key frames a displacement goes on linearly; at those it comes, joint by joint, from a mixture of
a normal and a uniform distribution. The official code draws key frames, trembling and hidden frames once for all clips
of a batch; here each clip has its own, a pure function of its seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from diffhmr.datasets.keypoints import RELATIVE_SIGMA
from diffhmr.random import Floats, Seeds, Stream, normals, uniforms

_FRAMES_PER_KEY = 243 / 27
_MIN_BOX = 1e-6


@dataclass(frozen=True, eq=False)
class PointNoise:
    """A mixture per joint of H36M-17.

    The official parameters belong to a detector on Human3.6M and are in files of MotionBERT, which
    :mod:`diffhmr.datasets.official_noise` reads. Those of :data:`NOISE` are this project's: they follow how far apart
    the annotators of COCO click.

    Attributes:
        unit: of all lengths, d included. ``box``: shares of the person's box, so that large people are moved farther.
            ``picture``: the unit of the keypoints, whoever is seen.
        normal: ``[17]`` share of displacements from the normal distribution; the others are uniform.
        mean: ``[17, 2]`` of the normal distribution.
        deviation: ``[17, 2]`` of the normal distribution.
        width: of the square of uniform displacements.
        tremble: standard deviation of what comes to it in every frame.
        half_distance: a, in the confidence ``a / (d + a) + b d + N(m, s)`` of a point that was moved by d.
        slope: b.
        confidence_mean: m.
        confidence_deviation: s.
    """

    normal: Floats
    mean: Floats
    deviation: Floats
    width: float = 0.06
    tremble: float = 0.002
    half_distance: float = 0.06
    slope: float = 0.0
    confidence_mean: float = 0.0
    confidence_deviation: float = 0.05
    unit: Literal["box", "picture"] = "box"


def _default_noise() -> PointNoise:
    # COCO: nose, eyes, ears, shoulders, elbows, wrists, hips, knees, ankles; the trunk lies between hips and shoulders.
    sigma = dict(zip(("nose", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"),
                     RELATIVE_SIGMA[[0, 5, 7, 9, 11, 13, 15]], strict=True))  # fmt: skip
    leg = [sigma["hip"], sigma["knee"], sigma["ankle"]]
    arm = [sigma["shoulder"], sigma["elbow"], sigma["wrist"]]
    trunk = [(sigma["hip"] + sigma["shoulder"]) / 2, sigma["shoulder"], sigma["nose"], sigma["nose"]]
    relative = np.array([sigma["hip"], *leg, *leg, *trunk, *arm, *arm])
    deviation = 0.012 * relative[:, None] * np.ones(2)
    return PointNoise(np.full(17, 0.9), np.zeros((17, 2)), deviation)


NOISE = _default_noise()
"""Displacements of about 1 % of the box where annotators agree on average, one in ten of them within 3 % anywhere.

All of it is this project's but for width and tremble, whose numbers are the official ones, in another unit. Official
values of the confidence are a 0.028, b 1.1, m -0.00459 and s 0.1431 in halves of a picture.
"""


@dataclass(frozen=True)
class Corruption:
    """What is done to clips.

    Attributes:
        noise: how points are moved; None: they stay, with the confidence they have.
        mask_joint: share of (joint, frame) hidden.
        mask_frame: share of frames hidden.
    """

    noise: PointNoise | None = NOISE
    mask_joint: float = 0.05
    mask_frame: float = 0.1


def corrupt(
    keypoints: Floats, seeds: Seeds, corruption: Corruption, detected: NDArray[np.bool_] | None = None
) -> Floats:
    """What is left of ``keypoints [B, T, 17, 3]``, x, y and confidence; hidden points are 0.

    Args:
        keypoints: unseen points have confidence 0 and stay unseen.
        seeds: ``[B]``; everything random in a clip follows from its own.
        detected: ``[B]`` clips whose points have errors already, and are not moved; None: there are none.
    """
    result = keypoints.copy() if corruption.noise is None else _moved(keypoints, seeds, corruption.noise)
    if detected is not None:
        result[detected] = keypoints[detected]
    size, frames, joints = keypoints.shape[:3]
    uniform = uniforms(seeds, Stream.CORRUPTION_MASK_JOINT, frames * joints).reshape(size, frames, joints)
    hidden = uniform < corruption.mask_joint
    hidden |= (uniforms(seeds, Stream.CORRUPTION_MASK_FRAME, frames) < corruption.mask_frame)[..., None]
    hidden |= keypoints[..., 2] <= 0
    result[hidden] = 0
    return result


def box_sides(keypoints: Floats) -> Floats:
    """``[B]``: the longer side of the box around the seen points of ``[B, T, K, 3]``, median over the frames.

    0 of clips without two seen points in any frame.
    """
    seen = keypoints[..., 2:] > 0
    low = np.where(seen, keypoints[..., :2], np.inf).min(axis=2)
    high = np.where(seen, keypoints[..., :2], -np.inf).max(axis=2)
    side = np.where(seen.any(axis=2), high - low, -1.0).max(axis=-1)  # [B, T]
    return np.array([np.median(one[one > 0]) if (one > 0).any() else 0.0 for one in side])


def _moved(keypoints: Floats, seeds: Seeds, noise: PointNoise) -> Floats:
    size, frames, joints = keypoints.shape[:3]
    shift = _shift(seeds, frames, noise)
    tremble = normals(seeds, Stream.CORRUPTION_TREMBLE, frames * joints * 2).reshape(size, frames, joints, 2)
    shift += noise.tremble * tremble
    distance = np.linalg.norm(shift, axis=-1)
    doubt = normals(seeds, Stream.CORRUPTION_CONFIDENCE, frames * joints).reshape(size, frames, joints)
    confidence = noise.half_distance / (distance + noise.half_distance) + noise.slope * distance
    confidence = np.clip(confidence + noise.confidence_mean + noise.confidence_deviation * doubt, 0.0, 1.0)
    box = np.maximum(box_sides(keypoints), _MIN_BOX)[:, None, None, None]
    xy = keypoints[..., :2] + (box * shift if noise.unit == "box" else shift)
    return np.concatenate([xy, (keypoints[..., 2] * confidence)[..., None]], axis=-1)


def _shift(seeds: Seeds, frames: int, noise: PointNoise) -> Floats:
    """Displacements ``[B, T, 17, 2]``: drawn at key frames, linear between them."""
    size, joints = len(seeds), len(noise.normal)
    keys = max(2, round(frames / _FRAMES_PER_KEY))
    kind = uniforms(seeds, Stream.CORRUPTION_KIND, keys * joints * 3).reshape(size, keys, joints, 3)
    normal = normals(seeds, Stream.CORRUPTION_SHIFT, keys * joints * 2).reshape(size, keys, joints, 2)
    uniform = noise.width * (kind[..., 1:] - 0.5)
    drawn = np.where(kind[..., :1] < noise.normal[:, None], noise.mean + noise.deviation * normal, uniform)
    place = np.linspace(0, keys - 1, frames)
    before = np.minimum(place.astype(np.int64), keys - 2)
    share: NDArray[np.float64] = (place - before)[:, None, None]
    return np.asarray((1 - share) * drawn[:, before] + share * drawn[:, before + 1])
