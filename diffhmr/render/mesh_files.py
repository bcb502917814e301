"""Bodies as mesh files for Blender, MeshLab and web viewers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import trimesh
from torch import Tensor

from diffhmr.errors import UserError
from diffhmr.files import atomic_path

MeshFormat = Literal["obj", "glb", "ply"]


def to_y_up(vertices: Tensor) -> Tensor:
    """Camera frame (x right, y down, z forward) ``[..., 3]`` to that of mesh files (x right, y up, z to the viewer).

    Half a turn about x: heads are up, nothing is mirrored.
    """
    return vertices * vertices.new_tensor([1.0, -1.0, -1.0])


def write_mesh(path: str | Path, vertices: Tensor, faces: Tensor) -> Path:
    """Write one body, metres, y up; the suffix of ``path`` (.obj, .glb or .ply) says how.

    Bodies of one photo keep their places relative to each other; the origin is the camera.

    Args:
        path: the file.
        vertices: ``[V, 3]`` metres in the camera frame.
        faces: ``[F, 3]``.

    Raises:
        UserError: the suffix is another one, or the folder cannot be written.
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in get_args(MeshFormat):
        raise UserError(f"cannot write {path}: meshes are written as {', '.join(get_args(MeshFormat))}")
    mesh = trimesh.Trimesh(to_y_up(vertices).cpu().numpy(), faces.cpu().numpy(), process=False)
    with atomic_path(path) as temporary:
        mesh.export(temporary, file_type=kind)
    return path
