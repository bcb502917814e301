"""MATLAB files of both kinds: those up to version 7 and those of version 7.3, which are HDF5."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from diffhmr.errors import UserError
from diffhmr.files import require_file
from scripts.preparation.mocap import lacking_library


class MatFile:
    """An open MATLAB file; arrays come with MATLAB's order of axes."""

    def __init__(self, path: Path, variables: dict[str, Any] | Any) -> None:
        self._path, self._variables = path, variables

    def array(self, name: str) -> np.ndarray:
        """A variable of numbers.

        Raises:
            UserError: there is none of this name.
        """
        return _numbers(self._variable(name))

    def optional_array(self, name: str) -> np.ndarray | None:
        """A variable of numbers, if there is one of this name."""
        return self.array(name) if name in self._variables else None

    def num_cells(self, name: str) -> int:
        """Number of cells of a cell array.

        Raises:
            UserError: there is none of this name.
        """
        return int(np.prod(self._variable(name).shape))

    def cell(self, name: str, index: int) -> np.ndarray:
        """The numbers in a cell, counted from 0 in MATLAB's linear order.

        Raises:
            UserError: the variable is not there or no cell array.
        """
        variable = self._variable(name)
        if isinstance(variable, np.ndarray):
            cells = variable.ravel(order="F")
            content = cells[index]
        else:
            # HDF5 holds the axes in reverse, so that MATLAB's first axis is the last and runs fastest in C order.
            place = np.unravel_index(index, variable.shape)
            content = variable[place]
            if variable.dtype.kind == "O":
                content = variable.file[content]
        if not hasattr(content, "shape") or content.shape == ():
            raise UserError(f"{self._path}: {name} is no cell array; this is another file, download it again")
        return _numbers(content)

    def _variable(self, name: str) -> Any:
        if name not in self._variables:
            raise UserError(f"{self._path} has no variable {name}: this is another file; download it again")
        return self._variables[name]


def _numbers(content: Any) -> np.ndarray:
    """An array, or the transpose of an HDF5 data set. MATLAB writes an empty array as its shape."""
    if isinstance(content, np.ndarray):
        array = content
    elif content.attrs.get("MATLAB_empty", 0):
        array = np.zeros(0)
    else:
        array = np.asarray(content[()]).T
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{array.dtype} where numbers should be")
    return array


@contextmanager
def open_mat(path: Path, what: str, remedy: str, names: tuple[str, ...]) -> Iterator[MatFile]:
    """Open a MATLAB file of any version.

    Args:
        path: the file.
        what: it is, for messages.
        remedy: where to get it.
        names: the variables that will be asked for; of old files others are not read.

    Raises:
        UserError: it is missing, damaged or no MATLAB file; also when that turns out while it is read.
    """
    require_file(path, what, remedy)
    try:
        import h5py  # takes long; --help should not
    except ImportError as error:
        raise lacking_library(error) from error
    import scipy.io

    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                yield MatFile(path, file)
        else:
            yield MatFile(path, scipy.io.loadmat(path, variable_names=list(names)))
    except UserError:
        raise
    except (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, NotImplementedError, zlib.error) as error:
        reason = str(error)[:80] or type(error).__name__
        raise UserError(f"{path} is no readable MATLAB file ({reason}); {remedy}") from error
