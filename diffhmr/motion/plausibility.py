"""How physically plausible motions are: feet that slide or sink in, and how fast joints move, turn and change both.

Everything is measured on frames as they are given, by finite differences, so recorded and procedural motion compare
if they have the same rate. The floor is y = 0. Sources of the measures: foot skating as in Ling et al., "Character
controllers using motion VAEs", SIGGRAPH 2020; the rest is plain kinematics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffhmr.body.anatomy import PARENTS, REST, Floats, stick_joints
from diffhmr.motion.acting.legs import ANKLE, BALL, MIRROR, SOLE

_TOE_LENGTH = 0.055
_HEEL_BACK = 0.05
_SOLE_POINTS = (
    (ANKLE, np.array([0.0, SOLE - REST[ANKLE, 1], -_HEEL_BACK])),
    (BALL, np.array([0.0, SOLE - REST[BALL, 1], 0.0])),
    (BALL, np.array([0.0, SOLE - REST[BALL, 1], _TOE_LENGTH])),
)


@dataclass(frozen=True)
class Plausibility:
    """Measures of B motions, each with one number per motion, joint and moment, or foot and moment.

    Attributes:
        skating: ``[N]`` metres per second: speed along the floor of the lower end (heel or ball) of every planted foot.
        penetration: ``[B, T]`` metres that the lowest point of the soles is below the floor, not negative.
        speed: ``[B, T - 1, 24]`` metres per second.
        acceleration: ``[B, T - 2, 24]`` metres per second squared.
        turning: ``[B, T - 1, 24]`` radians per second, of each joint relative to its parent.
        angular_acceleration: ``[B, T - 2, 24]`` radians per second squared, the change of the turning vector.
    """

    skating: Floats
    penetration: Floats
    speed: Floats
    acceleration: Floats
    turning: Floats
    angular_acceleration: Floats


def measure(rotations: Floats, position: Floats, contact: NDArray[np.bool_], fps: float) -> Plausibility:
    """Measures of motions on the skeleton ``anatomy.REST``.

    Args:
        rotations: ``[B, T, 24, 3, 3]``, T at least 3.
        position: ``[B, T, 3]`` of the pelvis, metres.
        contact: ``[B, T, 2]`` whether the left and the right foot are on the floor.
        fps: frames per second.
    """
    batch, frames = position.shape[:2]
    joints = stick_joints(rotations.reshape(-1, 24, 3, 3)).reshape(batch, frames, 24, 3) + position[:, :, None]
    soles = sole_points(rotations, joints)
    velocity = np.diff(joints, axis=1) * fps
    turn = _rotation_vectors(np.swapaxes(rotations[:, :-1], -1, -2) @ rotations[:, 1:]) * fps
    return Plausibility(
        skating=_skating(soles, contact, fps),
        penetration=np.maximum(-soles[..., 1].min((-1, -2)), 0.0),
        speed=np.linalg.norm(velocity, axis=-1),
        acceleration=np.linalg.norm(np.diff(velocity, axis=1), axis=-1) * fps,
        turning=np.linalg.norm(turn, axis=-1),
        angular_acceleration=np.linalg.norm(np.diff(turn, axis=1), axis=-1) * fps,
    )


def sole_points(rotations: Floats, joints: Floats) -> Floats:
    """Heel, ball and tip of the toes of the left and right foot, ``[B, T, 2, 3, 3]``, on the sole.

    Args:
        rotations: ``[B, T, 24, 3, 3]``.
        joints: ``[B, T, 24, 3]``.
    """
    result = np.empty((*joints.shape[:2], 2, len(_SOLE_POINTS), 3))
    for side in range(2):
        world = rotations[:, :, 0]
        for joint in _chain(BALL + side):
            world = world @ rotations[:, :, joint]
            for k, (carrier, point) in enumerate(_SOLE_POINTS):
                if carrier + side == joint:
                    result[:, :, side, k] = joints[:, :, joint] + world @ (point * MIRROR[side])
    return result


def _chain(joint: int) -> list[int]:
    """Joints from the pelvis, without it, to ``joint``."""
    chain = [joint]
    while PARENTS[chain[0]] > 0:
        chain.insert(0, PARENTS[chain[0]])
    return chain


def _skating(soles: Floats, contact: NDArray[np.bool_], fps: float) -> Floats:
    """Speeds ``[N]`` of planted feet."""
    ends = soles[..., :2, :]
    moved = np.diff(ends[..., [0, 2]], axis=1)
    speed = np.sqrt((moved * moved).sum(-1)) * fps
    lower = (ends[:, 1:, ..., 1] + ends[:, :-1, ..., 1]).argmin(-1)
    planted = contact[:, 1:] & contact[:, :-1]
    result: Floats = np.take_along_axis(speed, lower[..., None], axis=-1)[..., 0][planted]
    return result


def _rotation_vectors(rotations: Floats) -> Floats:
    """Axis-angle ``[..., 3]`` of small rotations ``[..., 3, 3]``, exact below half a turn."""
    skew = np.stack([rotations[..., 2, 1] - rotations[..., 1, 2], rotations[..., 0, 2] - rotations[..., 2, 0],
                     rotations[..., 1, 0] - rotations[..., 0, 1]], axis=-1) / 2  # fmt: skip
    sine = np.linalg.norm(skew, axis=-1)
    angle = np.arctan2(sine, (np.trace(rotations, axis1=-2, axis2=-1) - 1) / 2)
    factor = np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 1.0)
    return skew * factor[..., None]
