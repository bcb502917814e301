"""Runs of a second for the tests of training: their settings, their end before time, their weights compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from diffhmr.batch import ImageBatch, Prediction
from diffhmr.config import ExperimentConfig, SamplerConfig
from diffhmr.config_clips import ClipExperimentConfig
from diffhmr.config_file import AnyExperiment, config_from_dict, require_kind
from diffhmr.training.build import build_task
from diffhmr.training.loop import Trainer, run
from diffhmr.training.processes import Processes

ROOT = Path(__file__).parents[2]
ALONE = Processes(0, 1, torch.device("cpu"))


def make_config(folder: Path, **sections: dict[str, Any]) -> ExperimentConfig:
    """A run of a second: keypoints, tiny networks, six steps."""
    settings: dict[str, Any] = {
        "name": "run",
        "output": str(folder),
        "body": {"path": str(ROOT / "data/body/free_body.npz")},
        "model": {
            "encoder": {"kind": "keypoints", "width": 16, "layers": 1, "heads": 2},
            "regressor": {"width": 16, "dropout": 0.3},
            "denoiser": {"width": 16, "blocks": 1, "condition_dropout": 0.1},
        },
        "data": {"images": False, "val_items": 6},
        "sampler": {"steps": 2},
        "train": {
            "steps": 6,
            "batch_size": 4,
            "lr": 1e-3,
            "warmup_steps": 2,
            "amp": "off",
            "workers": 0,
            "log_every": 2,
            "checkpoint_every": 2,
            "validate_every": 6,
            "picture_every": 6,
            "statistics_items": 64,
        },
    }
    for name, changes in sections.items():
        settings[name] = {**settings.get(name, {}), **changes}
    return require_kind(config_from_dict(settings), ExperimentConfig, "test")


def make_trainer(config: AnyExperiment, processes: Processes = ALONE) -> Trainer[Any, Any]:
    """What :func:`run` makes of ``config`` before it starts or resumes."""
    return Trainer(build_task(config, processes), processes)


def make_clip_config(folder: Path, task: str = "mesh", /, **sections: dict[str, Any]) -> ClipExperimentConfig:
    """A run of a second on clips of 12 frames, with the smallest networks; the head is that of ``sections``."""
    settings: dict[str, Any] = {
        "name": "run",
        "output": str(folder),
        "task": task,
        "body": {"path": str(ROOT / "data/body/free_body.npz")},
        "model": {
            "backbone": {"width": 8, "hidden": 8, "depth": 1, "heads": 2, "features": 8, "max_frames": 8},
            "window": 6,
            "overlap": 2,
            "hidden": 8,
            "chain": {"width": 8, "depth": 1, "heads": 2, "condition_width": 8, "condition_depth": 1, "warm_up": 1},
            "denoiser": {"width": 8, "depth": 1, "heads": 2},
        },
        "data": {"frames": 12, "test_frames": 15, "val_items": 2},
        "sampler": {"steps": 2},
        "train": {
            "steps": 4,
            "batch_size": 2,
            "lr": 1e-3,
            "warmup_steps": 1,
            "workers": 0,
            "log_every": 2,
            "checkpoint_every": 2,
            "validate_every": 4,
            "picture_every": 4,
            "statistics_items": 30,
        },
    }
    for name, changes in sections.items():
        settings[name] = {**settings.get(name, {}), **changes}
    return require_kind(config_from_dict(settings), ClipExperimentConfig, "test")


class Killed(Exception):
    """Stands for the end of the process."""


def run_until(config: AnyExperiment, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, but let the process end when ``step`` steps are done, before anything of that step is written."""
    update = Trainer.update

    def dying(self: Trainer[Any, Any]) -> None:
        update(self)
        if self.step == step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", dying)
        with pytest.raises(Killed):
            run(config, resume=True)


def assert_same_weights(first: Path, second: Path) -> None:
    one, two = load_file(first), load_file(second)
    assert set(one) == set(two)
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


class Oracle:
    """A model that knows the answers, all hypotheses moved sideways by ``shift`` times their number."""

    def __init__(self, shift: float) -> None:
        self.shift = shift

    def sample(self, batch: ImageBatch, num_samples: int, _sampler: SamplerConfig, _seed: int) -> Prediction:
        assert batch.targets is not None
        params = batch.targets.params.map(lambda value: value[:, None].repeat_interleave(num_samples, dim=1))
        camera = batch.targets.camera[:, None].repeat_interleave(num_samples, dim=1).clone()
        camera[..., 1] += self.shift * torch.arange(num_samples)
        return Prediction(params, camera)
