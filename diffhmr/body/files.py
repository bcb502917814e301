"""Body files: the free body, official SMPL models and their converted copies, read into one checked form."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from smplx.vertex_ids import vertex_ids

from diffhmr.body.joints import (
    EXTRA_REGRESSOR,
    EXTRA_ROWS,
    H36M_REGRESSOR,
    H36M_ROWS,
    J19_REGRESSOR,
    J19_ROWS,
    REGRESSOR_FILES,
    SMPL_PARENTS,
)
from diffhmr.body.safe_pickle import load_pickle, load_pickled_array, to_array
from diffhmr.errors import UserError
from diffhmr.files import require_file, sha256_file

BODY_FOLDER = Path(__file__).resolve().parents[2] / "data" / "body"
FREE_BODY = BODY_FOLDER / "free_body.npz"

Gender = Literal["neutral", "male", "female"]

SMPL_NUM_VERTICES = 6890
NUM_JOINTS = len(SMPL_PARENTS)
NUM_POSE_FEATURES = 9 * (NUM_JOINTS - 1)

_SMPL_LANDMARK_KEYS = {
    "nose": "nose", "left_eye": "leye", "right_eye": "reye", "left_ear": "lear", "right_ear": "rear",
    "left_big_toe": "LBigToe", "left_small_toe": "LSmallToe", "left_heel": "LHeel",
    "right_big_toe": "RBigToe", "right_small_toe": "RSmallToe", "right_heel": "RHeel",
    "left_thumb_tip": "lthumb", "left_index_tip": "lindex", "left_middle_tip": "lmiddle", "left_ring_tip": "lring",
    "left_pinky_tip": "lpinky", "right_thumb_tip": "rthumb", "right_index_tip": "rindex",
    "right_middle_tip": "rmiddle", "right_ring_tip": "rring", "right_pinky_tip": "rpinky",
}  # fmt: skip
_SMPL_HEAD_TOP = 411
"""The vertex that row 3 (head top) of ``J_regressor_extra.npy`` picks."""

_READ_ERRORS = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class BodyData:
    """Everything a body file says, checked. Metres; T-pose, y up, facing +z, the left hand at +x.

    Attributes:
        path: of the file.
        sha256: of the file.
        name: as it should appear in results.
        is_smpl: it has SMPL's mesh.
        v_template: ``(V, 3)``.
        shapedirs: ``(V, 3, num_betas)`` displacement per unit of each beta.
        available_betas: number of shape directions in the file (10 in SMPL v1.0.0, 300 in v1.1.0).
        posedirs: ``(V, 3, 207)`` displacement per unit of ``R - 1`` of the joints 1 to 23, or None when there is none.
        faces: ``(F, 3)`` int64.
        weights: ``(V, 24)`` skinning weights, rows sum to 1.
        joint_regressor: ``(24, V)``.
        extra_regressor: ``(9, V)``, rows as in ``joints.EXTRA_ROWS``, or None.
        h36m_regressor: ``(17, V)``, rows as in ``joints.H36M_ROWS``, or None.
        j19_regressor: ``(19, V)``, rows as in ``joints.J19_ROWS``, or None.
        regressor_paths: the file from which each of these regressors comes, by name: the body file or one beside it.
        landmarks: named surface vertices.
        licence: of the file, as far as it says.
        source: of the file, as far as it says.
    """

    path: Path
    sha256: str
    name: str
    is_smpl: bool
    v_template: np.ndarray
    shapedirs: np.ndarray
    available_betas: int
    posedirs: np.ndarray | None
    faces: np.ndarray
    weights: np.ndarray
    joint_regressor: np.ndarray
    extra_regressor: np.ndarray | None
    h36m_regressor: np.ndarray | None
    j19_regressor: np.ndarray | None
    regressor_paths: dict[str, Path]
    landmarks: dict[str, int]
    licence: str
    source: str


def read_body(path: str | Path, num_betas: int = 10) -> BodyData:
    """Read an SMPL-format body: the free body, an official SMPL ``.pkl`` (v1.0.0, v1.1.0) or an ``.npz``.

    The official files need neither chumpy nor trust: see :mod:`diffhmr.body.safe_pickle`. Regressors that the file does
    not hold are looked for beside it and in ``data/body/``.

    Raises:
        UserError: the file is missing, is no body, lacks a field, or a field has the wrong shape or impossible values.
    """
    path = require_file(path, "body file", "run `python -m scripts.doctor` to see which bodies are there")
    fields = read_fields(path)
    try:
        return _checked(path, fields, num_betas)
    except UserError as error:
        raise UserError(
            f"{path} is not a usable body file: {error}; expected an SMPL model (.pkl) or an .npz as in data/README.md"
        ) from error


def read_fields(path: Path) -> Mapping[str, Any]:
    """The raw fields of a ``.npz`` or ``.pkl`` body file.

    Raises:
        UserError: another suffix, a damaged file, or a pickle that asks for more than a body needs.
    """
    if path.suffix == ".pkl":
        return load_pickle(path)
    if path.suffix != ".npz":
        raise UserError(f"{path} is not a body file: its name should end in .npz or .pkl")
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is cut off or no .npz file; download or build it again")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except _READ_ERRORS as error:
        reason = "it holds objects, not only arrays" if "pickle" in str(error) else error
        raise UserError(f"{path} is no readable .npz file ({reason}); download or build it again") from error


def _checked(path: Path, fields: Mapping[str, Any], num_betas: int) -> BodyData:
    v_template = _numbers(fields, "v_template", (None, 3))
    size = len(v_template)
    shapedirs = _numbers(fields, "shapedirs", (size, 3, None))
    if shapedirs.shape[2] < num_betas:
        raise UserError(f"shapedirs has {shapedirs.shape[2]} directions, {num_betas} are needed")
    faces = _whole_numbers(fields, "f")
    if faces.ndim != 2 or faces.shape[1] != 3 or not faces.size or faces.min() < 0 or faces.max() >= size:
        raise UserError(f"f has shape {faces.shape}, expected (F, 3) with vertex indices below {size}")
    _check_tree(_whole_numbers(fields, "kintree_table"))
    name = str(_array(fields, "name")) if "name" in fields else ""
    rows = {EXTRA_REGRESSOR: len(EXTRA_ROWS), H36M_REGRESSOR: len(H36M_ROWS), J19_REGRESSOR: len(J19_ROWS)}
    regressors = {key: _optional_regressor(path, fields, key, count, size) for key, count in rows.items()}
    is_smpl = size == SMPL_NUM_VERTICES and not name
    return BodyData(
        path=path,
        sha256=sha256_file(path),
        name=name or ("SMPL" if is_smpl else path.stem),
        is_smpl=is_smpl,
        v_template=v_template,
        shapedirs=shapedirs[:, :, :num_betas],
        available_betas=shapedirs.shape[2],
        posedirs=_pose_directions(fields, size),
        faces=faces,
        weights=_skinning_weights(fields, size),
        joint_regressor=_sums_to_one("J_regressor", _regressor(fields, "J_regressor", NUM_JOINTS, size)),
        extra_regressor=regressors[EXTRA_REGRESSOR][0],
        h36m_regressor=regressors[H36M_REGRESSOR][0],
        j19_regressor=regressors[J19_REGRESSOR][0],
        regressor_paths={key: origin for key, (_, origin) in regressors.items() if origin is not None},
        landmarks=_landmarks(fields, size, is_smpl),
        licence=str(_array(fields, "licence")) if "licence" in fields else "",
        source=str(_array(fields, "source")) if "source" in fields else "",
    )


def _array(fields: Mapping[str, Any], key: str) -> np.ndarray:
    if key not in fields:
        raise UserError(f"the field {key} is missing")
    try:
        return to_array(fields[key])
    except UserError as error:
        raise UserError(f"the field {key} is unreadable: {error}") from error


def _numbers(fields: Mapping[str, Any], key: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """A finite float32 field of the given shape; None stands for any size but 0."""
    array = _array(fields, key)
    fits = array.ndim == len(shape) and all(
        actual > 0 if wanted is None else actual == wanted for actual, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits or array.dtype.kind not in "iuf":
        wanted_text = ", ".join("any" if wanted is None else str(wanted) for wanted in shape)
        raise UserError(
            f"{key} has shape {array.shape} and type {array.dtype}, expected numbers of shape ({wanted_text})"
        )
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise UserError(f"{key} holds NaN or infinite values")
    return array


def _whole_numbers(fields: Mapping[str, Any], key: str) -> np.ndarray:
    """An int64 field of any shape; old converters wrote indices as floats, and -1 as an unsigned number."""
    array = _array(fields, key)
    whole = array.dtype.kind in "iu" or (
        array.dtype.kind == "f" and bool(np.isfinite(array).all()) and bool((np.mod(array, 1) == 0).all())
    )
    if not whole:
        raise UserError(f"{key} holds something else than whole numbers (type {array.dtype})")
    return array.astype(np.int64)


def _check_tree(kintree: np.ndarray) -> None:
    if kintree.shape != (2, NUM_JOINTS):
        raise UserError(
            f"kintree_table has shape {kintree.shape}, expected (2, {NUM_JOINTS}): is this SMPL-H or SMPL-X?"
        )
    # The root's parent is -1, in the official files as an unsigned number.
    if tuple(int(parent) for parent in kintree[0, 1:]) != SMPL_PARENTS[1:]:
        raise UserError("kintree_table is not SMPL's tree of 24 joints")


def _pose_directions(fields: Mapping[str, Any], size: int) -> np.ndarray | None:
    if "posedirs" not in fields or _array(fields, "posedirs").size == 0:
        return None
    posedirs = _numbers(fields, "posedirs", (size, 3, NUM_POSE_FEATURES))
    return posedirs if posedirs.any() else None


def _skinning_weights(fields: Mapping[str, Any], size: int) -> np.ndarray:
    if "weights_index" in fields:
        index = _whole_numbers(fields, "weights_index")
        value = _numbers(fields, "weights_value", (size, None))
        if index.shape != value.shape or index.min() < 0 or index.max() >= NUM_JOINTS:
            raise UserError(
                f"weights_index has shape {index.shape} or values that are no joints, expected {value.shape}"
            )
        weights = np.zeros((size, NUM_JOINTS), np.float32)
        np.add.at(weights, (np.arange(size)[:, None], index), value)
    else:
        weights = _numbers(fields, "weights", (size, NUM_JOINTS))
    return _sums_to_one("weights", weights)


def _regressor(fields: Mapping[str, Any], key: str, rows: int, size: int) -> np.ndarray:
    """A ``(rows, V)`` regressor, stored dense or as coordinates ``_row``, ``_col``, ``_value``."""
    if f"{key}_row" not in fields:
        return _numbers(fields, key, (rows, size))
    row, column = _whole_numbers(fields, f"{key}_row"), _whole_numbers(fields, f"{key}_col")
    value = _numbers(fields, f"{key}_value", (None,))
    inside = row.shape == column.shape == value.shape and min(row.min(), column.min()) >= 0
    if not inside or row.max() >= rows or column.max() >= size:
        raise UserError(f"{key}_row and {key}_col do not fit a matrix of {rows} x {size}")
    regressor = np.zeros((rows, size), np.float32)
    np.add.at(regressor, (row, column), value)
    return regressor


def _sums_to_one(key: str, rows: np.ndarray) -> np.ndarray:
    error = float(np.abs(rows.sum(axis=1, dtype=np.float64) - 1).max())
    if error > 0.01:
        raise UserError(f"rows of {key} do not sum to 1 (off by up to {error:.3g})")
    return rows


def _optional_regressor(
    path: Path, fields: Mapping[str, Any], key: str, rows: int, size: int
) -> tuple[np.ndarray | None, Path | None]:
    """From the body file, else from a file beside it or in ``data/body/`` when that was made for this mesh.

    Returns:
        The regressor and the file it comes from.
    """
    if key in fields or f"{key}_row" in fields:
        return _sums_to_one(key, _regressor(fields, key, rows, size)), path
    for folder in (path.parent, BODY_FOLDER):
        candidate = folder / REGRESSOR_FILES[key]
        if candidate.is_file():
            regressor = read_regressor(candidate, rows)
            if regressor.shape[1] == size:
                return regressor, candidate
    return None, None


def read_regressor(path: Path, rows: int) -> np.ndarray:
    """A joint regressor ``(rows, V)`` from a ``.npy`` file, or from a ``.pkl`` that holds an array, dense or sparse.

    Raises:
        UserError: unreadable, of another shape, or its rows do not sum to 1.
    """
    try:
        array = load_pickled_array(path) if path.suffix == ".pkl" else np.load(path, allow_pickle=False)
    except _READ_ERRORS as error:
        raise UserError(f"{path} is no readable {path.suffix} file ({error}); download it again") from error
    try:
        return _sums_to_one(path.name, _numbers({path.name: array}, path.name, (rows, None)))
    except UserError as error:
        raise UserError(f"{path} is not a usable joint regressor: {error}") from error


def find_smpl(gender: Gender, folder: Path = BODY_FOLDER) -> Path:
    """SMPL's body of ``gender`` in ``folder``, under its official name or as ``SMPL_GENDER.pkl`` or ``.npz``.

    Raises:
        UserError: it is not there; with where to get it.
    """
    letter = {"neutral": "neutral", "male": "m", "female": "f"}[gender]
    pattern = rf"(smpl_{gender}|basicmodel_{letter}_lbs_10_207_0_v1\.[01]\.0)\.(pkl|npz)"
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    found = [name for name in names if re.fullmatch(pattern, name, re.IGNORECASE)]
    if not found:
        raise UserError(
            f"SMPL's {gender} body is missing: register at https://smpl.is.tue.mpg.de, download version 1.1.0 and put "
            f"basicmodel_{letter}_lbs_10_207_0_v1.1.0.pkl, as it is or as SMPL_{gender.upper()}.pkl, into {folder}"
        )
    return folder / found[0]


def _landmarks(fields: Mapping[str, Any], size: int, is_smpl: bool) -> dict[str, int]:
    if "landmark_names" in fields:
        names = [str(name) for name in np.atleast_1d(_array(fields, "landmark_names"))]
        index = _whole_numbers(fields, "landmark_index").ravel().tolist()
        if len(names) != len(index) or not all(0 <= i < size for i in index):
            raise UserError(f"landmark_names and landmark_index do not name vertices of a mesh of {size}")
        return dict(zip(names, index, strict=True))
    if not is_smpl:
        return {}
    known = vertex_ids["smplh"]  # SMPL and SMPL-H share the mesh
    return {"head_top": _SMPL_HEAD_TOP, **{name: known[key] for name, key in _SMPL_LANDMARK_KEYS.items()}}
