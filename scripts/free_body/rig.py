"""From a rigged source body in A-pose to SMPL's 24 joints and T-pose.

Frame: y up, the body faces +z, its left side is at +x; metres. Letters: S shapes, V vertices, N source bones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from diffhmr.body.joints import SMPL24, SMPL_PARENTS

Array = NDArray[np.float64]

SMPL_JOINTS = SMPL24.joint_names

# The source bone (or bones) whose head, or mean of heads, is the joint. {s} is the side, L or R.
_JOINT_BONES = {
    "pelvis": ("root",), "spine1": ("spine04",), "spine2": ("spine03",), "spine3": ("spine01",), "neck": ("neck01",),
    "head": ("head",), "hip": ("upperleg01.{s}",), "knee": ("lowerleg01.{s}",), "ankle": ("foot.{s}",),
    "foot": ("toe2-1.{s}", "toe3-1.{s}"), "collar": ("clavicle.{s}",), "shoulder": ("upperarm01.{s}",),
    "elbow": ("lowerarm01.{s}",), "wrist": ("wrist.{s}",), "hand": ("finger3-1.{s}",),
}  # fmt: skip

# The joint whose rotation moves the bones with this prefix; a bone that is not listed moves with its parent bone.
_CARRIER = {
    "root": "pelvis", "spine04": "spine1", "spine03": "spine2", "spine01": "spine3", "neck01": "neck", "head": "head",
    "upperleg01": "hip", "lowerleg01": "knee", "foot": "ankle", "toe": "foot", "clavicle": "collar",
    "upperarm01": "shoulder", "lowerarm01": "elbow", "wrist": "wrist", "finger1-2": "hand", "finger2-1": "hand",
    "finger3-1": "hand", "finger4-1": "hand", "finger5-1": "hand",
}  # fmt: skip

# How far from a joint the vertices may lie that its regressor uses (metres): wide in the trunk, where skin and bone
# move apart, narrow in the limbs, where the same rows must also follow a posed surface.
_REGRESSOR_RADIUS = {
    "pelvis": 0.30, "spine1": 0.30, "spine2": 0.30, "spine3": 0.30, "collar": 0.25, "neck": 0.20, "head": 0.16,
    "hip": 0.22, "knee": 0.16, "ankle": 0.12, "foot": 0.10, "shoulder": 0.16, "elbow": 0.10, "wrist": 0.08,
    "hand": 0.07,
}  # fmt: skip

# How far the shoulder girdle rises when the arms go from the A-pose to the horizontal (degrees).
_CLAVICLE_LIFT = 7.0
_SHOULDER_LIFT = 12.0
# Mean and standard deviation of the rotation vectors in random poses (radians), for the right side of the body.
_POSE_SPREAD = {
    "hip": ((-0.5, 0.0, 0.0), 0.45), "ankle": ((0.0, 0.0, 0.0), 0.25), "shoulder": ((0.0, 0.3, 0.6), 0.5),
    "collar": ((0.0, 0.0, 0.1), 0.15), "wrist": ((0.0, 0.0, 0.0), 0.35), "neck": ((0.1, 0.0, 0.0), 0.25),
    "head": ((0.0, 0.0, 0.0), 0.25), "spine1": ((0.15, 0.0, 0.0), 0.15), "spine2": ((0.1, 0.0, 0.0), 0.15),
    "spine3": ((0.1, 0.0, 0.0), 0.12),
}  # fmt: skip
# Directions of the left thigh and shank at rest: slightly apart, shank slightly back, as SMPL's.
_LEFT_THIGH = (0.07, -1.0, 0.0)
_LEFT_SHANK = (-0.03, -1.0, -0.08)


@dataclass(frozen=True)
class SourceRig:
    """Bones of the source body: ``names`` (N), ``parents`` (N; a parent comes before its children, -1 for the root)."""

    names: tuple[str, ...]
    parents: tuple[int, ...]

    def index(self, name: str) -> int:
        return self.names.index(name)


def joint_bones(rig: SourceRig) -> list[list[int]]:
    """For each of SMPL's 24 joints the bones whose heads are averaged to give it."""
    result = []
    for joint in SMPL_JOINTS:
        side = {"left": "L", "right": "R"}.get(joint.split("_")[0], "")
        bones = _JOINT_BONES[joint.split("_")[-1]]
        result.append([rig.index(bone.format(s=side)) for bone in bones])
    return result


def joint_positions(heads: Array, rig: SourceRig) -> Array:
    """SMPL's joints [..., 24, 3] from the bone heads [..., N, 3]."""
    return np.stack([heads[..., bones, :].mean(-2) for bones in joint_bones(rig)], axis=-2)


def regressor_radii() -> list[float]:
    """For each of SMPL's 24 joints the radius in metres from which its regressor may take vertices."""
    return [_REGRESSOR_RADIUS[joint.split("_")[-1]] for joint in SMPL_JOINTS]


def bone_joints(rig: SourceRig) -> NDArray[np.int64]:
    """For each source bone (N) the SMPL joint that carries it."""
    carried = np.full(len(rig.names), -1, dtype=np.int64)
    for bone, name in enumerate(rig.names):
        stem, _, side = name.partition(".")
        prefix = next((p for p in (stem, stem.rstrip("0123456789-")) if p in _CARRIER), None)
        if prefix is None:
            assert rig.parents[bone] >= 0, f"no joint for the root bone {name}"
            carried[bone] = carried[rig.parents[bone]]
            continue
        word = {"L": "left_", "R": "right_"}.get(side, "")
        carried[bone] = SMPL_JOINTS.index(word + _CARRIER[prefix])
    return carried


def merge_weights(weights: Array, carried: Sequence[int] | NDArray[np.int64], num_joints: int = 24) -> Array:
    """Sum the skinning weights (V, N) of the bones that one joint carries: (V, num_joints)."""
    merged = np.zeros((weights.shape[0], num_joints))
    np.add.at(merged.T, np.asarray(carried), weights.T)
    return merged


def keep_strongest(weights: Array, count: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The ``count`` largest weights of each vertex, renormalised: indices and values (V, count), largest first."""
    order = np.argsort(-weights, axis=1, kind="stable")[:, :count]
    values = np.take_along_axis(weights, order, axis=1)
    values = (values / values.sum(1, keepdims=True)).astype(np.float32)
    return np.where(values > 0, order, 0).astype(np.uint8), values


def dense_weights(index: NDArray[np.uint8], value: NDArray[np.float32], num_joints: int = 24) -> Array:
    """The dense matrix (V, num_joints) of the weights that :func:`keep_strongest` returned."""
    weights = np.zeros((len(index), num_joints))
    np.add.at(weights, (np.arange(len(index))[:, None], index.astype(np.int64)), value)
    return weights


def random_pose(count: int, generator: np.random.Generator) -> Array:
    """Global rotations [count, 24, 3, 3] of SMPL's joints in loosely human poses; the pelvis keeps its rest rotation.

    Hinges (knees, elbows) only flex; the other joints turn by normally distributed rotation vectors.
    """
    local = np.zeros((count, len(SMPL_JOINTS), 3))
    for joint, name in enumerate(SMPL_JOINTS):
        sign = -1.0 if name.startswith("left") else 1.0
        kind = name.split("_")[-1]
        if kind == "knee":
            local[:, joint, 0] = generator.uniform(0.0, 2.2, count)
        elif kind == "elbow":
            local[:, joint, 1] = sign * generator.uniform(0.0, 2.3, count)
        elif kind in _POSE_SPREAD:
            mean, spread = _POSE_SPREAD[kind]
            local[:, joint] = generator.normal(np.array(mean) * (1.0, sign, sign), spread, (count, 3))
    turns = Rotation.from_rotvec(local.reshape(-1, 3)).as_matrix().reshape(count, -1, 3, 3)
    for joint, parent in enumerate(SMPL_PARENTS):
        if parent >= 0:
            turns[:, joint] = turns[:, parent] @ turns[:, joint]
    return turns


def rotation_between(a: Array, b: Array) -> Array:
    """The smallest rotation [..., 3, 3] that turns direction ``a`` [..., 3] into ``b``; they must not be opposite."""
    a, b = np.broadcast_arrays(_unit(a), _unit(b))
    cross = np.cross(a, b)
    x, y, z = np.moveaxis(cross, -1, 0)
    zero = np.zeros_like(x)
    skew = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*x.shape, 3, 3)
    cosine = (a * b).sum(-1)[..., None, None]
    return np.eye(3) + skew + skew @ skew / (1.0 + cosine)


def align_frames(direction: Array, side: Array, to_direction: Array, to_side: Array) -> Array:
    """The rotation [..., 3, 3] that turns ``direction`` into ``to_direction`` and ``side`` towards ``to_side``."""
    return _frame(to_direction, to_side) @ np.swapaxes(_frame(direction, side), -1, -2)


def t_pose_rotations(heads: Array, rig: SourceRig) -> Array:
    """Global rotation of every bone [S, N, 3, 3] that brings the bone heads [S, N, 3] from A-pose to SMPL's T-pose.

    Arms along +-x, elbows straight and bending forwards, palms down, fingers nearly straight; legs slightly apart; feet
    as they were. Twist is spread over the two bones of the upper arm and of the forearm, so that skin is not wrung.
    """
    rotations = np.broadcast_to(np.eye(3), (*heads.shape[:-1], 3, 3)).copy()
    for side, sign in (("L", 1.0), ("R", -1.0)):
        _arm_rotations(rotations, heads, rig, side, sign)
        for target, start, end, bones in (
            (_LEFT_THIGH, "upperleg01", "lowerleg01", ("upperleg01", "upperleg02")),
            (_LEFT_SHANK, "lowerleg01", "foot", ("lowerleg01", "lowerleg02")),
        ):
            direction = heads[:, rig.index(f"{end}.{side}")] - heads[:, rig.index(f"{start}.{side}")]
            turn = rotation_between(direction, np.array(target) * (sign, 1.0, 1.0))
            for bone in bones:
                rotations[:, rig.index(f"{bone}.{side}")] = turn
    return rotations


def _arm_rotations(rotations: Array, heads: Array, rig: SourceRig, side: str, sign: float) -> None:
    """Fill in the bones of one arm and hand; ``sign`` is +1 for the left and -1 for the right side."""

    def at(name: str) -> Array:
        return heads[:, rig.index(f"{name}.{side}")]

    def put(name: str, value: Array) -> None:
        rotations[:, rig.index(f"{name}.{side}")] = value

    along, forwards = np.array([sign, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])
    hinge = np.cross(along, forwards)  # an elbow that bends forwards turns about this axis
    put("clavicle", Rotation.from_euler("z", sign * _CLAVICLE_LIFT, degrees=True).as_matrix())
    put("shoulder01", Rotation.from_euler("z", sign * _SHOULDER_LIFT, degrees=True).as_matrix())
    upper, lower = at("lowerarm01") - at("upperarm01"), at("wrist") - at("lowerarm01")
    bend = np.cross(upper, lower)
    upper_turn = align_frames(upper, bend, along, hinge)
    put("upperarm01", _halfway(rotation_between(upper, along), upper_turn))
    put("upperarm02", upper_turn)
    lower_turn = align_frames(lower, bend, along, hinge)
    knuckles = at("finger2-1") - at("finger5-1")
    put("lowerarm01", lower_turn)
    put("lowerarm02", _halfway(lower_turn, align_frames(lower, knuckles, along, forwards)))
    middle = np.mean([at(f"finger{k}-1") for k in (2, 3, 4, 5)], axis=0)
    hand_turn = align_frames(middle - at("wrist"), knuckles, along, forwards)
    for bone, name in enumerate(rig.names):
        if name.endswith(f".{side}") and name.startswith(("wrist", "metacarpal", "finger")):
            rotations[:, bone] = hand_turn
    for finger in (2, 3, 4, 5):
        _straighten_finger(rotations, heads, [rig.index(f"finger{finger}-{k}.{side}") for k in (1, 2, 3)])


def _straighten_finger(rotations: Array, heads: Array, bones: list[int]) -> None:
    """Turn the three bones of a finger to point where its first bone points, nearly in the horizontal plane."""
    hand_turn = rotations[:, bones[0]].copy()
    first = np.einsum("sij,sj->si", hand_turn, heads[:, bones[1]] - heads[:, bones[0]])
    flat = _unit(first * (1.0, 0.0, 1.0))
    for k, droop in ((0, -0.08), (1, -0.16)):
        direction = np.einsum("sij,sj->si", hand_turn, heads[:, bones[k + 1]] - heads[:, bones[k]])
        rotations[:, bones[k]] = rotation_between(direction, flat + np.array([0.0, droop, 0.0])) @ hand_turn
    rotations[:, bones[2]] = rotations[:, bones[1]]


def pose_bones(heads: Array, rotations: Array, parents: Sequence[int]) -> Array:
    """Heads [S, N, 3] after turning every bone by its global rotation [S, N, 3, 3]; the root goes to the origin."""
    posed = np.zeros_like(heads)
    for bone, parent in enumerate(parents):
        if parent >= 0:
            offset = heads[:, bone] - heads[:, parent]
            posed[:, bone] = posed[:, parent] + np.einsum("sij,sj->si", rotations[:, parent], offset)
    return posed


def skin(vertices: Array, heads: Array, posed_heads: Array, rotations: Array, weights: Array) -> Array:
    """Linear blend skinning: vertices [S, V, 3] moved by the bones' global rotations [S, N, 3, 3]; weights (V, N)."""
    offsets = posed_heads - np.einsum("snij,snj->sni", rotations, heads)
    transforms = np.concatenate([rotations, offsets[..., None]], axis=-1)
    blended = np.einsum("vn,snk->svk", weights, transforms.reshape(*transforms.shape[:2], 12), optimize=True)
    blended = blended.reshape(*vertices.shape[:2], 3, 4)
    return np.einsum("svij,svj->svi", blended[..., :3], vertices) + blended[..., 3]


def to_t_pose(vertices: Array, heads: Array, weights: Array, rig: SourceRig) -> tuple[Array, Array]:
    """Vertices [S, V, 3] and bone heads [S, N, 3] brought from A-pose to T-pose with the pelvis at the origin."""
    rotations = t_pose_rotations(heads, rig)
    posed_heads = pose_bones(heads, rotations, rig.parents)
    return skin(vertices, heads, posed_heads, rotations, weights), posed_heads


def _unit(vector: Array) -> Array:
    return vector / np.linalg.norm(vector, axis=-1, keepdims=True)


def _frame(direction: Array, side: Array) -> Array:
    first = _unit(direction)
    third = _unit(np.cross(first, side))
    return np.stack(np.broadcast_arrays(first, np.cross(third, first), third), axis=-1)


def _halfway(start: Array, end: Array) -> Array:
    """The rotation half-way from ``start`` to ``end`` along the shortest path."""
    step = Rotation.from_matrix(end @ np.swapaxes(start, -1, -2)).as_rotvec()
    return Rotation.from_rotvec(0.5 * step).as_matrix() @ start
