from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.errors import UserError
from diffhmr.geometry.rotation import axis_angle_to_matrix
from diffhmr.render.mesh_files import to_y_up, write_mesh


@pytest.mark.parametrize("suffix", ["obj", "glb", "ply"])
def test_a_standing_person_stands_in_the_file(tmp_path: Path, free_body: BodyModel, suffix: str) -> None:
    rotations = torch.eye(3).repeat(24, 1, 1)
    rotations[0] = axis_angle_to_matrix(torch.tensor([torch.pi, 0, 0]))
    params = SmplParams.from_rotations(rotations, torch.zeros(10), torch.tensor([1.0, 0.2, 4.0]))
    vertices = free_body(params).vertices
    path = write_mesh(tmp_path / f"body.{suffix}", vertices, free_body.faces)
    mesh = trimesh.load(path, force="mesh", process=False)
    points = np.asarray(mesh.vertices)
    assert points.shape == tuple(vertices.shape) and len(mesh.faces) == len(free_body.faces)
    head, heel = points[free_body.landmarks["head_top"]], points[free_body.landmarks["left_heel"]]
    nose, left = points[free_body.landmarks["nose"]], points[free_body.landmarks["left_ear"]]
    right = points[free_body.landmarks["right_ear"]]
    assert head[1] - heel[1] > 1.4, "head up"
    assert nose[2] > (left[2] + right[2]) / 2 + 0.05, "facing the viewer, who looks along -z"
    assert left[0] > right[0], "not mirrored: the left ear of a person who faces us is on our right"
    assert mesh.volume > 0.04, "faces point outward"
    assert np.allclose(points, to_y_up(vertices).numpy(), atol=1e-5)
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_other_formats_and_places_are_refused(tmp_path: Path, free_body: BodyModel) -> None:
    vertices = free_body.v_template.reshape(3, -1).T
    with pytest.raises(UserError, match="obj, glb, ply"):
        write_mesh(tmp_path / "body.fbx", vertices, free_body.faces)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        write_mesh(tmp_path / "file/body.ply", vertices, free_body.faces)
