"""What a detector of Halpe-26's points would say about people whose joints are known, as AlphaPose writes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.body.joints import HALPE26, SPIN49, select
from diffhmr.config_clips import ClipNoiseConfig
from diffhmr.datasets.capsules import hidden_by_body
from diffhmr.datasets.clip_keypoints import DETECTED, Seen, detect, smooth_normals
from diffhmr.random import Floats

_HALPE = list(select(SPIN49, HALPE26))
_FEET_STREAM = 190
_FOOT_ERROR = 0.008
"""Standard deviation of a point of a foot from its ankle's error, as a share of the person's box."""
_ANKLE_OF_FOOT = [HALPE26.joint_names.index(f"{name.split('_')[0]}_ankle") for name in HALPE26.joint_names[20:]]
_LEAST_POINTS = 6  # of somebody who is found


def detected_points(
    joints: Floats,
    intrinsic: Tensor,
    size: tuple[int, int],
    noise: ClipNoiseConfig,
    seed: int,
    covered: NDArray[np.bool_] | None = None,
) -> Floats:
    """``[T, 26, 3]`` pixels and confidence of a person, all 0 where a point is not reported.

    Args:
        joints: ``[T, 49, 3]`` of SPIN in the camera frame, metres.
        intrinsic: K ``[3, 3]``.
        size: width and height of the picture in pixels.
        noise: of the detector.
        seed: of its errors.
        covered: ``[T, 26]`` points that somebody else hides.
    """
    pixels = joints[:, _HALPE, :2] / joints[:, _HALPE, 2:] @ intrinsic.double().numpy()[:2, :2].T
    pixels = pixels + intrinsic.double().numpy()[:2, 2]
    edge = np.array(size) - 0.5
    inside = ((pixels >= -0.5) & (pixels < edge)).all(axis=-1)
    visible = inside & ~hidden_by_body(torch.from_numpy(joints)).numpy()[:, _HALPE]
    if covered is not None:
        visible &= ~covered
    extent = (pixels.max(axis=1) - pixels.min(axis=1)).max(axis=-1)
    half_side = np.array([np.median(extent) / 2])
    seeds = np.array([seed], dtype=np.int64)
    some = slice(0, len(DETECTED))
    found = detect(Seen(pixels[None, :, some], visible[None, :, some], inside[None, :, some], half_side, seeds), noise)
    ankles = found[0][:, _ANKLE_OF_FOOT]
    error = ankles[..., :2] - pixels[:, _ANKLE_OF_FOOT]
    extra = smooth_normals(seeds, _FEET_STREAM, len(pixels), 2 * len(_ANKLE_OF_FOOT), 1.0)[0]
    place = pixels[:, 20:] + error + 2 * _FOOT_ERROR * half_side * extra.reshape(len(pixels), -1, 2)
    kept = (ankles[..., 2] > 0) & inside[:, 20:]
    feet = np.concatenate([place, 0.9 * ankles[..., 2:]], axis=-1) * kept[..., None]
    return np.concatenate([found[0], feet], axis=1)


def alphapose_entries(people: Mapping[int, Floats]) -> list[dict[str, Any]]:
    """AlphaPose's list of people: frame by frame, those of whom enough is seen.

    Args:
        people: ``[T, 26, 3]`` by the numbers of the people.
    """
    entries = []
    for frame in range(max(len(points) for points in people.values())):
        for number, points in people.items():
            rows = points[frame] if frame < len(points) else points[:0]
            seen = rows[rows[:, 2] > 0]
            if len(seen) < _LEAST_POINTS:
                continue
            low, high = seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)
            entries.append({
                "image_id": f"{frame}.jpg",
                "category_id": 1,
                "keypoints": np.round(rows, 2).ravel().tolist(),
                "score": round(float(rows[:, 2].mean()) * 3, 3),
                "box": np.round([*low, *(high - low)], 1).tolist(),
                "idx": number,
            })  # fmt: skip
    return entries
