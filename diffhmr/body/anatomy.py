"""Anatomical joint angles, their limits, and the rotations of SMPL's joints that they stand for.

Clinicians describe a posture by angles such as "hip flexed by 90, abducted by 10, knee flexed by 80 degrees". SMPL has
rotations relative to a T-pose (x to the person's left, y up, z to the front, arms along x). This module maps the former
to the latter. The formulas are written for the left side; the right side is their mirror image in x.

Conventions (degrees in tables, radians in functions), all zero = upright, arms hanging, palms to the thighs:

* root: ``root_pitch`` forward, ``root_roll`` to the left, ``root_spin`` about the body's own axis (first), in a world
  with y up. ``bend``, ``side``, ``twist``: the whole spine forward, to the left, turning to the left; ``nod``,
  ``tilt``, ``turn`` the same for neck and head together.
* shoulder: the arm swings by ``elevation`` out of the hanging position in the vertical plane at ``plane`` (0 sideways,
  90 forward; International Society of Biomechanics, Wu et al. 2005) without twisting, then turns about its own axis by
  ``axial`` (internal rotation positive). The clavicle takes its part of the elevation.
* ``elbow``, ``knee``: flexion. ``pronation`` of the forearm, ``wrist_flex``, ``wrist_dev`` (towards the little finger),
  ``curl`` of the fingers. ``hip_flex``, ``hip_abd``, ``hip_rot`` (internal positive) in this order. ``ankle``: toes up;
  ``inversion``, ``foot_turn`` (toes outwards), ``toe`` (up).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Dof:
    """One angle: limits, value of a person standing at ease, and everyday standard deviation; degrees."""

    name: str
    low: float
    high: float
    neutral: float
    spread: float


_TRUNK = (
    Dof("root_pitch", -180, 180, 0, 4),
    Dof("root_roll", -180, 180, 0, 3),
    Dof("root_spin", -180, 180, 0, 2),
    Dof("bend", -30, 75, 3, 6),
    Dof("side", -35, 35, 0, 4),
    Dof("twist", -55, 55, 0, 6),
    Dof("nod", -50, 55, 3, 10),
    Dof("tilt", -35, 35, 0, 7),
    Dof("turn", -75, 75, 0, 16),
)
_ARM = (
    Dof("shrug", -12, 30, 0, 3),
    Dof("protract", -15, 25, 0, 4),
    Dof("elevation", -60, 175, 12, 8),
    Dof("plane", -45, 140, 40, 18),
    Dof("axial", -95, 95, 15, 14),
    Dof("elbow", 0, 150, 15, 10),
    Dof("pronation", -80, 80, 15, 22),
    Dof("wrist_flex", -65, 65, 3, 13),
    Dof("wrist_dev", -25, 30, 0, 7),
    Dof("curl", -5, 60, 15, 9),
)
_LEG = (
    Dof("hip_flex", -30, 130, 2, 6),
    Dof("hip_abd", -30, 70, 1, 4),
    Dof("hip_rot", -65, 45, -6, 8),
    Dof("knee", 0, 152, 4, 6),
    Dof("knee_rot", -15, 15, 0, 4),
    Dof("ankle", -50, 35, 0, 6),
    Dof("inversion", -20, 25, 0, 5),
    Dof("foot_turn", -15, 20, 3, 4),
    Dof("toe", -30, 50, 0, 6),
)


def _on_side(side: str, dofs: tuple[Dof, ...]) -> tuple[Dof, ...]:
    return tuple(Dof(f"{side}_{d.name}", d.low, d.high, d.neutral, d.spread) for d in dofs)


DOFS = (*_TRUNK, *_on_side("l", _ARM), *_on_side("r", _ARM), *_on_side("l", _LEG), *_on_side("r", _LEG))
INDEX = {dof.name: i for i, dof in enumerate(DOFS)}
LOW = np.deg2rad([dof.low for dof in DOFS])
HIGH = np.deg2rad([dof.high for dof in DOFS])
NEUTRAL = np.deg2rad([dof.neutral for dof in DOFS])
SPREAD = np.deg2rad([dof.spread for dof in DOFS])

LEFT_ARM = slice(len(_TRUNK), len(_TRUNK) + len(_ARM))
RIGHT_ARM = slice(LEFT_ARM.stop, LEFT_ARM.stop + len(_ARM))
LEFT_LEG = slice(RIGHT_ARM.stop, RIGHT_ARM.stop + len(_LEG))
RIGHT_LEG = slice(LEFT_LEG.stop, LEFT_LEG.stop + len(_LEG))

_SIGNED = ("root_roll", "root_spin", "side", "twist", "tilt", "turn")
_SHARES = {"bend": (0.36, 0.32, 0.32), "side": (0.34, 0.33, 0.33), "twist": (0.2, 0.35, 0.45)}

# SMPL-24 parents and the rest positions (metres, T-pose) of an adult of average size, for tests of collision.
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
_REST_LEFT_AND_MIDDLE = {
    0: (0.0, 0.0, 0.0),
    1: (0.112, -0.018, -0.009),
    3: (0.0, 0.08, -0.038),
    4: (0.138, -0.391, -0.009),
    6: (0.0, 0.149, -0.025),
    7: (0.125, -0.822, -0.044),
    9: (0.0, 0.35, -0.038),
    10: (0.127, -0.872, 0.101),
    12: (0.0, 0.534, 0.004),
    13: (0.023, 0.458, 0.018),
    15: (0.0, 0.628, 0.036),
    16: (0.178, 0.462, 0.013),
    18: (0.432, 0.462, 0.013),
    20: (0.659, 0.462, 0.014),
    22: (0.762, 0.464, 0.022),
}


def mirror_angles(angles: Floats) -> Floats:
    """The mirror image (left and right exchanged) of ``angles [..., D]``."""
    return angles[..., _MIRROR] * _MIRROR_SIGN


def clip_to_limits(angles: Floats) -> Floats:
    """``angles [..., D]`` (radians) within the limits, the limits of the arm depending on its plane.

    An arm cannot swing back as far as forward nor into the trunk, and, reaching across the chest, not as high.
    """
    angles = np.clip(angles, LOW, HIGH)
    for side in "lr":
        plane = angles[..., INDEX[f"{side}_plane"]]
        elevation = angles[..., INDEX[f"{side}_elevation"]]
        forward = np.clip(np.sin(plane), 0.0, 1.0)
        lowest = -np.deg2rad(4.0) - np.deg2rad(52.0) * np.clip(2 * forward - 1, 0.0, 1.0)
        behind = np.clip(-plane / np.deg2rad(45.0), 0.0, 1.0)
        across = np.clip((plane - np.deg2rad(100.0)) / np.deg2rad(40.0), 0.0, 1.0)
        highest = np.deg2rad(175.0 - 95.0 * behind - 65.0 * across)
        angles[..., INDEX[f"{side}_elevation"]] = np.clip(elevation, lowest, highest)
    return angles


def rotations_from_angles(angles: Floats) -> Floats:
    """SMPL rotations ``[B, 24, 3, 3]`` of ``angles [B, D]`` (radians); the root in a world with y up, facing z."""
    result = np.empty((len(angles), 24, 3, 3))
    value = {name: angles[:, i] for name, i in INDEX.items()}
    result[:, 0] = _rx(value["root_pitch"]) @ _rz(-value["root_roll"]) @ _ry(value["root_spin"])
    for i, joint in enumerate((3, 6, 9)):
        bend, side, twist = (_SHARES[name][i] * value[name] for name in ("bend", "side", "twist"))
        result[:, joint] = _rx(bend) @ _rz(-side) @ _ry(twist)
    for joint in (12, 15):
        result[:, joint] = _ry(0.5 * value["turn"]) @ _rx(0.5 * value["nod"]) @ _rz(-0.5 * value["tilt"])
    for offset, (arm, leg) in enumerate(((LEFT_ARM, LEFT_LEG), (RIGHT_ARM, RIGHT_LEG))):
        limbs = {**_arm_rotations(angles[:, arm].T), **_leg_rotations(angles[:, leg].T)}
        for joint, rotation in limbs.items():
            result[:, joint + offset] = rotation if offset == 0 else rotation * _MIRROR_ROTATION
    return result


def stick_joints(rotations: Floats) -> Floats:
    """Positions ``[B, 24, 3]`` (metres, pelvis at 0) of an average adult's joints under ``rotations [B, 24, 3, 3]``."""
    positions = np.zeros((len(rotations), 24, 3))
    world = [rotations[:, 0]]
    for joint in range(1, 24):
        parent = PARENTS[joint]
        positions[:, joint] = positions[:, parent] + world[parent] @ (REST[joint] - REST[parent])
        world.append(world[parent] @ rotations[:, joint])
    return positions


def _arm_rotations(values: Floats) -> dict[int, Floats]:
    """Rotations of the left collar 13, shoulder 16, elbow 18, wrist 20 and hand 22 from the angles ``[10, B]``."""
    shrug, protract, elevation, plane, axial, elbow, pronation, wrist_flex, wrist_dev, curl = values
    quarter = np.full_like(plane, np.pi / 2)
    # In the T-pose the clavicle is where an elevation of 90 degrees puts it; it moves by about a sixth of the arm.
    lift = 0.17 * (np.clip(elevation, 0.0, np.pi) - np.pi / 2) + shrug
    forward = 0.15 * np.sin(plane) * np.sin(elevation) + protract
    collar = _ry(-forward) @ _rz(lift)
    whole_arm = _ry(-plane) @ _rz(elevation) @ _ry(plane - axial) @ _rz(-quarter)
    return {
        13: collar,
        16: np.swapaxes(collar, -1, -2) @ whole_arm,
        18: _ry(-elbow) @ _rx(0.5 * pronation),
        20: _rx(0.5 * pronation) @ _rz(-wrist_flex) @ _ry(wrist_dev),
        22: _rz(-curl),
    }


def _leg_rotations(values: Floats) -> dict[int, Floats]:
    """Rotations of the left hip 1, knee 4, ankle 7 and foot 10 from the angles ``[9, B]``."""
    hip_flex, hip_abd, hip_rot, knee, knee_rot, ankle, inversion, foot_turn, toe = values
    return {
        1: _rx(-hip_flex) @ _rz(hip_abd) @ _ry(-hip_rot),
        4: _rx(knee) @ _ry(knee_rot),
        7: _ry(foot_turn) @ _rx(-ankle) @ _rz(inversion),
        10: _rx(-toe),
    }


def _elementary(angle: Floats, first: int, second: int) -> Floats:
    """Rotations ``[B, 3, 3]`` that turn axis ``first`` into axis ``second`` by ``angle [B]``."""
    # Contiguous input: the same code path, and so the same last bit, whatever the size of the batch.
    angle = np.ascontiguousarray(angle)
    cosine, sine = np.cos(angle), np.sin(angle)
    result = np.zeros((len(angle), 3, 3))
    third = 3 - first - second
    result[:, third, third] = 1.0
    result[:, first, first] = cosine
    result[:, second, second] = cosine
    result[:, second, first] = sine
    result[:, first, second] = -sine
    return result


def _rx(angle: Floats) -> Floats:
    return _elementary(angle, 1, 2)


def _ry(angle: Floats) -> Floats:
    return _elementary(angle, 2, 0)


def _rz(angle: Floats) -> Floats:
    return _elementary(angle, 0, 1)


def _mirror_permutation() -> tuple[NDArray[np.intp], Floats]:
    other = {"l_": "r_", "r_": "l_"}
    names = [other[dof.name[:2]] + dof.name[2:] if dof.name[:2] in other else dof.name for dof in DOFS]
    # "root_..." begins with "ro", so only the limbs change sides.
    order = np.array([INDEX[name] for name in names])
    sign = np.array([-1.0 if dof.name in _SIGNED else 1.0 for dof in DOFS])
    return order, sign


def _rest_joints() -> Floats:
    rest = np.zeros((24, 3))
    for joint, place in _REST_LEFT_AND_MIDDLE.items():
        rest[joint] = place
        if place[0] > 0:
            rest[joint + 1] = place
            rest[joint + 1, 0] *= -1
    return rest


_MIRROR, _MIRROR_SIGN = _mirror_permutation()
_MIRROR_ROTATION = np.array([[1.0, -1.0, -1.0], [-1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])
REST = _rest_joints()
