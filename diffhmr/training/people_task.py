"""Training on people in pictures: Diff-HMR and SPIN, perhaps supervised by fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from diffhmr.batch import ImageBatch
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.checkpoint import DETECTOR_PARTS, load_body, load_weights, save_model, without_downloads
from diffhmr.config import DataConfig, ExperimentConfig
from diffhmr.datasets import build_dataset
from diffhmr.datasets.mixture import Mixture
from diffhmr.errors import UserError
from diffhmr.files import require_file
from diffhmr.models import HmrModel, build_model
from diffhmr.training.data import BatchDataset
from diffhmr.training.fits import FitSupervision
from diffhmr.training.processes import Processes
from diffhmr.training.selection import Criterion
from diffhmr.training.validation import Validation, hypotheses_picture, validate

CRITERION = Criterion(("mode_mpjpe_mm",))
_STATISTICS_CHUNK = 1024


class PeopleTask:
    """The :class:`diffhmr.training.task.Task` of an experiment on people in pictures.

    Args:
        config: the experiment.
        processes: this process among those of the run.
        pretrained: start from the encoder weights that the settings name; False where other weights follow anyway.

    Attributes:
        fits: that supervise, or None.

    Raises:
        UserError: a file that the settings name cannot be used.
    """

    items = "people"

    def __init__(self, config: ExperimentConfig, processes: Processes, *, pretrained: bool = True) -> None:
        self.config = config
        self._device = processes.device
        # Data are made on the CPU, next to the workers; the model computes with a body of its own.
        self.data_body = load_body(config.body.path)
        self.body = load_body(config.body.path).to(processes.device)
        torch.manual_seed(config.seed)
        architecture = config.model if pretrained else without_downloads(config.model)
        self.model: HmrModel = build_model(architecture, self.body, config.loss)
        self.model.to(processes.device)
        if config.model.encoder.kind == "image":
            self.model.to(memory_format=torch.channels_last)
        self._validation_people: BatchDataset[ImageBatch] | None = None
        self.dataset = build_dataset(config.data, self.data_body, "train")
        self.fits: FitSupervision | None = None
        if config.fitting.active:
            assert isinstance(self.dataset, Mixture)
            self.fits = FitSupervision(config, self.dataset.members, self.body, processes)

    def use_bfloat16(self) -> None:
        """Autocast around the encoder; diffusion stays in float32."""
        self.model.encoder_autocast = torch.bfloat16

    def start(self) -> None:
        """Set the statistics of the people in the data, then the weights of other files if any.

        Raises:
            UserError: ``init`` does not fit the model; the data tell no statistics.
        """
        count = self.config.train.statistics_items
        params, camera = people_for_statistics(self.config.data, self.data_body, count, self._with_known_fits)
        self.model.set_statistics(params.to(self._device), camera.to(self._device))
        if self.config.init is not None:
            load_weights(self.config.init, self.model, self.config.model)
        if self.config.init_detector is not None:
            remedy = "train it first, as the header of the configuration says, or set init_detector=null"
            require_file(self.config.init_detector, "init_detector", remedy)
            load_weights(self.config.init_detector, self.model, self.config.model, only=DETECTOR_PARTS)

    def restore(self, folder: Path, step: int) -> None:
        """Go on with the fits of ``step``.

        Raises:
            UserError: they are missing or damaged.
        """
        if self.fits is not None:
            self.fits.restore(folder, step)

    def supervise(self, batch: ImageBatch) -> ImageBatch:
        """``batch`` on the device of the model, with fits as targets where the settings want them."""
        batch = batch.to(self._device)
        return batch if self.fits is None else self.fits.supervise(batch, self.model)

    def shares(self) -> dict[str, Tensor]:
        """How many people of the last batch fits supervise, and how many fits became better."""
        return {} if self.fits is None else {f"fits/{name}": value for name, value in self.fits.shares.items()}

    def _with_known_fits(self, batch: ImageBatch) -> ImageBatch:
        if self.fits is None:
            return batch
        return self.fits.supervise(batch.to(self._device), None).to("cpu")

    def validate(self, model: HmrModel) -> dict[str, float]:
        """See :func:`diffhmr.training.validation.validate`."""
        return validate(model, self._validation())

    def picture(self, model: HmrModel) -> Tensor:
        """See :func:`diffhmr.training.validation.hypotheses_picture`."""
        return hypotheses_picture(model, self._validation())

    def _validation(self) -> Validation:
        if self._validation_people is None:
            self._validation_people = build_dataset(self.config.data, self.data_body, "val")
        return Validation(self._validation_people, self.body, self.config.sampler, self.config.seed)

    @property
    def criterion(self) -> Criterion | None:
        """That of the single answer, unless the validation people are a test set."""
        return None if self.config.data.validates_on_test else CRITERION

    def save(self, path: Path, model: HmrModel, step: int, *, finished: bool, extra: Mapping[str, str]) -> None:
        """Write the model file ``path``."""
        save_model(path, model, self.config, self.body, step, finished=finished, extra=extra)

    def save_beside(self, folder: Path, step: int) -> None:
        """Write the fits, if any."""
        if self.fits is not None:
            self.fits.save(folder, step)

    def forget_others(self, folder: Path, step: int) -> None:
        """Delete the fits of other steps."""
        if self.fits is not None:
            self.fits.forget_others(folder, step)


def people_for_statistics(
    data: DataConfig, body: BodyModel, count: int, supervised: Callable[[ImageBatch], ImageBatch] | None = None
) -> tuple[SmplParams, Tensor]:
    """SMPL parameters ``[N]`` and cameras ``[N, 3]`` among ``count`` training people, without rendering or decoding.

    Args:
        data: settings.
        body: of the people.
        count: how many are looked at.
        supervised: gives a batch further targets, as in training.

    Raises:
        UserError: the training data hold too few people whose parameters and camera are known.
    """
    dataset = build_dataset(data.model_copy(update={"images": False}), body, "train")
    count = min(count, len(dataset))
    params: list[SmplParams] = []
    cameras: list[Tensor] = []
    for start in range(0, count, _STATISTICS_CHUNK):
        batch = dataset.__getitems__(range(start, min(start + _STATISTICS_CHUNK, count)))
        targets = (batch if supervised is None else supervised(batch)).targets
        assert targets is not None
        known = targets.has_params & targets.has_camera
        params.append(targets.params.map(partial(_rows, known)))
        cameras.append(targets.camera[known])
    camera = torch.cat(cameras)
    if camera.shape[0] < 2:
        raise UserError(
            f"of {count} training people, fewer than two have SMPL parameters and 2D points that tell their camera: no "
            "statistics for the state; add a label file with fits"
        )
    joined = SmplParams(
        torch.cat([part.global_orient for part in params]),
        torch.cat([part.body_pose for part in params]),
        torch.cat([part.betas for part in params]),
    )
    return joined, camera


def _rows(chosen: Tensor, value: Tensor) -> Tensor:
    return value[chosen]
