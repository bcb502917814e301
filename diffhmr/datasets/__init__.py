"""Data sets: what ``DataConfig`` names, as batches of people."""

from __future__ import annotations

from diffhmr.body.model import BodyModel
from diffhmr.config import DataConfig
from diffhmr.config_clips import ClipDataConfig, ClipExperimentConfig
from diffhmr.datasets.clip_files.action_clips import ActionClips
from diffhmr.datasets.clip_files.lifting_clips import LiftingClips
from diffhmr.datasets.clip_files.mesh_clips import MeshClips
from diffhmr.datasets.clip_files.order import from_files
from diffhmr.datasets.clips import SyntheticClips
from diffhmr.datasets.labelled import LabelledPeople
from diffhmr.datasets.mixture import Mixture, validation_people
from diffhmr.datasets.pretraining_clips import PretrainingClips
from diffhmr.datasets.synthetic import Split, SyntheticPeople
from diffhmr.datasets.synthetic_actions import SyntheticActions
from diffhmr.datasets.synthetic_lifting import SyntheticLifting
from diffhmr.errors import UserError


def build_dataset(config: DataConfig, body: BodyModel, split: Split) -> SyntheticPeople | LabelledPeople | Mixture:
    """The data set of ``config`` for one split.

    Training items are those of ``config.kind``. Validation people of labelled data are those of ``config.validation``,
    or synthetic where it names none; test people are always synthetic, as real test sets are evaluated by protocols
    that name their files.

    Raises:
        UserError: a file or folder that the settings name cannot be used.
    """
    if config.kind == "labelled" and split == "train":
        return Mixture(body, config)
    if config.validation is not None and split == "val":
        return validation_people(body, config)
    return SyntheticPeople(body, config, split)


def build_clip_dataset(config: ClipDataConfig, body: BodyModel, split: Split) -> SyntheticClips | MeshClips:
    """The clips of ``config`` for one split, for the task ``mesh``.

    Training clips are those of ``config.kind``; the others are those of ``config.validation``, or synthetic where it
    names none.

    Raises:
        UserError: a file or folder that the settings name cannot be used.
    """
    if from_files(config, split):
        return MeshClips(config, split)
    return SyntheticClips(body, config, split)


def _require_validation(config: ClipDataConfig, split: Split) -> None:
    """Its absence should not show up at the first validation only."""
    if split == "train" and config.validation is not None and not config.validation.path.exists():
        raise UserError(f"{config.validation.path} does not exist; set data.validation.path to what to validate on")


def build_lifting_dataset(
    config: ClipExperimentConfig, body: BodyModel, split: Split
) -> SyntheticLifting | LiftingClips | PretrainingClips:
    """The clips of one split for the tasks ``pretrain`` and ``pose3d``, by the rules of :func:`build_clip_dataset`.

    Raises:
        UserError: a file or folder that the settings name cannot be used.
    """
    data, task = config.data, config.task
    _require_validation(data, split)
    assert task == "pretrain" or task == "pose3d"
    if not from_files(data, split):
        return SyntheticLifting(body, data, split, task)
    if task == "pretrain" and split == "train":
        train = config.train
        if data.train_items < train.steps * train.batch_size:
            raise UserError("data.train_items is fewer than the items of the run: leave it out, files are walked again")
        return PretrainingClips(data, round(data.augment.flat_from * train.steps) * train.batch_size)
    return LiftingClips(data, split, task)


def build_action_dataset(config: ClipExperimentConfig, body: BodyModel, split: Split) -> SyntheticActions | ActionClips:
    """The clips of one split for the task ``action``; the head ``embedding`` learns from pairs of a class.

    Raises:
        UserError: a file cannot be used, there are labels that the model does not have, or there are no files to
            validate on beside those of training.
    """
    data, model = config.data, config.model
    if data.kind == "files" and data.validation is None:
        raise UserError("data.validation is missing: synthetic people cannot stand in for the actions of files")
    _require_validation(data, split)
    clips: SyntheticActions | ActionClips
    in_pairs = model.head == "embedding" and split == "train"
    if from_files(data, split):
        clips = ActionClips(data, split, in_pairs=in_pairs)
    else:
        clips = SyntheticActions(body, data, split, in_pairs)
    if model.head == "classifier" and clips.num_classes > model.classes:
        raise UserError(
            f"model.classes is {model.classes}, but the data have {clips.num_classes} classes; set it to that"
        )
    return clips
