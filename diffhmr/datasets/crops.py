"""Cutting people out of pictures, as fast as a GPU wants them.

The way of a crop: decode no more than is needed (a part of the picture where its restart markers allow that, at a
half, a quarter or an eighth of its size where the crop stays sharp), low-pass, and one affine warp with sub-pixel
position that is also the map of the points. Pictures stay as they are stored: labels refer to stored pixels, so that an
EXIF orientation is not applied.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from diffhmr.datasets.jpeg import JpegHeader, Window, cut_window, read_header
from diffhmr.errors import UserError

Picture = NDArray[np.uint8]

_REDUCED = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4,
            8: cv2.IMREAD_REDUCED_COLOR_8}  # fmt: skip
_UPSAMPLING_REACH = 2  # pixels whose colours depend on the next block


@dataclass(frozen=True)
class Plan:
    """How one crop is read.

    Attributes:
        reduction: 1, 2, 4 or 8: the picture is decoded at this fraction of its size.
        matrix: ``(2, 3)`` from the pixels of the reduced picture to those of the crop.
        sigma: of the low-pass, in pixels of the reduced picture.
        window: the part of the reduced picture that matters; it may lie outside.
    """

    reduction: int
    matrix: NDArray[np.float64]
    sigma: float
    window: Window


def plan_crop(matrix: NDArray[np.float64], size: int, reducible: bool) -> Plan:
    """The plan for a crop of ``size`` pixels under ``matrix (2, 3)`` from the pixels of the picture to the crop's.

    ``reducible``: the picture can be decoded at a fraction of its size.
    """
    shrink = 1 / math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    reduction = max(factor for factor in _REDUCED if factor == 1 or (reducible and factor <= shrink))
    # The reduced pixel i is the mean of the pixels i k to i k + k - 1, whose centre is i k + (k - 1) / 2.
    linear = matrix[:, :2] * reduction
    offset = matrix[:, 2] + matrix[:, :2].sum(axis=1) * (reduction - 1) / 2
    sigma = 0.5 * math.sqrt(max((shrink / reduction) ** 2 - 1, 0.0))
    corners = np.array([[-0.5, -0.5], [size - 0.5, -0.5], [-0.5, size - 0.5], [size - 0.5, size - 0.5]])
    places = np.linalg.solve(linear, (corners - offset).T)
    reach = 3 * sigma + 2
    left, top = np.floor(places.min(axis=1) - reach).astype(int)
    right, bottom = np.ceil(places.max(axis=1) + reach).astype(int) + 1
    window = Window(int(left), int(top), int(right), int(bottom))
    return Plan(reduction, np.column_stack([linear, offset]), sigma, window)


def warp_crop(picture: Picture, plan: Plan, size: int, origin: tuple[int, int] = (0, 0)) -> Picture:
    """The crop ``[size, size, C]`` of a picture at the scale of ``plan``; black where the picture ends.

    When the picture shrinks it is low-passed first with a Gaussian of about half a pixel of the crop, so that fine
    texture does not alias.

    Args:
        picture: ``[H, W, C]`` uint8, at least the window of the plan as far as there are pixels.
        plan: of the crop.
        size: side of the crop in pixels.
        origin: left and top pixel of ``picture`` in the whole reduced picture.
    """
    height, width = picture.shape[:2]
    left, right = (int(np.clip(x - origin[0], 0, width)) for x in (plan.window.left, plan.window.right))
    top, bottom = (int(np.clip(y - origin[1], 0, height)) for y in (plan.window.top, plan.window.bottom))
    if right <= left or bottom <= top:
        return np.zeros((size, size, *picture.shape[2:]), np.uint8)
    source = picture[top:bottom, left:right]
    if plan.sigma > 0:
        source = np.asarray(cv2.GaussianBlur(source, (0, 0), plan.sigma, borderType=cv2.BORDER_REPLICATE), np.uint8)
    matrix = plan.matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ (left + origin[0], top + origin[1])
    crop = cv2.warpAffine(source, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(crop, np.uint8)


def read_crops(path: str | Path, matrices: Sequence[NDArray[np.float64]], size: int) -> list[Picture]:
    """The crops ``[size, size, 3]`` uint8 RGB of the picture ``path``, which is read once.

    A crop does not depend on which others are cut from the same picture.

    Args:
        path: a picture of any format that OpenCV reads.
        matrices: one ``(2, 3)`` each, from the pixels of the picture to those of the crop; see
            :func:`diffhmr.geometry.camera.crop_matrix`.
        size: side of the crops in pixels.

    Raises:
        UserError: the file is missing, torn or no picture.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the image {path}: {error.strerror or error}") from error
    header = read_header(data)
    if header is None and data[:2] == b"\xff\xd8":
        raise UserError(f"image is cut off: {path}; copy or download it again")
    plans = [plan_crop(matrix, size, header is not None) for matrix in matrices]
    crops: list[Picture] = [np.zeros(0, np.uint8)] * len(plans)
    for reduction in {plan.reduction for plan in plans}:
        chosen = [k for k, plan in enumerate(plans) if plan.reduction == reduction]
        picture, origin = _decode(data, header, [plans[k] for k in chosen], path)
        for k in chosen:
            crops[k] = np.asarray(cv2.cvtColor(warp_crop(picture, plans[k], size, origin), cv2.COLOR_BGR2RGB), np.uint8)
    return crops


def write_planes(rgb: Picture, out: NDArray[np.float32], gain: Sequence[float] = (1.0, 1.0, 1.0)) -> None:
    """Write ``rgb [S, S, 3]`` times ``gain`` per channel, at most 1, to the planes ``out [3, S, S]`` in [0, 1]."""
    for plane, target, factor in zip(cv2.split(rgb), out, gain, strict=True):
        np.multiply(plane, np.float32(factor / 255), out=target)
        if factor > 1:
            np.minimum(target, 1, out=target)


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """Keep OpenCV to one thread inside: workers share the cores, and its thread pool does not survive their fork."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _decode(
    data: bytes, header: JpegHeader | None, plans: Sequence[Plan], path: str | Path
) -> tuple[Picture, tuple[int, int]]:
    """BGR pixels for ``plans``, which share a reduction, and the left and top of them in the reduced picture."""
    reduction = plans[0].reduction
    origin = (0, 0)
    if header is not None:
        cut = cut_window(data, header, _joint_window(plans, header))
        if cut is not None:
            data, left, top = cut
            origin = (left // reduction, top // reduction)
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        picture = None
    if picture is None or picture.size == 0:
        raise UserError(f"image cannot be read: {path}; it is damaged or of an unknown format")
    return np.asarray(picture, np.uint8), origin


def _joint_window(plans: Sequence[Plan], header: JpegHeader) -> Window:
    """The pixels of the whole picture that ``plans`` need; a single one where they need none."""
    scale = plans[0].reduction
    left = scale * min(plan.window.left for plan in plans) - _UPSAMPLING_REACH
    top = scale * min(plan.window.top for plan in plans) - _UPSAMPLING_REACH
    right = scale * max(plan.window.right for plan in plans) + _UPSAMPLING_REACH
    bottom = scale * max(plan.window.bottom for plan in plans) + _UPSAMPLING_REACH
    left, top = min(max(left, 0), header.width - 1), min(max(top, 0), header.height - 1)
    return Window(left, top, min(max(right, left + 1), header.width), min(max(bottom, top + 1), header.height))
