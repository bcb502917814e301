"""Data sets: what ``DataConfig`` names, as batches of people."""

from __future__ import annotations

from diffhmr.body.model import BodyModel
from diffhmr.config import DataConfig
from diffhmr.config_clips import ClipDataConfig
from diffhmr.datasets.clip_files.mesh_clips import MeshClips
from diffhmr.datasets.clip_files.order import from_files
from diffhmr.datasets.clips import SyntheticClips
from diffhmr.datasets.labelled import LabelledPeople
from diffhmr.datasets.mixture import Mixture, validation_people
from diffhmr.datasets.synthetic import Split, SyntheticPeople


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
