"""A camera before a moving person, and what stands between them.

The camera stands still, or turns after the person. Pictures are landscape, portrait or square; their coordinates count
from the middle in halves of the shorter side, x to the right and y down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from diffhmr.datasets.people import BOX_MARGIN, covered, cut_fractions, sample_occluders, turn_matrix, view_rotations
from diffhmr.random import Floats, Seeds, Stream, pick, uniforms

_PERSON_HEIGHT = 1.7
_NEAREST = 1.2
"""Metres from the camera to the pelvis at least."""
_LEAST_FOCAL, _LARGEST_FOCAL = 1.1, 9.0
# Half width and half height of pictures, and how frequent they are.
_PICTURES = np.array([[16 / 9, 1.0], [4 / 3, 1.0], [1.0, 16 / 9], [1.0, 1.0]])
_PICTURE_WEIGHTS = (0.5, 0.15, 0.25, 0.1)
_FOLLOWING = 0.45
_FOLLOW_SECONDS = 0.5


@dataclass(frozen=True)
class ClipViews:
    """The cameras of B clips of T frames.

    Attributes:
        rotations: ``[B, T, 3, 3]`` from the world (y up) to the camera (x right, y down, z forward).
        centre: ``[B, 3]`` metres, where the camera is in the world.
        focal: ``[B]`` focal length in halves of the picture's shorter side.
        half_size: ``[B, 2]`` half width and half height of the picture in the same unit.
    """

    rotations: Floats
    centre: Floats
    focal: Floats
    half_size: Floats

    def to_camera(self, points: Floats) -> Floats:
        """World ``[B, T, N, 3]`` to camera coordinates, metres."""
        offset = points - self.centre[:, None, None]
        return np.einsum("btij,btnj->btni", self.rotations, offset)

    def project(self, in_camera: Floats) -> Floats:
        """Picture coordinates ``[B, T, N, 2]`` of points before the camera."""
        return self.focal[:, None, None, None] * in_camera[..., :2] / np.maximum(in_camera[..., 2:], 0.05)


def sample_views(seeds: Seeds, pelvis: Floats, fps: float) -> ClipViews:
    """Cameras for people whose pelvis moves along ``pelvis [B, T, 3]`` in a world with y up."""
    uniform = uniforms(seeds, Stream.CLIP_VIEW, 8)
    first = view_rotations(seeds)
    target = pelvis.mean(axis=1) + np.array([0.0, 0.05, 0.0])
    distance = 2.2 * np.exp(np.log(7.0) * uniform[:, 0])
    nearer = np.einsum("bij,btj->bti", first, pelvis - target[:, None])[..., 2].min(axis=1)
    distance = np.maximum(distance, _NEAREST - nearer)
    focal = np.clip((0.5 + 1.2 * uniform[:, 1]) * distance / _PERSON_HEIGHT, _LEAST_FOCAL, _LARGEST_FOCAL)
    centre = target - distance[:, None] * first[:, 2]
    strength = np.where(uniform[:, 2] < _FOLLOWING, 0.6 + 0.4 * uniform[:, 3], 0.0)
    relative = np.einsum("bij,btj->bti", first, pelvis - centre[:, None])
    followed = gaussian_filter1d(relative, _FOLLOW_SECONDS * fps, axis=1, mode="nearest")
    pan = strength[:, None] * np.arctan2(followed[..., 0], followed[..., 2])
    tilt = strength[:, None] * np.arctan2(followed[..., 1], np.hypot(followed[..., 0], followed[..., 2]))
    turn = turn_matrix(-tilt.ravel(), 2, 1) @ turn_matrix(-pan.ravel(), 2, 0)
    rotations = turn.reshape(*pan.shape, 3, 3) @ first[:, None]
    return ClipViews(rotations, centre, focal, _PICTURES[pick(uniform[:, 4], _PICTURE_WEIGHTS)])


def inside_picture(points: Floats, views: ClipViews) -> NDArray[np.bool_]:
    """``[B, T, N]``: whether ``points [B, T, N, 2]`` lie in the picture."""
    return np.asarray((np.abs(points) <= views.half_size[:, None, None]).all(-1))


@dataclass(frozen=True)
class Extent:
    """The box of a person in the middle of a clip.

    Attributes:
        centre: ``[B, 2]``.
        half_side: ``[B]`` of the square with a margin, as crops have it.
    """

    centre: Floats
    half_side: Floats


def middle_extent(points: Floats) -> Extent:
    """The square box, with a margin, of ``points [B, T, N, 2]`` in the middle frame."""
    middle = points[:, points.shape[1] // 2]
    low, high = middle.min(axis=1), middle.max(axis=1)
    return Extent((low + high) / 2, np.maximum(BOX_MARGIN / 2 * (high - low).max(axis=1), 1e-3))


def blocked(seeds: Seeds, points: Floats, spin_points: Floats, occluder: float, cut: float) -> NDArray[np.bool_]:
    """``[B, T, N]``: whether something stands before ``points [B, T, N, 2]``, or the picture was cut there.

    Objects stay where they are in the picture or pass through it, all the time or for a part of the clip. Cut pictures
    lose the same side in all frames.

    Args:
        seeds: ``[B]``.
        points: of the person.
        spin_points: ``[B, 49, 2]``, the joints of SPIN in the middle frame; objects are placed over some of them.
        occluder: share of clips with an object.
        cut: share of clips that are cut.
    """
    size, frames, count = points.shape[:3]
    extent = middle_extent(spin_points[:, None])
    uniform = uniforms(seeds, Stream.CLIP_OBJECT, 6)
    in_box = (spin_points - extent.centre[:, None]) / extent.half_side[:, None, None]
    objects = torch.from_numpy(sample_occluders(seeds, in_box, occluder))
    relative = (points - extent.centre[:, None, None]) / extent.half_side[:, None, None, None]
    time = (np.arange(frames) + 0.5) / frames
    # Up to one and a half boxes in the time of the clip, mostly to the side.
    velocity = np.stack([3.0 * uniform[:, 1] - 1.5, 0.6 * uniform[:, 2] - 0.3], axis=-1)
    velocity = np.where(uniform[:, :1] < 0.35, velocity, 0.0)
    seen_from_object = relative - velocity[:, None, None] * (time - 0.5)[:, None, None]
    flat = torch.from_numpy(seen_from_object.reshape(size * frames, count, 2))
    hidden = covered(flat, objects.repeat_interleave(frames, 0)).numpy().reshape(size, frames, count)
    begin = np.where(uniform[:, 3] < 0.5, 0.0, 0.7 * uniform[:, 4])
    end = np.where(uniform[:, 3] < 0.5, 1.0, begin + 0.25 + 0.5 * uniform[:, 5])
    hidden &= ((time >= begin[:, None]) & (time <= end[:, None]))[..., None]
    shares = cut_fractions(seeds, cut)[:, None, None]
    low = np.where(shares[..., :2] > 0, 2 * shares[..., :2] - 1, -np.inf)
    high = np.where(shares[..., 2:] > 0, 1 - 2 * shares[..., 2:], np.inf)
    # The margin of the box is no part of the person.
    tight = relative * BOX_MARGIN
    return np.asarray(hidden | ((tight < low) | (tight > high)).any(-1))
