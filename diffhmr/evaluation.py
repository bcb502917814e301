"""Evaluation: a checkpoint on a data set under a named protocol, as one JSON file and a table."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from diffhmr.batch import ImageBatch, Prediction, Targets
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.checkpoint import REPOSITORY, load_checkpoint
from diffhmr.config import DATASETS, DataConfig, ExperimentConfig, KeypointNoiseConfig, SamplerConfig
from diffhmr.datasets import build_dataset
from diffhmr.errors import UserError
from diffhmr.evaluation_measures import PIXEL_CROP, Sums, measure
from diffhmr.files import ensure_writable, write_json
from diffhmr.models.regressor import Regressor

SYNTHETIC_PROTOCOL = "synthetic-v1"

_HYPOTHESES_AT_ONCE = 2048
_ITEMS_AT_ONCE = 64

_log = logging.getLogger(__name__)


class EvaluatedModel(Protocol):
    """What an evaluation needs of a model."""

    def sample(self, batch: ImageBatch, num_samples: int, sampler: SamplerConfig, seed: int) -> Prediction:
        """Hypothesis 0 is the single answer, the others are random."""
        ...


class EvaluatedDataset(Protocol):
    """What an evaluation needs of a data set: whole batches with targets, each item the same in any batch."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: Sequence[int]) -> ImageBatch:
        """The items of these indices."""
        ...


@dataclass(frozen=True)
class EvaluationOptions:
    """How much is evaluated.

    Attributes:
        num_samples: S random hypotheses per person, not counting the single answer.
        steps: of the sampler; None for those of the checkpoint's settings.
        seed: of the hypotheses.
        limit: evaluate the first people only; None for all.

    Raises:
        UserError: a number is out of range.
    """

    num_samples: int = 25
    steps: int | None = None
    seed: int = 0
    limit: int | None = None

    def __post_init__(self) -> None:
        for option, value, least in (
            ("--num-samples", self.num_samples, 1),
            ("--steps", self.steps, 1),
            ("--seed", self.seed, 0),
            ("--limit", self.limit, 1),
        ):
            if value is not None and value < least:
                raise UserError(f"{option} must be at least {least}, got {value}")


@dataclass(frozen=True)
class Evaluation:
    """Attributes: ``num_items`` people, their ``metrics``, and the same for every slice with its own ``num_items``."""

    num_items: int
    metrics: dict[str, Any]
    slices: dict[str, dict[str, Any]]


def run(
    checkpoint: str | Path,
    dataset: str,
    options: EvaluationOptions,
    out: str | Path | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Evaluate the model file ``checkpoint`` on the test people of ``dataset``.

    Returns:
        The result, which is written to the JSON file ``out`` unless that is None.

    Raises:
        UserError: the checkpoint, the data set, an option or the output path cannot be used.
    """
    if dataset not in DATASETS:
        raise UserError(f"unknown data set {dataset!r}; choose one of {', '.join(DATASETS)}")
    if out is not None:
        ensure_writable(out)
    loaded = load_checkpoint(checkpoint, device)
    sampler = _sampler(loaded.config, options.steps)
    data = synthetic_data(loaded.config.data)
    people = build_dataset(data, loaded.body, "test")
    started = time.monotonic()
    evaluation = evaluate(loaded.model, people, loaded.body, mean_params(loaded.model.regressor), sampler, options)
    seconds = time.monotonic() - started
    _log.info("evaluated %d people in %.0f s", evaluation.num_items, seconds)
    result = {
        "dataset": dataset,
        "protocol": synthetic_protocol(loaded.body, data),
        "checkpoint": {"path": _portable(checkpoint), "sha256": loaded.sha256, "step": loaded.step},
        "model": loaded.config.model.kind,
        "sampler": sampler.model_dump(mode="json"),
        "num_items": evaluation.num_items,
        "num_samples": options.num_samples,
        "seed": options.seed,
        "metrics": evaluation.metrics,
        "slices": evaluation.slices,
    }
    if out is not None:
        write_json(out, result)
    return result


@torch.no_grad()
def evaluate(
    model: EvaluatedModel,
    dataset: EvaluatedDataset,
    body: BodyModel,
    constant: SmplParams,
    sampler: SamplerConfig,
    options: EvaluationOptions,
) -> Evaluation:
    """Measure ``model`` on the first ``options.limit`` people of ``dataset``, a few people at a time.

    Args:
        model: on the device of ``body``.
        dataset: with targets.
        body: on which joints and meshes are compared.
        constant: one pose ``[]`` for everybody, the baseline reported as ``mean_pose``.
        sampler: how hypotheses are drawn.
        options: how many.
    """
    total = len(dataset) if options.limit is None else min(options.limit, len(dataset))
    at_once = max(1, min(_ITEMS_AT_ONCE, _HYPOTHESES_AT_ONCE // (options.num_samples + 1)))
    everyone, slices = Sums(), {name: Sums() for name in ("occluded", "truncated", "clean")}
    with tqdm(total=total, unit="person", desc="evaluate", disable=None) as progress:
        for start in range(0, total, at_once):
            batch = dataset.__getitems__(range(start, min(start + at_once, total))).to(body.v_template.device)
            targets = batch.targets
            assert targets is not None
            prediction = model.sample(batch, options.num_samples + 1, sampler, options.seed)
            measures = measure(targets, prediction, body, constant)
            everyone.add(measures, torch.ones_like(targets.occluded))
            for name, selected in _slice_masks(targets).items():
                slices[name].add(measures, selected)
            progress.update(len(batch))
    return Evaluation(
        everyone.num_items,
        everyone.result(),
        {name: {"num_items": sums.num_items, **sums.result()} for name, sums in slices.items()},
    )


def synthetic_data(trained: DataConfig) -> DataConfig:
    """The people of the protocol ``synthetic-v1``: the same for every model, however it was trained.

    Only the form of the input, images and their size, is taken from ``trained``. A change of these people makes a new
    version of the protocol.
    """
    noise = KeypointNoiseConfig(jitter=0.01, outlier=0.01, drop_point=0.08, drop_limb=0.12, drop_hidden=0.5, swap=0.02)
    return DataConfig(
        seed=0,
        images=trained.images,
        image_size=trained.image_size,
        keypoint_noise=noise,
        occluder=0.4,
        truncation=0.2,
        archive=None,
        backgrounds=None,
        test_items=2000,
    )


def mean_params(regressor: Regressor) -> SmplParams:
    """The mean person ``[]`` of the training data, where the regressor's iterations start.

    Its rotations are chordal means. The mean of the state would not do: people face every way, so that the first column
    of their mean orientation almost vanishes, and Gram-Schmidt would make its chance direction the body's x axis.
    """
    return regressor.mean_params()


def synthetic_protocol(body: BodyModel, data: DataConfig) -> dict[str, Any]:
    """What the numbers mean: everything that another implementation must do alike to compare.

    Args:
        body: on which joints and meshes are compared.
        data: the people, see :func:`synthetic_data`.
    """
    return {
        "name": SYNTHETIC_PROTOCOL,
        "joint_set": "J14",
        "joint_source": "SPIN49",
        "root": "pelvis_mpii (SPIN49 joint 39), of the prediction and of the truth",
        "alignment": {
            "mpjpe_mm": "root",
            "pa_mpjpe_mm": "similarity with scale, per hypothesis",
            "pve_mm": "root joint, all vertices",
        },
        "body": {"name": body.name, "path": _portable(body.path), "sha256": body.sha256},
        "mode": "the single answer (zero-noise start); not counted among the samples",
        "mean_of_samples": "error of the mean of the root-aligned points of the random samples",
        "random": "mean error of the random samples",
        "min_of": "uses ground truth to choose: minimum per metric over n random samples, expectation over all subsets",
        "mean_pose": "the mean parameters of the training people (chordal mean of rotations), the same for everybody",
        "energy_score_mm": "mean over the joints of J14; equals MPJPE for a single answer; lower is better",
        "ece": "J14; Pierzchlewicz et al. 2022; 21 quantiles, median over joints; ece_bias below 0: over-confident; "
        "of 25 calibrated samples 0.03 and -0.03, as their centre is made of themselves",
        "diversity": "COCO17, distance to the mean of the samples, pooled over visible or invisible joints",
        "reprojection_px": f"visible COCO17 joints, pixels of a {PIXEL_CROP} x {PIXEL_CROP} crop",
        "depth_rank_histogram": "share of truths below which 0 ... n samples lie in depth; flat when calibrated",
        "people": {"split": "test"} | data.model_dump(mode="json", exclude={"train_items", "val_items"}),
    }


def _sampler(config: ExperimentConfig, steps: int | None) -> SamplerConfig:
    return config.sampler if steps is None else config.sampler.model_copy(update={"steps": steps})


def _slice_masks(targets: Targets) -> dict[str, Tensor]:
    return {
        "occluded": targets.occluded,
        "truncated": targets.truncated,
        "clean": ~(targets.occluded | targets.truncated),
    }


def _portable(path: str | Path) -> str:
    """A path inside the project relative to it, so that results do not depend on where the project lies."""
    resolved = Path(path).resolve()
    return str(resolved.relative_to(REPOSITORY)) if resolved.is_relative_to(REPOSITORY) else str(path)
