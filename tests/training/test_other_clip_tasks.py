"""Runs of MotionBERT's tasks beside the mesh on miniatures of their files, and what is reported of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from diffhmr.body.model import BodyModel
from diffhmr.clip_batch import ActionBatch, LiftingBatch
from diffhmr.config_clips import ClipExperimentConfig
from diffhmr.datasets import build_action_dataset
from diffhmr.errors import UserError
from diffhmr.models.dstformer import DSTformer
from diffhmr.motion_checkpoint import load_motion_model, read_motion_metadata, save_motion_model
from diffhmr.task_checkpoint import load_action_model, load_lifting_model
from diffhmr.training.action_report import ActionReport
from diffhmr.training.build import build_task
from diffhmr.training.data import StepSlice, step_batches
from diffhmr.training.lifting_report import LiftingReport
from diffhmr.training.loop import run
from diffhmr.training.processes import Processes
from tests.training.runs import assert_same_weights, make_trainer, run_until
from tests.training.task_files import actions, one_shot, poses, pretraining, task_config

Make = Callable[[Path], ClipExperimentConfig]
CPU = torch.device("cpu")
FLAT = ("position", "scaled_position", "position_velocity", "reprojection")
RUNS: list[tuple[Make, tuple[str, ...], tuple[str, ...]]] = [
    (pretraining, FLAT, ("mpjpe_units", "pa_mpjpe_units")),
    (poses, FLAT, ("mpjpe_mm", "pa_mpjpe_mm")),
    (actions, ("cross_entropy",), ("top1", "cross_entropy")),
    (one_shot, ("contrastive",), ("nearest",)),
]


@pytest.mark.parametrize(("make", "terms", "scores"), RUNS, ids=lambda value: getattr(value, "__name__", ""))
def test_each_task_learns_from_its_files(
    tmp_path: Path, make: Make, terms: tuple[str, ...], scores: tuple[str, ...]
) -> None:
    config = make(tmp_path)
    path = run(config)
    metadata = read_motion_metadata(path)
    assert metadata["step"] == "4" and metadata["finished"] == "true"
    assert metadata["body_name"] == "none" and metadata["body_sha256"] == "unknown"
    load: Any = load_action_model if config.task == "action" else load_lifting_model
    loaded = load(path)
    assert loaded.config == config and loaded.step == 4 and not loaded.model.training
    events = EventAccumulator(str(path.parent / "tensorboard"))
    events.Reload()
    scalars = events.Tags()["scalars"]
    assert {f"loss/{name}" for name in (*terms, "total")} == {tag for tag in scalars if tag.startswith("loss/")}
    assert {f"val/{name}" for name in scores} == {tag for tag in scalars if tag.startswith("val/")}
    assert events.Tags()["images"] == ["hypotheses"]


@pytest.mark.parametrize("make", [pretraining, one_shot])
def test_resumed_equals_uninterrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Make) -> None:
    config = make(tmp_path)
    config = config.model_copy(update={"train": config.train.model_copy(update={"validate_every": 9})})
    straight = run(config.model_copy(update={"output": tmp_path / "straight"}))
    broken = config.model_copy(update={"output": tmp_path / "broken"})
    run_until(broken, 3, monkeypatch)
    assert_same_weights(straight, run(broken, resume=True))


@pytest.mark.parametrize(("task", "head"), [("pretrain", "lifting"), ("pose3d", "lifting"), ("action", "classifier"),
                                            ("action", "embedding")])  # fmt: skip
def test_each_task_learns_from_synthetic_clips(tmp_path: Path, task: str, head: str) -> None:
    data = {"activities": ["walk", "squat", "wave"]}
    train = {"steps": 16, "lr": 6e-3, "amp": "off", "decay": "constant", "batch_size": 6}
    backbone = {"width": 16, "hidden": 32, "depth": 1, "heads": 2, "features": 16, "max_frames": 8}
    model = {"backbone": backbone, "dropout": 0.0}
    config = task_config(tmp_path, task, head, data={**data, "train_items": 6}, train=train, model=model)
    trainer = make_trainer(config)
    trainer.start()
    totals = []
    for batch in trainer.batches():
        gradients = trainer.gradients(batch)
        assert gradients.finite()
        totals.append(float(gradients.total))
        trainer.update()
    assert sum(totals[-4:]) < 0.93 * sum(totals[:4])


@pytest.mark.parametrize("synthetic", [False, True])
def test_every_batch_of_an_embedding_has_pairs(tmp_path: Path, toy_body: BodyModel, synthetic: bool) -> None:
    config, classes = one_shot(tmp_path), (0, 5, 99)
    if synthetic:
        classes = (0, 1, 2)
        data = {"activities": ["walk", "squat", "wave"]}
        config = task_config(tmp_path, "action", "embedding", data=data, train={"batch_size": 4})
    dataset = build_action_dataset(config, toy_body, "train")
    whole = list(step_batches(dataset, StepSlice(0, 12, 4, 0, 4), 0))
    for batch in whole:
        assert (batch.label.bincount() % 2 == 0).all() and not torch.equal(batch.keypoints[0], batch.keypoints[1])
    # The three classes come equally often, two clips of each in every three pairs.
    labels = torch.cat([batch.label for batch in whole]).reshape(-1, 6).sort(dim=1).values
    assert torch.equal(labels, torch.tensor(classes).repeat_interleave(2).expand(8, 6))
    again = build_action_dataset(config, toy_body, "train")
    for steps, rows in ((StepSlice(5, 12, 4, 0, 4), slice(0, 4)), (StepSlice(5, 12, 4, 2, 2), slice(2, 4))):
        for batch, other in zip(step_batches(again, steps, 0), whole[5:], strict=True):
            assert torch.equal(batch.keypoints, other.keypoints[rows]) and torch.equal(batch.label, other.label[rows])
            assert torch.equal(batch.item_seed, other.item_seed[rows])


def test_pairs_are_not_torn_apart_by_processes(tmp_path: Path) -> None:
    config = one_shot(tmp_path)
    for count, batch_size in ((2, 4), (2, 10), (4, 12)):
        train = config.train.model_copy(update={"batch_size": batch_size})
        with pytest.raises(UserError, match=f"choose a multiple of {2 * count}, at least {4 * count}$"):
            build_task(config.model_copy(update={"train": train}), Processes(0, count, CPU))


def test_tasks_start_from_pretraining(tmp_path: Path) -> None:
    pretrained = run(pretraining(tmp_path / "first"))
    given = load_motion_model(pretrained)
    assert isinstance(given, DSTformer)
    for make in (poses, actions):
        config = make(tmp_path / make.__name__).model_copy(update={"init": pretrained})
        trainer = make_trainer(config)
        trainer.start()
        network = trainer.model.network
        for name, value in (network if make is poses else network.backbone).state_dict().items():
            assert torch.equal(value, given.state_dict()[name]), name


def test_imported_weights_of_actions_knew_other_confidences(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own, config = run(actions(tmp_path / "own")), actions(tmp_path / "next")
    imported = tmp_path / "imported.safetensors"
    save_motion_model(imported, load_motion_model(own), {"body_name": "", "body_sha256": ""})
    for start, with_head, warned in ((own, True, False), (imported, False, False), (imported, True, True)):
        caplog.clear()
        make_trainer(config.model_copy(update={"init": start, "init_head": with_head})).start()
        assert ("confidences in COCO's order" in caplog.text) == warned, (start, with_head)


def test_files_of_other_tasks_are_refused(tmp_path: Path) -> None:
    lifting, action = run(poses(tmp_path / "one")), run(actions(tmp_path / "two"))
    with pytest.raises(UserError, match="motionbert_action network, which gives no positions"):
        load_lifting_model(action)
    with pytest.raises(UserError, match="dstformer network, which knows no actions"):
        load_action_model(lifting)


def test_settings_that_do_not_fit_the_actions(tmp_path: Path, toy_body: BodyModel) -> None:
    config = actions(tmp_path)
    few = config.model_copy(update={"model": config.model.model_copy(update={"classes": 2})})
    build_action_dataset(few, toy_body, "train")
    with pytest.raises(UserError, match=r"model\.classes is 2, but the data have 3"):
        build_action_dataset(few, toy_body, "val")
    assert config.data.validation is not None
    moved = config.data.validation.model_copy(update={"path": tmp_path / "elsewhere.pkl"})
    for validation, message in ((None, r"data\.validation is missing"), (moved, r"elsewhere\.pkl.*validation\.path")):
        data = config.data.model_copy(update={"validation": validation})
        with pytest.raises(UserError, match=message):
            build_action_dataset(config.model_copy(update={"data": data}), toy_body, "train")


class _Lifted:
    """Gives the truth, moved as a whole and with one joint wrong."""

    def __init__(self, batch: LiftingBatch) -> None:
        self.batch = batch

    def lift(self, keypoints: torch.Tensor) -> torch.Tensor:
        (place,) = (k for k, own in enumerate(self.batch.keypoints) if torch.equal(own, keypoints[0]))
        result = self.batch.positions[place : place + len(keypoints)] + 0.3
        result[..., 5, 0] += 0.17
        return result


class _Rows:
    """A batch as a data set."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch)

    def __getitems__(self, indices: Any) -> Any:
        rows = list(indices)
        values = {name: getattr(self.batch, name) for name in self.batch.__dataclass_fields__}
        return type(self.batch)(**{name: None if value is None else value[rows] for name, value in values.items()})


def _lifting_batch(size: int, has_depth: bool, mm: float | None) -> LiftingBatch:
    generator = torch.Generator().manual_seed(0)
    positions = torch.randn(size, 4, 17, 3, generator=generator)
    keypoints = torch.rand(size, 4, 17, 3, generator=generator)
    return LiftingBatch(
        item_seed=torch.arange(size),
        keypoints=keypoints,
        positions=positions,
        weight=torch.ones(size, 4, 17),
        has_depth=torch.full((size,), has_depth),
        mm_per_unit=None if mm is None else torch.full((size, 4), mm),
    )


def test_lifting_is_validated_relative_to_the_root() -> None:
    for mm, name in ((500.0, "mpjpe_mm"), (None, "mpjpe_units")):
        batch = _lifting_batch(20, True, mm)
        scores = LiftingReport(_Rows(batch), CPU).validate(_Lifted(batch))  # type: ignore[arg-type]
        assert scores[name] == pytest.approx((mm or 1.0) * 0.17 / 17, rel=1e-4)
        assert set(scores) == {name, f"pa_{name}"}
    flat = _lifting_batch(20, False, None)
    scores = LiftingReport(_Rows(flat), CPU).validate(_Lifted(flat))  # type: ignore[arg-type]
    assert scores == {"reprojection_units": pytest.approx(0.17 / 17, rel=1e-4)}


class _Answers:
    """Answers that are known beforehand, clip by clip."""

    def __init__(self, answers: torch.Tensor, contrastive: bool) -> None:
        self.answers, self.contrastive = answers, contrastive

    def predict(self, keypoints: torch.Tensor) -> torch.Tensor:
        return self.answers[keypoints[:, 0, 0, 0, 0].long()]


def _action_batch(labels: list[int]) -> ActionBatch:
    keypoints = torch.zeros(len(labels), 1, 3, 17, 3)
    keypoints[:, 0, 0, 0, 0] = torch.arange(len(labels))
    return ActionBatch(torch.arange(len(labels)), keypoints, torch.tensor(labels))


def test_actions_are_validated_by_the_best_one_and_the_best_five() -> None:
    scores = torch.arange(6.0).repeat(40, 1)  # 5 is the first choice, 0 the last
    labels = [5] * 10 + [1] * 20 + [0] * 10
    report = ActionReport(_Rows(_action_batch(labels)), CPU)
    result = report.validate(_Answers(scores, False))  # type: ignore[arg-type]
    assert result["top1"] == pytest.approx(0.25) and result["top5"] == pytest.approx(0.75)
    five = ActionReport(_Rows(_action_batch([1, 2])), CPU).validate(_Answers(scores[:, :5], False))  # type: ignore[arg-type]
    assert "top5" not in five


def test_vectors_are_validated_by_their_nearest_neighbours() -> None:
    vectors = torch.nn.functional.normalize(torch.tensor([[1.0, 0], [1, 0.1], [0, 1], [0.9, -0.3]]), dim=-1)
    report = ActionReport(_Rows(_action_batch([0, 0, 1, 1])), CPU)
    assert report.validate(_Answers(vectors, True)) == {"nearest": pytest.approx(0.5)}  # type: ignore[arg-type]
