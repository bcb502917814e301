"""The loop with a task of a few lines, a linear regression: whatever a task is, these things hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from diffhmr.body.model import BodyModel
from diffhmr.checkpoint import load_body, load_state
from diffhmr.config_clips import ClipExperimentConfig
from diffhmr.config_file import AnyExperiment, config_from_dict, require_kind
from diffhmr.errors import UserError
from diffhmr.files import atomic_path
from diffhmr.training import loop
from diffhmr.training.dry_run import dry_run
from diffhmr.training.loop import Trainer, run
from diffhmr.training.processes import Processes
from diffhmr.training.selection import Criterion
from diffhmr.training.task import Task
from tests.training.runs import ALONE, ROOT, assert_same_weights, make_config, run_until

TRUTH = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])


def make_clip_config(folder: Path, **train: Any) -> ClipExperimentConfig:
    settings = {"steps": 6, "batch_size": 4, "lr": 0.1, "warmup_steps": 2, "workers": 0, "log_every": 2,
                "checkpoint_every": 2, "validate_every": 3, "picture_every": 3, **train}  # fmt: skip
    body = {"path": str(ROOT / "data/body/free_body.npz")}
    data = {"name": "run", "output": str(folder), "task": "pretrain", "model": {"head": "lifting"}, "body": body}
    return require_kind(config_from_dict(data | {"train": settings}), ClipExperimentConfig, "test")


@dataclass(frozen=True)
class Points:
    item_seed: Tensor
    x: Tensor
    y: Tensor

    def to(self, device: torch.device) -> Points:
        return Points(self.item_seed.to(device), self.x.to(device), self.y.to(device))


class PointsDataset:
    def __len__(self) -> int:
        return 10

    def __getitems__(self, indices: Sequence[int]) -> Points:
        x = torch.stack([torch.randn(3, generator=torch.Generator().manual_seed(index)) for index in indices])
        return Points(torch.tensor(indices), x, x @ TRUTH.T)


class Line(nn.Module):
    """Dropout that follows from the generator, and a data type for the expensive part."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Linear(3, 2)
        self.precision: torch.dtype | None = None

    def loss(self, batch: Points, generator: torch.Generator) -> dict[str, Tensor]:
        return {name: values.mean() for name, values in self.item_losses(batch, generator).items()}

    def item_losses(self, batch: Points, generator: torch.Generator) -> dict[str, Tensor]:
        keep = torch.rand(batch.x.shape, generator=generator) > 0.1
        return {"position": (self.network(batch.x * keep) - batch.y).square().mean(1)}


class LineTask:
    """A :class:`Task`; ``calls`` are those of the methods that the loop calls at certain moments."""

    items = "points"
    chooses: Criterion | None = None

    def __init__(self, config: AnyExperiment) -> None:
        self.config = config
        self.body: BodyModel = load_body(config.body.path)
        torch.manual_seed(config.seed)
        self.model = Line()
        self.dataset = PointsDataset()
        self.calls: list[tuple[Any, ...]] = []

    def use_bfloat16(self) -> None:
        self.model.precision = torch.bfloat16

    def start(self) -> None:
        self.calls.append(("start",))
        self.model.network.bias.data.fill_(0.25)

    def restore(self, folder: Path, step: int) -> None:
        self.calls.append(("restore", folder, step))

    def supervise(self, batch: Points) -> Points:
        return replace(batch, y=batch.y + 1)

    def shares(self) -> dict[str, Tensor]:
        return {"points/bias": self.model.network.bias.detach().mean()}

    def validate(self, model: Line) -> dict[str, float]:
        assert not model.training and model.precision is None
        return {"error_mm": float((model.network.weight.detach() - TRUTH).abs().max())}

    def picture(self, model: Line) -> Tensor | None:
        self.calls.append(("picture", model.precision))
        return None

    @property
    def criterion(self) -> Criterion | None:
        return self.chooses

    def save(self, path: Path, model: Line, step: int, *, finished: bool, extra: Mapping[str, str]) -> None:
        self.calls.append(("save", path.stem, step, finished))
        with atomic_path(path) as temporary:
            save_file(model.state_dict(), temporary, metadata={**extra, "step": str(step)})

    def save_beside(self, folder: Path, step: int) -> None:
        self.calls.append(("beside", folder.name, step))

    def forget_others(self, folder: Path, step: int) -> None:
        assert load_state(folder / "state.pt").step == step
        self.calls.append(("forget", step))


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[LineTask]:
    """All tasks that the loop builds."""
    made: list[LineTask] = []

    def build(config: AnyExperiment, _: Processes, *, resumed: bool = False) -> Task[Line, Points]:
        task = LineTask(config)
        task.calls.append(("built", resumed))
        made.append(task)
        return task

    monkeypatch.setattr(loop, "build_task", build)
    monkeypatch.setattr("diffhmr.training.dry_run.build_task", build)
    return made


def test_the_task_is_asked_at_the_right_moments(tmp_path: Path, tasks: list[LineTask]) -> None:
    run(make_clip_config(tmp_path))
    moments = [("beside", "run", 2), ("save", "model", 2, False), ("forget", 2), ("picture", None),
               ("beside", "run", 4), ("save", "model", 4, False), ("forget", 4),
               ("picture", None), ("beside", "run", 6), ("save", "model", 6, True), ("forget", 6)]  # fmt: skip
    assert tasks[0].calls == [("built", False), ("start",), *moments]
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    assert {"loss/total", "loss/position", "points/bias", "val/error_mm", "val_raw/error_mm"} <= set(tags["scalars"])
    assert tags["images"] == []
    run(make_clip_config(tmp_path, steps=7, decay="cosine"), resume=True)
    assert tasks[1].calls[:2] == [("built", True), ("restore", tmp_path / "run", 6)]


@pytest.mark.parametrize("steps", [(1,), (3, 5)])
def test_resumed_equals_uninterrupted(
    tmp_path: Path, tasks: list[LineTask], monkeypatch: pytest.MonkeyPatch, steps: Sequence[int]
) -> None:
    straight = run(make_clip_config(tmp_path / "straight"))
    config = make_clip_config(tmp_path / "broken")
    for step in steps:
        run_until(config, step, monkeypatch)
    assert_same_weights(straight, run(config, resume=True))
    assert len(tasks) == 2 + len(steps)


def test_supervised_batches_are_learned(tmp_path: Path, tasks: list[LineTask]) -> None:
    """The targets of the task are the data's plus one: that is where the bias goes."""
    config = make_clip_config(tmp_path, steps=150, lr=0.05, weight_decay=0.0, validate_every=150, picture_every=150)
    run(config)
    assert float((tasks[0].model.network.bias.detach() - 1).abs().max()) < 0.2
    assert float((tasks[0].model.network.weight.detach() - TRUTH).abs().max()) < 0.5


def test_half_precision_is_the_training_models_only(tmp_path: Path) -> None:
    trainer = Trainer(LineTask(make_clip_config(tmp_path)), ALONE)
    trainer.start()
    assert trainer.model.precision == torch.bfloat16 and trainer.averaged().precision is None
    assert Trainer(LineTask(make_clip_config(tmp_path, amp="off")), ALONE).model.precision is None


def test_the_dry_run_counts_in_the_tasks_words(tmp_path: Path, tasks: list[LineTask]) -> None:
    report = dry_run(make_clip_config(tmp_path))
    assert len(tasks) == 1 and "for 4 points, without data" in report
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (make_config, make_clip_config, "is an experiment on people in pictures, this is an experiment on clips (task"),
        (make_clip_config, make_config, "is an experiment on clips (task: pretrain), this is an experiment on people"),
    ],
)
@pytest.mark.parametrize("at", [1, 3])  # before there is a state, and after
def test_a_run_is_not_resumed_as_one_of_another_kind(
    tmp_path: Path,
    tasks: list[LineTask],
    monkeypatch: pytest.MonkeyPatch,
    first: Callable[[Path], AnyExperiment],
    second: Callable[[Path], AnyExperiment],
    words: str,
    at: int,
) -> None:
    monkeypatch.setattr(Line, "item_losses", lambda model, _, __: {
        name: model.network.weight.sum().expand(1) for name in ("position", "diffusion")
        if name in type(tasks[-1].config.loss).model_fields
    })  # fmt: skip
    run_until(first(tmp_path), at, monkeypatch)
    with pytest.raises(UserError) as caught:
        run(second(tmp_path), resume=True)
    assert words in str(caught.value) and "choose another name" in str(caught.value)
