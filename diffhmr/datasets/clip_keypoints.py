"""What a 2D detector reports of a person through a video.

As in :mod:`diffhmr.datasets.keypoints`, but in time: points drift as well as tremble; lost points, limbs and frames,
outliers and exchanged sides come in runs of frames. Everything is a pure function of the clips' seeds, and more frames
continue what fewer began.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve1d
from scipy.special import ndtri

from diffhmr.body.joints import HALPE26, extended
from diffhmr.config_clips import ClipNoiseConfig
from diffhmr.datasets.keypoints import (
    LIMB_MASKS,
    LIMB_WEIGHTS,
    RELATIVE_SIGMA,
    SWAP_MASKS,
    SWAP_WEIGHTS,
    clicked_points,
)
from diffhmr.random import Floats, Seeds, Stream, normals, pick, uniforms

DETECTED = extended(None, HALPE26.joint_names[:20])
"""The points that are detected: those of COCO, then the top of the head, the neck and the pelvis, as in Halpe-26."""

_COUNT = len(DETECTED)
_CLEAN_SHARE = 0.1
_ANNOTATED_SHARE = 0.15
_MORE_SIGMA = (0.9, 1.0, 1.1)  # of the points that COCO does not have, relative to the mean of its points
_SIGMA = np.concatenate([RELATIVE_SIGMA, _MORE_SIGMA])
_SLOW, _QUICK = 0.75, 0.66
"""Shares of the drifting and of the trembling part in the deviation of a point; their squares add up to 1."""
_DRIFT_FRAMES = 5.0
_RUN_FRAMES = 4.0
_LONG_RUN_FRAMES = 9.0
_FLIP = np.array(DETECTED.flip)


@dataclass(frozen=True)
class Seen:
    """What there is to detect in B clips of T frames.

    Attributes:
        points: ``[B, T, 20, 2]`` true positions of :data:`DETECTED` in picture coordinates.
        visible: ``[B, T, 20]`` bool, neither hidden nor outside the picture.
        inside: ``[B, T, 20]`` bool, in the picture.
        half_side: ``[B]``, of the person's box.
        seeds: ``[B]``.
    """

    points: Floats
    visible: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    half_side: Floats
    seeds: Seeds


def detect(seen: Seen, settings: ClipNoiseConfig) -> Floats:
    """``[B, T, 20, 3]`` x, y and confidence; all 0 where a point is not reported."""
    person = uniforms(seen.seeds, Stream.CLIP_DETECTOR, 2)
    clean = (person[:, 0] < _CLEAN_SHARE)[:, None, None]
    annotated = (person[:, 1] < _ANNOTATED_SHARE)[:, None, None]
    points = seen.points if settings.jitter == 0 else _clicked(seen)
    moved = points + _jitter(seen, settings)
    outlier, place = _outliers(seen, points, settings)
    moved = np.where(outlier[..., None], place, moved)
    error = np.linalg.norm(moved - points, axis=-1) / seen.half_side[:, None, None]
    where = np.where(clean[..., None], seen.points, moved)
    kept = np.where(clean, seen.visible, _kept(seen, settings)) & seen.inside
    error = np.where(clean, 0.0, error)
    confidence = _confidence(seen, error, annotated)
    swapped = _swapped(seen.seeds, seen.points.shape[1], settings) & ~clean
    where = np.where(swapped[..., None], where[:, :, _FLIP], where)
    kept = np.where(swapped, kept[:, :, _FLIP], kept)
    confidence = np.where(swapped, confidence[:, :, _FLIP], confidence)
    return np.concatenate([where, confidence[..., None]], axis=-1) * kept[..., None]


def _clicked(seen: Seen) -> Floats:
    """COCO's points where annotators put them: the same offset through a clip."""
    frames = seen.points.shape[1]
    coco = seen.points[:, :, :17].reshape(-1, 17, 2)
    moved = clicked_points(coco, np.repeat(seen.seeds, frames)).reshape(len(seen.seeds), frames, 17, 2)
    return np.concatenate([moved, seen.points[:, :, 17:]], axis=2)


def _jitter(seen: Seen, settings: ClipNoiseConfig) -> Floats:
    """Displacements ``[B, T, 20, 2]``. Some people are hard, some points of a person are, hidden ones always."""
    size, frames = seen.points.shape[:2]
    factors = normals(seen.seeds, Stream.CLIP_SCALE, 1 + _COUNT)
    person = 2 * settings.jitter * np.exp(0.6 * np.clip(factors[:, 0], -2.0, 2.5))
    point = np.exp(0.4 * np.clip(factors[:, 1:], -2.5, 2.5)) * _SIGMA
    scale = (person * seen.half_side)[:, None, None] * point[:, None] * np.where(seen.visible, 1.0, 2.5)
    slow = smooth_normals(seen.seeds, Stream.CLIP_JITTER_SLOW, frames, 2 * _COUNT, _DRIFT_FRAMES)
    quick = normals(seen.seeds, Stream.CLIP_JITTER, frames * 2 * _COUNT).reshape(size, frames, -1)
    both = np.clip(_SLOW * slow + _QUICK * quick, -3.5, 3.5).reshape(size, frames, _COUNT, 2)
    return scale[..., None] * both


def _outliers(seen: Seen, points: Floats, settings: ClipNoiseConfig) -> tuple[NDArray[np.bool_], Floats]:
    """Which points ``[B, T, 20]`` are somewhere else, and where: at another point of the person, or in its box."""
    size, frames = points.shape[:2]
    happens = _runs(seen.seeds, Stream.CLIP_OUTLIER, frames, _COUNT, _RUN_FRAMES, np.full(size, settings.outlier))
    uniform = uniforms(seen.seeds, Stream.CLIP_OUTLIER_PLACE, 4 * _COUNT).reshape(size, 1, _COUNT, 4)
    other = (uniform[..., 1] * _COUNT).astype(np.int64)
    elsewhere = np.take_along_axis(points, other[..., None], axis=2)
    middle = points.mean(axis=2, keepdims=True)
    anywhere = middle + (2 * uniform[..., 1:3] - 1) * seen.half_side[:, None, None, None]
    return happens, np.where(uniform[..., 3:] < 0.6, elsewhere, anywhere)


def _kept(seen: Seen, settings: ClipNoiseConfig) -> NDArray[np.bool_]:
    """``[B, T, 20]``: which points are reported at all."""
    size, frames = seen.points.shape[:2]
    uniform = uniforms(seen.seeds, Stream.CLIP_KEPT, 4)
    # A share is that of the average clip: half lose nothing, the others twice as much.
    prone = 2 * np.maximum(-np.log(2 * uniform[:, :3]), 0.0)
    seeds = seen.seeds
    point = np.minimum(settings.drop_point * prone[:, 0], 0.6)
    lost = _runs(seeds, Stream.CLIP_DROP_POINT, frames, _COUNT, _RUN_FRAMES, point)
    limb = np.minimum(settings.drop_limb * prone[:, 1], 0.6)
    limbs = _runs(seeds, Stream.CLIP_DROP_LIMB, frames, 1, _LONG_RUN_FRAMES, limb)
    which = LIMB_MASKS[pick(uniform[:, 3], LIMB_WEIGHTS)]
    lost[..., :17] |= limbs & which[:, None]
    frame = np.minimum(settings.drop_frame * prone[:, 2], 0.5)
    lost |= _runs(seeds, Stream.CLIP_DROP_FRAME, frames, 1, _RUN_FRAMES, frame)
    hidden = _runs(
        seeds, Stream.CLIP_DROP_HIDDEN, frames, _COUNT, _LONG_RUN_FRAMES, np.full(size, settings.drop_hidden)
    )
    # Neck, pelvis and head are found from what is around them.
    lost[..., 18] |= lost[..., 5] & lost[..., 6]
    lost[..., 19] |= lost[..., 11] & lost[..., 12]
    lost[..., 17] |= lost[..., :5].all(-1)
    kept: NDArray[np.bool_] = ~lost & (seen.visible | ~hidden)
    return kept


def _swapped(seeds: Seeds, frames: int, settings: ClipNoiseConfig) -> NDArray[np.bool_]:
    """``[B, T, 20]``: points that are reported as those of the other side."""
    uniform = uniforms(seeds, Stream.CLIP_SWAP, 3)
    share = np.minimum(settings.swap * 2 * np.maximum(-np.log(2 * uniform[:, 0]), 0.0), 0.5)
    happens = _runs(seeds, Stream.CLIP_SWAP_RUN, frames, 1, _RUN_FRAMES, share)
    mask = np.zeros((len(seeds), _COUNT), bool)
    mask[:, :17] = SWAP_MASKS[pick(uniform[:, 1], SWAP_WEIGHTS)]
    return happens & mask[:, None]


def _confidence(seen: Seen, error: Floats, annotated: NDArray[np.bool_]) -> Floats:
    """``[B, T, 20]``: high for small errors and seen points, with noise; 1 for annotations."""
    size, frames = error.shape[:2]
    normal = smooth_normals(seen.seeds, Stream.CLIP_CONFIDENCE, frames, _COUNT, 2.0)
    person = normals(seen.seeds, Stream.CLIP_CONFIDENCE_PERSON, 1).reshape(size, 1, 1)
    logit = 3.0 - 18.0 * error + 0.8 * normal + 0.7 * person - np.where(seen.visible, 0.0, 2.2)
    detected = np.clip(1 / (1 + np.exp(-logit)), 0.05, 1.0)
    return np.where(annotated, 1.0, detected)


def smooth_normals(seeds: Seeds, stream: int, frames: int, channels: int, width: float) -> Floats:
    """``[B, frames, channels]`` normal numbers that change over ``width`` frames: white ones under a Gaussian."""
    reach = int(np.ceil(3 * width))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    kernel /= np.sqrt((kernel**2).sum())
    white = normals(seeds, stream, (frames + 2 * reach) * channels).reshape(len(seeds), -1, channels)
    smooth: Floats = convolve1d(white, kernel, axis=1, mode="constant")[:, reach : reach + frames]
    return smooth


def _runs(seeds: Seeds, stream: int, frames: int, channels: int, width: float, share: Floats) -> NDArray[np.bool_]:
    """``[B, frames, channels]``: events in runs of some ``width`` frames that take up ``share [B]`` of the time."""
    level = -ndtri(np.clip(share, 1e-12, 1 - 1e-12))[:, None, None]
    happens: NDArray[np.bool_] = smooth_normals(seeds, stream, frames, channels, width) > level
    return happens & (share > 0)[:, None, None]
