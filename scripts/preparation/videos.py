"""Frames of videos by their numbers, counted from 0, and what to do with damaged ones."""

from __future__ import annotations

import logging
import math
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np

from diffhmr.errors import UserError

PICTURE_BYTES_PER_PIXEL = 0.2
"""About what JPEGs of these frames take, for the estimate of the size."""

_log = logging.getLogger(__name__)


def count_frames(path: Path) -> int:
    """Number of frames up to the end or to the first one that is missing; 0 for what is no video.

    Counts what the container holds, without decoding it. The number in the header is not asked: a download that broke
    off still has that of the whole video.
    """
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened() or not capture.set(cv2.CAP_PROP_FORMAT, -1):  # -1: packets as they are
            return 0
        # Frames that are decoded from later ones are stored after them.
        times = sorted(_times(capture))
        return sum(1 for _ in _until_gap(times, _longest_step(capture), path))
    finally:
        capture.release()


def announced_frames(path: Path) -> int:
    """Number of frames in the header of a video, which is quick to read and may be wrong; 0 for what is no video."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
    finally:
        capture.release()


def frame_size(path: Path) -> tuple[int, int]:
    """Width and height; (0, 0) for what is no video."""
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        return int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    finally:
        capture.release()


def read_frames(path: Path, wanted: Collection[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Number and BGR picture of the ``wanted`` frames, in the order of the video.

    Raises:
        UserError: a frame cannot be decoded.
    """
    remaining = set(wanted)
    last = max(remaining, default=-1)
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        for number in _until_gap(_times(capture), _longest_step(capture), path):
            if number in remaining:
                done, image = capture.retrieve()
                if not done:
                    break
                remaining.remove(number)
                yield number, image
            if number >= last:
                break
    finally:
        capture.release()
    if remaining:
        raise UserError(f"{path}: frame {min(remaining)} cannot be decoded; download the video again, or leave it out")


def _times(capture: cv2.VideoCapture) -> Iterator[float]:
    """Step from frame to frame; the time of each in milliseconds."""
    while capture.grab():
        yield capture.get(cv2.CAP_PROP_POS_MSEC)


def _longest_step(capture: cv2.VideoCapture) -> float:
    """Milliseconds between frames of which none is missing, at most."""
    rate = capture.get(cv2.CAP_PROP_FPS)
    return 1500 / rate if math.isfinite(rate) and rate > 0 else math.inf


def _until_gap(times: Iterable[float], longest: float, path: Path) -> Iterator[int]:
    """Number of each of the frames with these ``times``, up to the end or the first step that is too long.

    Where data are damaged, decoders go on with the next frame that they understand: a mere count would then give later
    pictures the labels of earlier ones.
    """
    before = -math.inf
    for number, now in enumerate(times):
        if number and now - before > longest:
            _log.warning("%s: frames are missing after number %d; the rest is not used", path, number - 1)
            return
        before = now
        yield number
