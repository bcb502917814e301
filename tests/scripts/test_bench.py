from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from diffhmr.command_line import run_command
from diffhmr.errors import UserError
from diffhmr.inference.photo import read_photo
from scripts import bench
from tests.inference.example_people import save_small_checkpoint, small_config

ROOT = Path(__file__).parents[2]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["bench", *(str(argument) for argument in arguments)])
    return run_command(bench.main)


@pytest.mark.parametrize("encoder", ["keypoints", "image"])
def test_every_stage_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], encoder: str
) -> None:
    config = small_config("image" if encoder == "image" else "keypoints")
    checkpoint = save_small_checkpoint(tmp_path / "small.safetensors", config)
    assert run(monkeypatch, "--checkpoint", checkpoint, "--repeats", "9", "--json", tmp_path / "b.json") == 0
    report = json.loads((tmp_path / "b.json").read_text())
    crop = "crop" if encoder == "image" else "keypoints in the box"
    stages = ["load photo", crop, "encoder", "regressor", "denoiser x 2 steps", "noise, sampler, decoding", "= model",
              "body", "render one overlay"]  # fmt: skip
    assert list(report["stages"]) == ["1", "25", "100"]
    for values in report["stages"].values():
        assert list(values) == stages
        assert all(0 < cell["median_ms"] <= cell["p95_ms"] for cell in values.values())
    assert report["ratio"]["median_of_ratios"] > 1 and report["ratio"]["hypotheses"] == 25
    assert report["body"] == "free body, not SMPL" and report["repeats"] == 9
    text = capsys.readouterr().out
    assert all(stage in text for stage in stages) and f"ratio {report['ratio']['median_of_ratios']:.2f}" in text


def test_the_default_is_a_large_encoder_with_the_default_sampler() -> None:
    config = bench.default_config()
    assert config.model.encoder.backbone == "resnet50" and config.data.image_size == 224
    assert config.sampler.steps == 8 and config.model.kind == "diffhmr"


def test_a_network_can_be_built_from_a_config(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "name: tiny\nmodel: {encoder: {kind: keypoints, width: 32, layers: 1, heads: 2}}\n"
    )
    subject = bench.load_subject(None, tmp_path / "c.yaml", torch.device("cpu"))
    assert subject.config.name == "tiny" and not subject.model.training


class Wait(nn.Module):
    def __init__(self, clock: bench.Clock) -> None:
        super().__init__()
        self.clock = clock

    def forward(self) -> None:
        start = self.clock.now()
        while self.clock.now() - start < 5:
            pass


def test_settings_of_clips_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("name: tiny\ntask: mesh\n")
    with pytest.raises(UserError, match=r"c\.yaml is an experiment on clips \(task: mesh\), but one on people in pict"):
        bench.load_subject(None, tmp_path / "c.yaml", torch.device("cpu"))


def test_time_inside_parts_adds_up_and_hooks_go_away() -> None:
    clock = bench.Clock(torch.device("cpu"))
    part = Wait(clock)
    inside = bench.PartClock(clock, {"part": part})
    part()
    part()
    spent = inside.spent["part"]
    assert spent >= 10
    inside.remove()
    part()
    assert inside.spent["part"] == spent and not part._forward_hooks and not part._forward_pre_hooks


def test_the_photo_is_a_photo(tmp_path: Path) -> None:
    bench.write_photo(tmp_path / "photo.jpg")
    photo = read_photo(tmp_path / "photo.jpg")
    assert (photo.width, photo.height) == bench.PHOTO_SIZE and photo.rgb.std() > 30


def test_data_are_measured_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--data", "3", "--json", tmp_path / "b.json") == 0
    report = json.loads((tmp_path / "b.json").read_text())
    assert report["files"] == 3
    marked, plain = report["with_restart_markers"], report["without_restart_markers"]
    for row in (marked, plain):
        assert 0 < row["mean_difference_grey_levels"] < 2
        assert row["ratio"] == pytest.approx(row["crops_per_second"] / row["plain_crops_per_second"])
    assert plain["bytes_per_file"] < marked["bytes_per_file"] < 1.05 * plain["bytes_per_file"]
    assert marked["ratio"] > 1.5  # about 3 to 4: less in three files under load
    assert f"{marked['ratio']:.2f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--device", "nonsense"], "unknown device 'nonsense'; give cpu"),
        (["--device", f"cuda:{torch.cuda.device_count()}"], "cannot be used ("),
        (["--repeats", "0"], "--repeats is 0"),
        (["--repeats", "few"], "invalid int value: 'few'"),
        (["--data", "0"], "--data is 0"),
        (["--data", "5", "--config", "c.yaml"], "not allowed with"),
        (["--checkpoint", "missing.safetensors"], "checkpoint not found: missing.safetensors"),
        (["--config", "missing.yaml"], "configuration not found: missing.yaml"),
        (["--config", "a.yaml", "--checkpoint", "b.safetensors"], "not allowed with"),
        (["--json", "configs"], "cannot write configs: it is a folder"),
        (["--json", "train.py/bench.json"], "cannot write to the folder train.py"),
        (["--repeat", "3"], "unknown option --repeat, did you mean --repeats?"),
    ],
)
def test_bad_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], reason: str
) -> None:
    monkeypatch.chdir(ROOT)
    assert run(monkeypatch, *arguments) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert message.startswith("error: ") and reason in message
