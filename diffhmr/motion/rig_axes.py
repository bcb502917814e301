"""A rig without a rest pose, read from its bones and hinges."""

from __future__ import annotations

import numpy as np

from diffhmr.motion.directions import frame_of, shortest_turn, unit, upright
from diffhmr.motion.joint_names import SIDES, BodyMap, carriers
from diffhmr.motion.rest_body import RestBody
from diffhmr.motion.skeleton import Recording

_SNAP = np.cos(np.deg2rad(30))
_ALIGNED = np.cos(np.deg2rad(5))
_BENT = np.sin(np.deg2rad(15))
_LEAST_BENT = 0.02  # of the frames have to show a hinge
_STILL_SHARE = 0.2
_LOW_SHARE = 0.4
_APART = 0.02  # of the length of a thigh: joints nearer to each other have no direction between them


class RigAxes:
    """Frames of a rig from how it moves. Directions are kept in the world, one per frame."""

    def __init__(self, recording: Recording, body_map: BodyMap, rest: RestBody) -> None:
        self.recording, self.map, self.rest = recording, body_map, rest
        self.turns, self.points = recording.world()
        self.zero = recording.zero_pose().world()[1][0]
        self.found: dict[int, np.ndarray] = {}

    def frames(self) -> dict[int, np.ndarray]:
        """All of them, from the trunk outwards."""
        self._trunk()
        for side in SIDES:
            if f"{side}_collar" in self.map.joints:
                self._limb(f"{side}_collar", f"{side}_shoulder", "y", self._world(self.map.joints["spine3"], "y"))
            self._arm(side)
            self._leg(side)
        self._level_feet()
        return self.found

    def _to(self, start: int, end: int) -> np.ndarray:
        return np.asarray(self.points[:, end] - self.points[:, start])

    def _world(self, joint: int, axis: str) -> np.ndarray:
        """``[T, 3]``: an axis of SMPL's bone in the world."""
        return np.asarray((self.turns[:, joint] @ self.found[joint])[..., "xyz".index(axis)])

    def _local(self, joint: int, vectors: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Mean direction ``[3]`` in the axes of ``joint`` of ``vectors [T, 3]`` in the world."""
        inside = np.einsum("tij,ti->tj", self.turns[:, joint], unit(vectors))
        return unit(np.average(inside, axis=0, weights=weights))

    def _trunk(self) -> None:
        joints = self.map.joints
        hips = self._to(joints["right_hip"], joints["left_hip"])
        bases = [joints.get(f"{side}_collar", joints[f"{side}_shoulder"]) for side in SIDES]
        width = self._to(bases[1], bases[0])
        shoulders = self._to(joints["right_shoulder"], joints["left_shoulder"])
        size = np.linalg.norm(shoulders, axis=1).mean()
        shoulders = width if np.linalg.norm(width, axis=1).mean() > 0.05 * size else shoulders
        line = [joints["pelvis"], *self.map.spine]
        above = self.map.neck[0] if self.map.neck else None
        for place, joint in enumerate(line):
            share = place / max(1, len(line) - 1)
            left = (1 - share) * unit(hips) + share * unit(shoulders)
            self.found[joint] = self._upright(joint, self._next(line, place, above), left)
        chest = self._world(line[-1], "x")
        for place, joint in enumerate(self.map.neck):
            before = self.found[list(self.found)[-1]]
            found = self._upright(joint, self._next(list(self.map.neck), place, None), chest)
            # A head may look aside through a whole recording: where it can continue the trunk, it does.
            self.found[joint] = before if before[:, 1] @ found[:, 1] > _SNAP else found

    def _next(self, line: list[int], place: int, above: int | None) -> np.ndarray:
        """``[T, 3]``: where a joint of the trunk points: to the next one that lies elsewhere, or as the one before."""
        size = np.linalg.norm(self._to(self.map.joints["left_hip"], self.map.joints["left_knee"]), axis=1).mean()
        for other in [*line[place + 1 :], *([] if above is None else [above])]:
            way = self._to(line[place], other)
            if np.linalg.norm(way, axis=1).mean() > _APART * size:
                return way
        end = self.recording.ends.get(line[place])
        if end is not None and np.linalg.norm(end) > _APART * size:
            return np.asarray(self.turns[:, line[place]] @ end)
        if self.found:
            return self._world(list(self.found)[-1], "y")
        return np.tile([0.0, 1.0, 0.0], (len(self.points), 1))

    def _upright(self, joint: int, up: np.ndarray, left: np.ndarray) -> np.ndarray:
        y = _snapped(self._local(joint, up))
        return upright(y, _snapped(_across(self._local(joint, left), y), _least(y)))

    def _limb(self, near: str, far: str, axis: str, reference: np.ndarray, weights: np.ndarray | None = None) -> None:
        """A bone: its direction is exact, the turn about it is where ``reference [T, 3]`` is SMPL's ``axis``."""
        direction = self.rest.between(near, far)
        for joint in carriers(self.recording, self.map, near, far):
            bone = self._local(joint, self._to(self.map.joints[near], self.map.joints[far]))
            across = _snapped(_across(self._local(joint, reference, weights), bone), _least(bone))
            smpl = frame_of(direction, np.eye(3)["xyz".index(axis)])
            self.found[joint] = frame_of(bone, across) @ smpl.T

    def _hinge(self, chain: tuple[str, str, str], sign: float) -> tuple[np.ndarray, np.ndarray] | None:
        """Axis ``[T, 3]`` about which a knee or an elbow bends, and how far it is bent ``[T]``; None if it never is."""
        a, b, c = (self.map.joints[name] for name in chain)
        axis = np.cross(unit(self._to(a, b)), unit(self._to(b, c)))
        bent = np.linalg.norm(axis, axis=1)
        weights = np.where(bent > _BENT, bent, 0.0)
        return (sign * axis, weights) if (weights > 0).mean() > _LEAST_BENT else None

    def _continue(self, near: str, far: str, before: str) -> bool:
        """Give a bone the turn about itself of the bone ``before`` it, if the zero pose shows them in one line."""
        if before not in self.map.joints:
            return False
        frame = self.found[self.map.joints[before]]
        bone = self.zero[self.map.joints[far]] - self.zero[self.map.joints[near]]
        now = frame @ self.rest.between(near, far)
        if unit(now) @ unit(bone) < _SNAP:
            return False
        for joint in carriers(self.recording, self.map, near, far):
            self.found[joint] = shortest_turn(now, bone) @ frame
        return True

    def _arm(self, side: str) -> None:
        collar, upper, fore, hand = (f"{side}_{part}" for part in ("collar", "shoulder", "elbow", "wrist"))
        hinge = self._hinge((upper, fore, hand), -1.0 if side == "left" else 1.0)
        if hinge is not None:
            self._limb(upper, fore, "y", *hinge)
        elif not self._continue(upper, fore, collar):
            chest = self.turns[:, self.map.joints["spine3"]] @ self.found[self.map.joints["spine3"]]
            way = self._to(self.map.joints[upper], self.map.joints[fore])
            turn = shortest_turn(chest @ self.rest.between(upper, fore), way) @ chest
            self._limb(upper, fore, "y", turn[..., 1])
        # A forearm turns about itself as well: its elbow's axis says less than the upper arm it continues.
        straight = self._continue(fore, hand, upper)
        if not straight:
            self._limb(fore, hand, "y", *(hinge or (self._world(self.map.joints[upper], "y"),)))
        joint, other = self.map.joints[hand], self.map.joints[fore]
        self.found[joint] = self.found[other] if straight else self._like(joint, other)

    def _leg(self, side: str) -> None:
        thigh, shin, foot = (f"{side}_{part}" for part in ("hip", "knee", "ankle"))
        hinge = self._hinge((thigh, shin, foot), 1.0)
        if hinge is None:
            hinge = self._world(self.map.joints["pelvis"], "x"), np.ones(len(self.points))
        self._limb(thigh, shin, "x", *hinge)
        self._limb(shin, foot, "x", *hinge)
        left = self._world(self.map.joints[shin], "x")
        flat = self._flat_frames(side)
        for name in (foot, f"{side}_foot"):
            if name in self.map.joints:
                joint = self.map.joints[name]
                x = _snapped(self._local(joint, left), _least(self.found[self.map.joints[shin]][:, 0]))
                up = self._local(joint, np.tile([0.0, 1.0, 0.0], (len(flat), 1)), flat)
                self.found[joint] = frame_of(x, _across(up, x))

    def _level_feet(self) -> None:
        """Give both feet the flatter slope of the two: a heel may be raised through a whole recording."""
        if any(f"{side}_foot" not in self.map.joints for side in SIDES):
            return
        ankles = [self.map.joints[f"{side}_ankle"] for side in SIDES]
        toes = [self.map.joints[f"{side}_foot"] for side in SIDES]
        bones = [self._local(ankle, self._to(ankle, toe)) for ankle, toe in zip(ankles, toes, strict=True)]
        # Up in the direction of the toes: minus the sine of the slope from ankle to toes.
        slope = max(float(bone @ self.found[ankle][:, 1]) for ankle, bone in zip(ankles, bones, strict=True))
        for ankle, bone in zip(ankles, bones, strict=True):
            x, y, _ = self.found[ankle].T
            ahead = _across(bone, x)
            across = np.cross(x, ahead) * np.sign(np.cross(x, ahead) @ y)
            self.found[ankle] = frame_of(x, slope * ahead + np.sqrt(1 - slope**2) * across)

    def _flat_frames(self, side: str) -> np.ndarray:
        """``[T]`` weights of the frames in which the foot stands on the ground: low, and the stillest of those."""
        parts = [self.map.joints[name] for name in (f"{side}_ankle", f"{side}_foot") if name in self.map.joints]
        if len(self.points) < 3:
            return np.ones(len(self.points))
        speed = sum(np.linalg.norm(np.gradient(self.points[:, k], axis=0), axis=1) for k in parts)
        height = self.points[:, parts[0], 1]
        low = height <= np.quantile(height, _LOW_SHARE)
        return np.asarray(low & (speed <= np.quantile(np.asarray(speed)[low], _STILL_SHARE / _LOW_SHARE)), dtype=float)

    def _like(self, joint: int, other: int) -> np.ndarray:
        """A joint whose axes are those of another one, but for turns by right angles and the movement between them."""
        same = self.found[other]
        x = _snapped(self._local(joint, self._world(other, "x")), _least(same[:, 1]))
        y = _across(self._local(joint, self._world(other, "y")), x)
        return frame_of(x, _snapped(y, _least(same[:, 1])))


def _least(bone: np.ndarray) -> float:
    """How near an axis has to be for :func:`_snapped`: any is, where the bone itself lies along an axis of the rig."""
    return 0.0 if np.abs(bone).max() > _ALIGNED else float(_SNAP)


def _across(vector: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """The part of ``vector`` at right angles to ``axis``, at length 1."""
    return unit(vector - (vector @ axis) * axis)


def _snapped(vector: np.ndarray, least: float = _SNAP) -> np.ndarray:
    """The coordinate axis next to ``vector``, or ``vector`` if the cosine between them is less than ``least``."""
    largest = np.abs(vector).argmax()
    if abs(vector[largest]) < least:
        return vector
    return np.asarray(np.eye(3)[largest] * np.sign(vector[largest]))
