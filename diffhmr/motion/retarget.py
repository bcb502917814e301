"""Any recorded skeleton as a motion of SMPL's: bones point the same way in every frame, and keep their twist.

Each part of SMPL's skeleton takes the rotation in the world of the joint that carries this part in the recording, seen
through the rig's alignment (:mod:`diffhmr.motion.rest_pose`). Thighs, shins, upper arms and forearms are then turned
by the shortest way onto the recorded direction. Trunk and neck are distributed over SMPL's joints, however many the
recording has, and the spine is turned so that the neck lies over the pelvis as it did. Feet keep their tilt against
the ground and not the direction from ankle to toes, because skeletons have their ankles at different heights. The
hips' path is scaled by the length of the legs.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from diffhmr.body.joints import SMPL24, SMPL_PARENTS
from diffhmr.errors import UserError
from diffhmr.motion.directions import between_turns, shortest_turn, unit
from diffhmr.motion.feet import lift_balls, on_floor
from diffhmr.motion.joint_names import SIDES, BodyMap, carriers, map_joints
from diffhmr.motion.rest_body import RestBody
from diffhmr.motion.rest_pose import SMPL_JOINTS, Alignment, align
from diffhmr.motion.sequence import Motion
from diffhmr.motion.skeleton import Recording

_log = logging.getLogger(__name__)

UpAxis = Literal["auto", "y", "z"]

LIMB_BONES = tuple(
    (f"{side}_{near}", f"{side}_{far}")
    for side in SIDES
    for near, far in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"))
)
_CLEARLY = 0.6
_SCALES = 1e-7, 1e5  # metres per unit of length
_TRUNK_STEPS = 4
_INDEX = {name: index for index, name in enumerate(SMPL24.joint_names)}


@dataclass(frozen=True, eq=False)
class Retargeted:
    """A motion and how it was obtained.

    Attributes:
        motion: with the floor at y = 0.
        limb_degrees: mean angle between the recording's and the motion's thighs, shins, upper arms and forearms.
        trunk_degrees: mean angle between their directions from the pelvis to the neck.
        scale: metres per unit of the recording, by the length of the legs.
        rest_pose: what the rig was read from; see :class:`diffhmr.motion.rest_pose.Alignment`.
    """

    motion: Motion
    limb_degrees: float
    trunk_degrees: float
    scale: float
    rest_pose: str


def retarget(
    recording: Recording, rest: RestBody, given: Mapping[str, str] | None = None, up: UpAxis = "auto"
) -> Retargeted:
    """Carry ``recording`` over to the body ``rest``.

    Args:
        recording: any skeleton with legs and arms.
        rest: the body whose joints and soles count.
        given: names of its joints by SMPL's names, where they cannot be told; see ``joint_names.read_mapping``.
        up: axis of the recording's world that points up; "auto" takes the one along which the person stands.

    Raises:
        UserError: joints cannot be told, a limb has no length, or left and right or the up axis cannot be right.
    """
    body_map = map_joints(recording, given)
    recording = recording.turned(_to_y_up(recording, body_map, up))
    turns, points = recording.world()
    _check_limbs(recording, body_map, points)
    alignment = align(recording, body_map, rest)
    bones = _bones(recording, body_map, alignment, turns)
    foreign = alignment.source != SMPL_JOINTS
    if foreign:
        _point_limbs(bones, body_map, points, rest)
        _point_trunk(bones, body_map, points, rest)
    rotations = bones.copy()
    parents = list(SMPL_PARENTS[1:])
    rotations[:, 1:] = bones[:, parents].swapaxes(-1, -2) @ bones[:, 1:]
    scale = rest.leg_length() / _leg_length(body_map, points)
    if not _SCALES[0] <= scale <= _SCALES[1]:
        raise UserError(
            f"{recording.name}: a unit would be {scale:g} m by the length of the legs; was it exported whole?"
        )
    hips = _middle(body_map, points, "hip") * scale
    to_hips = (rest.between("pelvis", "left_hip") + rest.between("pelvis", "right_hip")) / 2
    motion = Motion(rotations, hips - bones[:, 0] @ to_hips, recording.fps, recording.name)
    motion = on_floor(motion, rest)
    if foreign:
        motion = lift_balls(motion, rest)
    limbs, trunk = bone_angles(motion, rest, body_map, points)
    return Retargeted(motion, limbs, trunk, scale, alignment.source)


def bone_angles(motion: Motion, rest: RestBody, body_map: BodyMap, points: np.ndarray) -> tuple[float, float]:
    """Mean angles in degrees between the motion and the recording's joints ``points [T, N, 3]``: limbs, trunk."""
    joints = motion.joints(rest.joints)
    limbs = [
        _degrees(
            joints[:, _INDEX[far]] - joints[:, _INDEX[near]],
            points[:, body_map.joints[far]] - points[:, body_map.joints[near]],
        )
        for near, far in LIMB_BONES
    ]
    trunk = _degrees(_trunk(motion.global_rotations(), rest), _recorded_trunk(body_map, points))
    return float(np.mean(limbs)), float(trunk.mean())


def _degrees(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    sine = np.linalg.norm(np.cross(first, second), axis=-1)
    return np.asarray(np.rad2deg(np.arctan2(sine, (first * second).sum(-1))))


def _middle(body_map: BodyMap, points: np.ndarray, part: str) -> np.ndarray:
    """``[T, 3]`` between the left and the right joint of the recording."""
    return np.asarray(points[:, [body_map.joints[f"{side}_{part}"] for side in SIDES]].mean(axis=1))


def _leg_length(body_map: BodyMap, points: np.ndarray) -> float:
    total = 0.0
    for side in SIDES:
        for near, far in itertools.pairwise(body_map.joints[f"{side}_{part}"] for part in ("hip", "knee", "ankle")):
            total += float(np.linalg.norm(points[:, far] - points[:, near], axis=1).mean()) / 2
    return total


def _check_limbs(recording: Recording, body_map: BodyMap, points: np.ndarray) -> None:
    """Refuse skeletons whose limbs have no length or whose toes point backwards."""
    for near, far in LIMB_BONES:
        first, second = body_map.joints[near], body_map.joints[far]
        if not np.linalg.norm(points[:, second] - points[:, first], axis=1).min() > 0:
            names = recording.joint_names[first], recording.joint_names[second]
            raise UserError(
                f"{recording.name}: {names[0]} and {names[1]} are at the same place; was it exported whole?"
            )
    hips = points[:, body_map.joints["left_hip"]] - points[:, body_map.joints["right_hip"]]
    ahead = unit(np.cross(hips, _middle(body_map, points, "shoulder") - _middle(body_map, points, "hip")))
    toes = [
        unit(points[:, body_map.joints[f"{side}_foot"]] - points[:, body_map.joints[f"{side}_ankle"]])
        for side in SIDES
        if f"{side}_foot" in body_map.joints
    ]
    if toes and float(np.mean([(way * ahead).sum(-1).mean() for way in toes])) < -0.3:
        raise UserError(
            f"{recording.name}: the toes point backwards, so left and right are exchanged or the file's axes are "
            "left-handed; export it with right-handed axes, or name the sides in a mapping file with --mapping"
        )


def _to_y_up(recording: Recording, body_map: BodyMap, up: UpAxis) -> np.ndarray:
    """Rotation ``[3, 3]`` from the axes of the file to y up."""
    y, z = np.eye(3)[1:]
    if up != "auto":
        return shortest_turn(y if up == "y" else z, y)
    points = recording.world()[1]
    hips = _middle(body_map, points, "hip")
    body = unit(_middle(body_map, points, "shoulder") - hips) + unit(hips - _middle(body_map, points, "ankle"))
    mean = body.mean(axis=0) / 2
    along = np.eye(3)[np.abs(mean).argmax()] * np.sign(mean[np.abs(mean).argmax()])
    if along @ y == 1 or np.abs(mean).max() < _CLEARLY:
        return np.eye(3)
    _log.info("%s: the person stands along %s of the file, which is taken as up", recording.name, along.astype(int))
    return shortest_turn(along, y)


def _bones(recording: Recording, body_map: BodyMap, alignment: Alignment, turns: np.ndarray) -> np.ndarray:
    """Rotations ``[T, 24, 3, 3]`` of SMPL's bones in the world."""
    joints = body_map.joints
    bones = np.empty((len(turns), len(SMPL_PARENTS), 3, 3))

    def carried(*joint: int) -> np.ndarray:
        parts = [turns[:, k] @ alignment.frames[k] for k in joint]
        return parts[0] if len(parts) == 1 else between_turns(parts[0], parts[1], 0.5)

    spine = [carried(k) for k in (joints["pelvis"], *body_map.spine)]
    neck = [carried(k) for k in (joints["spine3"], *body_map.neck)]
    bones[:, _INDEX["pelvis"]] = spine[0]
    for place, name in enumerate(("spine1", "spine2", "spine3"), 1):
        bones[:, _INDEX[name]] = _along(spine, place / 3)
    for place, name in enumerate(("neck", "head"), 1):
        bones[:, _INDEX[name]] = _along(neck, place / 2)
    for side in SIDES:
        chains = [("hip", "knee", "ankle", "foot"), ("collar", "shoulder", "elbow", "wrist", "hand")]
        for chain, above in zip(chains, ("pelvis", "spine3"), strict=True):
            parent = above
            for part, following in zip(chain, (*chain[1:], ""), strict=True):
                name = f"{side}_{part}"
                bones[:, _INDEX[name]] = bones[:, _INDEX[parent]]
                if name in joints and joints[name] in alignment.frames:
                    on_bone = carriers(recording, body_map, name, f"{side}_{following}") if part in _TWISTING else []
                    bones[:, _INDEX[name]] = carried(*(on_bone or [joints[name]]))
                parent = name
    return bones


_TWISTING = ("hip", "knee", "shoulder", "elbow")


def _along(chain: list[np.ndarray], share: float) -> np.ndarray:
    """Rotations ``[T, 3, 3]`` at ``share`` of the way from the first joint of a chain to the last."""
    place = share * (len(chain) - 1)
    below = min(int(place + 1e-9), len(chain) - 1)
    if place - below < 1e-9:
        return chain[below]
    return between_turns(chain[below], chain[below + 1], place - below)


def _point_limbs(bones: np.ndarray, body_map: BodyMap, points: np.ndarray, rest: RestBody) -> None:
    """Turn thighs, shins, upper arms and forearms of ``bones`` in place onto their recorded directions."""
    for near, far in LIMB_BONES:
        recorded = points[:, body_map.joints[far]] - points[:, body_map.joints[near]]
        own = bones[:, _INDEX[near]] @ rest.between(near, far)
        bones[:, _INDEX[near]] = shortest_turn(own, recorded) @ bones[:, _INDEX[near]]


def _trunk(bones: np.ndarray, rest: RestBody) -> np.ndarray:
    """``[T, 3]`` from the pelvis to the neck under the rotations ``bones`` in the world."""
    line = itertools.pairwise(("pelvis", "spine1", "spine2", "spine3", "neck"))
    return np.asarray(sum(bones[:, _INDEX[near]] @ rest.between(near, far) for near, far in line))


def _recorded_trunk(body_map: BodyMap, points: np.ndarray) -> np.ndarray:
    """``[T, 3]`` from the pelvis to the neck of the recording, or to the middle of the shoulders if it has no neck."""
    neck = points[:, body_map.neck[0]] if len(body_map.neck) > 1 else _middle(body_map, points, "shoulder")
    return np.asarray(neck - points[:, body_map.joints["pelvis"]])


def _point_trunk(bones: np.ndarray, body_map: BodyMap, points: np.ndarray, rest: RestBody) -> None:
    """Turn the three spine joints of ``bones`` in place so that the neck lies over the pelvis as it was recorded."""
    recorded = _recorded_trunk(body_map, points)
    for _ in range(_TRUNK_STEPS):
        turn = shortest_turn(_trunk(bones, rest), recorded)
        for name in ("spine1", "spine2", "spine3"):
            bones[:, _INDEX[name]] = turn @ bones[:, _INDEX[name]]
