"""Tables of evaluations: what is marked, what is refused, and what a run over part of the data is called."""

from __future__ import annotations

import copy
import csv
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from diffhmr.errors import UserError
from scripts.compare import best_runs, comparison, format_cell, goodness, labels_of
from scripts.evaluated_run import read_run

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "data" / "checkpoints" / "diffhmr_keypoints.json"

RESULT: dict[str, Any] = {
    "dataset": "3dpw",
    "protocol": {
        "name": "3dpw-spin-v1",
        "root": "joint 0",
        "regressor": {"path": "data/body/J_regressor_h36m.npy", "sha256": "ab12"},
        "people": {"test_items": 200},
    },
    "checkpoint": {"path": "runs/one.safetensors", "sha256": "00ff", "step": 1000},
    "num_items": 200,
    "num_samples": 25,
    "metrics": {
        "mpjpe_mm": {"mode": 90.0, "min_of": {"1": 95.04, "25": 80.0}},
        "mean_pose": {"mpjpe_mm": 400.0},
        "pck_0.05": 0.71,
        "ece_bias": -0.04,
        "apd_mm": 150.0,
        "depth_rank_histogram": [0.5, 0.5],
    },
}


def _changed(**changes: Any) -> dict[str, Any]:
    """The result with values by dotted path, ``__`` for the dots."""
    content = copy.deepcopy(RESULT)
    for path, value in changes.items():
        *groups, last = path.split("__")
        target = content
        for group in groups:
            target = target[group]
        target[last] = value
    return content


def _write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def _row(table: str, metric: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(f"{metric}  ")]
    return line[len(metric) :].split()


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """The second run is better in MPJPE, worse in PCK, nearer to zero in bias."""
    other = _changed(metrics__mpjpe_mm={"mode": 89.0, "min_of": {"1": 95.0, "25": 81.0}}, metrics__ece_bias=0.03,
                     metrics__apd_mm=200.0, checkpoint__path="runs/two.safetensors", num_samples=50)  # fmt: skip
    other["metrics"]["pck_0.05"] = 0.70
    return [_write(tmp_path / "one.json", RESULT), _write(tmp_path / "two.json", other)]


def test_the_best_value_is_marked(two: list[Path]) -> None:
    table = comparison([read_run(path) for path in two], "text")
    assert _row(table, "mpjpe_mm mode") == ["90.0", "89.0*"]
    assert _row(table, "mpjpe_mm min_of 1") == ["95.0", "95.0*"]  # by all digits
    assert _row(table, "mpjpe_mm min_of 25") == ["80.0*", "81.0"]
    assert _row(table, "pck_0.05") == ["0.710*", "0.700"]
    # The calibration of few samples looks worse than that of many of the same model.
    assert _row(table, "ece_bias") == ["-0.040", "0.030"]
    # Nothing is better or worse about the constant pose and about diversity.
    assert _row(table, "mean_pose mpjpe_mm") == ["400.0", "400.0"]
    assert _row(table, "apd_mm") == ["150.0", "200.0"]
    assert "histogram" not in table
    head = table.splitlines()[:5]
    assert head[0] == "3dpw, protocol 3dpw-spin-v1"
    assert head[2] == "- two: runs/two.safetensors (step 1000), 200 people, 50 samples"
    assert "min_of n uses the ground truth" in head[4]


def test_what_depends_on_the_number_of_samples_has_a_best_value_for_the_same_number(tmp_path: Path) -> None:
    worse = _changed(metrics__ece_bias=-0.05, metrics__mpjpe_mm={"mode": 91.0, "mean_of_samples": 89.0})
    better = _changed(metrics__mpjpe_mm={"mode": 90.0, "mean_of_samples": 88.0})
    for samples, marked in ((25, {1}), (100, set())):
        worse["num_samples"] = samples
        contents = {"worse": worse, "better": better}
        runs = [read_run(_write(tmp_path / f"{name}.json", content)) for name, content in contents.items()]
        assert best_runs(runs, "ece_bias") == best_runs(runs, "mpjpe_mm mean_of_samples") == marked
        assert best_runs(runs, "mpjpe_mm mode") == {1}


def test_markdown_and_csv(two: list[Path]) -> None:
    runs = [read_run(path) for path in two]
    lines = comparison(runs, "markdown").splitlines()
    start = lines.index("|  | one | two |")
    assert lines[start + 1] == "| --- | ---: | ---: |"
    assert lines[start + 2] == "| mpjpe_mm mode | 90.0 | **89.0** |"
    rows = list(csv.reader(io.StringIO(comparison(runs, "csv"))))
    assert rows[0] == ["metric", "one", "two", "best"]
    assert rows[2] == ["mpjpe_mm min_of 1", "95.04", "95.0", "two"]
    assert {row[0]: row[3] for row in rows}["apd_mm"] == ""
    assert {len(row) for row in rows} == {4}


def test_ties_and_single_runs() -> None:
    run = read_run(SHIPPED)
    assert best_runs([run, run], "mpjpe_mm mode") == {0, 1}
    assert best_runs([run], "mpjpe_mm mode") == set()
    assert "*" not in comparison([run], "text")


def test_metrics_that_a_run_lacks(tmp_path: Path) -> None:
    less = copy.deepcopy(RESULT)
    del less["metrics"]["mpjpe_mm"]["min_of"]["25"]
    runs = [read_run(_write(tmp_path / f"{name}.json", content)) for name, content in (("a", RESULT), ("b", less))]
    assert _row(comparison(runs, "text"), "mpjpe_mm min_of 25") == ["80.0", "-"]


def test_more_runs_than_metrics_stand_in_rows(tmp_path: Path) -> None:
    runs = []
    for number in range(4):
        content = _changed(metrics={"mpjpe_mm": {"mode": 90.0 - number}, "ece": 0.1})
        runs.append(read_run(_write(tmp_path / f"run{number}.json", content)))
    table = comparison(runs, "text")
    assert _row(table, "run0") == ["90.0", "0.100*"]
    assert _row(table, "run3") == ["87.0*", "0.100*"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"protocol__root": "mean of the hips"},
         r'protocol\.root is "joint 0" in the first and "mean of the hips" in the second'),
        ({"protocol__regressor__sha256": "cd34"}, r'protocol\.regressor\.sha256 is "ab12" in the first and "cd34"'),
        ({"protocol__joints": 14}, r"protocol\.joints is absent in the first and 14 in the second"),
        ({"dataset": "emdb"}, r'dataset is "3dpw" in the first and "emdb" in the second'),
    ],
)  # fmt: skip
def test_protocols_are_not_mixed(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    paths = [_write(tmp_path / f"{name}.json", content) for name, content in
             (("a", RESULT), ("b", RESULT), ("c", _changed(**change)))]  # fmt: skip
    with pytest.raises(UserError, match=message) as caught:
        comparison([read_run(path) for path in paths], "text")
    assert "\n" not in str(caught.value)
    assert "a.json" in str(caught.value) and "c.json" in str(caught.value)


def test_the_place_of_a_file_is_no_part_of_the_protocol(tmp_path: Path) -> None:
    moved = _changed(protocol__regressor__path="elsewhere/J_regressor_h36m.npy")
    runs = [read_run(_write(tmp_path / f"{name}.json", content)) for name, content in (("a", RESULT), ("b", moved))]
    assert "mpjpe_mm mode" in comparison(runs, "text")


PEOPLE: dict[str, Any] = {
    "split": "test",
    "labels": {"path": "data/3dpw/test.npz", "sha256": "11", "meta": {"dataset": "3dpw"}},
    "rows": {"of_file": 200, "measured": 200, "sha256": "aa"},
    "input": "pictures",
    "image_size": 224,
    "test_items": 200,
}


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"image_size": 128}, None),
        ({"labels": {"path": "/home/test.npz", "sha256": "22", "meta": {}}, "split": "all"}, None),
        ({"rows": {"of_file": 900, "measured": 200, "sha256": "aa"}}, None),
        ({"rows": {"of_file": 200, "measured": 200, "sha256": "bb"}}, r'rows\.sha256 is "aa" in the first and "bb"'),
        ({"input": "the 2D keypoints of the label file"}, r'people\.input is "pictures" in the first and "the 2D keyp'),
    ],
)
def test_people_are_the_same_if_their_rows_are(tmp_path: Path, change: dict[str, Any], difference: str | None) -> None:
    contents = {"a": _changed(protocol__people=PEOPLE), "b": _changed(protocol__people={**PEOPLE, **change})}
    runs = [read_run(_write(tmp_path / f"{name}.json", content)) for name, content in contents.items()]
    if difference is not None:
        with pytest.raises(UserError, match=difference):
            comparison(runs, "text")
        return
    head = comparison(runs, "text").splitlines()
    assert head[1].endswith("25 samples, pictures of 224 pixels")
    assert head[2].endswith(f"pictures of {change.get('image_size', 224)} pixels")


def test_synthetic_people_for_pictures_of_two_sizes(tmp_path: Path) -> None:
    people = {"split": "test", "images": True, "image_size": 128, "occluder": 0.4, "test_items": 200}
    runs = []
    for name, change in (("a", {}), ("b", {"image_size": 224}), ("c", {"images": False}), ("d", {"occluder": 0.0})):
        content = _changed(protocol__people={**people, **change})
        runs.append(read_run(_write(tmp_path / f"{name}.json", content)))
    comparison(runs[:2], "text")
    for run, name in ((runs[2], "images"), (runs[3], "occluder")):
        with pytest.raises(UserError, match=rf"protocol\.people\.{name} is"):
            comparison([runs[0], run], "text")


def test_part_of_a_part_of_a_release(tmp_path: Path) -> None:
    names = ("3dpw-spin-v1 (partial release)", "3dpw-spin-v1 (first 10 of 200, partial release)")
    contents = [_changed(protocol__name=names[0]), _changed(protocol__name=names[1], num_items=10)]
    runs = [read_run(_write(tmp_path / f"{k}.json", content)) for k, content in enumerate(contents)]
    assert labels_of(runs) == ["0", "1 (only 10 of 200 people)"]
    assert comparison(runs, "text").startswith("3dpw, protocol 3dpw-spin-v1 (partial release)\n")
    whole = read_run(_write(tmp_path / "whole.json", RESULT))
    with pytest.raises(UserError, match=r"protocol\.name"):
        comparison([whole, runs[1]], "text")


def test_a_run_over_part_of_the_data_is_named_so_and_wins_nothing(tmp_path: Path) -> None:
    part = _changed(num_items=10, metrics__mpjpe_mm={"mode": 1.0})
    better = _changed(metrics__mpjpe_mm={"mode": 80.0})
    contents = {"whole": RESULT, "part": part, "better": better}
    runs = [read_run(_write(tmp_path / f"{name}.json", content)) for name, content in contents.items()]
    assert labels_of(runs) == ["whole", "part (only 10 of 200 people)", "better"]
    table = comparison(runs, "text")
    assert _row(table, "mpjpe_mm mode") == ["90.0", "1.0", "80.0*"]
    # The protocol's name may say it, too: it is the same protocol.
    named = _changed(num_items=10, protocol__name="3dpw-spin-v1 (first 10 of 300)")
    named_run = read_run(_write(tmp_path / "named.json", named))
    assert labels_of([runs[0], named_run]) == ["whole", "named (only 10 of 300 people)"]
    assert comparison([named_run, runs[0]], "text").splitlines()[0] == "3dpw, protocol 3dpw-spin-v1"
    # Even without the others, or without knowing how many there are.
    assert labels_of(runs[1:2]) == ["part (only 10 of 200 people)"]
    unknown = [_changed(num_items=number) for number in (10, 200)]
    for content in unknown:
        del content["protocol"]["people"]
    runs = [read_run(_write(tmp_path / f"{content['num_items']}.json", content)) for content in unknown]
    assert labels_of(runs) == ["10 (10 people)", "200"]


def test_runs_with_the_same_file_name(tmp_path: Path) -> None:
    paths = [tmp_path / "first" / "eval.json", tmp_path / "second" / "eval.json"]
    runs = [read_run(_write(path, RESULT)) for path in paths]
    assert labels_of(runs) == ["first/eval", "second/eval"]


def test_directions_and_digits() -> None:
    def better(metric: str, one: float, other: float) -> bool | None:
        how = goodness(metric)
        return None if how is None else how(one) > how(other)

    assert better("pa_mpjpe_mm min_of 10", 50, 60) and better("reprojection_px random", 3, 4) and better("ece", 0, 1)
    assert better("auc", 0.6, 0.5) and better("mpi_inf pck", 0.6, 0.5) and better("ece_bias", 0.0, -0.1)
    assert better("diversity_visible_mm", 1, 2) is None and better("mean_pose mpjpe_mm", 1, 2) is None
    assert format_cell("mpjpe_mm min_of 5", 52.84) == "52.8" and format_cell("ece", 0.0352) == "0.035"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a JSON file"),
        ("[1, 2]", "has no protocol: it is no result of eval.py"),
        ('{"protocol": {}, "metrics": {}}', "has no num_items"),
    ],
)
def test_other_files(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_run(path)
    with pytest.raises(UserError, match="not found"):
        read_run(tmp_path / "nothing.json")


def test_from_the_shell(tmp_path: Path) -> None:
    other = _write(tmp_path / "other.json", _changed(dataset="emdb"))
    one = _write(tmp_path / "one.json", RESULT)
    command = [sys.executable, "-m", "scripts.compare", str(one)]
    good = subprocess.run([*command, "--format", "csv"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert good.returncode == 0 and good.stdout.startswith("metric,one,best\n"), good.stderr
    bad = subprocess.run([*command, str(other)], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert bad.returncode == 2 and bad.stdout == ""
    assert bad.stderr.startswith("error: ") and bad.stderr.count("\n") == 1
