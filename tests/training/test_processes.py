"""Several processes: equal shares, and together the gradients of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from diffhmr.config import ExperimentConfig
from diffhmr.config_file import dump_config
from diffhmr.errors import UserError
from diffhmr.training.processes import Processes
from tests.training.runs import ROOT, make_config, make_trainer


def test_batches_must_divide_equally() -> None:
    assert Processes(1, 4, torch.device("cpu")).share(64) == 16
    with pytest.raises(UserError, match=r"train\.batch_size 6 cannot be divided by 4 processes"):
        Processes(0, 4, torch.device("cpu")).share(6)


def gradients_alone(config: ExperimentConfig) -> dict[str, torch.Tensor]:
    trainer = make_trainer(config)
    trainer.start()
    trainer.gradients(next(trainer.batches()))
    return {name: value.grad for name, value in trainer.model.named_parameters() if value.grad is not None}


def gradients_of_two(config: ExperimentConfig, folder: Path) -> dict[str, torch.Tensor]:
    settings, out = folder / "config.yaml", folder / "gradients.pt"
    settings.write_text(dump_config(config))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, "tests/training/gradients_of_a_step.py", str(settings), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert result.returncode == 0, result.stderr
    content = torch.load(out, weights_only=True)
    assert content["processes"] == 2
    gradients: dict[str, torch.Tensor] = content["gradients"]
    return gradients


IMAGE_FROZEN: dict[str, dict[str, Any]] = {
    "model": {"encoder": {"kind": "image", "norm": "frozen"}},
    "data": {"images": True, "image_size": 32},
}


@pytest.mark.parametrize(
    "sections", [{}, pytest.param(IMAGE_FROZEN, marks=pytest.mark.slow)], ids=["keypoints", "images"]
)
def test_two_processes_give_the_gradients_of_one(tmp_path: Path, sections: dict[str, dict[str, Any]]) -> None:
    """Dropout included. With trainable batch norm on a CPU it would not hold: each process sees its own statistics."""
    config = make_config(tmp_path, **sections)
    alone, together = gradients_alone(config), gradients_of_two(config, tmp_path)
    assert set(alone) == set(together)
    scale = max(float(value.abs().max()) for value in alone.values())
    assert scale > 1e-3
    for name, value in alone.items():
        assert float((value - together[name]).abs().max()) < 1e-5, name
