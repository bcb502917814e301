"""Recorded motion as poses of SMPL's joints: python -m scripts.import_motion --input FILE_OR_FOLDER --out data/motion

Reads BVH, ASF/AMC (the .asf beside the .amc) and AMASS .npz, and writes one .npz per recording in the layout of AMASS.
--sheet draws frames of every motion, 12 motions to a picture, to judge them by eye: left limbs are blue, right ones are
orange. A skeleton whose joints cannot be told by their names needs --mapping, a file with lines "left_knee: NAME".
Files of AMASS have SMPL's joints and z up: --mapping and --up are not for them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from diffhmr.body.files import FREE_BODY
from diffhmr.body.model import BodyModel
from diffhmr.command_line import CommandParser, run_command
from diffhmr.errors import UserError
from diffhmr.files import atomic_path, ensure_folder, ensure_writable
from diffhmr.motion.acclaim import CMU_FPS, read_acclaim
from diffhmr.motion.amass import holds_motion, read_amass
from diffhmr.motion.amass_layout import MAX_FPS, MIN_FPS
from diffhmr.motion.bvh import read_bvh
from diffhmr.motion.joint_names import read_mapping
from diffhmr.motion.rest_body import RestBody, rest_body
from diffhmr.motion.retarget import UpAxis, retarget
from diffhmr.motion.sequence import Motion
from diffhmr.render.motion_strip import motion_strip

_SUFFIXES = (".bvh", ".amc", ".npz")
_PER_SHEET = 12
_COLUMNS = "{:<44} {:>7} {:>7} {:>8} {:>7} {:>8}  {}"


@dataclass(frozen=True)
class Settings:
    """How recordings are read."""

    rest: RestBody
    fps: float
    amc_fps: float
    mapping: dict[str, str] | None
    up: UpAxis


def main() -> int:
    """Command line."""
    parser = CommandParser(description="Turn recorded motion (BVH, ASF/AMC, AMASS) into poses of SMPL's joints.")
    add = parser.add_argument
    add("--input", type=Path, required=True, metavar="PATH", help="a recording, or a folder of them (with subfolders)")
    add("--out", type=Path, default=Path("data/motion"), metavar="FOLDER", help="to write to (default: %(default)s)")
    add("--fps", type=float, default=30.0, metavar="RATE", help="frames per second to write (default: %(default)s)")
    add("--amc-fps", type=float, metavar="RATE",
        help=f"frames per second of .amc files, which do not say (default: {CMU_FPS:g}, as CMU's)")  # fmt: skip
    add("--sheet", type=Path, metavar="FILE.png", help="draw the motions; more than 12 go to FILE-2.png and so on")
    add("--mapping", type=Path, metavar="FILE.yaml",
        help="which joint is which, for skeletons of .bvh and .amc with unknown names")  # fmt: skip
    add("--up", choices=("auto", "y", "z"), default="auto",
        help="vertical axis of .bvh and .amc files (default: %(default)s)")  # fmt: skip
    add("--body", type=Path, default=FREE_BODY, metavar="FILE", help="body model (default: the free body)")
    args = parser.parse_args()
    for option, value in (("--fps", args.fps), ("--amc-fps", CMU_FPS if args.amc_fps is None else args.amc_fps)):
        if not MIN_FPS <= value <= MAX_FPS:
            raise UserError(f"{option} is {value}: give {MIN_FPS:g} to {MAX_FPS:g} frames per second")
    if args.sheet is not None:
        if args.sheet.suffix.lower() != ".png":
            raise UserError(f"--sheet {args.sheet} should end in .png")
        ensure_writable(args.sheet)
    targets = plan(args.input, ensure_folder(args.out))
    refuse_idle_options(args, {source.suffix.lower() for source, _ in targets})
    mapping = None if args.mapping is None else read_mapping(args.mapping)
    body = BodyModel.load(args.body)
    settings = Settings(rest_body(body), args.fps, args.amc_fps or CMU_FPS, mapping, args.up)
    sheets = Sheets(args.sheet, body)
    print(_COLUMNS.format("recording", "frames", "seconds", "limbs", "trunk", "scale", "rig read from"))
    failures = []
    for source, target in targets:
        try:
            motion, facts = import_file(source, settings)
            motion.save(ensure_writable(target))
        except UserError as error:
            print(f"{source.name}: {error}")
            failures.append(source)
            continue
        sheets.add(motion)
        print(_COLUMNS.format(_shortened(source.name), len(motion), f"{motion.seconds:.1f}", *facts), flush=True)
    pages = sheets.close()
    print(f"{len(targets) - len(failures)} of {len(targets)} recordings written to {args.out}")
    print("limbs and trunk: mean angle in degrees between recorded and written bones; scale: metres per unit")
    if pages:
        print(f"sheets: {', '.join(map(str, pages))}")
    if failures:
        raise UserError(f"{len(failures)} recordings were left out, see above: {', '.join(map(str, failures))}")
    return 0


def plan(source: Path, out: Path) -> list[tuple[Path, Path]]:
    """Recordings and the files to write, in the folders of the input.

    Raises:
        UserError: there is no recording, or the files would be written among the recordings.
    """
    if not source.exists():
        raise UserError(f"--input {source} does not exist; give a .bvh, .amc or .npz file, or a folder of them")
    if source.is_file():
        if source.suffix.lower() not in _SUFFIXES:
            raise UserError(f"--input {source} is no recording that can be read: give .bvh, .amc (with .asf) or .npz")
        if source.suffix.lower() == ".npz" and out.resolve() == source.resolve().parent:
            raise UserError(f"--out {out} is the folder of the recording, which would be overwritten; choose another")
        return [(source, out / f"{source.stem}.npz")]
    if out.resolve().is_relative_to(source.resolve()):
        raise UserError(f"--out {out} lies inside of --input {source}; choose a folder outside")
    return list(_with_targets(source, out))


def _with_targets(source: Path, out: Path) -> Iterator[tuple[Path, Path]]:
    files = [path for path in sorted(source.rglob("*")) if path.suffix.lower() in _SUFFIXES and holds_motion(path)]
    if not files:
        raise UserError(f"--input {source} holds no .bvh, .amc or .npz file")
    names = [path.relative_to(source).with_suffix(".npz") for path in files]
    plain = [_folded(name) for name in names]
    taken: set[str] = set()
    for path, name in zip(files, names, strict=True):
        # Two formats of one recording must not become one file.
        twin = plain.count(_folded(name)) > 1
        wanted = name.with_stem(f"{name.stem}_{path.suffix[1:].lower()}") if twin else name
        free, number = wanted, 1
        while _folded(free) in taken or (free != name and _folded(free) in plain):
            number += 1
            free = wanted.with_stem(f"{wanted.stem}-{number}")
        taken.add(_folded(free))
        yield path, out / free


def _folded(name: Path) -> str:
    """Equal for names that are one file where capitals do not count."""
    return name.as_posix().casefold()


def refuse_idle_options(args: argparse.Namespace, suffixes: set[str]) -> None:
    """Raises: UserError: an option is given that none of the recordings, which have these suffixes, takes notice of."""
    given = {"--amc-fps": args.amc_fps is not None, "--mapping": args.mapping is not None, "--up": args.up != "auto"}
    serves = {"--amc-fps": {".amc"}, "--mapping": {".amc", ".bvh"}, "--up": {".amc", ".bvh"}}
    for option, kinds in serves.items():
        if given[option] and suffixes.isdisjoint(kinds):
            raise UserError(f"{option} is for {' and '.join(sorted(kinds))} files, and --input has none; leave it out")


def import_file(path: Path, settings: Settings) -> tuple[Motion, tuple[str, str, str, str]]:
    """A recording as a motion, and what the table says of it.

    Raises:
        UserError: it cannot be read or carried over.
    """
    suffix = path.suffix.lower()
    if suffix == ".npz":
        return read_amass(path, settings.rest).resample(settings.fps), ("-", "-", "1", "SMPL's own rotations")
    recording = read_bvh(path) if suffix == ".bvh" else read_acclaim(path, fps=settings.amc_fps)
    result = retarget(recording, settings.rest, settings.mapping, settings.up)
    facts = f"{result.limb_degrees:.2f}", f"{result.trunk_degrees:.2f}", f"{result.scale:.4g}", result.rest_pose
    return result.motion.resample(settings.fps), facts


class Sheets:
    """Pictures of motions, a page at a time."""

    def __init__(self, path: Path | None, body: BodyModel) -> None:
        self.path, self.body = path, body
        self.strips: list[np.ndarray] = []
        self.pages: list[Path] = []

    def add(self, motion: Motion) -> None:
        """Draw a motion; a full page is written."""
        if self.path is not None:
            self.strips.append(motion_strip(motion, self.body))
            if len(self.strips) == _PER_SHEET:
                self._write(self.path)

    def close(self) -> list[Path]:
        """Write what is left and return all pages."""
        if self.path is not None and self.strips:
            self._write(self.path)
        return self.pages

    def _write(self, path: Path) -> None:
        page = path if not self.pages else path.with_stem(f"{path.stem}-{len(self.pages) + 1}")
        width = max(strip.shape[1] for strip in self.strips)
        padded = [np.pad(strip, ((0, 4), (0, width - strip.shape[1]), (0, 0)), mode="edge") for strip in self.strips]
        with atomic_path(page) as temporary:
            if not cv2.imwrite(str(temporary), np.vstack(padded)[..., ::-1]):
                raise UserError(f"cannot write {page}: is the disk full?")
        self.pages.append(page)
        self.strips = []


def _shortened(name: str) -> str:
    return name if len(name) <= 44 else f"{name[:20]}...{name[-21:]}"


if __name__ == "__main__":
    sys.exit(run_command(main))
