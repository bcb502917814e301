"""What carrying a motion over needs of a body: its joints in the rest pose and where its soles are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diffhmr.body.joints import SMPL24
from diffhmr.body.model import BodyModel
from diffhmr.motion.sequence import Motion

_FEET = tuple(SMPL24.joint_names.index(name) for name in ("left_ankle", "right_ankle", "left_foot", "right_foot"))
_SOLE_THICKNESS = 0.015  # metres above the lowest vertex of a foot that still touch the ground


@dataclass(frozen=True, eq=False)
class RestBody:
    """A body in its T-pose, facing +z, metres.

    Attributes:
        joints: ``[24, 3]``.
        sole: ``[P, 3]`` points that touch the ground.
        sole_joint: ``[P]`` the joint that carries each.
    """

    joints: np.ndarray
    sole: np.ndarray
    sole_joint: np.ndarray

    def index(self, name: str) -> int:
        """Of the joint of this name."""
        return SMPL24.joint_names.index(name)

    def between(self, start: str, end: str) -> np.ndarray:
        """``[3]`` from one joint to another."""
        return np.asarray(self.joints[self.index(end)] - self.joints[self.index(start)])

    def leg_length(self) -> float:
        """Of thigh and shin, the mean of both sides."""
        parts = [self.between(f"{s}_{a}", f"{s}_{b}") for s in ("left", "right") for a, b in _LEG]
        return float(np.linalg.norm(parts, axis=1).sum() / 2)

    def clearance(self, name: str) -> float:
        """Height of a joint over the sole points that it carries."""
        own = self.sole[self.sole_joint == self.index(name)]
        return float(self.joints[self.index(name), 1] - own[:, 1].min())

    def heel(self, ankle: str) -> np.ndarray:
        """``[3]`` from an ankle to the rearmost sole point that it carries."""
        own = self.sole[self.sole_joint == self.index(ankle)]
        return np.asarray(own[own[:, 2].argmin()] - self.joints[self.index(ankle)])

    def lowest(self, motion: Motion) -> np.ndarray:
        """``[T]`` height of the lowest point of the soles."""
        joints, bones = motion.joints(self.joints), motion.global_rotations()
        arms = self.sole - self.joints[self.sole_joint]
        heights = joints[:, self.sole_joint, 1] + np.einsum("tpc,pc->tp", bones[:, self.sole_joint, 1], arms)
        return np.asarray(heights.min(axis=1))


_LEG = (("hip", "knee"), ("knee", "ankle"))


def rest_body(body: BodyModel) -> RestBody:
    """The mean shape of ``body``. Of each ankle's and each foot's vertices near the ground three stand for the sole."""
    joints = body.rest_joints.reshape(24, 3).double().cpu().numpy()
    vertices = body.v_template.reshape(3, -1).T.double().cpu().numpy()
    parts = body.parts.cpu().numpy()
    points, carriers = [], []
    for joint in _FEET:
        own = vertices[parts == joint]
        near = own[own[:, 1] <= own[:, 1].min() + _SOLE_THICKNESS]
        points += [near[near[:, 2].argmin()], near[near[:, 2].argmax()], near[near[:, 1].argmin()]]
        carriers += [joint] * 3
    return RestBody(joints, np.stack(points), np.array(carriers))
