"""The container and the accessors of binary glTF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffhmr.errors import UserError
from diffhmr.render.gltf import VERTEX_DATA, GltfArrays, write_glb
from tests.render.glb_reader import read_glb


def test_arrays_come_back_whatever_lies_before_them(tmp_path: Path) -> None:
    arrays = GltfArrays()
    contents = [
        np.arange(3, dtype=np.uint16),  # 6 bytes: what follows must be moved to the next four
        np.array([[0.5, -1.5, 2.0]], dtype=np.float32),
        np.arange(5, dtype=np.uint8),
        np.arange(7, dtype=np.uint32),
        np.array([[1, 2, 3, 4]], dtype=np.uint8),
    ]
    indices = [arrays.add(content) for content in contents]
    write_glb(tmp_path / "some.glb", {"asset": {"version": "2.0"}}, arrays)
    glb = read_glb(tmp_path / "some.glb")
    assert all(view["byteOffset"] % 4 == 0 for view in glb.document["bufferViews"])
    for index, content in zip(indices, contents, strict=True):
        np.testing.assert_array_equal(glb.array(index), content.reshape(len(content), -1))
    assert [item.name for item in tmp_path.iterdir()] == ["some.glb"]


def test_matrices_are_stored_by_columns_and_bounds_are_stated(tmp_path: Path) -> None:
    arrays = GltfArrays()
    matrix = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    points = np.array([[1, 2, 3], [-4, 5, 0.5]], dtype=np.float32)
    indices = arrays.add(matrix), arrays.add(points, VERTEX_DATA, bounds=True)
    write_glb(tmp_path / "some.glb", {"asset": {"version": "2.0"}}, arrays)
    glb = read_glb(tmp_path / "some.glb")
    np.testing.assert_array_equal(glb.array(indices[0])[0], matrix[0].T.reshape(-1))
    assert glb.document["accessors"][indices[1]]["min"] == [-4, 2, 0.5]
    assert glb.document["accessors"][indices[1]]["max"] == [1, 5, 3]


def test_what_gltf_cannot_hold_is_refused(tmp_path: Path) -> None:
    for bad in (np.array([[np.nan] * 3], dtype=np.float32), np.zeros((0, 3), np.float32), np.zeros((2, 3))):
        with pytest.raises(AssertionError):
            GltfArrays().add(bad)
    with pytest.raises(AssertionError):  # three bytes per vertex
        GltfArrays().add(np.zeros((2, 3), np.uint8), VERTEX_DATA)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        write_glb(tmp_path / "file" / "some.glb", {}, GltfArrays())
