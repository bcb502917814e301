"""2D keypoints of a video, from a file of any of the usual detectors to one track per person."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffhmr.errors import UserError
from diffhmr.inference.frame_numbers import align_frames
from diffhmr.inference.keypoint_checks import check_coordinates, check_sides, checked_order, clean_points
from diffhmr.inference.keypoint_formats import UNNUMBERED, read_detections
from diffhmr.inference.track_linking import link_people
from diffhmr.inference.tracks import Track

log = logging.getLogger(__name__)

_MAX_SHARED = 0.2


def read_tracks(
    path: str | Path,
    *,
    frame_size: tuple[int, int] | None = None,
    num_frames: int | None = None,
    fps: float | None = None,
) -> list[Track]:
    """Read the people of a video from a keypoint file, whose format is recognised by its content.

    Known are AlphaPose's JSON (Halpe-26, 136 or 68 points, of which the first 26 are kept, COCO-17, or 133 points, of
    which the first 17 are kept), MMPose's (17, 26 or 133 points), COCO results and annotations, a folder of OpenPose's
    BODY_25 files, and ``.npy`` or ``.npz`` arrays ``(T, 17, 2 or 3)``, also with an axis of people.

    Frames are numbered from 0 in the result, whether the file counts from 0 or from 1. People keep the numbers that
    the file gives them; without any they are linked from frame to frame (:mod:`diffhmr.inference.track_linking`).
    Points are neither smoothed nor left out: models see the confidences.

    Args:
        path: a file, or a folder with one file per frame.
        frame_size: width and height of the video in pixels, to check the coordinates.
        num_frames: of the video, to check the frame numbers, and to tell an array's axis of frames from that of people.
        fps: frames per second of the video, to decide for how long somebody may be missing.

    Returns:
        one track per person, ordered by their numbers; at least one.

    Raises:
        UserError: the file cannot be read, is of no known format, does not belong to the video, names nobody or people
            in one frame only, or all its confidences are 0 or its points NaN. The message is one line.
    """
    path = Path(path)
    source = str(path)
    found = read_detections(path, num_frames)
    points = clean_points(found.points, source)
    check_coordinates(points, frame_size, source)
    joint_set = checked_order(points, found.joint_set, source)
    check_sides(points, joint_set, source)
    frames, keep = align_frames(found.frames, num_frames, source)
    empty = keep & ~(points[..., 2] > 0).any(axis=1)
    if empty.any():
        log.warning("%s: %d people have no point with a confidence above 0 and are left out", source, int(empty.sum()))
    keep &= ~empty
    frames, points, ids = frames[keep], points[keep], found.ids[keep]
    count = len(np.unique(frames))
    if count < 2:
        raise UserError(
            f"{source} has people in {count} frame{'s' * (count != 1)} of the video, but a motion needs two or more; "
            "for a single picture use python demo.py --image"
        )
    numbers = _numbered(frames, points, ids, found.tracked, fps, source)
    tracks = tracks_of(numbers, frames, points, joint_set)
    _report_gaps(tracks, source)
    return tracks


def _numbered(
    frames: NDArray[np.int64],
    points: NDArray[np.float64],
    ids: NDArray[np.int64],
    tracked: bool,
    fps: float | None,
    source: str,
) -> NDArray[np.int64]:
    """The number of the track of each person: the file's where it gives one that nobody shares, else our own."""
    ids = ids.copy()
    alike = not tracked and bool((ids != UNNUMBERED).any())
    shared = _sharing(frames, points, ids)
    if shared.any():
        numbered = ids != UNNUMBERED
        _, people = np.unique(frames[numbered], return_counts=True)
        if shared.sum() > _MAX_SHARED * (people > 1).sum():
            log.warning("%s: its numbers of people repeat within frames, so people are linked by their motion", source)
            ids[:] = UNNUMBERED
        else:
            log.warning("%s: %d people have the number of another one in their frame", source, int(shared.sum()))
            ids[shared] = UNNUMBERED
    elif alike:  # people who are there one after the other
        ids[:] = UNNUMBERED
    loose = ids == UNNUMBERED
    if loose.any():
        ids[loose] = ids.max() + 1 + link_people(frames[loose], points[loose], fps)
    if alike and not shared.any() and ids.any():
        log.warning("%s: everybody has the number 0, as without tracking: people are linked by their motion", source)
    return ids


def _sharing(frames: NDArray[np.int64], points: NDArray[np.float64], ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    """People whose number a surer one in the same frame has."""
    order = np.lexsort((points[..., 0].mean(axis=1), -points[..., 2].mean(axis=1), ids, frames))
    again = (np.diff(frames[order], prepend=-1) == 0) & (np.diff(ids[order], prepend=UNNUMBERED - 1) == 0)
    shared = np.zeros(len(ids), dtype=bool)
    shared[order] = again & (ids[order] != UNNUMBERED)
    return shared


def tracks_of(
    numbers: NDArray[np.int64], frames: NDArray[np.int64], points: NDArray[np.float64], joint_set: str
) -> list[Track]:
    """Detections as one track per person, ordered by their numbers.

    Args:
        numbers: ``[N]`` who it is; nobody is twice in a frame.
        frames: ``[N]``.
        points: ``[N, K, 3]``.
        joint_set: name of the K points.
    """
    order = np.lexsort((frames, numbers))
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-1))[1:]
    return [Track(int(numbers[rows[0]]), frames[rows], points[rows], joint_set) for rows in np.split(order, starts)]


def _report_gaps(tracks: list[Track], source: str) -> None:
    """One line about the frames that are missing within tracks."""
    longest = [int(np.diff(track.frames).max(initial=1)) - 1 for track in tracks]
    missing = sum(int(track.frames[-1] - track.frames[0]) + 1 - len(track) for track in tracks)
    if missing:
        worst = tracks[int(np.argmax(longest))].track_id
        log.warning(
            "%s: people are missing in %d frames between their first and last, at most %d in a row (track %d); these "
            "frames are marked",
            source, missing, max(longest), worst,
        )  # fmt: skip
