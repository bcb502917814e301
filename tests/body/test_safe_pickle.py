"""The restricted unpickler: reads what SMPL's files hold, runs nothing, refuses the rest by name."""

from __future__ import annotations

import io
import os
import pickle
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse

from diffhmr.body.safe_pickle import load_pickle, to_array
from diffhmr.errors import UserError


@contextmanager
def module_with_class(module: str, name: str) -> Iterator[type]:
    """An importable class ``module.name`` for the time of writing; afterwards nothing of that name exists."""
    parts = module.split(".")
    created = [".".join(parts[: i + 1]) for i in range(len(parts))]
    saved = {key: sys.modules.get(key) for key in created}
    for key in created:
        sys.modules[key] = types.ModuleType(key)
    cls = type(name, (), {"__module__": module, "__qualname__": name})
    setattr(sys.modules[module], name, cls)
    try:
        yield cls
    finally:
        for key, old in saved.items():
            if old is None:
                del sys.modules[key]
            else:
                sys.modules[key] = old


def make_object(cls: type, **attributes: Any) -> Any:
    instance = cls()
    instance.__dict__.update(attributes)
    return instance


def write(path: Path, content: Any, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def python2_array(array: np.ndarray) -> bytes:
    """The array as Python 2 wrote it: protocol 0 with a byte string and NumPy's old module names."""
    content = "".join(chr(b) for b in array.tobytes()).encode("latin1")
    return b"".join(
        [
            b"(dp0\nS'array'\np1\n",
            b"cnumpy.core.multiarray\n_reconstruct\np2\n(cnumpy\nndarray\np3\n(I0\ntp4\nS'b'\np5\ntp6\nRp7\n",
            b"(I1\n(" + b"".join(b"I%d\n" % n for n in array.shape) + b"tp8\n",
            b"cnumpy\ndtype\np9\n(S'f8'\np10\nI0\nI1\ntp11\nRp12\n",
            b"(I3\nS'<'\np13\nNNNI-1\nI-1\nI0\ntp14\nbI00\nS" + repr(content)[1:].encode("ascii") + b"\np15\ntp16\nbs.",
        ]
    )


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("dtype", ["f8", "f4", "i4", "u4", "i8", "?", "U5"])
def test_arrays_of_every_protocol(tmp_path: Path, protocol: int, dtype: str) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(dtype)
    content = {"plain": array, "fortran": np.asfortranarray(array), "big": array.astype(array.dtype.newbyteorder(">"))}
    loaded = load_pickle(write(tmp_path / "a.pkl", {**content, "scalar": np.float64(2.5), "n": 3}, protocol))
    for key in content:
        np.testing.assert_array_equal(to_array(loaded[key]), array)
    assert to_array(loaded["scalar"]) == 2.5 and loaded["n"] == 3


def test_arrays_of_python_2(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(5, 3))
    path = tmp_path / "old.pkl"
    path.write_bytes(python2_array(array))
    np.testing.assert_array_equal(to_array(load_pickle(path)["array"]), array)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("module", ["chumpy.ch", "chumpy"])
def test_chumpy_objects_yield_their_array(tmp_path: Path, protocol: int, module: str) -> None:
    array = np.random.default_rng(1).normal(size=(4, 3))
    with module_with_class(module, "Ch") as ch:
        value = make_object(ch, x=array, _dirty_vars={"x"}, _itr=None, _depends_on_deps={}, _make_dense=False)
        path = write(tmp_path / "ch.pkl", {"v_template": value}, protocol)
    assert "chumpy" not in sys.modules
    np.testing.assert_array_equal(to_array(load_pickle(path)["v_template"]), array)


def test_chumpy_selections_and_reshapes(tmp_path: Path) -> None:
    array = np.arange(60.0).reshape(5, 3, 4)
    picked = array[:, :, :2]
    index = np.arange(60).reshape(5, 3, 4)[:, :, :2].ravel()
    with module_with_class("chumpy.ch", "Ch") as ch, module_with_class("chumpy.reordering", "Select") as select:
        value = make_object(select, a=make_object(ch, x=array), idxs=index, preferred_shape=(5, 3, 2))
        path = write(tmp_path / "select.pkl", {"shapedirs": value})
    np.testing.assert_array_equal(to_array(load_pickle(path)["shapedirs"]), picked)
    with module_with_class("chumpy.ch", "Ch") as ch, module_with_class("chumpy.reordering", "Reshape") as reshape:
        path = write(tmp_path / "r.pkl", {"x": make_object(reshape, a=make_object(ch, x=array), newshape=(15, 4))})
    np.testing.assert_array_equal(to_array(load_pickle(path)["x"]), array.reshape(15, 4))


def test_unknown_chumpy_operations_are_named(tmp_path: Path) -> None:
    with module_with_class("chumpy.ch_ops", "add") as add:
        path = write(tmp_path / "add.pkl", {"x": make_object(add, a=np.ones(3), b=np.ones(3))})
    with pytest.raises(UserError, match=r"chumpy\.ch_ops\.add"):
        to_array(load_pickle(path)["x"])


@pytest.mark.parametrize("module", ["scipy.sparse.csc", "scipy.sparse._csc", "scipy.sparse"])
@pytest.mark.parametrize("shape_key", ["_shape", "shape"])
def test_sparse_matrices_of_old_and_new_scipy(tmp_path: Path, module: str, shape_key: str) -> None:
    dense = np.zeros((24, 50))
    dense[[0, 3, 23], [7, 0, 49]] = [1.5, -2.0, 3.0]
    matrix = scipy.sparse.csc_matrix(dense)
    attributes = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr, "maxprint": 50}
    with module_with_class(module, "csc_matrix") as csc:
        path = write(tmp_path / "s.pkl", {"J_regressor": make_object(csc, **attributes, **{shape_key: (24, 50)})})
    np.testing.assert_array_equal(to_array(load_pickle(path)["J_regressor"]), dense)


@pytest.mark.parametrize("kind", ["csc_matrix", "csr_matrix", "coo_matrix", "csr_array", "coo_array"])
def test_sparse_matrices_of_the_installed_scipy(tmp_path: Path, kind: str) -> None:
    dense = np.diag([1.0, 2.0, 3.0])[:, [2, 0, 1]]
    path = write(tmp_path / "s.pkl", {"m": getattr(scipy.sparse, kind)(dense)}, 4)
    np.testing.assert_array_equal(to_array(load_pickle(path)["m"]), dense)


def test_sparse_indices_out_of_range_are_refused(tmp_path: Path) -> None:
    with module_with_class("scipy.sparse.csc", "csc_matrix") as csc:
        bad = make_object(
            csc, data=np.ones(1), indices=np.array([10**6]), indptr=np.array([0, 1, 1]), _shape=(3, 2), maxprint=50
        )
        path = write(tmp_path / "s.pkl", {"m": bad})
    with pytest.raises(UserError, match="csc_matrix cannot be read"):
        to_array(load_pickle(path)["m"])


class Attack:
    """Unpickled the ordinary way it would run a shell command."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


@pytest.mark.parametrize("protocol", range(6))
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    witness = tmp_path / "witness"
    path = write(tmp_path / "bad.pkl", {"v_template": Attack(os.system, f"touch {witness}")}, protocol)
    with pytest.raises(UserError, match=r"asks for (posix|nt|os)\.system.*could run code"):
        load_pickle(path)
    assert not witness.exists()
    # The attack is a real one: the ordinary unpickler does run it.
    pickle.load(io.BytesIO(path.read_bytes()))
    assert witness.exists()


@pytest.mark.parametrize(
    ("function", "name"),
    [(eval, "eval"), (getattr, "getattr"), (np.load, "load"), (pickle.loads, "loads"), (__import__, "__import__")],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_ways_to_code_are_refused(tmp_path: Path, function: Any, name: str) -> None:
    path = write(tmp_path / "bad.pkl", [Attack(function, "1")])
    with pytest.raises(UserError, match=rf"asks for [\w.]*{name}"):
        load_pickle(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile\x93.",  # dotted access below an allowed class
        b"ccopy_reg\n_reconstructor\n(c__builtin__\ndict\nc__builtin__\nobject\nNtR.",  # rebuild something else
        b"\x80\x02P0\n.",  # a persistent id
    ],
    ids=["dotted", "reconstructor", "persistent"],
)
def test_handmade_attacks_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.pkl"
    path.write_bytes(content)
    with pytest.raises(UserError):
        load_pickle(path)


def test_object_arrays_are_not_built(tmp_path: Path) -> None:
    path = write(tmp_path / "o.pkl", {"x": np.array([{}, None], dtype=object), "y": [{}, None]})
    loaded = load_pickle(path)
    for key in loaded:
        with pytest.raises(UserError):
            to_array(loaded[key])


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_object_arrays_and_lists_of_text_and_numbers_are_arrays(tmp_path: Path, protocol: int) -> None:
    content = {
        "names": np.array([["a", "bc"], ["d", "e"]], dtype=object),
        "fortran": np.array([["a", "bc"], ["d", "e"]], dtype=object, order="F"),
        "numbers": np.array([1, np.float32(2.5), 3], dtype=object),
        "list": [np.str_("s_09"), "s_11"],
        "counts": [np.int64(3), np.int64(4)],
    }
    loaded = load_pickle(write(tmp_path / "o.pkl", content, protocol))
    for key in ("names", "fortran"):
        assert to_array(loaded[key]).tolist() == [["a", "bc"], ["d", "e"]]
    assert to_array(loaded["numbers"]).tolist() == [1, 2.5, 3]
    assert to_array(loaded["list"]).tolist() == ["s_09", "s_11"]
    assert to_array(loaded["counts"]).tolist() == [3, 4]


def test_truncated_damaged_and_empty_pickles_are_refused(tmp_path: Path) -> None:
    whole = pickle.dumps({"v_template": np.zeros((100, 3))}, protocol=2)
    path = tmp_path / "cut.pkl"
    for content in (whole[: len(whole) // 2], whole[:-1], b"", b"not a pickle", b"\x00" * 100):
        path.write_bytes(content)
        with pytest.raises(UserError, match="no readable pickle"):
            load_pickle(path)


def test_a_pickle_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds a list"):
        load_pickle(write(tmp_path / "list.pkl", [1, 2]))
