"""Crops and their labels as tar shards in the layout of WebDataset, for training from network storage.

A sample is ``ROW.jpg``, the crop as it is, and ``ROW.json``, its row of the label file: the arrays under their names,
as nested lists whose numbers give the same float32 again. Samples are shuffled once, over all shards, because readers
shuffle within a window only. ``SPLIT.json`` lists the shards and is written last: where it is, all are there.

Training draws its people in an order of its own and from pictures that it can reach at any time. Storage that is slow
with many small files is read once, in large pieces, when a job begins: :func:`unpack_shards` gives label file and crops
on the disk of the machine. Other programs can stream the shards as they are.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from tarfile import TarError
from typing import Any

import numpy as np
from tqdm import tqdm

from diffhmr.datasets.label_arrays import EXTRA, SCHEMA
from diffhmr.datasets.labels import read_labels, write_labels
from diffhmr.errors import UserError
from diffhmr.files import atomic_path, ensure_folder, remove_leftovers, require_file, sha256_file, write_json

FORMAT = "diffhmr-shards"
VERSION = 1
SHARD_ROWS = 2000  # about 100 MB

_SHUFFLE_SEED = 0
_log = logging.getLogger(__name__)


def write_shards(labels: Path, images: Path, out: Path, shard_rows: int = SHARD_ROWS) -> str:
    """Pack a label file and its pictures; what is there already stays. Returns a line for the user.

    Args:
        labels: a label file of ours.
        images: folder of its pictures, which have to be JPEGs.
        out: folder of the shards, ``SPLIT-DIGEST-000000.tar`` ..., where the digest is that of the label file.
        shard_rows: samples per shard.

    Raises:
        UserError: webdataset is not installed, or a picture is missing.
    """
    split = read_labels(labels).meta["split"]
    index = ensure_folder(out) / f"{split}.json"
    digest = sha256_file(labels)
    if index.is_file():
        theirs = json.loads(index.read_text(encoding="utf-8"))
        same = theirs.get("labels_sha256") == digest and theirs.get("shard_rows") == shard_rows
        if same and all((out / shard["file"]).is_file() for shard in theirs["shards"]):
            return f"{index}: {theirs['rows']} rows in {len(theirs['shards'])} shards"
    with np.load(labels, allow_pickle=False) as archive:
        meta = json.loads(str(archive["meta"]))
        rows = {name: archive[name] for name in (*SCHEMA, *EXTRA) if name in archive.files}
    count = len(rows["imgname"])
    order = np.random.default_rng(_SHUFFLE_SEED).permutation(count)
    shards = []
    for number, first in enumerate(tqdm(range(0, count, shard_rows), desc=f"{split} shards", disable=None)):
        chosen = order[first : first + shard_rows]
        path = out / f"{split}-{digest[:8]}-{shard_rows}-{number:06d}.tar"
        if not path.is_file():
            remove_leftovers(path)
            _write_shard(path, _samples(rows, chosen, images))
        shards.append({"file": path.name, "rows": len(chosen), "bytes": path.stat().st_size})
    content: dict[str, Any] = {
        "format": FORMAT, "version": VERSION, "labels": meta, "labels_sha256": digest, "shard_rows": shard_rows,
        "rows": count, "shards": shards,
    }  # fmt: skip
    write_json(index, content)
    return f"{index}: {count} rows in {len(shards)} shards"


def _write_shard(path: Path, samples: Iterator[dict[str, Any]]) -> None:
    library = _webdataset()
    with atomic_path(path) as temporary:
        # No time stamps or names of users: the same samples give the same bytes.
        writer = library.TarWriter(str(temporary), user="diffhmr", group="diffhmr", encoder=False, mtime=0.0)
        try:
            for sample in samples:
                writer.write(sample)
        finally:
            writer.close()


def _samples(rows: dict[str, np.ndarray], chosen: np.ndarray, images: Path) -> Iterator[dict[str, Any]]:
    for row in chosen:
        path = require_file(
            images / str(rows["imgname"][row]), "crop", "delete the label file of crops to make it again"
        )
        content = {name: _plain(array[row]) for name, array in rows.items()}
        yield {
            "__key__": f"{row:08d}",
            "jpg": path.read_bytes(),
            "json": json.dumps(content, allow_nan=False).encode(),
        }


def _plain(value: np.ndarray) -> Any:
    """Lists of Python's numbers; float32 becomes the shortest decimal that gives it again."""
    array = np.asarray(value)
    if array.dtype == np.float32:
        array = array.astype(np.str_).astype(np.float64)
    return array.tolist()


def unpack_shards(index: Path, out: Path) -> str:
    """The label file and the crops that shards were made of, byte for byte. Returns a line for the user.

    Args:
        index: ``SPLIT.json``, beside the shards.
        out: becomes ``SPLIT_crops.npz`` and ``crops/``. Pictures that are there in the right size stay.

    Raises:
        UserError: webdataset is not installed, or a shard is missing, damaged or another one.
    """
    content = _read_index(index)
    rows: dict[int, dict[str, Any]] = {}
    for shard in tqdm(content["shards"], desc=index.name, unit="shard", disable=None):
        path = require_file(index.parent / shard["file"], "shard", "copy it again")
        samples = _read_shard(path)
        if len(samples) != shard["rows"]:
            raise UserError(f"{path} has {len(samples)} samples, {index} says {shard['rows']}; copy it again")
        for key, row, picture in samples:
            rows[key] = row
            if Path(row["imgname"]).is_absolute() or ".." in Path(row["imgname"]).parts:
                raise UserError(f"{path} would write outside of the folder ({row['imgname']}); it is not ours")
            target = out / "crops" / row["imgname"]
            if not (target.is_file() and target.stat().st_size == len(picture)):
                target.parent.mkdir(parents=True, exist_ok=True)
                with atomic_path(target) as temporary:
                    temporary.write_bytes(picture)
    if sorted(rows) != list(range(content["rows"])):
        raise UserError(f"the shards of {index} have {len(rows)} of {content['rows']} rows; copy them again")
    arrays = {name: np.array([rows[key][name] for key in range(len(rows))]) for name in rows[0]}
    labels = ensure_folder(out) / f"{index.stem}_crops.npz"
    write_labels(labels, arrays, content["labels"])
    if sha256_file(labels) != content["labels_sha256"]:
        _log.warning("%s holds the same rows, but not the same bytes as when the shards were made", labels)
    return f"{labels}: {len(rows)} rows"


def _read_index(path: Path) -> dict[str, Any]:
    require_file(path, "index of shards", "give the SPLIT.json beside the shards")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT or content["version"] != VERSION:
            raise ValueError(f"format {content['format']}, version {content['version']}")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no index of shards that this program reads ({error})") from error
    return dict(content)


def _read_shard(path: Path) -> list[tuple[int, dict[str, Any], bytes]]:
    """Row number, row and picture of each sample."""
    dataset = _webdataset().WebDataset(str(path), shardshuffle=False)
    try:
        return [(int(sample["__key__"]), json.loads(sample["json"]), sample["jpg"]) for sample in dataset]
    except (OSError, ValueError, KeyError, TarError) as error:
        raise UserError(f"{path} is no readable shard ({error}); copy it again") from error


def _webdataset() -> Any:
    try:
        import webdataset
    except ImportError as error:
        raise UserError('shards need the webdataset library: pip install -e ".[data]"') from error
    return webdataset
