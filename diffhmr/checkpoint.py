"""Weights and training states on disk, in formats that cannot run code.

A *model file* (:mod:`diffhmr.model_file`) holds the weights, and in its header everything that is needed to build the
model again. A *training state* holds what a run needs to go on exactly; it is read with ``weights_only=True``.
"""

from __future__ import annotations

import json
import logging
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from diffhmr.body.model import BodyModel
from diffhmr.config import ExperimentConfig, ModelConfig
from diffhmr.config_file import AnyExperiment, config_from_dict, config_to_dict, require_kind
from diffhmr.errors import UserError
from diffhmr.files import atomic_path, require_file, sha256_file
from diffhmr.model_file import IMAGE_MODEL, check_weights, damaged_header, read_model_file, write_model_file
from diffhmr.models import HmrModel, build_model

SHARED_PARTS = ("encoder.", "regressor.")
"""What a SPIN model gives a Diff-HMR as its start, and a Diff-HMR a SPIN."""
UNKNOWN_SHA256 = "unknown"
"""In place of the body's checksum, in weights of others that were imported without the body at hand."""
DETECTOR_PARTS = ("encoder.resnet.", "encoder.detector.")
"""What a model of images with pooling "joints" can give another one, whatever comes behind."""
STATE_FORMAT = "diffhmr-training-state"
STATE_VERSION = 1
_START_ANEW = "start anew under another name, or delete the folder"
REPOSITORY = Path(__file__).resolve().parents[1]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """A model built from its file.

    Attributes:
        model: in evaluation mode, in float32.
        config: the experiment that trained it.
        body: the body it predicts parameters for.
        step: training steps behind these weights.
        metadata: everything written in the file's header, as text.
        sha256: of the file.
    """

    model: HmrModel
    config: ExperimentConfig
    body: BodyModel
    step: int
    metadata: dict[str, str]
    sha256: str


@dataclass(frozen=True)
class TrainingState:
    """What a run needs to go on exactly where it stopped.

    Random numbers are not part of it: they follow from the seed and the step. Neither is the position in the data.
    """

    step: int
    config: AnyExperiment
    body_sha256: str
    model: dict[str, Tensor]
    ema: dict[str, Tensor]
    optimizer: dict[str, Any]


def load_body(path: str | Path) -> BodyModel:
    """The body file at ``path``; a relative path that does not exist here is looked up in the project's own folder.

    Raises:
        UserError: there is no such file, or it is no body.
    """
    path = Path(path)
    if not path.is_absolute() and not path.exists():
        path = REPOSITORY / path
    return BodyModel.load(path)


# Model files


def save_model(
    path: str | Path,
    model: nn.Module,
    config: ExperimentConfig,
    body: BodyModel,
    step: int,
    *,
    finished: bool = False,
    dtype: Literal["float32", "float16"] = "float32",
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write ``model`` as safetensors, atomically.

    Args:
        finished: training reached its last step.
        dtype: of the parameters; buffers (batch-norm statistics, the codec's mean and std) stay in float32, because
            they are few and their range may exceed that of half precision.
        extra: further metadata, such as where the file comes from.

    Raises:
        UserError: the folder cannot be written, or a weight is not finite or becomes so in half precision.
    """
    parameters = dict(model.named_parameters())
    tensors = {}
    for name, value in model.state_dict().items():
        stored = value.detach().cpu()
        if dtype == "float16" and name in parameters:
            stored = stored.half()
        tensors[name] = stored
    header = {
        "step": str(step),
        "finished": json.dumps(finished),
        "weights_dtype": dtype,
        "body_name": body.name,
        "body_sha256": body.sha256,
    }
    extra = dict(extra or {})
    assert not set(extra) & set(header), f"reserved metadata: {sorted(set(extra) & set(header))}"
    save_tensors(path, tensors, config, header | extra)


def save_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], config: ExperimentConfig, header: Mapping[str, str]
) -> None:
    """Write a model file from its tensors, atomically; :func:`save_model` for those who have no model.

    Args:
        header: further metadata: ``step``, ``body_name`` and ``body_sha256`` (perhaps :data:`UNKNOWN_SHA256`). With
            ``parts``, a JSON list of prefixes, only the tensors with such names start another model.

    Raises:
        UserError: the folder cannot be written, or a weight is not finite.
    """
    assert {"step", "body_name", "body_sha256"} <= set(header)
    config_text = json.dumps(config_to_dict(config))
    assert "config" not in header, "reserved metadata: config"
    write_model_file(path, IMAGE_MODEL, tensors, {"config": config_text, **header})


def read_metadata(path: str | Path) -> dict[str, str]:
    """The header of a model file, without reading the weights.

    Raises:
        UserError: it is missing, truncated, of another format or of a newer version.
    """
    return _read(path, with_tensors=False)[0]


def config_of(metadata: Mapping[str, str], path: str | Path) -> ExperimentConfig:
    """The experiment in the header of the model file ``path``, which :func:`read_metadata` gave.

    Raises:
        UserError: it is damaged, on clips, or has settings that this version does not know.
    """
    try:
        data = dict(json.loads(metadata["config"]))
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged_header(path, ["config"]) from error
    source = f"configuration inside {path}"
    return require_kind(config_from_dict(data, source), ExperimentConfig, source)


def load_checkpoint(
    path: str | Path, device: torch.device | str = "cpu", *, kind: Literal["diffhmr", "spin"] | None = None
) -> LoadedModel:
    """Build the model that a file describes and give it the file's weights.

    Args:
        kind: the model that is needed, or None if any will do.

    Raises:
        UserError: the file is missing, truncated, of another format, of another model or of a newer version; its
            weights do not fit the model it describes or are not finite; its body is missing or is another one.
    """
    metadata, tensors = _read(path, with_tensors=True)
    config = config_of(metadata, path)
    if kind is not None and config.model.kind != kind:
        raise UserError(
            f"{path} holds a {config.model.kind} model, but a {kind} model is needed; give another checkpoint"
        )
    parts = _parts(metadata, path)
    if parts and not _has_regressor(tensors):
        raise UserError(
            f"{path} holds no whole model but {', '.join(parts)}*: use it as the start of a training (init={path})"
        )
    body = load_body(config.body.path)
    check_body(body, metadata, path)
    model = build_model(without_downloads(config.model), body, config.loss)
    _assign(model, tensors, path)
    model = model.to(device).eval()
    return LoadedModel(model, config, body.to(device), int(metadata["step"]), metadata, sha256_file(path))


def load_weights(path: str | Path, model: HmrModel, config: ModelConfig, only: tuple[str, ...] | None = None) -> None:
    """Give ``model``, built from ``config``, the weights of a model file as its start.

    A SPIN file may also start a Diff-HMR, and the reverse: encoder and regressor are taken, the rest stays as it is.
    Of a file that was imported only what its header names as ``parts`` is taken, perhaps no more than the encoder. A
    model of keypoints gives one of images everything behind the detector.

    Args:
        path: of the model file.
        model: takes the weights.
        config: of ``model``.
        only: prefixes of the weights that are wanted; None for all that the file can give.

    Raises:
        UserError: as :func:`load_checkpoint`; the file holds another kind of model or one with other layers.
    """
    metadata, tensors = _read(path, with_tensors=True)
    given = config_of(metadata, path).model
    other = given.kind
    if given.rotations != config.rotations and _has_regressor(tensors) and only is None:
        raise UserError(
            f"{path} gives rotations relative to the {given.rotations}, this run wants model.rotations="
            f"{config.rotations}; set it to {given.rotations} or give another init"
        )
    wanted = model.state_dict()
    # A model with frozen batch norm does not count batches; its start may.
    tensors = {name: t for name, t in tensors.items() if name in wanted or not name.endswith("num_batches_tracked")}
    parts = only or _parts(metadata, path) or (SHARED_PARTS if other != config.kind else ("",))
    own: tuple[str, ...] = ()
    if given.encoder.kind == "keypoints" and config.encoder.kind == "image" and config.encoder.pooling == "joints":
        own = (*DETECTOR_PARTS, "encoder.appearance.")
        tensors = {name.replace("encoder.", "encoder.lifter.", 1): value for name, value in tensors.items()}
    kept = {name: value for name, value in wanted.items() if not name.startswith(parts) or name.startswith(own)}
    taken = {name: value for name, value in tensors.items() if name.startswith(parts) and not name.startswith(own)}
    _assign(model, kept | taken, path)


def without_downloads(config: ModelConfig) -> ModelConfig:
    """``config`` with an encoder that starts from random weights, for a model whose weights are about to be loaded."""
    return config.model_copy(update={"encoder": config.encoder.model_copy(update={"weights": "none"})})


def _read(path: str | Path, *, with_tensors: bool) -> tuple[dict[str, str], dict[str, Tensor]]:
    required = ("config", "step", "body_name", "body_sha256")
    metadata, tensors = read_model_file(path, IMAGE_MODEL, required, with_tensors=with_tensors)
    if not (metadata["step"].isascii() and metadata["step"].isdigit()):
        raise damaged_header(path, ["step"])
    return metadata, tensors


def _parts(metadata: Mapping[str, str], path: str | Path) -> tuple[str, ...]:
    """Prefixes of what an imported file gives another model as its start; empty for all other files."""
    try:
        parts = json.loads(metadata.get("parts", "[]"))
    except (ValueError, RecursionError):
        parts = None
    if not isinstance(parts, list) or not all(isinstance(part, str) and part for part in parts):
        raise damaged_header(path, ["parts"])
    return tuple(parts)


def _has_regressor(tensors: Mapping[str, Tensor]) -> bool:
    return any(name.startswith("regressor.") for name in tensors)


def check_body(body: BodyModel, metadata: Mapping[str, str], path: str | Path) -> None:
    """Refuse a body that is not the one that the file ``path`` with the header ``metadata`` is for.

    Raises:
        UserError: its name is another one.
    """
    known = metadata["body_sha256"]
    if known == body.sha256 or (known == UNKNOWN_SHA256 and body.name == metadata["body_name"]):
        return
    expected = f"'{metadata['body_name']}' (SHA-256 {metadata['body_sha256'][:12]}...)"
    found = f"{body.path} is '{body.name}' (SHA-256 {body.sha256[:12]}...)"
    if body.name != metadata["body_name"]:
        raise UserError(f"{path} was trained with the body {expected}, but {found}; put the right file there")
    _log.warning("%s was trained with the body %s, but %s: results may differ", path, expected, found)


def _assign(model: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Copy ``tensors`` into ``model``; every name and shape must fit."""
    check_weights(model, tensors, path)
    model.load_state_dict(dict(tensors))


# Training states


def save_state(path: str | Path, state: TrainingState) -> None:
    """Write a training state, atomically.

    Raises:
        UserError: the folder cannot be written.
    """
    content = {
        "format": STATE_FORMAT,
        "version": STATE_VERSION,
        "step": state.step,
        "config": config_to_dict(state.config),
        "body_sha256": state.body_sha256,
        "model": state.model,
        "ema": state.ema,
        "optimizer": state.optimizer,
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_state(path: str | Path) -> TrainingState:
    """Read a training state; all tensors are on the CPU.

    Raises:
        UserError: it is missing, truncated, of another format or version, or holds more than tensors and plain values.
    """
    path = require_file(path, "training state", _START_ANEW)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about files that are refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's own message advises to load it all the same.
        raise UserError(f"{path} holds what no training state needs and is not loaded; {_START_ANEW}") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path} is truncated or no training state ({reason}); {_START_ANEW}") from error
    if not isinstance(content, dict) or content.get("format") != STATE_FORMAT:
        raise UserError(f"{path} is no training state of this project; {_START_ANEW}")
    if content.get("version") != STATE_VERSION:
        raise UserError(f"{path} has version {content.get('version')}, expected {STATE_VERSION}; {_START_ANEW}")
    kinds = {"step": int, "config": dict, "body_sha256": str, "model": dict, "ema": dict, "optimizer": dict}
    wrong = [name for name, kind in kinds.items() if not isinstance(content.get(name), kind)]
    if wrong or content["step"] < 0:
        raise UserError(f"{path} is damaged ({', '.join(wrong) or 'step'}); {_START_ANEW}")
    return TrainingState(
        step=content["step"],
        config=config_from_dict(content["config"], f"configuration inside {path}"),
        body_sha256=content["body_sha256"],
        model=content["model"],
        ema=content["ema"],
        optimizer=content["optimizer"],
    )
