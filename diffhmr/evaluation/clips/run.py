"""A checkpoint on the sequences of a data set under a named protocol, as one JSON file and a table.

Models of clips are evaluated here, and models of people in pictures frame by frame on the same sequences.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diffhmr.body.files import find_smpl
from diffhmr.body.model import BodyModel
from diffhmr.checkpoint import load_checkpoint
from diffhmr.clip_checkpoint import load_clip_model
from diffhmr.config import Experiment, SamplerConfig
from diffhmr.config_clips import ClipExperimentConfig
from diffhmr.errors import UserError
from diffhmr.evaluation.clips.data import ClipSource, open_clips
from diffhmr.evaluation.clips.evaluate import ClipEvaluation, evaluate_clips, number_of
from diffhmr.evaluation.clips.measures import SequenceMeasurer
from diffhmr.evaluation.clips.predictors import (
    Filtered,
    Flipped,
    FrameByFrame,
    Given,
    OfClips,
    Predictor,
)
from diffhmr.evaluation.clips.protocols import MIN_OF, ClipProtocol
from diffhmr.evaluation.data import describe_body, portable
from diffhmr.evaluation.dump import Dump
from diffhmr.evaluation.protocols import name_of_run
from diffhmr.evaluation.run import EvaluationOptions, Output
from diffhmr.evaluation.terms import TruthTerms
from diffhmr.evaluation.truth import Bodies, find_bodies
from diffhmr.files import write_json
from diffhmr.model_file import IMAGE_MODEL, is_of_format
from diffhmr.models.framewise import FramewiseModel
from diffhmr.motion_checkpoint import read_motion_metadata
from diffhmr.motion_filter import FilterOptions

_NOT_SETTINGS = ("name", "seed", "output")
_NOWHERE = Output()

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Around:
    """What is put around a model.

    Attributes:
        flip: average with the answer to the mirror image.
        filter: smooth over time; None: do not.
    """

    flip: bool = False
    filter: FilterOptions | None = None

    def put(self, predictor: Predictor) -> Predictor:
        """``predictor`` with all that around it."""
        predictor = Flipped(predictor) if self.flip else predictor
        return predictor if self.filter is None else Filtered(predictor, self.filter)

    def describe(self) -> dict[str, Any]:
        """For the result."""
        return {"flip": self.flip, "filter": None if self.filter is None else self.filter.about()}


@dataclass(frozen=True)
class _Loaded:
    """A checkpoint as this evaluation sees it."""

    predictor: Predictor
    body: BodyModel
    sampler: SamplerConfig
    about: dict[str, Any]
    refines: bool = False

    @property
    def baseline(self) -> Given | None:
        """What a model that refines has to improve on."""
        return Given() if self.refines else None


def run_clips(
    checkpoint: str | Path,
    source: ClipSource,
    options: EvaluationOptions,
    around: Around = Around(),
    output: Output = _NOWHERE,
    device: torch.device | str = "cpu",
    find: Callable[[TruthTerms, BodyModel], Bodies] = find_bodies,
) -> dict[str, Any]:
    """Evaluate the model file ``checkpoint`` on the sequences of ``source``.

    Args:
        options: how many random motions per sequence and how many sequences.
        find: gives the bodies that the protocol needs.

    Returns:
        The result, which is also written as ``output`` says.

    Raises:
        UserError: the checkpoint, the data set, a body, an option or an output path cannot be used.
    """
    output.check()
    protocol = source.terms
    loaded = _load(checkpoint, options, device)
    bodies = find(protocol, loaded.body)
    clips, description = open_clips(source, loaded.body, initial=loaded.refines)
    num_samples = 1 if loaded.predictor.deterministic else options.num_samples or protocol.num_samples
    sizes = tuple(sorted({size for size in (*MIN_OF, num_samples) if size <= num_samples}))
    measurer = SequenceMeasurer(protocol, bodies, sizes)
    total = number_of(clips, options)
    started = time.monotonic()
    frames = sum(clips.lengths[:total])
    with Dump(output.dump, frames) if output.dump is not None else nullcontext() as dump:
        evaluation = evaluate_clips(around.put(loaded.predictor), clips, measurer, options, dump, loaded.baseline)
        _log.info("evaluated %d frames in %.0f s", evaluation.num_frames, time.monotonic() - started)
        result = {
            "dataset": source.dataset,
            "protocol": _describe(protocol, bodies, description, total, len(clips.names)),
            **loaded.about,
            **around.describe(),
            "sampler": loaded.sampler.model_dump(mode="json"),
            "num_items": total,
            "unit": "sequences",
            "num_frames": evaluation.num_frames,
            "num_samples": num_samples,
            "seed": options.seed,
            **_found(evaluation),
        }
        if dump is not None:
            lengths = clips.lengths[:total]
            dump.finish(
                result,
                sequence=np.repeat(np.arange(total), lengths),
                frame=np.concatenate([np.arange(length) for length in lengths]),
                name=np.array(clips.names[:total], np.str_),
            )
    if output.json is not None:
        write_json(output.json, result)
    return result


def _found(evaluation: ClipEvaluation) -> dict[str, Any]:
    """Its numbers, with those of the parameters that were refined if there are any."""
    initial = {} if evaluation.baseline is None else {"initial_metrics": evaluation.baseline}
    return {"metrics": evaluation.metrics, **initial, "sequences": evaluation.sequences}


def settings_sha256(config: Experiment) -> str:
    """Hash of the settings of a training, without its name, seed and folder: runs that differ in the seed share it."""
    return hashlib.sha256(config.model_dump_json(exclude=set(_NOT_SETTINGS)).encode()).hexdigest()


def _load(checkpoint: str | Path, options: EvaluationOptions, device: torch.device | str) -> _Loaded:
    """The model in a file, of clips or of pictures."""
    if is_of_format(checkpoint, IMAGE_MODEL):
        return _load_image_model(checkpoint, options, device)
    imported = "config" not in read_motion_metadata(checkpoint)
    loaded = load_clip_model(checkpoint, device, find_smpl("neutral") if imported else None)
    sampler = _sampler(SamplerConfig() if loaded.config is None else loaded.config.sampler, options)
    if loaded.model.deterministic and (options.steps is not None or options.num_samples is not None):
        _log.warning("%s has one answer: --steps and --num-samples change nothing", checkpoint)
    most = sampler.steps if loaded.config is None else loaded.config.model.denoiser.steps
    if sampler.steps > most:
        raise UserError(f"{sampler.steps} sampling steps, but the model has {most}; give fewer --steps")
    about = {
        "checkpoint": _file(checkpoint, loaded.sha256, loaded.step),
        "experiment": None if loaded.config is None else _experiment(loaded.config),
        "model": loaded.metadata["kind"] if loaded.config is None else _words(loaded.config),
    }
    return _Loaded(OfClips(loaded.model, sampler), loaded.body, sampler, about, loaded.model.refines)


def _words(config: ClipExperimentConfig) -> str:
    return f"{config.model.head}, refining" if config.model.refine else config.model.head


def _load_image_model(checkpoint: str | Path, options: EvaluationOptions, device: torch.device | str) -> _Loaded:
    loaded = load_checkpoint(checkpoint, device)
    settings = loaded.config.model
    if settings.encoder.kind != "keypoints":
        raise UserError(
            f"{checkpoint} reads pictures, but these sequences are keypoints; give a model with an encoder of "
            "keypoints, such as data/checkpoints/diffhmr_keypoints.safetensors"
        )
    sampler = _sampler(loaded.config.sampler, options)
    about = {
        "checkpoint": _file(checkpoint, loaded.sha256, loaded.step),
        "experiment": _experiment(loaded.config),
        "model": f"{settings.kind}, frame by frame",
    }
    predictor = FrameByFrame(FramewiseModel(loaded.model), sampler, deterministic=settings.kind == "spin")
    return _Loaded(predictor, loaded.body, sampler, about)


def _sampler(settings: SamplerConfig, options: EvaluationOptions) -> SamplerConfig:
    return settings if options.steps is None else settings.model_copy(update={"steps": options.steps})


def _file(checkpoint: str | Path, sha256: str, step: int) -> dict[str, Any]:
    return {"path": portable(checkpoint), "sha256": sha256, "step": step}


def _experiment(config: Experiment) -> dict[str, Any]:
    return {"name": config.name, "seed": config.seed, "settings_sha256": settings_sha256(config)}


def _describe(
    protocol: ClipProtocol, bodies: Bodies, description: dict[str, Any], measured: int, total: int
) -> dict[str, Any]:
    """Everything that another implementation must do alike to compare."""
    body = bodies.prediction
    needed = [name for name in protocol.regressors() if protocol.files or body.regressor_paths[name] != body.path]
    described = protocol.describe() | {"body": describe_body(body, needed or None)}
    if bodies.truth:
        described["truth_bodies"] = {
            name: describe_body(one, protocol.regressors()) for name, one in bodies.truth.items()
        }
    return described | {"people": description, "name": name_of_run(protocol.full_name, measured, total)}
