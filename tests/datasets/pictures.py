"""Pictures for tests: smooth ones whose values are known between the pixels, and rough ones."""

from __future__ import annotations

import cv2
import numpy as np


def ramp(width: int, height: int) -> np.ndarray:
    """``[H, W, 3]`` uint8 BGR: blue grows to the right, green downwards, red is their mean."""
    x = np.linspace(20, 230, width)[None, :].repeat(height, 0)
    y = np.linspace(20, 230, height)[:, None].repeat(width, 1)
    return np.stack([x, y, (x + y) / 2], axis=-1).round().astype(np.uint8)


def rough(width: int, height: int, seed: int = 0) -> np.ndarray:
    """``[H, W, 3]`` uint8 BGR with structure at all scales."""
    generator = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3))
    for level in range(6):
        noise = generator.normal(size=(max(height >> level, 2), max(width >> level, 2), 3))
        picture += 2**level * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return (127 + 60 * picture / picture.std()).clip(0, 255).astype(np.uint8)


def plain_jpeg(bgr: np.ndarray, *options: int) -> bytes:
    """A JPEG file as OpenCV writes it, without restart markers."""
    return bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95, *options])[1])


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """The same JPEG file with an EXIF orientation."""
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + orientation.to_bytes(4, "little") + b"\0\0\0\0"
    content = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content + jpeg[2:]
