"""People before a camera: pose, shape, view, distance, box, objects in front, all as pure functions of the item seed.

The world has y up. A camera at a plausible height and distance looks at the person with some pitch and roll; its axis
is then turned to the middle of the person's box, so that the crop is the picture of a virtual camera looking straight
at it. Frames and crop coordinates are those of ``geometry/camera.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.body.joints import COCO17_FROM_SPIN49, SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.body.params import NUM_BETAS, SmplParams
from diffhmr.config import DataConfig
from diffhmr.datasets.poses import PoseSource, sample_poses
from diffhmr.geometry.camera import fit_crop_camera
from diffhmr.random import Floats, Seeds, Stream, normals, pick, uniforms

OCCLUDER_NONE, OCCLUDER_RECTANGLE, OCCLUDER_ELLIPSE = 0, 1, 2
BOX_MARGIN = 1.2
"""Side of the square box per longer side of the person's extent, as in the field's test protocols."""

_PERSON_HEIGHT = 1.7
_FLESH = 0.045  # metres from the joints to the skin, for boxes
_ARMS = ((3, 4), (6, 7))  # elbow and wrist of both arms in SPIN49
# Ways to cut a person: weight, and which of the sides left, top, right, bottom of the person are cut off.
_CUTS = (
    (0.58, (0, 0, 0, 1)),
    (0.11, (1, 0, 0, 0)),
    (0.11, (0, 0, 1, 0)),
    (0.06, (0, 1, 0, 0)),
    (0.07, (1, 0, 0, 1)),
    (0.07, (0, 0, 1, 1)),
)


@dataclass(frozen=True)
class People:
    """B people as their crop cameras see them; float32.

    Attributes:
        params: ``[B]`` SMPL parameters in the frame of the crop camera; ``transl`` is None.
        transl: ``[B, 3]`` metres, where the body is in that frame.
        focal: ``[B]`` focal length in half crop sides: u = focal * x / z.
        camera: ``[B, 3]`` (s, tx, ty), the closed-form fit to the 49 projected joints.
        joints3d: ``[B, 49, 3]`` metres, the body at the origin.
        joints2d: ``[B, 49, 2]`` true perspective projection in crop coordinates.
        occluders: ``[B, 2, 6]`` (cx, cy, half width, half height, angle, kind) in crop coordinates; kind 0 is none, 1 a
            rectangle, 2 an ellipse; the angle turns x towards y.
        item_seed: ``[B]`` int64.
        truncated: ``[B]`` bool, a joint of COCO-17 lies outside the crop or beyond the border of the photograph.
        border: ``[B, 4]`` (x0, y0, x1, y1) crop coordinates within which the photograph lies; at most the crop.
    """

    params: SmplParams
    transl: Tensor
    focal: Tensor
    camera: Tensor
    joints3d: Tensor
    joints2d: Tensor
    occluders: Tensor
    item_seed: Tensor
    truncated: Tensor
    border: Tensor

    def __len__(self) -> int:
        return len(self.item_seed)


def sample_people(body: BodyModel, item_seeds: Seeds, settings: DataConfig, poses: PoseSource = sample_poses) -> People:
    """The people ``item_seeds [B]`` (int64).

    Each is a function of its seed alone: with a float64 ``body`` to the last bit, with a float32 one up to rounding.
    """
    rotations = poses(item_seeds)
    rotations[:, 0] = view_rotations(item_seeds) @ rotations[:, 0]
    betas = np.clip(1.1 * normals(item_seeds, Stream.SHAPE, NUM_BETAS), -3.0, 3.0)
    params = SmplParams.from_rotations(torch.from_numpy(rotations), torch.from_numpy(betas))
    weights_type = body.rest_joints.dtype
    joints = body.joints(params.map(lambda value: value.to(weights_type)), SPIN49).double()

    placed = _place(item_seeds, joints.numpy(), settings.truncation)
    transl, focal, border = (torch.from_numpy(value) for value in placed)
    points = joints + transl[:, None]
    joints2d = focal[:, None, None] * points[..., :2] / points[..., 2:]
    camera = fit_crop_camera(joints, joints2d, torch.ones_like(joints2d[..., 0]))
    occluders = torch.from_numpy(sample_occluders(item_seeds, joints2d.numpy(), settings.occluder))
    outside = ~inside_border(joints2d[:, COCO17_FROM_SPIN49, :], border)
    return People(
        params=params.map(Tensor.float),
        transl=transl.float(),
        focal=focal.float(),
        camera=camera.float(),
        joints3d=joints.float(),
        joints2d=joints2d.float(),
        occluders=occluders.float(),
        item_seed=torch.from_numpy(np.ascontiguousarray(item_seeds)),
        truncated=outside.any(dim=1),
        border=border.float(),
    )


def inside_border(points: Tensor, border: Tensor) -> Tensor:
    """``[B, N]`` bool: ``points [B, N, 2]`` lie in the crop and in the photograph, ``border [B, 4]``."""
    return ((points >= border[:, None, :2]) & (points <= border[:, None, 2:])).all(dim=-1)


def covered(points: Tensor, occluders: Tensor) -> Tensor:
    """``[B, N]`` bool: ``points [B, N, 2]`` lie behind one of ``occluders [B, M, 6]`` (see :class:`People`)."""
    offset = points[:, :, None] - occluders[:, None, :, :2]
    cosine, sine = torch.cos(occluders[:, None, :, 4]), torch.sin(occluders[:, None, :, 4])
    along = (cosine * offset[..., 0] + sine * offset[..., 1]) / occluders[:, None, :, 2].clamp_min(1e-9)
    across = (cosine * offset[..., 1] - sine * offset[..., 0]) / occluders[:, None, :, 3].clamp_min(1e-9)
    kind = occluders[:, None, :, 5]
    in_rectangle = (along.abs() <= 1) & (across.abs() <= 1) & (kind == OCCLUDER_RECTANGLE)
    in_ellipse = (along.square() + across.square() <= 1) & (kind == OCCLUDER_ELLIPSE)
    return (in_rectangle | in_ellipse).any(dim=-1)


def view_rotations(seeds: Seeds) -> Floats:
    """Rotations ``[B, 3, 3]`` from the world (y up) to the camera (y down): heading, pitch, roll."""
    uniform, normal = uniforms(seeds, Stream.VIEW, 4), normals(seeds, Stream.VIEW_MORE, 2)
    heading = 2 * np.pi * uniform[:, 0]
    # Mostly a photographer's eye, slightly above the middle of the person; some views from far below or above.
    pitch = np.where(uniform[:, 1] < 0.86, 6.0 + 9.0 * normal[:, 0], -30.0 + 90.0 * uniform[:, 2])
    roll = np.where(uniform[:, 3] < 0.95, 4.0, 18.0) * np.clip(normal[:, 1], -3, 3)
    pitch, roll = np.deg2rad(np.clip(pitch, -35.0, 65.0)), np.deg2rad(roll)
    turn = turn_matrix(heading, 2, 0)
    # Half a turn about x leads from y up, z towards the viewer, to the camera's y down, z away from it.
    tip = turn_matrix(pitch + np.pi, 1, 2)
    return turn_matrix(roll, 0, 1) @ tip @ turn


def turn_matrix(angle: Floats, first: int, second: int) -> Floats:
    """Rotations ``[B, 3, 3]`` by ``angle [B]``, from the axis ``first`` towards the axis ``second``."""
    result = np.zeros((len(angle), 3, 3))
    cosine, sine = np.cos(np.ascontiguousarray(angle)), np.sin(np.ascontiguousarray(angle))
    result[:, 3 - first - second, 3 - first - second] = 1
    result[:, first, first] = result[:, second, second] = cosine
    result[:, second, first], result[:, first, second] = sine, -sine
    return result


def _place(seeds: Seeds, joints: Floats, truncation: float) -> tuple[Floats, Floats, Floats]:
    """Translation ``[B, 3]``, focal length ``[B]`` and border of the photograph ``[B, 4]`` for joints ``[B, 49, 3]``.

    The box is chosen in the picture first; the body is then moved until the camera looks at the box's centre.
    """
    uniform, normal = uniforms(seeds, Stream.BOX, 4), normals(seeds, Stream.BOX_MORE, 3)
    # From a phone at arm's length to a tele lens: 1.5 to 15 times the person's height.
    distance = _PERSON_HEIGHT * 1.5 * np.exp(np.log(10.0) * uniform[:, 0])
    transl = np.zeros((len(seeds), 3))
    transl[:, 2] = distance
    cut_at = cut_fractions(seeds, truncation)
    for _ in range(3):
        low, high = _visible_extent(joints + transl[:, None], cut_at, uniform[:, 1] < 0.22)
        shift = (low + high) / 2
        transl[:, :2] -= shift * distance[:, None]
    extent = (high - low).max(axis=1)
    unusual = uniform[:, 2] < 0.08
    zoom = np.where(unusual, -0.2 + 0.6 * uniform[:, 3], np.clip(0.09 * normal[:, 0], -0.25, 0.25))
    side = BOX_MARGIN * extent * np.exp(zoom)
    off = np.clip(np.where(unusual, 0.06, 0.03)[:, None] * normal[:, 1:], -0.12, 0.12) * side[:, None]
    transl[:, :2] += off * distance[:, None]
    return transl, 2 / side, _photo_border(seeds, low - shift + off, high - shift + off, side, cut_at)


def cut_fractions(seeds: Seeds, truncation: float) -> Floats:
    """``[B, 4]`` share of the person's extent that is cut off at the left, top, right and bottom; mostly 0."""
    uniform = uniforms(seeds, Stream.BORDER, 4)
    kind = pick(uniform[:, 1], [weight for weight, _ in _CUTS])
    sides = np.array([sides for _, sides in _CUTS], dtype=np.float64)[kind]
    share = np.stack([0.12 + 0.4 * uniform[:, 2], 0.08 + 0.37 * uniform[:, 2]], axis=1)[:, [0, 1, 0, 1]]
    share[:, 3] = 0.12 + 0.53 * uniform[:, 3]
    return sides * share * (uniform[:, :1] < truncation)


def _visible_extent(points: Floats, cut_at: Floats, only_keypoints: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Lower and upper corner ``[B, 2]`` (tangents) of the visible part of people ``[B, 49, 3]`` in the camera frame.

    Boxes come from masks, which include hands and flesh, or (``only_keypoints [B]``) from the COCO keypoints alone.
    """
    hands = np.stack([points[:, wrist] + 0.6 * (points[:, wrist] - points[:, elbow]) for elbow, wrist in _ARMS], axis=1)
    everything = np.concatenate([points, hands], axis=1)
    flat = everything[..., :2] / everything[..., 2:]
    pad = np.where(only_keypoints, 0.0, _FLESH)[:, None, None] / everything[..., 2:]
    used = np.ones(flat.shape[:2], bool)
    coco = np.zeros(flat.shape[1], bool)
    coco[list(COCO17_FROM_SPIN49)] = True
    used[only_keypoints] = coco
    low, high = _bounds(flat - pad, flat + pad, used)
    size = high - low
    keep_low, keep_high = low + cut_at[:, :2] * size, high - cut_at[:, 2:] * size
    within = used & (flat >= keep_low[:, None]).all(-1) & (flat <= keep_high[:, None]).all(-1)
    is_cut = cut_at.any(axis=1) & within.any(axis=1)
    part_low, part_high = _bounds(flat - pad, flat + pad, np.where(is_cut[:, None], within, used))
    # A limb that crosses the cut reaches it.
    part_low = np.where(cut_at[:, :2] > 0, keep_low, np.maximum(part_low, low))
    part_high = np.where(cut_at[:, 2:] > 0, keep_high, np.minimum(part_high, high))
    return np.where(is_cut[:, None], part_low, low), np.where(is_cut[:, None], part_high, high)


def _bounds(low: Floats, high: Floats, used: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Smallest ``low`` and largest ``high`` ``[B, N, 2]`` among the points ``used [B, N]``."""
    smallest = [np.where(used, low[..., axis], np.inf).min(axis=1) for axis in (0, 1)]
    largest = [np.where(used, high[..., axis], -np.inf).max(axis=1) for axis in (0, 1)]
    return np.stack(smallest, axis=1), np.stack(largest, axis=1)


def _photo_border(seeds: Seeds, low: Floats, high: Floats, side: Floats, cut_at: Floats) -> Floats:
    """``[B, 4]`` border of the photograph: half of the cut people end where it does."""
    at_cut = uniforms(seeds, Stream.BORDER_MORE, 1) < 0.5
    edges = np.concatenate([low, high], axis=1) * (2 / side[:, None])
    whole = np.array([-1.0, -1.0, 1.0, 1.0])
    return np.where(at_cut & (cut_at > 0), np.clip(edges, -1.0, 1.0), whole)


def sample_occluders(seeds: Seeds, joints2d: Floats, share: float) -> Floats:
    """Objects in front of a ``share`` of the people: two at most, each over a joint, or a wide one from below.

    Args:
        seeds: ``[B]`` of the items.
        joints2d: ``[B, 49, 2]`` in crop coordinates.
        share: between 0 and 1.

    Returns:
        ``[B, 2, 6]``, see :class:`People`.
    """
    uniform = uniforms(seeds, Stream.OCCLUDER, 14)
    normal = normals(seeds, Stream.OCCLUDER_MORE, 10).reshape(-1, 2, 5)
    result = np.zeros((len(seeds), 2, 6))
    coco = joints2d[:, COCO17_FROM_SPIN49, :]
    for k in range(2):
        u = uniform[:, 2 + 6 * k : 8 + 6 * k]
        target = coco[np.arange(len(seeds)), (u[:, 0] * 17).astype(np.int64)]
        result[:, k, :2] = np.clip(target, -1.0, 1.0) + 0.1 * normal[:, k, :2]
        result[:, k, 2:4] = np.clip(0.2 * np.exp(0.45 * normal[:, k, 2:4]), 0.06, 0.6)
        result[:, k, 4] = np.where(u[:, 1] < 0.5, 0.15 * normal[:, k, 4], np.pi * u[:, 2])
        result[:, k, 5] = np.where(u[:, 3] < 0.6, OCCLUDER_RECTANGLE, OCCLUDER_ELLIPSE)
    # A table, a wall, a car: everything below some height is hidden.
    wide = uniform[:, 7] < 0.2
    top = 0.9 - 0.95 * uniform[:, 13]
    table = np.stack([0.2 * normal[:, 0, 0], top + 1.0, 1.5 + 0 * top, 1.0 + 0 * top, 0.04 * normal[:, 0, 4],
                      np.full_like(top, OCCLUDER_RECTANGLE)], axis=1)  # fmt: skip
    result[:, 0] = np.where(wide[:, None], table, result[:, 0])
    present = uniform[:, 0] < share
    result[~present] = 0
    result[uniform[:, 1] > 0.35, 1] = 0
    return result
