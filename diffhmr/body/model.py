"""The body model: SMPL parameters to a mesh or, much faster, to chosen joints.

SMPL (Loper et al., "SMPL: A Skinned Multi-Person Linear Model", SIGGRAPH Asia 2015) deforms a template by shape and
pose, places 24 joints in it, and skins it linearly. A joint of a set is a fixed linear combination of skinned vertices
(a surface point, or a regressor row), or a joint of the kinematic tree.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from diffhmr.body.files import BodyData, read_body
from diffhmr.body.joints import (
    EXTRA_REGRESSOR,
    H36M_REGRESSOR,
    J19_REGRESSOR,
    REGRESSOR_FILES,
    SMPL_PARENTS,
    JointSet,
    JointSource,
    joint_source,
)
from diffhmr.body.params import SmplParams
from diffhmr.errors import UserError

_SPIN_DATA = (
    "SPIN's data release (http://visiondata.cis.upenn.edu/spin/data.tar.gz, linked from "
    "https://github.com/nkolot/SPIN)"
)
_PROHMR_DATA = "the data of ProHMR (fetch_data.sh of https://github.com/nkolot/ProHMR)"
_CPU_CHUNK_VERTICES = 100_000
"""Vertices skinned at once on a CPU: few enough for the cache, enough to use each read of the pose directions well."""


@dataclass(frozen=True)
class Body:
    """Posed bodies in metres, in the frame of ``global_orient`` and ``transl``.

    Attributes:
        vertices: ``[..., V, 3]``.
        joints: ``[..., 24, 3]``, the joints of the kinematic tree (``SMPL24``).
    """

    vertices: Tensor
    joints: Tensor


@dataclass(frozen=True)
class _JointMoments:
    """A joint set, reduced to what skinning does to it.

    With skinning weights W and a joint j_r = sum_v w_rv x_v, the skinned joint is
    j_r = sum_k R_k (sum_v w_rv W_vk x_v) + t_k (sum_v w_rv W_vk): the sums over vertices are linear in shape and pose
    feature and computed once. K bones, P distinct surface joints.
    """

    template: Tensor  # [K * 3 * P], of the template
    shape: Tensor  # [num_betas, K * 3 * P]
    pose: Tensor | None  # [207, K * 3 * P]
    mass: Tensor  # [P, K]
    order: Tensor  # [J] indices into the 24 tree joints followed by the P surface joints

    def like(self, tensor: Tensor) -> _JointMoments:
        pose = None if self.pose is None else self.pose.to(tensor)
        return _JointMoments(
            self.template.to(tensor), self.shape.to(tensor), pose, self.mass.to(tensor), self.order.to(tensor.device)
        )


class BodyModel(nn.Module):
    """One SMPL-format body. Results equal those of smplx's linear blend skinning; all tensors are float32 buffers.

    Attributes:
        faces: ``[F, 3]`` long.
        parts: ``[V]`` long, the joint with the largest skinning weight.
        landmarks: named surface vertices.
        parents: of the 24 joints.
        name, path, sha256, is_smpl: of the file; ``is_smpl`` is False for the free body.
        regressor_paths: the files of its joint regressors by name; see ``BodyData``.
    """

    v_template: Tensor
    shape_basis: Tensor
    pose_basis: Tensor | None
    rest_joints: Tensor
    rest_joint_basis: Tensor
    skinning: Tensor
    faces: Tensor
    parts: Tensor

    def __init__(self, data: BodyData) -> None:
        super().__init__()
        self.name = data.name
        self.path: Path = data.path
        self.sha256 = data.sha256
        self.is_smpl = data.is_smpl
        self.regressor_paths = data.regressor_paths
        self.landmarks = data.landmarks
        self.parents = SMPL_PARENTS
        self._data = data
        self._moments: dict[tuple[JointSet, torch.device, torch.dtype], _JointMoments] = {}

        # Coordinate-major layouts [.., 3, V]: skinning then runs over contiguous vertices.
        size, num_betas = data.v_template.shape[0], data.shapedirs.shape[2]
        self._buffer("v_template", data.v_template.T.reshape(-1))
        self._buffer("shape_basis", data.shapedirs.transpose(2, 1, 0).reshape(num_betas, 3 * size))
        pose_basis = None if data.posedirs is None else data.posedirs.transpose(2, 1, 0).reshape(-1, 3 * size)
        self._buffer("pose_basis", pose_basis)
        self._buffer("skinning", data.weights.T)
        regressor = data.joint_regressor.astype(np.float64)
        self._buffer("rest_joints", (regressor @ data.v_template).reshape(-1))
        self._buffer("rest_joint_basis", np.einsum("jv,vcb->bjc", regressor, data.shapedirs).reshape(num_betas, -1))
        self.register_buffer("faces", torch.from_numpy(data.faces.copy()), persistent=False)
        self.register_buffer("parts", torch.from_numpy(data.weights.argmax(axis=1)), persistent=False)

    @classmethod
    def load(cls, path: str | Path, num_betas: int = 10) -> BodyModel:
        """Read a body file; see :func:`diffhmr.body.files.read_body` for the formats and the errors."""
        return cls(read_body(path, num_betas))

    @property
    def num_vertices(self) -> int:
        """V."""
        return self.skinning.shape[1]

    @property
    def num_betas(self) -> int:
        """Number of shape coefficients."""
        return self.shape_basis.shape[0]

    def forward(self, params: SmplParams) -> Body:
        """Mesh and tree joints of ``params``, whatever their leading dimensions."""
        lead, rotations, betas = self._flatten(params)
        bone_rotations, joints = self._kinematics(rotations, betas)
        shift = joints - (bone_rotations @ self._rest(betas).unsqueeze(-1)).squeeze(-1)
        transforms = torch.cat([bone_rotations, shift.unsqueeze(-1)], dim=-1)  # [N, 24, 3, 4]
        chunk = max(1, len(betas))
        if betas.device.type == "cpu":
            chunk = max(1, _CPU_CHUNK_VERTICES // self.num_vertices)
        pieces = zip(rotations.split(chunk), betas.split(chunk), transforms.split(chunk), strict=True)
        vertices = torch.cat([self._skin(self._unposed(some, shapes), bones) for some, shapes, bones in pieces])
        return Body(self._unflatten(vertices, lead, params), self._unflatten(joints, lead, params))

    def joints(self, params: SmplParams, joint_set: JointSet) -> Tensor:
        """Joints ``[..., J, 3]`` of ``joint_set``: those of the full mesh, without making the mesh.

        Raises:
            UserError: the body has no regressor or surface point for a joint of the set.
        """
        moments = self._joint_moments(joint_set)
        lead, rotations, betas = self._flatten(params)
        bone_rotations, joints = self._kinematics(rotations, betas)
        if len(moments.mass):
            shift = joints - (bone_rotations @ self._rest(betas).unsqueeze(-1)).squeeze(-1)
            weighted = torch.addmm(moments.template, betas, moments.shape)
            if moments.pose is not None:
                weighted = torch.addmm(weighted, self._pose_features(rotations), moments.pose)
            weighted = weighted.unflatten(-1, (3 * len(self.parents), -1))  # [N, 72, P]
            columns = bone_rotations.transpose(1, 2).flatten(2)  # [N, 3, 72]
            surface = (columns @ weighted).transpose(1, 2) + moments.mass @ shift
            joints = torch.cat([joints, surface], dim=1)
        return self._unflatten(joints[:, moments.order], lead, params)

    def _buffer(self, name: str, array: np.ndarray | None) -> None:
        tensor = None if array is None else torch.from_numpy(np.array(array, dtype=np.float32, order="C"))
        self.register_buffer(name, tensor, persistent=False)

    def _flatten(self, params: SmplParams) -> tuple[torch.Size, Tensor, Tensor]:
        """Leading dimensions, rotations ``[N, 24, 3, 3]`` and betas ``[N, num_betas]``."""
        if params.betas.shape[-1] != self.num_betas:
            raise ValueError(f"{params.betas.shape[-1]} betas for a body loaded with num_betas={self.num_betas}")
        return params.shape, params.rotations.reshape(-1, 24, 3, 3), params.betas.reshape(-1, self.num_betas)

    @staticmethod
    def _unflatten(points: Tensor, lead: torch.Size, params: SmplParams) -> Tensor:
        points = points.reshape(*lead, *points.shape[1:])
        return points if params.transl is None else points + params.transl.unsqueeze(-2)

    def _rest(self, betas: Tensor) -> Tensor:
        """Tree joints ``[N, 24, 3]`` of the unposed shape."""
        return torch.addmm(self.rest_joints, betas, self.rest_joint_basis).unflatten(-1, (-1, 3))

    @staticmethod
    def _pose_features(rotations: Tensor) -> Tensor:
        """``[N, 207]``: R - 1 of the joints 1 to 23."""
        identity = torch.eye(3, dtype=rotations.dtype, device=rotations.device)
        return (rotations[:, 1:] - identity).flatten(1)

    def _kinematics(self, rotations: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
        """Bone rotations ``[N, 24, 3, 3]`` and posed tree joints ``[N, 24, 3]``, one level of the tree at a time."""
        rest = self._rest(betas)
        level_rotations, level_joints = [rotations[:, :1]], [rest[:, :1]]
        for first, last, parents in _TREE_LEVELS:
            above = level_rotations[-1][:, parents]
            bones = rest[:, first:last] - rest[:, list(SMPL_PARENTS[first:last])]
            level_rotations.append(above @ rotations[:, first:last])
            level_joints.append((above @ bones.unsqueeze(-1)).squeeze(-1) + level_joints[-1][:, parents])
        return torch.cat(level_rotations, dim=1), torch.cat(level_joints, dim=1)

    def _unposed(self, rotations: Tensor, betas: Tensor) -> Tensor:
        """Vertices ``[N, 3 * V]`` in the T-pose, coordinate by coordinate, displaced by shape and pose."""
        unposed = torch.addmm(self.v_template, betas, self.shape_basis)
        if self.pose_basis is None:
            return unposed
        return torch.addmm(unposed, self._pose_features(rotations), self.pose_basis)

    def _skin(self, unposed: Tensor, transforms: Tensor) -> Tensor:
        """Vertices ``[N, V, 3]`` of the unposed ``[N, 3 * V]`` under the bone transforms ``[N, 24, 3, 4]``."""
        x, y, z = unposed.unflatten(-1, (3, 1, -1)).unbind(1)  # [N, 1, V] each
        blended = transforms.permute(0, 3, 2, 1) @ self.skinning  # [N, 4, 3, V]
        first, second, third, shift = blended.unbind(1)
        skinned = torch.addcmul(torch.addcmul(torch.addcmul(shift, first, x), second, y), third, z)
        return skinned.transpose(1, 2).contiguous()

    def _joint_moments(self, joint_set: JointSet) -> _JointMoments:
        key = (joint_set, self.v_template.device, self.v_template.dtype)
        if key not in self._moments:
            self._moments[key] = _reduce(self._data, joint_set).like(self.v_template)
        return self._moments[key]


def _tree_levels() -> tuple[tuple[int, int, list[int]], ...]:
    """First and last + 1 joint of each level below the root, and their parents counted from the level above.

    SMPL numbers its joints level by level, so that every level is one range.
    """
    levels: list[tuple[int, int, list[int]]] = []
    above, first = 0, 1
    while first < len(SMPL_PARENTS):
        last = first
        while last < len(SMPL_PARENTS) and above <= SMPL_PARENTS[last] < first:
            last += 1
        levels.append((first, last, [parent - above for parent in SMPL_PARENTS[first:last]]))
        above, first = first, last
    return tuple(levels)


_TREE_LEVELS = _tree_levels()


def _reduce(data: BodyData, joint_set: JointSet) -> _JointMoments:
    """Sum the vertices out of a joint set, in float64."""
    sources = [joint_source(name) for name in joint_set.joint_names]
    surface = list(dict.fromkeys(source for source in sources if source.kind != "smpl"))
    order = [source.index if source.kind == "smpl" else len(SMPL_PARENTS) + surface.index(source) for source in sources]
    size = len(data.v_template)
    rows = np.stack([_vertex_weights(data, joint_set, s) for s in surface]) if surface else np.zeros((0, size))
    shares = np.einsum("pv,vk->kpv", rows, data.weights.astype(np.float64))  # [K, P, V]

    def moments(directions: np.ndarray) -> Tensor:
        """``[..., K * 3 * P]`` from per-vertex vectors ``(V, 3, ...)``."""
        summed = np.tensordot(shares, directions.astype(np.float64), axes=(2, 0))  # [K, P, 3, ...]
        arranged = np.moveaxis(summed.swapaxes(1, 2), (0, 1, 2), (-3, -2, -1))
        return torch.from_numpy(arranged.reshape(*arranged.shape[:-3], -1))

    return _JointMoments(
        template=moments(data.v_template),
        shape=moments(data.shapedirs),
        pose=None if data.posedirs is None else moments(data.posedirs),
        mass=torch.from_numpy(shares.sum(-1).T),
        order=torch.tensor(order, dtype=torch.long),
    )


def _vertex_weights(data: BodyData, joint_set: JointSet, source: JointSource) -> np.ndarray:
    """The combination of vertices ``(V,)`` that makes a surface joint."""
    if source.kind == "landmark":
        if source.name not in data.landmarks:
            raise UserError(
                f"the body file {data.path} names no surface point {source.name!r}, which {joint_set.name} "
                "needs; use a body that has it, such as data/body/free_body.npz or SMPL"
            )
        weights = np.zeros(len(data.v_template))
        weights[data.landmarks[source.name]] = 1
        return weights
    name, regressor, origin = {
        "extra": (EXTRA_REGRESSOR, data.extra_regressor, _SPIN_DATA),
        "h36m": (H36M_REGRESSOR, data.h36m_regressor, _SPIN_DATA),
        "j19": (J19_REGRESSOR, data.j19_regressor, _PROHMR_DATA),
    }[source.kind]
    if regressor is None:
        file = REGRESSOR_FILES[name]
        raise UserError(
            f"the joint set {joint_set.name} needs {file}, which is neither beside {data.path} nor in data/body/; "
            f"take it from {origin} and save it as data/body/{file}"
        )
    return regressor[source.index].astype(np.float64)
