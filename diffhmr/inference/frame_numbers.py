"""Which frame of the video a keypoint file means: numbers in names, counting from 0 or 1, files of other videos."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np
from numpy.typing import NDArray

from diffhmr.errors import UserError

log = logging.getLogger(__name__)

SLACK = 2
"""Frames by which a file may differ from its video: containers and decoders disagree about the last ones."""

_FAR_NUMBER = 1000
MOST = 2**31
"""No video has as many frames, and no file as many people."""
_MOST_DIGITS = 10
_SUFFIX = re.compile(r"\.[A-Za-z]\w*$")


@dataclass(frozen=True)
class FrameNumbers:
    """Frame numbers as a file has them.

    Attributes:
        people: ``[N]`` int64 frame of every person found.
        listed: ``[F]`` int64 all frames, also those without people, if the format lists them; else None.
        first: what the format calls the first frame of a video, 0 or 1; None if it leaves that open.
    """

    people: NDArray[np.int64]
    listed: NDArray[np.int64] | None = None
    first: int | None = None


def numbers_from_keys(keys: Sequence[str | int], source: str) -> NDArray[np.int64]:
    """Frame numbers ``[N]`` of image ids or file names.

    In names it is the group of digits that differs most from name to name, the last such group if several do:
    ``clip2_000017_keypoints.json`` is frame 17. If names have no digits, frames follow each other in alphabetical
    order.

    Args:
        keys: one per person or file; numbers are taken as they are.
        source: the file, for messages.

    Raises:
        UserError: a number is one that no video has, as a time in nanoseconds is.
    """
    if all(isinstance(key, int) for key in keys):
        return _checked([int(key) for key in keys], keys, source)
    names = {key: _SUFFIX.sub("", PurePath(str(key)).name) for key in dict.fromkeys(keys)}
    groups = {key: re.findall(r"\d+", name) for key, name in names.items()}
    if not all(groups.values()):
        log.warning("%s: the images have no numbers in their names, their alphabetical order is taken", source)
        places = {key: place for place, key in enumerate(sorted(names, key=str))}
        return np.array([places[key] for key in keys], dtype=np.int64)
    # Groups are counted from the end: prefixes differ more often than suffixes.
    depth = min(len(found) for found in groups.values())
    distinct = [len({found[-1 - place].lstrip("0") for found in groups.values()}) for place in range(depth)]
    place = distinct.index(max(distinct))
    digits = {key: found[-1 - place].lstrip("0") for key, found in groups.items()}
    numbers = {key: int(word or 0) if len(word) <= _MOST_DIGITS else MOST for key, word in digits.items()}
    return _checked([numbers[key] for key in keys], keys, source)


def _checked(numbers: list[int], keys: Sequence[str | int], source: str) -> NDArray[np.int64]:
    far = next((key for key, number in zip(keys, numbers, strict=True) if abs(number) >= MOST), None)
    if far is not None:
        raise UserError(f"{source}: {str(far)[:60]} is no frame number: number the frames from 0 or 1")
    return np.array(numbers, dtype=np.int64)


def align_frames(
    numbers: FrameNumbers, num_frames: int | None, source: str
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Frame numbers from 0 of all people, and which people to keep.

    Numbers from 1 are recognised: the last number is that of the frames in the video, the format says so, or a format
    that leaves it open begins at 1, which is told in a warning if nothing confirms it. Up to two frames more than the
    video has are dropped with a warning.

    Args:
        numbers: as in the file; at least one person.
        num_frames: of the video, if it is known.
        source: the file, for messages.

    Raises:
        UserError: the file has over :data:`SLACK` frames more than the video, or lists over so many fewer, or its
            numbers do not fit.
    """
    listed = numbers.people if numbers.listed is None else numbers.listed
    low, high = int(listed.min()), int(listed.max())
    if low < 0:
        raise UserError(f"{source} has a frame number {low}: number frames from 0")
    complete = numbers.listed is not None
    offset = _first_number(numbers, low, high, num_frames, source)
    if num_frames is None:
        if low > max(high - low, _FAR_NUMBER):
            log.warning("%s: frame numbers begin at %d, which is taken as frame 0", source, low)
            offset = low
        frames = numbers.people - offset
        return frames, np.ones(len(frames), dtype=bool)
    last = high - offset
    if last >= num_frames + SLACK and high - low < num_frames + SLACK:
        raise UserError(
            f"{source} numbers its frames from {low} to {high}, but the video has {num_frames} frames: number them "
            "from 0, the first frame of the video"
        )
    if last >= num_frames + SLACK or (complete and last + 1 < num_frames - SLACK):
        raise UserError(
            f"{source} has {last + 1} frames, but the video has {num_frames}: give the keypoints of this video, found "
            "at its full frame rate, or cut the video to the same frames"
        )
    frames = numbers.people - offset
    keep: NDArray[np.bool_] = frames < num_frames
    if last >= num_frames:
        log.warning("%s has %d frames, the video %d: the last ones are left out", source, last + 1, num_frames)
    elif last + 1 < num_frames and complete:
        log.warning("%s has %d frames, the video %d: people are missing in the last", source, last + 1, num_frames)
    elif last + 1 < num_frames - SLACK and 2 * last < num_frames + SLACK:
        log.warning(
            "%s: nobody is found after frame %d of the video's %d; is it of this video, at its full frame rate?",
            source, last, num_frames,
        )  # fmt: skip
    return frames, keep


def _first_number(numbers: FrameNumbers, low: int, high: int, num_frames: int | None, source: str) -> int:
    """What the file calls the first frame of the video, 0 or 1."""
    if low == 0:
        return 0
    if low == 1 and high == num_frames:
        return 1
    if numbers.first is not None:
        return numbers.first
    unclear = num_frames is None or (numbers.listed is not None and high != num_frames - 1)
    confirmed = num_frames is not None and high == num_frames - 1
    if low == 1 and not unclear and not confirmed:
        log.warning(
            "%s: nobody is found in a frame 0, and frame 1 is taken as the second one of the video; if it is the "
            "first, number the frames from 0",
            source,
        )
    if low > 1 or not unclear:
        return 0
    log.warning("%s: numbering from 1 is assumed: its frame 1 is taken as the first one of the video", source)
    return 1
