"""Measure a checkpoint: python eval.py --checkpoint FILE --dataset synthetic [--out FILE.json]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from diffhmr.command_line import CommandParser, pick_device, run_command
from diffhmr.config import DATASETS


def parse_arguments() -> argparse.Namespace:
    parser = CommandParser(description="Measure a checkpoint on the test people of a data set, as a table and as JSON.")
    parser.add_argument("--checkpoint", required=True, type=Path, metavar="FILE", help="model file that train.py wrote")
    parser.add_argument("--dataset", required=True, choices=DATASETS, help="whose test people are used")
    parser.add_argument(
        "--num-samples", type=int, default=25, metavar="N",
        help="random bodies per person, besides the single answer (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--steps", type=int, metavar="K", help="of the sampler (default: what the checkpoint says)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the random samples (default: %(default)s)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N people (default: all)")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="where to write the result (default: nowhere)")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda if there is one, else cpu)")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()

    # Importing torch takes seconds: not before the options are known to be right.
    from diffhmr.evaluation import EvaluationOptions, run
    from diffhmr.evaluation_table import format_table

    options = EvaluationOptions(arguments.num_samples, arguments.steps, arguments.seed, arguments.limit)
    device = pick_device(arguments.device)
    result = run(arguments.checkpoint, arguments.dataset, options, arguments.out, device)
    print(format_table(result))
    if arguments.out is not None:
        print(f"\nwritten: {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
