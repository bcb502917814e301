"""Reading SMPL's official pickles without running code from them and without chumpy.

A pickle is a program: loading one with :mod:`pickle` runs whatever its author wrote. The unpickler here knows only the
few classes that SMPL's files use. NumPy arrays are rebuilt by NumPy; objects of chumpy and scipy.sparse become inert
records of their attributes, from which :func:`to_array` takes the numbers. Everything else is refused by name.
"""

from __future__ import annotations

import importlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from diffhmr.errors import UserError


class Record:
    """An object of a class that is not imported: its class name and its attributes, nothing that runs."""

    class_name = ""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        self.attributes: dict[str, Any] = {}

    def __new__(cls, *_args: object, **_kwargs: object) -> Record:
        record = super().__new__(cls)
        record.attributes = {}
        return record

    def __setstate__(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) == 2:  # (attributes, slots) of classes with __slots__
            state = state[0]
        if not isinstance(state, dict):
            raise UserError(f"the pickle holds a {self.class_name} in an unknown form; use another copy of the file")
        self.attributes = state


def _reconstruct_object(cls: object, _base: object, _state: object) -> Record:
    """Stand-in for ``copyreg._reconstructor``, which pickles of protocols 0 and 1 call for every object."""
    if not (isinstance(cls, type) and issubclass(cls, Record)):
        raise UserError("the pickle rebuilds an object of a class that body files do not use; it is not loaded")
    return cls()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Stand-in for ``_codecs.encode``, with which old protocols write bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise UserError(f"the pickle encodes bytes as {encoding!r}, which body files do not; it is not loaded")
    return text.encode("latin1")


_BUILTINS: dict[str, Any] = {"object": object, "set": set, "list": list, "dict": dict, "tuple": tuple}

_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("copy_reg", "_reconstructor"): _reconstruct_object,
    ("copyreg", "_reconstructor"): _reconstruct_object,
    ("_codecs", "encode"): _encode,
    **{(module, name): value for module in ("builtins", "__builtin__") for name, value in _BUILTINS.items()},
}

_NUMPY_FUNCTIONS = {
    ("multiarray", "_reconstruct"),
    ("multiarray", "scalar"),
    ("numeric", "_frombuffer"),
}

_SPARSE_CLASSES = {"csc_matrix", "csr_matrix", "coo_matrix", "csc_array", "csr_array", "coo_array"}


class _RestrictedUnpickler(pickle.Unpickler):
    """Finds only the classes that SMPL's files need."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        package, _, rest = module.partition(".")
        if package == "numpy" and rest.startswith(("core.", "_core.")):
            submodule = rest.partition(".")[2]
            if (submodule, name) in _NUMPY_FUNCTIONS:
                return _numpy_function(submodule, name)
        if package == "chumpy" or (module.startswith("scipy.sparse") and name in _SPARSE_CLASSES):
            return type(name, (Record,), {"class_name": f"{module}.{name}"})
        raise UserError(
            f"the pickle asks for {module}.{name}, which no body file needs and which could run code; it is not loaded"
        )

    def persistent_load(self, _pid: object) -> Any:
        raise UserError("the pickle refers to objects outside the file, which body files do not; it is not loaded")


def _numpy_function(submodule: str, name: str) -> Any:
    """The function under the module path of the NumPy that runs: ``numpy._core`` since 2.0, ``numpy.core`` before."""
    core = "numpy._core" if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else "numpy.core"
    return getattr(importlib.import_module(f"{core}.{submodule}"), name)


def load_pickle(path: str | Path) -> dict[str, Any]:
    """Read a pickled dictionary, written by Python 2 or 3, without running code from it.

    Values of chumpy and scipy.sparse come as :class:`Record`; :func:`to_array` turns any value into an array.

    Raises:
        UserError: the file asks for a class that is not allowed, is truncated or damaged, or holds no dictionary.
    """
    content = Path(path).read_bytes()
    try:
        loaded = _RestrictedUnpickler(io.BytesIO(content), encoding="latin1").load()
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # whatever a damaged pickle makes of the unpickler's stack machine
        reason = str(error) or type(error).__name__
        raise UserError(f"{path} is no readable pickle ({reason}); it may be truncated: download it again") from error
    if not isinstance(loaded, dict):
        raise UserError(f"{path} holds a {type(loaded).__name__}, not the dictionary of a body model; use another file")
    return loaded


def to_array(value: object) -> np.ndarray:
    """The numbers of an array, a nested list, or the record of a chumpy or scipy.sparse object, dense.

    Raises:
        UserError: it is something else, or the record is damaged.
    """
    if not isinstance(value, Record):
        array = np.asarray(value)
        if array.dtype == object:
            raise UserError(f"it holds {type(value).__name__} objects where numbers should be")
        return array
    try:
        if value.class_name.startswith("scipy."):
            return _sparse_to_array(value)
        return _chumpy_to_array(value)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise UserError(f"its {value.class_name} cannot be read ({error})") from error


def _sparse_to_array(record: Record) -> np.ndarray:
    state = record.attributes
    shape = state["_shape"] if "_shape" in state else state["shape"]
    kind = record.class_name.rpartition(".")[2].partition("_")[0]
    if kind == "coo":
        rows, columns = state["coords"] if "coords" in state else (state["row"], state["col"])
        return np.asarray(scipy.sparse.coo_matrix((state["data"], (rows, columns)), shape=shape).toarray())
    compressed = scipy.sparse.csc_matrix if kind == "csc" else scipy.sparse.csr_matrix
    matrix = compressed((state["data"], state["indices"], state["indptr"]), shape=shape)
    matrix.check_format(full_check=True)  # indices out of range would be written to memory that is not ours
    return np.asarray(matrix.toarray())


def _chumpy_to_array(record: Record) -> np.ndarray:
    """A chumpy leaf holds its array as ``x``; ``Select`` and ``Reshape`` are views of another object ``a``."""
    state = record.attributes
    if "x" in state:
        return to_array(state["x"])
    name = record.class_name.rpartition(".")[2]
    if name == "Select":
        selected = to_array(state["a"]).ravel()[to_array(state["idxs"])]
        return selected.reshape(state["preferred_shape"]) if "preferred_shape" in state else selected
    if name == "Reshape":
        return to_array(state["a"]).reshape(state["newshape"])
    raise UserError(f"it holds a {record.class_name}, from which no array can be taken")
