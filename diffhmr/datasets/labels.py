"""Label files: one row per person in an image, in the ``.npz`` layouts of SPIN and ProHMR.

Files of SPIN (Kolotouros et al., ICCV 2019), of EFT in SPIN's layout, of ProHMR (Kolotouros et al., ICCV 2021) and of
HMR 2.0 (Goel et al., ICCV 2023) load as they are; our own files have SPIN's layout and say in an array ``meta`` what
they hold. The layouts differ in the unit of ``scale``, the side of the person's box: 200 px in SPIN's, 1 px in
ProHMR's. The unit is taken from the layout and checked against the extent of the 2D keypoints.
"""

from __future__ import annotations

import json
import logging
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from diffhmr.datasets.label_arrays import EXTRA, NUM_KEYPOINTS, PROHMR, SCHEMA, ArrayReader
from diffhmr.errors import UserError
from diffhmr.files import atomic_path, require_file

ScaleUnit = Literal["200px", "pixels"]

FORMAT = "diffhmr-labels"
VERSION = 1

_log = logging.getLogger(__name__)

_PIXELS: dict[ScaleUnit, float] = {"200px": 200.0, "pixels": 1.0}
# Both ranges are narrower than the factor of 200 between the units: a row can be plausible in one of them only.
_BOX_PER_EXTENT = (0.2, 20.0)  # box side over the larger extent of the confident keypoints
_BOX_PIXELS = (20.0, 3600.0)  # where there are no keypoints
_MANY_ROWS = 0.8
# Of ProHMR's layout, but a name that any file may have.
_BETAS = ("betas", "has_betas")
_SPIN_ONLY = ("part", "openpose", "S", "pose", "shape", "has_smpl")
_FEWEST_POINTS = 6


@dataclass(frozen=True, eq=False)
class Labels:
    """N people. Numbers are float32 unless said otherwise; a confidence of 0 means that a joint has no label.

    Attributes:
        imgname: ``(N,)`` str, path relative to the folder of the images, with ``/``.
        center: ``(N, 2)`` of the box, pixels of the stored image (EXIF orientation not applied).
        side: ``(N,)`` of the square box in pixels.
        keypoints: ``(N, 49, 3)`` pixels and confidence in the order of SPIN49: OpenPose 25, then GT 24.
        joints3d: ``(N, 49, 4)`` metres in the camera's orientation, and confidence.
        pose: ``(N, 72)`` axis-angle, global orientation first, in the camera's frame.
        betas: ``(N, 10)``.
        has_smpl: ``(N,)`` bool, ``pose`` and ``betas`` are labels.
        gender: ``(N,)`` int8: 0 male, 1 female, -1 unknown.
        extra: optional arrays of N rows: ``sequence``, ``camera``, ``subject``, ``action`` (str), ``frame`` (int64,
            from 0), ``valid`` (bool), ``image_size`` (int64, width and height), ``area`` (square pixels), ``bbox``
            (x, y, w, h of the tight box).
        meta: ``format``, ``scale_unit`` (of the file; ``side`` is in pixels) and, in our files, ``dataset``, ``split``,
            ``source``, ``licence``.

    Raises:
        ValueError: a shape does not fit.
    """

    imgname: np.ndarray
    center: np.ndarray
    side: np.ndarray
    keypoints: np.ndarray
    joints3d: np.ndarray
    pose: np.ndarray
    betas: np.ndarray
    has_smpl: np.ndarray
    gender: np.ndarray
    extra: dict[str, np.ndarray]
    meta: dict[str, Any]

    def __post_init__(self) -> None:
        tails: dict[str, tuple[int, ...]] = {
            "center": (2,), "side": (), "keypoints": (NUM_KEYPOINTS, 3), "joints3d": (NUM_KEYPOINTS, 4), "pose": (72,),
            "betas": (10,), "has_smpl": (), "gender": (),
        }  # fmt: skip
        arrays = {name: (getattr(self, name), tail) for name, tail in tails.items()}
        arrays |= {name: (array, EXTRA[name][0]) for name, array in self.extra.items()}
        for name, (array, tail) in arrays.items():
            if array.shape != (len(self), *tail):
                raise ValueError(f"Labels.{name} has shape {array.shape}, expected {(len(self), *tail)}")

    def __len__(self) -> int:
        return len(self.imgname)

    def rows(self, index: np.ndarray | slice) -> Labels:
        """The labels of the rows that ``index`` (integers, bools or a slice) selects."""
        names = [field.name for field in fields(self) if field.name not in ("extra", "meta")]
        arrays = {name: getattr(self, name)[index] for name in names}
        return replace(self, **arrays, extra={name: array[index] for name, array in self.extra.items()})


def read_labels(path: str | Path, scale_unit: ScaleUnit | None = None) -> Labels:
    """Read a label file of ours, SPIN, EFT, ProHMR or HMR 2.0.

    Args:
        path: the ``.npz`` file.
        scale_unit: unit of its ``scale``, taken as told; None: found out and checked.

    Raises:
        UserError: the file is missing, damaged or empty, would run code when read, lacks an array or holds one of a
            wrong shape or with numbers that are not finite, or the unit of ``scale`` is unclear.
    """
    path = require_file(path, "label file", "make it with python -m scripts.prepare_NAME, or see data/README.md")
    return _labels(_load(path), path, scale_unit)


def write_labels(path: str | Path, rows: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Check and write a label file; the same content gives the same bytes.

    Args:
        path: the ``.npz`` file to be.
        rows: arrays in SPIN's layout: ``imgname``, ``center``, ``scale`` (box side / 200), and any of ``part``,
            ``openpose``, ``S``, ``pose``, ``shape``, ``has_smpl``, ``gender`` ('m', 'f' or '') and of
            :attr:`Labels.extra`.
        meta: what the file holds: ``dataset`` and ``split``, and what else should be known.

    Raises:
        UserError: an array is unknown, or as in :func:`read_labels`; the file cannot be written.
    """
    path = Path(path)
    unknown = sorted(set(rows) - set(SCHEMA) - set(EXTRA))
    if unknown:
        raise UserError(f"{path}: label files have no array {', '.join(unknown)}")
    missing = [name for name in ("dataset", "split") if not meta.get(name)]
    if missing:
        raise UserError(f"{path}: the meta data lack {' and '.join(missing)}")
    complete = {**meta, "format": FORMAT, "version": VERSION, "scale_unit": "200px"}
    arrays = {"meta": np.array(json.dumps(complete, sort_keys=True))}
    for name, (_, kind) in {**SCHEMA, **EXTRA}.items():
        if name in rows:
            arrays[name] = _as_kind(np.ascontiguousarray(rows[name]), kind)
    _labels(arrays, path, None)
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def _as_kind(array: np.ndarray, kind: str) -> np.ndarray:
    """``array`` in the type that files hold, if its own goes with it."""
    if kind == "text" or array.dtype.kind not in "biuf":
        return array
    if kind == "number":
        return array.astype(np.float32)
    return array.astype(np.uint8) if kind == "flag" and np.isin(array, (0, 1)).all() else array


def _load(path: Path) -> dict[str, np.ndarray]:
    """All arrays of the file that anybody here reads."""
    known = {"meta", *SCHEMA, *EXTRA, *PROHMR}
    arrays = {}
    name = ""
    try:
        opened = np.load(path, allow_pickle=False)
        if isinstance(opened, np.ndarray):
            raise UserError(f"{path} is a single array; a label file is an .npz with imgname, center, scale ...")
        with opened as archive:
            for name in archive.files:
                if name in known:
                    arrays[name] = archive[name]
    except UserError:
        raise
    except ValueError as error:
        if "pickle" not in str(error):
            raise UserError(f"{path}: {name or 'the file'} cannot be read ({error})") from error
        what = f"{path}: {name} is a pickled object" if name else f"{path} is a pickle or no .npz file"
        raise UserError(
            f"{what}, which could run code; save plain arrays of numbers and text with numpy.savez"
        ) from error
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise UserError(f"{path}: damaged label file ({error}); copy or make it again") from error
    return arrays


def _labels(arrays: dict[str, np.ndarray], path: Path, scale_unit: ScaleUnit | None) -> Labels:
    """Checked labels from the arrays of a file."""
    for name in ("imgname", "center", "scale"):
        if name not in arrays:
            raise UserError(f"{path}: no array {name}; a label file needs imgname, center and scale")
    count = len(arrays["imgname"]) if arrays["imgname"].ndim else 0
    if not count:
        raise UserError(f"{path}: imgname holds no rows; a label file has one per person")
    reader = ArrayReader(arrays, path, count)
    prohmr = _is_prohmr(arrays, path)
    keypoints, joints3d = reader.points(prohmr)
    pose, betas, has_smpl = reader.parameters(prohmr)
    meta = _read_meta(arrays["meta"], path) if "meta" in arrays else {"format": "prohmr" if prohmr else "spin"}
    scale = reader.scale()
    unit = scale_unit or _scale_unit(scale, keypoints, meta, path)
    return Labels(
        imgname=np.char.replace(reader.text("imgname"), "\\", "/"),  # as SPIN's scripts write it on Windows
        center=reader.numbers("center", (2,)),
        side=(scale * _PIXELS[unit]).astype(np.float32),
        keypoints=keypoints,
        joints3d=joints3d,
        pose=pose,
        betas=betas,
        has_smpl=has_smpl,
        gender=reader.gender(),
        extra={name: reader.extra(name) for name in EXTRA if name in arrays},
        meta=meta | {"scale_unit": unit},
    )


def _is_prohmr(arrays: Mapping[str, np.ndarray], path: Path) -> bool:
    """Whether a file has ProHMR's layout and not SPIN's. What it holds of the other one is named, as it is not read."""
    prohmr = any(name in arrays for name in PROHMR if name not in _BETAS)
    others = [name for name in (_SPIN_ONLY if prohmr else PROHMR) if name in arrays]
    if others:
        layouts = ("ProHMR", "SPIN") if prohmr else ("SPIN", "ProHMR")
        _log.warning("%s: read as a file of %s; not read: %s (of %s)", path, layouts[0], ", ".join(others), layouts[1])
    return prohmr


def _read_meta(array: np.ndarray, path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(str(array))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: meta is no JSON ({error}); make the file again") from error
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise UserError(f"{path}: meta does not say format {FORMAT}; make the file again")
    if meta.get("version") != VERSION:
        raise UserError(f"{path}: labels of version {meta.get('version')}, this program reads {VERSION}; make it again")
    if meta.get("scale_unit") not in _PIXELS:
        raise UserError(f"{path}: meta says scale_unit {meta.get('scale_unit')!r}, known are {', '.join(_PIXELS)}")
    return meta


def _scale_unit(scale: np.ndarray, keypoints: np.ndarray, meta: Mapping[str, Any], path: Path) -> ScaleUnit:
    """The unit in which most boxes are of a plausible size.

    Raises:
        UserError: neither unit makes sense, both do, or another than the file says.
    """
    shares = {unit: _plausible_share(scale * pixels, keypoints) for unit, pixels in _PIXELS.items()}
    plausible = [unit for unit, share in shares.items() if share >= _MANY_ROWS]
    quoted = ", ".join(f"{share:.0%} of the boxes if in {unit}" for unit, share in shares.items())
    if len(plausible) != 1:
        raise UserError(
            f"{path}: the unit of scale is unclear (of plausible size are {quoted}); mend the boxes, or state the unit "
            "as scale_unit: 200px or pixels"
        )
    unit = plausible[0]
    usual = meta.get("scale_unit", "pixels" if meta["format"] == "prohmr" else "200px")
    if unit != usual and meta["format"] == FORMAT:
        raise UserError(f"{path}: meta says that scale is in {usual}, but the boxes are not ({quoted}); make it again")
    if unit != usual:
        _log.warning("%s: scale is in %s, unlike in other files of this layout (%s)", path, unit, quoted)
    return unit


def _plausible_share(side: np.ndarray, keypoints: np.ndarray) -> float:
    """Share of the boxes whose size goes with the keypoints, or with usual pictures where no row has enough of them."""
    seen = keypoints[..., 2] > 0
    low = np.where(seen[..., None], keypoints[..., :2], np.inf).min(axis=1)
    high = np.where(seen[..., None], keypoints[..., :2], -np.inf).max(axis=1)
    judged = seen.sum(axis=1) >= _FEWEST_POINTS
    extent = (high[judged] - low[judged]).max(axis=1)
    value, (least, most) = side, _BOX_PIXELS
    if judged.any():
        value, (least, most) = side[judged] / np.maximum(extent, 1.0), _BOX_PER_EXTENT
    return float(np.mean((value >= least) & (value <= most)))
