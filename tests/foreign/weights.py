"""State dicts with the names and shapes that other projects write, and SPIN's network written out from that layout."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as functional
from torch import Tensor

_BOTTLENECKS = (3, 4, 6, 3)


def resnet50_layout() -> dict[str, tuple[int, ...]]:
    """The 318 tensors of a ResNet-50 without its last layer."""
    layout: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)} | _norm("bn1", 64)
    inputs = 64
    for layer, blocks in enumerate(_BOTTLENECKS, 1):
        width = 32 * 2**layer
        for block in range(blocks):
            name = f"layer{layer}.{block}"
            layout |= {f"{name}.conv1.weight": (width, inputs, 1, 1)} | _norm(f"{name}.bn1", width)
            layout |= {f"{name}.conv2.weight": (width, width, 3, 3)} | _norm(f"{name}.bn2", width)
            layout |= {f"{name}.conv3.weight": (4 * width, width, 1, 1)} | _norm(f"{name}.bn3", 4 * width)
            if block == 0:
                layout |= {f"{name}.downsample.0.weight": (4 * width, inputs, 1, 1)}
                layout |= _norm(f"{name}.downsample.1", 4 * width)
            inputs = 4 * width
    return layout


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (width,) for part in parts} | {f"{name}.num_batches_tracked": ()}


def spin_layout() -> dict[str, tuple[int, ...]]:
    """The 331 tensors of SPIN."""
    layout = resnet50_layout()
    for name, rows, columns in (
        ("fc1", 1024, 2048 + 144 + 10 + 3),
        ("fc2", 1024, 1024),
        ("decpose", 144, 1024),
        ("decshape", 10, 1024),
        ("deccam", 3, 1024),
    ):
        layout |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    return layout | {"init_pose": (1, 144), "init_shape": (1, 10), "init_cam": (1, 3)}


def prohmr_layout() -> dict[str, tuple[int, ...]]:
    """The encoder of ProHMR, and of everything else one or more tensors."""
    layout = {f"backbone.{name}": shape for name, shape in resnet50_layout().items()}
    flow = "flow.flow._transform"
    layout[f"{flow}.dummy_buffer"] = ()
    for first in range(0, 12, 3):
        norm, linear, coupling = (f"{flow}._transforms.{first + i}" for i in range(3))
        layout |= {f"{norm}.{name}": (144,) for name in ("log_scale", "shift")} | {f"{norm}.initialized": ()}
        layout |= {f"{linear}.{name}": (144,) for name in ("bias", "unconstrained_upper_diag")}
        layout |= {f"{linear}.{name}_entries": (10296,) for name in ("lower", "upper")}
        layout |= {f"{coupling}.{name}_features": (72,) for name in ("identity", "transform")}
        layout |= {f"{name}.dummy_buffer": () for name in (norm, linear, coupling)}
        net = f"{coupling}.transform_net"
        layout |= {f"{net}.initial_layer.weight": (8, 8), f"{net}.final_layer.bias": (72,)}
        for block in (0, 1):
            layout |= _norm(f"{net}.blocks.{block}.batch_norm_layers.1", 8)
            layout |= {f"{net}.blocks.{block}.linear_layers.0.weight": (8, 8)}
    layout |= {"flow.fc_head.layers.0.weight": (1024, 2048), "flow.fc_head.layers.2.bias": (13,)}
    layout |= {"flow.fc_head.init_cam": (1, 1, 3), "flow.fc_head.init_betas": (1, 1, 10)}
    return layout | {"discriminator.D_conv1.weight": (32, 9, 1, 1), "smpl.betas": (1, 10), "initialized": ()}


def random_weights(layout: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Random numbers, of a size with which a network's output neither vanishes nor explodes."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in layout.items():
        values = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            values = torch.tensor(int(1000 * values.abs()))
        elif len(shape) >= 2 and not name.startswith("init_"):
            values *= math.prod(shape[1:]) ** -0.5
        elif name.endswith("running_var") or (len(shape) == 1 and name.endswith(".weight")):
            values = 0.5 + 0.2 * values.abs()
        else:
            values *= 0.1
        weights[name] = values
    return weights


def spin_forward(weights: dict[str, Tensor], image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """SPIN's answer for normalised crops ``[B, 3, 224, 224]``: rotations ``[B, 24, 3, 3]``, betas and camera."""
    features = _resnet50(weights, image)
    size = len(image)
    pose, shape, camera = (weights[f"init_{name}"].expand(size, -1) for name in ("pose", "shape", "cam"))
    for _ in range(3):
        hidden = torch.cat([features, pose, shape, camera], dim=1)
        for name in ("fc1", "fc2"):  # with dropout in training, and no activation
            hidden = hidden @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        pose = pose + hidden @ weights["decpose.weight"].T + weights["decpose.bias"]
        shape = shape + hidden @ weights["decshape.weight"].T + weights["decshape.bias"]
        camera = camera + hidden @ weights["deccam.weight"].T + weights["deccam.bias"]
    columns = pose.reshape(size, 24, 3, 2)  # row-major 3x2: the first two columns of the rotation
    first = columns[..., 0] / columns[..., 0].norm(dim=-1, keepdim=True)
    second = columns[..., 1] - (first * columns[..., 1]).sum(-1, keepdim=True) * first
    second = second / second.norm(dim=-1, keepdim=True)
    return torch.stack([first, second, torch.linalg.cross(first, second, dim=-1)], dim=-1), shape, camera


def _resnet50(weights: dict[str, Tensor], image: Tensor) -> Tensor:
    x = functional.relu(_batch_norm(weights, "bn1", functional.conv2d(image, weights["conv1.weight"], None, 2, 3)))
    x = functional.max_pool2d(x, 3, 2, 1)
    for layer, blocks in enumerate(_BOTTLENECKS, 1):
        for block in range(blocks):
            name = f"layer{layer}.{block}"
            stride = 2 if block == 0 and layer > 1 else 1
            y = functional.conv2d(x, weights[f"{name}.conv1.weight"])
            y = functional.relu(_batch_norm(weights, f"{name}.bn1", y))
            y = functional.conv2d(y, weights[f"{name}.conv2.weight"], None, stride, 1)
            y = functional.relu(_batch_norm(weights, f"{name}.bn2", y))
            y = _batch_norm(weights, f"{name}.bn3", functional.conv2d(y, weights[f"{name}.conv3.weight"]))
            if block == 0:
                x = functional.conv2d(x, weights[f"{name}.downsample.0.weight"], None, stride)
                x = _batch_norm(weights, f"{name}.downsample.1", x)
            x = functional.relu(x + y)
    return functional.avg_pool2d(x, 7).flatten(1)


def _batch_norm(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    mean, variance, scale, shift = (
        weights[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-5).sqrt() * scale + shift
