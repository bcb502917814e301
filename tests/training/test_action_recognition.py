"""The shipped settings learn what they promise."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffhmr.config_file import load_config
from diffhmr.evaluation.tasks.data import TaskSource
from diffhmr.evaluation.tasks.run import run_task
from diffhmr.training.loop import run

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_five_activities_are_told_apart(tmp_path: Path) -> None:
    """Minutes on two cores. Guessing is right in 20 % of the 1,000 test clips."""
    config = load_config(ROOT / "configs/action_synthetic.yaml", [f"output={tmp_path}"])
    result = run_task(run(config), TaskSource("synthetic-action"))
    assert result["protocol"]["classes"] == ["walk", "run", "wave", "squat", "punch"]
    assert result["num_items"] == 1000
    assert result["metrics"]["top1"] >= 0.9
