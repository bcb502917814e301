"""Tracks of PoseTrack18's annotations (Andriluka et al., CVPR 2018): folders of JSON files, one per video.

``{"images": [{"id", "vid_id"?}], "annotations": [{"image_id", "track_id", "keypoints": 17 x (x, y, visible)}]}``. One
file with all videos of a split, as MMPose gives it too, is read likewise.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffhmr.datasets.clip_files.lifting_frames import Floats32, LiftingFrames
from diffhmr.datasets.clip_files.videos import videos_of_lengths
from diffhmr.errors import UserError
from diffhmr.files import require_file

MIN_FRAMES = 30
"""Shorter tracks are left out: MotionBERT's choice."""

MIN_VISIBLE = 306
"""More than so many of the 15 annotated joints are seen in 30 frames, and in proportion in longer runs: MotionBERT's.

Counted as they are annotated: the root and the belly, which are made of others, do not count.
"""

_ANNOTATED = [0, 1, 2, *range(5, 17)]  # without the ears, which nobody annotated

# Of nose, head bottom, head top, ears, then COCO's points from the shoulders on: whose mean each of Human3.6M's 17 is.
_PARENTS = (
    (11, 12), (12,), (14,), (16,), (11,), (13,), (15,), (11, 12, 1, 1), (1,), (0,), (2,), (5,), (7,), (9,), (6,), (8,),
    (10,),
)  # fmt: skip
_ROOT = 0


@dataclass(frozen=True)
class _Track:
    """A run of frames without gap of one person.

    Attributes:
        name: video and person.
        points: ``(T, 17, 3)`` Human3.6M's, pixels and 0 or 1; unseen points are 0.
    """

    name: str
    points: Floats32


def read_posetrack18(path: Path, split: str) -> LiftingFrames:
    """Read the tracks: of each person the runs of at least 30 frames in which the root is seen, and enough besides.

    MotionBERT takes the first 30 annotated frames of a person, whatever lies between them; here a gap ends a run, and
    longer runs are used whole.

    Args:
        path: the folder with one folder per split, a folder of JSON files, or one file.
        split: such as ``train``.

    Raises:
        UserError: a file is missing or damaged, or no track is long enough.
    """
    tracks = [track for file in _files(path, split) for track in _tracks(file)]
    if not tracks:
        raise UserError(f"{path}, split {split}: nobody is seen in {MIN_FRAMES} frames in a row; is it PoseTrack18?")
    videos = videos_of_lengths([track.name for track in tracks], [len(track.points) for track in tracks])
    return LiftingFrames(np.concatenate([track.points for track in tracks]), videos, detected=False)


def _files(path: Path, split: str) -> list[Path]:
    if path.is_file():
        return [path]
    folder = path / split if (path / split).is_dir() else path
    found = sorted(file for file in folder.glob("*.json") if not file.name.startswith("."))
    if folder is path and found and any(item.is_dir() for item in path.iterdir()):
        found = []  # files beside the folders of other splits
    if not found:
        raise UserError(
            f"annotations of PoseTrack18 not found: no .json files in {path / split}; mend path and split of its source"
        )
    return found


def _tracks(file: Path) -> list[_Track]:
    require_file(file, "annotations of PoseTrack18", "download them again")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return _parse(content, file.stem)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"{file} is no annotations of PoseTrack18 ({reason}); download it again") from error


def _parse(content: dict[str, Any], stem: str) -> list[_Track]:
    """Raises: KeyError, TypeError, ValueError: something else is in the file."""
    place: dict[int, tuple[str, int]] = {}
    counts: dict[str, int] = defaultdict(int)
    for image in sorted(content["images"], key=lambda item: int(item["id"])):
        video = str(image.get("vid_id", stem))
        place[int(image["id"])] = video, counts[video]
        counts[video] += 1
    people: dict[tuple[str, int], dict[int, Floats32]] = defaultdict(dict)
    for annotation in content["annotations"]:
        if not annotation.get("keypoints"):
            continue  # of somebody who has a box only
        video, frame = place[int(annotation["image_id"])]
        points = np.array(annotation["keypoints"], dtype=np.float32).reshape(17, 3)
        if not np.isfinite(points).all():
            raise ValueError(f"keypoints of image {annotation['image_id']} are not finite")
        people[video, int(annotation["track_id"])][frame] = points
    return [track for (video, person), frames in people.items() for track in _runs(f"{video}/{person}", frames)]


def _runs(name: str, frames: dict[int, Floats32]) -> list[_Track]:
    numbers = np.array(sorted(frames))
    annotated = np.stack([frames[number] for number in numbers.tolist()])
    points = to_h36m(annotated)
    seen: NDArray[np.bool_] = np.greater(points[:, _ROOT, 2], 0)
    visible = np.greater(annotated[:, _ANNOTATED, 2], 0).sum(1)
    ends = np.flatnonzero(np.diff(numbers[seen]) != 1) + 1
    runs = zip(np.split(points[seen], ends), np.split(visible[seen], ends), strict=True)
    return [
        _Track(name, run)
        for run, count in runs
        if len(run) >= MIN_FRAMES and count.sum() * MIN_FRAMES > MIN_VISIBLE * len(run)
    ]


def to_h36m(points: Floats32) -> Floats32:
    """PoseTrack's points ``(..., 17, 3)`` as Human3.6M's 17; a made-up point is seen if all of its parents are."""
    result = np.zeros_like(points)
    for joint, parents in enumerate(_PARENTS):
        theirs = points[..., parents, :]
        seen = np.asarray((theirs[..., 2] > 0).all(-1))
        result[..., joint, :2] = theirs[..., :2].mean(-2) * seen[..., None]
        result[..., joint, 2] = seen
    return result
