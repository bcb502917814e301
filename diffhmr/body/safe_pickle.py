"""Reading the official pickles of SMPL and of data sets without running code from them and without chumpy.

A pickle is a program: loading one with :mod:`pickle` runs whatever its author wrote. The unpickler here knows only the
few classes that such files use, and builds none of them: objects of NumPy, chumpy and scipy.sparse become inert
records of what the file says about them, from which :func:`to_array` takes the numbers. Everything else is refused.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from diffhmr.errors import UserError


class Record:
    """An object of a class that is not imported: the arguments and the state that the file gives it."""

    class_name = ""
    arguments: tuple[Any, ...]
    state: Any

    def __new__(cls, *arguments: Any) -> Record:
        record = super().__new__(cls)
        record.arguments = arguments
        record.state = None
        return record

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Array(Record):
    class_name = "numpy.ndarray"


class _Dtype(Record):
    class_name = "numpy.dtype"


class _Scalar(Record):
    class_name = "numpy scalar"


def _new_array(*arguments: Any) -> Record:
    """Stand-in for ``numpy.core.multiarray._reconstruct``: an array whose content follows as its state."""
    return _Array(*arguments)


def _array_from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any = "C", *_: Any) -> Record:
    """Stand-in for ``numpy.core.numeric._frombuffer``, with which protocol 5 writes arrays."""
    array = _Array()
    array.state = (1, shape, dtype, order == "F", bytes(buffer))
    return array


def _new_object(cls: Any, *_: Any) -> Record:
    """Stand-in for ``copyreg._reconstructor``, which protocols 0 and 1 call for every object."""
    if not (isinstance(cls, type) and issubclass(cls, Record)):
        raise UserError("the pickle rebuilds an object of a class that plain data do not use; it is not loaded")
    return cls()


def _encode(text: Any, *_: Any) -> bytes:
    """Stand-in for ``_codecs.encode(text, "latin1")``, with which old protocols write bytes."""
    return str(text).encode("latin1")


_BUILTINS: dict[str, Any] = {"object": object, "set": set, "list": list, "dict": dict, "tuple": tuple}

_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("copy_reg", "_reconstructor"): _new_object,
    ("copyreg", "_reconstructor"): _new_object,
    ("_codecs", "encode"): _encode,
    # NumPy 2 renamed numpy.core; files keep the name of the version that wrote them.
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _new_array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _Scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _array_from_buffer for core in ("core", "_core")},
    **{(module, name): value for module in ("builtins", "__builtin__") for name, value in _BUILTINS.items()},
}

_SPARSE_CLASSES = {"csc_matrix", "csr_matrix", "coo_matrix", "csc_array", "csr_array", "coo_array"}


class _RestrictedUnpickler(pickle.Unpickler):
    """Finds only what files of numbers need."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        chumpy = module.partition(".")[0] == "chumpy"
        if chumpy or (module.startswith("scipy.sparse") and name in _SPARSE_CLASSES):
            return type(name, (Record,), {"class_name": f"{module}.{name}"})
        raise UserError(
            f"the pickle asks for {module}.{name}, which plain data do not need and could run code; it is not loaded"
        )


def load_pickle(path: str | Path, what: str = "a body model") -> dict[str, Any]:
    """Read a pickled dictionary, written by Python 2 or 3, without running code from it.

    Arrays, NumPy's scalars and objects of chumpy and scipy.sparse come as :class:`Record`, at any depth;
    :func:`to_array` gives their numbers. Text of Python 2 is read as latin1.

    Args:
        path: the file.
        what: the dictionary should hold, for the message.

    Raises:
        UserError: the file asks for a class that is not allowed, is truncated or damaged, or holds no dictionary.
    """
    loaded = _load(path)
    if not isinstance(loaded, dict):
        raise UserError(f"{path} holds a {type(loaded).__name__}, not the dictionary of {what}; use another file")
    return loaded


def load_pickled_array(path: str | Path) -> np.ndarray:
    """Read a pickled array, dense or sparse, without running code from it.

    Raises:
        UserError: as :func:`load_pickle`, or the file holds something else.
    """
    try:
        return to_array(_load(path))
    except UserError as error:
        raise error if str(path) in str(error) else UserError(f"{path} holds no array: {error}") from error


def _load(path: str | Path) -> Any:
    # Some files hold gigabytes, which should be in memory once.
    with open(path, "rb") as stream:
        try:
            return _RestrictedUnpickler(stream, encoding="latin1").load()
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        except Exception as error:  # whatever a damaged file makes of the unpickler's stack machine
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(
                f"{path} is no readable pickle ({reason}); it may be truncated: download it again"
            ) from error


def to_array(value: Any) -> np.ndarray:
    """The numbers or text of an array, a nested list, or a record of :func:`load_pickle`, dense.

    Raises:
        UserError: it is something else, or the record is damaged.
    """
    if not isinstance(value, Record):
        try:
            array = np.asarray([_plain(item) for item in value] if isinstance(value, (list, tuple)) else value)
        except ValueError as error:
            raise UserError(f"it is no array ({error})") from error
        if array.dtype.hasobject:
            raise UserError(f"it holds {type(value).__name__} objects where numbers should be")
        return array
    try:
        return _record_to_array(value)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise UserError(f"its {value.class_name} cannot be read ({error})") from error


def _record_to_array(record: Record) -> np.ndarray:
    if isinstance(record, _Array):
        _, shape, dtype, fortran, content = record.state
        if isinstance(content, list):  # an array of Python objects, such as texts, always in C's order
            return to_array(content).reshape(shape)
        flat = np.frombuffer(_as_bytes(content), _to_dtype(dtype))
        return flat.reshape(shape, order="F") if fortran else flat.reshape(shape)
    if isinstance(record, _Scalar):
        dtype, content = record.arguments
        return np.frombuffer(_as_bytes(content), _to_dtype(dtype)).reshape(())
    if record.class_name.startswith("scipy."):
        return _sparse_to_array(record)
    return _chumpy_to_array(record)


def _plain(item: Any) -> Any:
    return to_array(item).item() if isinstance(item, _Scalar) else item


def _as_bytes(content: Any) -> bytes:
    """Python 2 wrote bytes as text, which the unpickler decoded as latin1."""
    return content.encode("latin1") if isinstance(content, str) else bytes(content)


def _to_dtype(record: Any) -> np.dtype:
    code = _as_bytes(record.arguments[0]).decode("ascii")
    if not re.fullmatch(r"[<>=|]?(?:[biufc]\d+|[SU]\d+|\?)", code):
        raise UserError(f"it is an array of type {code!r}, not of numbers")
    dtype = np.dtype(code)
    return dtype.newbyteorder(">") if record.state is not None and record.state[1] == ">" else dtype


def _sparse_to_array(record: Record) -> np.ndarray:
    state = record.state
    shape = tuple(int(length) for length in state["_shape" if "_shape" in state else "shape"])
    kind = record.class_name.rpartition(".")[2].partition("_")[0]
    data = to_array(state["data"])
    if kind == "coo":
        rows, columns = state["coords"] if "coords" in state else (state["row"], state["col"])
        return np.asarray(scipy.sparse.coo_matrix((data, (to_array(rows), to_array(columns))), shape=shape).toarray())
    compressed = scipy.sparse.csc_matrix if kind == "csc" else scipy.sparse.csr_matrix
    matrix = compressed((data, to_array(state["indices"]), to_array(state["indptr"])), shape=shape)
    matrix.check_format(full_check=True)  # indices out of range would be written to memory that is not ours
    return np.asarray(matrix.toarray())


def _chumpy_to_array(record: Record) -> np.ndarray:
    """A chumpy leaf holds its array as ``x``; ``Select`` and ``Reshape`` are views of another object ``a``."""
    state = record.state
    if "x" in state:
        return to_array(state["x"])
    name = record.class_name.rpartition(".")[2]
    if name == "Select":
        selected = to_array(state["a"]).ravel()[to_array(state["idxs"])]
        return selected.reshape(state["preferred_shape"]) if "preferred_shape" in state else selected
    if name == "Reshape":
        return to_array(state["a"]).reshape(state["newshape"])
    raise UserError(f"it holds a {record.class_name}, from which no array can be taken")
