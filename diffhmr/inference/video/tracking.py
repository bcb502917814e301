"""The people of a video, from a keypoint file or from a detector that looks at every frame."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from diffhmr.body.joints import COCO17
from diffhmr.errors import UserError, some_of
from diffhmr.inference.detection import find_with_network, load_keypoint_network
from diffhmr.inference.keypoint_files import read_tracks, tracks_of
from diffhmr.inference.photo import Photo
from diffhmr.inference.track_linking import link_people
from diffhmr.inference.tracks import Track, choose_track
from diffhmr.inference.video.footage import Footage, count_frames, watched

log = logging.getLogger(__name__)

_MIN_FRAMES = 2
_MIN_POINTS = 2  # in some frame: one point says nothing about the distance


def tracks_from_file(path: str | Path, footage: Footage) -> tuple[Footage, list[Track]]:
    """The people that a keypoint file has for a video, and the video with the number of its frames.

    Keypoints of a video that is cut off may go on behind its end: what lies there is left out. Without a video, the
    last frame with somebody in it is the last one. A video whose frames are not counted yet is gone through.

    Raises:
        UserError: the file cannot be used, or is not of this video; see
            :func:`diffhmr.inference.keypoint_files.read_tracks`.
    """
    if footage.path is None:
        tracks = read_tracks(path, frame_size=footage.size, fps=footage.fps)
        return footage.counted(max(int(track.frames[-1]) for track in tracks) + 1), tracks
    footage = footage if footage.num_frames else count_frames(footage)
    try:
        return footage, read_tracks(path, frame_size=footage.size, num_frames=footage.num_frames, fps=footage.fps)
    except UserError:
        if not footage.cut_off:
            raise
    tracks = read_tracks(path, frame_size=footage.size, num_frames=footage.announced, fps=footage.fps)
    log.warning("%s: keypoints behind frame %d, where the video is cut off, are left out", path, footage.num_frames - 1)
    kept = [cut for track in tracks if (cut := _cut(track, footage.num_frames)) is not None]
    if not kept:
        raise UserError(f"{path} has nobody in the {footage.num_frames} frames of the video that can be read")
    return footage, kept


def tracks_from_detector(footage: Footage, device: torch.device | str = "cpu") -> tuple[Footage, list[Track]]:
    """The people that torchvision's keypoint detector finds, and the video with the number of its frames.

    Raises:
        UserError: there is no detector, the video cannot be used, or there is nobody in it.
    """
    assert footage.path is not None
    network = load_keypoint_network(device)
    frames, points = [], []
    count = 0
    for rgb in watched(footage.frames(), footage.announced, "finding people"):
        for person in find_with_network(network, Photo(footage.path, rgb)):
            if person.keypoints is not None:
                frames.append(count)
                points.append(person.keypoints.points)
        count += 1
    footage = footage.counted(count)
    if not frames:
        raise UserError(
            f"nobody is found in the {count} frames of {footage.path}; if somebody is there, give --keypoints"
        )
    rows, numbers = np.stack(points), np.array(frames, dtype=np.int64)
    return footage, tracks_of(link_people(numbers, rows, footage.fps), numbers, rows, COCO17.name)


def chosen_tracks(
    tracks: Sequence[Track], which: str, telling: Callable[[Track], bool] = lambda _track: True
) -> list[Track]:
    """The tracks that ``--track`` names: the ``largest``, ``all``, or the one with a number.

    Args:
        tracks: everybody.
        which: of them.
        telling: whether the points of a track are enough for the model and for a place before the camera; of ``all``
            only such tracks are taken.

    Raises:
        UserError: there is no such track, or it is too short for a motion, or its points are not enough.
    """
    long = [track for track in tracks if _long_enough(track)]
    if which not in ("largest", "all"):
        track = choose_track(tracks, which)
        if not _long_enough(track):
            raise UserError(f"track {which} is too short for a motion or has single points only: choose another one")
        if not telling(track):
            raise UserError(
                f"the points of track {which} do not tell how a person stands, and where: choose another one"
            )
        return [track]
    if not long:
        raise UserError(
            "nobody is seen in two frames with two points or more, which a motion needs: run the keypoint detector "
            "again"
        )
    usable = [track for track in long if telling(track)]
    if not usable:
        raise UserError("nobody has points that tell how a person stands, and where: run the keypoint detector again")
    if which == "largest":
        return [choose_track(usable, which)]
    if len(long) < len(tracks):
        log.warning("%d of %d tracks are too short for a motion and left out", len(tracks) - len(long), len(tracks))
    if len(usable) < len(long):
        left = some_of([str(track.track_id) for track in long if track not in usable])
        log.warning("the points of track %s do not tell how a person stands, and where: left out", left)
    return usable


def _long_enough(track: Track) -> bool:
    """Somebody who is seen in two frames, and in one of them with enough points to tell the distance."""
    return len(track) >= _MIN_FRAMES and int((track.points[..., 2] > 0).sum(axis=1).max()) >= _MIN_POINTS


def _cut(track: Track, num_frames: int) -> Track | None:
    """The part of a track within a video; None if there is none."""
    inside = track.frames < num_frames
    return replace(track, frames=track.frames[inside], points=track.points[inside]) if inside.any() else None
