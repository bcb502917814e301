"""Clips of random people and small models of clips."""

from __future__ import annotations

import torch

from diffhmr.body.model import BodyModel
from diffhmr.clip_batch import ClipBatch, ClipTargets
from diffhmr.config_clips import BackboneConfig, ChainConfig, ClipDenoiserConfig, ClipLossConfig, ClipModelConfig, Head
from diffhmr.models.clip_models import ClipModel, build_clip_model
from tests.models.formulas import randomised
from tests.models.people import random_params

MESH_HEADS: tuple[Head, ...] = ("motionbert", "released", "paper", "ours")
WINDOW, OVERLAP = 8, 3
BACKBONE = BackboneConfig(width=16, hidden=24, depth=1, heads=2, features=12, max_frames=24)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clip_settings(head: Head, **changes: object) -> ClipModelConfig:
    values = {
        "head": head,
        "window": WINDOW,
        "overlap": OVERLAP,
        "backbone": BACKBONE,
        "hidden": 20,
        "chain": ChainConfig(width=8, depth=1, heads=2, condition_width=16, condition_depth=1, warm_up=2),
        "denoiser": ClipDenoiserConfig(width=16, depth=2, heads=2, steps=50, noise_frames=2.0, smoothing=0.0),
        **changes,
    }
    return ClipModelConfig.model_validate(values)


def new_clip_model(body: BodyModel, head: Head, loss: ClipLossConfig | None = None, **changes: object) -> ClipModel:
    """As it is before training, with statistics of random people."""
    torch.manual_seed(0)
    model = build_clip_model(clip_settings(head, **changes), body, loss)
    params, _ = random_params(64, 7)
    model.set_statistics(params.rotations, params.betas)
    return model


def clip_model(body: BodyModel, head: Head, loss: ClipLossConfig | None = None, **changes: object) -> ClipModel:
    """In evaluation mode, with weights that all matter and answers that differ from frame to frame."""
    model = new_clip_model(body, head, loss, **changes).eval()
    for name, module in model.network.named_children():
        if name == "backbone":
            randomised(module)
    with torch.no_grad():
        for name, value in model.network.named_parameters():
            if not name.startswith("backbone."):
                value.add_(0.1 * torch.randn(value.shape, generator=generator(len(name))))
    return model


def clip_batch(size: int = 3, frames: int = WINDOW, seed: int = 0) -> ClipBatch:
    """Random keypoints, some unseen, and the truth about random people who change all the time."""
    params, _ = random_params(size * frames, seed)
    keypoints = 0.4 * torch.randn(size, frames, 17, 3, generator=generator(seed))
    keypoints[..., 2] = 0.1 + 0.9 * torch.rand(size, frames, 17, generator=generator(seed + 1))
    keypoints[:, ::3, 5] = 0
    betas = torch.randn(size, 10, generator=generator(seed + 2))
    targets = ClipTargets(params.rotations.unflatten(0, (size, frames)), betas)
    return ClipBatch(100 * seed + torch.arange(size), keypoints, torch.full((size,), 30.0), targets=targets)


def some_clips(batch: ClipBatch, which: slice, frames: slice = slice(None)) -> ClipBatch:
    """The clips ``which`` of a batch, or a part of their frames."""
    assert batch.targets is not None
    targets = ClipTargets(batch.targets.rotations[which, frames], batch.targets.betas[which])
    return ClipBatch(batch.item_seed[which], batch.keypoints[which, frames], batch.fps[which], targets=targets)
