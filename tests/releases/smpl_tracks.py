"""People who move before a moving camera, with everything known: for releases with SMPL parameters in the world."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.spatial.transform import Rotation

from diffhmr.body.joints import SMPL24, SPIN49, JointSet
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.geometry.rotation import axis_angle_to_matrix

SIZE = (160, 120)
"""Width and height of the pictures."""


@dataclass(frozen=True)
class Camera:
    """A moving camera: ``extrinsics (N, 4, 4)`` map the world to it, ``intrinsics (3, 3)``."""

    extrinsics: np.ndarray
    intrinsics: np.ndarray

    @classmethod
    def random(cls, frames: int, rng: np.random.Generator) -> Camera:
        """Any orientation of the world; the camera turns a little from frame to frame."""
        extrinsics = np.tile(np.eye(4), (frames, 1, 1))
        turns = Rotation.from_rotvec(np.cumsum(rng.normal(0, 0.1, (frames, 3)), axis=0))
        extrinsics[:, :3, :3] = (turns * Rotation.random(random_state=rng)).as_matrix()
        extrinsics[:, :3, 3] = rng.normal(0, 2, (frames, 3))
        intrinsics = np.array([[180.0, 0, (SIZE[0] - 1) / 2], [0, 180.0, (SIZE[1] - 1) / 2], [0, 0, 1]])
        return cls(extrinsics, intrinsics)

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """World points ``(N, J, 3)`` in the camera of their frame."""
        return np.einsum("nij,nkj->nki", self.extrinsics[:, :3, :3], points) + self.extrinsics[:, None, :3, 3]

    def project(self, points: np.ndarray) -> np.ndarray:
        """World points ``(N, J, 3)`` as pixels ``(N, J, 2)``."""
        image = self.to_camera(points) @ self.intrinsics.T
        return image[..., :2] / image[..., 2:]


@dataclass(frozen=True)
class Track:
    """One person over N frames.

    Attributes:
        camera: that sees the person.
        gender: m or f.
        betas: ``(10,)``.
        pose: ``(N, 72)`` axis-angle in the world.
        trans: ``(N, 3)`` in the world.
        pose_in_camera: ``(N, 24, 3, 3)`` the rotations that a label should have: what the person was made from.
        body: with which the joints are computed.
    """

    camera: Camera
    gender: str
    betas: np.ndarray
    pose: np.ndarray
    trans: np.ndarray
    pose_in_camera: np.ndarray
    body: BodyModel

    def joints(self, joint_set: JointSet) -> np.ndarray:
        """``(N, J, 3)`` in the world."""
        rotations = axis_angle_to_matrix(torch.tensor(self.pose, dtype=torch.float32).reshape(-1, 24, 3))
        betas = torch.tensor(self.betas, dtype=torch.float32).expand(len(self.pose), -1)
        params = SmplParams.from_rotations(rotations, betas, torch.tensor(self.trans, dtype=torch.float32))
        return self.body.joints(params, joint_set).double().numpy()

    def pixels(self, names: tuple[str, ...]) -> np.ndarray:
        """``(N, K, 2)`` projected joints by name."""
        joints = np.concatenate([self.joints(SPIN49), self.joints(SMPL24)], axis=1)
        known = (*SPIN49.joint_names, *SMPL24.joint_names)
        return self.camera.project(joints[:, [known.index(name) for name in names]])


def random_track(body: BodyModel, camera: Camera, rng: np.random.Generator, gender: str, aside: float = 0.0) -> Track:
    """A person four metres in front of the camera, upright in the picture, ``aside`` metres to the right."""
    count = len(camera.extrinsics)
    upright = Rotation.from_rotvec([np.pi, 0, 0])
    headings = Rotation.from_rotvec(rng.uniform(-2, 2, (count, 1)) * (0.0, 1.0, 0.0))
    root = upright * headings
    limbs = rng.normal(0, 0.2, (count, 23, 3))
    betas = rng.normal(0, 1, 10)
    to_camera = Rotation.from_matrix(camera.extrinsics[:, :3, :3])
    pose = np.concatenate([(to_camera.inv() * root).as_rotvec(), limbs.reshape(count, 69)], axis=1)
    still = Track(camera, gender, betas, np.zeros((1, 72)), np.zeros((1, 3)), np.zeros((1, 24, 3, 3)), body)
    pelvis = still.joints(SMPL24)[0, 0]
    wanted = np.array([aside, 0.1, 4.0]) + rng.normal(0, 0.05, (count, 3))
    trans = to_camera.inv().apply(wanted - camera.extrinsics[:, :3, 3]) - pelvis
    rotations = Rotation.from_rotvec(limbs.reshape(-1, 3)).as_matrix().reshape(count, 23, 3, 3)
    truth = np.concatenate([root.as_matrix()[:, None], rotations], axis=1)
    return Track(camera, gender, betas, pose, trans, truth, body)


def write_picture(path: Path, people: list[np.ndarray], rng: np.random.Generator) -> None:
    """A noisy picture with a dot for each joint ``(J, 2)`` of each person."""
    image = rng.integers(90, 130, (SIZE[1], SIZE[0], 3), np.uint8)
    for number, points in enumerate(people):
        for x, y in points.round().astype(int):
            cv2.circle(image, (int(x), int(y)), 2, (60 + 120 * number, 230, 240 - 100 * number), -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
