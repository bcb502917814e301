"""AMASS as pose archives for the synthetic people: python -m scripts.prepare_amass --root RAW

RAW is the folder in which the archives of the subsets, "SMPL+H G" (or "SMPL-X N"), were unpacked: ``CMU/01/
01_01_poses.npz`` ... (Mahmood et al., ICCV 2019). Writes ``train/poses.npz``, ``validation/poses.npz`` and
``test/poses.npz``, as far as their subsets are there; give a folder to ``data.archive``. The split is the usual one, by
subsets (Pavlakos et al., CVPR 2019).

A row is a frame: ``poses (N, 72)``, SMPL's rotations with straight hands, root in a world with z up, taken from the
recording at the nearest time. ``begins (N,)`` marks the first frame of each recording. Shapes are dropped: synthetic
people have their own. Left out are recordings that are short, slower than --fps, or in which a joint jumps.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from scipy.spatial.transform import Rotation

from diffhmr.command_line import run_command
from diffhmr.errors import UserError
from diffhmr.files import atomic_path
from diffhmr.motion.amass_layout import FRAMERATE_KEYS, NUM_SHARED_JOINTS, UNREADABLE
from scripts.preparation import job
from scripts.preparation.contract import COUNT, FileKind, Finding, Piece, State

SITE = "https://amass.is.tue.mpg.de"
SPLITS = {
    "validation": (("HumanEva",), ("HDM05", "MPI_HDM05"), ("SFU",), ("MoSh", "MPI_mosh")),
    "test": (("Transitions", "Transitions_mocap"), ("SSM", "SSM_synced")),
}
"""Subsets of these splits, each under its names in both kinds of archives; all others are for training."""

TRAIN = "train"
MAX_TURN = np.pi / 2
"""Radians that a joint turns between frames of a recording at most: more is a broken frame, not a motion."""

LEFT_OUT = ("excluded", "too short", "slower than --fps", "with jumps")
"""Why recordings are."""

_PATTERNS = ("*_poses.npz", "*_stageii.npz")
_SOURCE_FRAME_BYTES = 1350  # of a recording of SMPL+H, 120 frames per second in most
_SOURCE_FPS = 120
_FORMAT = "diffhmr-poses"
_VERSION = 1


@dataclass(frozen=True)
class Amass:
    """The preparation of AMASS.

    Attributes:
        fps: frames per second to take.
        min_seconds: shorter recordings are left out.
        exclude: patterns such as ``CMU/86/*`` of recordings to leave out.
    """

    fps: float = 10.0
    min_seconds: float = 1.0
    exclude: tuple[str, ...] = ()

    name = "amass"
    source = SITE
    licence = "non-commercial scientific research; motions may not be passed on"

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> Amass:
        """As the options say."""
        if not 0 < arguments.fps <= 240:
            raise UserError(f"--fps {arguments.fps} is not in 0 ... 240")
        if arguments.min_seconds < 0:
            raise UserError(f"--min-seconds {arguments.min_seconds} is negative")
        return cls(arguments.fps, arguments.min_seconds, tuple(arguments.exclude))

    def check(self, root: Path) -> list[Finding]:
        """Number of recordings of each subset that is there, and the subsets that a split lacks.

        How many recordings a subset has is not known here: each release has some more.
        """
        remedy = f'register at {SITE}, download subsets as "SMPL+H G" and unpack them side by side, as RAW/CMU/01/...'
        counts = {subset: count for subset in _subsets(root) if (count := len(_recordings(root / subset)))}
        total = sum(counts.values())
        findings = [Finding("recordings", root, "found" if total else "missing", f"{total} files", True, remedy)]
        for split in (TRAIN, *SPLITS):
            theirs = [f"{subset} {count}" for subset, count in counts.items() if split_of(subset) == split]
            absent = [names[0] for names in SPLITS.get(split, ()) if counts.keys().isdisjoint(names)]
            if not theirs and not absent:
                absent = ["the other subsets"]
            state: State = "missing" if not theirs else "incomplete" if absent else "found"
            detail = ", ".join(theirs + ([f"none of {', '.join(absent)}"] if absent else []))
            findings.append(Finding(f"subsets for {split}", root, state, detail, False, splits=(split,)))
        return findings

    def pieces(self, root: Path, splits: Sequence[str] | None) -> list[Piece]:
        """One per folder of recordings, of a subject or a session."""
        found = []
        for subset in _subsets(root):
            split = split_of(subset)
            if splits is not None and split not in splits:
                continue
            for folder in sorted({path.parent for path in _recordings(root / subset)}):
                _require_top(root, folder)
                files = _recordings(folder, deep=False)
                frames = sum(path.stat().st_size for path in files) / _SOURCE_FRAME_BYTES
                rows = round(frames * min(1.0, self.fps / _SOURCE_FPS)) + len(files)
                found.append(Piece(split, _key(root, folder), rows=rows))
        order = (TRAIN, *SPLITS)
        return sorted(found, key=lambda piece: order.index(piece.split))

    def convert(self, root: Path, piece: Piece) -> dict[str, np.ndarray]:
        """The frames of all recordings of a folder."""
        counts = dict.fromkeys(LEFT_OUT, 0)
        poses, begins = [np.zeros((0, 72), np.float32)], [np.zeros(0, bool)]
        for _, recorded, framerate in self.recordings(root, piece, counts):
            chosen = frame_indices(len(recorded), framerate, self.fps)
            frames = np.zeros((len(chosen), 72), np.float32)
            frames[:, : 3 * NUM_SHARED_JOINTS] = recorded[chosen]
            poses.append(frames)
            begins.append(np.arange(len(chosen)) == 0)
        return {
            "poses": np.concatenate(poses),
            "begins": np.concatenate(begins),
            **{f"{COUNT}recordings {reason}": np.array(number) for reason, number in counts.items()},
        }

    def recordings(self, root: Path, piece: Piece, counts: dict[str, int]) -> Iterator[tuple[Path, np.ndarray, float]]:
        """Those of a folder that are used: file, poses ``(N, 66)`` and frame rate.

        Args:
            root: of the release.
            piece: the folder.
            counts: of recordings by the reason in :data:`LEFT_OUT`; is added to.
        """
        for path in _recordings(root / unquote(piece.key.replace("+", "%")), deep=False):
            name = path.relative_to(root).as_posix()
            if any(fnmatch.fnmatch(name, pattern) for pattern in self.exclude):
                counts["excluded"] += 1
                continue
            recorded, framerate = read_recording(path)
            if len(recorded) < self.min_seconds * framerate:
                counts["too short"] += 1
            elif framerate < 0.99 * self.fps:
                counts["slower than --fps"] += 1
            elif jumps(recorded):
                counts["with jumps"] += 1
            else:
                yield path, recorded, framerate

    def image_root(self, root: Path) -> Path:
        """There are no pictures."""
        return root

    def extracted_images(self, root: Path, piece: Piece) -> None:  # noqa: ARG002 - of Preparation
        """There are no pictures."""
        return


def split_of(subset: str) -> str:
    """The split of a subset."""
    return next((split for split, subsets in SPLITS.items() if any(subset in names for names in subsets)), TRAIN)


def frame_indices(count: int, framerate: float, fps: float) -> np.ndarray:
    """Frames of a recording of ``count`` at ``framerate`` that are nearest to the times 0, 1/fps, 2/fps ..."""
    last = int(np.floor((count - 1) * fps / framerate + 1e-9))
    return np.minimum(np.rint(np.arange(last + 1) * framerate / fps).astype(np.int64), count - 1)


def jumps(poses: np.ndarray) -> bool:
    """Whether a joint of ``poses (N, 66)`` turns by more than :data:`MAX_TURN` between neighbouring frames."""
    if len(poses) < 2:
        return False
    rotations = Rotation.from_rotvec(poses.reshape(-1, 3)).as_quat().reshape(len(poses), -1, 4)
    cosine_of_half = np.abs((rotations[1:] * rotations[:-1]).sum(axis=-1))
    return bool((cosine_of_half < np.cos(MAX_TURN / 2)).any())


def read_recording(path: Path) -> tuple[np.ndarray, float]:
    """Poses ``(N, 66)`` and the frame rate.

    Raises:
        UserError: the file is damaged or is no recording of AMASS.
    """
    remedy = "unpack its archive again, or leave it out with --exclude"
    try:
        with np.load(path, allow_pickle=False) as content:
            poses = content["poses"]
            framerate = float(content[next(key for key in FRAMERATE_KEYS if key in content.files)])
    except (*UNREADABLE, StopIteration) as error:
        reason = str(error) or type(error).__name__
        raise UserError(f"{path} is no readable recording with poses and a frame rate ({reason}); {remedy}") from error
    if poses.ndim != 2 or poses.shape[1] < 3 * NUM_SHARED_JOINTS or poses.dtype.kind != "f":
        raise UserError(
            f"{path}: poses has shape {poses.shape} and type {poses.dtype}, expected (frames, at least "
            f"{3 * NUM_SHARED_JOINTS}) numbers; {remedy}"
        )
    poses = poses[:, : 3 * NUM_SHARED_JOINTS].astype(np.float64)
    if not np.isfinite(poses).all() or not np.isfinite(framerate) or framerate <= 0:
        raise UserError(f"{path}: poses or frame rate ({framerate}) are not finite and positive; {remedy}")
    return poses, framerate


def _subsets(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []


def _recordings(folder: Path, deep: bool = True) -> list[Path]:
    found = folder.rglob if deep else folder.glob
    # Names with a dot in front are what macOS puts into archives beside the files.
    return sorted(path for pattern in _PATTERNS for path in found(pattern) if not path.name.startswith("."))


def _require_top(root: Path, folder: Path) -> None:
    """Raises: UserError: a subset for validation or test lies below another folder, whose split it would get."""
    known = {name for subsets in SPLITS.values() for names in subsets for name in names}
    inner = known.intersection(folder.relative_to(root).parts[1:])
    if inner:
        raise UserError(f"{folder}: the subset {min(inner)} lies too deep; give the folder of the subsets as --root")


def _key(root: Path, folder: Path) -> str:
    """The name of a folder as a safe file name from which it can be had back."""
    return quote(folder.relative_to(root).as_posix(), safe="").replace("%", "+")


def write_poses(path: Path, rows: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    """Write an archive as :mod:`diffhmr.datasets.archive` reads it."""
    complete = {**meta, "format": _FORMAT, "version": _VERSION}
    arrays = {
        "meta": np.array(json.dumps(complete, sort_keys=True)),
        "mocap_framerate": np.array(float(meta["settings"]["fps"])),
        **rows,
    }
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def read_meta(path: Path) -> tuple[int, dict[str, Any]]:
    """Number of frames and meta data of an archive.

    Raises:
        UserError: it is none of ours.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            meta = json.loads(str(content["meta"]))
            if not isinstance(meta, dict):
                raise ValueError("its meta data are no table")
            return len(content["begins"]), meta
    except (*UNREADABLE, AttributeError) as error:
        raise UserError(f"{path} was not made by this command ({error}); move it away") from error


def _place(split: str) -> Path:
    return Path(split, "poses.npz")


ARCHIVE = FileKind(_place, write_poses, read_meta, row_bytes=290, pictures=False)


def add_options(parser: argparse.ArgumentParser, fps: float = 10.0) -> None:
    """Add the options that say which frames are used."""
    parser.add_argument("--fps", type=float, default=fps, metavar="F", help="frames per second (default: %(default)s)")
    parser.add_argument(
        "--min-seconds", type=float, default=1.0, metavar="S",
        help="leave out shorter recordings (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--exclude", action="append", default=[], metavar="PATTERN",
        help="leave out recordings such as 'CMU/86/*'; may be repeated",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    return job.main(Amass.of, argv, description=__doc__, add_options=add_options, kind=ARCHIVE)


if __name__ == "__main__":
    sys.exit(run_command(main))
