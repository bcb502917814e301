"""The processes of a training run: one alone, or several that ``torchrun`` started."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn

from diffhmr.command_line import pick_device
from diffhmr.errors import UserError


@dataclass(frozen=True)
class Processes:
    """This process among all of a run.

    Attributes:
        rank: 0 to ``count - 1``; process 0 writes the files.
        count: number of processes.
        device: where this process computes.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """This process writes files, validates and reports."""
        return self.rank == 0

    def share(self, batch_size: int) -> int:
        """How many items of a batch fall to each process.

        Raises:
            UserError: the batch cannot be divided equally; the mean of the gradients would then be another one.
        """
        if batch_size % self.count:
            raise UserError(
                f"train.batch_size {batch_size} cannot be divided by {self.count} processes; choose a multiple"
            )
        return batch_size // self.count

    def mean(self, value: Tensor) -> Tensor:
        """The mean of ``value`` over the processes; every process has to call it."""
        if self.count == 1:
            return value
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / self.count

    def gather(self, value: Tensor) -> Tensor:
        """``value`` of all processes in the order of their ranks, joined along dimension 0; every process calls it."""
        if self.count == 1:
            return value
        parts = [torch.empty_like(value) for _ in range(self.count)]
        dist.all_gather(parts, value.contiguous())
        return torch.cat(parts)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.count > 1:
            dist.barrier()

    def parallel(self, module: nn.Module) -> nn.Module:
        """``module`` with gradients that are averaged over the processes in every backward pass.

        Each process normalises with the batch-norm statistics of its own share on a CPU; on CUDA the statistics are
        those of the whole batch (SyncBatchNorm). The gradients of several CPU processes therefore equal those of one
        process only for encoders without batch norm or with ``model.encoder.norm=frozen``.
        """
        if self.count == 1:
            return module
        if self.device.type == "cuda":
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        # A static graph also covers parameters that get no gradient because the weight of their loss is 0. Buffers
        # need no broadcast: they are constants, or statistics that only the main process's files use.
        return nn.parallel.DistributedDataParallel(module, static_graph=True, broadcast_buffers=False)


@contextmanager
def join_processes() -> Iterator[Processes]:
    """Join the other processes of ``torchrun`` for the duration of the block; without torchrun, stay alone.

    Computes on CUDA if there is a device (``CUDA_VISIBLE_DEVICES=`` hides it), else on the CPU.

    Raises:
        UserError: more processes than CUDA devices.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    # All batches have one shape, so that it pays to let cuDNN time its convolutions.
    torch.backends.cudnn.benchmark = True
    if count == 1:
        yield Processes(0, 1, pick_device())
        return
    device = torch.device("cpu")
    if torch.cuda.is_available():
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise UserError(f"process {local} has no CUDA device; use --nproc-per-node={torch.cuda.device_count()}")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if dist.get_rank():
        logging.getLogger("diffhmr").setLevel(logging.WARNING)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
