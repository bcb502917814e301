"""The pickles ``mesh_det_{h36m,coco,pw3d}.pkl`` of MotionBERT and DiffMesh: detected keypoints and SMPL parameters.

``{"train": {...}, "test": {...}}``, each with arrays over all frames: ``joint_2d (N, 17, 2 or more)`` pixels in the
order of Human3.6M (right leg first), ``confidence (N, 17)``, ``source (N,)`` the video, ``smpl_pose (N, 72)`` axis-
angle with the root in the camera frame and ``smpl_shape (N, 10)`` of the neutral SMPL; of Human3.6M ``camera_name
(N,)``; perhaps ``img_hw (N, 2)``; of DiffMesh's refinement ``pred_smpl_pose``, ``pred_smpl_shape``, the parameters that
are refined.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diffhmr.datasets.clip_files.h36m_cameras import FPS, picture_sizes
from diffhmr.datasets.clip_files.tables import Table, read_table
from diffhmr.datasets.clip_files.videos import Videos, find_videos
from diffhmr.errors import UserError

Floats32 = NDArray[np.float32]

WHAT = "pickle of keypoints and SMPL parameters"


@dataclass(frozen=True)
class MeshFrames:
    """One split, frame after frame. All arrays are float32.

    Attributes:
        keypoints: ``(N, 17, 3)`` x, y from the middle of the picture in halves of its shorter side, and confidence.
        pose: ``(N, 72)`` axis-angle, the root in the camera frame.
        betas: ``(N, 10)``.
        initial: pose and betas that are to be refined, or None.
        videos: which frames belong together.
        fps: frames per second.
    """

    keypoints: Floats32
    pose: Floats32
    betas: Floats32
    initial: tuple[Floats32, Floats32] | None
    videos: Videos
    fps: float


def read_mesh_det(path: Path, split: str, resolution: int | None = None, fps: float = 30.0) -> MeshFrames:
    """Read one split.

    The middle of a picture and its shorter side follow from ``resolution``, else from the camera of Human3.6M, else
    from ``img_hw``.

    Args:
        path: of the file.
        split: such as ``train``.
        resolution: all pictures count as squares of this side, whatever their shape. That is how MotionBERT normalises:
            1920 for 3DPW, 640 for COCO.
        fps: frames per second, but of Human3.6M, whose cameras have 50.

    Raises:
        UserError: the file is missing or damaged, or something in it is missing or has another shape.
    """
    where = f"{path}, split {split}"
    table = read_table(path, split, WHAT)
    points = table.numbers("joint_2d", (17, 2), longer=True)
    keypoints = np.empty((len(points), 17, 3), np.float32)
    keypoints[..., :2] = points
    del points
    keypoints[..., 2] = table.confidence(17)
    cameras = table.names("camera_name") if "camera_name" in table else None
    if resolution is not None:
        sizes = np.full((1, 2), resolution, np.float32)
    elif cameras is not None:
        sizes = picture_sizes(cameras, where)
    else:
        sizes = _recorded_sizes(table, where)
    to_shorter_side(keypoints, sizes)
    initial = None
    if "pred_smpl_pose" in table:
        initial = table.numbers("pred_smpl_pose", (72,)), table.numbers("pred_smpl_shape", (10,))
    return MeshFrames(
        keypoints=keypoints,
        pose=table.numbers("smpl_pose", (72,)),
        betas=table.numbers("smpl_shape", (10,)),
        initial=initial,
        videos=find_videos(table.names("source")),
        fps=fps if cameras is None else FPS,
    )


def to_shorter_side(points: Floats32, sizes: Floats32) -> None:
    """Change x and y of ``points (N, 17, 2 or more)`` in place, from pixels of pictures of ``sizes (N or 1, 2)``."""
    half = sizes.min(axis=1)[:, None, None] / 2
    points[..., :2] -= sizes[:, None] / 2
    points[..., :2] /= half


def _recorded_sizes(table: Table, where: str) -> Floats32:
    if "img_hw" not in table:
        raise UserError(
            f"{where} says nothing about the size of the pictures (camera_name or img_hw); set resolution of the "
            "source, 1920 for 3DPW, 640 for COCO"
        )
    sizes = table.numbers("img_hw", (2,), longer=True)[:, ::-1]
    if not (sizes > 0).all():
        raise UserError(f"{where}: img_hw has sizes that are not positive; set resolution of the source instead")
    return sizes
