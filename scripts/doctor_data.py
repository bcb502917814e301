"""What the doctor says about the data of training and evaluation: label files, motions, fits, optional packages."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from diffhmr.datasets.labels import Labels, read_labels
from diffhmr.errors import UserError
from diffhmr.evaluation.protocols import PROTOCOLS
from diffhmr.fitting.fits import FitDictionary, Source
from scripts.doctor_clips import evaluation, protocols_of_clips, wanted_clips
from scripts.doctor_wanted import PROHMR_SITE, SPIN_FILES, Details, Finding, Incomplete, Wanted, matching
from scripts.prepare_3dpw import ThreeDpw
from scripts.prepare_amass import Amass, read_meta
from scripts.prepare_coco import Coco
from scripts.prepare_emdb import Emdb
from scripts.prepare_h36m import Human36M
from scripts.prepare_hr_lspet import HrLspet
from scripts.prepare_lsp import Lsp
from scripts.prepare_mpi_inf_3dhp import MpiInf3dhp
from scripts.prepare_mpii import Mpii

PICTURES_LOOKED_AT = 500
"""Of a label file; those of many rows are too many to look for all of them."""

_MIXTURE = "training: configs/diffhmr_r50.yaml, configs/diffhmr_r50_card.yaml"
_WATCHED = "validation while training: configs/diffhmr_r50.yaml, configs/diffhmr_r50_card.yaml"


@dataclass(frozen=True)
class Split:
    """A split of a data set.

    Attributes:
        name: as ``--splits`` has it.
        use: besides protocols.
        crops: whether pictures that are cut out are what it is used with.
    """

    name: str
    use: str = ""
    crops: bool = False


@dataclass(frozen=True)
class PreparedSet:
    """A data set that ``scripts/prepare_*.py`` make label files of.

    Attributes:
        name: of the folder in ``data/``.
        source: the official page.
        command: that prepares it.
        splits: that it has.
    """

    name: str
    source: str
    command: str
    splits: tuple[Split, ...]

    def remedy(self, data: Path, split: Split, path: Path) -> str:
        """What to do where ``path`` is not there, or is no good."""
        command = f"{self.command} {'--crops ' if path.stem.endswith('_crops') else ''}--splits {split.name}"
        if path.exists():
            return f"if need be, delete {path} and make it again: `{command}`"
        return (
            f"unpack the release of {self.source} into {data / 'raw' / self.name} (`{self.command} --check` says which "
            f"archives), then `{command}`"
        )


def _module(name: str) -> str:
    return f"python -m scripts.prepare_{name}"


_TRAIN = Split("train", _MIXTURE, crops=True)
PREPARED = (
    PreparedSet(
        ThreeDpw.name, ThreeDpw.source, _module("3dpw"),
        (
            Split("train", "training on 3DPW, which no settings here do", crops=True),
            Split("validation", _WATCHED, crops=True), Split("test"), Split("occ"),
        ),
    ),
    PreparedSet(Emdb.name, Emdb.source, _module("emdb"), (Split("emdb1"),)),
    PreparedSet(
        Human36M.name, Human36M.source, _module("h36m"),
        (_TRAIN, Split("valid_protocol1"), Split("valid_protocol2")),
    ),
    PreparedSet(MpiInf3dhp.name, MpiInf3dhp.source, _module("mpi_inf_3dhp"), (_TRAIN, Split("valid"))),
    PreparedSet("coco2014", Coco.source, f"{_module('coco')} --year 2014", (_TRAIN, Split("val"))),
    PreparedSet(
        "coco2017", Coco.source, f"{_module('coco')} --year 2017",
        (Split("train", "training with more people than coco2014 has, in its place", crops=True), Split("val")),
    ),
    PreparedSet(Mpii.name, Mpii.source, _module("mpii"), (_TRAIN,)),
    PreparedSet(
        Lsp.name, Lsp.source, _module("lsp"),
        (_TRAIN, Split("test", "2D labels to look at; no protocol uses them")),
    ),
    PreparedSet(HrLspet.name, HrLspet.source, _module("hr_lspet"), (_TRAIN,)),
)  # fmt: skip
"""The data sets with label files."""

_MOTIONS = PreparedSet(Amass.name, Amass.source, _module("amass"), (Split("train"), Split("validation"), Split("test")))

STATIC_FITS = {"lsp-orig": "lsp", "lspet": "hr_lspet", "mpii": "mpii", "coco": "coco2014"}
"""SPIN's names of the data sets whose fits are used, and the folders of their label files."""

OPTIONAL_PACKAGES = {
    "h5py": "MATLAB's newer files: the boxes of Human3.6M, the test set of MPI-INF-3DHP; SPIN's train.h5 of MPII",
    "cdflib": "the poses of Human3.6M",
    "webdataset": "--shards of the preparations, and python -m scripts.unpack_shards",
}


def wanted_data(root: Path) -> Iterator[Wanted]:
    """All data below the project folder ``root``."""
    data = root / "data"
    for prepared in PREPARED:
        for split in prepared.splits:
            yield from _label_files(data, prepared, split)
    yield from _motions(data)
    yield from _fits(data)
    yield from wanted_clips(data)


def _label_files(data: Path, prepared: PreparedSet, split: Split) -> Iterator[Wanted]:
    """Every file of the split that is there; and the one that is wanted, if none is that can be used for it."""
    measured = [
        protocol
        for protocol in PROTOCOLS.values()
        if prepared.name in (protocol.folders or (protocol.dataset,))
        and f"{split.name}.npz" in protocol.files
        and not protocol.name.endswith("-free-body")
    ]
    folder = data / prepared.name
    plain, crops = folder / f"{split.name}.npz", folder / f"{split.name}_crops.npz"
    copies = {folder / name for protocol in measured for name in protocol.files if name.endswith(f"_{split.name}.npz")}
    useful = [crops, plain] if split.crops else [plain, *sorted(copies)]
    found = [path for path in useful if path.exists()]
    others = [crops] if crops.exists() and crops not in useful else []
    inspect = partial(inspect_label_file, dataset=prepared.name, split=split.name)
    for path in [*(found or useful[:1]), *others]:
        remedy = prepared.remedy(data, split, path)
        served = [protocol.name for protocol in measured if path in copies or protocol.files[0] == plain.name]
        served += protocols_of_clips(f"{prepared.name}/{path.name}")
        purpose = "; ".join(filter(None, (split.use, evaluation(served))))
        if path in others:
            purpose = "pictures cut out for training; protocols want whole ones"
        yield Wanted("prepared data", f"{prepared.name}/{path.name}", purpose, remedy, (path,), inspect)
    # What is in the label files of other projects only.
    for path in sorted({folder / protocol.files[0] for protocol in measured} - {plain, *found}):
        served = [protocol.name for protocol in measured if protocol.files[0] == path.name]
        remedy = f"take {path.name} of the data of ProHMR (fetch_data.sh of {PROHMR_SITE}) and put it at {path}"
        yield Wanted("prepared data", f"{prepared.name}/{path.name}", evaluation(served), remedy, (path,), inspect)


def inspect_label_file(path: Path, dataset: str, split: str) -> Details:
    """Number of rows, the pictures, and whether all of the release is in it.

    Raises:
        UserError: it is damaged, or of another data set or split.
        Incomplete: pictures are missing, or it was made of a part of the release.
    """
    labels = read_labels(path)
    theirs = labels.meta.get("dataset", dataset), labels.meta.get("split", split)
    if theirs != (dataset, split):
        raise UserError(f"{path} is {theirs[0]} {theirs[1]}, not {dataset} {split}")
    details: Details = {"rows": len(labels)}
    lacks = []
    if "images" in labels.meta:
        folder = path.parent / str(labels.meta["images"])
        details["pictures"], lack = _pictures(labels, folder)
        lacks += [lack] if lack else []
    else:
        details["pictures"] = "the file does not say where, give --images"
    return _whole(details, labels.meta, lacks)


def _whole(details: Details, meta: dict[str, Any], lacks: list[str]) -> Details:
    """``details`` with what the file says about the release of which it was made.

    Raises:
        Incomplete: something is lacking.
    """
    ours = "pieces" in meta
    details["release"] = "partial" if meta.get("partial") else "complete" if ours else "not said"
    if parts := meta.get("partial"):
        words = "; ".join(map(str, parts)) if isinstance(parts, list) else str(parts)
        lacks.append(f"made of a part of the release only ({words}): complete it")
    if lacks:
        raise Incomplete(details, "; ".join(lacks))
    return details


def _pictures(labels: Labels, folder: Path) -> tuple[str, str]:
    """What there is of the pictures, and what is lacking or ""."""
    if not folder.is_dir():
        return "missing", f"the folder {folder} of its pictures is missing: put it back"
    names = np.unique(labels.imgname)
    chosen = names[np.unique(np.linspace(0, len(names) - 1, PICTURES_LOOKED_AT).astype(np.int64))]
    absent = [name for name in chosen if not (folder / name).is_file()]
    if not absent:
        return str(folder), ""
    state = f"{len(chosen) - len(absent)} of {len(chosen)} looked at"
    return state, f"of its pictures {folder} has {state}, not {absent[0]}: put them back"


def _motions(data: Path) -> Iterator[Wanted]:
    for split in _MOTIONS.splits:
        path = data / _MOTIONS.name / split.name / "poses.npz"
        purpose = f"synthetic people in captured poses: data.archive={path.parent}"
        remedy = _MOTIONS.remedy(data, split, path)
        name = path.relative_to(data).as_posix()
        yield Wanted("prepared data", name, purpose, remedy, (path,), inspect_motions)


def inspect_motions(path: Path) -> Details:
    """Number of frames.

    Raises:
        UserError: it is damaged.
        Incomplete: it was made of a part of the release.
    """
    if not zipfile.is_zipfile(path):
        raise UserError(f"{path} is cut off or no .npz file")
    with zipfile.ZipFile(path) as archive:
        damaged = _first_damaged(archive)
    if damaged:
        raise UserError(f"{path} is damaged ({damaged})")
    try:
        frames, meta = read_meta(path)
        return _whole({"frames": frames}, meta, [])
    except (TypeError, AttributeError) as error:  # arrays of other shapes, or JSON that is no dictionary
        raise UserError(f"{path} was not made by scripts.prepare_amass ({error})") from error


def _first_damaged(archive: zipfile.ZipFile) -> str | None:
    try:
        return archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        return str(error) or type(error).__name__


def _fits(data: Path) -> Iterator[Wanted]:
    folder = data / "static_fits"
    get = (
        f"take static_fits of SPIN's data, {SPIN_FILES}/static_fits.tar.gz, and put it at {folder}; or train with "
        "fitting.fits=null, without them, or with fitting.in_the_loop=true"
    )
    for name, set_name in STATIC_FITS.items():
        path = folder / f"{name}_fits.npy"
        purpose = f"training: shapes and poses of the source {name} of configs/diffhmr_r50.yaml (fitting.fits={folder})"
        inspect = partial(inspect_fits, labels=data / set_name)
        yield Wanted("static fits", path.name, purpose, get, (path,), inspect)
    for path in matching(folder, r".+_fits\.npy"):
        name = path.name.removesuffix("_fits.npy")
        if name not in STATIC_FITS:
            purpose = f"training with a source of the name {name} and fitting.fits={folder}"
            yield Wanted("static fits", path.name, purpose, "delete it or get it again", (path,), inspect_fits)


def inspect_fits(path: Path, labels: Path | None = None) -> Details:
    """Number of rows.

    Args:
        path: ``NAME_fits.npy``.
        labels: folder of the label file ``train_crops.npz`` or ``train.npz`` to whose rows they belong.

    Raises:
        UserError: it is damaged, or the label file, which is there, has another number of rows.
    """
    try:
        shape = np.load(path, mmap_mode="r", allow_pickle=False).shape
    except (OSError, ValueError, EOFError, AttributeError) as error:
        raise UserError(f"{path} is no readable .npy file ({error})") from error
    rows = shape[0] if shape else 0
    FitDictionary([Source(path.name.removesuffix("_fits.npy"), rows)]).load(path.parent)
    details: Details = {"rows": rows}
    files = [] if labels is None else [labels / name for name in ("train_crops.npz", "train.npz")]
    file = next((file for file in files if file.exists()), None)
    count = None if file is None else _count_rows(file)
    if count is not None and count != rows:
        raise UserError(
            f"{path} has {rows} rows, {file} {count}: fits belong to the rows of SPIN's own label files; make the file "
            "of the same people (MPII: --spin-h5 train.h5), or do without these fits"
        )
    if count is not None:
        details["label file"] = str(file)
    return details


def _count_rows(path: Path) -> int | None:
    """Of a label file; None if it is damaged, which is said elsewhere."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return len(archive["imgname"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def optional_packages() -> list[Finding]:
    """Packages that some preparations need."""
    found = []
    for name, purpose in OPTIONAL_PACKAGES.items():
        try:
            details: Details = {"version": version(name)}
        except PackageNotFoundError:
            found.append(Finding("optional packages", name, "missing", None, purpose, 'pip install -e ".[data]"'))
        else:
            found.append(Finding("optional packages", name, "found", None, purpose, None, details))
    return found
