"""Measure a checkpoint: python eval.py --checkpoint FILE --dataset synthetic [--out FILE.json]"""

from __future__ import annotations

import sys

from diffhmr.command_line import run_command
from diffhmr.evaluation.command import evaluate, parse_arguments


def main() -> int:
    arguments = parse_arguments()
    print(evaluate(arguments))
    for path in (arguments.out, arguments.dump):
        if path is not None:
            print(f"\nwritten: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
