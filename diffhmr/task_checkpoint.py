"""Models of lifting and of actions on disk: files of :mod:`diffhmr.motion_checkpoint`, with what a training knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch

from diffhmr.clip_checkpoint import config_of_clips
from diffhmr.config_clips import ClipExperimentConfig
from diffhmr.errors import UserError
from diffhmr.files import sha256_file
from diffhmr.model_file import damaged_header
from diffhmr.models.clip_tasks import ActionModel, LiftingModel
from diffhmr.models.clip_windows import WindowOptions
from diffhmr.models.dstformer import DSTformer
from diffhmr.models.motion_heads import ActionEmbedding, MotionBertAction
from diffhmr.motion_checkpoint import load_motion_model, read_motion_metadata

OFFICIAL_EMBEDDING_FRAMES = 100
"""Of the clips that MotionBERT's one-shot recognition is trained with."""

TaskModel = TypeVar("TaskModel", LiftingModel, ActionModel)


@dataclass(frozen=True)
class LoadedTaskModel(Generic[TaskModel]):
    """A model built from its file.

    Attributes:
        model: in evaluation mode, in float32.
        config: the experiment that trained it, or None for imported weights.
        step: training steps behind these weights; 0 for imported ones.
        metadata: everything written in the file's header, as text.
        sha256: of the file.
    """

    model: TaskModel
    config: ClipExperimentConfig | None
    step: int
    metadata: dict[str, str]
    sha256: str


def load_lifting_model(path: str | Path, device: torch.device | str = "cpu") -> LoadedTaskModel[LiftingModel]:
    """Build the lifting model that a file describes and give it the file's weights.

    Imported official weights see the picture in windows of the longest clip that they take. Their positions are
    relative to the root unless the file says otherwise: that is how MotionBERT's weights are trained, but those called
    global, and how the official code evaluates them.

    Raises:
        UserError: the file is missing, truncated, of another format or of a newer version, or has no such model.
    """
    metadata = read_motion_metadata(path)
    network = load_motion_model(path)
    if not isinstance(network, DSTformer):
        raise UserError(f"{path} holds a {metadata['kind']} network, which gives no positions of joints; give a file "
                        "of the task pretrain or pose3d")  # fmt: skip
    config = config_of_clips(metadata, path)
    window = WindowOptions(network.size.max_frames, 0, "picture") if config is None else _window(config)
    relative = _root_relative(metadata, path) if config is None else config.model.root_relative
    model = LiftingModel(network, window, relative, _active(config)).to(device).eval()
    return LoadedTaskModel(model, config, _step(metadata, path), metadata, sha256_file(path))


def load_action_model(path: str | Path, device: torch.device | str = "cpu") -> LoadedTaskModel[ActionModel]:
    """Build the action model that a file describes and give it the file's weights.

    Imported official weights see the square around the people, in clips as long as in their training: the longest that
    they take, or :data:`OFFICIAL_EMBEDDING_FRAMES` frames if they give vectors. They know scores in COCO's order
    (``coco_scores`` of the model), those of a training here scores of the joints.

    Raises:
        UserError: as :func:`load_lifting_model`.
    """
    metadata = read_motion_metadata(path)
    network = load_motion_model(path)
    if not isinstance(network, MotionBertAction):
        raise UserError(f"{path} holds a {metadata['kind']} network, which knows no actions; give a file of the task "
                        "action")  # fmt: skip
    config = config_of_clips(metadata, path)
    frames = network.backbone.size.max_frames
    if isinstance(network.head, ActionEmbedding):
        frames = min(frames, OFFICIAL_EMBEDDING_FRAMES)
    window = WindowOptions(frames, 0, "person") if config is None else _window(config)
    model = ActionModel(network, window, _active(config), coco_scores=config is None).to(device).eval()
    return LoadedTaskModel(model, config, _step(metadata, path), metadata, sha256_file(path))


def _root_relative(metadata: dict[str, str], path: str | Path) -> bool:
    """Of imported weights; those that were imported before files said it are as most are."""
    value = metadata.get("root_relative", "true")
    if value not in ("true", "false"):
        raise damaged_header(path, ["root_relative"])
    return value == "true"


def _window(config: ClipExperimentConfig) -> WindowOptions:
    return WindowOptions(config.model.window, config.model.overlap, config.model.input)


def _active(config: ClipExperimentConfig | None) -> frozenset[str]:
    weights = {} if config is None else config.loss.model_dump()
    return frozenset(name for name, weight in weights.items() if weight > 0)


def _step(metadata: dict[str, str], path: str | Path) -> int:
    step = metadata.get("step", "0")
    if not (step.isascii() and step.isdigit()):
        raise damaged_header(path, ["step"])
    return int(step)
