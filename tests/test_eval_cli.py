"""``eval.py`` from the command line."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from diffhmr.checkpoint import read_metadata
from diffhmr.command_line import run_command
from tests.inference.example_people import save_small_checkpoint, small_config

ROOT = Path(__file__).parents[1]
eval_script = importlib.import_module("eval")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_checkpoint(tmp_path_factory.mktemp("model") / "small.safetensors", small_config())


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["eval.py", *(str(argument) for argument in arguments)])
    return run_command(eval_script.main)


def test_a_table_and_a_file(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "r.json"
    options = ["--num-samples", "3", "--steps", "1", "--seed", "4", "--limit", "5", "--device", "cpu"]
    options += ["--protocol", "synthetic-v1"]  # with or without the version
    assert run(monkeypatch, "--checkpoint", checkpoint, "--dataset", "synthetic", *options, "--out", out) == 0
    result = json.loads(out.read_text())
    assert (result["num_samples"], result["sampler"]["steps"], result["seed"], result["num_items"]) == (3, 1, 4, 5)
    text = capsys.readouterr().out
    assert "all (5)" in text and text.endswith(f"written: {out}\n")


def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = load_file(checkpoint)
    poisoned = {name: value * float("nan") if value.is_floating_point() else value for name, value in weights.items()}
    save_file(poisoned, tmp_path / "nan.st", metadata=read_metadata(checkpoint))
    (tmp_path / "truncated.st").write_bytes(checkpoint.read_bytes()[:-100])
    (tmp_path / "file").write_text("x")
    before = sorted(tmp_path.iterdir())
    cases: dict[tuple[str | Path, ...], str] = {
        ("--checkpoint", tmp_path / "none.st"): "checkpoint not found",
        ("--checkpoint", tmp_path / "truncated.st"): "is truncated",
        ("--checkpoint", tmp_path / "nan.st"): "not all values are finite",
        ("--checkpoint", "data/samples/photographer.jpg"): "no safetensors file",
        ("--dataset", "agora"): "invalid choice: 'agora' (choose from",
        ("--protocol", "synthetic-v2"): "synthetic has no protocol 'synthetic-v2'; choose one of synthetic",
        ("--dataset", "3dpw", "--protocol", "3dpw-spn"): "3dpw has no protocol '3dpw-spn'; choose one of 3dpw-spin, ",
        ("--protocol", "3dpw-spin"): "synthetic has no protocol '3dpw-spin'; choose one of synthetic",
        ("--data", tmp_path): "--data and --images belong to other data sets",
        ("--dump", tmp_path / "d.txt"): "name it FILE.npz",
        ("--dataset", "3dpw"): "3dpw-spin-v1 measures on SMPL, but the body of the model is 'free body, not SMPL'",
        ("--dataset", "h36m", "--data", tmp_path): "there is no valid_protocol1.npz or h36m_valid_protocol1.npz in",
        ("--num-samples", "0"): "--num-samples must be at least 1, got 0",
        ("--num-samples", "-1"): "--num-samples must be at least 1, got -1",
        ("--num-samples", "abc"): "invalid int value: 'abc'",
        ("--steps", "0"): "--steps must be at least 1",
        ("--steps", "2000"): "2000 sampling steps, but the model has 1000",
        ("--seed", "-1"): "--seed must be at least 0",
        ("--limit", "0"): "--limit must be at least 1",
        ("--device", f"cuda:{torch.cuda.device_count()}"): "cannot be used",
        ("--device", "gpu"): "unknown device 'gpu'",
        ("--num_samples", "3"): "did you mean --num-samples?",
        ("r.json",): "unrecognized arguments: r.json",
        ("--out", checkpoint): "would overwrite an input; choose another name",
        ("--dump", checkpoint): "would overwrite an input; choose another name",
        ("--out", tmp_path / "r.safetensors"): "should end in .json",
        ("--out", tmp_path): "it is a folder; give the name of a file",
        ("--out", tmp_path / "file" / "r.json"): "cannot write to the folder",
    }
    good = ["--checkpoint", checkpoint, "--dataset", "synthetic", "--limit", "1", "--out", tmp_path / "r.json"]
    for arguments, reason in cases.items():
        assert run(monkeypatch, *good, *arguments) == 2, arguments
        errors = capsys.readouterr().err.splitlines()
        assert len(errors) == 1 and errors[0].startswith("error: ") and reason in errors[0], (arguments, errors)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        ([], "--checkpoint, --dataset"),
        (["--checkpoint", "x"], "--dataset"),
        (["--dataset", "synthetic"], "--checkpoint"),
    ],
)
def test_missing_options(
    arguments: list[str], missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    assert capsys.readouterr().err == f"error: the following arguments are required: {missing}; see --help\n"
