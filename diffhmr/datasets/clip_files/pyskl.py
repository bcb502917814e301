"""Actions with keypoints, the pickles of pyskl (Duan et al., 2022) such as ``ntu60_hrnet.pkl``, ``ntu120_hrnet.pkl``.

``{"split": {name: [frame_dir, ...]}, "annotations": [{"frame_dir", "label", "img_shape": (height, width), "keypoint":
(M, T, 17, 2) COCO's points in pixels, "keypoint_score": (M, T, 17), ...}]}``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffhmr.body.safe_pickle import to_array
from diffhmr.datasets.clip_files.lifting_frames import Floats32
from diffhmr.datasets.clip_files.tables import AGAIN, read_dictionary
from diffhmr.errors import UserError

WHAT = "pickle of actions in pyskl's format"

ONESHOT_BASE = "oneshot_base"
ONESHOT_EXEMPLARS = "oneshot_train"
ONESHOT_QUERIES = "oneshot_val"
"""Splits of the one-shot protocol of NTU RGB+D 120; a file's own splits of these names come first."""

_NTU120_CLASSES = 120
_NOVEL = range(0, _NTU120_CLASSES, 6)
# Liu et al., "NTU RGB+D 120", 2019: the one example of each new class.
_EXEMPLARS = frozenset(f"S{1 if label < 60 else 18:03d}C003P008R001A{label + 1:03d}" for label in _NOVEL)


@dataclass(frozen=True)
class ActionClip:
    """One recording.

    Attributes:
        name: of the video.
        label: the class.
        size: width and height of the picture.
        points: ``(M, T, 17, 2)`` pixels, as in the file.
        scores: ``(M, T, 17)``.
    """

    name: str
    label: int
    size: tuple[float, float]
    points: NDArray[Any]
    scores: NDArray[Any]

    @property
    def frames(self) -> int:
        """How many there are."""
        return self.points.shape[1]

    def keypoints(self) -> Floats32:
        """``(M, T, 17, 3)`` COCO's points in pixels, and confidence in [0, 1].

        Raises:
            UserError: a number is not finite.
        """
        points = np.empty((*self.scores.shape, 3), np.float32)
        points[..., :2] = self.points
        points[..., 2] = self.scores
        if not np.isfinite(points).all():
            raise UserError(f"the recording {self.name} has keypoints that are not finite; {AGAIN}")
        points[..., 2] = points[..., 2].clip(0, 1)
        return points


def read_pyskl(path: Path, split: str) -> list[ActionClip]:
    """The recordings of one split, in the order of the file.

    Beside the splits of the file there are those of the one-shot protocol of NTU RGB+D 120, made from the classes:
    ``oneshot_base`` has the 100 classes to learn from, counted from 0, ``oneshot_train`` one example of each of the 20
    new classes, 0, 6, ..., 114, and ``oneshot_val`` all others of these.

    Raises:
        UserError: the file is missing or damaged, has no such split, or something in it is missing or misshapen.
    """
    content = read_dictionary(path, WHAT)
    annotations, splits = content.get("annotations"), content.get("split")
    if not isinstance(annotations, list) or not isinstance(splits, dict) or not annotations:
        raise UserError(f"{path} has no split and annotations, so it is no {WHAT}; give such as ntu60_hrnet.pkl")
    clips = []
    wanted = _members(splits, split)
    for number, annotation in enumerate(annotations):
        annotations[number] = None  # taken out, its memory can be freed
        clip = _clip(annotation, f"{path}, annotation {number}", wanted)
        if clip is not None:
            clips.append(clip)
    if wanted is None:
        clips = _oneshot(clips, split, path, list(splits))
    if not clips:
        raise UserError(f"{path}: no annotation belongs to the split {split}; {AGAIN}")
    return clips


def _members(splits: dict[Any, Any], split: str) -> frozenset[str] | None:
    """Names of the recordings of a split; None: it is not in the file."""
    names = splits.get(split)
    if names is None:
        return None
    try:
        return frozenset(to_array(names).astype(str).tolist())
    except UserError as error:
        raise UserError(f"the split {split} cannot be read: {error}; {AGAIN}") from error


def _oneshot(clips: list[ActionClip], split: str, path: Path, splits: list[str]) -> list[ActionClip]:
    """Raises: UserError: the split is none of these, or the file is not of NTU RGB+D 120."""
    known = ", ".join(map(str, splits)) or "none"
    if split not in (ONESHOT_BASE, ONESHOT_EXEMPLARS, ONESHOT_QUERIES):
        raise UserError(f"{path} has no split {split!r} (there is {known}); mend split of its source")
    if max(clip.label for clip in clips) != _NTU120_CLASSES - 1:
        raise UserError(f"{path} has no split {split!r} (there is {known}), which takes the file of NTU RGB+D 120")
    if split == ONESHOT_BASE:
        number = {label: k for k, label in enumerate(label for label in range(_NTU120_CLASSES) if label not in _NOVEL)}
        return [
            ActionClip(clip.name, number[clip.label], clip.size, clip.points, clip.scores)
            for clip in clips
            if clip.label in number
        ]
    exemplars = split == ONESHOT_EXEMPLARS
    return [clip for clip in clips if clip.label in _NOVEL and (clip.name in _EXEMPLARS) == exemplars]


def _clip(annotation: Any, where: str, wanted: frozenset[str] | None) -> ActionClip | None:
    """A recording, or None if it is not wanted.

    Raises:
        UserError: something is missing or misshapen.
    """
    try:
        name = str(annotation["frame_dir"])
        if wanted is not None and name not in wanted:
            return None
        height, width = (float(side) for side in to_array(annotation["img_shape"]).ravel())
        label = int(to_array(annotation["label"]))
        points, scores = to_array(annotation["keypoint"]), to_array(annotation["keypoint_score"])
    except KeyError as error:
        raise UserError(f"{where} has no {error.args[0]}, so it is none of pyskl's 2D annotations; {AGAIN}") from error
    except (UserError, TypeError, ValueError) as error:
        raise UserError(f"{where} cannot be read: {error}; {AGAIN}") from error
    good = (
        points.ndim == 4 and points.shape[2:] == (17, 2) and min(points.shape) > 0 and scores.shape == points.shape[:3]
    )
    if not good or points.dtype.kind not in "fiu" or scores.dtype.kind not in "fiu":
        raise UserError(
            f"{where} ({name}) has keypoint of shape {points.shape} and keypoint_score of shape {scores.shape}, "
            f"expected (people, frames, 17, 2) and (people, frames, 17): 2D keypoints of COCO; {AGAIN}"
        )
    if label < 0 or not (np.isfinite([height, width]).all() and min(height, width) > 0):
        raise UserError(f"{where} ({name}) has label {label} and pictures of {width:g} x {height:g}; {AGAIN}")
    return ActionClip(name, label, (width, height), points, scores)
