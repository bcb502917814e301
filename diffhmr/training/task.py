"""What the one loop wants to know of a training, whatever is learned from whatever data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from diffhmr.body.model import BodyModel
from diffhmr.config_file import AnyExperiment
from diffhmr.training.data import Batch, BatchDataset
from diffhmr.training.selection import Criterion

Model = TypeVar("Model", bound=nn.Module)


class Learner(Protocol):
    """What the model of a task offers beside being an ``nn.Module``."""

    def loss(self, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """Unweighted scalar terms, named as the weights in the section ``loss`` of the settings.

        All that is random follows from the generator and the items' seeds.
        """
        ...

    def item_losses(self, batch: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """The terms of each item, ``[B]``, to find those that are not finite."""
        ...


class Task(Protocol[Model, Batch]):
    """A training: what learns, from what, from where on, and how it is reported and stored.

    Making a task seeds PyTorch with the seed of the experiment and builds everything on the device of the process;
    :meth:`start` or :meth:`restore` follows before the first step. Its model is a :class:`Learner`.
    """

    @property
    def config(self) -> AnyExperiment:
        """The experiment."""
        ...

    @property
    def items(self) -> str:
        """What the training items are, in the plural, for reports."""
        ...

    @property
    def body(self) -> BodyModel:
        """Of the model, on its device; a resumed run needs the same one."""
        ...

    @property
    def model(self) -> Model:
        """Learns; on the device of the process."""
        ...

    @property
    def dataset(self) -> BatchDataset[Batch]:
        """The training items; batches are on the CPU."""
        ...

    def use_bfloat16(self) -> None:
        """Run the expensive part of the model, and nothing else, in bf16 autocast from here on.

        Copies of the model that were made before stay in float32.
        """
        ...

    def start(self) -> None:
        """Give the model its start: the statistics of the training data, then weights of other files if any.

        Raises:
            UserError: the data or a file cannot give it.
        """
        ...

    def restore(self, folder: Path, step: int) -> None:
        """Take back what :meth:`save_beside` put into ``folder`` beside the model for ``step``, where a run goes on.

        Raises:
            UserError: it is missing or damaged.
        """
        ...

    def supervise(self, batch: Batch) -> Batch:
        """``batch`` on the device, with all targets that the present model's step needs."""
        ...

    def shares(self) -> dict[str, Tensor]:
        """Scalars about the last batch for TensorBoard by their whole names, beside the losses; the same every time."""
        ...

    def validate(self, model: Model) -> dict[str, float]:
        """Errors of ``model``, which is in evaluation mode, on the validation items."""
        ...

    @property
    def criterion(self) -> Criterion | None:
        """Which of these errors chooses the best model; None where they are those of a test set, which must not."""
        ...

    def picture(self, model: Model) -> Tensor | None:
        """Answers of ``model`` for some validation items, ``[3, H, W]`` in [0, 1]; None if there is nothing to see."""
        ...

    def save(self, path: Path, model: Model, step: int, *, finished: bool, extra: Mapping[str, str]) -> None:
        """Write the model file ``path`` with ``extra`` in its header.

        Raises:
            UserError: the folder cannot be written.
        """
        ...

    def save_beside(self, folder: Path, step: int) -> None:
        """Write into ``folder`` what the state of ``step`` consists of beside the model and the loop's own.

        Raises:
            UserError: the folder cannot be written.
        """
        ...

    def forget_others(self, folder: Path, step: int) -> None:
        """Delete what :meth:`save_beside` wrote beside the model for other steps: the state of ``step`` is in place."""
        ...
