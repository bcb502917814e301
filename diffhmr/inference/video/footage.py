"""Reading videos frame by frame: only one frame is held in memory, however long the video is."""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from diffhmr.errors import UserError
from diffhmr.files import name_for_results, require_file
from diffhmr.inference.photo import native_messages

log = logging.getLogger(__name__)

USUAL_FPS = 30.0
_FPS_RANGE = (1.0, 1000.0)
_MOST_SHIFT = 0.1  # s
_SLACK = 2  # containers and decoders disagree about the last frames
_MOST_FRAMES = 10**8  # a header that announces more is damaged
_MAX_SIDE = 16384
_BACKGROUND = 236
_REMEDY = "give a video that FFmpeg can read, such as .mp4, .mov, .avi, .mkv or .webm"
_VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp",
    ".ogv", ".gif",
)  # fmt: skip
_KEYPOINT_SUFFIXES = (".json", ".npy", ".npz")
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Footage:
    """A video, or the empty background for keypoints whose video is not at hand.

    Attributes:
        path: the video, or None.
        name: of the results' folder.
        size: width and height in pixels, upright.
        fps: frames per second.
        num_frames: how many frames can be read; 0 while that is not known.
        announced: how many the file says it has; 0 where it says nothing.
    """

    path: Path | None
    name: str
    size: tuple[int, int]
    fps: float
    num_frames: int = 0
    announced: int = 0

    @property
    def cut_off(self) -> bool:
        """The file announces more frames than can be read."""
        return bool(self.num_frames) and self.announced > self.num_frames + _SLACK

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """The frames ``[H, W, 3]`` uint8 RGB, one after the other; of a background, ``num_frames`` plain ones.

        Raises:
            UserError: the size of the picture changes on the way.
        """
        width, height = self.size
        if self.path is None:
            for _ in range(self.num_frames):
                yield np.full((height, width, 3), _BACKGROUND, dtype=np.uint8)
            return
        with _opened(self.path) as video:
            while (bgr := _next(video)) is not None:
                if bgr.shape != (height, width, 3):
                    raise UserError(
                        f"{self.path}: the picture changes from {width} x {height} to {bgr.shape[1]} x {bgr.shape[0]} "
                        "pixels on the way; cut the video there or convert it to one size"
                    )
                yield np.ascontiguousarray(bgr[..., ::-1])

    def counted(self, num_frames: int) -> Footage:
        """The footage, now that it is known how many frames can be read; a warning says if the file is cut off.

        Raises:
            UserError: there are fewer than two.
        """
        if num_frames < 2:
            raise UserError(
                f"{self.path or self.name} has {num_frames} frame{'s' * (num_frames != 1)}, but a motion needs two or "
                "more; for a single picture use python demo.py --image"
            )
        footage = replace(self, num_frames=num_frames)
        if footage.cut_off:
            log.warning(
                "%s announces %d frames, but only %d can be read: the video is cut off or damaged, what can be read is "
                "used",
                self.path, self.announced, num_frames,
            )  # fmt: skip
        return footage


def open_footage(path: str | Path, fps: float | None = None) -> Footage:
    """Look at the first frame of a video; :func:`count_frames` or another first pass says how many there are.

    Args:
        path: the file.
        fps: frames per second, instead of what the file says.

    Raises:
        UserError: the file is missing or no video, or a frame rate makes no sense.
    """
    path = require_file(path, "video", _REMEDY)
    _check_fps(fps)
    with _opened(path) as video, native_messages():
        first = _next(video)
        announced, rate = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)
    if first is None:
        raise UserError(f"no frame of the video {path} can be read: it is damaged or of an unknown format; {_REMEDY}")
    if fps is None and not (math.isfinite(rate) and _FPS_RANGE[0] <= rate <= _FPS_RANGE[1]):
        said = f"says {rate:g} frames per second" if math.isfinite(rate) and rate > 0 else "does not say its frame rate"
        log.warning("%s %s, %g per second is taken; see --fps", path, said, USUAL_FPS)
        rate = USUAL_FPS
    known = math.isfinite(announced) and 0 < announced <= _MOST_FRAMES
    size = (int(first.shape[1]), int(first.shape[0]))
    return Footage(
        path,
        name_for_results(path, _VIDEO_SUFFIXES),
        size,
        fps or float(rate),
        announced=int(announced) if known else 0,
    )


def plain_footage(keypoints: str | Path, size: tuple[int, int], fps: float | None = None) -> Footage:
    """The footage of a keypoint file whose video is not at hand; how many frames it has, the keypoints say.

    Raises:
        UserError: size or frame rate make no sense.
    """
    _check_fps(fps)
    if not all(2 <= side <= _MAX_SIDE for side in size):
        raise UserError(f"--size is {size[0]}x{size[1]}: give the video's width and height in pixels, such as 1280x720")
    return Footage(None, name_for_results(keypoints, _KEYPOINT_SUFFIXES), size, fps or USUAL_FPS)


def parse_size(text: str) -> tuple[int, int]:
    """``"1280x720"`` as width and height.

    Raises:
        UserError: it is not of this form.
    """
    match = re.fullmatch(r"(\d{1,6})[xX](\d{1,6})", text)
    if match is None:
        raise UserError(f"--size is {text!r}: give the video's width and height in pixels, such as 1280x720")
    return int(match[1]), int(match[2])


def count_frames(footage: Footage) -> Footage:
    """The footage with the number of its frames, found by decoding them all: what containers say is often wrong.

    Raises:
        UserError: there are fewer than two.
    """
    assert footage.path is not None
    times = []
    with _opened(footage.path) as video, progress(total=footage.announced, what="counting frames") as bar:
        while _grabbed(video):
            times.append(video.get(cv2.CAP_PROP_POS_MSEC) / 1000)
            bar.update()
    _tell_uneven(footage, np.array(times))
    return footage.counted(len(times))


def _tell_uneven(footage: Footage, times: NDArray[np.float64]) -> None:
    """A warning if frames at the ``times [T]`` in seconds are not where a constant frame rate would have them."""
    if len(times) < 2 or not times[-1] > times[0]:  # some files have no times
        return
    shift = np.abs(times - np.linspace(times[0], times[-1], len(times))).max()
    if shift > _MOST_SHIFT:
        log.warning(
            "%s: the frames are not evenly spaced in time, up to %.1f s from where a constant rate would have them; "
            "here %g per second are taken, so speeds will be wrong; better convert it before the keypoints are found "
            "(ffmpeg -i IN -vf fps=%d OUT)",
            footage.path, shift, footage.fps, round(footage.fps),
        )  # fmt: skip


def watched(items: Iterable[_Item], total: int, what: str) -> Iterator[_Item]:
    """``items`` themselves, with a progress bar on terminals."""
    with progress(total, what) as bar:
        for item in items:
            yield item
            bar.update()


def progress(total: int, what: str) -> tqdm:
    """A progress bar, which shows only where a terminal can show it."""
    return tqdm(total=total or None, desc=what, unit="frame", disable=None, leave=False)


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    # FFmpeg reports on damaged frames by writing to the terminal; it looks at this when it is used first.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    with native_messages():
        # FFmpeg takes what stands before a colon for a protocol, unless the path is absolute.
        video = cv2.VideoCapture(str(path.absolute()))
    try:
        if not video.isOpened():
            raise UserError(f"{path} cannot be read as a video: it is damaged, cut off or of another kind; {_REMEDY}")
        yield video
    finally:
        video.release()


def _grabbed(video: cv2.VideoCapture) -> bool:
    try:
        return bool(video.grab())
    except cv2.error:
        return False


def _next(video: cv2.VideoCapture) -> NDArray[np.uint8] | None:
    """The next frame, BGR; None at the end, which is also where nothing more can be decoded."""
    try:
        fine, bgr = video.read()
    except cv2.error:
        return None
    if not fine or bgr is None:
        return None
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_GRAY2BGR) if bgr.ndim == 2 else bgr, dtype=np.uint8)


def _check_fps(fps: float | None) -> None:
    if fps is not None and not (math.isfinite(fps) and _FPS_RANGE[0] <= fps <= _FPS_RANGE[1]):
        raise UserError(f"--fps is {fps:g}: give the video's frames per second, between 1 and 1000")
