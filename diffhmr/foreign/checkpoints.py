"""Weights of other projects, under the names and in the layout of the networks here.

Every key of a file is accounted for (:mod:`diffhmr.foreign.accounting`).

* ``spin``: SPIN (Kolotouros et al., ICCV 2019), encoder and regressor. They become a complete ``SPIN`` model. Crop
  (224 px, ImageNet's mean and standard deviation) and camera ((s, tx, ty), focal length 5000 px) are the same here.
  SPIN writes a rotation as a row-major 3x2 matrix, ``[a1x a2x a1y a2y a1z a2z]``, here its columns follow each other,
  so the entries of the pose change places in the first layer, in the pose head and in the mean pose.
* ``prohmr``: ProHMR (Kolotouros et al., ICCV 2021), the encoder. Its normalising flow, its head for shape and camera
  and its discriminator have no counterpart.
* ``torchvision``: a ResNet-18, -34 or -50 for image classification, all but the last layer.

Encoders alone are no model: such files start a training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torchvision
from torch import Tensor

from diffhmr.body.codec import StateCodec
from diffhmr.checkpoint import REPOSITORY, UNKNOWN_SHA256, load_body, save_tensors
from diffhmr.config import ExperimentConfig
from diffhmr.config_file import config_from_dict, require_kind
from diffhmr.files import sha256_file
from diffhmr.foreign.accounting import Layout, account, find_weights
from diffhmr.foreign.files import read_torch_file
from diffhmr.geometry.rotation import rot6d_interleaved_to_columns

Project = Literal["spin", "prohmr", "torchvision"]

SMPL_PATH = Path("data/body/SMPL_NEUTRAL.pkl")
"""The body of SPIN's parameters, where the project looks for it."""

_FEATURES, _POSE, _WIDTH = 2048, 144, 1024

_SPIN_REGRESSOR: Layout = {
    "fc1.weight": (_WIDTH, _FEATURES + _POSE + 10 + 3),
    "fc1.bias": (_WIDTH,),
    "fc2.weight": (_WIDTH, _WIDTH),
    "fc2.bias": (_WIDTH,),
    "decpose.weight": (_POSE, _WIDTH),
    "decpose.bias": (_POSE,),
    "decshape.weight": (10, _WIDTH),
    "decshape.bias": (10,),
    "deccam.weight": (3, _WIDTH),
    "deccam.bias": (3,),
    "init_pose": (1, _POSE),
    "init_shape": (1, 10),
    "init_cam": (1, 3),
}
_HEADS = {"fc1": "fc1", "fc2": "fc2", "decpose": "pose_head", "decshape": "shape_head", "deccam": "camera_head"}
_MEANS = {"init_pose": "mean_rot6d", "init_shape": "mean_betas", "init_cam": "mean_camera"}

_FLOW_LAYERS = (
    r"log_scale|shift|initialized|bias|lower_entries|upper_entries|unconstrained_upper_diag|dummy_buffer|"
    r"identity_features|transform_features|transform_net\.(initial_layer|final_layer)\.(weight|bias)|"
    r"transform_net\.blocks\.[01]\.(batch_norm_layers|linear_layers)\.[01]\.\w+"
)
_WITHOUT_COUNTERPART = {
    "spin": r"(?!)",
    "prohmr": rf"flow\.flow\._transform\.(dummy_buffer|_transforms\.\d+\.({_FLOW_LAYERS}))|"
    r"flow\.fc_head\.(layers\.[02]\.(weight|bias)|init_cam|init_betas)|discriminator\..+|smpl\..+|initialized",
    "torchvision": r"fc\.(weight|bias)",
}
"""Whole names of the weights that are known and left out."""

_WEIGHTS_KEYS = {"spin": ("model",), "prohmr": ("state_dict",), "torchvision": ()}
"""Where in the file the weights are."""


@dataclass(frozen=True)
class ForeignWeights:
    """The weights of another project, named and laid out as here.

    Attributes:
        project: where they come from.
        path: of the file.
        tensors: all that is taken, float32.
        backbone: of the encoder.
        left_out: names of the weights without counterpart.
        steps: training steps behind the weights, 0 if the file does not say.
    """

    project: Project
    path: Path
    tensors: dict[str, Tensor]
    backbone: str
    left_out: tuple[str, ...]
    steps: int

    @property
    def is_model(self) -> bool:
        """Whether they make a model that can be used; else they start a training."""
        return self.project == "spin"


def read_foreign(path: str | Path, project: Project) -> ForeignWeights:
    """Read the weights that ``project`` wrote to ``path`` with ``torch.save``; nothing in the file is run.

    Raises:
        UserError: it is no such file; a key is missing, unknown or has an unexpected shape.
    """
    stored = read_torch_file(path)
    weights = find_weights(stored, _WEIGHTS_KEYS[project], project)
    prefix = "backbone." if project == "prohmr" else ""
    backbone = _backbone(weights, prefix) if project == "torchvision" else "resnet50"
    encoder = {f"{prefix}{name}": shape for name, shape in _resnet_layout(backbone).items()}
    regressor = _SPIN_REGRESSOR if project == "spin" else {}
    left_out = account(stored.path, project, weights, encoder | regressor, _WITHOUT_COUNTERPART[project])
    taken = {name: stored.tensor(value, name) for name, value in weights.items() if name not in left_out}
    tensors = {f"encoder.resnet.{name.removeprefix(prefix)}": _encoder_weight(name, taken) for name in encoder}
    if regressor:
        tensors |= _spin_regressor({name: taken[name].float() for name in regressor})
    steps = stored.content.get("total_step_count") if project == "spin" else 0
    steps = steps if isinstance(steps, int) and steps >= 0 else 0
    return ForeignWeights(project, stored.path, tensors, backbone, left_out, steps)


def write_foreign(weights: ForeignWeights, path: str | Path, body: str | Path | None = None) -> ExperimentConfig:
    """Write a model file that ``init`` and, if the weights are a whole model, ``--checkpoint`` take.

    The statistics of the diffused state, which SPIN does not have, are those before any data: mean 0 and deviation 1.
    A SPIN model does not use them, and a model that starts from this file keeps those of its own data.

    Args:
        weights: of another project.
        path: file to write.
        body: the body of the parameters of a whole model; it is named in the file. None: :data:`SMPL_PATH`, which need
            not be there: its checksum is then unknown, and any SMPL body will do.

    Returns:
        The settings inside the file.

    Raises:
        UserError: the file cannot be written, there is no such body, or a weight is not finite.
    """
    tensors = dict(weights.tensors)
    header = {
        "step": str(weights.steps),
        "finished": json.dumps(True),
        "weights_dtype": "float32",
        "imported_from": weights.project,
        "imported_sha256": sha256_file(weights.path),
        "parts": json.dumps(["encoder.resnet.", "regressor."] if weights.is_model else ["encoder.resnet."]),
        "body_name": "none",
        "body_sha256": UNKNOWN_SHA256,
    }
    encoder = {"kind": "image", "backbone": weights.backbone, "weights": "none", "norm": "batch", "pooling": "average"}
    settings: dict[str, Any] = {
        "name": f"{weights.project}_imported",
        "model": {"kind": "spin", "encoder": encoder, "regressor": {"iterations": 3, "width": _WIDTH, "dropout": 0.5}},
        "data": {"images": True, "image_size": 224},
    }
    if weights.is_model:
        settings["body"] = {"path": str(body or SMPL_PATH)}
        header |= _body_header(body)
    config = require_kind(config_from_dict(settings), ExperimentConfig, path)
    if weights.is_model:
        codec = StateCodec(config.model.state).state_dict()
        tensors |= {f"codec.{name}": value for name, value in codec.items()}
    save_tensors(path, tensors, config, header)
    return config


def _body_header(path: str | Path | None) -> dict[str, str]:
    """Name and checksum of the body, as far as they can be known."""
    if path is None and not SMPL_PATH.exists() and not (REPOSITORY / SMPL_PATH).exists():
        return {"body_name": "SMPL", "body_sha256": UNKNOWN_SHA256}
    body = load_body(path or SMPL_PATH)
    return {"body_name": body.name, "body_sha256": body.sha256}


def _backbone(weights: Mapping[str, Any], prefix: str) -> str:
    """The ResNet whose names these are, as far as two of them tell; all of them are checked afterwards."""
    if f"{prefix}layer1.0.conv3.weight" in weights:
        return "resnet50"
    return "resnet34" if f"{prefix}layer1.2.conv1.weight" in weights else "resnet18"


def _resnet_layout(backbone: str) -> Layout:
    """Names and shapes of torchvision's network without the last layer. SPIN's and ProHMR's are the same."""
    with torch.device("meta"):
        state = getattr(torchvision.models, backbone)().state_dict()
    return {name: tuple(value.shape) for name, value in state.items() if not name.startswith("fc.")}


def _encoder_weight(name: str, weights: Mapping[str, Tensor]) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return weights[name].long() if name in weights else torch.zeros((), dtype=torch.int64)
    return weights[name].float()


def _spin_regressor(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """SPIN's regressor under our names, the entries of the pose in our order."""
    # Entry k of our pose is entry order[k] of SPIN's.
    order = rot6d_interleaved_to_columns(torch.arange(_POSE).reshape(-1, 6)).flatten()
    moved = dict(weights)
    for name in ("decpose.weight", "decpose.bias"):
        moved[name] = weights[name][order]
    moved["init_pose"] = weights["init_pose"][:, order]
    features, pose, rest = weights["fc1.weight"].split([_FEATURES, _POSE, 13], dim=1)
    moved["fc1.weight"] = torch.cat([features, pose[:, order], rest], dim=1)
    result = {}
    for name, value in moved.items():
        layer, _, kind = name.partition(".")
        ours = f"{_HEADS[layer]}.{kind}" if kind else _MEANS[layer]
        result[f"regressor.{ours}"] = value if kind else value.squeeze(0)
    return result
