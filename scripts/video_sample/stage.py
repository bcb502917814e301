"""Who moves where before which camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from diffhmr.body.joints import SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.geometry.camera import intrinsics
from diffhmr.motion.acting.score import Activity
from diffhmr.motion.procedural import sample_motion
from diffhmr.motion.sequence import Motion
from diffhmr.random import Floats


@dataclass(frozen=True)
class Camera:
    """A camera that stands still in a world with y up, looks along -z, and is pitched down.

    Attributes:
        size: width and height of the picture in pixels.
        focal: in pixels.
        height: of the camera over the floor y = 0, metres.
        distance: its z, metres.
        pitch: radians downwards.
    """

    size: tuple[int, int]
    focal: float
    height: float
    distance: float
    pitch: float

    @property
    def intrinsic(self) -> Tensor:
        """K ``[3, 3]``."""
        return intrinsics(self.focal, *self.size)

    @property
    def rotation(self) -> Floats:
        """``[3, 3]`` from the world to the camera's frame (x right, y down, z forward)."""
        level = np.diag([1.0, -1.0, -1.0])
        return np.asarray(Rotation.from_euler("x", self.pitch).as_matrix() @ level)

    @property
    def eye(self) -> Floats:
        """``[3]`` where it is in the world."""
        return np.array([0.0, self.height, self.distance])


@dataclass(frozen=True)
class Part:
    """What somebody does.

    Attributes:
        seed: of the procedural motion.
        activities: that it is made of.
        heading: radians by which it is turned about the vertical.
        place: ``(x, z)`` metres, where it begins.
        skip: frames of the motion left out at its beginning.
    """

    seed: int
    activities: Sequence[Activity]
    heading: float
    place: tuple[float, float]
    skip: int = 0

    def motion(self, frames: int, fps: float) -> Motion:
        """The motion in the world, ``frames`` long."""
        motion = sample_motion(self.seed, self.skip + frames, fps, self.activities).slice(self.skip, self.skip + frames)
        turn = Rotation.from_euler("y", self.heading).as_matrix()
        start = motion.position[0] * np.array([1.0, 0.0, 1.0])
        position = (motion.position - start) @ turn.T + np.array([self.place[0], 0.0, self.place[1]])
        rotations = motion.rotations.copy()
        rotations[:, 0] = turn @ rotations[:, 0]
        return Motion(rotations, position, fps, motion.name)


def before_camera(motion: Motion, betas: Floats, body: BodyModel, rotation: Floats, eye: Floats) -> SmplParams:
    """Parameters ``[T]`` with ``transl`` of a motion of the world in the frame of a camera.

    Args:
        motion: of T frames.
        betas: ``[10]``.
        body: whose pelvis goes where the motion says.
        rotation: ``[3, 3]`` or ``[T, 3, 3]`` from the world to the camera's frame.
        eye: ``[3]`` or ``[T, 3]`` where the camera is.
    """
    rotations = motion.rotations.copy()
    rotations[:, 0] = rotation @ rotations[:, 0]
    pelvis = np.einsum("...ij,tj->ti" if rotation.ndim == 2 else "tij,tj->ti", rotation, motion.position - eye)
    shape = torch.from_numpy(betas).float().expand(len(motion), -1)
    params = SmplParams.from_rotations(torch.from_numpy(rotations).float(), shape)
    rest = body.rest_joints[:3] + shape[0] @ body.rest_joint_basis[:, :3]
    return SmplParams.from_rotations(params.rotations, shape, torch.from_numpy(pelvis).float() - rest)


def joints_of(params: SmplParams, body: BodyModel) -> Floats:
    """``[T, 49, 3]`` the joints of SPIN in metres."""
    joints: Floats = body.joints(params, SPIN49).double().numpy()
    return joints
