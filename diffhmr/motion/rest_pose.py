"""How a foreign rig's joints are oriented in the body: for every joint the rotation from its own axes to SMPL's.

SMPL's rotations are zero in the T-pose, body upright, facing +z, palms down. A rig says nothing of the kind, but

* often its own zero pose shows a standing person with arms stretched out or down (CMU's skeletons, T- and A-poses of
  animation programs), or the first frame is a T-pose: there SMPL's skeleton can be posed alike, bone by bone by the
  shortest rotation;
* otherwise (Bandai-Namco's: all bones along one axis) bones and hinges tell: the bone's direction is fixed in its
  joint's axes, knees and elbows bend about a known axis, and the joints of the trunk share their left and right. What
  is estimated over the frames in this way is set to the rig's own axis where bones lie along axes, since modellers let
  the axes of joints follow the body: so all recordings of a rig are read alike.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from diffhmr.motion.directions import shortest_turn, unit, upright
from diffhmr.motion.joint_names import SIDES, BodyMap, carriers
from diffhmr.motion.rest_body import RestBody
from diffhmr.motion.rig_axes import RigAxes
from diffhmr.motion.skeleton import Recording

_STRAIGHT = np.cos(np.deg2rad(30))  # of arms and legs in a rest pose
_LEG_DOWN = np.cos(np.deg2rad(35))
_T_POSE = np.cos(np.deg2rad(20))
_ARM_FORWARD = np.sin(np.deg2rad(30))
_ARM_RAISED = np.sin(np.deg2rad(20))
_UPRIGHT = np.cos(np.deg2rad(30))
_LEVEL = np.array([1.0, 0.0, 1.0])


SMPL_JOINTS = "SMPL's own joints"
"""Where an :class:`Alignment` comes from that needs no reading: rotations can be taken over as they are."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """A rig read as a body.

    Attributes:
        frames: for each joint of the recording that carries a part of the body, the rotation ``[3, 3]`` from SMPL's
            axes to the joint's: with G the joint's rotation in the world, G times this is that of SMPL's bone.
        source: what it was read from: :data:`SMPL_JOINTS`, "zero pose", "first frame" or "bones and hinges".
    """

    frames: dict[int, np.ndarray]
    source: str


def align(recording: Recording, body_map: BodyMap, rest: RestBody) -> Alignment:
    """Read the rig of ``recording``, whose world has y up."""
    zero = _Pose(recording.zero_pose(), body_map)
    if body_map.is_smpl and zero.is_standing(_T_POSE) and zero.has_arms_out():
        return Alignment(dict.fromkeys(body_map.joints.values(), zero.body), SMPL_JOINTS)
    if zero.is_standing(_STRAIGHT):
        return Alignment(_from_pose(zero, body_map, rest), "zero pose")
    first = _Pose(recording.frame(0), body_map)
    if first.is_standing(_T_POSE) and first.has_arms_out():
        return Alignment(_from_pose(first, body_map, rest), "first frame")
    return Alignment(RigAxes(recording, body_map, rest).frames(), "bones and hinges")


class _Pose:
    """One frame of a recording as points in the frame of the body it shows."""

    def __init__(self, frame: Recording, body_map: BodyMap) -> None:
        turns, points = frame.world()
        self.recording, self.body_map, self.turns, self.points = frame, body_map, turns[0], points[0]
        left = sum((self._to(f"right_{part}", f"left_{part}") for part in ("hip", "shoulder")), np.zeros(3))
        up = self._middle("shoulder") - self._middle("hip")
        nearest = np.eye(3)[np.abs(up).argmax()] * np.sign(up[np.abs(up).argmax()])
        # A rest pose stands upright: its trunk may lean for want of a straight line of joints.
        up = nearest if unit(up) @ nearest > _UPRIGHT else up
        self.body = upright(up, left)

    def at(self, name: str) -> np.ndarray:
        return np.asarray(self.points[self.body_map.joints[name]])

    def _to(self, start: str, end: str) -> np.ndarray:
        return unit(self.at(end) - self.at(start))

    def _middle(self, part: str) -> np.ndarray:
        return (self.at(f"left_{part}") + self.at(f"right_{part}")) / 2

    def direction(self, start: str, end: str) -> np.ndarray:
        """Unit vector ``[3]`` in the frame of the body."""
        return self.body.T @ self._to(start, end)

    def is_standing(self, straight: float) -> bool:
        """Whether legs point down and arms out or down, all straight, and toes ahead."""
        for side, out in (("left", 1.0), ("right", -1.0)):
            thigh, shin = self.direction(f"{side}_hip", f"{side}_knee"), self.direction(f"{side}_knee", f"{side}_ankle")
            arm = self.direction(f"{side}_shoulder", f"{side}_elbow")
            fore = self.direction(f"{side}_elbow", f"{side}_wrist")
            if thigh @ shin < straight or arm @ fore < straight or -thigh[1] < _LEG_DOWN or -shin[1] < _LEG_DOWN:
                return False
            if out * arm[0] < -0.1 or arm[1] > _ARM_RAISED or abs(arm[2]) > _ARM_FORWARD:
                return False
            if f"{side}_foot" in self.body_map.joints and self.direction(f"{side}_ankle", f"{side}_foot")[2] < 0.3:
                return False
        return True

    def has_arms_out(self) -> bool:
        return all(abs(self.direction(f"{side}_shoulder", f"{side}_elbow")[0]) > _T_POSE for side in SIDES)


def _from_pose(pose: _Pose, body_map: BodyMap, rest: RestBody) -> dict[int, np.ndarray]:
    """Frames of a rig that stands in ``pose``, by posing SMPL's skeleton alike."""
    body = pose.body
    joints = body_map.joints
    result = dict.fromkeys((joints["pelvis"], *body_map.spine, *body_map.neck), body)
    for side in SIDES:
        if f"{side}_collar" in joints:
            result[joints[f"{side}_collar"]] = body
        for chain in (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist")):
            turn = body
            for near, far in itertools.pairwise(chain):
                names = f"{side}_{near}", f"{side}_{far}"
                now = turn @ rest.between(*names)
                turn = shortest_turn(now, pose.at(names[1]) - pose.at(names[0])) @ turn
                result.update(dict.fromkeys(carriers(pose.recording, body_map, *names), turn))
            result[joints[f"{side}_{chain[-1]}"]] = turn
        flat = body
        if f"{side}_foot" in joints:
            ahead, ours = pose.direction(f"{side}_ankle", f"{side}_foot"), rest.between(f"{side}_ankle", f"{side}_foot")
            # The sole is flat, whatever the height of the ankle over the toes: only the heading is taken over.
            flat = body @ shortest_turn(ours * _LEVEL, ahead * _LEVEL)
            result[joints[f"{side}_foot"]] = flat
        result[joints[f"{side}_ankle"]] = flat
    return {k: pose.turns[k].T @ turn for k, turn in result.items()}
