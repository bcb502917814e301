"""Which joints a body hides from its own camera, from the joints alone: a stand-in for rendering.

The body is a set of capsules between joints. A joint is hidden when its line of sight passes through a capsule that
lies clearly in front of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from diffhmr.body.joints import SPIN49
from diffhmr.random import Floats


@dataclass(frozen=True)
class _Capsule:
    """A thick line between two mixtures of joints.

    Attributes:
        start, end: weights of joints of SPIN49 that give the ends of the axis.
        radius: metres.
        margin: a joint must lie this far (metres) behind the axis to be hidden.
        own: joints that belong to the capsule and are never hidden by it.
    """

    start: dict[str, float]
    end: dict[str, float]
    radius: float
    margin: float
    own: tuple[str, ...]


_MIDDLE = ("neck", "neck_lsp", "thorax_mpii", "spine_h36m", "pelvis", "pelvis_mpii")
_IN_HEAD = ("neck", "neck_lsp", "thorax_mpii", "jaw_h36m", "head_h36m", "head_top_lsp")
_HEAD = {"left_ear": 0.3, "right_ear": 0.3, "left_eye": 0.2, "right_eye": 0.2}
_CROWN = {"left_ear": 0.15, "right_ear": 0.15, "left_eye": 0.1, "right_eye": 0.1, "head_top_lsp": 0.5}

_LIMBS = ("shoulder", "elbow", "wrist", "hip", "hip_lsp", "knee", "ankle", "heel", "big_toe", "small_toe")


def _capsules() -> tuple[_Capsule, ...]:
    chest, belly = {"neck": 0.85, "pelvis": 0.15}, {"pelvis": 0.9, "neck": 0.1}
    # The eye on the far side of a profile lies hardly behind the middle of the head.
    all_but_eyes = tuple(name for name in SPIN49.joint_names if not name.endswith("_eye"))
    capsules = [
        _Capsule(chest, belly, 0.115, 0.09, _MIDDLE),
        _Capsule(_HEAD, _CROWN, 0.08, 0.05, _IN_HEAD),
        _Capsule(_HEAD, _CROWN, 0.08, 0.015, all_but_eyes),
    ]
    for side in ("left", "right"):
        shoulder, elbow, wrist, hip, hip_lsp, knee, ankle, *foot = (f"{side}_{name}" for name in _LIMBS)
        armpit, waist = {shoulder: 0.7, "neck": 0.2, hip: 0.1}, {hip: 0.8, "pelvis": 0.1, shoulder: 0.1}
        capsules += [
            _Capsule(armpit, waist, 0.085, 0.1, (*_MIDDLE, shoulder, hip, hip_lsp)),
            _Capsule({shoulder: 1.0}, {elbow: 1.0}, 0.042, 0.045, (shoulder, elbow)),
            # The hand is as long as half the forearm and a bit.
            _Capsule({elbow: 1.0}, {wrist: 1.5, elbow: -0.5}, 0.036, 0.045, (elbow, wrist)),
            _Capsule({hip: 1.0}, {knee: 1.0}, 0.07, 0.075, (hip, hip_lsp, knee, "pelvis", "pelvis_mpii")),
            _Capsule({knee: 1.0}, {ankle: 1.0}, 0.048, 0.055, (knee, ankle, *foot)),
        ]
    return tuple(capsules)


_CAPSULES = _capsules()
_CAN_HIDE = np.array([[name not in capsule.own for name in SPIN49.joint_names] for capsule in _CAPSULES])


def hidden_by_body(joints: Tensor) -> Tensor:
    """``[B, 49]`` bool: joints that lie behind another part of the body.

    Args:
        joints: ``[B, 49, 3]`` SPIN49 joints in the camera frame, metres, before the camera.
    """
    points = joints.double().numpy()
    depth_of = np.ascontiguousarray(points[..., 2])
    x, y = points[..., 0] / depth_of, points[..., 1] / depth_of
    hidden = np.zeros(x.shape, bool)
    for capsule, can_hide in zip(_CAPSULES, _CAN_HIDE, strict=True):
        start, end = _mixture(points, capsule.start), _mixture(points, capsule.end)
        start_x, start_y = start[:, :1] / start[:, 2:], start[:, 1:2] / start[:, 2:]
        along_x, along_y = end[:, :1] / end[:, 2:] - start_x, end[:, 1:2] / end[:, 2:] - start_y
        offset_x, offset_y = x - start_x, y - start_y
        length = np.maximum(along_x * along_x + along_y * along_y, 1e-12)
        share = np.clip((offset_x * along_x + offset_y * along_y) / length, 0.0, 1.0)
        # Limbs are short against the distance: depth grows nearly linearly along the axis in the picture.
        depth = start[:, 2:] + share * (end[:, 2:] - start[:, 2:])
        across_x, across_y = (offset_x - share * along_x) * depth, (offset_y - share * along_y) * depth
        within = across_x * across_x + across_y * across_y < capsule.radius**2
        hidden |= within & (depth + capsule.margin < depth_of) & can_hide
    return torch.from_numpy(hidden)


def _mixture(points: Floats, weights: dict[str, float]) -> Floats:
    """Weighted sums ``[B, 3]`` of ``points [B, 49, 3]``, in an order that does not depend on the batch."""
    total = np.zeros((len(points), 3))
    for name, weight in weights.items():
        total += weight * points[:, SPIN49.joint_names.index(name)]
    return total
