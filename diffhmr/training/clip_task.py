"""Training on clips of keypoints: one :class:`diffhmr.training.task.Task` for all four tasks of the settings.

What differs between them is a :class:`ClipParts`: the model, the training items, how the statistics of the data reach
the model, and who reports. :func:`build_clip_task` is the one place that knows all four. A further one needs

* a function beside ``_mesh_parts`` that builds its :class:`ClipParts` from :class:`ClipSetting`, and
* its line in :func:`build_clip_task`.

Its model is a :class:`diffhmr.training.task.Learner` with the attributes ``network``, one that
:mod:`diffhmr.motion_checkpoint` can write, and ``backbone_autocast``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from diffhmr.body.model import BodyModel
from diffhmr.checkpoint import load_body
from diffhmr.clip_batch import ActionBatch, ClipBatch, LiftingBatch
from diffhmr.clip_checkpoint import save_trained
from diffhmr.config_clips import ClipExperimentConfig
from diffhmr.datasets import build_action_dataset, build_clip_dataset, build_lifting_dataset
from diffhmr.errors import UserError
from diffhmr.models.clip_models import ClipModel, build_clip_model
from diffhmr.models.clip_tasks import ActionModel, LiftingModel, build_action_model, build_lifting_model
from diffhmr.motion_checkpoint import MotionModel
from diffhmr.training.action_report import ActionReport
from diffhmr.training.clip_start import load_start
from diffhmr.training.data import Batch, BatchDataset
from diffhmr.training.lifting_report import LiftingReport
from diffhmr.training.mesh_report import MeshReport
from diffhmr.training.processes import Processes
from diffhmr.training.selection import Criterion
from diffhmr.training.task import Model, Task

MESH_CRITERION = Criterion(("mode_mpvpe_mm",))
LIFTING_CRITERION = Criterion(("mpjpe_mm", "mpjpe_units", "reprojection_units"))
ACTION_CRITERION = Criterion(("top1", "nearest"), higher=True)
_STATISTICS_CHUNK = 32

_Reported = TypeVar("_Reported", bound=nn.Module, contravariant=True)


class ClipReport(Protocol[_Reported]):
    """What is said about a model while it learns."""

    def validate(self, model: _Reported) -> dict[str, float]:
        """Errors on the validation clips."""
        ...

    def picture(self, model: _Reported) -> Tensor | None:
        """Answers for some validation clips, ``[3, H, W]`` in [0, 1]; None if there is nothing to see."""
        ...


@dataclass(frozen=True)
class ClipSetting:
    """What the parts of a task are built from.

    Attributes:
        config: the experiment.
        data_body: on the CPU, for data, which are made next to the workers.
        body: on the device of the process, for the model.
    """

    config: ClipExperimentConfig
    data_body: BodyModel
    body: BodyModel


@dataclass(frozen=True)
class ClipParts(Generic[Model, Batch]):
    """What differs between the tasks on clips.

    Attributes:
        model: learns.
        dataset: the training items. Training takes item i of step n as number ``n * batch_size + i`` modulo its length:
            a data set whose items depend on the progress has at least as many as the run takes.
        make_report: called before the first step, in the main process only.
        criterion: which of the report's scores chooses the best model.
        set_statistics: gives the model the statistics of the training data before its first step, or None.
        predicts_body: SMPL parameters come out, and the model file names the body that they belong to.
    """

    model: Model
    dataset: BatchDataset[Batch]
    make_report: Callable[[], ClipReport[Model]]
    criterion: Criterion
    set_statistics: Callable[[], None] | None = None
    predicts_body: bool = False


class ClipTask(Generic[Model, Batch]):
    """A training on clips.

    Args:
        setting: what the parts were built from.
        parts: of the task.
        processes: this process among those of the run.
    """

    items = "clips"

    def __init__(self, setting: ClipSetting, parts: ClipParts[Model, Batch], processes: Processes) -> None:
        self.config = setting.config
        self.body = setting.body
        self.model = parts.model.to(processes.device)
        self.dataset = parts.dataset
        self._parts = parts
        self._device = processes.device
        self._is_main = processes.is_main
        self._report: ClipReport[Model] | None = None

    def use_bfloat16(self) -> None:
        """Autocast around the backbone; what comes after it stays in float32."""
        self.model.backbone_autocast = torch.bfloat16  # type: ignore[assignment]  # no tensor, as nn.Module expects

    def start(self) -> None:
        """Set the statistics of the data, then the weights of ``init`` if there is one.

        Raises:
            UserError: ``init`` does not fit the model; there are too few data; the validation data cannot be used.
        """
        self._open_validation()
        if self._parts.set_statistics is not None:
            self._parts.set_statistics()
        if self.config.init is not None:
            load_start(self.config.init, _network_of(self.model), self.config.init_head)

    def restore(self, folder: Path, step: int) -> None:  # noqa: ARG002
        """There is nothing beside the state and the model file.

        Raises:
            UserError: the validation data cannot be used.
        """
        self._open_validation()

    def _open_validation(self) -> None:
        """What is wrong with the validation data should not show up at the first validation only."""
        if self._is_main:
            self._reporter()

    def supervise(self, batch: Batch) -> Batch:
        """``batch`` on the device."""
        return batch.to(self._device)

    def shares(self) -> dict[str, Tensor]:
        """None."""
        return {}

    def validate(self, model: Model) -> dict[str, float]:
        """As the task's :class:`ClipReport` does."""
        return self._reporter().validate(model)

    def picture(self, model: Model) -> Tensor | None:
        """As the task's :class:`ClipReport` does."""
        return self._reporter().picture(model)

    def _reporter(self) -> ClipReport[Model]:
        if self._report is None:
            self._report = self._parts.make_report()
        return self._report

    @property
    def criterion(self) -> Criterion | None:
        """That of the task, unless the validation clips are a test set."""
        return None if self.config.data.validates_on_test else self._parts.criterion

    def save(self, path: Path, model: Model, step: int, *, finished: bool, extra: Mapping[str, str]) -> None:
        """Write the model file ``path``."""
        body = self.body if self._parts.predicts_body else None
        save_trained(path, _network_of(model), self.config, body, step, finished=finished, extra=extra)

    def save_beside(self, folder: Path, step: int) -> None:
        """There is nothing beside the state and the model file."""

    def forget_others(self, folder: Path, step: int) -> None:
        """There is nothing beside the state and the model file."""


def build_clip_task(config: ClipExperimentConfig, processes: Processes) -> Task[Any, Any]:
    """The task of an experiment on clips, on the device of this process.

    Raises:
        UserError: a file that the settings name cannot be used; pairs of a class would be torn apart.
    """
    share = processes.share(config.train.batch_size)
    if config.model.head == "embedding" and (share % 2 or share < 4):
        raise UserError(
            f"train.batch_size {config.train.batch_size} gives each of {processes.count} processes {share} clips, but "
            f"the head embedding compares pairs of a class: choose a multiple of {2 * processes.count}, at least "
            f"{4 * processes.count}"
        )
    _require_batch(config, processes)
    data_body = load_body(config.body.path)
    setting = ClipSetting(config, data_body, load_body(config.body.path).to(processes.device))
    torch.manual_seed(config.seed)
    if config.task == "mesh":
        return ClipTask(setting, _mesh_parts(setting), processes)
    if config.task == "action":
        return ClipTask(setting, _action_parts(setting), processes)
    return ClipTask(setting, _lifting_parts(setting), processes)


def _require_batch(config: ClipExperimentConfig, processes: Processes) -> None:
    """Batch norm needs two values: of clips, or with the head ``ours`` of frames."""
    on_gpu = processes.device.type == "cuda"  # there it sees the batch of all processes
    clips = config.train.batch_size if on_gpu else processes.share(config.train.batch_size)
    head = config.model.head
    if clips < 2 and (head in ("classifier", "motionbert") or (head == "ours" and config.data.frames < 2)):
        raise UserError(
            f"train.batch_size {config.train.batch_size} gives each of {processes.count} processes {clips} clip, but "
            f"the head {head} normalises over the batch: choose at least {2 * (1 if on_gpu else processes.count)}"
        )


def _mesh_parts(setting: ClipSetting) -> ClipParts[ClipModel, ClipBatch]:
    config = setting.config
    model = build_clip_model(config.model, setting.body, config.loss)
    dataset = build_clip_dataset(config.data, setting.data_body, "train")

    def make_report() -> MeshReport:
        clips = build_clip_dataset(config.data, setting.data_body, "val")
        return MeshReport(clips, setting.body, config.sampler, config.seed)

    def set_statistics() -> None:
        device = setting.body.v_template.device
        rotations, betas = frames_for_statistics(dataset, config.train.statistics_items)
        model.set_statistics(rotations.to(device), betas.to(device))

    return ClipParts(model, dataset, make_report, MESH_CRITERION, set_statistics, predicts_body=True)


def _lifting_parts(setting: ClipSetting) -> ClipParts[LiftingModel, LiftingBatch]:
    config = setting.config
    dataset = build_lifting_dataset(config, setting.data_body, "train")

    def make_report() -> LiftingReport:
        clips = build_lifting_dataset(config, setting.data_body, "val")
        return LiftingReport(clips, setting.body.v_template.device)

    return ClipParts(build_lifting_model(config.model, config.loss), dataset, make_report, LIFTING_CRITERION)


def _action_parts(setting: ClipSetting) -> ClipParts[ActionModel, ActionBatch]:
    config = setting.config
    dataset = build_action_dataset(config, setting.data_body, "train")

    def make_report() -> ActionReport:
        clips = build_action_dataset(config, setting.data_body, "val")
        return ActionReport(clips, setting.body.v_template.device)

    return ClipParts(build_action_model(config.model, config.loss), dataset, make_report, ACTION_CRITERION)


def _network_of(model: nn.Module) -> MotionModel:
    network = model.network
    assert isinstance(network, MotionModel)
    return network


def frames_for_statistics(dataset: BatchDataset[ClipBatch], count: int) -> tuple[Tensor, Tensor]:
    """Rotations ``[N, 24, 3, 3]`` and betas ``[N, 10]`` of frames of the first training clips, at least ``count``.

    Raises:
        UserError: there are fewer than two.
    """
    rotations: list[Tensor] = []
    betas: list[Tensor] = []
    found, start, size = 0, 0, 1
    while found < count and start < len(dataset):
        stop = min(start + size, len(dataset))
        targets = dataset.__getitems__(range(start, stop)).targets
        assert targets is not None
        rotations.append(targets.rotations.flatten(0, 1))
        betas.append(targets.params.betas.flatten(0, 1))
        found, start = found + len(betas[-1]), stop
        size = min(_STATISTICS_CHUNK, math.ceil((count - found) * stop / found))
    if found < 2:
        raise UserError(f"the training data hold {found} frames, too few for statistics: add clips")
    return torch.cat(rotations)[:count], torch.cat(betas)[:count]
