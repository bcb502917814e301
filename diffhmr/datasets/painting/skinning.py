"""Skinning of a few vertices of a body, with normals, and the same result for an item whatever batch it is in.

``BodyModel`` multiplies whole batches by matrices, and such products round differently for different batch sizes. The
images of a data set must not depend on the batch, so here all sums run in a fixed order or item by item.
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.render.shade import vertex_normals


class SubsetSkinner:
    """Linear blend skinning of M chosen vertices of ``body``.

    Attributes:
        rest: ``[3, M]`` the vertices of the template in its T-pose (x to the left hand, y up, z to the front).
        rest_normals: ``[3, M]`` their unit normals in the full mesh.
        parts: ``[M]`` the joint with the largest skinning weight.
    """

    def __init__(self, body: BodyModel, index: Tensor) -> None:
        template = body.v_template.unflatten(-1, (3, -1))
        self.parents = body.parents
        self.rest = template[:, index].contiguous()
        self.rest_normals = vertex_normals(template.T, body.faces)[index].T.contiguous()
        self.parts = body.parts[index]
        self._shape_basis = body.shape_basis.unflatten(-1, (3, -1))[..., index].contiguous()
        self._pose_basis = None
        if body.pose_basis is not None:
            subset = body.pose_basis.unflatten(-1, (3, -1))[..., index]
            self._pose_basis = subset.flatten(1).T.contiguous()
        self._skinning = body.skinning[:, index].contiguous()
        self._rest_joints = body.rest_joints.unflatten(-1, (-1, 3))
        self._joint_basis = body.rest_joint_basis.unflatten(-1, (-1, 3))

    def __call__(self, params: SmplParams, offset: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Vertices ``[B, 3, M]`` and unit normals ``[B, 3, M]`` of ``params [B]`` (``transl`` added if there is one).

        ``offset [B, M]`` moves the vertices along their normals before posing, in metres. The normals are those of the
        template turned with the bones: exact for rigid parts, close to the surface's own elsewhere.
        """
        unposed = self._unposed(params)
        if offset is not None:
            unposed = unposed + offset[:, None] * self.rest_normals
        transforms = self._transforms(params)
        # [12, 24] @ [24, M] for each item on its own: the same call, so the same rounding, in every batch.
        blended = torch.stack([torch.mm(item, self._skinning) for item in transforms]).unflatten(1, (4, 3))
        columns = blended.unbind(1)
        vertices = _combine(columns, unposed) + columns[3]
        normals = _combine(columns, self.rest_normals.expand_as(unposed))
        x, y, z = normals.unbind(1)
        normals = normals / (x * x + y * y + z * z).sqrt().clamp_min(1e-12)[:, None]
        if params.transl is not None:
            vertices = vertices + params.transl[..., None]
        return vertices, normals

    def _unposed(self, params: SmplParams) -> Tensor:
        """``[B, 3, M]`` shaped template with the corrections for the pose."""
        unposed = self.rest.expand(params.betas.shape[0], -1, -1)
        for component, basis in zip(params.betas.unbind(1), self._shape_basis, strict=True):
            unposed = unposed + component[:, None, None] * basis
        if self._pose_basis is None:
            return unposed
        features = (params.body_pose - torch.eye(3).to(params.body_pose)).flatten(1)
        correction = torch.stack([torch.mv(self._pose_basis, item.clone()) for item in features])
        return unposed + correction.unflatten(1, (3, -1))

    def _transforms(self, params: SmplParams) -> Tensor:
        """``[B, 12, 24]``: the three columns of each bone's rotation, then its translation, for all 24 bones."""
        rest = self._rest_joints.expand(params.betas.shape[0], -1, -1)
        for component, basis in zip(params.betas.unbind(1), self._joint_basis, strict=True):
            rest = rest + component[:, None, None] * basis
        local = params.rotations
        rotations, joints = [local[:, 0]], [rest[:, 0]]
        for joint in range(1, len(self.parents)):
            parent = self.parents[joint]
            above = rotations[parent]
            rotations.append(_matmul(above, local[:, joint]))
            bone = (rest[:, joint] - rest[:, parent]).unsqueeze(-1)
            joints.append(joints[parent] + _matmul(above, bone).squeeze(-1))
        rotation = torch.stack(rotations, 1)
        shift = torch.stack(joints, 1) - _matmul(rotation, rest.unsqueeze(-1)).squeeze(-1)
        stacked = torch.cat([rotation, shift.unsqueeze(-1)], -1)  # [B, 24, 3, 4]
        return stacked.permute(0, 3, 2, 1).flatten(1, 2).contiguous()


def _matmul(left: Tensor, right: Tensor) -> Tensor:
    """``left [..., 3, 3] @ right [..., 3, C]``, summed in order."""
    first, second, third = (left[..., :, k, None] * right[..., None, k, :] for k in range(3))
    return first + second + third


def _combine(columns: tuple[Tensor, ...], vectors: Tensor) -> Tensor:
    """Matrices given as columns ``[B, 3, M]`` times ``vectors [B, 3, M]``."""
    x, y, z = (vectors[:, axis, None] for axis in range(3))
    return columns[0] * x + columns[1] * y + columns[2] * z
