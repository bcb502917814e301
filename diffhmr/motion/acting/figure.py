"""From curves to a figure: anatomical angles and the place of the pelvis, with the feet where the score wants them.

The legs follow from the pelvis and the feet. Where a step is too long for the legs, the pelvis sinks: that is what
makes it go up and down in walking.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from diffhmr.body.anatomy import (
    DOFS,
    HIGH,
    INDEX,
    LEFT_LEG,
    LOW,
    REST,
    RIGHT_LEG,
    SPREAD,
    Floats,
    clip_to_limits,
    rotations_from_angles,
)
from diffhmr.motion.acting.legs import HIP, STAND_HEIGHT, FootPlaces, knee_directions, leg_angles, leg_length
from diffhmr.motion.acting.score import CHANNEL, GRID_RATE, UPPER, Curves, frames_of
from diffhmr.random import Seeds, Stream, uniforms

_WAVES = 3
_WANDER_HZ = (0.06, 0.9)
_WANDER_SHARE = 0.25  # of the everyday standard deviation of an angle
_SWAY_M = 0.006
_REACH = leg_length(np.deg2rad(13.0))
_REACH_SOFTNESS_M = 0.006
_REACH_WINDOW_S = 0.05
_REACH_SMOOTHING_S = 0.04
_DEEPEST_M = 0.25
_FREE_M = 0.6
_LEAST_ELEVATION = np.deg2rad(1.5)
_ACROSS_PLANE, _BACK_PLANE = HIGH[INDEX["l_plane"]], np.deg2rad(90.0)
_BACK_MOST = np.deg2rad(56.0)
_SOFT_ANGLE = np.deg2rad(6.0)
_ROUNDS = 3
_FREE_HIP = np.deg2rad(60.0)
_ANKLE_SOFTNESS, _HIP_SOFTNESS = np.deg2rad(1.2), np.deg2rad(3.0)
_HIPS = REST[[HIP, HIP + 1]]


@dataclass(frozen=True)
class Figure:
    """Bodies at B times T moments.

    Attributes:
        angles: ``[B, T, D]`` anatomical angles (radians) within their limits; the root relative to ``heading``.
        heading: ``[B, T]`` radians.
        position: ``[B, T, 3]`` of the pelvis, metres.
    """

    angles: Floats
    heading: Floats
    position: Floats

    def rotations(self) -> Floats:
        """SMPL rotations ``[B, T, 24, 3, 3]``, the root in the world."""
        shape = self.heading.shape
        result = rotations_from_angles(self.angles.reshape(-1, len(DOFS))).reshape(*shape, 24, 3, 3)
        result[..., 0, :, :] = _about_y(self.heading) @ result[..., 0, :, :]
        return result


@dataclass(frozen=True)
class _Legs:
    """What a score says of the legs besides the places of the feet, each ``[..., 2]``: see ``score.CHANNELS``."""

    knee_out: Floats
    free: Floats


def build_figure(curves: Curves, seeds: Seeds, looseness: Floats, times: Floats) -> Figure:
    """The bodies that perform ``curves`` at ``times [T]``, with slow involuntary variation.

    Args:
        curves: B scores on a grid.
        seeds: ``[B]`` of the variation.
        looseness: ``[B]`` factor on the variation.
        times: ``[T]`` seconds, within the grid but for two samples at either end.
    """
    wander = _wander(seeds, looseness, curves.start + np.arange(curves.values.shape[1]) / GRID_RATE)
    upper = np.deg2rad(curves.values[..., : len(UPPER)]) + wander[..., : len(UPPER)]
    heading = np.deg2rad(curves["heading"])
    position = _pelvis(curves, heading, wander[..., len(UPPER) :])
    position[..., 1] -= _shortfall(curves, position, _about_y(heading) @ _root(upper))
    upper, heading, position = (frames_of(array, curves.start, times) for array in (upper, heading, position))
    upper = _swung(upper, np.deg2rad(frames_of(curves.values[..., _SWING], curves.start, times)))
    feet_curves = np.concatenate([curves.values[..., _FEET], curves.flight[..., None]], axis=-1)
    feet_channels = frames_of(feet_curves, curves.start, times)
    feet, legs = _feet(feet_channels[..., :-1], feet_channels[..., -1:])
    angles = _solve(upper, heading, position, feet, legs)
    return Figure(_within_limits(angles), heading, position)


def _solve(upper: Floats, heading: Floats, position: Floats, feet: FootPlaces, legs: _Legs) -> Floats:
    """All angles ``[B, T, D]``: the legs reach the feet.

    Where an ankle would have to bend further than it can, its heel rises; where a hip would, the pelvis tips and the
    spine bends instead.
    """
    knee_yaw = knee_directions(feet, heading + upper[..., INDEX["root_spin"]], legs.knee_out)
    heel_up, tipped = np.zeros_like(feet.pitch), np.zeros_like(heading)
    for last in (False,) * _ROUNDS + (True,):
        trunk = upper.copy()
        trunk[..., INDEX["root_pitch"]] -= tipped
        trunk[..., INDEX["bend"]] += tipped
        pelvis = _about_y(heading) @ _root(trunk)
        hips = position[..., None, :] + _carry(pelvis, _HIPS)
        solved = leg_angles(hips, pelvis, replace(feet, pitch=feet.pitch + heel_up), knee_yaw, legs.free)
        if not last:
            heel_up = _beyond(solved[..., _ANKLE_DOF] + heel_up, _ANKLE_ROOM, _ANKLE_SOFTNESS)
            hip = solved[..., _HIP_DOF] + tipped[..., None]
            tipped = _beyond((hip - _FREE_HIP * legs.free).max(-1), _HIP_ROOM, _HIP_SOFTNESS)
            tipped -= _beyond(-hip.min(-1), _HIP_ROOM_BACK, _HIP_SOFTNESS)
    return np.concatenate([trunk, solved[..., 0, :], solved[..., 1, :]], axis=-1)


def _beyond(angle: Floats, room: float, softness: float) -> Floats:
    """How far ``angle`` is beyond ``room``, beginning softly."""
    result: Floats = softness * np.logaddexp(0.0, (angle - room) / softness)
    return result


def _swung(upper: Floats, swing: Floats) -> Floats:
    """Angles ``[..., U]`` with the arms swung ahead or back by ``swing [..., 2]``, keeping their distance to the side.

    Elevation and plane are polar coordinates of the upper arm's direction; the swing is added to its forward component.
    """
    result = upper.copy()
    for index, side in enumerate("lr"):
        raised, plane = INDEX[f"{side}_elevation"], INDEX[f"{side}_plane"]
        elevation = np.maximum(upper[..., raised], _LEAST_ELEVATION)
        ahead = elevation * np.sin(upper[..., plane]) + swing[..., index]
        aside = elevation * np.cos(upper[..., plane])
        result[..., raised], result[..., plane] = np.hypot(ahead, aside), np.arctan2(ahead, aside)
    return result


def _within_limits(angles: Floats) -> Floats:
    """Angles ``[..., D]`` within the limits of ``anatomy``.

    An arm that has swung back is given by a positive elevation in a plane behind the body, where ``anatomy`` gives it
    by a negative elevation in a plane ahead; how far it can go is the same.
    """
    result = _soft_limits(angles)
    planes = {side: np.clip(result[..., INDEX[f"{side}_plane"]], -_BACK_PLANE, _ACROSS_PLANE) for side in "lr"}
    result = clip_to_limits(result)
    for side, plane in planes.items():
        raised = INDEX[f"{side}_elevation"]
        result[..., raised] = np.minimum(result[..., raised], _BACK_MOST / np.maximum(-np.sin(plane), 0.1))
        result[..., INDEX[f"{side}_plane"]] = plane
    return result


def _wander(seeds: Seeds, looseness: Floats, times: Floats) -> Floats:
    """``[B, G, U + 2]``: deviations of the upper body (radians) and of the pelvis sideways and ahead (metres)."""
    channels = len(UPPER) + 2
    drawn = uniforms(seeds, Stream.MOTION_WANDER, 3 * _WAVES * channels).reshape(len(seeds), _WAVES, channels, 3)
    low, high = np.log(_WANDER_HZ)
    frequency = np.exp(low + (high - low) * drawn[..., 0])
    scale = np.concatenate([_WANDER_SHARE * SPREAD[: len(UPPER)], np.full(2, _SWAY_M)])
    # Slow waves are larger, as in the spectrum of postural sway.
    size = scale * (0.5 + drawn[..., 2]) * (_WANDER_HZ[0] / frequency) ** 0.35 * looseness[:, None, None]
    total = np.zeros((len(seeds), len(times), channels))
    for wave in range(_WAVES):
        angle = 2 * np.pi * (frequency[:, wave, None] * times[:, None] + drawn[:, wave, None, :, 1])
        total += size[:, wave, None] * np.sin(angle)
    return total


def _pelvis(curves: Curves, heading: Floats, sway: Floats) -> Floats:
    """Where the pelvis ``[B, G, 3]`` should be, whatever the legs can do."""
    sine, cosine = np.sin(heading), np.cos(heading)
    # Of the way between the feet only the part across the body matters: in a stride it lies along the path.
    across = curves["span_x"] * cosine - curves["span_z"] * sine
    left = curves["sideways"] + curves["weight"] * across + sway[..., 0]
    ahead = curves["forward"] + sway[..., 1]
    height = STAND_HEIGHT - curves["drop"] + curves["tiptoe"] + curves.rise
    x = curves["base_x"] + left * cosine + ahead * sine
    return np.stack([x, height, curves["base_z"] - left * sine + ahead * cosine], axis=-1)


def _shortfall(curves: Curves, position: Floats, pelvis: Floats) -> Floats:
    """How far ``[B, G]`` the pelvis has to sink for both legs to reach their feet with knees slightly bent."""
    feet, legs = _feet(curves.values[..., _FEET], curves.flight[..., None])
    ankles = feet.ankles()
    hips = position[..., None, :] + _carry(pelvis, _HIPS)
    apart = (hips[..., 0] - ankles[..., 0]) ** 2 + (hips[..., 2] - ankles[..., 2]) ** 2
    highest = ankles[..., 1] + np.sqrt(np.maximum(_REACH**2 - apart, 0.01))
    short = (hips[..., 1] - highest - _FREE_M * legs.free).max(-1)
    soft = _REACH_SOFTNESS_M * np.logaddexp(0.0, short / _REACH_SOFTNESS_M)
    soft = _DEEPEST_M * (1 - np.exp(-soft / _DEEPEST_M))
    window = 2 * round(_REACH_WINDOW_S * GRID_RATE) + 1
    result: Floats = gaussian_filter1d(maximum_filter1d(soft, window, axis=1), _REACH_SMOOTHING_S * GRID_RATE, axis=1)
    return result


def _feet(channels: Floats, flight: Floats) -> tuple[FootPlaces, _Legs]:
    """Feet and what else is said of the legs from ``channels [..., 14]`` and ``flight [..., 1]``."""
    x, z, yaw, lift, pitch, knee_out, free = (channels[..., 2 * k : 2 * k + 2] for k in range(7))
    places = FootPlaces(x, z, lift + flight, np.deg2rad(yaw), np.deg2rad(pitch))
    return places, _Legs(np.deg2rad(knee_out), free)


def _root(upper: Floats) -> Floats:
    """Rotation ``[..., 3, 3]`` of the pelvis relative to the heading: Rx(pitch) Rz(-roll) Ry(spin)."""
    pitch, roll, spin = (upper[..., INDEX[name]] for name in ("root_pitch", "root_roll", "root_spin"))
    cosine, sine = np.cos(roll), np.sin(roll)
    zero, one = np.zeros_like(roll), np.ones_like(roll)
    rows = [[cosine, sine, zero], [-sine, cosine, zero], [zero, zero, one]]
    lean = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    cosine, sine = np.cos(pitch), np.sin(pitch)
    rows = [[one, zero, zero], [zero, cosine, -sine], [zero, sine, cosine]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2) @ lean @ _about_y(spin)


def _about_y(angle: Floats) -> Floats:
    """Rotations ``[..., 3, 3]`` about the vertical."""
    cosine, sine = np.cos(angle), np.sin(angle)
    zero, one = np.zeros_like(angle), np.ones_like(angle)
    rows = [[cosine, zero, sine], [zero, one, zero], [-sine, zero, cosine]]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _carry(rotation: Floats, points: Floats) -> Floats:
    """Points ``[P, 3]`` under rotations ``[..., 3, 3]``: ``[..., P, 3]``."""
    return (rotation[..., None, :, :] @ points[:, :, None])[..., 0]


def _soft_limits(angles: Floats) -> Floats:
    """Angles ``[..., D]`` that come to rest at their limits instead of stopping there."""
    result = angles
    for limit, outward in ((HIGH, 1.0), (_SOFT_LOW, -1.0)):
        beyond = np.maximum(outward * (result - limit) + _SOFT_ZONE, 0.0)
        bent = _SOFT_ZONE * (1 - np.exp(-beyond / _SOFT_ZONE))
        result = result - outward * (beyond - bent)
    return result


def _limit_margins() -> Floats:
    """Width ``[D]`` of the zone in which an angle slows down; narrow where it is at home close to its limit."""
    margin = np.full(len(DOFS), _SOFT_ANGLE)
    for leg in (LEFT_LEG, RIGHT_LEG):
        margin[leg] = np.deg2rad(4.0)
    for side in "lr":
        margin[INDEX[f"{side}_elbow"]] = np.deg2rad(4.0)
        for name in ("knee", "knee_rot", "hip_abd"):
            margin[INDEX[f"{side}_{name}"]] = np.deg2rad(1.0)
    return margin


_SOFT_ZONE = _limit_margins()
_SOFT_LOW = LOW.copy()
_SOFT_LOW[[INDEX["l_plane"], INDEX["r_plane"]]] = -_BACK_PLANE
_SWING = [CHANNEL["l_swing"], CHANNEL["r_swing"]]
_ANKLE_DOF = INDEX["l_ankle"] - LEFT_LEG.start
_ANKLE_ROOM = HIGH[INDEX["l_ankle"]] - np.deg2rad(6.0)
_HIP_DOF = INDEX["l_hip_flex"] - LEFT_LEG.start
_HIP_ROOM = HIGH[INDEX["l_hip_flex"]] - np.deg2rad(8.0)
_HIP_ROOM_BACK = -LOW[INDEX["l_hip_flex"]] - np.deg2rad(7.0)
_FEET = [CHANNEL[f"{side}_{name}"] for name in ("x", "z", "yaw", "lift", "pitch", "knee_out", "free") for side in "lr"]
