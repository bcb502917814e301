"""The import from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torchvision

from diffhmr.checkpoint import load_checkpoint, read_metadata
from diffhmr.command_line import run_command
from scripts import import_checkpoint
from tests.foreign.weights import random_weights, spin_layout


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["import_checkpoint", *map(str, words)])
    return run_command(import_checkpoint.main)


def test_spin(
    tmp_path: Path, toy_body_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"model": random_weights(spin_layout(), seed=0)}, tmp_path / "model_checkpoint.pt")
    out = tmp_path / "spin.safetensors"
    assert (
        call(monkeypatch, "--from", "spin", tmp_path / "model_checkpoint.pt", "--out", out, "--body", toy_body_path)
        == 0
    )
    text = capsys.readouterr().out
    assert "encoder resnet50" in text and f"a complete spin model; body: {toy_body_path}" in text
    assert "left out" not in text
    loaded = load_checkpoint(out, kind="spin")
    assert loaded.config.name == "spin_imported" and loaded.body.path == toy_body_path


def test_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "a.pth")
    out = tmp_path / "a.safetensors"
    assert call(monkeypatch, "--from", "torchvision", tmp_path / "a.pth", "--out", out) == 0
    text = capsys.readouterr().out
    assert "2 tensors\n  fc.weight\n  fc.bias\n" in text and f"init={out}" in text
    assert json.loads(read_metadata(out)["parts"]) == ["encoder.resnet."]


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.safetensors"
    torch.save({"weight": torch.zeros(1)}, tmp_path / "a.pt")
    for words, text in (
        (["--from", "spin", tmp_path / "none.pt", "--out", out], "not found"),
        (["--from", "spin", tmp_path / "a.pt", "--out", tmp_path / "a.pt"], "should end in .safetensors"),
        (["--from", "spin", tmp_path / "a.pt", "--out", out], "1 unknown: weight"),
        (
            ["--from", "torchvision", tmp_path / "a.pt", "--out", out, "--body", tmp_path],
            "--body belongs to --from spin",
        ),
        (["--from", "hmr", tmp_path / "a.pt", "--out", out], "spin"),
    ):
        assert call(monkeypatch, *words) == 2
        message = capsys.readouterr().err
        assert text in message and message.count("\n") == 1
    assert not out.exists()
