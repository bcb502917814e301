"""What ``eval.py`` takes, which of it goes together, and who evaluates what.

The file of a model says what it is. Here only names and options are looked at; torch is imported when they are known to
be right, as that takes seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffhmr.command_line import CommandParser, pick_device
from diffhmr.errors import UserError
from diffhmr.evaluation.clips.protocols import CLIP_DATASETS, CLIP_PROTOCOLS, find_clip_protocol
from diffhmr.evaluation.protocols import EVALUATED_DATASETS, PROTOCOLS, find_protocol
from diffhmr.evaluation.tasks.protocols import TASK_DATASETS, TASK_PROTOCOLS, find_task_protocol

_DATASETS = (*EVALUATED_DATASETS, *CLIP_DATASETS, *TASK_DATASETS)
_OF_CLIPS_ONLY: tuple[str, ...] = ("flip", "filter")
_OF_PEOPLE_ONLY: tuple[str, ...] = ("images",)
_NOT_OF_TASKS: tuple[str, ...] = ("images", "num_samples", "steps", "flip", "filter", "dump")


def parse_arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The options, known to go together.

    Raises:
        UserError: an option is unknown, missing, or does not belong to the data set.
    """
    arguments = _parser().parse_args(words)
    if arguments.dataset in CLIP_DATASETS:
        find_clip_protocol(arguments.dataset, arguments.protocol)
        foreign, others = _OF_PEOPLE_ONLY, "people in pictures"
    elif arguments.dataset in TASK_DATASETS:
        find_task_protocol(arguments.dataset, arguments.protocol)
        foreign, others = _NOT_OF_TASKS, "bodies"
    else:
        find_protocol(arguments.dataset, arguments.protocol)
        foreign, others = _OF_CLIPS_ONLY, f"sequences ({', '.join(CLIP_DATASETS)})"
    for name in foreign:
        if getattr(arguments, name):
            raise UserError(
                f"--{name.replace('_', '-')} is for {others}, but --dataset is {arguments.dataset}; leave it out"
            )
    _require_own_files(arguments)
    return arguments


def _require_own_files(arguments: argparse.Namespace) -> None:
    """What is written is no input, under whatever name it was given."""
    inputs = [path for path in (arguments.checkpoint, arguments.data) if path is not None]
    for option, path in (("--out", arguments.out), ("--dump", arguments.dump)):
        if path is not None and any(path.resolve() == given.resolve() for given in inputs):
            raise UserError(f"{option} {path} would overwrite an input; choose another name")
    if arguments.out is not None and arguments.out.suffix != ".json" and not arguments.out.is_dir():
        raise UserError(f"--out {arguments.out} should end in .json")


def evaluate(arguments: argparse.Namespace) -> str:
    """Run what the options say, write the files, and give the tables.

    Raises:
        UserError: the model, the data, a body or a file cannot be used, or the model does not go with the data set.
    """
    from diffhmr.evaluation.run import EvaluationOptions, Output

    options = EvaluationOptions(arguments.num_samples, arguments.steps, arguments.seed, arguments.limit)
    output = Output(arguments.out, arguments.dump)
    if arguments.dataset in CLIP_DATASETS:
        return _evaluate_clips(arguments, options, output)
    if arguments.dataset in TASK_DATASETS:
        return _evaluate_task(arguments)
    return _evaluate_people(arguments, options, output)


def _evaluate_people(arguments: argparse.Namespace, options: Any, output: Any) -> str:
    from diffhmr.evaluation.data import Source
    from diffhmr.evaluation.run import run
    from diffhmr.evaluation.table import format_table
    from diffhmr.model_file import MOTION_MODEL, is_of_format

    if is_of_format(arguments.checkpoint, MOTION_MODEL):
        raise UserError(
            f"{arguments.checkpoint} holds {MOTION_MODEL.holds}, which is measured on sequences: give --dataset "
            f"{' or '.join(CLIP_DATASETS)}"
        )
    source = Source(arguments.dataset, arguments.protocol, arguments.data, arguments.images)
    return format_table(run(arguments.checkpoint, source, options, output, pick_device(arguments.device)))


def _evaluate_clips(arguments: argparse.Namespace, options: Any, output: Any) -> str:
    from diffhmr.evaluation.clips.data import ClipSource
    from diffhmr.evaluation.clips.run import Around, run_clips
    from diffhmr.evaluation.clips.table import format_clip_table
    from diffhmr.motion_filter import parse_filter

    source = ClipSource(arguments.dataset, arguments.protocol, arguments.data)
    around = Around(arguments.flip, None if arguments.filter is None else parse_filter(arguments.filter))
    return format_clip_table(
        run_clips(arguments.checkpoint, source, options, around, output, pick_device(arguments.device))
    )


def _evaluate_task(arguments: argparse.Namespace) -> str:
    from diffhmr.evaluation.tasks.data import TaskSource
    from diffhmr.evaluation.tasks.run import format_task_table, run_task

    source = TaskSource(arguments.dataset, arguments.protocol, arguments.data)
    device = pick_device(arguments.device)
    return format_task_table(run_task(arguments.checkpoint, source, arguments.limit, arguments.out, device))


def _parser() -> CommandParser:
    parser = CommandParser(
        description="Measure a checkpoint on the test people or the test sequences of a data set, as a table and as "
        "JSON. A model of pictures that reads keypoints is measured on sequences frame by frame."
    )
    parser.add_argument("--checkpoint", required=True, type=Path, metavar="FILE", help="model file that train.py wrote")
    parser.add_argument("--dataset", required=True, choices=_DATASETS, help="whose test people or sequences are used")
    parser.add_argument(
        "--protocol", metavar="NAME",
        help=f"what is measured how, of {', '.join((*PROTOCOLS, *CLIP_PROTOCOLS, *TASK_PROTOCOLS))} (default: the "
        "first of the data set)",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the labels, or the file (default: that of the data set)"
    )
    parser.add_argument("--images", type=Path, metavar="DIR", help="of the pictures (default: what the labels say)")
    parser.add_argument(
        "--num-samples", type=int, metavar="N",
        help="random bodies per person, or motions per sequence, besides the single answer unless the protocol counts "
        "that (default: the protocol's, 25 and 10)",
    )  # fmt: skip
    steps_help = "of the sampler (default: what the checkpoint says); the single answer for a clip takes one"
    parser.add_argument("--steps", type=int, metavar="K", help=steps_help)
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the random samples (default: %(default)s)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N people or sequences (default: all)")
    parser.add_argument(
        "--flip", action="store_true", help="sequences: average with the answer to the mirror image, as MotionBERT does"
    )
    parser.add_argument(
        "--filter", metavar="one-euro[:MIN_CUTOFF,BETA]",
        help="sequences: smooth the rotations over time; Hz at rest, and Hz per radian per second",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="where to write the result (default: nowhere)")
    parser.add_argument("--dump", type=Path, metavar="FILE.npz", help="errors and predictions of every person or frame")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: cuda if there is one, else cpu)")
    return parser
