"""What a model of pictures says of a person frame by frame, made from the truth: parameters that are to be refined.

Every rotation is off by a part that drifts over some frames and a part that trembles from frame to frame, more in some
people than in others and more in the limbs than in the trunk. For some frames at a time a limb is taken for quite
another pose, or the person for one who faces the other way. The betas are off by the same numbers in all frames.
Everything is a pure function of the clips' seeds, and more frames continue what fewer began.

On synthetic motion these estimates have some 95 mm MPJPE, 55 mm PA-MPJPE and 35 mm/frame^2 acceleration error, about
what SPIN is reported to have on 3DPW (97, 59 and 30).
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation
from scipy.special import ndtri

from diffhmr.body.joints import SMPL24
from diffhmr.datasets.clip_keypoints import smooth_normals
from diffhmr.random import Floats, Seeds, Stream, normals

_NAMES = SMPL24.joint_names
_RADIANS = 0.1
"""Standard deviation about each axis, in the median person, of a joint with weight 1."""
_WEIGHTS = {
    "pelvis": 1.0, "hip": 1.0, "knee": 1.2, "ankle": 1.4, "foot": 0.3, "spine1": 0.6, "spine2": 0.4, "spine3": 0.4,
    "neck": 0.9, "head": 1.0, "collar": 0.6, "shoulder": 1.6, "elbow": 1.8, "wrist": 1.2, "hand": 0.3,
}  # fmt: skip
_JOINT_RADIANS = _RADIANS * np.array([_WEIGHTS[name.split("_")[-1]] for name in _NAMES])
_SLOW, _QUICK = 0.99, 0.14
"""Shares of the drifting and of the trembling part in the deviation of a joint; their squares add up to 1."""
_DRIFT_FRAMES = 8.0
_RUN_FRAMES = 3.0
_LIMBS = tuple(
    tuple(_NAMES.index(f"{side}_{part}") for part in parts)
    for side in ("left", "right")
    for parts in (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist"))
)
_LIMB_SHARE, _LIMB_RADIANS = 0.02, 0.6
_FACING_SHARE, _FACING_SPREAD = 0.004, 0.3
_BETAS = 0.7


def initial_estimates(rotations: Floats, betas: Floats, seeds: Seeds) -> tuple[Floats, Floats]:
    """Disturbed ``rotations [B, T, 24, 3, 3]`` and ``betas [B, 10]`` of the clips ``seeds [B]``, in the same shapes.

    Rotations are those of SMPL's joints relative to their parents, the pelvis into the camera.
    """
    size, frames = rotations.shape[:2]
    person = np.exp(0.35 * np.clip(normals(seeds, Stream.INITIAL_PERSON, 1), -2.0, 2.0))
    slow = smooth_normals(seeds, Stream.INITIAL_SLOW, frames, 3 * len(_NAMES), _DRIFT_FRAMES)
    quick = normals(seeds, Stream.INITIAL_QUICK, frames * 3 * len(_NAMES)).reshape(size, frames, -1)
    turns = (_SLOW * slow + _QUICK * quick).reshape(size, frames, -1, 3)
    turns *= person[:, :, None, None] * _JOINT_RADIANS[:, None]
    turns += _far_off(seeds, frames)
    off = Rotation.from_rotvec(turns.reshape(-1, 3)).as_matrix().reshape(rotations.shape)
    shape = np.clip(betas + _BETAS * normals(seeds, Stream.INITIAL_SHAPE, betas.shape[1]), -4.0, 4.0)
    return rotations @ off, shape


def _far_off(seeds: Seeds, frames: int) -> Floats:
    """Rotation vectors ``[B, T, 24, 3]``, zero but in runs of frames: of limbs, and of the pelvis about its own y."""
    size = len(seeds)
    level = -ndtri([_FACING_SHARE, *(_LIMB_SHARE for _ in _LIMBS)])
    happens = smooth_normals(seeds, Stream.INITIAL_FAR, frames, len(level), _RUN_FRAMES) > level
    wrong = normals(seeds, Stream.INITIAL_FAR_TURN, 3 * len(_NAMES)).reshape(size, len(_NAMES), 3)
    turns = np.zeros((size, frames, len(_NAMES), 3))
    facing = np.pi + _FACING_SPREAD * wrong[:, :1, 1]
    turns[:, :, 0, 1] = np.where(happens[..., 0], facing, 0.0)
    for number, limb in enumerate(_LIMBS, start=1):
        turns[:, :, limb] = np.where(happens[..., number, None, None], _LIMB_RADIANS * wrong[:, None, limb], 0.0)
    return turns
