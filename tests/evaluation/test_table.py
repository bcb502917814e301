"""The result as text."""

from __future__ import annotations

from typing import Any

import pytest

from diffhmr.body.model import BodyModel
from diffhmr.config import DataConfig
from diffhmr.evaluation.data import synthetic_people, synthetic_protocol
from diffhmr.evaluation.run import Evaluation
from diffhmr.evaluation.table import format_table
from tests.evaluation.calibrated_people import COUNT, People, Spread, evaluate_on


def result_of(evaluated: Evaluation, free_body: BodyModel) -> dict[str, Any]:
    return {
        "dataset": "synthetic",
        "protocol": synthetic_protocol(free_body, synthetic_people(DataConfig())),
        "checkpoint": {"path": "model.safetensors", "sha256": "0" * 64, "step": 7},
        "num_items": evaluated.num_items,
        "num_samples": 25,
        "seed": 0,
        "metrics": evaluated.metrics,
        "slices": evaluated.slices,
    }


def test_table_shows_the_values_and_says_what_uses_ground_truth(calibrated: Evaluation, free_body: BodyModel) -> None:
    table = format_table(result_of(calibrated, free_body))
    lines = table.splitlines()
    assert "uses ground truth" in table and "free body, not SMPL" in table
    heading = next(line for line in lines if "uses ground truth" in line)
    titles = next(line for line in lines if "n=25" in line)
    assert heading.index("|") == titles.index("|") < titles.index("n=1")
    row = next(line for line in lines if line.startswith(f"all ({COUNT})"))
    errors = calibrated.metrics["mpjpe_mm"]
    before, after = row.split("|")
    assert [float(value) for value in before.split()[-3:]] == [
        pytest.approx(errors[key], abs=0.051) for key in ("mode", "mean_of_samples", "random")
    ]
    assert [float(value) for value in after.split()] == [
        pytest.approx(value, abs=0.051) for value in errors["min_of"].values()
    ]
    assert max(len(line) for line in lines) <= 120


def test_table_of_one_sample_has_dashes(people: People, free_body: BodyModel) -> None:
    table = format_table(result_of(evaluate_on(people, Spread(people), num_samples=1), free_body))
    assert " -" in table
