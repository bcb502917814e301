from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from diffhmr.command_line import run_command
from diffhmr.config import SamplerConfig
from diffhmr.config_clips import ClipExperimentConfig
from diffhmr.config_file import load_config
from diffhmr.errors import UserError
from diffhmr.inference.keypoint_files import read_tracks
from diffhmr.models.motion_diffusion import MotionDiffusion
from scripts import bench, bench_video
from scripts.bench_video import CONFIGS, OURS, PAPER, PAPER_AT_ONCE, Contest, make_contest, measure

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def contest() -> Contest:
    return make_contest("small", CPU, frames=35)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["bench", *(str(argument) for argument in arguments)])
    return run_command(bench.main)


def test_both_models_have_the_same_backbone(contest: Contest) -> None:
    ours, paper = contest.ours.network.backbone, contest.paper.network.backbone
    shapes = [{name: value.shape for name, value in model.state_dict().items()} for model in (ours, paper)]
    assert shapes[0] == shapes[1]
    assert (contest.paper.windows.frames, contest.paper.windows.overlap) == (16, 0)
    assert contest.ours.windows.overlap > 0 and contest.clip.num_frames == 35


def test_windows_that_follow_each_other_are_the_clip(contest: Contest) -> None:
    windows = bench_video._windows(contest.clip)
    assert [window.num_frames for window in windows] == [16, 16, 3]
    torch.testing.assert_close(torch.cat([window.keypoints for window in windows], 1), contest.clip.keypoints)
    options = SamplerConfig(steps=2)
    alone = [contest.paper.sample(window, 1, options, 0).params.rotations for window in windows[:2]]
    together = contest.paper.sample(contest.clip, 1, options, 0).params.rotations
    # The last window reaches back when all are taken at once; before it both are the same.
    torch.testing.assert_close(torch.cat(alone, dim=2)[:, :, :19], together[:, :, :19], atol=1e-4, rtol=0)


def test_the_ways_are_measured_in_turns(contest: Contest) -> None:
    spent = measure(contest, 1)
    assert list(spent) == [OURS, PAPER, PAPER_AT_ONCE]
    for way in spent.values():
        assert len(way.total) == len(way.backbone) == 1
        assert all(0 < inside < total for inside, total in zip(way.backbone, way.total, strict=True))
    assert "get_representation" not in vars(contest.ours.network.backbone)


def test_the_shipped_sizes_against_the_official_chain(monkeypatch: pytest.MonkeyPatch, contest: Contest) -> None:
    monkeypatch.setattr(bench_video, "SyntheticClips", lambda *_: [contest.clip])
    larger = make_contest("chain", CPU)
    count = bench_video._count
    assert count(larger.paper) > 3 * count(contest.paper)
    assert count(larger.paper.network.backbone) == count(contest.paper.network.backbone)
    shipped = load_config(CONFIGS["chain"])
    assert isinstance(shipped, ClipExperimentConfig) and shipped.name == "diffmesh_synthetic"
    assert larger.ours.windows.frames == shipped.model.window
    network = larger.ours.network
    assert isinstance(network, MotionDiffusion) and network.size.width == shipped.model.denoiser.width


def test_the_report_says_ratios(
    contest: Contest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    spent = {
        OURS: bench_video.Spent([10.0, 20.0], [4.0, 8.0]),
        PAPER: bench_video.Spent([100.0, 100.0], [10.0, 10.0]),
        PAPER_AT_ONCE: bench_video.Spent([30.0, 60.0], [4.0, 8.0]),
    }
    monkeypatch.setattr(bench_video, "make_contest", lambda *_: contest)
    monkeypatch.setattr(bench_video, "measure", lambda *_: spent)
    assert run(monkeypatch, "--video", "chain", "--repeats", "2", "--device", "cpu", "--json", tmp_path / "b.json") == 0
    report = json.loads((tmp_path / "b.json").read_text())
    assert report["sizes"] == "chain" and report["frames"] == 243
    rows = report["ways"]
    assert rows[PAPER]["ratio"] == pytest.approx(7.5) and rows[PAPER_AT_ONCE]["ratio"] == pytest.approx(3.0)
    assert rows[PAPER]["head_ratio"] == pytest.approx((90 / 6 + 90 / 12) / 2)
    assert rows[OURS]["head_median_ms"] == pytest.approx(9.0)
    text = capsys.readouterr().out
    assert "7.50" in text and "steps to the single answer: 1" in text and report["steps"] == 1


def test_long_keypoint_files_are_good_ones(tmp_path: Path) -> None:
    bench_video.write_keypoints(tmp_path / "k.json", 240)
    (track,) = read_tracks(tmp_path / "k.json", frame_size=(1920, 1080), num_frames=240, fps=30)
    assert len(track) > 180 and 1000 > np.median(np.ptp(track.points[..., 1], axis=1)) > 200


@pytest.mark.slow
def test_memory_of_the_demo_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, "--video-memory", "90", "--json", tmp_path / "b.json") == 0
    report = json.loads((tmp_path / "b.json").read_text())
    assert 100 * 2**20 < report["peak_bytes"] < 3 * 2**30 and report["result_bytes"] > report["frames"] * 72 * 4
    assert "track1.npz" in report["output"] and "peak" in capsys.readouterr().out


def test_failures_are_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "--video-memory", "1") == 2
    assert "--video-memory is 1" in capsys.readouterr().err
    assert run(monkeypatch, "--video", "large") == 2
    assert "--video" in capsys.readouterr().err
    with pytest.raises(UserError, match="exit code 1"):
        bench_video._in_a_process(sys.exit, 1)
