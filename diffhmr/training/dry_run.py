"""What a training run would cost, measured on its first step."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any

import torch
from torch import nn

from diffhmr.config_file import AnyExperiment, dump_config
from diffhmr.errors import UserError
from diffhmr.training.build import build_task
from diffhmr.training.data import StepSlice, step_batches
from diffhmr.training.log import format_duration
from diffhmr.training.loop import Trainer
from diffhmr.training.processes import Processes, join_processes


def dry_run(config: AnyExperiment) -> str:
    """Build everything, run one step and describe it; nothing is written.

    The step is run twice and the second one timed, because the first also sets up libraries and memory.

    Raises:
        UserError: as :func:`diffhmr.training.loop.run`, and when a loss is not finite in the first step.
    """
    with join_processes() as processes:
        trainer = Trainer(build_task(config, processes), processes)
        trainer.start()
        data_time, step_time = _time_step(trainer, processes)
        batch = f"{config.train.batch_size} {trainer.task.items}"
        report = [
            dump_config(config).rstrip(),
            "",
            f"device            {_device_name(processes.device)}, {processes.count} process(es)",
            f"parameters        {_parameters(trainer.model)}",
            f"memory            {_memory(processes.device)}",
            f"one batch of data {1000 * data_time:.0f} ms in one process",
            f"one step          {1000 * step_time:.0f} ms for {batch}, without data",
            f"remaining time    {_estimate(config, data_time, step_time)}",
        ]
        return "\n".join(report)


def _time_step(trainer: Trainer[Any, Any], processes: Processes) -> tuple[float, float]:
    """Seconds for making this process's share of a batch, and for a training step on it."""
    config = trainer.config
    share = processes.share(config.train.batch_size)
    steps = StepSlice(0, 2, config.train.batch_size, processes.rank * share, share)
    data_time = step_time = 0.0
    batches = step_batches(trainer.task.dataset, steps, workers=0)
    for _ in range(2):
        start = time.perf_counter()
        batch = next(batches).to(processes.device)
        data_time = time.perf_counter() - start
        start = time.perf_counter()
        gradients = trainer.gradients(trainer.task.supervise(batch))
        if not gradients.finite():
            raise UserError("the loss or the gradient of the first step is not finite; look at the data and at init")
        trainer.update()
        if processes.device.type == "cuda":
            torch.cuda.synchronize(processes.device)
        step_time = time.perf_counter() - start
    return data_time, step_time


def _parameters(model: nn.Module) -> str:
    parts = [(name, part) for name, part in model.named_children() if _count(part)]
    # What is inside of a single part says more than that there is one.
    inside = [(name, part) for name, part in parts[0][1].named_children() if _count(part)] if len(parts) == 1 else []
    named = ", ".join(f"{name} {_count(part) / 1e6:.2f} M" for name, part in inside or parts)
    return f"{_count(model) / 1e6:.2f} M ({named})"


def _count(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def _memory(device: torch.device) -> str:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    gib = peak / 2**30 if sys.platform == "darwin" else peak / 2**20
    text = f"{gib:.2f} GiB peak of this process"
    if device.type == "cuda":
        text += f", {torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB peak on the device"
    return text


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def _estimate(config: AnyExperiment, data_time: float, step_time: float) -> str:
    """Workers make data while the model computes; without them the two add up."""
    workers = config.train.workers
    per_step = max(step_time, data_time / workers) if workers else data_time + step_time
    limit = ", limited by the data: more train.workers help if there are cores" if per_step > step_time else ""
    return f"{format_duration(per_step * config.train.steps)} for {config.train.steps} steps{limit}"
