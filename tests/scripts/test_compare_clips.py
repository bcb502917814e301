"""Tables of evaluations over sequences: seeds in one line, what is marked, what is refused."""

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
from scripts.compare_clips import clip_comparison, is_of_clips
from scripts.evaluated_run import Run, read_run

ROOT = Path(__file__).parents[2]

RESULT: dict[str, Any] = {
    "dataset": "synthetic-motion",
    "protocol": {"name": "synthetic-motion-v1", "people": {"test_items": 100}},
    "checkpoint": {"path": "runs/ours_s0/model.safetensors", "sha256": "a0", "step": 5000},
    "experiment": {"name": "ours_s0", "seed": 0, "settings_sha256": "ours"},
    "model": "ours",
    "flip": False,
    "filter": None,
    "sampler": {"steps": 8},
    "num_items": 100,
    "unit": "sequences",
    "num_frames": 15000,
    "num_samples": 10,
    "seed": 0,
    "metrics": {
        "mpjpe_mm": {"mode": 60.0, "min_of": {"1": 70.0, "10": 50.0}},
        "pa_mpjpe_mm": {"mode": 40.0},
        "mpvpe_mm": {"mode": 72.0, "random": 80.0, "min_of": {"1": 80.0, "10": 64.0}},
        "accel_error_mm_per_frame2": {"mode": 5.0},
        "accel_error_m_per_s2": {"mode": 4.5},
        "energy_score_mm": 45.0,
    },
    "sequences": [],
}


def test_lifting_has_sequences_and_no_samples(tmp_path: Path) -> None:
    run = _run(tmp_path, "lifting")
    assert is_of_clips(run)
    del run.content["num_samples"]
    assert not is_of_clips(run)


def _run(folder: Path, name: str, **changes: Any) -> Run:
    """The result with values by dotted path, ``__`` for the dots, written and read."""
    content = copy.deepcopy(RESULT)
    for place, value in changes.items():
        *groups, last = place.split("__")
        target = content
        for group in groups:
            target = target[group]
        target[last] = value
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return read_run(path)


def _other(folder: Path, name: str = "head", **changes: Any) -> Run:
    """A deterministic model, worse by MPJPE and better by acceleration."""
    own = {
        "checkpoint__sha256": "b0", "experiment__settings_sha256": "head", "experiment__name": "head_seed0",
        "model": "motionbert", "num_samples": 1, "metrics__mpjpe_mm": {"mode": 65.0, "min_of": {"1": 65.0}},
        "metrics__mpvpe_mm": {"mode": 78.0, "random": 78.0, "min_of": {"1": 78.0}},
        "metrics__accel_error_mm_per_frame2": {"mode": 4.0}, "metrics__energy_score_mm": 65.0,
    }  # fmt: skip
    return _run(folder, name, **(own | changes))


def _cells(table: str, label: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(f"{label} ")]
    return [cell for cell in line.split("  ") if cell.strip()]


def _seeds(folder: Path) -> list[Run]:
    values = ((0, 60.0), (1, 62.0), (2, 61.0))
    return [
        _run(folder, f"r{seed}", experiment__name=f"ours_s{seed}", experiment__seed=seed,
             checkpoint__sha256=f"a{seed}", metrics__mpjpe_mm={"mode": value})
        for seed, value in values
    ]  # fmt: skip


def test_seeds_are_one_line_with_mean_and_deviation(tmp_path: Path) -> None:
    table = clip_comparison([*_seeds(tmp_path), _other(tmp_path)], "text")
    cells = [cell.strip() for cell in _cells(table, "ours")]
    assert cells[:5] == ["ours", "ours", "5000", "3", "61.0 ± 1.0*"]
    other = [cell.strip() for cell in _cells(table, "head_seed0")]
    assert other[1:5] == ["motionbert", "5000", "1", "65.0"] and "4.00*" in other
    assert "15000 frames" in table and "Only the first" not in table
    assert "min of 10 MPVPE mm" in table and other[-1] == "-"


def test_other_evaluations_of_the_same_training_are_lines_of_their_own(tmp_path: Path) -> None:
    smooth = _run(tmp_path, "smooth", filter={"one-euro": {"min_cutoff": 1.0, "beta": 0.5}}, flip=True)
    later = _run(tmp_path, "later", checkpoint__step=9000, checkpoint__sha256="a9")
    table = clip_comparison([_run(tmp_path, "raw"), smooth, later], "markdown")
    assert "| ours_s0 | ours, flip, one-euro | 5000 | 1 |" in table and "| ours_s0 | ours | 9000 | 1 |" in table


def test_without_samples_there_are_no_columns_for_them(tmp_path: Path) -> None:
    table = clip_comparison([_other(tmp_path)], "text")
    assert "min of" not in table and "energy" not in table and "*" not in table


def test_imported_weights_have_the_name_of_their_file(tmp_path: Path) -> None:
    run = _other(tmp_path, experiment=None, checkpoint__path="data/checkpoints/diffmesh.safetensors")
    assert _cells(clip_comparison([run], "text"), "diffmesh")[0] == "diffmesh"


def test_csv_has_all_digits(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(clip_comparison([*_seeds(tmp_path), _other(tmp_path)], "csv"))))
    assert [row["seeds"] for row in rows] == ["3", "1"]
    assert float(rows[0]["MPJPE mm"]) == 61 and float(rows[0]["MPJPE mm deviation"]) == 1
    assert rows[1]["MPJPE mm deviation"] == "" and rows[0]["random MPVPE mm"] == "80.0"


def test_what_cannot_be_one_table_is_refused(tmp_path: Path) -> None:
    part = _other(tmp_path, "part", num_items=5, protocol__name="synthetic-motion-v1 (first 5 of 100)")
    with pytest.raises(UserError, match=r"measured 100 sequences and .* 5; evaluate both with the same --limit"):
        clip_comparison([_run(tmp_path, "a"), part], "text")
    assert "Only the first 5 of 100 sequences" in clip_comparison([part], "text")
    with pytest.raises(UserError, match="are of the same weights; give one file for each training seed"):
        clip_comparison([_run(tmp_path, "a"), _run(tmp_path, "b")], "text")
    assert is_of_clips(part)


def test_from_the_shell(tmp_path: Path) -> None:
    files = [str(run.path) for run in (*_seeds(tmp_path), _other(tmp_path))]
    command = [sys.executable, "-m", "scripts.compare"]
    done = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "61.0 ± 1.0*" in done.stdout, done.stderr
    _run(tmp_path, "3dpw", dataset="3dpw-video")
    done = subprocess.run([*command, *files, str(tmp_path / "3dpw.json")], cwd=ROOT, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 2 and "cannot be compared: dataset is" in done.stderr
