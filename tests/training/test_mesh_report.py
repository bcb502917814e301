"""Validation of meshes of clips: the truth has no error, known errors have theirs, and the sheet shows both."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.clip_batch import ClipBatch, ClipPrediction
from diffhmr.config import SamplerConfig
from diffhmr.datasets import build_clip_dataset
from diffhmr.geometry.rotation import axis_angle_to_matrix
from diffhmr.training.mesh_report import MeshReport
from tests.training.runs import make_clip_config

FRAMES = 15
CELL = 112
ALL = {
    "mode_mpjpe_mm",
    "mode_pa_mpjpe_mm",
    "mode_mpvpe_mm",
    "mode_accel_error_mm_per_frame2",
    "random_mpjpe_mm",
    "random_mpvpe_mm",
    "min_of_10_mpjpe_mm",
    "min_of_10_mpvpe_mm",
}


class Turned:
    """Knows the answers; hypothesis k is turned by ``angles[k]`` (those of the last for all that follow)."""

    def __init__(self, angles: list[float], deterministic: bool = False, trembling: float = 0.0) -> None:
        self.angles = angles
        self.deterministic = deterministic
        self.trembling = trembling
        self.asked: list[int] = []

    def sample(self, batch: ClipBatch, num_samples: int, _: SamplerConfig, __: int) -> ClipPrediction:
        assert batch.targets is not None
        self.asked.append(num_samples)
        angles = torch.tensor([self.angles[min(k, len(self.angles) - 1)] for k in range(num_samples)])
        signs = (torch.arange(batch.num_frames) % 2) * 2 - 1
        turns = _about_y(angles[:, None] + self.trembling * signs)
        rotations = batch.targets.rotations.unsqueeze(1).repeat(1, num_samples, 1, 1, 1, 1)
        rotations[..., 0, :, :] = turns @ rotations[..., 0, :, :]
        betas = batch.targets.betas[:, None, None].expand(*rotations.shape[:3], -1)
        return ClipPrediction(SmplParams.from_rotations(rotations, betas), self.deterministic)


def _about_y(angles: Tensor) -> Tensor:
    zero = torch.zeros_like(angles)
    return axis_angle_to_matrix(torch.stack([zero, angles, zero], dim=-1))


@pytest.fixture(scope="module")
def report(free_body: BodyModel) -> MeshReport:
    config = make_clip_config(Path("unused"), data={"test_frames": FRAMES, "val_items": 3})
    return MeshReport(build_clip_dataset(config.data, free_body, "val"), free_body, config.sampler, 0)


def test_the_truth_has_no_error(report: MeshReport) -> None:
    model = Turned([0.0])
    scores = report.validate(model)  # type: ignore[arg-type]
    assert set(scores) == ALL
    assert all(abs(value) < 0.01 for value in scores.values())
    assert model.asked == [11] * 3


def test_one_answer_has_no_samples(report: MeshReport) -> None:
    model = Turned([0.0], deterministic=True)
    assert set(report.validate(model)) == {name for name in ALL if name.startswith("mode_")}  # type: ignore[arg-type]
    assert model.asked == [1] * 3


def test_turned_answers(report: MeshReport) -> None:
    """Turning is an error of position only: similarity alignment removes it, and the best of ten is the truth."""
    scores = report.validate(Turned([0.5, 0.0, 0.25]))  # type: ignore[arg-type]
    assert scores["mode_mpjpe_mm"] > 20 and scores["mode_mpvpe_mm"] > 20
    assert scores["mode_pa_mpjpe_mm"] < 0.1
    for name in ("mpjpe_mm", "mpvpe_mm"):
        assert scores[f"min_of_10_{name}"] < 0.01
        # Nine of ten are turned by 0.25; the chord of half the angle is a little more than half the chord.
        half = (2 * torch.tensor(0.125).sin()) / (2 * torch.tensor(0.25).sin())
        assert scores[f"random_{name}"] == pytest.approx(0.9 * float(half) * scores[f"mode_{name}"], rel=1e-3)


def test_trembling_is_an_error_of_acceleration(report: MeshReport) -> None:
    still, trembling = (report.validate(Turned([0.0], True, angle)) for angle in (0.0, 0.05))  # type: ignore[arg-type]
    name = "mode_accel_error_mm_per_frame2"
    assert still[name] < 0.01
    # Every second difference of an alternating sequence is four times its amplitude.
    assert trembling[name] == pytest.approx(4 * trembling["mode_mpjpe_mm"], rel=0.1)


def test_clips_too_short_for_an_acceleration(free_body: BodyModel) -> None:
    config = make_clip_config(Path("unused"), data={"test_frames": 2, "val_items": 1})
    report = MeshReport(build_clip_dataset(config.data, free_body, "val"), free_body, config.sampler, 0)
    scores = report.validate(Turned([0.0]))  # type: ignore[arg-type]
    assert set(scores) == ALL - {"mode_accel_error_mm_per_frame2"}


def test_pictures_show_input_truth_and_answers(report: MeshReport) -> None:
    sheet = report.picture(Turned([0.0, 0.6, 1.2, 1.8]))  # type: ignore[arg-type]
    assert tuple(sheet.shape) == (3, 9 * CELL, 11 * CELL)
    assert float(sheet.min()) >= 0 and float(sheet.max()) <= 1
    cells = sheet.unflatten(1, (9, CELL)).unflatten(3, (11, CELL)).permute(1, 3, 0, 2, 4)
    for row in cells:
        truth, answer, *samples = row[1:6]
        assert torch.equal(truth, answer) and torch.equal(row[6], row[7])
        assert not torch.equal(truth, row[6])  # from the front, from the side
        assert all(not torch.equal(truth, sample) for sample in samples)
    assert not torch.equal(cells[0, 1], cells[2, 1]) and not torch.equal(cells[0, 1], cells[3, 1])
    assert float((cells[:, 0] < 0.9).float().mean()) > 0.005
    single = report.picture(Turned([0.0], deterministic=True))  # type: ignore[arg-type]
    assert tuple(single.shape) == (3, 9 * CELL, 5 * CELL)
    assert torch.equal(single[:, :, : 3 * CELL], sheet[:, :, : 3 * CELL])
