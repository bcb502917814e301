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
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffhmr.command_line import CommandParser, run_command
from diffhmr.errors import UserError
from diffhmr.files import require_file
from scripts.compare_clips import clip_comparison, is_of_clips
from scripts.tables import markdown_table, text_table

_PART = re.compile(r"(.*) \(first \d+ of (\d+)(?:, (.*))?\)")

# How good a value is, by the last word of its name that says so; less is better where None.
_MORE_IS_BETTER = ("pck", "auc", "accuracy", "iou", "f1")
_NO_DIRECTION = ("apd", "diversity", "mean_pose", "num")
_LESS_IS_BETTER = ("_mm", "_px", "_deg", "ece", "_mm_per_frame2")
_OF_THE_SAMPLES = ("ece", "mean_of_samples")
"""What begins so changes with the number of samples, also of the same model."""


@dataclass(frozen=True)
class Run:
    """One evaluation.

    Attributes:
        path: of the file.
        content: of the file; the name of the protocol does not say any more that only part of the people was measured.
        metrics: numbers by name, such as ``mpjpe_mm min_of 25``; lists are left out.
        num_items: people that were measured.
        num_people: in the whole test set, None if the file does not say.
    """

    path: Path
    content: dict[str, Any]
    metrics: dict[str, float]
    num_items: int
    num_people: int | None

    @property
    def people(self) -> str:
        """How many, and whether these are all."""
        if self.num_people is not None and self.num_items < self.num_people:
            return f"only {self.num_items} of {self.num_people} people"
        return f"{self.num_items} people"


def read_run(path: Path) -> Run:
    """Read a file of ``eval.py``.

    Raises:
        UserError: the file is missing or is none.
    """
    require_file(path, "evaluation", "write it with python eval.py --out FILE.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a JSON file ({error}); write it with python eval.py --out FILE.json") from error
    parts = {"protocol": dict, "metrics": dict, "num_items": int}
    for name, kind in parts.items():
        if not isinstance(content, dict) or not isinstance(content.get(name), kind):
            raise UserError(f"{path} has no {name}: it is no result of eval.py; write it with eval.py --out FILE.json")
    name = str(content["protocol"].get("name", "without name"))
    part = _PART.fullmatch(name)
    people = content["protocol"].get("people")
    total = people.get("test_items") if isinstance(people, dict) else None
    if part is not None:
        name, total = f"{part[1]} ({part[3]})" if part[3] else part[1], int(part[2])
    content["protocol"]["name"] = name
    metrics = dict(_numbers(content["metrics"]))
    return Run(path, content, metrics, content["num_items"], total if isinstance(total, int) else None)


def _numbers(group: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in group.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name} ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)


def require_same_protocol(runs: Sequence[Run]) -> None:
    """Raises: UserError: two runs differ in the data set or in what was measured how."""
    for run in runs[1:]:
        for name in ("dataset", "protocol"):
            one, other = (_terms(content.get(name)) for content in (runs[0].content, run.content))
            difference = _first_difference(one, other, name)
            if difference is not None:
                where, here, there = difference
                raise UserError(
                    f"the numbers of {runs[0].path} and {run.path} cannot be compared: {where} is {here} in the first "
                    f"and {there} in the second; compare runs of the same protocol"
                )


def _terms(protocol: Any) -> Any:
    """What two runs must have in common.

    People of label files are the same if their rows are, whatever file holds them, and the size of the pictures is the
    model's choice.
    """
    people = protocol.get("people") if isinstance(protocol, Mapping) else None
    if not isinstance(people, Mapping):
        return protocol
    rows = people.get("rows")
    if isinstance(rows, Mapping) and "sha256" in rows:
        people = {"rows": {"sha256": rows["sha256"]}, "input": people.get("input")}
    return {**protocol, "people": {key: value for key, value in people.items() if key != "image_size"}}


def _first_difference(one: Any, other: Any, where: str) -> tuple[str, str, str] | None:
    """Where two JSON values differ first, and both values there. Of files the SHA-256 counts, not the path."""
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return None if one == other else (where, _brief(one), _brief(other))
    for key in [*one, *(key for key in other if key not in one)]:
        if key == "path" and "sha256" in one and "sha256" in other:
            continue
        inner = f"{where}.{key}"
        if key not in one or key not in other:
            here, there = (_brief(side[key]) if key in side else "absent" for side in (one, other))
            return inner, here, there
        difference = _first_difference(one[key], other[key], inner)
        if difference is not None:
            return difference
    return None


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


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
