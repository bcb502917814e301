"""Checkpoints to hand on: half the size, the same settings, almost the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from diffhmr.body.model import BodyModel
from diffhmr.checkpoint import load_checkpoint, save_model
from diffhmr.clip_checkpoint import load_clip_model, save_clip_model
from diffhmr.command_line import run_command
from diffhmr.config import ExperimentConfig
from diffhmr.config_clips import ClipExperimentConfig
from diffhmr.config_file import config_from_dict, load_config, require_kind
from diffhmr.models import build_model
from diffhmr.models.clip_models import build_clip_model
from scripts import export_checkpoint


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["export_checkpoint", *map(str, words)])
    return run_command(export_checkpoint.main)


def small_config() -> ExperimentConfig:
    model = {
        "encoder": {"kind": "keypoints", "network": "mlp", "width": 16, "layers": 1},
        "regressor": {"width": 16},
        "denoiser": {"width": 16, "blocks": 1},
    }
    settings = {"name": "small", "model": model, "data": {"images": False}}
    return require_kind(config_from_dict(settings), ExperimentConfig, "test")


def test_half_the_size_and_the_same_model(
    tmp_path: Path, free_body: BodyModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_config()
    model = build_model(config.model, free_body)
    save_model(tmp_path / "full.safetensors", model, config, free_body, step=7, finished=True)
    assert call(monkeypatch, tmp_path / "full.safetensors", "--out", tmp_path / "half.safetensors") == 0
    assert "step 7" in capsys.readouterr().out
    half = load_checkpoint(tmp_path / "half.safetensors")
    assert half.step == 7 and half.config == config and half.metadata["finished"] == "true"
    assert half.metadata["weights_dtype"] == "float16"
    parameters = dict(model.named_parameters())
    for name, value in half.model.state_dict().items():
        original = model.state_dict()[name]
        assert torch.equal(value, original.half().float() if name in parameters else original), name
    assert load_config(tmp_path / "half.yaml", []) == config
    size_of = {name: (tmp_path / name).stat().st_size for name in ("full.safetensors", "half.safetensors")}
    assert size_of["half.safetensors"] < 0.7 * size_of["full.safetensors"]


def test_models_of_clips(tmp_path: Path, free_body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "name": "small",
        "task": "mesh",
        "model": {
            "backbone": {"width": 16, "hidden": 16, "depth": 1, "heads": 2, "features": 16, "max_frames": 16},
            "denoiser": {"width": 16, "depth": 1, "heads": 2},
        },
    }
    config = require_kind(config_from_dict(settings), ClipExperimentConfig, "test")
    model = build_clip_model(config.model, free_body, config.loss)
    save_clip_model(tmp_path / "full.safetensors", model, config, free_body, 5, finished=True)
    assert call(monkeypatch, tmp_path / "full.safetensors", "--out", tmp_path / "half.safetensors") == 0
    half = load_clip_model(tmp_path / "half.safetensors")
    assert half.step == 5 and half.config == config and half.metadata["finished"] == "true"
    parameters = dict(model.network.named_parameters())
    for name, value in half.model.network.state_dict().items():
        original = model.network.state_dict()[name]
        assert torch.equal(value, original.half().float() if name in parameters else original), name


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, tmp_path / "none.safetensors", "--out", tmp_path / "a.safetensors") == 2
    assert "not found" in capsys.readouterr().err
    assert call(monkeypatch, tmp_path / "a.safetensors", "--out", tmp_path / "b" / ".." / "a.safetensors") == 2
    assert "is the checkpoint itself, which would lose precision" in capsys.readouterr().err
    assert call(monkeypatch, tmp_path / "none.safetensors", "--out", tmp_path / "a.pt") == 2
    assert "should end in .safetensors" in capsys.readouterr().err
