"""Legs that reach planted feet: how a foot rolls over heel and ball, and the angles of hip, knee and ankle.

Everything is written for the left side; the right side is its mirror image in x. Metres and radians, on the skeleton
``anatomy.REST``; a foot on the floor has its ankle :data:`ANKLE_HEIGHT` above it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffhmr.body.anatomy import REST, Floats

HIP, KNEE, ANKLE, BALL = 1, 4, 7, 10
SOLE = -0.8986
"""Height of the soles in the rest pose of ``anatomy.REST``."""
ANKLE_HEIGHT = float(REST[ANKLE, 1]) - SOLE
STAND_HEIGHT = -SOLE
"""Height of the pelvis over the floor with straight legs."""

MIRROR = np.array([[1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]])
"""Signs of coordinates, left and right side."""

_THIGH, _SHANK = REST[KNEE] - REST[HIP], REST[ANKLE] - REST[KNEE]
_BALL = REST[BALL] - REST[ANKLE]
_HEEL = np.array([0.0, -ANKLE_HEIGHT, -0.042])  # where the round of the heel touches the floor, from the ankle
_ROLL_BLEND = np.deg2rad(4.0)
_TOE_RANGE = np.deg2rad(48.0)
_TOE_FREE_LIFT = 0.05
_FOOT_TURN = np.deg2rad(3.0)


def leg_length(knee: float) -> float:
    """Distance of hip and ankle with the knee flexed by ``knee`` radians."""
    cosine, sine = np.cos(knee), np.sin(knee)
    shank = np.array([_SHANK[0], cosine * _SHANK[1] - sine * _SHANK[2], sine * _SHANK[1] + cosine * _SHANK[2]])
    return float(np.linalg.norm(_THIGH + shank))


_SOFT_LENGTH, _FULL_LENGTH = leg_length(np.deg2rad(9.0)), leg_length(np.deg2rad(1.5))
_FREE_LENGTH, _FREE_FULL_LENGTH = leg_length(np.deg2rad(42.0)), leg_length(np.deg2rad(14.0))
_LEAST_LENGTH = leg_length(np.deg2rad(150.0))


@dataclass(frozen=True)
class FootPlaces:
    """Feet in the world, left and right along the axis before last.

    Attributes:
        x, z: ``[..., 2]`` of the ankle over the floor when the foot is flat.
        lift: ``[..., 2]`` height of the sole over the floor.
        yaw, pitch: ``[..., 2]`` radians, toes to the left and toes down positive.
    """

    x: Floats
    z: Floats
    lift: Floats
    yaw: Floats
    pitch: Floats

    def ankles(self) -> Floats:
        """Positions ``[..., 2, 3]``: toes down, a foot turns about its ball; toes up, about its heel."""
        ball, heel = _pivot(self.pitch, _BALL), _pivot(self.pitch, _HEEL)
        share = np.clip(self.pitch / (2 * _ROLL_BLEND) + 0.5, 0.0, 1.0)
        share = share * share * (3 - 2 * share)
        up = ANKLE_HEIGHT + self.lift + share * ball[0] + (1 - share) * heel[0]
        ahead = share * ball[1] + (1 - share) * heel[1]
        return np.stack([self.x + ahead * np.sin(self.yaw), up, self.z + ahead * np.cos(self.yaw)], axis=-1)

    def rotations(self) -> Floats:
        """Rotations ``[..., 2, 3, 3]`` of the feet: Ry(yaw) Rx(pitch)."""
        cosine, sine = np.cos(self.yaw), np.sin(self.yaw)
        down, level = np.sin(self.pitch), np.cos(self.pitch)
        zero = np.zeros_like(cosine)
        rows = [[cosine, sine * down, sine * level], [zero, level, -down], [-sine, cosine * down, cosine * level]]
        return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)

    def toes(self) -> Floats:
        """Angles ``[..., 2]`` of the toes, which stay on the floor where the heel is up."""
        on_floor = np.clip(1 - self.lift / _TOE_FREE_LIFT, 0.0, 1.0)
        return np.clip(self.pitch, 0.0, _TOE_RANGE) * on_floor * on_floor * (3 - 2 * on_floor)


def leg_angles(hips: Floats, pelvis: Floats, feet: FootPlaces, knee_yaw: Floats, free: Floats) -> Floats:
    """Angles ``[..., 2, 9]`` (radians, the order of ``anatomy``) of legs that reach their feet.

    A foot that is out of reach pulls its leg nearly straight, smoothly.

    Args:
        hips: ``[..., 2, 3]`` positions of the hip joints.
        pelvis: ``[..., 3, 3]`` rotation of the pelvis in the world.
        feet: where the feet are.
        knee_yaw: ``[..., 2]`` direction of the knees relative to the pelvis, outwards positive.
        free: ``[..., 2]`` 0 for a foot that has to be where it is said to be, 1 for one that the knee may hold back.
    """
    flip = MIRROR[:, :, None] * MIRROR[:, None, :]
    inward = np.swapaxes(pelvis, -1, -2)[..., None, :, :]
    reach = (inward @ (feet.ankles() - hips)[..., None])[..., 0] * MIRROR
    distance = np.sqrt((reach * reach).sum(-1))
    knee = _knee_angle(_within_reach(distance, free))
    hip = _hip_rotation(reach / distance[..., None], knee, knee_yaw)
    # Rx(-flex) Rz(abd) Ry(-rot), taken apart.
    abduction = np.arcsin(np.clip(-hip[..., 0, 1], -1.0, 1.0))
    rotation = -np.arctan2(hip[..., 0, 2], hip[..., 0, 0])
    flexion = -np.arctan2(hip[..., 2, 1], hip[..., 1, 1])
    foot = np.swapaxes(hip @ _turn_x(knee), -1, -2) @ ((inward @ feet.rotations()) * flip)
    # Ry(foot turn) Rx(-ankle) Rz(inversion), taken apart.
    ankle = np.arcsin(np.clip(foot[..., 1, 2], -1.0, 1.0))
    turn = np.arctan2(foot[..., 0, 2], foot[..., 2, 2])
    inversion = np.arctan2(foot[..., 1, 0], foot[..., 1, 1])
    zero = np.zeros_like(knee)
    return np.stack([flexion, abduction, rotation, knee, zero, ankle, inversion, turn, feet.toes()], axis=-1)


def knee_directions(feet: FootPlaces, body_yaw: Floats, knee_out: Floats) -> Floats:
    """``[..., 2]`` direction of the knees relative to the pelvis, outwards positive, over the feet as people have them.

    Args:
        feet: where the feet are.
        body_yaw: ``[...]`` direction of the pelvis.
        knee_out: ``[..., 2]`` how far the knees point out of the direction of the feet.
    """
    outward = (feet.yaw - body_yaw[..., None]) * MIRROR[:, 0]
    return np.clip(outward - _FOOT_TURN, np.deg2rad(-42.0), np.deg2rad(62.0)) + knee_out


def _pivot(pitch: Floats, point: Floats) -> tuple[Floats, Floats]:
    """How far the ankle goes up and ahead when the foot turns by ``pitch`` about ``point``."""
    cosine, sine = np.cos(pitch), np.sin(pitch)
    up = point[1] - (cosine * point[1] - sine * point[2])
    ahead = point[2] - (sine * point[1] + cosine * point[2])
    return up, ahead


def _within_reach(distance: Floats, free: Floats) -> Floats:
    """Distances that a leg can have: identity up to a nearly straight leg, then bending off smoothly."""
    soft = _SOFT_LENGTH + free * (_FREE_LENGTH - _SOFT_LENGTH)
    room = _FULL_LENGTH + free * (_FREE_FULL_LENGTH - _FULL_LENGTH) - soft
    beyond = np.maximum(distance - soft, 0.0)
    reached = np.where(beyond > 0, soft + room * (1 - np.exp(-beyond / room)), distance)
    return np.maximum(reached, _LEAST_LENGTH)


def _knee_angle(distance: Floats) -> Floats:
    """Flexion of the knee that puts the ankle ``distance`` from the hip (law of cosines, bones not quite in line)."""
    along = _THIGH[1] * _SHANK[1] + _THIGH[2] * _SHANK[2]
    across = _THIGH[2] * _SHANK[1] - _THIGH[1] * _SHANK[2]
    middle = (distance**2 - _THIGH @ _THIGH - _SHANK @ _SHANK) / 2 - _THIGH[0] * _SHANK[0]
    cosine = np.clip(middle / np.hypot(along, across), -1.0, 1.0)
    return np.maximum(np.arctan2(across, along) + np.arccos(cosine), 0.0)


def _hip_rotation(direction: Floats, knee: Floats, knee_yaw: Floats) -> Floats:
    """Rotation ``[..., 3, 3]`` of the thigh that points the ankle in ``direction`` and the knee where it belongs.

    The side axis of the knee is carried along the shortest way from straight down to ``direction`` after a turn by
    ``knee_yaw``: there is no twist in bending the hip, whatever the direction.
    """
    side = np.array([1.0, 0.0, 0.0])
    ankle = _THIGH + np.stack([np.full_like(knee, _SHANK[0]),
                               np.cos(knee) * _SHANK[1] - np.sin(knee) * _SHANK[2],
                               np.sin(knee) * _SHANK[1] + np.cos(knee) * _SHANK[2]], axis=-1)  # fmt: skip
    ankle = ankle / np.sqrt((ankle * ankle).sum(-1, keepdims=True))
    own = side - ankle[..., :1] * ankle
    own = own / np.sqrt((own * own).sum(-1, keepdims=True))
    start = np.stack([np.cos(knee_yaw), np.zeros_like(knee_yaw), -np.sin(knee_yaw)], axis=-1)
    wanted = _carried(start, direction)
    first = np.stack([ankle, own, np.cross(ankle, own)], axis=-1)
    second = np.stack([direction, wanted, np.cross(direction, wanted)], axis=-1)
    return second @ np.swapaxes(first, -1, -2)


def _carried(vector: Floats, direction: Floats) -> Floats:
    """Horizontal ``vector`` under the smallest rotation that takes straight down to the unit vector ``direction``."""
    # Rodrigues' formula with the axis (-y) x direction; only straight up has no smallest rotation.
    axis = np.stack([-direction[..., 2], np.zeros_like(direction[..., 0]), direction[..., 0]], axis=-1)
    share = (axis * vector).sum(-1, keepdims=True) / np.maximum(1 - direction[..., 1:2], 1e-6)
    result: Floats = -direction[..., 1:2] * vector + np.cross(axis, vector) + share * axis
    return result


def _turn_x(angle: Floats) -> Floats:
    """Rotations ``[..., 3, 3]`` about x."""
    cosine, sine = np.cos(angle), np.sin(angle)
    result = np.zeros((*angle.shape, 3, 3))
    result[..., 0, 0] = 1.0
    result[..., 1, 1] = result[..., 2, 2] = cosine
    result[..., 2, 1], result[..., 1, 2] = sine, -sine
    return result
