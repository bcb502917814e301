"""Data sets: what ``DataConfig`` names, as batches of people."""

from __future__ import annotations

from diffhmr.body.model import BodyModel
from diffhmr.config import DataConfig
from diffhmr.datasets.synthetic import Split, SyntheticPeople


def build_dataset(config: DataConfig, body: BodyModel, split: Split) -> SyntheticPeople:
    """The data set of ``config`` for one split.

    Raises:
        UserError: a file or folder that the settings name cannot be used.
    """
    return SyntheticPeople(body, config, split)
