"""Photos, bodies and small models that several tests share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from diffhmr.batch import ImageBatch, Prediction
from diffhmr.body.joints import COCO17, SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.checkpoint import LoadedModel, load_body, save_model
from diffhmr.config import (
    DataConfig,
    DenoiserConfig,
    EncoderConfig,
    ExperimentConfig,
    ModelConfig,
    RegressorConfig,
    SamplerConfig,
)
from diffhmr.geometry.camera import box_to_normalised, fit_crop_camera, intrinsics, project
from diffhmr.geometry.rotation import axis_angle_to_matrix, look_rotation
from diffhmr.inference.annotations import Keypoints, keypoints_from_rows
from diffhmr.inference.people import PersonInput
from diffhmr.inference.photo import Photo
from diffhmr.models import build_model


def small_config(encoder: Literal["keypoints", "image"] = "keypoints") -> ExperimentConfig:
    """A network that is quick to build and to run."""
    return ExperimentConfig(
        name="small",
        model=ModelConfig(
            encoder=EncoderConfig(kind=encoder, width=32, layers=1, heads=2),
            regressor=RegressorConfig(width=32),
            denoiser=DenoiserConfig(width=32, blocks=1),
        ),
        data=DataConfig(images=encoder == "image", image_size=64),
        sampler=SamplerConfig(steps=2),
    )


def save_small_checkpoint(path: Path, config: ExperimentConfig) -> Path:
    """An untrained model in a real checkpoint file."""
    body = load_body(config.body.path)
    torch.manual_seed(0)
    save_model(path, build_model(config.model, body), config, body, step=7)
    return path


def striped_photo(path: Path, width: int = 160, height: int = 120) -> Photo:
    """A photo, written to ``path`` and as it reads back from PNG."""
    rows, columns = np.mgrid[:height, :width]
    rgb = np.stack([columns % 256, rows % 256, (rows + columns) // 8 % 2 * 255], axis=-1).astype(np.uint8)
    assert cv2.imwrite(str(path), rgb[..., ::-1])
    return Photo(path, rgb)


def coco_file(path: Path, entries: dict[str, list[dict[str, object]]]) -> Path:
    """A COCO annotation file from file name to annotations without ids."""
    images = [{"id": index, "file_name": name} for index, name in enumerate(entries)]
    annotations = [
        {"id": 10 * index + row, "image_id": index, "category_id": 1, "iscrowd": 0, **entry}
        for index, people in enumerate(entries.values())
        for row, entry in enumerate(people)
    ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}
    path.write_text(json.dumps(content))
    return path


@dataclass(frozen=True)
class TrueBody:
    """A body before a known camera, and what a perfect model would predict of it."""

    params: SmplParams
    intrinsic: Tensor
    person: PersonInput
    crop_params: SmplParams
    crop_camera: Tensor


def true_body(body: BodyModel, photo: Photo, focal: float, seed: int, distance: float = 4.0) -> TrueBody:
    """A random body somewhere in ``photo``, upright, seen from anywhere around."""
    generator = torch.Generator().manual_seed(seed)
    axis_angle = 0.3 * torch.randn(24, 3, generator=generator)
    rotations = axis_angle_to_matrix(axis_angle)
    turn = torch.tensor([0.0, 6.28 * float(torch.rand(1, generator=generator)), 0.0])
    rotations[0] = axis_angle_to_matrix(torch.tensor([torch.pi, 0, 0])) @ axis_angle_to_matrix(turn)
    place = (
        0.4 * distance * (torch.rand(2, generator=generator) - 0.5) * torch.tensor([photo.width, photo.height]) / focal
    )
    transl = torch.cat([place, torch.tensor([distance])])
    params = SmplParams.from_rotations(rotations, 0.7 * torch.randn(10, generator=generator), transl)
    intrinsic = intrinsics(focal, photo.width, photo.height)
    joints = project(body.joints(params, SPIN49), intrinsic)
    coco = project(body.joints(params, COCO17), intrinsic)
    low, high = joints.amin(0) - 3 + 0.5, joints.amax(0) + 3 + 0.5
    box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    keypoints: Keypoints = keypoints_from_rows(coco.double().numpy(), np.ones(17))
    person = PersonInput(photo, seed, box, "truth", keypoints)
    centre, side = torch.tensor(person.centre), torch.tensor(person.side)
    ray = torch.cat([(centre - intrinsic[:2, 2]) / focal, torch.ones(1)])
    local = SmplParams(look_rotation(ray).T @ params.global_orient, params.body_pose, params.betas)
    crop_joints = body.joints(local, SPIN49)
    camera = fit_crop_camera(crop_joints, box_to_normalised(joints, centre, side), torch.ones(49))
    return TrueBody(params, intrinsic, person, local, camera)


class PerfectModel(nn.Module):
    """Answers with known truths, recognised by their item seeds."""

    def __init__(self, truths: list[TrueBody]) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))
        self._truths = {truth.person.item_seed: truth for truth in truths}

    def sample(self, batch: ImageBatch, num_samples: int, _sampler: SamplerConfig, _seed: int) -> Prediction:
        """All hypotheses are the truth."""
        truths = [self._truths[item] for item in batch.item_seed.tolist()]
        rotations = torch.stack([truth.crop_params.rotations for truth in truths])
        betas = torch.stack([truth.crop_params.betas for truth in truths])
        camera = torch.stack([truth.crop_camera for truth in truths])
        params = SmplParams.from_rotations(rotations, betas)
        repeated = params.map(lambda value: value.unsqueeze(1).repeat_interleave(num_samples, 1))
        return Prediction(repeated, camera.unsqueeze(1).repeat_interleave(num_samples, 1), deterministic=True)


def perfect(body: BodyModel, truths: list[TrueBody]) -> LoadedModel:
    """:class:`PerfectModel` as if it came from a file."""
    return LoadedModel(PerfectModel(truths), small_config(), body, 0, {}, "0" * 64)  # type: ignore[arg-type]
