"""A person's 2D keypoints through a video: the joint sets that models want, gaps, boxes, and the choice of a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from diffhmr.body.joints import COCO17, H36M17, HALPE26, JOINT_SETS, OPENPOSE25, JointSet
from diffhmr.body.keypoint_maps import map_keypoints
from diffhmr.errors import UserError
from diffhmr.inference.annotations import Box
from diffhmr.inference.clear_points import clear_points

TRACK_SETS = (COCO17.name, HALPE26.name, OPENPOSE25.name, H36M17.name)
"""Joint sets that a track can have."""


@dataclass(frozen=True, eq=False)
class DenseTrack:
    """A track with a row for every frame of the video.

    Attributes:
        points: ``[N, K, 3]`` float64 pixels x, y and confidence; all finite. What is not known has an interpolated
            position and confidence 0.
        present: ``[N]`` bool, the person was found in the frame.
    """

    points: NDArray[np.float64]
    present: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Track:
    """Keypoints of one person.

    Attributes:
        track_id: number of the person in the file, or given by us.
        frames: ``[T]`` int64 numbers of the frames in which the person was found, from 0, strictly increasing.
        points: ``[T, K, 3]`` float64 pixels x, y (the centre of the top-left pixel is the origin) and confidence in
            [0, 1]. All three are 0 where a point is unseen.
        joint_set: name of the K points, one of :data:`TRACK_SETS`.

    Raises:
        ValueError: shapes do not fit, frames do not increase, or values are not finite or out of range.
    """

    track_id: int
    frames: NDArray[np.int64]
    points: NDArray[np.float64]
    joint_set: str

    def __post_init__(self) -> None:
        if self.joint_set not in TRACK_SETS:
            raise ValueError(f"a track cannot have the joint set {self.joint_set}: use {', '.join(TRACK_SETS)}")
        shape = (len(self.frames), len(JOINT_SETS[self.joint_set]), 3)
        if self.points.shape != shape or not shape[0]:
            raise ValueError(f"points of shape {self.points.shape} do not fit {shape[0]} frames of {self.joint_set}")
        if self.frames[0] < 0 or (np.diff(self.frames) <= 0).any():
            raise ValueError("the frame numbers of a track must not be negative and must increase")
        confidence = self.points[..., 2]
        if not np.isfinite(self.points).all() or (confidence < 0).any() or (confidence > 1).any():
            raise ValueError("points must be finite, confidences in [0, 1]")

    def __len__(self) -> int:
        """Number of frames in which the person was found."""
        return len(self.frames)

    @property
    def joint_names(self) -> tuple[str, ...]:
        """One name per point."""
        return JOINT_SETS[self.joint_set].joint_names

    @property
    def score(self) -> float:
        """Mean confidence of all points."""
        return float(self.points[..., 2].mean())

    @property
    def size(self) -> float:
        """Square pixels of the person's boxes, summed over the frames: who is large, and for long."""
        low, high = _extent(self.points)
        return float(np.prod((high - low).clip(min=0), axis=-1).sum())

    def coco17(self) -> Track:
        """The points of COCO; eyes and ears are unseen if the source has none."""
        return self._converted(COCO17)

    def h36m17(self) -> Track:
        """The points of Human3.6M in MotionBERT's order (right leg first)."""
        return self._converted(H36M17)

    def box(self, frame: int) -> Box | None:
        """Extent of the person in pixels from the picture's edges, without a margin; None where nothing is seen.

        Points with a confidence under 0.3 count only if there are fewer than four others.
        """
        row = int(np.searchsorted(self.frames, frame))
        if row == len(self.frames) or self.frames[row] != frame:
            return None
        low, high = _extent(self.points[row])
        if not np.isfinite(low).all():
            return None
        return float(low[0] + 0.5), float(low[1] + 0.5), float(high[0] + 0.5), float(high[1] + 0.5)

    def filled(self, num_frames: int) -> DenseTrack:
        """A row for every frame of a video of ``num_frames`` frames.

        Missing frames and unseen points get positions interpolated linearly between the nearest frames in which the
        point is known, the nearest one at both ends, and confidence 0. A point that is never known lies in the middle
        of the others.

        Raises:
            ValueError: the track has frames behind the end of the video.
        """
        if self.frames[-1] >= num_frames:
            raise ValueError(f"the track has frame {self.frames[-1]}, the video only {num_frames} frames")
        known = ~_unseen(self.points)
        times = np.arange(num_frames)
        points = np.zeros((num_frames, self.points.shape[1], 3))
        for joint in np.flatnonzero(known.any(axis=0)):
            rows = known[:, joint]
            for axis in range(2):
                points[:, joint, axis] = np.interp(times, self.frames[rows], self.points[rows, joint, axis])
        never = ~known.any(axis=0)
        if never.any() and not never.all():
            points[:, never, :2] = points[:, ~never, :2].mean(axis=1, keepdims=True)
        points[self.frames, :, 2] = self.points[..., 2]
        present = np.zeros(num_frames, dtype=bool)
        present[self.frames] = True
        return DenseTrack(points, present)

    def _converted(self, target: JointSet) -> Track:
        if self.joint_set == target.name:
            return self
        points = map_keypoints(self.points, JOINT_SETS[self.joint_set], target)
        return replace(self, points=points, joint_set=target.name)


def choose_track(tracks: Sequence[Track], which: str | int) -> Track:
    """The track with the number ``which``, or the ``"largest"``: the person who takes up most of the video.

    Raises:
        UserError: there is no such track.
    """
    if which == "largest" and tracks:
        return max(tracks, key=lambda track: (track.size, -track.track_id))
    for track in tracks:
        if str(track.track_id) == str(which):
            return track
    numbers = ", ".join(str(track.track_id) for track in tracks[:20]) + (", ..." if len(tracks) > 20 else "")
    raise UserError(f"there is no track {which}: choose largest or one of {numbers or 'none, nobody was found'}")


def _unseen(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Points ``[..., 3]`` of which the file says nothing: x, y and confidence are 0."""
    return (points == 0).all(axis=-1)


def _extent(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners ``[..., 2]`` of the box around points ``[..., K, 3]``; infinite, and reversed, where nothing is seen."""
    use = clear_points(points[..., 2])[..., None]
    low = np.where(use, points[..., :2], np.inf).min(axis=-2)
    high = np.where(use, points[..., :2], -np.inf).max(axis=-2)
    return low, high
