"""Videos in files that hold frames one after the other, and the clips that are cut out of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffhmr.datasets.clip_files.tables import as_text

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Videos:
    """Which frames of a file belong together.

    Attributes:
        names: of the videos; none occurs twice.
        starts: ``[V]`` first frame of each.
        lengths: ``[V]`` how many it has.
    """

    names: tuple[str, ...]
    starts: Indices
    lengths: Indices

    def __len__(self) -> int:
        return len(self.names)

    def frames(self, video: int) -> Indices:
        """``[T]`` the frames of a video."""
        return np.arange(self.starts[video], self.starts[video] + self.lengths[video])


def find_videos(ids: NDArray[Any]) -> Videos:
    """The runs of equal ``ids [N]``. A name that comes back later is another video, ``NAME#2``."""
    changes = np.flatnonzero(ids[1:] != ids[:-1]) + 1
    starts = np.concatenate([[0], changes]).astype(np.int64)
    return Videos(_unique(as_text(ids[starts]).tolist()), starts, np.diff(np.append(starts, len(ids))))


def videos_of_lengths(names: list[str], lengths: list[int]) -> Videos:
    """Videos that lie one after the other."""
    ends = np.cumsum(np.asarray(lengths, np.int64))
    return Videos(_unique(names), ends - lengths, np.asarray(lengths, np.int64))


def _unique(names: list[str]) -> tuple[str, ...]:
    seen: Counter[str] = Counter()
    result = []
    for name in names:
        seen[name] += 1
        result.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return tuple(result)


class Windows:
    """Clips of ``frames`` frames of one video each, which begin every ``stride`` frames.

    Nothing is lost: the last clip of a video ends with it, and so may begin sooner than a stride after the one before.
    A video that is too short gives one clip, in which it runs forwards and backwards in turns, so that the speed stays;
    a single picture stands still.
    """

    def __init__(self, videos: Videos, frames: int, stride: int) -> None:
        self._videos, self._frames, self._stride = videos, frames, stride
        self._spare = np.maximum(videos.lengths - frames, 0)
        counts = -(-self._spare // stride) + 1
        self._ends = np.cumsum(counts)
        self._begins = self._ends - counts

    def __len__(self) -> int:
        return int(self._ends[-1])

    def first_frames(self, windows: Indices) -> Indices:
        """``[B]``: the frame of the file with which each of ``windows [B]`` begins."""
        video, offset = self._places(windows)
        return self._videos.starts[video] + offset

    def __call__(self, windows: Indices) -> Indices:
        """``[B, T]``: frames of the file of ``windows [B]``."""
        video, offset = self._places(windows)
        length = self._videos.lengths[video][:, None]
        step = np.arange(self._frames)
        period = np.maximum(2 * (length - 1), 1)
        phase = step % period
        turned = np.where(phase < length, phase, period - phase)
        within = np.where(length < self._frames, turned, step)
        return (self._videos.starts[video] + offset)[:, None] + within

    def _places(self, windows: Indices) -> tuple[Indices, Indices]:
        """``[B]`` each: the video, and how many of its frames come before the window."""
        video = np.searchsorted(self._ends, windows, side="right")
        return video, np.minimum((windows - self._begins[video]) * self._stride, self._spare[video])
