"""Evaluation: a checkpoint on a data set under a named protocol, as one JSON file and a table."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from diffhmr.batch import ImageBatch, Prediction, Targets
from diffhmr.body.params import SmplParams
from diffhmr.checkpoint import load_checkpoint
from diffhmr.config import ExperimentConfig, SamplerConfig
from diffhmr.errors import UserError
from diffhmr.evaluation.data import (
    EvaluatedDataset,
    EvaluatedPeople,
    Source,
    describe_body,
    open_people,
    portable,
    synthetic_protocol,
)
from diffhmr.evaluation.dump import Dump
from diffhmr.evaluation.measures import Measurer, distribution_metrics
from diffhmr.evaluation.protocols import SYNTHETIC, name_of_run
from diffhmr.evaluation.sums import Sums
from diffhmr.evaluation.terms import EvaluationProtocol
from diffhmr.evaluation.truth import JOINTS_AT_ONCE, Bodies, find_bodies
from diffhmr.files import ensure_writable, write_json
from diffhmr.models.regressor import Regressor

_HYPOTHESES_AT_ONCE = JOINTS_AT_ONCE
_ITEMS_AT_ONCE = 64

_log = logging.getLogger(__name__)


class EvaluatedModel(Protocol):
    """What an evaluation needs of a model."""

    def sample(self, batch: ImageBatch, num_samples: int, sampler: SamplerConfig, seed: int) -> Prediction:
        """Hypothesis 0 is the single answer, the others are random."""
        ...


@dataclass(frozen=True)
class EvaluationOptions:
    """How much is evaluated.

    Attributes:
        num_samples: n hypotheses per person, of which the single answer is one where the protocol counts it; None for
            the number of the protocol.
        steps: of the sampler; None for those of the checkpoint's settings.
        seed: of the hypotheses.
        limit: evaluate the first people only; None for all.

    Raises:
        UserError: a number is out of range.
    """

    num_samples: int | None = None
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

    def count(self, protocol: EvaluationProtocol) -> int:
        """n hypotheses under ``protocol``."""
        return self.num_samples or protocol.num_samples


@dataclass(frozen=True)
class Evaluation:
    """Attributes: ``num_items`` people, their ``metrics``, and the same for every slice with its own ``num_items``."""

    num_items: int
    metrics: dict[str, Any]
    slices: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Output:
    """Where a result goes.

    Attributes:
        json: the result; None for nowhere.
        dump: errors and predictions of every person or frame as ``.npz``; None for nowhere.
    """

    json: Path | None = None
    dump: Path | None = None

    def check(self) -> None:
        """Raises: UserError: the files cannot be written, which is better known before everything is measured."""
        for path in (self.json, self.dump):
            if path is not None:
                ensure_writable(path)
        if self.dump is not None and self.dump.suffix != ".npz":
            raise UserError(f"--dump writes an .npz file, but {self.dump} is named otherwise; name it FILE.npz")


def run(
    checkpoint: str | Path,
    source: Source,
    options: EvaluationOptions,
    output: Output = Output(),
    device: torch.device | str = "cpu",
    find: Callable[[EvaluationProtocol, Any], Bodies] = find_bodies,
) -> dict[str, Any]:
    """Evaluate the model file ``checkpoint`` on the test people of ``source``.

    Args:
        find: gives the bodies that the protocol needs.

    Returns:
        The result, which is also written as ``output`` says.

    Raises:
        UserError: the checkpoint, the data set, a body, an option or an output path cannot be used.
    """
    output.check()
    protocol = source.terms
    loaded = load_checkpoint(checkpoint, device)
    bodies = find(protocol, loaded.body)
    people = open_people(source, loaded.config, loaded.body)
    sampler = _sampler(loaded.config, options.steps)
    measurer = Measurer(protocol, bodies, mean_params(loaded.model.regressor), people.crop_per_box)
    total = _total(people.dataset, options)
    started = time.monotonic()
    with Dump(output.dump, total) if output.dump is not None else nullcontext() as dump:
        evaluation = evaluate(loaded.model, people.dataset, measurer, sampler, options, dump)
        _log.info("evaluated %d people in %.0f s", evaluation.num_items, time.monotonic() - started)
        result = {
            "dataset": source.dataset,
            "protocol": _describe(protocol, bodies, people, total),
            "checkpoint": {"path": portable(checkpoint), "sha256": loaded.sha256, "step": loaded.step},
            "model": loaded.config.model.kind,
            "sampler": sampler.model_dump(mode="json"),
            "num_items": evaluation.num_items,
            "num_samples": options.count(protocol),
            "seed": options.seed,
            "metrics": evaluation.metrics,
            "slices": evaluation.slices,
        }
        if dump is not None:
            dump.finish(result, row=people.row[:total], imgname=people.imgname[:total])
    if output.json is not None:
        write_json(output.json, result)
    return result


@torch.no_grad()
def evaluate(
    model: EvaluatedModel,
    dataset: EvaluatedDataset,
    measurer: Measurer,
    sampler: SamplerConfig,
    options: EvaluationOptions,
    dump: Dump | None = None,
) -> Evaluation:
    """Measure ``model`` on the first ``options.limit`` people of ``dataset``, a few people at a time.

    However many hypotheses there are, about the same number of bodies is in memory: more hypotheses make fewer people
    at a time.

    Args:
        model: on the device of the bodies of ``measurer``.
        dataset: with targets.
        measurer: compares predictions and targets.
        sampler: how hypotheses are drawn.
        options: how many.
        dump: takes everything person by person.
    """
    protocol = measurer.protocol
    total = _total(dataset, options)
    hypotheses = 1 + protocol.num_random(options.count(protocol))
    at_once = max(1, min(_ITEMS_AT_ONCE, _HYPOTHESES_AT_ONCE // hypotheses))
    optional = distribution_metrics(protocol)
    everyone, slices = Sums(optional), {name: Sums(optional) for name in protocol.slices}
    with tqdm(total=total, unit="person", desc="evaluate", disable=None) as progress:
        for start in range(0, total, at_once):
            indices = range(start, min(start + at_once, total))
            batch = dataset.__getitems__(indices).to(measurer.bodies.prediction.v_template.device)
            targets = batch.targets
            assert targets is not None
            prediction = model.sample(batch, hypotheses, sampler, options.seed)
            measured = measurer(targets, prediction)
            everyone.add(measured.measures, torch.ones_like(targets.occluded))
            for name, sums in slices.items():
                sums.add(measured.measures, _slice_mask(targets, name))
            if dump is not None:
                dump.add(prediction.params, {"camera": prediction.camera, **measured.errors})
            progress.update(len(batch))
    return Evaluation(
        everyone.num_items,
        everyone.result(),
        {name: {"num_items": sums.num_items, **sums.result()} for name, sums in slices.items()},
    )


def mean_params(regressor: Regressor) -> SmplParams:
    """The mean person ``[]`` of the training data, where the regressor's iterations start.

    Its rotations are chordal means. The mean of the state would not do: people face every way, so that the first column
    of their mean orientation almost vanishes, and Gram-Schmidt would make its chance direction the body's x axis.
    """
    return regressor.mean_params()


def _describe(protocol: EvaluationProtocol, bodies: Bodies, people: EvaluatedPeople, measured: int) -> dict[str, Any]:
    """Everything that another implementation must do alike to compare."""
    body = bodies.prediction
    if protocol is SYNTHETIC:
        described = synthetic_protocol(body, people.description)
    else:
        described = protocol.describe() | {"body": describe_body(body, protocol.regressors())}
        if bodies.truth:
            needed = protocol.truth_regressors()
            described["truth_bodies"] = {name: describe_body(one, needed) for name, one in bodies.truth.items()}
        described["people"] = people.description
    partial = "partial" in people.description.get("labels", {}).get("meta", {})
    described["name"] = name_of_run(protocol.full_name, measured, len(people.dataset), partial)
    return described


def _total(dataset: EvaluatedDataset, options: EvaluationOptions) -> int:
    return len(dataset) if options.limit is None else min(options.limit, len(dataset))


def _sampler(config: ExperimentConfig, steps: int | None) -> SamplerConfig:
    return config.sampler if steps is None else config.sampler.model_copy(update={"steps": steps})


def _slice_mask(targets: Targets, name: str) -> Tensor:
    if name == "clean":
        return ~(targets.occluded | targets.truncated)
    mask: Tensor = getattr(targets, name)
    return mask
