"""Whole sequences with known errors: who is right, who is off by so much, who shakes, and what is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.errors import UserError
from diffhmr.evaluation.clips import evaluate, measures
from diffhmr.evaluation.clips.data import MeasuredClips, SequenceSet
from diffhmr.evaluation.clips.evaluate import evaluate_clips
from diffhmr.evaluation.clips.measures import SequenceMeasurer
from diffhmr.evaluation.clips.protocols import CLIP_PROTOCOLS, SYNTHETIC_MOTION
from diffhmr.evaluation.clips.sequences import LabelledSequence, cut
from diffhmr.evaluation.run import EvaluationOptions
from diffhmr.evaluation.truth import Bodies
from diffhmr.geometry.rotation import axis_angle_to_matrix
from tests.evaluation.moving_people import (
    FPS,
    HAND_M,
    ON_TREE,
    WRIST_M,
    Oracle,
    bend,
    chord,
    evaluation_of,
    sequence,
)

ANGLE = 0.4
OFF_MM = 1000 * chord(ANGLE) * (WRIST_M + HAND_M) / 24  # mean over the joints, of which two are off


class Seeing(SequenceSet):
    """Sequences of which ``visible [1, T, 17]`` is known."""

    def __init__(self, sequences: list[LabelledSequence], visible: Tensor) -> None:
        super().__init__(sequences)
        self.visible = visible

    def take(self, indices: Any) -> MeasuredClips:
        taken = super().take(indices)
        assert taken.batch.targets is not None
        targets = replace(taken.batch.targets, visible=self.visible)
        return replace(taken, batch=replace(taken.batch, targets=targets))


def _numbers(group: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for name, value in group.items():
        if isinstance(value, Mapping):
            flat |= _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, float):
            flat[prefix + name] = value
    return flat


def _bent_in(*frames: int) -> Oracle:
    """The elbow is off in some frames."""

    def change(params: SmplParams, clips: MeasuredClips) -> SmplParams:
        angle = torch.zeros(clips.valid.shape[1])
        angle[list(frames)] = ANGLE
        return bend(params, angle)

    return Oracle(change)


def test_the_truth_has_no_error(toy_body: BodyModel) -> None:
    found = evaluation_of(Oracle(), [sequence(7), sequence(4, "two", seed=1)], toy_body)
    for name, value in _numbers(found.metrics).items():
        limit = 1e-2 if "_of_" not in name or "min_of" in name or "mean_of_samples" in name else 1e9
        assert value < limit, name
    # The motion is what it is, in the prediction as in the truth.
    for what, unit in (("accel", "m_per_s2"), ("jitter", "m_per_s3")):
        own, right = (found.metrics[f"{what}_of_{side}_{unit}"] for side in ("prediction", "truth"))
        assert right > 1 and own == pytest.approx({"mode": right, "random": right})
    assert found.num_frames == 11 and [one["num_frames"] for one in found.sequences] == [7, 4]


def test_a_joint_that_is_off_has_the_known_error(toy_body: BodyModel) -> None:
    always = Oracle(lambda params, clips: bend(params, torch.full((clips.valid.shape[1],), ANGLE)))
    metrics = evaluation_of(always, [sequence(6)], toy_body).metrics
    for estimate in ("mode", "random", "mean_of_samples"):
        assert metrics["mpjpe_mm"][estimate] == pytest.approx(OFF_MM, rel=1e-4)
    assert metrics["mpjpe_mm"]["min_of"]["1"] == pytest.approx(OFF_MM, rel=1e-4)
    assert metrics["energy_score_mm"] == pytest.approx(OFF_MM, rel=1e-4)  # a single answer
    assert metrics["pa_mpjpe_mm"]["mode"] > 1
    assert metrics["spread_mm"]["all"] == pytest.approx(0, abs=1e-4)


def test_a_known_jerk_has_the_known_acceleration_error(toy_body: BodyModel) -> None:
    """In one frame of a body at rest the elbow jumps: d, 2 d, d in the three moments around it."""
    metrics = evaluation_of(_bent_in(5), [sequence(10, moving=0)], toy_body).metrics
    expected = 4 * OFF_MM / 8
    assert metrics["accel_error_mm_per_frame2"]["mode"] == pytest.approx(expected, rel=1e-4)
    assert metrics["accel_error_m_per_s2"]["mode"] == pytest.approx(expected * FPS**2 / 1000, rel=1e-4)
    assert metrics["accel_of_prediction_m_per_s2"]["mode"] == pytest.approx(expected * FPS**2 / 1000, rel=1e-4)
    assert metrics["accel_of_truth_m_per_s2"] == pytest.approx(0, abs=1e-3)
    # Third differences: d, 3 d, 3 d, d.
    assert metrics["jitter_of_prediction_m_per_s3"]["mode"] == pytest.approx(8 * OFF_MM / 7 * FPS**3 / 1000, rel=1e-4)


def test_totals_are_over_frames_and_moments_not_over_sequences(toy_body: BodyModel) -> None:
    """Frame 1 is off in each of two sequences of 4 and 16 frames: 2 of 20 frames, and 2 and 14 moments."""
    found = evaluation_of(_bent_in(1), [sequence(4, moving=0), sequence(16, "two", moving=0)], toy_body)
    assert found.metrics["mpjpe_mm"]["mode"] == pytest.approx(2 * OFF_MM / 20, rel=1e-4)
    assert found.metrics["accel_error_mm_per_frame2"]["mode"] == pytest.approx(6 * OFF_MM / 16, rel=1e-4)
    own = [one["mpjpe_mm"]["mode"] for one in found.sequences]
    assert own == pytest.approx([OFF_MM / 4, OFF_MM / 16], rel=1e-4)
    own = [one["accel_error_mm_per_frame2"]["mode"] for one in found.sequences]
    assert own == pytest.approx([3 * OFF_MM / 2, 3 * OFF_MM / 14], rel=1e-4)


def test_tails_are_measured_unless_the_protocol_cuts_clips(toy_body: BodyModel) -> None:
    whole = sequence(37)
    assert evaluation_of(_bent_in(36), [whole], toy_body).metrics["mpjpe_mm"]["mode"] == pytest.approx(
        OFF_MM / 37, rel=1e-3
    )
    parts = list(cut(whole, 16))
    assert [len(part) for part in parts] == [16, 16] and parts[1].name == "one from 16"
    assert parts[1].rotations.equal(whole.rotations[16:32]) and parts[1].keypoints.equal(whole.keypoints[16:32])
    assert parts[0].seed != parts[1].seed and list(cut(sequence(15), 16)) == []


def test_invalid_frames_are_left_out_with_their_moments(toy_body: BodyModel) -> None:
    """Of 10 frames number 5 is off and invalid: nothing of it is seen, and 3 of 8 moments are missing."""
    broken = sequence(10, moving=0)
    broken.valid[5] = False
    found = evaluation_of(_bent_in(5), [broken], toy_body)
    assert found.num_frames == 9
    assert found.metrics["mpjpe_mm"]["mode"] == pytest.approx(0, abs=1e-3)
    assert found.metrics["accel_error_mm_per_frame2"]["mode"] == pytest.approx(0, abs=1e-3)
    assert found.metrics["mpjpe_mm"]["min_of_sequence"]["1"] == pytest.approx(0, abs=1e-3)
    # Frame 2 is off too: it is in the moments of the frames 1, 2 and 3 of the five (1, 2, 3, 7, 8) that are left.
    found = evaluation_of(_bent_in(2, 5), [broken], toy_body)
    assert found.metrics["accel_error_mm_per_frame2"]["mode"] == pytest.approx(4 * OFF_MM / 5, rel=1e-4)


def test_sequences_that_are_too_short_for_an_acceleration_have_none(toy_body: BodyModel) -> None:
    found = evaluation_of(_bent_in(0), [sequence(1), sequence(2, "two")], toy_body)
    assert found.metrics["accel_error_mm_per_frame2"]["mode"] is None
    assert found.metrics["mpjpe_mm"]["mode"] == pytest.approx(2 * OFF_MM / 3, rel=1e-3)


def test_pieces_and_batches_change_nothing(toy_body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    people = [sequence(5, "a", 1), sequence(5, "b", 2), sequence(5, "c", 3), sequence(8, "d", 4)]
    noise = torch.Generator().manual_seed(0)
    angles = 0.3 * torch.randn(4, 8, generator=noise)
    oracle = Oracle(lambda params, clips: bend(params, angles[:, : clips.valid.shape[1]]), deterministic=False)
    together = evaluation_of(oracle, people, toy_body, num_samples=3)
    monkeypatch.setattr(evaluate, "_SEQUENCES_AT_ONCE", 1)
    monkeypatch.setattr(measures, "_BODIES_AT_ONCE", 1)
    single = evaluation_of(oracle, people, toy_body, num_samples=3)
    assert [one["name"] for one in together.sequences] == ["a", "b", "c", "d"]
    for one, other in zip([together.metrics, *together.sequences], [single.metrics, *single.sequences], strict=True):
        assert _numbers(one) == pytest.approx(_numbers(other), rel=1e-5, abs=1e-4)


def test_only_so_many_bodies_are_predicted_at_once(toy_body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequences of one length are predicted together, as many as the memory allows: 4 of 6 frames and 3 hypotheses."""
    sizes = []

    def change(params: SmplParams, clips: MeasuredClips) -> SmplParams:
        sizes.append(len(clips.batch))
        return params

    monkeypatch.setattr(evaluate, "_BODIES_AT_ONCE", 80)
    lengths = [6, 6, 6, 6, 6, 6, 30, *[1] * 9]
    people = [sequence(length, f"{number}") for number, length in enumerate(lengths)]
    measurer = SequenceMeasurer(ON_TREE, Bodies(toy_body, {}), (1, 2))
    evaluate_clips(Oracle(change, deterministic=False), SequenceSet(people), measurer, EvaluationOptions())
    assert sizes == [4, 2, 1, 8, 1]


def test_min_of_n_per_frame_and_per_sequence(toy_body: BodyModel) -> None:
    """Hypotheses 1 and 2 are off in one half of the frames each: each frame has a perfect one, no sequence has."""
    halves = torch.zeros(3, 10)
    halves[1, :5] = halves[2, 5:] = ANGLE
    oracle = Oracle(lambda params, clips: bend(params, halves), deterministic=False)  # noqa: ARG005
    error = evaluation_of(oracle, [sequence(10)], toy_body, num_samples=2).metrics["mpjpe_mm"]
    assert error["mode"] == pytest.approx(0, abs=1e-3)
    assert error["random"] == error["min_of"]["1"] == pytest.approx(OFF_MM / 2, rel=1e-4)
    assert error["min_of"]["2"] == pytest.approx(0, abs=1e-3)
    assert error["min_of_sequence"] == pytest.approx({"1": OFF_MM / 2, "2": OFF_MM / 2}, rel=1e-4)
    # The mean of a bent and a straight arm is half way along the chord.
    assert error["mean_of_samples"] == pytest.approx(OFF_MM / 2, rel=1e-4)


def test_a_single_random_motion_says_nothing_about_the_others(toy_body: BodyModel) -> None:
    metrics = evaluation_of(Oracle(deterministic=False), [sequence(4)], toy_body).metrics
    assert metrics["energy_score_mm"] is None and metrics["spread_mm"] == {"all": None}
    assert metrics["mpjpe_mm"]["random"] == pytest.approx(0, abs=1e-3)


def test_what_is_hidden_spreads_more(free_body: BodyModel) -> None:
    """Samples at +-angle, in the frames in which the left hand is hidden three times as much."""
    frames, wrist = 6, SYNTHETIC_MOTION.joints.joint_names.index("left_wrist_h36m17")
    hidden = torch.tensor([True, True, False, False, False, False])
    angle = torch.where(hidden, 0.3, 0.1)
    signs = torch.tensor([0.0, 1.0, -1.0])[:, None]

    visible = torch.ones(1, frames, 17, dtype=torch.bool)
    visible[0, hidden, wrist] = False
    measurer = SequenceMeasurer(SYNTHETIC_MOTION, Bodies(free_body, {}), (1, 2))
    oracle = Oracle(lambda params, clips: bend(params, signs * angle), deterministic=False)  # noqa: ARG005
    metrics = evaluate_clips(oracle, Seeing([sequence(frames)], visible), measurer, EvaluationOptions()).metrics
    spread, ratio = metrics["spread_mm"], metrics["spread_ratio"]
    # The mean of both lies on the middle of the chord: the distance is sin(angle) times that from the axis.
    assert ratio["frames"] == pytest.approx(np.sin(0.3) / np.sin(0.1), rel=1e-3)
    assert spread["hidden_joints"] == pytest.approx(spread["hidden_limbs"]) and spread["clear_frames"] > 0
    # Without the root there are 16 joints in 6 frames, of which 2 are hidden; 8 of them are of limbs.
    assert spread["all"] == pytest.approx((94 * spread["visible_joints"] + 2 * spread["hidden_joints"]) / 96)
    assert spread["all"] == pytest.approx((46 * spread["visible_limbs"] + 2 * spread["hidden_limbs"]) / 96, rel=1e-2)
    assert spread["all"] == pytest.approx((2 * spread["hidden_frames"] + 4 * spread["clear_frames"]) / 6, rel=1e-4)
    assert ratio["limbs"] < ratio["joints"]


def test_of_humaniflow_only_limbs_are_hidden(free_body: BodyModel) -> None:
    """Its visible joints are the visible ones and the hidden trunk, each joint once."""
    visible = torch.ones(1, 6, 17, dtype=torch.bool)
    names = SYNTHETIC_MOTION.joints.joint_names
    visible[0, :4, [names.index(name) for name in ("left_wrist_h36m17", "nose_h36m17", "left_hip_h36m17")]] = False
    oracle = Oracle(lambda params, clips: bend(params, torch.tensor([0.0, 0.2, -0.1])[:, None]), deterministic=False)  # noqa: ARG005
    measurer = SequenceMeasurer(SYNTHETIC_MOTION, Bodies(free_body, {}), (1, 2))
    metrics = evaluate_clips(oracle, Seeing([sequence(6)], visible), measurer, EvaluationOptions()).metrics
    spread = metrics["spread_mm"]
    visible_sum = 84 * spread["visible_joints"] + 12 * spread["hidden_joints"] - 4 * spread["hidden_limbs"]
    assert spread["humaniflow_visible"] == pytest.approx(visible_sum / 92, rel=1e-4)
    assert spread["humaniflow_visible"] != pytest.approx(spread["visible_joints"], rel=1e-3)
    ratio = spread["hidden_limbs"] / spread["humaniflow_visible"]
    assert metrics["spread_ratio"]["humaniflow"] == pytest.approx(ratio)


def test_the_truth_is_on_the_body_that_the_protocol_says(neutral: BodyModel, gendered: dict[str, BodyModel]) -> None:
    people = [sequence(4, "he", 1, gender=0), sequence(4, "she", 2, gender=1)]
    protocol = CLIP_PROTOCOLS["3dpw-video-gendered14"]
    truth = {name: gendered[name] for name in ("male", "female")}
    found = evaluation_of(Oracle(), people, neutral, protocol, truth=truth)
    joints, roots = protocol.joints, ["right_hip_h36m17", "left_hip_h36m17"]
    hips = [joints.joint_names.index(name) for name in roots]
    for person, own, body in zip(people, found.sequences, truth.values(), strict=True):
        targets = SequenceSet([person]).take([0]).batch.targets
        assert targets is not None
        pred, right = (one.joints(targets.params, joints)[0] for one in (neutral, body))
        pred, right = pred - pred[:, hips].mean(1, keepdim=True), right - right[:, hips].mean(1, keepdim=True)
        expected = 1000 * (pred - right).norm(dim=-1).mean()
        assert own["mpjpe_mm"]["mode"] == pytest.approx(float(expected), rel=1e-4)
    with pytest.raises(UserError, match="without a gender"):
        evaluation_of(Oracle(), [sequence(4)], neutral, protocol, truth=truth)


def test_fourteen_of_the_seventeen_joints_are_measured_beside(free_body: BodyModel) -> None:
    protocol = CLIP_PROTOCOLS["3dpw-video-neutral17-free-body"]
    metrics = evaluation_of(_bent_in(0), [sequence(1)], free_body, protocol).metrics
    # What moves with the elbow is in both sets.
    assert metrics["mpjpe_14_mm"]["mode"] * 14 == pytest.approx(metrics["mpjpe_mm"]["mode"] * 17, rel=1e-4)

    def turned(params: SmplParams, clips: MeasuredClips) -> SmplParams:  # noqa: ARG001
        turn = axis_angle_to_matrix(torch.tensor([0.2, -0.5, 1.0]))
        return replace(params, global_orient=turn @ params.global_orient)

    metrics = evaluation_of(Oracle(turned), [sequence(2)], free_body, protocol).metrics
    for name in ("mpjpe_mm", "mpjpe_14_mm"):
        assert metrics[name]["mode"] > 100 and metrics[f"pa_{name}"]["mode"] < 0.01


def test_answers_that_are_not_finite_are_refused(toy_body: BodyModel) -> None:
    def change(params: SmplParams, clips: MeasuredClips) -> SmplParams:  # noqa: ARG001
        return params.map(lambda value: value * float("nan"))

    with pytest.raises(UserError, match="one: the model's output is not finite"):
        evaluation_of(Oracle(change), [sequence(3)], toy_body)
