"""The one place where settings become a task."""

from __future__ import annotations

from typing import Any

from diffhmr.config import ExperimentConfig
from diffhmr.config_file import AnyExperiment
from diffhmr.training.clip_task import build_clip_task
from diffhmr.training.people_task import PeopleTask
from diffhmr.training.processes import Processes
from diffhmr.training.task import Task


def build_task(config: AnyExperiment, processes: Processes, *, resumed: bool = False) -> Task[Any, Any]:
    """The task of an experiment, on the device of this process.

    Args:
        config: the experiment.
        processes: this process among those of the run.
        resumed: the weights of a run follow, so that none of other files are needed.

    Raises:
        UserError: a file that the settings name cannot be used; the batch cannot be divided among the processes.
    """
    processes.share(config.train.batch_size)  # a mistake that shows at once, while models and data take their time
    if isinstance(config, ExperimentConfig):
        pretrained = not resumed and config.init is None and config.init_detector is None
        return PeopleTask(config, processes, pretrained=pretrained)
    return build_clip_task(config, processes)
