"""Files with the networks of clips of keypoints: DSTformer, those of MotionBERT's tasks, DiffMesh and its refinement.

The header of such a file (:mod:`diffhmr.model_file`) says what the network is built from:

* ``kind``: ``dstformer``, ``motionbert_mesh``, ``motionbert_action``, ``diffmesh``, ``diffmesh_refine`` or
  ``motion_diffusion``;
* ``variant``: ``released`` or ``paper`` of DiffMesh and its refinement, ``classifier`` or ``embedding`` of an action
  model, else empty;
* ``sizes``: JSON, those of the backbone and those that the head has beside them;
* ``body_name`` and ``body_sha256``: whose parameters come out, as in :mod:`diffhmr.checkpoint`; ``none`` and
  ``unknown`` for networks without a body.

Whoever writes a file adds where it comes from. Dropout is a setting of a training and not stored. An imported
``dstformer`` has ``root_relative``, ``true`` or ``false``: what its positions are relative to. A file that ``train.py``
wrote also has ``config``, the experiment as JSON, ``step`` and ``finished``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor

from diffhmr.errors import UserError
from diffhmr.model_file import MOTION_MODEL, check_weights, damaged_header, read_model_file, write_model_file
from diffhmr.models.diffmesh import DiffMesh, DiffMeshHead, DiffMeshSize, Variant
from diffhmr.models.dstformer import DSTformer, DSTformerSize
from diffhmr.models.motion_diffusion import MotionDiffusion, MotionDiffusionSize
from diffhmr.models.motion_heads import (
    ActionClassifier,
    ActionEmbedding,
    MeshHead,
    MotionBertAction,
    MotionBertMesh,
)
from diffhmr.models.motion_refine import DiffMeshRefine, RefineHead

MotionModel: TypeAlias = DSTformer | MotionBertMesh | MotionBertAction | DiffMesh | DiffMeshRefine | MotionDiffusion

_REQUIRED = ("kind", "variant", "sizes", "body_name", "body_sha256")


def save_motion_model(
    path: str | Path,
    model: MotionModel,
    header: Mapping[str, str],
    dtype: Literal["float32", "float16"] = "float32",
) -> None:
    """Write a network with its weights, atomically.

    Args:
        header: ``body_name``, ``body_sha256``, and further metadata such as where the weights come from.
        dtype: of the parameters; buffers stay in float32, as in :func:`diffhmr.checkpoint.save_model`.

    Raises:
        UserError: the folder cannot be written, or a weight is not finite.
    """
    assert {"body_name", "body_sha256"} <= set(header)
    kind, variant, sizes = _describe(model)
    own = {"kind": kind, "variant": variant, "sizes": json.dumps(sizes)}
    assert not set(header) & set(own), f"reserved metadata: {sorted(set(header) & set(own))}"
    half = {name for name, _ in model.named_parameters()} if dtype == "float16" else set()
    tensors = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    tensors = {name: value.half() if name in half else value for name, value in tensors.items()}
    write_model_file(path, MOTION_MODEL, tensors, own | dict(header))


def load_motion_model(path: str | Path) -> MotionModel:
    """Build the network that a file describes and give it the file's weights; on the CPU, in evaluation mode.

    Raises:
        UserError: the file is missing, truncated, of another format or of a newer version; its weights do not fit the
            network it describes or are not finite.
    """
    metadata, tensors = read_model_file(path, MOTION_MODEL, _REQUIRED, with_tensors=True)
    try:
        with torch.device("meta"):  # no time for initial values, and no random numbers drawn for them
            model = _build(metadata["kind"], metadata["variant"], json.loads(metadata["sizes"]))
    except (UserError, ValueError, TypeError, KeyError, ZeroDivisionError, RuntimeError) as error:
        raise damaged_header(path, ["kind", "variant", "sizes"]) from error
    check_weights(model, tensors, path)
    give_weights(model, tensors)
    return model.eval()


def give_weights(model: MotionModel, tensors: Mapping[str, Tensor]) -> None:
    """Put copies of ``tensors`` in the place of the parameters and buffers of a model on the meta device.

    Args:
        tensors: one for each, of its shape; they become of its type.
    """
    types = {name: value.dtype for name, value in model.state_dict().items()}
    copies = {name: value.to(types[name], copy=True) for name, value in tensors.items()}
    model.load_state_dict(copies, assign=True)


def read_motion_metadata(path: str | Path) -> dict[str, str]:
    """The header of a file, without reading the weights.

    Raises:
        UserError: it is missing, truncated, of another format or of a newer version.
    """
    return read_model_file(path, MOTION_MODEL, _REQUIRED, with_tensors=False)[0]


def _describe(model: MotionModel) -> tuple[str, str, dict[str, Any]]:
    """Kind, variant and sizes, from which :func:`_build` makes the same network."""
    if isinstance(model, DSTformer):
        return "dstformer", "", {"backbone": asdict(model.size)}
    sizes: dict[str, Any] = {"backbone": asdict(model.backbone.size)}
    if isinstance(model, MotionDiffusion):
        return "motion_diffusion", "", sizes | {"diffusion": asdict(model.size)}
    head = model.head
    if isinstance(head, MeshHead):
        return "motionbert_mesh", "", sizes | {"hidden": head.fc1.out_features}
    if isinstance(head, ActionClassifier):
        return "motionbert_action", "classifier", sizes | {"classes": head.fc2.out_features}
    if isinstance(head, ActionEmbedding):
        return "motionbert_action", "embedding", sizes | {"dim": head.fc1.out_features}
    sizes |= {"process": asdict(head.size), "vertices": head.mesh_template.shape[1]}
    if isinstance(head, RefineHead):
        return "diffmesh_refine", head.variant, sizes | {"hidden": head.head_pose.in_channels // 2}
    return "diffmesh", head.variant, sizes


def _build(kind: str, variant: str, sizes: Any) -> MotionModel:
    """The network of a header.

    Raises:
        ValueError, TypeError, KeyError, ZeroDivisionError, RuntimeError: there is no such network.
    """
    size = DSTformerSize(**sizes["backbone"])
    backbone = DSTformer(size)
    if kind == "dstformer":
        return backbone
    if kind == "motionbert_mesh":
        return MotionBertMesh(backbone, MeshHead(size.features, sizes["hidden"]))
    if (kind, variant) == ("motionbert_action", "classifier"):
        return MotionBertAction(backbone, ActionClassifier(sizes["classes"], size.features))
    if (kind, variant) == ("motionbert_action", "embedding"):
        return MotionBertAction(backbone, ActionEmbedding(size.features, sizes["dim"]))
    if kind == "motion_diffusion":
        return MotionDiffusion(backbone, MotionDiffusionSize(**sizes["diffusion"]))
    if kind not in ("diffmesh", "diffmesh_refine"):
        raise ValueError(f"{kind} {variant}")
    process = DiffMeshSize(**sizes["process"])
    if process.features != size.features:
        raise ValueError(f"{size.features} features for {process.features}")
    template = torch.zeros(sizes["vertices"], 3)  # its values are among the weights
    if kind == "diffmesh_refine":
        return DiffMeshRefine(backbone, RefineHead(template, cast(Variant, variant), process, sizes["hidden"]))
    return DiffMesh(backbone, DiffMeshHead(template, cast(Variant, variant), process))
