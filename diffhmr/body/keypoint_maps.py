"""How the 17 points of Human3.6M, or those of COCO, follow from the points that a detector gives.

Maps to the 17 points of Human3.6M are those of MotionBERT (Zhu et al., "MotionBERT: A Unified Perspective on Learning
Human Motion Representations", ICCV 2023): midpoints where the source has no such point. A made-up point is as certain
as the least certain of its parents.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from diffhmr.body.joints import COCO17, H36M17, HALPE26, OPENPOSE25, JointSet

_H36M_SUFFIX = "_h36m17"
_HIPS, _SHOULDERS, _EYES = (("left_" + part, "right_" + part) for part in ("hip", "shoulder", "eye"))
# Parents of the points of Human3.6M that other sets do not have; the others have the same name in all sets.
_TRUNK: dict[str, dict[str, tuple[str, ...]]] = {
    COCO17.name: {"pelvis": _HIPS, "spine": (*_HIPS, *_SHOULDERS), "neck": _SHOULDERS, "head": _EYES},
    HALPE26.name: {"pelvis": ("pelvis",), "spine": ("neck", "pelvis"), "neck": ("neck",), "head": ("head_top_lsp",)},
    OPENPOSE25.name: {"pelvis": ("pelvis",), "spine": ("neck", "pelvis"), "neck": ("neck",), "head": _EYES},
}
_Number = TypeVar("_Number", np.float32, np.float64)


def map_keypoints(points: NDArray[_Number], source: JointSet, target: JointSet) -> NDArray[_Number]:
    """Points ``[..., K, 3]`` (x, y, confidence) of ``source`` as those of ``target``; unseen ones are all 0.

    A point is unseen if one of its parents is, or if ``source`` has none for it.
    """
    if source is target:
        return points
    result = np.zeros((*points.shape[:-2], len(target), 3), points.dtype)
    unseen = (points == 0).all(axis=-1)
    for joint, parents in enumerate(_parents(source, target)):
        if parents:
            values = points[..., parents, :]
            result[..., joint, :2] = values[..., :2].mean(axis=-2)
            result[..., joint, 2] = values[..., 2].min(axis=-1)
            result[unseen[..., parents].any(axis=-1), joint] = 0
    return result


def _parents(source: JointSet, target: JointSet) -> list[list[int]]:
    """For every joint of ``target`` the rows of ``source`` whose mean it is; none: it cannot be made."""
    found = []
    for joint in target.joint_names:
        plain = joint.removesuffix(_H36M_SUFFIX)
        parents = _TRUNK[source.name].get(plain, (plain,)) if target is H36M17 else (plain, plain + _H36M_SUFFIX)
        found.append([source.joint_names.index(parent) for parent in parents if parent in source.joint_names])
    return found
