"""What data sets of 2D keypoints with or without depths have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from diffhmr.datasets.clip_files.videos import Indices, Videos

Floats32 = NDArray[np.float32]


@dataclass(frozen=True)
class LiftingPart:
    """B clips of T frames. All arrays are float32 and copies.

    Attributes:
        keypoints: ``[B, T, 17, 3]`` x, y and confidence.
        positions: ``[B, T, 17, 3]`` x, y and z in the same unit; the z of clips without depth are 0.
        mm_per_unit: ``[B, T]`` millimetres per unit, or None.
    """

    keypoints: Floats32
    positions: Floats32
    mm_per_unit: Floats32 | None = None


class LiftingSource(Protocol):
    """Frames of people that clips are cut out of."""

    @property
    def videos(self) -> Videos:
        """Which frames belong together."""
        ...

    @property
    def has_depth(self) -> bool:
        """Whether the z are known. If not, the place and size of people in their pictures say nothing either."""
        ...

    @property
    def has_size(self) -> bool:
        """Whether millimetres per unit are known."""
        ...

    @property
    def detected(self) -> bool:
        """Whether the keypoints are those of a detector, with its errors."""
        ...

    @property
    def may_begin(self) -> NDArray[np.bool_] | None:
        """``(N,)``: with which frames a clip may begin; None: with all."""
        ...

    def take(self, frames: Indices) -> LiftingPart:
        """The clips with ``frames [B, T]``."""
        ...


@dataclass(frozen=True)
class LiftingFrames:
    """A file whose frames are in memory; see :class:`LiftingSource`.

    Attributes:
        keypoints: ``(N, 17, 3)`` float32.
        videos: which frames belong together.
        positions: ``(N, 17, 3)`` float32; None: only x and y are known, those of the keypoints.
        mm_per_unit: ``(N,)`` or None.
        detected: the keypoints are those of a detector.
        may_begin: ``(N,)`` or None.
        actions: ``[V]`` of the videos, where the file says so.
        cameras: ``[V]`` likewise.
    """

    keypoints: Floats32
    videos: Videos
    positions: Floats32 | None = None
    mm_per_unit: Floats32 | None = None
    detected: bool = True
    may_begin: NDArray[np.bool_] | None = None
    actions: tuple[str, ...] | None = None
    cameras: tuple[str, ...] | None = None

    @property
    def has_depth(self) -> bool:
        """Whether the z are known."""
        return self.positions is not None

    @property
    def has_size(self) -> bool:
        """Whether millimetres per unit are known."""
        return self.mm_per_unit is not None

    def take(self, frames: Indices) -> LiftingPart:
        """The clips with ``frames [B, T]``."""
        keypoints = self.keypoints[frames]
        if self.positions is None:
            positions = keypoints.copy()
            positions[..., 2] = 0
        else:
            positions = self.positions[frames]
        return LiftingPart(keypoints, positions, None if self.mm_per_unit is None else self.mm_per_unit[frames])
