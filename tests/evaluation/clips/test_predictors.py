"""What is put around models: the mirror image, the filter, and what a model of clips may see."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from diffhmr.body.joints import COCO17, H36M17
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.clip_batch import ClipBatch, ClipPrediction
from diffhmr.config import SamplerConfig
from diffhmr.errors import UserError
from diffhmr.evaluation.clips.data import MeasuredClips, SequenceSet
from diffhmr.evaluation.clips.predictors import (
    Filtered,
    Flipped,
    FrameByFrame,
    OfClips,
    mirrored,
    mirrored_params,
)
from diffhmr.geometry.rotation import axis_angle_to_matrix, geodesic_distance
from diffhmr.models.framewise import FramewiseModel
from diffhmr.motion_filter import FilterOptions
from tests.evaluation.moving_people import Oracle, evaluation_of, sequence


def _taken(frames: int = 5) -> MeasuredClips:
    return SequenceSet([sequence(frames, "a", 1), sequence(frames, "b", 2)]).take([0, 1])


@dataclass
class LeftHanded:
    """Sees nothing but the mean x, and thinks that it is where the left arm points."""

    deterministic: bool = True

    def sample(self, batch: ClipBatch, num_samples: int, sampler: SamplerConfig, seed: int) -> ClipPrediction:
        assert batch.targets is None and sampler.steps == 3 and seed == 7
        vectors = torch.zeros(len(batch), num_samples, batch.num_frames, 24, 3)
        vectors[..., 16, 2] = 0.5
        vectors[:, 1:, :, 4, 0] = 0.3
        vectors[..., 0, 1] = batch.keypoints[..., 0].mean(-1).unsqueeze(1)
        betas = torch.ones(len(batch), num_samples, batch.num_frames, 10)
        return ClipPrediction(SmplParams.from_rotations(axis_angle_to_matrix(vectors), betas), self.deterministic)


def test_a_model_of_clips_does_not_see_the_truth() -> None:
    taken = _taken()
    prediction = OfClips(LeftHanded(), SamplerConfig(steps=3))(taken, 2, 7)
    assert tuple(prediction.params.shape) == (2, 2, 5) and taken.batch.targets is not None


def test_the_mirror_image_of_a_body_is_a_body(free_body: BodyModel) -> None:
    targets = _taken().batch.targets
    assert targets is not None
    params = targets.params
    twice = mirrored_params(mirrored_params(params))
    torch.testing.assert_close(twice.rotations, params.rotations)
    joints = free_body.joints(params, COCO17)[..., list(COCO17.flip), :] * torch.tensor([-1, 1, 1])
    found = free_body.joints(mirrored_params(params), COCO17)
    assert (joints - found).norm(dim=-1).max() < 0.005  # the free body is symmetric to some millimetres


def test_keypoints_change_sides_with_the_body() -> None:
    taken, other = _taken(), mirrored(_taken())
    for joint_set, one, two in (
        (H36M17, taken.batch.keypoints, other.batch.keypoints), (COCO17, taken.coco, other.coco),
    ):  # fmt: skip
        names = joint_set.joint_names
        left, right = ([n.startswith(f"{side}_wrist") for n in names].index(True) for side in ("left", "right"))
        assert one is not None and two is not None
        assert two[..., left, 0].equal(-one[..., right, 0]) and two[..., left, 1:].equal(one[..., right, 1:])
    assert other.batch.targets is None


def test_the_mirror_image_removes_what_is_one_sided() -> None:
    """Half of the left arm's turn goes to each side; which way the body faces follows the picture and stays."""
    plain = OfClips(LeftHanded(), SamplerConfig(steps=3))
    taken = _taken()
    one, both = plain(taken, 1, 7).params, Flipped(plain)(taken, 1, 7).params
    quarter = axis_angle_to_matrix(torch.tensor([0.0, 0.0, 0.25]))
    torch.testing.assert_close(both.rotations[..., 16, :, :], quarter.expand(2, 1, 5, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(both.rotations[..., 17, :, :], quarter.mT.expand(2, 1, 5, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(both.global_orient, one.global_orient, atol=1e-5, rtol=0)


def test_random_hypotheses_are_not_averaged_and_those_of_one_answer_are_that() -> None:
    taken = _taken()
    plain = OfClips(LeftHanded(deterministic=False), SamplerConfig(steps=3))
    one, both = plain(taken, 3, 7).params, Flipped(plain)(taken, 3, 7).params
    torch.testing.assert_close(both.rotations[:, 1:], one.rotations[:, 1:])
    assert (both.rotations[:, 0] - one.rotations[:, 0]).abs().max() > 0.1
    same = Flipped(OfClips(LeftHanded(), SamplerConfig(steps=3)))(taken, 3, 7).params
    assert same.rotations[:, 0].equal(same.rotations[:, 2])


def test_initial_parameters_are_mirrored_with_the_keypoints() -> None:
    taken = _taken()
    assert taken.batch.targets is not None
    given = replace(taken, batch=replace(taken.batch, initial=taken.batch.targets.params))
    initial = mirrored(given).batch.initial
    assert initial is not None
    torch.testing.assert_close(initial.rotations, mirrored_params(taken.batch.targets.params).rotations)


def test_the_filter_steadies_a_trembling_answer(toy_body: BodyModel) -> None:
    """On a body at rest the filter leaves less than a third of the acceleration, and one shape."""
    noise = torch.Generator().manual_seed(0)
    tremble = axis_angle_to_matrix(0.05 * torch.randn(1, 3, 60, 24, 3, generator=noise))
    betas = 0.3 * torch.randn(1, 3, 60, 10, generator=noise)

    def change(params: SmplParams, clips: MeasuredClips) -> SmplParams:  # noqa: ARG001
        return SmplParams.from_rotations(params.rotations @ tremble, params.betas + betas)

    shaky = Oracle(change, deterministic=False)
    still = sequence(60, moving=0)
    raw, smooth = (
        evaluation_of(one, [still], toy_body, num_samples=2).metrics  # type: ignore[arg-type]
        for one in (shaky, Filtered(shaky, FilterOptions(1.0, 0.05)))
    )
    for estimate in ("mode", "random"):
        before, after = (one["accel_error_mm_per_frame2"][estimate] for one in (raw, smooth))
        assert after < before / 3
        assert smooth["mpjpe_mm"][estimate] < raw["mpjpe_mm"][estimate]
    filtered = Filtered(shaky, FilterOptions())(SequenceSet([still]).take([0]), 3, 0).params
    assert filtered.betas.std(2).max() < 1e-6
    torch.testing.assert_close(filtered.betas[:, :, 0], betas.mean(2), atol=1e-5, rtol=0)
    assert geodesic_distance(filtered.rotations[:, :, :1], tremble[:, :, :1]).max() < 1e-3  # the first frame stays


def test_the_filter_knows_the_frame_rate_of_each_sequence() -> None:
    shaky = sequence(20)
    slow = replace(shaky, fps=5.0)
    taken = SequenceSet([shaky, slow]).take([0, 1])
    both = Filtered(Oracle(), FilterOptions())(taken, 1, 0).params.rotations
    alone = Filtered(Oracle(), FilterOptions())(SequenceSet([slow]).take([0]), 1, 0).params.rotations
    torch.testing.assert_close(both[1], alone[0])
    assert (both[0] - both[1]).abs().max() > 0.01


def test_models_of_pictures_need_points_of_coco() -> None:
    without = replace(_taken(), coco=None)
    predictor = FrameByFrame(FramewiseModel(None), SamplerConfig(), deterministic=True)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no COCO keypoints"):
        predictor(without, 1, 0)
