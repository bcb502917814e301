"""Reading photographs and cutting people out of them."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from diffhmr.datasets.crops import plan_crop, warp_crop
from diffhmr.errors import UserError
from diffhmr.files import require_file
from diffhmr.geometry.camera import crop_matrix

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")

_REMEDY = f"give a picture ({' '.join(IMAGE_SUFFIXES)}) or a folder of pictures"


@dataclass(frozen=True)
class Photo:
    """One picture.

    Attributes:
        path: the file it was read from.
        rgb: ``[H, W, 3]`` uint8, upright (the EXIF orientation is applied).
    """

    path: Path
    rgb: NDArray[np.uint8]

    @property
    def width(self) -> int:
        """Pixels from left to right."""
        return int(self.rgb.shape[1])

    @property
    def height(self) -> int:
        """Pixels from top to bottom."""
        return int(self.rgb.shape[0])


def list_images(path: str | Path) -> list[Path]:
    """``path`` itself, or the pictures in the folder ``path`` sorted by name.

    Raises:
        UserError: there is no such file or folder, or the folder holds no picture.
    """
    path = Path(path)
    if not path.is_dir():
        return [require_file(path, "image", _REMEDY)]
    found = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    if not found:
        raise UserError(f"no picture in the folder {path}: {_REMEDY}")
    return found


def read_photo(path: str | Path) -> Photo:
    """Read a picture of any bit depth, grey or colour; transparent parts are laid over middle grey.

    Raises:
        UserError: the file is missing, empty, cut off or no picture.
    """
    path = require_file(path, "image", _REMEDY)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read the image {path}: {error.strerror or error}") from error
    jpeg = data[:2] == b"\xff\xd8"
    if jpeg and not _jpeg_is_complete(data):
        raise UserError(f"image is cut off: {path}; copy or download it again")
    with native_messages() as messages:
        bgr = _decode(data, cv2.IMREAD_COLOR)
    if bgr is None:
        raise UserError(f"image cannot be read: {path}; it is damaged or of an unknown format, {_REMEDY}")
    if messages:
        log.warning("%s: the picture may be damaged (%s)", path.name, messages[0])
    with native_messages():
        raw = None if jpeg else _decode(data, cv2.IMREAD_UNCHANGED)
    if raw is not None and raw.ndim == 3 and raw.shape[2] == 4 and raw.shape[:2] == bgr.shape[:2]:
        opacity = raw[..., 3:].astype(np.float32) / np.iinfo(raw.dtype).max
        bgr = (bgr * opacity + 128 * (1 - opacity)).round().astype(np.uint8)
    return Photo(path, np.ascontiguousarray(bgr[..., ::-1]))


def crop_square(photo: Photo, centre: tuple[float, float], side: float, size: int) -> NDArray[np.uint8]:
    """The square box of ``side`` pixels about ``centre`` (pixels) as a crop ``[size, size, 3]`` uint8 RGB.

    One affine warp with sub-pixel position. When the box shrinks, the picture is low-passed first with a Gaussian of
    about half an output pixel, so that fine texture does not alias. What lies outside the picture is black, as it is in
    the pictures that the image models are trained on.
    """
    centre64, side64 = torch.tensor(centre, dtype=torch.float64), torch.tensor(side, dtype=torch.float64)
    plan = plan_crop(crop_matrix(centre64, side64, size).numpy(), size, reducible=False)
    return warp_crop(photo.rgb, plan, size)


@contextmanager
def native_messages() -> Iterator[list[str]]:
    """Catch the lines that libraries like libpng write to the standard error of the process; they know no other way."""
    lines: list[str] = []
    try:
        standard_error = os.dup(2)
    except OSError:  # there is none, as in a service
        yield lines
        return
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(standard_error, 2)
            os.close(standard_error)
            caught.seek(0)
            lines += [line for line in caught.read().decode(errors="replace").splitlines() if line]


def _decode(data: bytes, flags: int) -> NDArray[Any] | None:
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(error.err) from error
        return None
    return None if image is None or image.size == 0 else image


def _jpeg_is_complete(data: bytes) -> bool:
    """Whether the main picture of a JPEG file has its end marker: decoders fill the rest of a torn file with grey.

    Walks over the header segments, because an embedded thumbnail has an end marker of its own.
    """
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xDA:  # start of scan: entropy-coded data, in which no 0xFF is followed by 0xD9
            return data.find(b"\xff\xd9", position) >= 0
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False
