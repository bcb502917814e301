"""A model of pictures on clips: crops, held answers, the camera, and independence of what else is in the batch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import torch

from diffhmr.batch import ImageBatch, Prediction
from diffhmr.body.joints import COCO17
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.config import SamplerConfig
from diffhmr.geometry.camera import project_crop
from diffhmr.geometry.rotation import axis_angle_to_matrix
from diffhmr.models import framewise
from diffhmr.models.framewise import FEWEST_POINTS, FramewiseModel, answering_frames, crop_squares

SAMPLER = SamplerConfig(steps=1)


@dataclass
class Recorder:
    """Answers with a body whose betas are the mean of its keypoints and its seed, and remembers what it was asked."""

    asked: list[ImageBatch] = field(default_factory=list)

    def sample(self, batch: ImageBatch, num_samples: int, sampler: SamplerConfig, seed: int) -> Prediction:
        assert batch.keypoints is not None and sampler is SAMPLER
        self.asked.append(batch)
        size = len(batch)
        betas = torch.zeros(size, num_samples, 10)
        betas[..., 0] = batch.keypoints[..., 0].mean(-1, keepdim=True)
        betas[..., 1] = batch.item_seed[:, None] + 0.01 * torch.arange(num_samples) + seed
        rotations = torch.eye(3).expand(size, num_samples, 24, 3, 3)
        return Prediction(SmplParams.from_rotations(rotations, betas), torch.ones(size, num_samples, 3))


def _model(recorder: Recorder, focal: float = framewise.DIAGONAL_FOCAL) -> FramewiseModel:
    return FramewiseModel(cast(Any, recorder), focal)


def _points(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(*shape, 17, 3, generator=generator) - 0.5
    points[..., 2] = 0.9
    return points


def test_frames_without_points_have_the_last_answer() -> None:
    usable = torch.tensor([[0, 0, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]], dtype=torch.bool)
    assert answering_frames(usable).tolist() == [[2, 2, 2, 2, 4, 4], [0, 1, 2, 3, 4, 5], [0, 0, 0, 0, 0, 0]]
    keypoints = _points(1, 5)
    keypoints[0, [0, 3]] = 0
    keypoints[0, 4, FEWEST_POINTS - 1 :, 2] = 0
    recorder = Recorder()
    betas = _model(recorder).sample(keypoints, torch.tensor([5]), 2, SAMPLER, 0).params.betas[0, 0, :, 0]
    assert sum(len(batch) for batch in recorder.asked) == 2
    assert betas[0] == betas[1] != betas[2] and betas[2] == betas[3] == betas[4]


def test_clips_have_the_same_answer_alone_and_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    keypoints, seeds = _points(3, 7), torch.tensor([3, 1, 2])
    keypoints[1, 2:4] = 0
    together = _model(Recorder()).sample(keypoints, seeds, 3, SAMPLER, 1).params
    assert tuple(together.shape) == (3, 3, 7)
    monkeypatch.setattr(framewise, "_FRAMES_AT_ONCE", 2)
    for row in range(3):
        alone = _model(Recorder()).sample(keypoints[row : row + 1], seeds[row : row + 1], 3, SAMPLER, 1).params
        torch.testing.assert_close(alone.betas[0], together.betas[row])
        torch.testing.assert_close(alone.rotations[0], together.rotations[row])
    # Hypothesis k of all frames has the seed of the clip.
    assert (together.betas[0, 2, :, 1] - 4.02).abs().max() < 1e-5


def test_crops_are_centred_squares_with_a_margin() -> None:
    keypoints = torch.zeros(17, 3)
    keypoints[:5] = torch.tensor([[0.1, 0.2, 1], [0.3, 0.2, 1], [0.3, 0.8, 1], [0.1, 0.8, 1], [9.0, 9.0, 0.1]])
    centre, side = crop_squares(keypoints)
    torch.testing.assert_close(centre, torch.tensor([0.2, 0.5]))
    assert float(side) == pytest.approx(0.6 * 1.44)
    few = keypoints.clone()
    few[3] = 0  # then the unsure point counts
    assert crop_squares(few)[0].tolist() == pytest.approx([4.55, 4.6])
    recorder = Recorder()
    _model(recorder).sample(keypoints.expand(1, 1, 17, 3), torch.tensor([0]), 1, SAMPLER, 0)
    seen = recorder.asked[0].keypoints
    assert seen is not None
    assert seen[0, 0].tolist() == pytest.approx([-0.2 / 0.864, -0.6 / 0.864, 1], rel=1e-5)
    assert seen[0, 4:].abs().max() == 0  # outside the crop, or not there
    empty = crop_squares(torch.zeros(2, 17, 3))
    assert empty[0].abs().max() == 0 and empty[1].tolist() == [1, 1]


def test_the_body_is_turned_into_the_camera_of_the_picture() -> None:
    """A person at 45 degrees to the right, who faces the crop's camera, is turned by as much about the vertical."""
    keypoints = _points(1, 1) * torch.tensor([0.1, 0.1, 1.0])
    low, high = keypoints[..., :2].amin((0, 1, 2)), keypoints[..., :2].amax((0, 1, 2))
    keypoints[..., :2] += torch.tensor([2.0, 0.0]) - (low + high) / 2
    params = _model(Recorder(), focal=2.0).sample(keypoints, torch.tensor([0]), 1, SAMPLER, 0).params
    expected = axis_angle_to_matrix(torch.tensor([0.0, math.pi / 4, 0.0]))
    torch.testing.assert_close(params.global_orient[0, 0, 0], expected, atol=1e-5, rtol=0)


def test_the_crop_holds_the_person_as_in_training(free_body: BodyModel) -> None:
    """Joints seen by a camera that looks at the crop are where the crop's keypoints are."""
    upright = torch.eye(3).expand(24, 3, 3).clone()
    upright[0] = axis_angle_to_matrix(torch.tensor([math.pi, 0.0, 0.0]))
    joints = free_body.joints(SmplParams.from_rotations(upright, torch.zeros(10)), COCO17)
    points = project_crop(joints, torch.tensor([0.9, 0.0, 0.0]))
    keypoints = torch.cat([0.4 * points + 0.3, torch.ones(17, 1)], dim=-1)
    recorder = Recorder()
    _model(recorder).sample(keypoints[None, None], torch.tensor([0]), 1, SAMPLER, 0)
    seen = recorder.asked[0].keypoints
    assert seen is not None
    scale = (points.amax(0) - points.amin(0)).max() * 1.44 / 2
    middle = (points.amax(0) + points.amin(0)) / 2
    torch.testing.assert_close(seen[0, :, :2], (points - middle) / scale, atol=1e-5, rtol=0)
