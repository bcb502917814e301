"""MATLAB files of both kinds give the same arrays."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from diffhmr.errors import UserError
from scripts.preparation.matlab import open_mat
from tests.releases.h36m import stamp_matlab

CELLS = [np.arange(6.0).reshape(2, 3) + 10 * cell for cell in range(6)]
ARRAY = np.arange(24.0).reshape(2, 3, 4)


def _write_old(path: Path) -> None:
    cells = np.empty((2, 3), object)
    for index, cell in enumerate(CELLS):
        cells[index % 2, index // 2] = cell  # MATLAB counts along columns
    scipy.io.savemat(path, {"cells": cells, "array": ARRAY, "word": "text"})


def _write_new(path: Path) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        file["array"] = ARRAY.T
        references = file.create_dataset("cells", (3, 2), dtype=h5py.ref_dtype)
        for index, cell in enumerate(CELLS):
            references[index // 2, index % 2] = file.create_dataset(f"#refs#/{index}", data=cell.T).ref
        empty = file.create_dataset("empty", data=np.zeros(2, np.uint64))
        empty.attrs["MATLAB_empty"] = 1
    stamp_matlab(path)


@pytest.mark.parametrize("write", [_write_old, _write_new])
def test_both_versions_read_alike(tmp_path: Path, write: object) -> None:
    path = tmp_path / "a.mat"
    write(path)  # type: ignore[operator]
    with open_mat(path, "file", "get it again", ("cells", "array")) as file:
        np.testing.assert_array_equal(file.array("array"), ARRAY)
        assert file.num_cells("cells") == 6
        for index, cell in enumerate(CELLS):
            np.testing.assert_array_equal(file.cell("cells", index), cell)
        assert file.optional_array("absent") is None


def test_empty_arrays_of_new_files_are_empty(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    _write_new(path)
    with open_mat(path, "file", "get it again", ()) as file:
        assert file.array("empty").size == 0


@pytest.mark.parametrize("write", [_write_old, _write_new])
def test_another_file_is_one_clear_line(tmp_path: Path, write: object) -> None:
    path = tmp_path / "a.mat"
    write(path)  # type: ignore[operator]
    with pytest.raises(UserError, match="has no variable Masks"), open_mat(path, "file", "", ("Masks",)) as file:
        file.cell("Masks", 0)
    with pytest.raises(UserError, match="array is no cell array"), open_mat(path, "file", "", ("array",)) as file:
        file.cell("array", 0)
    with pytest.raises(UserError, match="no readable MATLAB file"), open_mat(path, "file", "", ("cells",)) as file:
        file.array("cells")


@pytest.mark.parametrize("content", [b"nothing of the kind" * 20, b"\x89HDF\r\n\x1a\n" + bytes(100), b"", None])
def test_damaged_and_missing_files_are_one_clear_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.mat"
    if content is not None:
        path.write_bytes(content)
    words = "no readable MATLAB file" if content else "file (is empty|not found)"
    with pytest.raises(UserError, match=words), open_mat(path, "file", "get it again", ("a",)) as file:
        file.array("a")
