"""Evaluations over sequences as one table for scripts.compare: a line per model, with the spread over training seeds.

Runs whose settings differ in the seed only, at the same step and evaluated alike, are one line: the mean over the runs
and, after the sign, their standard deviation.
"""

from __future__ import annotations

import csv
import io
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffhmr.errors import UserError
from scripts.evaluated_run import Run
from scripts.tables import markdown_table, text_table

_COLUMNS = {
    "MPJPE mm": "mpjpe_mm mode",
    "PA-MPJPE mm": "pa_mpjpe_mm mode",
    "MPVPE mm": "mpvpe_mm mode",
    "accel. mm/frame^2": "accel_error_mm_per_frame2 mode",
    "accel. m/s^2": "accel_error_m_per_s2 mode",
    "energy score mm": "energy_score_mm",
}
_OF_SAMPLES = {"random MPVPE mm": "mpvpe_mm random", "min of {} MPVPE mm": "mpvpe_mm min_of {}"}
_SEED_AT_THE_END = re.compile(r"[-_.](seed|s)?[-_.]?\d+$")


@dataclass(frozen=True)
class Group:
    """Runs of one line.

    Attributes:
        label: what they are called.
        model: what they are.
        step: training steps.
        runs: one per training seed.
    """

    label: str
    model: str
    step: int
    runs: tuple[Run, ...]

    def values(self, metric: str) -> list[float]:
        """Of all runs; empty if one of them lacks it."""
        found = [run.metrics[metric] for run in self.runs if metric in run.metrics]
        return found if len(found) == len(self.runs) else []


def is_of_clips(run: Run) -> bool:
    """The file is an evaluation of meshes over sequences; those of lifting have sequences too, but no samples."""
    return "sequences" in run.content and "num_samples" in run.content


def clip_comparison(runs: Sequence[Run], how: str) -> str:
    """The table as ``text``, ``markdown`` or ``csv``; the least value of a column is the best.

    Args:
        runs: of the same protocol.

    Raises:
        UserError: the runs measured different numbers of sequences, or the same weights stand for two seeds.
    """
    for run in runs[1:]:
        if run.num_items != runs[0].num_items:
            raise UserError(
                f"{runs[0].path} measured {runs[0].num_items} sequences and {run.path} {run.num_items}; "
                "evaluate both with the same --limit"
            )
    groups = _groups(runs)
    columns = _columns(groups)
    if how == "csv":
        return _csv(groups, columns)
    mark = {"text": ("", "*"), "markdown": ("**", "**")}[how]
    rows = [["model", "what", "steps", "seeds", *columns]]
    rows += [[group.label, group.model, str(group.step), str(len(group.runs))] for group in groups]
    for metric in columns.values():
        means = [statistics.fmean(values) if (values := group.values(metric)) else None for group in groups]
        known = [mean for mean in means if mean is not None]
        for row, group, mean in zip(rows[1:], groups, means, strict=True):
            cell = "-" if mean is None else _cell(metric, group.values(metric))
            best = mean is not None and len(known) > 1 and mean == min(known)
            row.append(f"{mark[0]}{cell}{mark[1]}" if best else cell)
    lines = text_table(rows) if how == "text" else markdown_table(rows)
    return "\n".join([*_heading(runs[0]), "", *lines])


def _heading(run: Run) -> list[str]:
    content = run.content
    lines = [
        f"{content['dataset']}, protocol {content['protocol']['name']}: {content['num_items']} sequences, "
        f"{content['num_frames']} frames. With several seeds: mean ± standard deviation of the runs."
    ]
    if run.num_people is not None and run.num_items < run.num_people:
        lines[0] += f" Only the first {run.num_items} of {run.num_people} sequences."
    return lines


def _columns(groups: Sequence[Group]) -> dict[str, str]:
    """Titles and metrics; minima for the largest n that all stochastic models have."""
    several = [group.runs[0].content["num_samples"] for group in groups if group.runs[0].content["num_samples"] > 1]
    if not several:
        return {title: metric for title, metric in _COLUMNS.items() if metric != "energy_score_mm"}
    least = min(several)
    return _COLUMNS | {title.format(least): metric.format(least) for title, metric in _OF_SAMPLES.items()}


def _groups(runs: Sequence[Run]) -> list[Group]:
    """In the order of the first run of each."""
    together: dict[str, list[Run]] = {}
    for run in runs:
        content = run.content
        experiment = content.get("experiment")
        settings = experiment["settings_sha256"] if experiment else content["checkpoint"]["sha256"]
        evaluated = {key: content.get(key) for key in ("flip", "filter", "sampler", "num_samples", "seed")}
        together.setdefault(json.dumps([settings, content["checkpoint"]["step"], evaluated]), []).append(run)
    return [_group(group) for group in together.values()]


def _group(runs: Sequence[Run]) -> Group:
    weights = [run.content["checkpoint"]["sha256"] for run in runs]
    if len(set(weights)) < len(weights):
        raise UserError(
            f"{runs[0].path} and {runs[-1].path} are of the same weights; give one file for each training seed"
        )
    first = runs[0].content
    label = _name(runs[0])
    if len(runs) > 1:
        without_seed = {_SEED_AT_THE_END.sub("", _name(run)) for run in runs}
        label = without_seed.pop() if len(without_seed) == 1 else f"{label} and {len(runs) - 1} more"
    return Group(label, _model(first), first["checkpoint"]["step"], tuple(runs))


def _name(run: Run) -> str:
    experiment = run.content.get("experiment")
    return str(experiment["name"] if experiment else Path(run.content["checkpoint"]["path"]).stem)


def _model(content: Mapping[str, Any]) -> str:
    words = [str(content["model"])]
    words += ["flip"] if content.get("flip") else []
    return ", ".join([*words, *(content.get("filter") or {})])


def _cell(metric: str, values: Sequence[float]) -> str:
    digits = 2 if metric.startswith("accel") else 1
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def _csv(groups: Sequence[Group], columns: Mapping[str, str]) -> str:
    """All digits; of every metric the mean and the standard deviation over the seeds."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    titles = [title for column in columns for title in (column, f"{column} deviation")]
    writer.writerow(["model", "what", "steps", "seeds", *titles])
    for group in groups:
        row: list[Any] = [group.label, group.model, group.step, len(group.runs)]
        for metric in columns.values():
            values = group.values(metric)
            row.append(repr(statistics.fmean(values)) if values else "")
            row.append(repr(statistics.stdev(values)) if len(values) > 1 else "")
        writer.writerow(row)
    return buffer.getvalue().rstrip("\n")
