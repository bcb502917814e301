"""Shards as label file and crops again: python -m scripts.unpack_shards --shards DIR --out /local/disk/NAME

For training from network storage, which is slow with many small files: keep what ``prepare_NAME --shards`` wrote there,
unpack it onto the disk of the machine when a job begins, and train from ``OUT/SPLIT_crops.npz`` and ``OUT/crops``.
These are, byte for byte, the label file and the pictures that were packed. A run that was stopped goes on where it was.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from diffhmr.command_line import CommandParser, run_command
from diffhmr.errors import UserError
from diffhmr.files import ensure_folder


def main(argv: Sequence[str] | None = None) -> int:
    """The command."""
    parser = CommandParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=Path, required=True, metavar="DIR", help="folder with SPLIT.json and the tars")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--splits", metavar="A,B", help="only these, separated by commas (default: all)")
    arguments = parser.parse_args(argv)
    from scripts.preparation.job import require_space  # after the options were looked at
    from scripts.preparation.shards import unpack_shards

    there = sorted(path.stem for path in arguments.shards.glob("*.json"))
    splits = there if arguments.splits is None else arguments.splits.split(",")
    if not splits or not set(splits) <= set(there):
        raise UserError(f"{arguments.shards} has shards of {', '.join(there) or 'no split'}; make them with --shards")
    ensure_folder(arguments.out)
    indices = [arguments.shards / f"{split}.json" for split in splits]
    tars = [path for split in splits for path in arguments.shards.glob(f"{split}-*.tar")]
    require_space(arguments.out, sum(path.stat().st_size for path in tars))
    for index in indices:
        print(unpack_shards(index, arguments.out))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
