"""Weights of MotionBERT (Zhu et al., ICCV 2023) and DiffMesh (Zheng et al., WACV 2025).

The networks here have the names and shapes of the official ones, so tensors go over as they are. Which network it is
follows from the names, the size of the backbone, full or lite, from the shapes:

* ``motionbert``: pre-training and 3D pose are a DSTformer; mesh and action are whole models, ``backbone.*`` and
  ``head.*``. The number of actions, or the length of the embedding, follows from the head.
* ``diffmesh``: ``backbone.*`` and ``head.*``. The variant is ``released``, whose chain was never trained. Its
  refinement of given poses has ``head.fc1.0`` and ``head.fc2.0``; what its weights have learnt does not fit the poses
  as they are written here (:mod:`diffhmr.models.motion_refine`), and they are a start for a training only.

Official files have ``module.`` before every name. ``head.smpl.*``, the buffers of the body model in the head, have no
counterpart. Every key is accounted for (:mod:`diffhmr.foreign.accounting`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from diffhmr.checkpoint import UNKNOWN_SHA256
from diffhmr.errors import UserError
from diffhmr.files import sha256_file
from diffhmr.foreign.accounting import Layout, account, find_weights
from diffhmr.foreign.files import StoredTensor, TorchFile, read_torch_file
from diffhmr.models.diffmesh import OFFICIAL, DiffMesh, DiffMeshHead
from diffhmr.models.dstformer import FULL, LITE, DSTformer, DSTformerSize
from diffhmr.models.motion_heads import (
    ActionClassifier,
    ActionEmbedding,
    MeshHead,
    MotionBertAction,
    MotionBertMesh,
)
from diffhmr.models.motion_refine import OFFICIAL_HIDDEN, DiffMeshRefine, RefineHead
from diffhmr.motion_checkpoint import MotionModel, give_weights, save_motion_model

MotionProject = Literal["motionbert", "diffmesh"]

_Network = Literal["lifting", "mesh", "classifier", "embedding", "diffmesh", "refine"]
_WORDS: dict[_Network, str] = {
    "lifting": "MotionBERT's DSTformer (pre-training or 3D pose)",
    "mesh": "MotionBERT's mesh model",
    "classifier": "MotionBERT's action classifier",
    "embedding": "MotionBERT's action embedding",
    "diffmesh": "DiffMesh",
    "refine": "DiffMesh's refinement of given poses",
}
_OF_DIFFMESH: tuple[_Network, ...] = ("diffmesh", "refine")
_SIZES = {"full": FULL, "lite": LITE}

_WEIGHTS_KEYS = ("model_pos", "model")
"""Where in the file the weights are: of pre-training and 3D pose, of everything else."""
_PARALLEL = "module."
_BODY_BUFFERS = r"head\.smpl\..+"
_SMPL_VERTICES = 6890
_USUAL_CLASSES, _USUAL_DIM = 60, 2048


@dataclass(frozen=True)
class ForeignMotion:
    """A network with the weights of another project.

    Attributes:
        project: where they come from.
        path: of the file.
        model: on the CPU.
        words: which network it is, for people.
        left_out: names of the weights without counterpart.
        epoch: behind the weights, None if the file does not say.
    """

    project: MotionProject
    path: Path
    model: MotionModel
    words: str
    left_out: tuple[str, ...]
    epoch: int | None


def read_motion(path: str | Path, project: MotionProject) -> ForeignMotion:
    """Read the weights that ``project`` wrote to ``path`` with ``torch.save``; nothing in the file is run.

    Raises:
        UserError: it is no such file; a key is missing, unknown or has an unexpected shape; it is of the other project.
    """
    stored = read_torch_file(path)
    weights = _without_prefix(find_weights(stored, _WEIGHTS_KEYS, project))
    network = _network_of(stored.path, weights, project)
    size_name = _size_name(weights)
    model = _model(network, _SIZES[size_name], weights)
    layout: Layout = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    left_out = account(stored.path, project, weights, layout, "(?!)" if network == "lifting" else _BODY_BUFFERS)
    uncounted = [name for name in layout if name not in weights]
    tensors = {name: stored.tensor(weights[name], name) for name in layout if name in weights}
    give_weights(model, tensors | {name: torch.zeros((), dtype=torch.int64) for name in uncounted})
    words = f"{_WORDS[network]}, {size_name}"
    return ForeignMotion(project, stored.path, model.eval(), words, left_out, _epoch(stored))


def write_motion(weights: ForeignMotion, path: str | Path, *, root_relative: bool = True) -> None:
    """Write a file that :func:`diffhmr.motion_checkpoint.load_motion_model` reads.

    The parameters that come out of mesh models are SMPL's, of which release nobody knows.

    Args:
        root_relative: of pre-training and 3D pose: the positions were trained relative to the root of every frame
            (``rootrel`` of the official settings), which the weights do not tell. False for those called global.

    Raises:
        UserError: the file cannot be written, or a weight is not finite; other networks give no positions that could
            be global.
    """
    lifting = isinstance(weights.model, DSTformer)
    if not (lifting or root_relative):
        raise UserError(f"{weights.path} holds {weights.words}, which gives no positions: leave --global out")
    header = {
        "imported_from": weights.project,
        "imported_sha256": sha256_file(weights.path),
        "body_name": "SMPL" if isinstance(weights.model, (MotionBertMesh, DiffMesh, DiffMeshRefine)) else "none",
        "body_sha256": UNKNOWN_SHA256,
    }
    if lifting:
        header["root_relative"] = json.dumps(root_relative)
    if weights.epoch is not None:
        header["imported_epoch"] = str(weights.epoch)
    save_motion_model(path, weights.model, header)


def _without_prefix(weights: dict[str, Any]) -> dict[str, Any]:
    """The weights without the prefix of ``DataParallel``, which all names have or none."""
    if all(name.startswith(_PARALLEL) for name in weights):
        return {name.removeprefix(_PARALLEL): value for name, value in weights.items()}
    return weights


def _network_of(path: Path, weights: Mapping[str, Any], project: MotionProject) -> _Network:
    """Which network the names are those of, as far as some tell; all of them are checked afterwards.

    Raises:
        UserError: it is the other project's.
    """
    if not any(name.startswith("backbone.") for name in weights):
        lifting = project == "motionbert" or any(name.startswith(("temp_embed", "blocks_")) for name in weights)
        network: _Network = "lifting" if lifting else "diffmesh"
    else:
        network = _network_behind_backbone(weights, project)
    owner: MotionProject = "diffmesh" if network in _OF_DIFFMESH else "motionbert"
    if owner != project:
        raise UserError(f"{path} holds {_WORDS[network]}: import it with --from {owner}")
    return network


def _network_behind_backbone(weights: Mapping[str, Any], project: MotionProject) -> _Network:
    def has(*parts: str) -> bool:
        return any(name.startswith(tuple(f"head.{part}" for part in parts)) for name in weights)

    if has("fc1.0.", "fc2.0."):
        return "refine"
    if has("diffmesh_process.", "fc_ds.", "fc_mesh_temp.", "mesh_template"):
        return "diffmesh"
    if has("bn1.", "bn2.", "head_pose.", "head_shape.", "init_pose", "init_shape"):
        return "mesh"
    if has("fc2.", "bn."):
        return "classifier"
    if has("fc1."):
        return "embedding"
    return "mesh" if project == "motionbert" else "diffmesh"


def _size_name(weights: Mapping[str, Any]) -> str:
    """``full`` or ``lite``: of the two widths the one that more of the biases and norms have."""
    lengths = [value.size[0] for value in weights.values() if isinstance(value, StoredTensor) and len(value.size) == 1]
    return max(_SIZES, key=lambda name: lengths.count(_SIZES[name].width))


def _model(network: _Network, size: DSTformerSize, weights: Mapping[str, Any]) -> MotionModel:
    """The network, on the meta device."""
    with torch.device("meta"):
        backbone = DSTformer(size)
        if network == "lifting":
            return backbone
        if network == "mesh":
            return MotionBertMesh(backbone, MeshHead())
        if network == "classifier":
            return MotionBertAction(backbone, ActionClassifier(_rows(weights, "head.fc2", _USUAL_CLASSES)))
        if network == "embedding":
            return MotionBertAction(backbone, ActionEmbedding(dim=_rows(weights, "head.fc1", _USUAL_DIM)))
        template = torch.zeros(_SMPL_VERTICES, 3)
        if network == "refine":
            hidden = _rows(weights, "head.fc1.0", OFFICIAL_HIDDEN)
            return DiffMeshRefine(backbone, RefineHead(template, "released", OFFICIAL, hidden))
        return DiffMesh(backbone, DiffMeshHead(template, "released", OFFICIAL))


def _rows(weights: Mapping[str, Any], layer: str, usual: int) -> int:
    """Outputs of a linear layer, ``usual`` if neither weight nor bias is there to tell."""
    found = (weights.get(f"{layer}.{part}") for part in ("weight", "bias"))
    return next((value.size[0] for value in found if isinstance(value, StoredTensor) and value.size), usual)


def _epoch(stored: TorchFile) -> int | None:
    epoch = stored.content.get("epoch")
    return epoch if type(epoch) is int and epoch >= 0 else None
