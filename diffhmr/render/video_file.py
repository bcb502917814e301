"""Video files, written frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from diffhmr.errors import UserError
from diffhmr.files import atomic_path

FrameSink = Callable[[NDArray[np.uint8]], None]
"""Takes the next frame, ``[H, W, 3]`` uint8 RGB."""

_CODEC = "mp4v"  # MPEG-4: every OpenCV with FFmpeg can write it, most others too


def even_size(width: int, height: int) -> tuple[int, int]:
    """The largest width and height that a video can have within these: both are even, as the codec needs them."""
    return max(width // 2 * 2, 2), max(height // 2 * 2, 2)


@contextmanager
def video_writer(path: str | Path, size: tuple[int, int], fps: float) -> Iterator[FrameSink]:
    """Yield a function that takes the frames of an ``.mp4`` file, which appears when the block succeeds.

    Args:
        path: of the file, ending in ``.mp4``.
        size: width and height in pixels, both even (:func:`even_size`).
        fps: frames per second.

    Raises:
        UserError: OpenCV cannot write such videos, or the file cannot be written as a whole.
    """
    path = Path(path)
    count = 0
    # FFmpeg takes what stands before a colon for a protocol, unless the path is absolute.
    with atomic_path(path.absolute()) as temporary:
        writer = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*_CODEC), _storable(fps), size)

        def write(rgb: NDArray[np.uint8]) -> None:
            nonlocal count
            assert rgb.shape == (size[1], size[0], 3) and rgb.dtype == np.uint8, f"{rgb.shape} for {size}"
            writer.write(np.ascontiguousarray(rgb[..., ::-1]))
            count += 1

        try:
            if not writer.isOpened():
                raise UserError(
                    f"cannot write {path}: this OpenCV has no {_CODEC} encoder; install PyPI's opencv-python-headless"
                )
            yield write
        finally:
            writer.release()
        assert count, "a video needs a frame"
        # The encoder says nothing when the disk is full.
        written = cv2.VideoCapture(str(temporary))
        complete = written.isOpened() and int(written.get(cv2.CAP_PROP_FRAME_COUNT)) == count
        written.release()
        if not complete:
            raise UserError(f"cannot write {path} as a whole: is the disk full?")


def _storable(fps: float) -> float:
    """The nearest rate that the codec can store: as a fraction whose numerator has 16 bits."""
    digits = 3 if fps < 65 else 2 if fps < 655 else 1
    return round(fps, digits)
