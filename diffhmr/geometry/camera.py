"""Cameras: the weak-perspective crop camera (s, tx, ty), pinhole cameras, and the way from one to the other.

Frames are OpenCV's: x right, y down, z forward. Pixel coordinates have their origin at the CENTRE of the top-left
pixel, so an image of width W spans [-0.5, W - 0.5]. Coordinates of a box or crop run over [-1, 1] from edge to edge.

The crop camera is that of SPIN (Kolotouros et al., ICCV 2019): a pinhole with the very long focal length of 5000 px on
a 224 px crop, in which (s, tx, ty) stand for the translation (tx, ty, 2 f / (224 s)).
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffhmr.geometry.rotation import look_rotation

FOCAL_HALF_CROP = 2 * 5000 / 224
"""SPIN's focal length in units of half the crop side."""

_MIN_DEPTH = 1e-3
_MIN_SCALE = 1e-6


def crop_translation(camera: Tensor, focal: float = FOCAL_HALF_CROP) -> Tensor:
    """Translation ``[..., 3]`` in metres that the crop camera ``camera [..., 3]`` = (s, tx, ty) stands for.

    ``focal`` is in units of half the crop side. SPIN, ``train/trainer.py``: ``(tx, ty, focal / (s + 1e-9))``.
    """
    return torch.cat([camera[..., 1:], focal / (camera[..., :1] + 1e-9)], dim=-1)


def project_crop(points: Tensor, camera: Tensor, focal: float = FOCAL_HALF_CROP) -> Tensor:
    """Project ``points [..., N, 3]`` (metres) with ``camera [..., 3]`` to crop coordinates ``[..., N, 2]`` in [-1, 1].

    The same as the pinhole projection of ``points + crop_translation(camera)``, written as
    ``s (x + tx) / (1 + s z / f)`` so that values and gradients stay finite when s passes through zero.
    """
    scale = camera[..., None, :1]
    depth = (1 + scale * points[..., 2:] / focal).clamp_min(_MIN_DEPTH)
    return scale * (points[..., :2] + camera[..., None, 1:]) / depth


def fit_crop_camera(points3d: Tensor, points2d: Tensor, weight: Tensor, focal: float = FOCAL_HALF_CROP) -> Tensor:
    """Camera ``[..., 3]`` under which ``points3d [..., N, 3]`` project best to ``points2d [..., N, 2]``.

    Weighted least squares with ``weight [..., N]`` >= 0. Weak perspective has a closed form; two more rounds with the
    depths known from the round before make it exact for :func:`project_crop`. At least two points at different places
    need a positive weight; without them, or when the best scale is not positive, s is tiny and the camera meaningless.
    """
    camera = _fit_weak_perspective(points3d[..., :2], points2d, weight)
    for _ in range(2):
        depth = (1 + camera[..., None, :1] * points3d[..., 2:] / focal).clamp_min(_MIN_DEPTH)
        camera = _fit_weak_perspective(points3d[..., :2], points2d * depth, weight / depth.squeeze(-1).square())
    return camera


def _fit_weak_perspective(points: Tensor, points2d: Tensor, weight: Tensor) -> Tensor:
    """(s, tx, ty) that minimises ``sum weight |points2d - s (points + t)|^2``, all over N."""
    share = weight.unsqueeze(-1) / weight.sum(-1)[..., None, None].clamp_min(1e-12)
    mean = (share * points).sum(-2)
    mean2d = (share * points2d).sum(-2)
    centred = points - mean.unsqueeze(-2)
    variance = (share * centred.square()).sum((-2, -1))
    covariance = (share * centred * (points2d - mean2d.unsqueeze(-2))).sum((-2, -1))
    scale = (covariance / variance.clamp_min(1e-12)).clamp_min(_MIN_SCALE).unsqueeze(-1)
    return torch.cat([scale, mean2d / scale - mean], dim=-1)


def intrinsics(focal_px: float, width: int, height: int) -> Tensor:
    """Pinhole matrix K ``[3, 3]`` with the principal point at the centre of the image, ((W - 1) / 2, (H - 1) / 2)."""
    return torch.tensor([[focal_px, 0.0, (width - 1) / 2], [0.0, focal_px, (height - 1) / 2], [0.0, 0.0, 1.0]])


def scale_intrinsics(intrinsic: Tensor, x: float, y: float) -> Tensor:
    """K ``[..., 3, 3]`` of the picture whose width and height are ``x`` and ``y`` times those of that of ``intrinsic``.

    The edges of the picture stay its edges, so the centre of the top-left pixel moves.
    """
    scaled = intrinsic.clone()
    for axis, factor in enumerate((x, y)):
        scaled[..., axis, :] *= factor
        scaled[..., axis, 2] += (factor - 1) / 2
    return scaled


def project(points: Tensor, intrinsic: Tensor) -> Tensor:
    """Pixels ``[..., N, 2]`` of ``points [..., N, 3]`` in the camera frame under K ``[..., 3, 3]``.

    Points behind the camera have no image; they are projected as if they lay 1 mm before it.
    """
    normalised = points[..., :2] / points[..., 2:].clamp_min(_MIN_DEPTH)
    return normalised @ intrinsic[..., :2, :2].transpose(-1, -2) + intrinsic[..., None, :2, 2]


def crop_to_full(camera: Tensor, box_centre: Tensor, box_side: Tensor, intrinsic: Tensor) -> tuple[Tensor, Tensor]:
    """Place the frame of a crop camera in the camera of the full image.

    The network sees a crop as if its camera looked straight at it. That virtual camera looks along the ray through the
    centre of the box, so points of the crop frame lie at ``rotation @ point + transl`` in the full camera.

    An off-axis box is seen obliquely: at the angle a from the optical axis, a length on the box spans, from the virtual
    camera, cos(a) (across the radius) or cos(a)^2 (along it) times what it spans at the principal point. The geometric
    mean of both, cos(a)^1.5, is taken; the reprojection is right to the factor cos(a)^(+-0.5) in those directions, and
    up to the perspective of a real lens, which the crop camera hardly has.

    Args:
        camera: ``[..., 3]`` (s, tx, ty).
        box_centre: ``[..., 2]`` pixels.
        box_side: ``[...]`` pixels.
        intrinsic: K ``[..., 3, 3]``; its two focal lengths may differ, their mean gives the distance.

    Returns:
        rotation ``[..., 3, 3]`` and transl ``[..., 3]`` in metres.
    """
    focal = intrinsic[..., [0, 1], [0, 1]]
    tangent = (box_centre - intrinsic[..., :2, 2]) / focal
    ray = torch.cat([tangent, torch.ones_like(tangent[..., :1])], dim=-1)
    cosine = torch.linalg.vector_norm(ray, dim=-1).reciprocal()
    rotation = look_rotation(ray)
    virtual_focal = 2 * focal.mean(-1) / (box_side * cosine**1.5)
    depth = virtual_focal / (camera[..., 0] + 1e-9)
    local = torch.cat([camera[..., 1:], depth.unsqueeze(-1)], dim=-1)
    return rotation, (rotation @ local.unsqueeze(-1)).squeeze(-1)


def estimate_translation(points3d: Tensor, points2d: Tensor, intrinsic: Tensor, weight: Tensor) -> Tensor:
    """Translation ``[..., 3]`` under which ``points3d [..., N, 3]`` project to the pixels ``points2d [..., N, 2]``.

    Weighted linear least squares of ``f (x + tx) = (u - c) (z + tz)`` with ``weight [..., N]`` >= 0, solved in float64.
    At least two points at different places need a positive weight, else the depth is arbitrary.
    """
    dtype = points3d.dtype
    points3d, points2d, weight = points3d.double(), points2d.double(), weight.double()
    intrinsic = intrinsic.double()
    focal = intrinsic[..., [0, 1], [0, 1]]
    tangent = (points2d - intrinsic[..., None, :2, 2]) / focal.unsqueeze(-2)
    target = tangent * points3d[..., 2:] - points3d[..., :2]
    weight = weight.unsqueeze(-1)
    share = weight / weight.sum(-2, keepdim=True).clamp_min(1e-12)
    # Eliminating tx and ty leaves one equation in tz, in centred values: no cancellation for a far person.
    mean_tangent, mean_target = (share * tangent).sum(-2), (share * target).sum(-2)
    centred = tangent - mean_tangent.unsqueeze(-2)
    spread = (share * centred.square()).sum((-2, -1)).clamp_min(1e-18)
    depth = -(share * centred * (target - mean_target.unsqueeze(-2))).sum((-2, -1)) / spread
    lateral = mean_target + mean_tangent * depth.unsqueeze(-1)
    return torch.cat([lateral, depth.unsqueeze(-1)], dim=-1).to(dtype)


def box_to_normalised(points: Tensor, centre: Tensor, side: Tensor) -> Tensor:
    """Image pixels ``[..., N, 2]`` to [-1, 1] over the square box of ``centre [..., 2]`` and ``side [...]`` pixels."""
    return 2 * (points - centre.unsqueeze(-2)) / side[..., None, None]


def normalised_to_box(points: Tensor, centre: Tensor, side: Tensor) -> Tensor:
    """[-1, 1] over the square box to image pixels, both ``[..., N, 2]``; inverse of :func:`box_to_normalised`."""
    return points * side[..., None, None] / 2 + centre.unsqueeze(-2)


def normalised_to_pixel(points: Tensor, size: int) -> Tensor:
    """[-1, 1] over a crop of ``size`` pixels to its pixel coordinates, any shape: (n + 1) size / 2 - 0.5."""
    return (points + 1) * (size / 2) - 0.5


def pixel_to_normalised(points: Tensor, size: int) -> Tensor:
    """Pixel coordinates of a crop of ``size`` pixels to [-1, 1], any shape; inverse of :func:`normalised_to_pixel`."""
    return (points + 0.5) * (2 / size) - 1


def crop_matrix(
    centre: Tensor,
    side: Tensor,
    size: int,
    rotation_rad: Tensor | float = 0.0,
    flip: Tensor | bool = False,
) -> Tensor:
    """Affine map ``[..., 2, 3]`` from image pixels to the pixels of a square crop.

    The picture is turned by ``rotation_rad`` about the centre of the box (positive from x to y: clockwise as seen),
    scaled from ``side [...]`` to ``size`` pixels, and then mirrored left to right where ``flip``.

    Args:
        centre: ``[..., 2]`` of the box in image pixels.
        side: ``[...]`` of the box in image pixels.
        size: side of the crop in pixels.
        rotation_rad: ``[...]`` or a number.
        flip: bool ``[...]`` or one bool.
    """
    angle = torch.as_tensor(rotation_rad, dtype=centre.dtype, device=centre.device).expand(side.shape)
    mirror = 1 - 2 * torch.as_tensor(flip, device=centre.device).to(centre.dtype).expand(side.shape)
    cos, sin = torch.cos(angle), torch.sin(angle)
    rows = torch.stack([torch.stack([mirror * cos, -mirror * sin], -1), torch.stack([sin, cos], -1)], dim=-2)
    linear = rows * (size / side)[..., None, None]
    offset = (size - 1) / 2 - (linear @ centre.unsqueeze(-1))
    return torch.cat([linear, offset], dim=-1)
