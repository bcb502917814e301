"""MotionBERT's clips of 3D motion: folders of ``%08d.pkl``, as in ``MB3D_f243s81/{AMASS,H36M-SH}/{train,test}``.

Each file is one clip, 243 frames as a rule: ``{"data_input": (T, 17, 3) x, y and confidence of a detector or None,
"data_label": (T, 17, 3) x, y and z}``, both in halves of the picture's width from its middle, z in the same unit.
Clips of AMASS have no detections.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diffhmr.datasets.clip_files.lifting_frames import Floats32, LiftingPart
from diffhmr.datasets.clip_files.tables import AGAIN, Table, read_dictionary
from diffhmr.datasets.clip_files.videos import Indices, Videos, videos_of_lengths
from diffhmr.errors import UserError

WHAT = "clip of 3D motion"

Seen: TypeAlias = Literal["detected", "truth", "any"]
"""What is seen of clips: what a detector saw; the x and y of the positions with confidence 1; or the first where there
is something, else the second."""


class MotionClips:
    """The clips of a folder, read when they are needed; a ``LiftingSource`` of ``lifting_frames``.

    Args:
        path: the folder with one folder per split.
        split: such as ``train``.
        seen: see :data:`Seen`. MotionBERT's pretraining takes ``any``, its 3D pose estimation ``detected``, or with its
            setting ``gt_2d`` ``truth``.

    Raises:
        UserError: there is no such folder, it has no clips, or the first is damaged or lacks the detections that are
            wanted.
    """

    has_depth = True
    has_size = False
    may_begin: NDArray[np.bool_] | None = None

    def __init__(self, path: Path, split: str, seen: Seen) -> None:
        self._seen: Seen = seen
        self.detected = seen != "truth"
        folder = path / split
        if not folder.is_dir():
            there = ", ".join(sorted(item.name for item in path.iterdir() if item.is_dir())) if path.is_dir() else ""
            raise UserError(
                f"folder of clips not found: {folder} (there is {there or 'nothing'}); mend path and split of its "
                "source"
            )
        self._files = sorted(file for file in folder.glob("*.pkl") if not file.name.startswith("."))
        if not self._files:
            raise UserError(f"{folder} has no clips (files such as 00000000.pkl); mend path and split of its source")
        self._length = len(read_clip(self._files[0], seen)[1])
        self.videos: Videos = videos_of_lengths([file.stem for file in self._files], [self._length] * len(self._files))

    def take(self, frames: Indices) -> LiftingPart:
        """The clips with ``frames [B, T]``, each of one file.

        Raises:
            UserError: a file is damaged, not as long as the first, or lacks the detections that are wanted.
        """
        keypoints = np.empty((*frames.shape, 17, 3), np.float32)
        positions = np.empty_like(keypoints)
        for k, (file, rows) in enumerate(zip(frames[:, 0] // self._length, frames % self._length, strict=True)):
            path = self._files[file]
            seen, truth = read_clip(path, self._seen)
            if len(truth) != self._length:
                raise UserError(
                    f"{path} has {len(truth)} frames, but {self._files[0].name} beside it {self._length}; {AGAIN}"
                )
            keypoints[k], positions[k] = seen[rows], truth[rows]
        return LiftingPart(keypoints, positions)


def read_clip(path: Path, seen: Seen) -> tuple[Floats32, Floats32]:
    """Keypoints, as ``seen`` says, and positions ``(T, 17, 3)`` of one file.

    Raises:
        UserError: the file is missing or damaged, or something in it is missing or has another shape.
    """
    content: dict[str, Any] = read_dictionary(path, WHAT)
    table = Table(content, str(path))
    positions = table.numbers("data_label", (17, 3))
    if seen == "detected" and "data_input" not in table:
        raise UserError(
            f"{path} has no detections (data_input), from which 3D poses are estimated; give clips that have them, or "
            "set ground_truth_2d: true of the source to learn and measure on the x and y of the truth instead"
        )
    if seen != "truth" and "data_input" in table:
        keypoints = table.numbers("data_input", (17, 3)).copy()
        keypoints[..., 2] = keypoints[..., 2].clip(0, 1)
    else:
        keypoints = positions.copy()
        keypoints[..., 2] = 1
    return keypoints, positions
