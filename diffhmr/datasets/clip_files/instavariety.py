"""InstaVariety as MotionBERT prepares it: ``motion_all.npy (N, 17, 3)`` and ``id_all.npy (N,)``.

Keypoints are Human3.6M's 17 without belly and head, x and y in halves of the person's box, with confidence.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffhmr.datasets.clip_files.lifting_frames import LiftingFrames
from diffhmr.datasets.clip_files.tables import Table
from diffhmr.datasets.clip_files.videos import find_videos
from diffhmr.errors import UserError
from diffhmr.files import require_file

FILES = ("motion_all.npy", "id_all.npy")


def read_instavariety(path: Path, split: str) -> LiftingFrames:
    """Read the folder. As in MotionBERT, clips begin with a frame whose root is seen.

    Raises:
        UserError: a file is missing or damaged, has another shape, or the split is not ``train``, the only one.
    """
    if split != "train":
        raise UserError(f"{path}: InstaVariety has the split train only, not {split!r}; mend split of its source")
    motion, ids = (_load(path / name) for name in FILES)
    table = Table({"motion_all": motion, "id_all": ids}, str(path))
    keypoints = table.numbers("motion_all", (17, 3)).copy()
    keypoints[..., 2] = keypoints[..., 2].clip(0, 1)
    return LiftingFrames(keypoints, find_videos(table.names("id_all")), may_begin=keypoints[:, 0, 2] > 0)


def _load(path: Path) -> NDArray[Any]:
    require_file(path, "array of InstaVariety", "path of its source is the folder with motion_all.npy and id_all.npy")
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} is no readable array ({error}); make or download it again") from error
    return array
