"""Files that are made of pieces: each piece is kept when it is done, and the last one makes the file.

A piece lies in ``OUT/.parts/NAME/KEY.npz`` until ``OUT/NAME.npz`` is written. Everything is written under a temporary
name and renamed, so that whoever is killed leaves finished pieces and nothing else that counts.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from diffhmr.command_line import INTERRUPTED
from diffhmr.errors import UserError
from diffhmr.files import atomic_path, remove_leftovers, write_json
from scripts.preparation.contract import COUNT, LABELS, FileKind, Finding, Options, Piece, Preparation, settings_of
from scripts.preparation.crops import CropSettings, picture_files, write_crops, write_pictures

_PARTS = ".parts"
_SETTINGS = "settings.json"


@dataclass(frozen=True)
class Output:
    """A file to be.

    Attributes:
        out: folder of all output.
        stem: the split, with ``_crops`` if it is of crops.
        kind: of the file.
        split: its split.
        cropped: whether its pictures are cut out around the people.
        pieces: of which it is made, in order.
        meta: what the file says about itself, but for the counts.
    """

    out: Path
    stem: str
    kind: FileKind
    split: str
    cropped: bool
    pieces: tuple[Piece, ...]
    meta: dict[str, Any]

    @property
    def path(self) -> Path:
        """Of the file."""
        return self.out / self.kind.place(self.stem)

    @property
    def _parts(self) -> Path:
        return self.out / _PARTS / self.stem

    def _part(self, piece: Piece) -> Path:
        return self._parts / f"{piece.key}.npz"

    def remaining(self) -> list[Piece]:
        """The pieces that have to be done. Pieces that were done with other settings are thrown away.

        Raises:
            UserError: the file is there but was made with other settings.
        """
        if self.path.exists():
            self._require_same()
            return []
        settings = self._parts / _SETTINGS
        if not settings.is_file() or json.loads(settings.read_text(encoding="utf-8")) != self.meta:
            shutil.rmtree(self._parts, ignore_errors=True)
            return list(self.pieces)
        return [piece for piece in self.pieces if not zipfile.is_zipfile(self._part(piece))]

    def _require_same(self) -> None:
        _, theirs = self.kind.read(self.path)
        names = [*self.meta, *({"partial"} & theirs.keys() - self.meta.keys())]
        other = [name for name in names if theirs.get(name) != self.meta.get(name)]
        if other:
            raise UserError(
                f"{self.path} was made with other settings ({', '.join(other)}); delete it to make it again, or choose "
                "another --out"
            )

    def complete(self, preparation: Preparation, options: Options) -> None:
        """Do what remains and write the file."""
        remaining = self.remaining()
        if self.path.exists():
            self._remove_parts()
            return
        self._parts.mkdir(parents=True, exist_ok=True)
        write_json(self._parts / _SETTINGS, self.meta)
        work = _Work(preparation, options, self)
        done = len(self.pieces) - len(remaining)
        with tqdm(total=len(self.pieces), initial=done, desc=self.path.name, unit="piece", disable=None) as bar:
            for _ in work.all(remaining):
                bar.update()
        self._join()
        self._remove_parts()

    def save(self, piece: Piece, rows: dict[str, np.ndarray]) -> None:
        """Keep a finished piece."""
        assert all(array.dtype.kind != "O" for array in rows.values()), f"{piece.key}: rows of Python objects"
        with atomic_path(self._part(piece)) as temporary, open(temporary, "wb") as stream:
            np.savez(stream, **rows)  # type: ignore[arg-type]

    def _join(self) -> None:
        parts: list[dict[str, np.ndarray]] = []
        for piece in self.pieces:
            with np.load(self._part(piece), allow_pickle=False) as archive:
                parts.append({name: archive[name] for name in archive.files})
        names = list(parts[0])
        for piece, part in zip(self.pieces, parts, strict=True):
            assert part.keys() == set(names), f"{piece.key} has {sorted(part.keys() ^ set(names))} or lacks it"
        counts = {
            name[len(COUNT) :]: int(sum(part[name] for part in parts)) for name in names if name.startswith(COUNT)
        }
        rows: dict[str, np.ndarray] = {}
        for name in names:
            if not name.startswith(COUNT):
                rows[name] = np.concatenate([part.pop(name) for part in parts])
        if not len(next(iter(rows.values()))):
            left_out = "; ".join(f"{name}: {number}" for name, number in counts.items())
            raise UserError(f"{self.path}: no row is left for {self.split} ({left_out}); is the release complete?")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.path)
        self.kind.write(self.path, rows, {**self.meta, "counts": counts})

    def _remove_parts(self) -> None:
        shutil.rmtree(self._parts, ignore_errors=True)
        parent = self._parts.parent
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()

    def summary(self) -> str:
        """One line about the finished file."""
        count, meta = self.kind.read(self.path)
        counts = "".join(f"; {name}: {number}" for name, number in meta["counts"].items())
        return f"{self.path}: {count} rows{counts}"


def wanted_outputs(
    preparation: Preparation,
    options: Options,
    pieces: Sequence[Piece],
    lacking: Sequence[Finding] = (),
    kind: FileKind = LABELS,
) -> list[Output]:
    """The files that the options ask for; ``lacking`` is what is not complete.

    Pictures that are frames of videos are either written whole, for the label file, or cut out: with ``--crops`` there
    is no label file of whole pictures then.
    """
    found = []
    for split in dict.fromkeys(piece.split for piece in pieces):
        theirs = tuple(piece for piece in pieces if piece.split == split)
        videos = preparation.extracted_images(options.root, theirs[0]) is not None
        images = "images" if videos else str(preparation.image_root(options.root).resolve())
        wanted = [(False, split, images)] if not (videos and options.crops) else []
        if options.crops:
            wanted.append((True, f"{split}_crops", "crops"))
        for cropped, stem, folder in wanted:
            settings = settings_of(preparation)
            if cropped:
                settings["crop_margin"] = options.crop_margin
            meta = {
                "dataset": preparation.name,
                "split": split,
                "source": preparation.source,
                "licence": preparation.licence,
                "settings": settings,
                "pieces": len(theirs),
            }
            if kind.pictures:
                meta["images"] = folder
            if parts := [finding for finding in lacking if not finding.splits or split in finding.splits]:
                meta["partial"] = [f"{finding.what}: {finding.detail or finding.state}" for finding in parts]
            found.append(Output(options.out, stem, kind, split, cropped, theirs, meta))
    return found


@dataclass(frozen=True)
class _Work:
    """What a process needs to do pieces."""

    preparation: Preparation
    options: Options
    output: Output

    def all(self, pieces: Sequence[Piece]) -> Iterator[Piece]:
        """Do the pieces, in several processes if so wished; yields each that is done."""
        if self.options.workers == 1 or len(pieces) < 2:
            for piece in pieces:
                self.one(piece)
                yield piece
            return
        count = min(self.options.workers, len(pieces))
        with ProcessPoolExecutor(count, get_context("spawn"), _start_worker, (self,)) as pool:
            futures = {pool.submit(_do_in_worker, piece): piece for piece in pieces}
            try:
                for future in as_completed(futures):
                    future.result()
                    yield futures[future]
            except BrokenProcessPool as error:
                raise UserError(
                    "a worker process was killed, perhaps for want of memory; run again with fewer --workers"
                ) from error
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def one(self, piece: Piece) -> None:
        """Convert a piece, write its pictures and keep its rows."""
        root, out = self.options.root, self.options.out
        entries = self.preparation.convert(root, piece)
        rows = {name: np.asarray(array) for name, array in entries.items() if not name.startswith(COUNT)}
        counts = {name: np.asarray(number) for name, number in entries.items() if name.startswith(COUNT)}
        frames: Iterable[tuple[str, np.ndarray]] | None = self.preparation.extracted_images(root, piece)
        if self.output.cropped:
            if frames is None:
                frames = picture_files(self.preparation.image_root(root), rows["imgname"])
            folder = Path(piece.split, piece.key)
            rows, outside = write_crops(rows, frames, out / "crops", folder, CropSettings(self.options.crop_margin))
            counts[f"{COUNT}boxes outside the picture"] = np.asarray(outside)
        elif frames is not None:
            write_pictures(frames, out / "images", rows["imgname"])
        self.output.save(piece, {**rows, **counts})


_work: _Work | None = None  # of a worker process


def _start_worker(work: _Work) -> None:
    global _work
    _work = work
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))  # Ctrl-C reaches all; what is done, stays
    cv2.setNumThreads(1)
    parent = parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)  # a killed parent cannot tell its workers

    threading.Thread(target=end_with_parent, daemon=True).start()


def _do_in_worker(piece: Piece) -> None:
    assert _work is not None
    _work.one(piece)
