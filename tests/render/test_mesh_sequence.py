"""One OBJ per frame: names, places, and what stays in the folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.errors import UserError
from diffhmr.render import mesh_sequence
from diffhmr.render.mesh_files import to_y_up
from diffhmr.render.mesh_sequence import write_obj_sequence

UPSIDE_DOWN = torch.diag(torch.tensor([1.0, -1.0, -1.0]))  # upright in the camera frame, whose y points down


def walk(frames: int) -> SmplParams:
    rotations = torch.eye(3).repeat(frames, 24, 1, 1)
    rotations[:, 0] = UPSIDE_DOWN
    rotations[:, 4] = torch.linalg.matrix_exp(
        torch.linspace(0, 1, frames)[:, None, None] * torch.tensor([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    )
    transl = torch.linspace(0, 2, frames)[:, None] * torch.tensor([1.0, 0.0, 0.5]) + torch.tensor([0.0, 0.0, 3.0])
    return SmplParams.from_rotations(rotations, torch.zeros(frames, 10), transl)


def test_every_frame_is_its_body(tmp_path: Path, free_body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_sequence, "_CHUNK", 2)
    params, numbers = walk(5), [3, 4, 7, 8, 1_000_000]
    paths = write_obj_sequence(tmp_path / "new" / "meshes", free_body, params, numbers)
    names = ["000003.obj", "000004.obj", "000007.obj", "000008.obj", "1000000.obj"]
    assert [path.name for path in paths] == names
    assert sorted(path.name for path in (tmp_path / "new" / "meshes").iterdir()) == names
    vertices = free_body(params).vertices
    for path, expected in zip(paths, vertices, strict=True):
        mesh = trimesh.load(path, force="mesh", process=False)
        np.testing.assert_allclose(mesh.vertices, to_y_up(expected).numpy(), atol=1e-5)
        np.testing.assert_array_equal(mesh.faces, free_body.faces.numpy())
        assert mesh.vertices[free_body.landmarks["head_top"], 1] - mesh.vertices[:, 1].min() > 1.4


def test_sequences_in_one_folder_do_not_mix(tmp_path: Path, free_body: BodyModel) -> None:
    (tmp_path / "chair.obj").write_text("somebody's own")
    write_obj_sequence(tmp_path, free_body, walk(4), range(4))
    write_obj_sequence(tmp_path, free_body, walk(2), [2, 9])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000002.obj", "000009.obj", "chair.obj"]


def test_what_breaks_off_leaves_the_earlier_sequence(
    tmp_path: Path, free_body: BodyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "meshes"
    write_obj_sequence(folder, free_body, walk(3), range(3))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    written = []

    def interrupted(path: Path, *mesh: object) -> None:
        written.append(path)
        if len(written) == 2:
            raise KeyboardInterrupt
        path.write_text(f"{len(mesh)}")

    monkeypatch.setattr(mesh_sequence, "write_mesh", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_obj_sequence(folder, free_body, walk(4), range(2, 6))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["meshes"]


def test_impossible_requests_are_refused(tmp_path: Path, free_body: BodyModel) -> None:
    for numbers in ([0], [0, 0], [-1, 0]):
        with pytest.raises(ValueError, match="frame numbers"):
            write_obj_sequence(tmp_path, free_body, walk(2), numbers)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="it is a file"):
        write_obj_sequence(tmp_path / "file", free_body, walk(1), [0])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
