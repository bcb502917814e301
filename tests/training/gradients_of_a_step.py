"""Writes the gradients of one training step; ``tests/training/test_processes.py`` runs it under torchrun.

Usage: torchrun --nproc-per-node=2 tests/training/gradients_of_a_step.py CONFIG.yaml OUT.pt
"""

from __future__ import annotations

import sys

import torch

from diffhmr.config_file import load_config
from diffhmr.training.build import build_task
from diffhmr.training.loop import Trainer
from diffhmr.training.processes import join_processes


def main() -> None:
    """Build the trainer of the configuration and save what its first step's backward pass leaves behind."""
    with join_processes() as processes:
        trainer = Trainer(build_task(load_config(sys.argv[1]), processes), processes)
        trainer.start()
        trainer.gradients(next(trainer.batches()))
        gradients = {name: value.grad for name, value in trainer.model.named_parameters() if value.grad is not None}
        if processes.is_main:
            torch.save({"processes": processes.count, "gradients": gradients}, sys.argv[2])


if __name__ == "__main__":
    main()
