"""Models of meshes of clips on disk: the files of :mod:`diffhmr.motion_checkpoint`, with what a training knows."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from diffhmr.body.model import BodyModel
from diffhmr.checkpoint import UNKNOWN_SHA256, check_body, load_body
from diffhmr.config_clips import ClipExperimentConfig
from diffhmr.config_file import config_from_dict, config_to_dict, require_kind
from diffhmr.errors import UserError
from diffhmr.files import sha256_file
from diffhmr.model_file import damaged_header
from diffhmr.models.clip_models import ClipModel, MeshNetwork
from diffhmr.models.clip_windows import WindowOptions
from diffhmr.models.diffmesh import DiffMesh
from diffhmr.models.motion_diffusion import MotionDiffusion
from diffhmr.models.motion_heads import MotionBertMesh
from diffhmr.models.motion_refine import DiffMeshRefine
from diffhmr.motion_checkpoint import MotionModel, load_motion_model, read_motion_metadata, save_motion_model

OFFICIAL_WINDOWS = WindowOptions(frames=16, overlap=4, input="picture")
"""How the official weights of MotionBERT's mesh task and of DiffMesh see clips."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedClipModel:
    """A model of meshes built from its file.

    Attributes:
        model: in evaluation mode, in float32.
        config: the experiment that trained it, or None for imported weights.
        body: the body it predicts parameters for.
        step: training steps behind these weights; 0 for imported ones.
        metadata: everything written in the file's header, as text.
        sha256: of the file.
    """

    model: ClipModel
    config: ClipExperimentConfig | None
    body: BodyModel
    step: int
    metadata: dict[str, str]
    sha256: str


def save_trained(
    path: str | Path,
    network: MotionModel,
    config: ClipExperimentConfig,
    body: BodyModel | None,
    step: int,
    *,
    finished: bool = False,
    dtype: Literal["float32", "float16"] = "float32",
    extra: Mapping[str, str] | None = None,
) -> None:
    """Write the network of a training with its settings, atomically.

    Args:
        body: whose parameters it gives; None for networks without a body.
        finished: training reached its last step.
        dtype: of the parameters.
        extra: further metadata.

    Raises:
        UserError: the folder cannot be written, or a weight is not finite.
    """
    header = {
        "body_name": "none" if body is None else body.name,
        "body_sha256": UNKNOWN_SHA256 if body is None else body.sha256,
        "config": json.dumps(config_to_dict(config)),
        "step": str(step),
        "finished": json.dumps(finished),
    }
    save_motion_model(path, network, header | dict(extra or {}), dtype)


def save_clip_model(
    path: str | Path,
    model: ClipModel,
    config: ClipExperimentConfig,
    body: BodyModel,
    step: int,
    *,
    finished: bool = False,
) -> None:
    """Write a model of meshes; see :func:`save_trained`."""
    save_trained(path, model.network, config, body, step, finished=finished)


def config_of_clips(metadata: Mapping[str, str], path: str | Path) -> ClipExperimentConfig | None:
    """The experiment in the header of the file ``path``; None for imported weights.

    Raises:
        UserError: it is damaged, or has settings that this version does not know.
    """
    if "config" not in metadata:
        return None
    try:
        data = dict(json.loads(metadata["config"]))
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged_header(path, ["config"]) from error
    source = f"configuration inside {path}"
    return require_kind(config_from_dict(data, source), ClipExperimentConfig, source)


def load_clip_model(
    path: str | Path, device: torch.device | str = "cpu", body_path: str | Path | None = None
) -> LoadedClipModel:
    """Build the model of meshes that a file describes and give it the file's weights.

    Imported official weights see clips as in :data:`OFFICIAL_WINDOWS`.

    Args:
        body_path: the body of imported weights, which name no file; the SMPL or free body of the default settings if
            left out.

    Raises:
        UserError: the file is missing, truncated, of another format or of a newer version, or has no model of meshes;
            its body is missing or is another one.
    """
    metadata = read_motion_metadata(path)
    network = load_motion_model(path)
    if not isinstance(network, MotionBertMesh | DiffMesh | DiffMeshRefine | MotionDiffusion):
        raise UserError(
            f"{path} holds a {metadata['kind']} network, which gives no meshes; give a file of the task mesh"
        )
    config = config_of_clips(metadata, path)
    if config is None and isinstance(network, DiffMeshRefine):
        _log.warning(
            "%s: imported weights of the refinement have learnt to correct poses that are written in another way; they "
            "do not refine before they are trained again, as init of a training",
            path,
        )
    step = metadata.get("step", "0")
    if not (step.isascii() and step.isdigit()):
        raise damaged_header(path, ["step"])
    default = ClipExperimentConfig(name="imported", task="mesh").body.path if config is None else config.body.path
    body = load_body(default if body_path is None else body_path)
    check_body(body, metadata, path)
    windows = _windows(network, config)
    weights = {} if config is None else config.loss.model_dump()
    active = frozenset(name for name, weight in weights.items() if weight > 0)
    model = ClipModel(network, body, windows, active).to(device).eval()
    return LoadedClipModel(model, config, body.to(device), int(step), metadata, sha256_file(path))


def _windows(network: MeshNetwork, config: ClipExperimentConfig | None) -> WindowOptions:
    if config is not None:
        return WindowOptions(config.model.window, config.model.overlap, config.model.input)
    if isinstance(network, DiffMesh | DiffMeshRefine):
        return WindowOptions(network.frames, network.frames // 4, OFFICIAL_WINDOWS.input)
    return OFFICIAL_WINDOWS
