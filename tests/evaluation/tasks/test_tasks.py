"""Evaluation of lifting and of actions: closed forms, and checkpoints of every task on miniatures of its files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diffhmr.clip_batch import ActionBatch, LiftingBatch
from diffhmr.datasets.clip_files.action_clips import resampled, two_people
from diffhmr.datasets.clip_files.lifting_clips import LiftingSequence
from diffhmr.datasets.clip_files.pyskl import read_pyskl
from diffhmr.errors import UserError
from diffhmr.evaluation.command import evaluate, parse_arguments
from diffhmr.evaluation.tasks import data as task_data
from diffhmr.evaluation.tasks.actions import evaluate_action
from diffhmr.evaluation.tasks.data import TaskSource
from diffhmr.evaluation.tasks.lifting import evaluate_lifting
from diffhmr.evaluation.tasks.protocols import TASK_PROTOCOLS, find_task_protocol
from diffhmr.evaluation.tasks.run import format_task_table, run_task
from diffhmr.models.clip_tasks import ActionModel, LiftingModel
from diffhmr.models.clip_windows import WindowOptions
from diffhmr.models.dstformer import DSTformer, DSTformerSize
from diffhmr.motion_checkpoint import save_motion_model
from diffhmr.task_checkpoint import load_action_model
from diffhmr.training.loop import run
from scripts.compare import comparison
from scripts.evaluated_run import read_run
from tests.training.task_files import H36M_TEST, actions, one_shot, poses, task_config, write_ntu120


class _Shifted(nn.Module):
    """Lifts to the truth, one joint of which is moved by ``error`` units in every frame, forwards and back."""

    def __init__(self, sequences: list[LiftingSequence], errors: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.known = list(zip(sequences, errors, strict=True))
        self.flips: list[bool] = []

    def lift(self, keypoints: Tensor, flip: bool) -> Tensor:
        self.flips.append(flip)
        for sequence, error in self.known:
            if keypoints.shape == sequence.batch.keypoints.shape and torch.equal(keypoints, sequence.batch.keypoints):
                result = sequence.batch.positions + torch.tensor([0.5, 0.2, 3.0])
                sign = 1 - 2 * (torch.arange(keypoints.shape[1]) % 2)
                result[..., 4, 2] += error * sign[None]
                return result
        raise AssertionError


def _sequence(name: str, frames: int, action: str | None, seed: int) -> LiftingSequence:
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(1, frames, 17, 3, generator=generator)
    batch = LiftingBatch(
        item_seed=torch.zeros(1, dtype=torch.int64),
        keypoints=points,
        positions=torch.randn(1, frames, 17, 3, generator=generator),
        weight=torch.ones(1, frames, 17),
        has_depth=torch.ones(1, dtype=torch.bool),
        mm_per_unit=torch.full((1, frames), 340.0),
    )
    return LiftingSequence(name, batch, action)


def test_lifting_is_averaged_over_actions() -> None:
    sequences = [_sequence("a", 5, "Walk", 0), _sequence("b", 20, "Walk", 1), _sequence("c", 3, "Eat", 2)]
    model = _Shifted(sequences, [0.1, 0.2, 0.5])
    result = evaluate_lifting(model, sequences)  # type: ignore[arg-type]
    unit = 340.0 / 17
    per_sequence = [entry["mpjpe_mm"] for entry in result["sequences"]]
    assert per_sequence == pytest.approx([0.1 * unit, 0.2 * unit, 0.5 * unit], rel=1e-4)
    walk = (5 * 0.1 + 20 * 0.2) / 25 * unit
    assert result["actions"]["Walk"]["mpjpe_mm"] == pytest.approx(walk, rel=1e-4)
    assert result["metrics"]["mpjpe_mm"] == pytest.approx((walk + 0.5 * unit) / 2, rel=1e-4)
    # Forwards and back: the second difference of the error is four times as large.
    accelerations = (3 * 0.4 + 18 * 0.8) / 21 * unit, 4 * 0.5 * unit
    assert result["metrics"]["accel_error_mm_per_frame2"] == pytest.approx(sum(accelerations) / 2, rel=1e-4)
    assert (result["num_items"], result["num_frames"]) == (3, 28)
    assert model.flips == [True] * 3
    plain = [replace(sequence, action=None) for sequence in sequences]
    result = evaluate_lifting(_Shifted(plain, [0.1, 0.2, 0.5]), plain, limit=2, flip=False)  # type: ignore[arg-type]
    assert result["metrics"]["mpjpe_mm"] == pytest.approx(walk, rel=1e-4) and result["actions"] == {}


class _NoisyRoot(nn.Module):
    """In the place of a DSTformer: the joints as they are relative to the root, and anything for the root itself."""

    def __init__(self, positions: Tensor) -> None:
        super().__init__()
        self.head = nn.Identity()
        self.unused = nn.Parameter(torch.zeros(1))
        self.register_buffer("positions", positions - positions[..., :1, :])

    def get_representation(self, x: Tensor) -> Tensor:
        noise = torch.zeros_like(self.positions)
        noise[..., 0, :] = 0.1 * torch.randn(x.shape[0], x.shape[1], 3, generator=torch.Generator().manual_seed(0))
        return self.positions + noise


def test_the_root_of_positions_relative_to_it_is_zero() -> None:
    """What a network says of the root counts only where positions are not relative to it."""
    sequence = _sequence("a", 12, None, 0)
    network, window = _NoisyRoot(sequence.batch.positions), WindowOptions(12, 0, "picture")
    error = {}
    for relative in (True, False):
        model = LiftingModel(network, window, relative, frozenset()).eval()  # type: ignore[arg-type]
        error[relative] = evaluate_lifting(model, [sequence], flip=False)["metrics"]
    assert error[True]["mpjpe_mm"] < 1e-3 and error[True]["accel_error_mm_per_frame2"] < 1e-3
    assert error[False]["mpjpe_mm"] > 30 and error[False]["accel_error_mm_per_frame2"] > 30


def test_sequences_that_tell_no_millimetres_are_refused() -> None:
    good = _sequence("a", 4, None, 0)
    for changes in ({"mm_per_unit": None}, {"has_depth": torch.zeros(1, dtype=torch.bool)}):
        bad = replace(good, batch=replace(good.batch, **changes))
        with pytest.raises(UserError, match="the sequence a has no depths in millimetres"):
            evaluate_lifting(_Shifted([bad], [0.0]), [bad])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no sequence to be measured"):
        evaluate_lifting(_Shifted([], []), [])  # type: ignore[arg-type]


class _Answers(nn.Module):
    """Gives what the first coordinate of a clip points to."""

    def __init__(self, answers: Tensor, contrastive: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.answers, self.contrastive = answers, contrastive

    def predict(self, keypoints: Tensor) -> Tensor:
        return self.answers[keypoints[:, 0, 0, 0, 0].long()]


class _Clips:
    def __init__(self, rows: list[int], labels: list[int]) -> None:
        self.rows, self.labels = rows, labels

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, indices: Any) -> ActionBatch:
        keypoints = torch.zeros(len(indices), 1, 2, 17, 3)
        keypoints[:, 0, 0, 0, 0] = torch.tensor([self.rows[index] for index in indices])
        return ActionBatch(torch.tensor(list(indices)), keypoints, torch.tensor([self.labels[i] for i in indices]))


def test_top_1_and_top_5() -> None:
    answers = torch.eye(7) + 0.01 * torch.arange(7.0)  # row k: class k first, then 6, 5, 4 and so on
    model = _Answers(answers, False)
    labels = [0] * 20 + [3] * 20 + [2] * 10
    rows = [0] * 10 + [6] * 10 + [3] * 20 + [6] * 10
    result = evaluate_action(model, _Clips(rows, labels))  # type: ignore[arg-type]
    assert result["metrics"] == {
        "top1": pytest.approx(0.6), "top5": pytest.approx(0.8), "mean_class": pytest.approx(0.5),
    }  # fmt: skip
    assert result["per_class"] == {"0": 0.5, "2": 0.0, "3": 1.0}
    counts = result["confusion"]["counts"]
    assert counts[0][0] == 10 and counts[0][6] == 10 and counts[2][6] == 10 and counts[3][3] == 20
    assert evaluate_action(model, _Clips(rows, labels), limit=10)["metrics"]["top1"] == 1  # type: ignore[arg-type]
    with pytest.raises(UserError, match="knows 7 only"):
        evaluate_action(model, _Clips([0], [7]))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"vectors \(the head embedding\)"):
        evaluate_action(model, _Clips([0], [0]), _Clips([0], [0]))  # type: ignore[arg-type]


def test_one_shot_takes_the_nearest_exemplar() -> None:
    vectors = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [0, 1], [2, 1], [1, 3], [-1, 0.2]]), dim=-1)
    model = _Answers(vectors, True)
    exemplars = _Clips([0, 1], [30, 12])
    result = evaluate_action(model, _Clips([2, 3, 4, 2], [30, 12, 30, 12]), exemplars)  # type: ignore[arg-type]
    assert result["metrics"]["one_shot"] == 0.5
    assert result["confusion"] == {"labels": [30, 12], "counts": [[1, 1], [1, 1]]}
    with pytest.raises(UserError, match="more than one exemplar"):
        evaluate_action(model, _Clips([2], [30]), _Clips([0, 1], [30, 30]))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="scores of classes"):
        evaluate_action(model, _Clips([2], [30]))  # type: ignore[arg-type]


def test_a_lifting_model_on_human36m(tmp_path: Path) -> None:
    config = poses(tmp_path)
    checkpoint, out = run(config), tmp_path / "result.json"
    path = config.data.sources[0].path
    words = ["--checkpoint", str(checkpoint), "--dataset", "h36m-lifting", "--data", str(path), "--out", str(out)]
    table = evaluate(parse_arguments(words))
    result = json.loads(out.read_text())
    assert [one["name"] for one in result["sequences"]] == [name for name in H36M_TEST if "act_05" not in name]
    assert result["protocol"]["name"] == "h36m-lifting-v1" and set(result["actions"]) == {"act_02", "act_03"}
    assert result["num_frames"] == 14 + 13 + 17 and result["checkpoint"]["step"] == 4
    assert result["metrics"]["pa_mpjpe_mm"] < result["metrics"]["mpjpe_mm"]
    assert "act_03" in table and "mpjpe_mm" in table
    few = run_task(checkpoint, TaskSource("h36m-lifting", data=path.parent), limit=1)
    assert few["protocol"]["name"] == "h36m-lifting-v1-first-1" and few["num_items"] == 1


def test_an_imported_backbone_lifts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = DSTformer(DSTformerSize(8, 8, 1, 2, 8, 6))
    checkpoint = tmp_path / "official.safetensors"
    save_motion_model(checkpoint, network, {"body_name": "none", "body_sha256": "unknown"})
    path = poses(tmp_path).data.sources[0].path
    result = run_task(checkpoint, TaskSource("h36m-lifting", data=path), out=tmp_path / "lifting.json")
    compared = comparison([read_run(tmp_path / "lifting.json")] * 2, "text")
    assert "h36m-lifting-v1" in compared and compared.count(f"{result['metrics']['mpjpe_mm']:.1f}") >= 2
    assert result["checkpoint"]["step"] == 0
    assert result["protocol"]["windows"] == {"frames": 6, "overlap": 0, "input": "picture"}
    assert result["protocol"]["root_relative"] is True


def test_action_models_on_ntu(tmp_path: Path) -> None:
    config = actions(tmp_path / "classes")
    checkpoint = run(config)
    result = run_task(checkpoint, TaskSource("ntu60", data=config.data.sources[0].path))
    assert result["protocol"]["name"] == "ntu60-xsub-v1" and result["num_items"] == 2
    assert set(result["metrics"]) == {"top1", "mean_class"} and "ntu60" in format_task_table(result)
    vectors = run(one_shot(tmp_path / "vectors"))
    path = write_ntu120(tmp_path)
    result = run_task(vectors, TaskSource("ntu120", data=path))
    assert result["protocol"]["name"] == "ntu120-oneshot-v1" and result["num_items"] == 4
    assert set(result["per_class"]) == {"0", "6"} and 0 <= result["metrics"]["one_shot"] <= 1
    with pytest.raises(UserError, match="head classifier"):
        run_task(vectors, TaskSource("ntu60", data=config.data.sources[0].path))
    with pytest.raises(UserError, match="not trained with synthetic activities"):
        run_task(vectors, TaskSource("synthetic-action"))


def test_imported_action_weights_are_given_scores_in_the_order_of_coco(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of a training here are given the scores of the joints."""
    config = actions(tmp_path)
    trained, imported, path = run(config), tmp_path / "official.safetensors", config.data.sources[0].path
    save_motion_model(imported, load_action_model(trained).model.network, {"body_name": "none", "body_sha256": "x"})
    seen: list[Tensor] = []
    predict = ActionModel.predict
    monkeypatch.setattr(ActionModel, "predict", lambda self, x: seen.append(x) or predict(self, x))
    orders = [run_task(one, TaskSource("ntu60", data=path))["protocol"]["scores"] for one in (imported, trained)]
    assert orders == ["in COCO's order, as the official weights know them", "of the joints"]
    for given, coco_scores in zip(seen, (True, False), strict=True):
        for clip, keypoints in zip(read_pyskl(path, "xsub_val"), given, strict=True):
            frames = resampled(clip.frames, keypoints.shape[1])
            assert np.array_equal(keypoints, two_people(clip, coco_scores)[:, frames])
            if coco_scores:
                scores = clip.scores[:, frames].astype(np.float32)
                assert np.array_equal(np.sort(keypoints[: len(scores), ..., 2], axis=0), np.sort(scores, axis=0))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Synthetic tests of a few clips."""
    original = task_data.synthetic_motion
    smaller = {"test_frames": 9, "test_items": 3}
    monkeypatch.setattr(task_data, "synthetic_motion", lambda: original().model_copy(update=smaller))
    monkeypatch.setattr(task_data, "ACTION_ITEMS", 15)
    yield


@pytest.mark.usefixtures("small")
def test_models_on_synthetic_clips(tmp_path: Path) -> None:
    data = {"activities": ["walk", "squat", "wave"]}
    lifting = run(task_config(tmp_path / "lift", "pretrain", "lifting"))
    result = run_task(lifting, TaskSource("synthetic-lifting"))
    assert result["num_items"] == 3 and result["num_frames"] == 27 and result["metrics"]["mpjpe_mm"] > 0
    classifier = run(task_config(tmp_path / "class", "action", "classifier", data=data))
    result = run_task(classifier, TaskSource("synthetic-action"))
    assert result["num_items"] == 15 and result["protocol"]["classes"] == data["activities"]
    assert [sum(row) for row in result["confusion"]["counts"]] == [5, 5, 5]
    embedding = run(task_config(tmp_path / "vectors", "action", "embedding", data=data, train={"batch_size": 4}))
    result = run_task(embedding, TaskSource("synthetic-action", "synthetic-action-oneshot"))
    assert len(result["protocol"]["classes"]) == 11 and not set(data["activities"]) & set(result["protocol"]["classes"])
    assert "one_shot" in result["metrics"]
    with pytest.raises(UserError, match="gives no positions"):
        run_task(classifier, TaskSource("synthetic-lifting"))


def test_options_that_do_not_belong_together(tmp_path: Path) -> None:
    for words, message in (
        (["--flip"], "--flip is for bodies"),
        (["--num-samples", "3"], "--num-samples is for bodies"),
        (["--protocol", "h36m-lifting"], "has no protocol"),
    ):
        with pytest.raises(UserError, match=message):
            parse_arguments(["--checkpoint", "x", "--dataset", "ntu60", *words])
    with pytest.raises(UserError, match="--data belongs to other"):
        TaskSource("synthetic-lifting", data=tmp_path)
    with pytest.raises(UserError, match="the data of ntu60-xview-v1 are missing"):
        TaskSource("ntu60", "ntu60-xview", tmp_path).find_file()
    with pytest.raises(UserError, match="unknown data set"):
        find_task_protocol("h36m")


def test_protocols_describe_themselves() -> None:
    for name, protocol in TASK_PROTOCOLS.items():
        described = json.loads(json.dumps(protocol.describe()))
        assert described["name"] == f"{name}-v1" and find_task_protocol(protocol.dataset, f"{name}-v1") is protocol
