"""The training data as a stream of steps: which items belong to a step, and who loads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from diffhmr.datasets.painting.scene import one_thread
from diffhmr.errors import UserError

_Self = TypeVar("_Self")


class ItemBatch(Protocol):
    """What all batches have."""

    @property
    def item_seed(self) -> Tensor:
        """``[B]`` int64, identifies each item."""
        ...

    def to(self: _Self, device: torch.device) -> _Self:
        """The same batch on ``device``."""
        ...


Batch = TypeVar("Batch", bound=ItemBatch)
_Made = TypeVar("_Made", bound=ItemBatch, covariant=True)


class BatchDataset(Protocol[_Made]):
    """A data set that makes a whole batch at once; item k is the same whatever the batch it is part of."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: Sequence[int]) -> _Made:
        """The items of these indices."""
        ...


@dataclass(frozen=True)
class StepSlice:
    """The steps of a run and this process's part of each.

    Attributes:
        start: first step.
        stop: one after the last step.
        batch_size: items per step, over all processes.
        first: the first item of each step that falls to this process.
        count: how many do.
    """

    start: int
    stop: int
    batch_size: int
    first: int
    count: int


class StepSampler(Sampler[list[int]]):
    """Item indices step by step: item i of step n is ``n * batch_size + i``, modulo the size of the data set.

    The position in the data follows from the step, so that resuming needs no saved state.
    """

    def __init__(self, steps: StepSlice, num_items: int) -> None:
        self._steps = steps
        self._num_items = num_items

    def __len__(self) -> int:
        return self._steps.stop - self._steps.start

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self._steps.start, self._steps.stop):
            first = step * self._steps.batch_size + self._steps.first
            yield [(first + item) % self._num_items for item in range(self._steps.count)]


def step_batches(dataset: BatchDataset[Batch], steps: StepSlice, workers: int) -> Iterator[Batch]:
    """The batches of ``steps`` in order, on the CPU, made by ``workers`` processes ahead of time (0: in this one).

    The number of workers changes no number: every batch is made on one thread, as summation order depends on threads.

    Raises:
        UserError: what the data set raises, in this process, whoever made the batch.
    """
    sampler = StepSampler(steps, len(dataset))
    if workers == 0:
        for indices in sampler:
            with one_thread():
                batch = dataset.__getitems__(indices)
            yield batch
        return
    loader = DataLoader(
        _AsDataset(dataset), batch_sampler=sampler, num_workers=workers, collate_fn=_whole_batch, prefetch_factor=4
    )
    for batch in loader:
        if isinstance(batch, UserError):
            raise batch
        yield batch


class _AsDataset(Dataset[Batch], Generic[Batch]):
    """Shows torch's loader a :class:`BatchDataset`.

    An error for the user is handed over as a value: the loader would put the worker's traceback into its message.
    """

    def __init__(self, dataset: BatchDataset[Batch]) -> None:
        self._dataset = dataset

    def __getitems__(self, indices: list[int]) -> Batch | UserError:
        try:
            return self._dataset.__getitems__(indices)
        except UserError as error:
            return error


def _whole_batch(batch: Any) -> Any:
    # The data set has made a batch already where torch's loader expects a list of items.
    return batch
