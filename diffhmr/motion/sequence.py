"""A motion as data: SMPL joint rotations over time and where the pelvis is, and its files in the layout of AMASS.

The world of a :class:`Motion` has y up and the floor at y = 0; a person with the identity as root rotation faces +z,
with the left hand at +x. The world of a file has z up, as in AMASS (Mahmood et al., ICCV 2019).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation

from diffhmr.body.joints import SMPL24, SMPL_PARENTS
from diffhmr.errors import UserError
from diffhmr.files import atomic_path, require_file
from diffhmr.motion.amass_layout import (
    FRAMERATE_KEYS,
    NUM_SHARED_JOINTS,
    Z_UP_TO_Y_UP,
    frame_rate,
    read_fields,
)

NUM_JOINTS = len(SMPL_PARENTS)
_SMPL_COLUMNS = 3 * NUM_JOINTS
_TOLERANCE = 1e-4
# Larger numbers are damage: they would lose their meaning as an angle, or as a place in metres.
_MOST_RADIANS, _MOST_METRES, _MOST_PELVIS_METRES = 100.0, 1e5, 10.0
_MIRROR = np.array([-1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Motion:
    """A person's movement. All arrays are float64.

    Attributes:
        rotations: ``[T, 24, 3, 3]`` of SMPL's joints relative to the parent, the root relative to the world (y up).
        position: ``[T, 3]`` metres, the pelvis joint in the world.
        fps: frames per second.
        name: of the motion, as in tables and file names.

    Raises:
        ValueError: no frames, a wrong shape, a value that is not finite, or matrices that are not rotations.
    """

    rotations: np.ndarray
    position: np.ndarray
    fps: float
    name: str = "motion"

    def __post_init__(self) -> None:
        object.__setattr__(self, "rotations", np.asarray(self.rotations, dtype=np.float64))
        object.__setattr__(self, "position", np.asarray(self.position, dtype=np.float64))
        object.__setattr__(self, "fps", float(self.fps))
        frames = len(self.rotations) if self.rotations.ndim else 0
        if frames < 1 or self.rotations.shape != (frames, NUM_JOINTS, 3, 3) or self.position.shape != (frames, 3):
            raise ValueError(
                f"the motion {self.name!r} has rotations of shape {self.rotations.shape} and positions of shape "
                f"{self.position.shape}, expected (frames, {NUM_JOINTS}, 3, 3) and (frames, 3)"
            )
        if not (np.isfinite(self.rotations).all() and np.isfinite(self.position).all()):
            raise ValueError(f"the motion {self.name!r} has values that are not finite")
        if not (np.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"the motion {self.name!r} has {self.fps} frames per second")
        product = self.rotations @ self.rotations.swapaxes(-1, -2)
        if np.abs(product - np.eye(3)).max() > _TOLERANCE or (np.linalg.det(self.rotations) < 0).any():
            raise ValueError(f"the motion {self.name!r} has matrices that are not rotations")

    def __len__(self) -> int:
        """Number of frames T."""
        return len(self.rotations)

    @property
    def seconds(self) -> float:
        """From the first frame to the last."""
        return (len(self) - 1) / self.fps

    def slice(self, start: int, stop: int) -> Motion:
        """Frames ``start`` to ``stop - 1``, counted as Python counts."""
        return replace(self, rotations=self.rotations[start:stop], position=self.position[start:stop])

    def resample(self, fps: float) -> Motion:
        """The motion at another rate: rotations along the shortest arc (slerp), positions along a cubic spline.

        The first frame stays; the last one is kept where a new frame falls on it, and nothing is extrapolated.
        """
        if fps == self.fps:
            return self
        if len(self) == 1:
            return replace(self, fps=fps)
        count = int(np.floor(self.seconds * fps + 1e-6)) + 1
        time = np.minimum(np.arange(count) * (self.fps / fps), len(self) - 1)  # in frames of this motion
        before = np.minimum(time.astype(np.int64), len(self) - 2)
        share = (time - before)[:, None, None]
        first, second = self.rotations[before], self.rotations[before + 1]
        turn = _vectors(first.swapaxes(-1, -2) @ second)
        position = CubicSpline(np.arange(len(self)), self.position, axis=0)(time)
        return replace(self, rotations=first @ _matrices(share * turn), position=position, fps=fps)

    def mirror(self) -> Motion:
        """What a mirror in the plane x = 0 shows: left and right are exchanged."""
        rotations = self.rotations[:, list(SMPL24.flip)] * _MIRROR[:, None] * _MIRROR
        return replace(self, rotations=rotations, position=self.position * _MIRROR)

    def global_rotations(self) -> np.ndarray:
        """``[T, 24, 3, 3]``: rotations of the joints relative to the world."""
        bones = [self.rotations[:, 0]]
        for joint in range(1, NUM_JOINTS):
            bones.append(bones[SMPL_PARENTS[joint]] @ self.rotations[:, joint])
        return np.stack(bones, axis=1)

    def joints(self, rest_joints: np.ndarray) -> np.ndarray:
        """Forward kinematics: SMPL's joints ``[T, 24, 3]`` in the world, metres.

        Args:
            rest_joints: ``[24, 3]`` of the body in its rest pose.
        """
        bones = self.global_rotations()
        points = [self.position]
        for joint in range(1, NUM_JOINTS):
            parent = SMPL_PARENTS[joint]
            points.append(points[parent] + bones[:, parent] @ (rest_joints[joint] - rest_joints[parent]))
        return np.stack(points, axis=1)

    def save(self, path: str | Path, rest_pelvis: np.ndarray | None = None) -> Path:
        """Write an ``.npz`` in the layout of AMASS: ``poses (T, 72)`` axis-angle and ``trans (T, 3)``, z up.

        ``trans`` of AMASS is what is added to a body that was posed about its pelvis, so that
        ``trans = pelvis - rest_pelvis``; the file says which rest pelvis that was.

        Args:
            path: of the file, ending in ``.npz``.
            rest_pelvis: ``[3]`` pelvis of the body's rest pose; the origin (as of the free body) if left out.

        Raises:
            UserError: another suffix, or the file cannot be written.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise UserError(f"cannot write the motion {path}: its name should end in .npz")
        rest = np.zeros(3) if rest_pelvis is None else np.asarray(rest_pelvis, dtype=np.float64)
        to_file = Z_UP_TO_Y_UP.T
        rotations = self.rotations.copy()
        rotations[:, 0] = to_file @ rotations[:, 0]
        with atomic_path(path) as temporary:
            np.savez_compressed(
                temporary,
                poses=_vectors(rotations).reshape(len(self), -1),
                trans=self.position @ to_file.T - rest,
                betas=np.zeros(10),
                gender=np.array("neutral"),
                mocap_framerate=np.array(self.fps),
                rest_pelvis=rest,
            )
        return path


def load_motion(path: str | Path) -> Motion:
    """Read an ``.npz`` in the layout of AMASS: SMPL (72 columns of poses), SMPL-H (156) or SMPL-X (165).

    Of SMPL-H and SMPL-X the root and the 21 body joints are taken; the hands are straight. ``trans`` moves a body whose
    pelvis rests where the file's ``rest_pelvis`` says, at the origin if it says nothing.

    Raises:
        UserError: the file is missing, damaged, or holds no motion.
    """
    path = require_file(path, "motion", "give an .npz in the layout of AMASS")
    fields = read_fields(path, {"poses", "trans", "rest_pelvis", *FRAMERATE_KEYS})
    poses, trans = fields.get("poses"), fields.get("trans")
    if poses is None or trans is None:
        raise UserError(f"{path} holds no motion: it has no poses and trans; give an .npz in the layout of AMASS")
    if poses.dtype.kind != "f" or poses.ndim != 2 or poses.shape[1] < 3 * NUM_SHARED_JOINTS or len(poses) < 1:
        raise UserError(
            f"{path} has poses of shape {poses.shape} and type {poses.dtype}, expected (frames, at least "
            f"{3 * NUM_SHARED_JOINTS}) of floating point; copy the file again"
        )
    if trans.dtype.kind != "f" or trans.shape != (len(poses), 3):
        raise UserError(f"{path} has trans of shape {trans.shape} for {len(poses)} frames; copy the file again")
    rest = fields.get("rest_pelvis", np.zeros(3))
    if rest.dtype.kind not in "fiu" or rest.shape != (3,):
        raise UserError(f"{path} has a rest_pelvis of shape {rest.shape} and type {rest.dtype}, expected three numbers")
    columns = _SMPL_COLUMNS if poses.shape[1] == _SMPL_COLUMNS else 3 * NUM_SHARED_JOINTS
    vectors = _bounded(path, "poses", poses[:, :columns], _MOST_RADIANS).reshape(len(poses), -1, 3)
    rotations = np.tile(np.eye(3), (len(poses), NUM_JOINTS, 1, 1))
    rotations[:, : columns // 3] = _matrices(vectors)
    rotations[:, 0] = Z_UP_TO_Y_UP @ rotations[:, 0]
    position = _bounded(path, "trans", trans, _MOST_METRES) + _bounded(path, "rest_pelvis", rest, _MOST_PELVIS_METRES)
    return Motion(rotations, position @ Z_UP_TO_Y_UP.T, frame_rate(path, fields), path.stem)


def _bounded(path: Path, name: str, values: np.ndarray, most: float) -> np.ndarray:
    """``values`` in float64; raises: UserError: some are not finite or larger than ``most``."""
    if not np.isfinite(values).all():
        raise UserError(f"{path} has {name} that are not finite; copy the file again")
    largest = float(np.abs(values).max())
    if largest > most:
        raise UserError(f"{path} has {name} of up to {largest:g}, expected at most {most:g}; copy the file again")
    return values.astype(np.float64)


def _vectors(matrices: np.ndarray) -> np.ndarray:
    """Axis-angle ``[..., 3]`` of rotations ``[..., 3, 3]``."""
    flat = Rotation.from_matrix(matrices.reshape(-1, 3, 3)).as_rotvec()
    return flat.reshape(matrices.shape[:-1])


def _matrices(vectors: np.ndarray) -> np.ndarray:
    """Rotations ``[..., 3, 3]`` of axis-angle ``[..., 3]``."""
    return Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(*vectors.shape, 3)
