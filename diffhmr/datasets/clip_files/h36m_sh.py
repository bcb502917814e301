"""MotionBERT's Human3.6M, ``h36m_sh_conf_cam_source_final.pkl``: Stacked Hourglass's detections and positions.

``{"train": {...}, "test": {...}}``, each with arrays over all frames (1,559,752 and 566,920): ``joint_2d (N, 17, 2)``
pixels, right leg first, ``confidence (N, 17)`` perhaps, ``joint3d_image (N, 17, 3)`` x and y in pixels and z as large,
``camera_name``, ``source``; the test also ``action``, ``2.5d_factor`` millimetres per pixel, and
``joints_2.5d_image (N, 17, 3)``, the truth in millimetres (Ci et al., "Optimizing Network Structure for 3D Human Pose
Estimation", ICCV 2019).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffhmr.datasets.clip_files.h36m_cameras import WIDTH, picture_sizes
from diffhmr.datasets.clip_files.lifting_frames import Floats32, LiftingFrames
from diffhmr.datasets.clip_files.mesh_det import to_shorter_side
from diffhmr.datasets.clip_files.tables import Table, as_text, read_table
from diffhmr.datasets.clip_files.videos import Videos, find_videos
from diffhmr.errors import UserError

WHAT = "pickle of Human3.6M's keypoints and positions"


def read_h36m_sh(path: Path, split: str) -> LiftingFrames:
    """Read one split. Where the file has no confidences they are 1.

    Where it has ``joints_2.5d_image``, positions relative to the root are those divided by the factor, so that errors
    times ``mm_per_unit`` are MotionBERT's.

    Raises:
        UserError: the file is missing or damaged, or something in it is missing or has another shape.
    """
    where = f"{path}, split {split}"
    table = read_table(path, split, WHAT)
    cameras = table.names("camera_name")
    sizes = picture_sizes(cameras, where)
    points = table.numbers("joint_2d", (17, 2), longer=True)
    keypoints = np.empty((len(points), 17, 3), np.float32)
    keypoints[..., :2] = points
    del points
    keypoints[..., 2] = table.confidence(17) if "confidence" in table else 1
    to_shorter_side(keypoints, sizes)
    positions, mm_per_pixel = _positions(table, where)
    to_shorter_side(positions, sizes)
    positions[..., 2] /= WIDTH / 2
    videos = find_videos(table.names("source"))
    return LiftingFrames(
        keypoints=keypoints,
        videos=videos,
        positions=positions,
        mm_per_unit=None if mm_per_pixel is None else mm_per_pixel * (WIDTH / 2),
        actions=_of_videos(table.names("action"), videos) if "action" in table else None,
        cameras=_of_videos(cameras, videos),
    )


def _positions(table: Table, where: str) -> tuple[Floats32, Floats32 | None]:
    """``(N, 17, 3)`` in pixels, a copy, and ``(N,)`` millimetres per pixel."""
    positions = table.numbers("joint3d_image", (17, 3), longer=True).copy()
    if "2.5d_factor" not in table:
        return positions, None
    factor = table.numbers("2.5d_factor", ())
    if not (factor > 0).all():
        raise UserError(f"{where}: 2.5d_factor has numbers that are not positive; download the file again")
    if "joints_2.5d_image" in table:
        truth = table.numbers("joints_2.5d_image", (17, 3), longer=True)
        positions[:, 1:] = positions[:, :1] + (truth[:, 1:] - truth[:, :1]) / factor[:, None, None]
    return positions, factor


def _of_videos(names: NDArray[Any], videos: Videos) -> tuple[str, ...]:
    return tuple(as_text(names[videos.starts]).tolist())
