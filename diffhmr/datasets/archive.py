"""Poses from recorded motion: a folder of ``.npz`` files in the layout of AMASS (Mahmood et al., ICCV 2019).

Each file holds ``poses`` (frames, at least 66): axis-angle of the root and 21 body joints of SMPL, then possibly hands,
and ``mocap_framerate``. The world of AMASS has z up.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from diffhmr.errors import UserError
from diffhmr.motion.amass_layout import FRAMERATE_KEYS, NUM_SHARED_JOINTS, Z_UP_TO_Y_UP, frame_rate, read_fields
from diffhmr.random import Floats, Seeds, Stream, uniforms

_log = logging.getLogger(__name__)

FRAMES_PER_SECOND = 10.0
"""Frames kept per second: neighbouring frames of a recording are nearly the same pose."""

_DEFAULT_FRAMERATE = 60.0


class MotionArchive:
    """A source of poses: all frames of all files, each as likely as any other.

    Shapes are not taken from the files, whose coefficients belong to another body; hands are straight. All splits of a
    data set draw from all files: for a test on unseen motion, point the test at another folder.

    Raises:
        UserError: the folder does not exist or holds no usable file, or a file has damaged poses.
    """

    def __init__(self, folder: Path) -> None:
        self._frames = _read_folder(folder.resolve())

    def __len__(self) -> int:
        return len(self._frames)

    def __call__(self, item_seeds: Seeds) -> Floats:
        """SMPL rotations ``[B, 24, 3, 3]``, the root in a world with y up and the heading of the recording."""
        chosen = (uniforms(item_seeds, Stream.POSE_ARCHIVE, 1)[:, 0] * len(self._frames)).astype(np.int64)
        vectors = self._frames[chosen].astype(np.float64).reshape(-1, 3)
        rotations = np.tile(np.eye(3), (len(chosen), 24, 1, 1))
        matrices = Rotation.from_rotvec(vectors).as_matrix()
        rotations[:, :NUM_SHARED_JOINTS] = matrices.reshape(-1, NUM_SHARED_JOINTS, 3, 3)
        rotations[:, 0] = Z_UP_TO_Y_UP @ rotations[:, 0]
        return rotations


# Training builds its validation data again and again; the archive is read once.
@lru_cache(maxsize=2)
def _read_folder(folder: Path) -> np.ndarray:
    """Frames ``(N, 66)`` float32 of all files."""
    if not folder.is_dir():
        raise UserError(f"motion archive not found: {folder}; correct data.archive or leave it out")
    files = sorted(folder.rglob("*.npz"))
    parts = [frames for file in files if (frames := _read_file(file)) is not None]
    if not parts:
        raise UserError(f"no .npz file with poses in the motion archive {folder}; give a folder in the layout of AMASS")
    frames = np.concatenate(parts)
    frames.flags.writeable = False
    _log.info("motion archive %s: %d poses from %d of %d files", folder, len(frames), len(parts), len(files))
    return frames


def _read_file(file: Path) -> np.ndarray | None:
    """Frames ``(N, 66)`` float32 of one file, thinned out; None when it has no poses, as AMASS's shape files."""
    fields = read_fields(file, {"poses", *FRAMERATE_KEYS})
    if "poses" not in fields:
        return None
    poses = fields["poses"]
    framerate = _DEFAULT_FRAMERATE if fields.keys().isdisjoint(FRAMERATE_KEYS) else frame_rate(file, fields)
    if poses.ndim != 2 or poses.shape[1] < 3 * NUM_SHARED_JOINTS or poses.dtype.kind != "f":
        raise UserError(
            f"the motion file {file} has poses of shape {poses.shape} and type {poses.dtype}, expected "
            f"(frames, at least {3 * NUM_SHARED_JOINTS}) of floating point; remove it from the archive"
        )
    stride = max(1, round(framerate / FRAMES_PER_SECOND))
    frames = poses[::stride, : 3 * NUM_SHARED_JOINTS].astype(np.float32)
    if not np.isfinite(frames).all():
        raise UserError(f"the motion file {file} has poses that are not finite; remove it from the archive")
    return frames
