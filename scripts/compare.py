"""A table of evaluations: python -m scripts.compare A.json B.json ... [--format text|markdown|csv]

The files are what ``eval.py --out`` writes. Numbers of different protocols are not comparable, so such files are
refused with the first difference. How large the pictures are that a model reads, how many samples it draws and where
files lie is no difference. The best value of a metric is marked with a star (bold in Markdown, a column in CSV) where
more or less of it is better, among the runs over the most people; a run over fewer people is named so. Evaluations over
sequences have a table of their own, a line per model, in which runs that differ in the training seed are one.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from diffhmr.command_line import CommandParser, run_command
from scripts.compare_clips import clip_comparison, is_of_clips
from scripts.evaluated_run import Run, read_run, require_same_protocol
from scripts.tables import markdown_table, text_table

# How good a value is, by the last word of its name that says so; less is better where None.
_MORE_IS_BETTER = ("pck", "auc", "accuracy", "iou", "f1")
_NO_DIRECTION = ("apd", "diversity", "mean_pose", "num")
_LESS_IS_BETTER = ("_mm", "_px", "_deg", "ece", "_mm_per_frame2")
_OF_THE_SAMPLES = ("ece", "mean_of_samples")
"""What begins so changes with the number of samples, also of the same model."""


def goodness(metric: str) -> Callable[[float], float] | None:
    """What to take the largest of, None for a metric of which neither more nor less is better."""
    words = metric.split()
    if any(word.startswith(_NO_DIRECTION) for word in words):
        return None
    if any(word.startswith(_MORE_IS_BETTER) for word in words):
        return lambda value: value
    if words[0].endswith("bias"):
        return lambda value: -abs(value)
    if any(word.endswith(_LESS_IS_BETTER) or word.startswith(("accel", "jitter")) for word in words):
        return lambda value: -value
    return None


def best_runs(runs: Sequence[Run], metric: str) -> set[int]:
    """Positions of the runs with the best value; none if there is only one to choose from, or no better and worse.

    What depends on the number of samples has a best value among runs with the same number only.
    """
    how = goodness(metric)
    if any(word.startswith(_OF_THE_SAMPLES) for word in metric.split()):
        how = how if len({run.content.get("num_samples") for run in runs}) == 1 else None
    most = max(run.num_items for run in runs)
    values = {
        index: how(run.metrics[metric])
        for index, run in enumerate(runs)
        if how is not None and metric in run.metrics and run.num_items == most
    }
    return {index for index, value in values.items() if value == max(values.values())} if len(values) > 1 else set()


def labels_of(runs: Sequence[Run]) -> list[str]:
    """A name for each run: as much of its path as tells it from the others, and whether it is a part of the data."""
    paths = [run.path.with_suffix("").parts for run in runs]
    length = next(
        (n for n in range(1, max(map(len, paths))) if len({path[-n:] for path in paths}) == len(paths)),
        max(map(len, paths)),
    )
    most = max(run.num_items for run in runs)
    names = []
    for run, path in zip(runs, paths, strict=True):
        part = run.num_items < (run.num_people or most)
        names.append("/".join(path[-length:]) + (f" ({run.people})" if part else ""))
    return names


def format_cell(metric: str, value: float) -> str:
    """Millimetres, pixels and degrees with one digit, others with three."""
    in_units = any(word.endswith(("_mm", "_px", "_deg")) for word in metric.split())
    return f"{value:.1f}" if in_units else f"{value:.3f}"


def comparison(runs: Sequence[Run], how: str) -> str:
    """The table as ``text``, ``markdown`` or ``csv``, with metrics in rows unless there are more runs than metrics.

    Raises:
        UserError: the runs follow different protocols.
    """
    require_same_protocol(runs)
    metrics = list(dict.fromkeys(metric for run in runs for metric in run.metrics))
    labels = labels_of(runs)
    if how == "csv":
        return _csv(runs, metrics, labels)
    mark = {"text": ("", "*"), "markdown": ("**", "**")}[how]
    rows = []
    for metric in metrics:
        best = best_runs(runs, metric)
        cells = []
        for index, run in enumerate(runs):
            cell = format_cell(metric, run.metrics[metric]) if metric in run.metrics else "-"
            cells.append(f"{mark[0]}{cell}{mark[1]}" if index in best else cell)
        rows.append([metric, *cells])
    table = [["", *labels], *rows]
    if len(runs) > len(metrics):
        table = [list(column) for column in zip(*table, strict=True)]
    lines = text_table(table) if how == "text" else markdown_table(table)
    return "\n".join([*_heading(runs, labels), "", *lines])


def _heading(runs: Sequence[Run], labels: Sequence[str]) -> list[str]:
    """What was measured how, what the runs do not have in common, and what uses the ground truth."""
    first = runs[0].content
    lines = [f"{first.get('dataset', 'unknown data set')}, protocol {first['protocol']['name']}"]
    for label, run in zip(labels, runs, strict=True):
        content = run.content
        checkpoint = content.get("checkpoint")
        facts = [run.people]
        if isinstance(checkpoint, dict):
            facts.insert(0, f"{checkpoint.get('path')} (step {checkpoint.get('step')})")
        if "num_samples" in content:
            facts.append(f"{content['num_samples']} samples")
        facts += _picture_size(content["protocol"])
        lines.append(f"- {label}: {', '.join(facts)}")
    if any("min_of" in metric.split() for run in runs for metric in run.metrics):
        lines += ["", "min_of n uses the ground truth: it is the error of the best of n samples."]
    return lines


def _picture_size(protocol: Mapping[str, Any]) -> list[str]:
    people = protocol.get("people")
    if not isinstance(people, Mapping) or "image_size" not in people or people.get("images") is False:
        return []
    return [f"pictures of {people['image_size']} pixels"]


def _csv(runs: Sequence[Run], metrics: Sequence[str], labels: Sequence[str]) -> str:
    """All digits; the last column names the best runs."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["metric", *labels, "best"])
    for metric in metrics:
        best = sorted(best_runs(runs, metric))
        values = [repr(run.metrics[metric]) if metric in run.metrics else "" for run in runs]
        writer.writerow([metric, *values, "; ".join(labels[index] for index in best)])
    return buffer.getvalue().rstrip("\n")


def main() -> int:
    """Command line."""
    parser = CommandParser(description="A table of evaluations of the same protocol, the best values marked.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.json", help="what eval.py --out wrote")
    parser.add_argument("--format", choices=("text", "markdown", "csv"), default="text", help="default: %(default)s")
    arguments = parser.parse_args()
    runs = [read_run(path) for path in arguments.files]
    require_same_protocol(runs)
    table = clip_comparison if is_of_clips(runs[0]) else comparison
    print(table(runs, arguments.format))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
