"""A known person who walks before a known camera: the truth, a video of it, keypoints, and models that know it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diffhmr.body.joints import HALPE26
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.checkpoint import load_body
from diffhmr.clip_batch import ClipBatch, ClipPrediction
from diffhmr.clip_checkpoint import save_clip_model
from diffhmr.config import SamplerConfig
from diffhmr.config_clips import BackboneConfig, ClipDenoiserConfig, ClipExperimentConfig, ClipModelConfig
from diffhmr.geometry.camera import intrinsics, project
from diffhmr.geometry.rotation import axis_angle_to_matrix
from diffhmr.inference.predict import PredictOptions
from diffhmr.inference.video.motions import ClipMotionModel
from diffhmr.models.clip_models import build_clip_model
from diffhmr.models.clip_windows import WindowOptions
from diffhmr.render.overlay import overlay
from diffhmr.render.video_file import video_writer

SIZE = (320, 240)
FOCAL = 400.0
FPS = 25.0


@dataclass(frozen=True)
class Walk:
    """Somebody who walks through the picture.

    Attributes:
        params: ``[T]`` with ``transl``, in the camera frame.
        halpe: ``[T, 26, 3]`` pixels and confidence 0.9.
    """

    params: SmplParams
    halpe: Tensor

    @property
    def intrinsic(self) -> Tensor:
        """K."""
        return intrinsics(FOCAL, *SIZE)


def walk(body: BodyModel, frames: int, start: tuple[float, float, float] = (-0.6, 0.05, 3.6), seed: int = 0) -> Walk:
    """Somebody who walks to the right and away, half facing the camera; arms hang, legs and arms swing."""
    generator = torch.Generator().manual_seed(seed)
    swing = torch.sin(0.35 * torch.arange(frames) + seed)
    axis_angle = torch.zeros(frames, 24, 3)
    axis_angle[:, 1, 0], axis_angle[:, 2, 0] = 0.5 * swing, -0.5 * swing
    axis_angle[:, 4, 0], axis_angle[:, 5, 0] = 0.4 - 0.4 * swing, 0.4 + 0.4 * swing
    axis_angle[:, 16, 2], axis_angle[:, 17, 2] = -1.2, 1.2
    axis_angle[:, 18, 1], axis_angle[:, 19, 1] = -0.3 - 0.3 * swing, 0.3 - 0.3 * swing
    rotations = axis_angle_to_matrix(axis_angle)
    # Half a turn about x puts a body with y up upright before a camera with y down; it then faces the camera.
    upright = axis_angle_to_matrix(torch.tensor([torch.pi, 0.0, 0.0]))
    rotations[:, 0] = upright @ axis_angle_to_matrix(torch.tensor([0.0, 0.7, 0.0])) @ rotations[:, 0]
    betas = (0.5 * torch.randn(10, generator=generator)).expand(frames, -1)
    transl = torch.tensor(start) + torch.arange(frames)[:, None] / FPS * torch.tensor([0.7, 0.0, 0.4])
    params = SmplParams.from_rotations(rotations, betas, transl)
    pixels = project(body.joints(params, HALPE26), intrinsics(FOCAL, *SIZE))
    return Walk(params, torch.cat([pixels, torch.full((frames, 26, 1), 0.9)], dim=-1))


def film(path: Path, walks: list[Walk], body: BodyModel, drawn: bool = True) -> Path:
    """A video of the people, as grey bodies on a striped background; or of the background alone."""
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]]
    stage = np.stack([columns // 2, rows // 2, (rows + columns) // 16 % 2 * 120], axis=-1).astype(np.uint8)
    with video_writer(path, SIZE, FPS) as write:
        for frame in range(len(walks[0].halpe)):
            picture = stage
            if drawn:
                chosen = torch.stack([body(one.params.map(lambda v, f=frame: v[f])).vertices for one in walks])
                grey = torch.full((len(walks), 3), 0.8)
                picture = overlay(stage, chosen, body.faces, walks[0].intrinsic, grey, opacity=1.0)
            write(picture)
    return path


def alphapose(path: Path, walks: list[Walk], frames: range | list[int] | None = None) -> Path:
    """AlphaPose's file with Halpe-26 points; the people are numbered from 1."""
    entries = [
        {
            "image_id": f"{frame}.jpg",
            "category_id": 1,
            "score": 2.0,
            "idx": index + 1,
            "keypoints": one.halpe[frame].double().flatten().tolist(),
        }
        for frame in (range(len(walks[0].halpe)) if frames is None else frames)
        for index, one in enumerate(walks)
    ]
    path.write_text(json.dumps(entries))
    return path


class KnowingModel(nn.Module):
    """A model of clips that answers every clip with one known motion; samples have turned elbows."""

    def __init__(self, truth: SmplParams, deterministic: bool = False) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))
        self.network = nn.Identity()
        self.windows = WindowOptions(64, 16, "picture")
        self.seen: list[ClipBatch] = []
        self._truth = truth
        self._deterministic = deterministic

    def sample(self, batch: ClipBatch, num_samples: int, _sampler: SamplerConfig, seed: int) -> ClipPrediction:
        """Hypothesis 0 is the truth."""
        self.seen.append(batch)
        frames = batch.num_frames
        rotations = self._truth.rotations[:frames].repeat(num_samples, 1, 1, 1, 1)
        if not self._deterministic:
            for k in range(1, num_samples):
                rotations[k, :, 18:20] = axis_angle_to_matrix(torch.tensor([0.0, 0.2 * k + 0.01 * seed, 0.0]))
        betas = self._truth.betas[:frames].expand(num_samples, -1, -1)
        params = SmplParams.from_rotations(rotations, betas).map(lambda value: value.unsqueeze(0))
        return ClipPrediction(params, self._deterministic)


def knowing(truth: SmplParams, body: BodyModel, options: PredictOptions, **settings: Any) -> ClipMotionModel:
    """:class:`KnowingModel` as if it came from a file."""
    model = KnowingModel(truth, **settings)
    loaded = SimpleNamespace(model=model, config=None, body=body, step=3, metadata={}, sha256="0" * 64)
    return ClipMotionModel(loaded, Path("known.safetensors"), options)  # type: ignore[arg-type]


def save_small_clip_model(path: Path) -> Path:
    """An untrained diffusion model of clips in a real checkpoint file, for the free body."""
    config = ClipExperimentConfig(
        name="small",
        task="mesh",
        model=ClipModelConfig(
            head="ours",
            backbone=BackboneConfig(width=16, hidden=16, depth=1, heads=2, features=16, max_frames=16),
            window=8,
            overlap=2,
            denoiser=ClipDenoiserConfig(width=16, depth=1, heads=2),
        ),
        sampler=SamplerConfig(steps=2),
    )
    body = load_body(config.body.path)
    torch.manual_seed(0)
    save_clip_model(path, build_clip_model(config.model, body, config.loss), config, body, step=7)
    return path
