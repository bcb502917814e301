"""A motion as a rigged, skinned, animated glTF 2.0 file, which Blender, game engines and web viewers open as it is.

The file holds the body in its rest pose, SMPL's 24 joints as a skeleton, the skinning weights, and the motion as key
frames. glTF's world is that of :class:`~diffhmr.motion.sequence.Motion`: y up, metres, people facing +z.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from diffhmr.body.joints import SMPL24, SMPL_PARENTS
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.errors import UserError
from diffhmr.motion.sequence import Motion
from diffhmr.render.gltf import INDEX_DATA, VERTEX_DATA, GltfArrays, write_glb
from diffhmr.render.shade import vertex_normals

_log = logging.getLogger(__name__)

MAX_INFLUENCES = 4
"""Joints that may move a vertex: what all programs read."""

_COLOUR = [0.62, 0.70, 0.78, 1.0]
_ROUGHNESS = 0.75
_LARGEST_SHORT_INDEX = 65534  # 65535 means something else in uint16
_CHECKED_FRAMES = 8
_NOTEWORTHY = 1e-3


@dataclass(frozen=True, eq=False)
class SkinnedBody:
    """A body of one shape as glTF has it: each vertex follows at most four joints, linearly.

    Attributes:
        vertices: ``[V, 3]`` metres, in the rest pose.
        normals: ``[V, 3]`` unit vectors.
        faces: ``[F, 3]``.
        rest_joints: ``[24, 3]``.
        influences: ``[V, 4]`` joints, the strongest first; 0 where the weight is 0.
        weights: ``[V, 4]`` with sum 1.
    """

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    rest_joints: np.ndarray
    influences: np.ndarray
    weights: np.ndarray

    def posed(self, motion: Motion, frames: np.ndarray) -> np.ndarray:
        """Vertices ``[N, V, 3]`` of the ``frames [N]`` of ``motion`` as a viewer shows them."""
        part = Motion(motion.rotations[frames], motion.position[frames], motion.fps)
        bones, joints = part.global_rotations(), part.joints(self.rest_joints)
        shifts = joints - (bones @ self.rest_joints[..., None])[..., 0]
        result = np.zeros((len(frames), *self.vertices.shape))
        for joint, weight in zip(self.influences.T, self.weights.T, strict=True):
            moved = (bones[:, joint] @ self.vertices[..., None])[..., 0] + shifts[:, joint]
            result += weight[:, None] * moved
        return result


def skinned_body(body: BodyModel, betas: torch.Tensor) -> SkinnedBody:
    """``body`` in the shape ``betas [10]``. Of more than four weights of a vertex the largest four are kept."""
    device = body.faces.device
    shape = betas.detach().float().to(device)
    rest = body(SmplParams.from_rotations(torch.eye(3, device=device).expand(24, 3, 3), shape))
    normals = vertex_normals(rest.vertices, body.faces).double().cpu().numpy()
    normals[np.linalg.norm(normals, axis=1) < 0.5] = [0.0, 1.0, 0.0]  # vertices without a face
    shares = body.skinning.T.double().cpu().numpy()
    influences = np.argsort(-shares, axis=1, kind="stable")[:, :MAX_INFLUENCES]
    weights = np.take_along_axis(shares, influences, axis=1)
    return SkinnedBody(
        rest.vertices.double().cpu().numpy(),
        normals,
        body.faces.cpu().numpy(),
        rest.joints.double().cpu().numpy(),
        np.where(weights > 0, influences, 0),
        weights / weights.sum(axis=1, keepdims=True),
    )


def vertex_error(skinned: SkinnedBody, body: BodyModel, motion: Motion, betas: torch.Tensor) -> float:
    """Largest distance in metres between ``body`` and what viewers show of it, over some frames of ``motion``.

    glTF skins linearly with four joints per vertex: the free body loses nothing, SMPL loses its pose-dependent shape.
    """
    frames = np.unique(np.linspace(0, len(motion) - 1, _CHECKED_FRAMES).round().astype(int))
    device = body.faces.device
    rotations = torch.from_numpy(motion.rotations[frames]).float().to(device)
    params = SmplParams.from_rotations(rotations, betas.detach().float().to(device).expand(len(frames), -1))
    vertices = body(params).vertices.double().cpu().numpy()
    shift = motion.position[frames] - skinned.rest_joints[0]
    return float(np.linalg.norm(vertices + shift[:, None] - skinned.posed(motion, frames), axis=-1).max())


def write_animated_glb(
    path: str | Path, body: BodyModel, motion: Motion, betas: torch.Tensor, first_frame: int = 0
) -> Path:
    """Write ``motion`` performed by ``body`` in the shape ``betas`` as a rigged, skinned, animated ``.glb``.

    The skeleton has SMPL's joints by their names; its rest pose is the T-pose, and the pelvis is where the motion has
    it. Key frames are at the frames of the motion, with rotations interpolated along the shortest arc; before the first
    one viewers hold its pose. What linear skinning costs (:func:`vertex_error`) stands in the file as
    ``asset.extras.max_vertex_error_m``.

    Args:
        path: of the file, ending in ``.glb``.
        body: whose mesh and skinning are written.
        motion: in a world with y up.
        betas: ``[10]``, one shape for all frames.
        first_frame: number of the motion's first frame in its video, whose frame 0 is at 0 seconds.

    Raises:
        UserError: another suffix, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".glb":
        raise UserError(f"cannot write the motion {path}: its name should end in .glb")
    skinned = skinned_body(body, betas)
    error = vertex_error(skinned, body, motion, betas)
    if error > _NOTEWORTHY:
        _log.info("%s: skinning as glTF has it moves vertices of %s by up to %.1f mm", path, body.name, 1000 * error)
    arrays = GltfArrays()
    document = {
        "asset": {"version": "2.0", "generator": "diffhmr", "extras": {"max_vertex_error_m": round(error, 6)}},
        "scene": 0,
        # The mesh stands beside the skeleton: its own place does not count, the joints carry it.
        "scenes": [{"name": motion.name, "nodes": [0, _JOINT_NODES]}],
        "nodes": [{"name": body.name, "mesh": 0, "skin": 0}, *_joint_nodes(skinned.rest_joints)],
        "meshes": [{"name": body.name, "primitives": [_primitive(skinned, arrays)]}],
        "materials": [_material()],
        "skins": [_skin(skinned.rest_joints, arrays)],
        "animations": [_animation(motion, first_frame, arrays)],
    }
    write_glb(path, document, arrays)
    return path


_JOINT_NODES = 1  # node of the first joint


def _joint_nodes(rest: np.ndarray) -> list[dict[str, Any]]:
    """The skeleton in its rest pose, SMPL's order."""
    nodes = []
    for joint, (name, parent) in enumerate(zip(SMPL24.joint_names, SMPL_PARENTS, strict=True)):
        offset = rest[joint] if parent < 0 else rest[joint] - rest[parent]
        node: dict[str, Any] = {"name": name, "translation": offset.tolist(), "rotation": [0.0, 0.0, 0.0, 1.0]}
        children = [child + _JOINT_NODES for child, above in enumerate(SMPL_PARENTS) if above == joint]
        nodes.append({**node, "children": children} if children else node)
    return nodes


def _primitive(skinned: SkinnedBody, arrays: GltfArrays) -> dict[str, Any]:
    short = len(skinned.vertices) - 1 <= _LARGEST_SHORT_INDEX
    attributes = {
        "POSITION": arrays.add(skinned.vertices.astype(np.float32), VERTEX_DATA, bounds=True),
        "NORMAL": arrays.add(skinned.normals.astype(np.float32), VERTEX_DATA),
        "JOINTS_0": arrays.add(skinned.influences.astype(np.uint8), VERTEX_DATA),
        "WEIGHTS_0": arrays.add(skinned.weights.astype(np.float32), VERTEX_DATA),
    }
    indices = skinned.faces.reshape(-1).astype(np.uint16 if short else np.uint32)
    return {"attributes": attributes, "indices": arrays.add(indices, INDEX_DATA), "material": 0, "mode": 4}


def _material() -> dict[str, Any]:
    surface = {"baseColorFactor": _COLOUR, "metallicFactor": 0.0, "roughnessFactor": _ROUGHNESS}
    return {"name": "body", "pbrMetallicRoughness": surface}


def _skin(rest: np.ndarray, arrays: GltfArrays) -> dict[str, Any]:
    inverse = np.tile(np.eye(4, dtype=np.float32), (len(rest), 1, 1))
    inverse[:, :3, 3] = -rest
    joints = list(range(_JOINT_NODES, _JOINT_NODES + len(rest)))
    return {"inverseBindMatrices": arrays.add(inverse), "joints": joints, "skeleton": _JOINT_NODES}


def _animation(motion: Motion, first_frame: int, arrays: GltfArrays) -> dict[str, Any]:
    """Channels for the place of the pelvis and the rotation of every joint."""
    numbers = first_frame + np.arange(len(motion))
    times = arrays.add((numbers / motion.fps).astype(np.float32), bounds=True)
    outputs = [("translation", 0, arrays.add(motion.position.astype(np.float32)))]
    quaternions = _continuous_quaternions(motion.rotations).astype(np.float32)
    outputs += [("rotation", joint, arrays.add(quaternions[:, joint])) for joint in range(quaternions.shape[1])]
    return {
        "name": motion.name,
        "samplers": [{"input": times, "interpolation": "LINEAR", "output": output} for _, _, output in outputs],
        "channels": [
            {"sampler": index, "target": {"node": _JOINT_NODES + joint, "path": path}}
            for index, (path, joint, _) in enumerate(outputs)
        ],
    }


def _continuous_quaternions(rotations: np.ndarray) -> np.ndarray:
    """Unit quaternions ``[T, J, 4]`` (x, y, z, w); of q and -q, which are one rotation, the one nearer to the last."""
    flat = Rotation.from_matrix(rotations.reshape(-1, 3, 3)).as_quat()
    quaternions = flat.reshape(*rotations.shape[:2], 4)
    turned_over = (quaternions[1:] * quaternions[:-1]).sum(-1) < 0
    signs = np.cumprod(np.where(turned_over, -1.0, 1.0), axis=0)
    quaternions[1:] *= signs[..., None]
    return quaternions
