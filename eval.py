"""Measure a checkpoint: python eval.py --checkpoint FILE --dataset synthetic [--out FILE.json]"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from diffhmr.command_line import CommandParser, pick_device, run_command
from diffhmr.evaluation.protocols import EVALUATED_DATASETS, PROTOCOLS, find_protocol


def parse_arguments() -> argparse.Namespace:
    parser = CommandParser(description="Measure a checkpoint on the test people of a data set, as a table and as JSON.")
    parser.add_argument("--checkpoint", required=True, type=Path, metavar="FILE", help="model file that train.py wrote")
    parser.add_argument("--dataset", required=True, choices=EVALUATED_DATASETS, help="whose test people are used")
    parser.add_argument(
        "--protocol", metavar="NAME",
        help=f"what is measured how, of {', '.join(PROTOCOLS)} (default: the first of the data set)",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the labels, or a label file (default: data/DATASET)"
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="of the pictures (default: what the labels say)")
    parser.add_argument(
        "--num-samples", type=int, metavar="N",
        help="random bodies per person, besides the single answer unless the protocol counts that (default: the "
        "protocol's, 25)",
    )  # fmt: skip
    parser.add_argument("--steps", type=int, metavar="K", help="of the sampler (default: what the checkpoint says)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the random samples (default: %(default)s)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N people (default: all)")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="where to write the result (default: nowhere)")
    parser.add_argument("--dump", type=Path, metavar="FILE.npz", help="errors and predictions of every person")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda if there is one, else cpu)")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    find_protocol(arguments.dataset, arguments.protocol)  # refuses what is unknown

    # Importing torch takes seconds: not before the options are known to be right.
    from diffhmr.evaluation.run import EvaluationOptions, Output, Source, run
    from diffhmr.evaluation.table import format_table

    source = Source(arguments.dataset, arguments.protocol, arguments.data, arguments.images)
    options = EvaluationOptions(arguments.num_samples, arguments.steps, arguments.seed, arguments.limit)
    output = Output(arguments.out, arguments.dump)
    result = run(arguments.checkpoint, source, options, output, pick_device(arguments.device))
    print(format_table(result))
    for path in (arguments.out, arguments.dump):
        if path is not None:
            print(f"\nwritten: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
