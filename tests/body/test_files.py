"""Body files: the free body, stand-ins for the official SMPL pickles, and everything that is refused."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from smplx.vertex_ids import vertex_ids

from diffhmr.body.files import FREE_BODY, SMPL_NUM_VERTICES, BodyData, find_smpl, read_body, read_regressor
from diffhmr.body.joints import JOINT_SETS, SMPL_PARENTS, joint_source
from diffhmr.errors import UserError
from diffhmr.files import sha256_file
from tests.body.test_safe_pickle import make_object, module_with_class
from tests.toy_body import make_fields


def write_npz(path: Path, **fields: Any) -> Path:
    np.savez(path, **fields)
    return path


def write_official_pickle(path: Path, fields: dict[str, Any], protocol: int = 2) -> Path:
    """As in SMPL v1.0.0: chumpy arrays and selections, an old scipy's sparse regressor, an unsigned tree."""
    regressor = scipy.sparse.csc_matrix(fields["J_regressor"])
    every = fields["shapedirs"].astype(np.float64)
    index = np.arange(every.size)
    with (
        module_with_class("chumpy.ch", "Ch") as ch,
        module_with_class("chumpy.reordering", "Select") as select,
        module_with_class("scipy.sparse.csc", "csc_matrix") as csc,
    ):
        shapedirs = make_object(select, a=make_object(ch, x=every), idxs=index, preferred_shape=every.shape)
        content = {
            "v_template": make_object(ch, x=fields["v_template"].astype(np.float64)),
            "shapedirs": shapedirs,
            "posedirs": make_object(ch, x=fields["posedirs"].astype(np.float64)),
            "weights": make_object(ch, x=fields["weights"].astype(np.float64)),
            "J_regressor": make_object(
                csc, data=regressor.data, indices=regressor.indices, indptr=regressor.indptr, _shape=regressor.shape
            ),
            "f": fields["f"].astype(np.uint32),
            "kintree_table": np.array([SMPL_PARENTS, range(24)], dtype=np.int64).astype(np.uint32),
            "bs_style": "lbs",
            "bs_type": "lrotmin",
        }
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def smpl_sized_fields() -> dict[str, Any]:
    """The fields of a body with SMPL's number of vertices and no name."""
    size = SMPL_NUM_VERTICES
    generator = np.random.default_rng(0)
    weights = np.zeros((size, 24), np.float32)
    weights[np.arange(size), np.arange(size) % 24] = 1
    return {
        "v_template": generator.normal(size=(size, 3)).astype(np.float32),
        "shapedirs": np.zeros((size, 3, 10), np.float32),
        "f": np.array([[0, 1, 2]]),
        "weights": weights,
        "J_regressor": np.full((24, size), 1 / size, np.float32),
        "kintree_table": np.array([SMPL_PARENTS, range(24)]),
    }


def assert_same_body(first: BodyData, second: BodyData) -> None:
    for name in ("v_template", "shapedirs", "posedirs", "faces", "weights", "joint_regressor"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), atol=1e-7, err_msg=name)


@pytest.mark.parametrize("protocol", [0, 2])
def test_official_pickle_equals_the_npz(tmp_path: Path, protocol: int) -> None:
    fields = make_fields()
    pickled = read_body(write_official_pickle(tmp_path / "basicModel.pkl", fields, protocol))
    assert_same_body(pickled, read_body(write_npz(tmp_path / "body.npz", **fields)))
    assert pickled.name == "basicModel" and pickled.landmarks == {} and pickled.extra_regressor is None


def test_three_hundred_shape_directions_are_cut_to_those_wanted(tmp_path: Path) -> None:
    fields = make_fields(num_shapes=300)
    path = write_official_pickle(tmp_path / "v110.pkl", fields)
    np.testing.assert_allclose(read_body(path).shapedirs, fields["shapedirs"][:, :, :10], atol=1e-7)
    assert read_body(path, num_betas=16).shapedirs.shape[2] == 16
    with pytest.raises(UserError, match="shapedirs has 300 directions, 301 are needed"):
        read_body(path, num_betas=301)


def test_smpl_is_recognised_by_its_mesh(tmp_path: Path) -> None:
    fields = smpl_sized_fields()
    data = read_body(write_npz(tmp_path / "SMPL_NEUTRAL.npz", **fields))
    assert data.is_smpl and data.name == "SMPL" and data.posedirs is None
    ids = vertex_ids["smplh"]
    assert data.landmarks["nose"] == ids["nose"] == 332 and data.landmarks["left_ear"] == ids["lear"] == 583
    assert data.landmarks["right_big_toe"] == ids["RBigToe"] and data.landmarks["right_thumb_tip"] == ids["rthumb"]
    named = read_body(write_npz(tmp_path / "other.npz", **fields, name=np.array("my body")))
    assert not named.is_smpl and named.name == "my body" and named.landmarks == {}


def test_regressors_are_found_beside_the_body(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "SMPL_NEUTRAL.npz", **smpl_sized_fields())
    assert read_body(path).extra_regressor is None
    extra = np.zeros((9, SMPL_NUM_VERTICES))
    extra[:, 17] = 1
    np.save(tmp_path / "J_regressor_extra.npy", extra)
    np.save(tmp_path / "J_regressor_h36m.npy", np.full((17, 5), 0.2))  # made for another mesh: not used
    data = read_body(path)
    np.testing.assert_array_equal(data.extra_regressor, extra)
    assert data.h36m_regressor is None


@pytest.mark.parametrize("sparse", [False, True])
def test_the_pickled_regressor_is_read_without_trust(tmp_path: Path, sparse: bool) -> None:
    path = write_npz(tmp_path / "SMPL_NEUTRAL.npz", **smpl_sized_fields())
    regressor = np.zeros((19, SMPL_NUM_VERTICES))
    regressor[np.arange(19), np.arange(19) * 7] = 1
    beside = tmp_path / "SMPL_to_J19.pkl"
    with open(beside, "wb") as stream:
        pickle.dump(scipy.sparse.csc_matrix(regressor) if sparse else regressor, stream, protocol=2)
    data = read_body(path)
    np.testing.assert_array_equal(data.j19_regressor, regressor)
    assert data.regressor_paths == {"SMPL_to_J19": beside}
    beside.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UserError, match=r"SMPL_to_J19.pkl.*os.system"):
        read_body(path)
    beside.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(UserError, match=r"SMPL_to_J19.pkl"):
        read_body(path)


def test_smpl_of_a_gender_is_found_under_its_official_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"male body is missing: register at .*SMPL_MALE.pkl") as caught:
        find_smpl("male", tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    for name in ("basicmodel_f_lbs_10_207_0_v1.1.0.pkl", "SMPL_MALE.npz", "SMPL_NEUTRAL.txt"):
        (tmp_path / name).touch()
    assert find_smpl("male", tmp_path).name == "SMPL_MALE.npz"
    assert find_smpl("female", tmp_path).name == "basicmodel_f_lbs_10_207_0_v1.1.0.pkl"
    with pytest.raises(UserError, match="neutral body is missing"):
        find_smpl("neutral", tmp_path)


def test_a_broken_regressor_is_named(tmp_path: Path) -> None:
    path = tmp_path / "J_regressor_h36m.npy"
    np.save(path, np.ones((14, 6890)) / 6890)
    with pytest.raises(UserError, match=r"J_regressor_h36m.npy is not a usable joint regressor.*\(17, any\)"):
        read_regressor(path, 17)
    np.save(path, np.ones((17, 6890)))
    with pytest.raises(UserError, match="do not sum to 1"):
        read_regressor(path, 17)
    path.write_bytes(b"\x93NUMPY broken")
    with pytest.raises(UserError, match=r"no readable \.npy"):
        read_regressor(path, 17)


def test_free_body_is_complete() -> None:
    data = read_body(FREE_BODY)
    assert "not SMPL" in data.name and not data.is_smpl and data.licence and data.source
    assert data.sha256 == sha256_file(FREE_BODY)
    assert 5000 <= len(data.v_template) <= 14000 and FREE_BODY.stat().st_size <= 4 * 2**20
    assert data.joint_regressor.min() >= 0 and data.weights.min() >= 0
    np.testing.assert_allclose(data.weights.sum(1), 1, atol=1e-4)
    assert data.extra_regressor is not None and data.h36m_regressor is not None
    for joint_set in JOINT_SETS.values():
        for name in joint_set.joint_names:
            assert joint_source(name).kind != "landmark" or name in data.landmarks


def test_sparse_fields_equal_dense_ones(tmp_path: Path) -> None:
    fields = make_fields()
    dense = read_body(write_npz(tmp_path / "dense.npz", **fields))
    sparse = {key: value for key, value in fields.items() if key not in ("weights", "J_regressor")}
    index = np.argsort(-fields["weights"], axis=1)[:, :4]
    sparse["weights_index"] = index.astype(np.uint8)
    sparse["weights_value"] = np.take_along_axis(fields["weights"], index, axis=1)
    row, column = fields["J_regressor"].nonzero()
    sparse |= {
        "J_regressor_row": row,
        "J_regressor_col": column,
        "J_regressor_value": fields["J_regressor"][row, column],
    }
    sparse["shapedirs"] = fields["shapedirs"].astype(np.float16)
    read = read_body(write_npz(tmp_path / "sparse.npz", **sparse))
    np.testing.assert_allclose(read.weights, dense.weights, atol=1e-6)
    np.testing.assert_array_equal(read.joint_regressor, dense.joint_regressor)
    assert read.shapedirs.dtype == np.float32


def test_absent_empty_and_zero_pose_directions_mean_none(tmp_path: Path) -> None:
    fields = make_fields()
    without = {key: value for key, value in fields.items() if key != "posedirs"}
    assert read_body(write_npz(tmp_path / "a.npz", **without)).posedirs is None
    assert read_body(write_npz(tmp_path / "b.npz", **without, posedirs=np.zeros(0))).posedirs is None
    assert read_body(write_npz(tmp_path / "c.npz", **without, posedirs=0 * fields["posedirs"])).posedirs is None


def with_nan(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flat[0] = np.nan
    return array


BROKEN = {
    "v_template-nan": ("v_template", with_nan, "v_template holds NaN"),
    "v_template-shape": ("v_template", lambda a: a.T, r"v_template has shape \(3, 192\)"),
    "v_template-text": ("v_template", lambda a: a.astype("U8"), "v_template .* expected numbers"),
    "shapedirs-flat": ("shapedirs", lambda a: a[:, 0], r"shapedirs has shape .* expected .*\(192, 3, any\)"),
    "shapedirs-few": ("shapedirs", lambda a: a[..., :4], "shapedirs has 4 directions, 10 are needed"),
    "posedirs": ("posedirs", lambda a: a[..., :100], "posedirs has shape"),
    "faces-range": ("f", lambda a: a + 100, "vertex indices below 192"),
    "faces-shape": ("f", lambda a: a[:, :2], r"f has shape \(288, 2\)"),
    "faces-none": ("f", lambda a: a[:0], r"f has shape \(0, 3\)"),
    "faces-nan": ("f", lambda a: a * np.nan, r"f holds something else than whole numbers \(type float64\)"),
    "faces-inf": ("f", lambda a: a + np.inf, "f holds something else than whole numbers"),
    "faces-fraction": ("f", lambda a: a + 0.5, "f holds something else than whole numbers"),
    "faces-text": ("f", lambda a: a.astype(str), "f holds something else than whole numbers"),
    "v_template-complex": ("v_template", lambda a: a * 1j, "v_template .* complex64, expected numbers"),
    "tree-text": ("kintree_table", lambda a: a.astype(str), "kintree_table holds something else"),
    "weights-shape": ("weights", lambda a: a[:-1], r"weights has shape \(191, 24\)"),
    "weights-sum": ("weights", lambda a: a * 2, "rows of weights do not sum to 1"),
    "regressor-sum": ("J_regressor", lambda a: a * 0, "rows of J_regressor do not sum to 1"),
    "tree-size": ("kintree_table", lambda a: np.pad(a, ((0, 0), (0, 28))), "SMPL-H or SMPL-X"),
    "tree-other": ("kintree_table", lambda a: a[:, ::-1], "not SMPL's tree"),
    "landmarks": ("landmark_index", lambda a: a + 1000, "do not name vertices"),
    "extra": ("J_regressor_extra", lambda a: a[:4], r"J_regressor_extra has shape \(4, 192\)"),
}


@pytest.mark.parametrize(("field", "change", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_field_is_named(tmp_path: Path, field: str, change: Any, message: str) -> None:
    fields = make_fields()
    fields[field] = change(fields[field])
    with pytest.raises(UserError, match=f"not a usable body file: .*{message}"):
        read_body(write_npz(tmp_path / "body.npz", **fields))


@pytest.mark.parametrize("field", ["v_template", "shapedirs", "f", "weights", "J_regressor", "kintree_table"])
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    fields = make_fields()
    del fields[field]
    with pytest.raises(UserError, match=f"not a usable body file: the field {field} is missing; expected"):
        read_body(write_npz(tmp_path / "body.npz", **fields))


def test_sparse_fields_out_of_range_are_refused(tmp_path: Path) -> None:
    fields = make_fields()
    del fields["J_regressor"]
    coordinates = {"J_regressor_row": np.array([24]), "J_regressor_col": np.array([0]), "J_regressor_value": np.ones(1)}
    with pytest.raises(UserError, match="do not fit a matrix of 24 x 192"):
        read_body(write_npz(tmp_path / "a.npz", **fields, **coordinates))
    fields = make_fields()
    del fields["weights"]
    sparse = {"weights_index": np.full((192, 1), 24), "weights_value": np.ones((192, 1))}
    with pytest.raises(UserError, match="values that are no joints"):
        read_body(write_npz(tmp_path / "b.npz", **fields, **sparse))


def test_files_that_are_no_bodies(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"body file not found.*scripts\.doctor"):
        read_body(tmp_path / "absent.npz")
    text = tmp_path / "body.txt"
    text.write_text("hello")
    with pytest.raises(UserError, match=r"should end in \.npz or \.pkl"):
        read_body(text)
    np.save(tmp_path / "array.npy", np.zeros(3))
    whole = write_npz(tmp_path / "whole.npz", **make_fields()).read_bytes()
    for content in (b"PK\x03\x04 truncated", b"nonsense", pickle.dumps({"v_template": 1}), whole[: len(whole) // 2],
                    (tmp_path / "array.npy").read_bytes()):  # fmt: skip
        broken = tmp_path / "broken.npz"
        broken.write_bytes(content)
        with pytest.raises(UserError, match=r"broken\.npz is cut off or no \.npz file; download or build it again"):
            read_body(broken)
    broken.write_bytes(b"")
    with pytest.raises(UserError, match="is empty"):
        read_body(broken)
    damaged = bytearray(whole)
    damaged[200:300] = bytes(100)
    broken.write_bytes(damaged)
    with pytest.raises(UserError, match=r"no readable \.npz file \(.*CRC"):
        read_body(broken)
    objects = write_npz(tmp_path / "objects.npz", v_template=np.array([{}], dtype=object))
    with pytest.raises(UserError, match=r"no readable \.npz file \(it holds objects, not only arrays\)"):
        read_body(objects)
    other = tmp_path / "other.pkl"
    other.write_bytes(pickle.dumps({"weights": [1, 2, 3]}))
    with pytest.raises(UserError, match="the field v_template is missing"):
        read_body(other)
