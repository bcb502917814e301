"""The data set of clips that the settings name, of files."""

from __future__ import annotations

from diffhmr.config_clips import ClipDataConfig, Task
from diffhmr.datasets.clip_files.action_clips import ActionFileClips
from diffhmr.datasets.clip_files.lifting_clips import LiftingFileClips
from diffhmr.datasets.clip_files.mesh_clips import MeshFileClips
from diffhmr.datasets.synthetic import Split

FileClips = MeshFileClips | LiftingFileClips | ActionFileClips


def build_file_clips(config: ClipDataConfig, task: Task, split: Split) -> FileClips:
    """Training clips are those of ``config.sources``, those of other splits of ``config.validation``.

    Raises:
        UserError: a file cannot be used, or the weights do not add up.
    """
    if task == "mesh":
        return MeshFileClips(config, split)
    if task == "action":
        return ActionFileClips(config, split)
    return LiftingFileClips(config, split, task)


def from_files(config: ClipDataConfig, split: Split) -> bool:
    """Whether the clips of a split come from files: those of training by ``kind``, others where a file is named."""
    return config.kind == "files" and (split == "train" or config.validation is not None)
