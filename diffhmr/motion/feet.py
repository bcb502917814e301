"""Feet and floor: where the ground of a motion is, and soles that do not sink into it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from diffhmr.body.joints import SMPL24, SMPL_PARENTS
from diffhmr.motion.rest_body import RestBody
from diffhmr.motion.sequence import Motion

_STILL_SHARE = 0.3
_FLOOR_QUANTILE = 0.03
_SOFT = 0.01  # metres over which a ball of the foot comes to rest
_INDEX = {name: index for index, name in enumerate(SMPL24.joint_names)}
_FEET = [[_INDEX[f"{side}_{part}"] for part in ("ankle", "foot")] for side in ("left", "right")]


def on_floor(motion: Motion, rest: RestBody) -> Motion:
    """The motion moved up or down so that the person stands at y = 0.

    The soles of the foot that stands stiller are looked at, in the frames in which it is stillest; a low quantile of
    their heights is the floor: on stairs and ladders that is the lowest step, and a few bad frames do not lift a whole
    motion. A heel or a toe of the other foot may be lower, see :func:`lift_balls`.
    """
    joints = motion.joints(rest.joints)
    soles = _sole_heights(joints, motion.global_rotations(), rest)
    heights = np.stack([soles[:, pair].min(axis=1) for pair in _FEET], axis=1)
    if len(motion) < 3:
        floor = heights.min()
    else:
        speed = np.linalg.norm(np.gradient(joints[:, [pair[0] for pair in _FEET]], axis=0), axis=-1)
        still = speed.min(axis=1) <= np.quantile(speed.min(axis=1), _STILL_SHARE)
        floor = np.quantile(heights[np.arange(len(motion)), speed.argmin(axis=1)][still], _FLOOR_QUANTILE)
    return replace(motion, position=motion.position - [0.0, float(floor), 0.0])


def lift_balls(motion: Motion, rest: RestBody) -> Motion:
    """Bend ankles up where the ball of a foot is in the ground and lower than the heel; the toes stay as they are.

    A body whose feet are longer than the recorded ones, with the ankles where they were, would push its toes into the
    ground whenever it raises a heel. All other bones keep their directions.
    """
    joints, bones = motion.joints(rest.joints), motion.global_rotations()
    for side in ("left", "right"):
        ankle, foot = _INDEX[f"{side}_ankle"], _INDEX[f"{side}_foot"]
        arm = bones[:, ankle] @ rest.between(f"{side}_ankle", f"{side}_foot")
        heel = joints[:, ankle, 1] + bones[:, ankle, 1] @ rest.heel(f"{side}_ankle")
        ball = joints[:, foot, 1] - rest.clearance(f"{side}_foot")
        wanted = arm[:, 1] + _soft_positive(np.minimum(heel, 0.0) - ball)
        turn = _raise(arm, bones[:, ankle, :, 0], wanted)
        bones[:, ankle] = turn @ bones[:, ankle]
    rotations = motion.rotations.copy()
    for name in ("left_ankle", "right_ankle", "left_foot", "right_foot"):
        joint = _INDEX[name]
        rotations[:, joint] = bones[:, SMPL_PARENTS[joint]].swapaxes(-1, -2) @ bones[:, joint]
    return replace(motion, rotations=rotations)


def _sole_heights(joints: np.ndarray, bones: np.ndarray, rest: RestBody) -> np.ndarray:
    """``[T, 24]`` height of the lowest sole point that each joint carries; infinite where there is none."""
    heights = np.full(joints.shape[:2], np.inf)
    for point, joint in zip(rest.sole, rest.sole_joint, strict=True):
        height = joints[:, joint, 1] + bones[:, joint, 1] @ (point - rest.joints[joint])
        heights[:, joint] = np.minimum(heights[:, joint], height)
    return heights


def _soft_positive(values: np.ndarray) -> np.ndarray:
    """max(values, 0) with a round corner."""
    middle = (values + _SOFT) ** 2 / (4 * _SOFT)
    return np.where(values >= _SOFT, values, np.where(values <= -_SOFT, 0.0, middle))


def _raise(arm: np.ndarray, axis: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The smallest rotations ``[T, 3, 3]`` about ``axis [T, 3]`` that bring ``arm [T, 3]`` to the height ``wanted``.

    The height of the turned arm is along + a cos(t) + b sin(t); what cannot be reached is approached.
    """
    along = (arm * axis).sum(-1, keepdims=True) * axis
    across = arm - along
    a, b = across[:, 1], np.cross(axis, across)[:, 1]
    reach = np.hypot(a, b)
    share = np.clip((wanted - along[:, 1]) / np.maximum(reach, 1e-9), -1.0, 1.0)
    peak, half = np.arctan2(b, a), np.arccos(share)
    options = np.stack([peak - half, peak + half])
    options = (options + np.pi) % (2 * np.pi) - np.pi
    angle = np.take_along_axis(options, np.abs(options).argmin(axis=0)[None], axis=0)[0]
    return np.asarray(Rotation.from_rotvec(angle[:, None] * axis).as_matrix())
