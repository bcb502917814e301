"""Preparations in a process of their own that are killed halfway."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_until_killed(commands: Sequence[tuple[str, list[str]]], after: int) -> None:
    """Run scripts with one row per piece; each gets SIGKILL when it wants to keep piece ``after`` (from 0).

    Args:
        commands: module and arguments of each script.
        after: how many pieces each may keep.
    """
    words = [sys.executable, "-m", "tests.scripts.preparing", str(after), json.dumps(commands)]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == [signal.SIGKILL] * len(commands), result.stderr


def tree(folder: Path) -> dict[str, bytes]:
    """The content of all files below a folder, by their names in it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _run_and_die(module: str, arguments: list[str], after: int) -> None:
    from scripts.preparation import outputs, people2d

    people2d.PIECE_ROWS = 1
    save = outputs.Output.save
    kept: list[str] = []

    def save_or_die(output: outputs.Output, piece: outputs.Piece, rows: people2d.Rows) -> None:
        if len(kept) == after:
            os.kill(os.getpid(), signal.SIGKILL)
        save(output, piece, rows)
        kept.append(piece.key)

    outputs.Output.save = save_or_die  # type: ignore[assignment, method-assign]
    import_module(module).main(arguments)


def main() -> None:
    """A child for each command; prints by which signals they ended."""
    # They take long: once for all children.
    import_module("diffhmr.datasets.labels")
    import_module("scripts.preparation.outputs")

    ends = []
    for module, arguments in json.loads(sys.argv[2]):
        child = os.fork()
        if not child:
            _run_and_die(module, arguments, int(sys.argv[1]))
            os._exit(0)
        ends.append(os.WTERMSIG(os.waitpid(child, 0)[1]))
    sys.stdout.write(json.dumps(ends) + "\n")


if __name__ == "__main__":
    main()
