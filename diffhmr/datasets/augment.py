"""Augmentation of labelled pictures: what is done to an item, and what that does to its labels.

Flip, rotation, scale and channel gain are those of SPIN (Kolotouros et al., ICCV 2019, ``datasets/base_dataset.py``),
with its probabilities; objects in front and extreme crops are options. What happens to an item is a function of its
seed alone.

The picture, the 2D points and the 3D labels move together: the picture is turned about the middle of its box and then
mirrored, which turns the camera's frame about its axis z and then mirrors it in x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.body.joints import SMPL24, SPIN49
from diffhmr.body.params import SmplParams
from diffhmr.config import AugmentConfig
from diffhmr.random import Floats, Seeds, Stream, normals, uniforms

# Indices of COCO-17: what an extreme crop shows. Head and shoulders, upper body, legs, left and right half.
_PARTS: tuple[tuple[int, ...], ...] = (
    tuple(range(7)),
    tuple(range(13)),
    tuple(range(11, 17)),
    (5, 7, 9, 11, 13, 15),
    (6, 8, 10, 12, 14, 16),
)
_PART_MASKS = np.array([[point in part for point in range(17)] for part in _PARTS])
_PART_MARGIN = 1.2
_FEWEST_POINTS = 4
_SMALLEST_PART = 0.15  # in sides of the whole box


@dataclass(frozen=True)
class Augmentation:
    """What is done to B items.

    Attributes:
        flip: ``[B]`` bool, mirrored left to right after everything else.
        rotation: ``[B]`` radians by which the picture is turned, positive from x to y (clockwise as seen).
        scale: ``[B]`` factor on the side of the box.
        gain: ``[B, 3]`` factor per colour channel (RGB), with clipping at white.
        part: ``[B]`` int, what an extreme crop shows, or -1 for the whole person.
    """

    flip: NDArray[np.bool_]
    rotation: Floats
    scale: Floats
    gain: Floats
    part: NDArray[np.int64]


def no_augmentation(count: int) -> Augmentation:
    """Nothing is done to ``count`` items."""
    return Augmentation(
        flip=np.zeros(count, bool),
        rotation=np.zeros(count),
        scale=np.ones(count),
        gain=np.ones((count, 3)),
        part=np.full(count, -1),
    )


def draw_augmentation(item_seeds: Seeds, settings: AugmentConfig) -> Augmentation:
    """What ``settings`` does to the items ``item_seeds [B]``."""
    uniform = uniforms(item_seeds, Stream.AUGMENTATION, 7)
    normal = normals(item_seeds, Stream.AUGMENTATION_MORE, 2)
    turned = uniform[:, 1] < settings.rotate
    rotation = np.deg2rad(settings.rotation) * np.clip(normal[:, 0], -2, 2) * turned
    part = (uniform[:, 6] * len(_PARTS)).astype(np.int64)
    return Augmentation(
        flip=uniform[:, 0] < settings.flip,
        rotation=rotation,
        scale=1 + settings.scale * np.clip(normal[:, 1], -1, 1),
        gain=1 + settings.colour * (2 * uniform[:, 2:5] - 1),
        part=np.where(uniform[:, 5] < settings.extreme_crop, part, -1),
    )


def boxes_of_parts(
    part: NDArray[np.int64], points: Floats, labelled: NDArray[np.bool_], center: Floats, side: Floats
) -> tuple[Floats, Floats]:
    """Boxes of extreme crops: around a part of the person where enough of its points are known.

    Args:
        part: ``[B]``, see :class:`Augmentation`.
        points: ``[B, 17, 2]`` COCO-17, pixels.
        labelled: ``[B, 17]``.
        center: ``[B, 2]`` of the boxes of the whole people, pixels.
        side: ``[B]`` of them.

    Returns:
        ``center`` and ``side``, changed where there is an extreme crop.
    """
    used = labelled & _PART_MASKS[part] & (part >= 0)[:, None]
    low = np.where(used[..., None], points, np.inf).min(axis=1)
    high = np.where(used[..., None], points, -np.inf).max(axis=1)
    with np.errstate(invalid="ignore"):
        extent = (high - low).max(axis=1)
        middle = (low + high) / 2
    cropped = (used.sum(axis=1) >= _FEWEST_POINTS) & (extent >= _SMALLEST_PART * side)
    return np.where(cropped[:, None], middle, center), np.where(cropped, _PART_MARGIN * extent, side)


def turn(params: SmplParams, joints3d: Tensor, angle: Tensor) -> tuple[SmplParams, Tensor]:
    """People ``[B]`` as seen in a picture turned by ``angle [B]`` (radians from x to y).

    Args:
        params: in the camera's frame, without translation.
        joints3d: ``[B, J, 4]`` in the camera's frame, and confidence.
        angle: in the type of the others.
    """
    cos, sin, zero, one = torch.cos(angle), torch.sin(angle), torch.zeros_like(angle), torch.ones_like(angle)
    rotation = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], dim=-1).unflatten(-1, (3, 3))
    turned = joints3d[..., :3] @ rotation.transpose(-1, -2)
    joints3d = torch.cat([turned, joints3d[..., 3:]], dim=-1)
    return SmplParams(rotation @ params.global_orient, params.body_pose, params.betas), joints3d


def mirror(params: SmplParams, joints3d: Tensor, where: Tensor) -> tuple[SmplParams, Tensor]:
    """People ``[B]`` as seen in a picture that is mirrored left to right, ``where [B]`` bool.

    Left and right change places; the shape stays, as SMPL's is the same on both sides but for details.

    Args:
        params: in the camera's frame, without translation.
        joints3d: ``[B, 49, 4]`` SPIN49 in the camera's frame, and confidence.
        where: which of them.
    """
    rotations = torch.where(where[:, None, None, None], mirror_rotations(params.rotations), params.rotations)
    mirrored = joints3d[:, list(SPIN49.flip)] * joints3d.new_tensor([-1, 1, 1, 1])
    joints3d = torch.where(where[:, None, None], mirrored, joints3d)
    return SmplParams.from_rotations(rotations, params.betas), joints3d


def mirror_rotations(rotations: Tensor) -> Tensor:
    """Rotations ``[..., 24, 3, 3]`` of SMPL's joints as a mirror in the plane x = 0 shows them."""
    sign = rotations.new_tensor([-1, 1, 1])
    return rotations[..., list(SMPL24.flip), :, :] * sign[:, None] * sign


def exchange_sides(points: Tensor, where: Tensor) -> Tensor:
    """Points ``[B, 49, C]`` of SPIN49 with left and right exchanged, ``where [B]``; coordinates stay."""
    return torch.where(where[:, None, None], points[:, list(SPIN49.flip)], points)
