"""Measure a checkpoint: `python eval.py --checkpoint PATH --dataset synthetic`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from diffhmr.errors import UserError, run_command
from diffhmr.evaluation import DATASETS, EvaluationOptions, run
from diffhmr.evaluation_table import format_table


class Parser(argparse.ArgumentParser):
    """One clear line for a wrong option, like every other error."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{message}; see --help")


def parse_arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--checkpoint", required=True, type=Path, help="model file written by train.py")
    parser.add_argument("--dataset", required=True, choices=DATASETS, help="whose test people are used")
    parser.add_argument(
        "--num-samples", type=int, default=25, help="random bodies per person, besides the single answer"
    )
    parser.add_argument("--steps", type=int, help="steps of the sampler; default: as the checkpoint says")
    parser.add_argument("--seed", type=int, default=0, help="of the random samples")
    parser.add_argument("--limit", type=int, help="only the first people; default: all")
    parser.add_argument("--out", type=Path, help="JSON file to write; default: the table only")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    options = EvaluationOptions(arguments.num_samples, arguments.steps, arguments.seed, arguments.limit)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    result = run(arguments.checkpoint, arguments.dataset, options, arguments.out, device)
    print(format_table(result))
    if arguments.out is not None:
        print(f"\nwritten: {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
