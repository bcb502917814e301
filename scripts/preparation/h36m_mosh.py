"""SMPL parameters for Human3.6M that MoSh found (Loper et al., SIGGRAPH Asia 2014), as some groups have them.

They are not distributed any more. Two layouts are known: a folder with ``S1/Directions 1_cam0_aligned.pkl`` (that of
HMR's training data, Kanazawa et al., CVPR 2018; cameras 0 to 3 are 54138969, 55011271, 58860488 and 60457274), whose
``new_poses (N, 72)`` belong to every fifth frame; and SPIN's ``h36m_train.npz``. In the former the people stand on
their heads: their root has to be turned by 180 degrees about its x axis. Whether a file is like that is not taken on
trust: the root's axes are compared with the joints of the motion capture.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from diffhmr.body.safe_pickle import load_pickle, to_array
from diffhmr.datasets.labels import Labels, read_labels
from diffhmr.errors import UserError
from scripts.preparation.h36m import CAMERAS, STRIDE, Video

_LEFT_HIP, _RIGHT_HIP, _PELVIS, _SPINE = 3, 2, 14, 16  # slots
_AGREE = 0.7  # cosine of the angle between an axis and the joints, median over the frames
_LATE = 5  # frames by which a file may be longer or shorter than the video

Parameters = tuple[np.ndarray, np.ndarray, np.ndarray]


def mosh_path(folder: Path, video: Video) -> Path:
    """The file of a video in a folder of pickles."""
    name = f"{video.action}_cam{CAMERAS.index(video.camera)}_aligned.pkl"
    beside = folder / video.subject / name
    below = folder / video.subject / "images" / name
    return below if below.is_file() and not beside.is_file() else beside


def mosh_rows(source: Path, video: Video, rows: dict[str, np.ndarray], num_frames: int) -> dict[str, np.ndarray]:
    """``pose``, ``shape`` and ``has_smpl`` for the rows of a video; 0 where there is nothing.

    Args:
        source: the folder of pickles or the label file.
        video: whose rows they are.
        rows: ``imgname``, ``frame`` and ``S``.
        num_frames: of the video's poses.

    Raises:
        UserError: a file is damaged or another one, or does not agree with the joints.
    """
    count = len(rows["frame"])
    pose, shape, known = np.zeros((count, 72)), np.zeros((count, 10)), np.zeros(count, bool)
    path = source if source.is_file() else mosh_path(source, video)
    if path.is_file() and count:
        found = _from_labels if source.is_file() else _from_pickle
        pose, shape, known = found(path, rows, num_frames)
        pose[known] = _upright(path, pose[known], rows["S"][known])
    return {"pose": pose, "shape": shape, "has_smpl": known}


def _from_pickle(path: Path, rows: dict[str, np.ndarray], num_frames: int) -> Parameters:
    content = load_pickle(path)
    try:
        poses = to_array(content["new_poses" if "new_poses" in content else "poses"]).astype(np.float64)
        betas = to_array(content["betas"]).astype(np.float64).ravel()
    except (KeyError, ValueError, UserError) as error:
        raise UserError(f"{path} holds no new_poses and betas ({error}); leave --mosh out or mend the file") from error
    if poses.ndim != 2 or poses.shape[1] != 72 or len(betas) < 10:
        raise UserError(f"{path}: poses {poses.shape} and betas {betas.shape}, expected (N, 72) and (10,)")
    steps = {STRIDE: -(-num_frames // STRIDE), 1: num_frames}
    step = next((step for step, length in steps.items() if abs(len(poses) - length) <= _LATE // step), None)
    if step is None:
        raise UserError(
            f"{path} has {len(poses)} poses, {num_frames} frames were captured: neither one per frame nor one per "
            f"{STRIDE} frames; leave --mosh out or mend the file"
        )
    index = rows["frame"] // step
    known = index < len(poses)
    pose = poses[np.where(known, index, 0)] * known[:, None]
    return pose, np.tile(betas[:10], (len(pose), 1)) * known[:, None], known


def _from_labels(path: Path, rows: dict[str, np.ndarray], num_frames: int) -> Parameters:  # noqa: ARG001
    labels, places = _labels(path)
    index = np.array([places.get(str(name), -1) for name in rows["imgname"]])
    known = index >= 0
    known[known] = labels.has_smpl[index[known]]
    index[~known] = 0
    return (
        labels.pose[index].astype(np.float64) * known[:, None],
        labels.betas[index].astype(np.float64) * known[:, None],
        known,
    )


@lru_cache(maxsize=1)
def _labels(path: Path) -> tuple[Labels, dict[str, int]]:
    """A label file and the row of each picture, by its name without folders."""
    labels = read_labels(path)
    return labels, {str(name).rpartition("/")[2]: row for row, name in enumerate(labels.imgname)}


def _upright(path: Path, pose: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """``pose (N, 72)`` whose root agrees with ``joints (N, 24, 4)``, as it is or turned over.

    Raises:
        UserError: neither does.
    """
    if not len(pose):
        return pose
    root = Rotation.from_rotvec(pose[:, :3])
    axes = root.as_matrix()
    left = np.median(_cosines(axes[..., 0], joints[:, _LEFT_HIP, :3] - joints[:, _RIGHT_HIP, :3]))
    up = np.median(_cosines(axes[..., 1], joints[:, _SPINE, :3] - joints[:, _PELVIS, :3]))
    if left < _AGREE or abs(up) < _AGREE:
        raise UserError(
            f"{path} does not agree with the 3D poses (cosines of the root's axes: left {left:.2f}, up {up:.2f}); its "
            "frame or its camera is another one: leave --mosh out or mend the file"
        )
    if up > 0:
        return pose
    turned = pose.copy()
    turned[:, :3] = (root * Rotation.from_rotvec([np.pi, 0, 0])).as_rotvec()
    return turned


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.asarray((a * b).sum(axis=-1) / np.maximum(lengths, 1e-9))
