"""Untrained models of clips that are quick to build and to run, in real checkpoint files."""

from __future__ import annotations

from pathlib import Path

import torch

from diffhmr.checkpoint import load_body
from diffhmr.clip_checkpoint import save_clip_model
from diffhmr.config import SamplerConfig
from diffhmr.config_clips import (
    BackboneConfig,
    ChainConfig,
    ClipDenoiserConfig,
    ClipExperimentConfig,
    ClipModelConfig,
    Head,
)
from diffhmr.models.clip_models import build_clip_model


def small_clip_config(head: Head = "ours", name: str = "small", seed: int = 0) -> ClipExperimentConfig:
    """A backbone of one level and heads of a few numbers."""
    return ClipExperimentConfig(
        name=name,
        seed=seed,
        task="mesh",
        model=ClipModelConfig(
            head=head,
            window=16,
            backbone=BackboneConfig(width=16, hidden=16, depth=1, heads=2, features=16, max_frames=16),
            hidden=16,
            chain=ChainConfig(width=16, depth=1, heads=2, condition_width=16, condition_depth=1, warm_up=2),
            denoiser=ClipDenoiserConfig(width=16, depth=1, heads=2),
        ),
        sampler=SamplerConfig(steps=2),
    )


def save_small_clip_model(path: Path, config: ClipExperimentConfig) -> Path:
    """A file as train.py writes it."""
    body = load_body(config.body.path)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        model = build_clip_model(config.model, body)
    save_clip_model(path, model, config, body, step=7)
    return path
