"""The command line that all preparations share: check what is there, convert piece by piece, resume where it stopped.

A data set is a :class:`Preparation`: it says what it needs, in which pieces it is converted, and what the rows of a
piece are. :func:`main` does the rest.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from diffhmr.command_line import CommandParser
from diffhmr.errors import UserError
from diffhmr.files import ensure_folder
from scripts.preparation.contract import LABELS, FileKind, Finding, Options, Piece, Preparation

_UNKNOWN_ROWS = 5000  # of a piece that does not say
_CROP_BYTES = 60_000
_log = logging.getLogger(__name__)


def main(
    preparation: Preparation | Callable[[argparse.Namespace], Preparation],
    argv: Sequence[str] | None = None,
    *,
    description: str | None = None,
    add_options: Callable[[argparse.ArgumentParser], None] | None = None,
    kind: FileKind = LABELS,
) -> int:
    """Run the preparation of a data set as the command line asks; the exit code.

    Args:
        preparation: the data set, or what makes it of the options.
        argv: words of the command line; None: those of the process.
        description: for ``--help``.
        add_options: adds options of the data set to the parser.
        kind: of the files.

    Raises:
        UserError: an option is wrong, something that is needed is missing, damaged or of another kind, the disk is too
            small, or the output was made with other settings.
    """
    parser = CommandParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    _add_shared_options(parser, kind.pictures)
    if add_options is not None:
        add_options(parser)
    arguments = parser.parse_args(argv)
    made: Preparation = preparation(arguments) if callable(preparation) else preparation
    options = _options(arguments, made.name)
    if options.root.exists() and not options.root.is_dir():
        raise UserError(f"--root {options.root} is no folder; give the folder in which you unpacked the release")
    findings = made.check(options.root)
    if arguments.check:
        print(render_check(made, options, findings, kind))
        return 0
    lacking = _lacking(options, findings)
    _require_complete(made, options, lacking)
    pieces = _wanted_pieces(made, options)
    ensure_folder(options.out)
    with _only_process(options.out):
        _run(made, options, pieces, lacking, kind)
    return 0


def _add_shared_options(parser: argparse.ArgumentParser, pictures: bool) -> None:
    parser.add_argument("--root", type=Path, metavar="DIR", help="the unpacked release (default: data/raw/NAME)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write to (default: data/NAME)")
    parser.add_argument("--check", action="store_true", help="say what is there and what is missing, and do nothing")
    parser.add_argument("--splits", metavar="A,B", help="only these, separated by commas (default: all)")
    parser.add_argument(
        "--partial", action="store_true",
        help="convert what is there of an incomplete release; the files say that they are not whole",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default: %(default)s)")
    if not pictures:
        parser.set_defaults(crops=False, crop_margin=1.75, shards=False)
        return
    parser.add_argument(
        "--crops", action="store_true",
        help="also write pictures that are cut out around the people, and labels for them, SPLIT_crops.npz",
    )  # fmt: skip
    parser.add_argument(
        "--crop-margin", type=float, default=1.75, metavar="F",
        help="side of what is cut out over that of the box, for augmentation (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--shards", action="store_true", help="also pack crops and labels into shuffled tar shards; implies --crops"
    )


def _options(arguments: argparse.Namespace, name: str) -> Options:
    if not 1 <= arguments.crop_margin <= 10:
        raise UserError(f"--crop-margin {arguments.crop_margin} is not in 1 ... 10")
    if arguments.workers < 1:
        raise UserError(f"--workers {arguments.workers} is less than 1")
    splits = None if arguments.splits is None else tuple(filter(None, arguments.splits.split(",")))
    if splits == ():
        raise UserError("--splits names none; leave it out for all")
    return Options(
        root=arguments.root or Path("data", "raw", name),
        out=arguments.out or Path("data", name),
        splits=splits,
        crops=arguments.crops or arguments.shards,
        crop_margin=arguments.crop_margin,
        shards=arguments.shards,
        partial=arguments.partial,
        workers=arguments.workers,
    )


def render_check(preparation: Preparation, options: Options, findings: Sequence[Finding], kind: FileKind) -> str:
    """What ``--check`` prints."""
    lines = [
        f"{preparation.name} in {options.root}",
        f"  from     {preparation.source}",
        f"  licence  {preparation.licence}",
    ]
    width = max((len(finding.what) for finding in findings), default=0)
    remedies: dict[str, list[str]] = {}
    for finding in findings:
        optional = "" if finding.needed else " (optional)"
        detail = f"{finding.detail}  " if finding.detail else ""
        lines.append(f"  {finding.state:<10}  {finding.what:<{width}}  {detail}{finding.path}{optional}")
        if finding.state != "found" and finding.remedy:
            remedies.setdefault(finding.remedy, []).append(finding.what)
    for remedy, whats in remedies.items():
        which = "" if len(remedies) == 1 else f" {', '.join(whats)}"
        lines.append(f"  get{which}: {remedy}")
    if _lacking(options, findings):
        lines.append("  not complete: --splits converts splits that are, --partial what is there of the others")
    else:
        pieces = _wanted_pieces(preparation, options)
        size = estimated_bytes(pieces, options, kind)
        lines.append(f"  complete: writes {len(pieces)} pieces to {options.out}, about {_size(size)}")
    return "\n".join(lines)


def _lacking(options: Options, findings: Sequence[Finding]) -> list[Finding]:
    """What is needed for the wanted splits and not found."""
    wanted = options.splits
    return [
        finding
        for finding in findings
        if finding.needed
        and finding.state != "found"
        and (wanted is None or not finding.splits or set(finding.splits) & set(wanted))
    ]


def _require_complete(preparation: Preparation, options: Options, lacking: Sequence[Finding]) -> None:
    """With ``--partial`` only of what nothing is there."""
    stopping = [finding for finding in lacking if finding.state == "missing" or not options.partial]
    if stopping:
        first = stopping[0]
        more = f" and {len(stopping) - 1} more (see --check)" if len(stopping) > 1 else ""
        detail = f" ({first.detail})" if first.detail else ""
        remedy = first.remedy or f"get it from {preparation.source}"
        raise UserError(f"{preparation.name}: {first.what} {first.state}: {first.path}{detail}{more}; {remedy}")


def _wanted_pieces(preparation: Preparation, options: Options) -> list[Piece]:
    pieces = preparation.pieces(options.root, options.splits)
    lacking = set(options.splits or ()) - {piece.split for piece in pieces}
    if lacking or not pieces:
        known = sorted({piece.split for piece in preparation.pieces(options.root, None)})
        what = f"no split {', '.join(sorted(lacking))}" if lacking else "nothing to convert"
        raise UserError(f"{preparation.name}: {what} in {options.root}; there is {', '.join(known) or 'nothing'}")
    assert len({(piece.split, piece.key) for piece in pieces}) == len(pieces), "pieces with the same key"
    return pieces


def estimated_bytes(pieces: Sequence[Piece], options: Options, kind: FileKind) -> int:
    """About how much will be written, at the moment when it is most: joining the pieces, when all lie there twice."""
    rows = sum(piece.rows or _UNKNOWN_ROWS for piece in pieces)
    crops = rows * _CROP_BYTES * (options.crops + options.shards)
    pictures = 0 if options.crops else sum(piece.picture_bytes for piece in pieces)
    return 2 * rows * kind.row_bytes * (1 + options.crops) + crops + pictures


def require_space(folder: Path, needed: int) -> None:
    """Raises: UserError: less than ``needed`` bytes are free where ``folder`` lies."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(f"{folder} has {_size(free)} free, about {_size(needed)} are needed; choose another --out")


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


@contextmanager
def _only_process(folder: Path) -> Iterator[None]:
    """Lock a folder against other preparations; the system takes the lock back from killed ones."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise UserError(f"another preparation is writing to {folder}; wait for it or choose another --out") from error
    finally:
        os.close(handle)


def _run(
    preparation: Preparation, options: Options, pieces: Sequence[Piece], lacking: Sequence[Finding], kind: FileKind
) -> None:
    # They import what --check does without.
    from scripts.preparation.outputs import wanted_outputs
    from scripts.preparation.shards import write_shards

    wanted = wanted_outputs(preparation, options, pieces, lacking, kind)
    remaining = [piece for output in wanted for piece in output.remaining()]
    if remaining:
        require_space(options.out, estimated_bytes(sorted(set(remaining), key=pieces.index), options, kind))
    for output in wanted:
        output.complete(preparation, options)
        print(output.summary())
    if options.shards:
        for output in wanted:
            if output.cropped:
                print(write_shards(output.path, options.out / "crops", options.out / "shards"))
