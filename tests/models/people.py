"""Random people with every label, made without any data set."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from diffhmr.batch import ImageBatch, Targets
from diffhmr.body.joints import COCO17_FROM_SPIN49, SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.config import ModelConfig
from diffhmr.geometry.camera import project_crop
from diffhmr.geometry.rotation import axis_angle_to_matrix

BODY_FILE = "data/body/free_body.npz"


def random_params(size: int, seed: int) -> tuple[SmplParams, Tensor]:
    """People who stand before the camera in any direction, limbs bent a little, and their cameras."""
    generator = torch.Generator().manual_seed(seed)
    pose = axis_angle_to_matrix(0.3 * torch.randn(size, 24, 3, generator=generator))
    turn = torch.zeros(size, 3)
    turn[:, 1] = 6.28 * torch.rand(size, generator=generator)
    upright = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    pose[:, 0] = upright @ axis_angle_to_matrix(turn) @ pose[:, 0]
    camera = torch.tensor([0.9, 0.0, 0.2]) + 0.05 * torch.randn(size, 3, generator=generator)
    return SmplParams.from_rotations(pose, torch.randn(size, 10, generator=generator)), camera


def random_batch(body: BodyModel, size: int = 6, seed: int = 0, image_size: int | None = None) -> ImageBatch:
    """People with exact keypoints and, if asked for, images of noise."""
    params, camera = random_params(size, seed)
    joints = body.joints(params, SPIN49)
    points = project_crop(joints, camera)
    ones = torch.ones(size, 49, 1)
    yes = torch.ones(size, dtype=torch.bool)
    targets = Targets(
        params=params,
        camera=camera,
        joints3d=torch.cat([joints, ones], -1),
        joints2d=torch.cat([points, ones], -1),
        visible=torch.ones(size, 49, dtype=torch.bool),
        has_params=yes,
        has_camera=yes,
        occluded=~yes,
        truncated=~yes,
        part=None if image_size is None else _random_parts(size, image_size, seed),
    )
    keypoints = torch.cat([points, ones], -1)[:, list(COCO17_FROM_SPIN49)]
    # One unseen point per person, a different one each.
    keypoints[torch.arange(size), torch.arange(size) % 17] = 0
    image = None
    if image_size is not None:
        image = torch.rand(size, 3, image_size, image_size, generator=torch.Generator().manual_seed(seed))
    return ImageBatch(torch.arange(size) + 1000 * seed, image, keypoints, targets)


def _random_parts(size: int, image_size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-1, 24, (size, image_size, image_size), generator=generator, dtype=torch.int16)


def some_items(batch: ImageBatch, index: slice) -> ImageBatch:
    """The same items in a smaller batch."""
    assert batch.targets is not None
    old = batch.targets
    targets = Targets(
        params=old.params.map(lambda value: value[index]),
        camera=old.camera[index],
        joints3d=old.joints3d[index],
        joints2d=old.joints2d[index],
        visible=old.visible[index],
        has_params=old.has_params[index],
        has_camera=old.has_camera[index],
        occluded=old.occluded[index],
        truncated=old.truncated[index],
        part=None if old.part is None else old.part[index],
    )
    return ImageBatch(
        batch.item_seed[index],
        None if batch.image is None else batch.image[index],
        None if batch.keypoints is None else batch.keypoints[index],
        targets,
    )


def without_labels(batch: ImageBatch) -> ImageBatch:
    """The same items; every label is NaN and marked as invalid."""
    assert batch.targets is not None
    old = batch.targets
    no = torch.zeros_like(old.has_params)
    nan3d, nan2d = torch.full_like(old.joints3d, torch.nan), torch.full_like(old.joints2d, torch.nan)
    nan3d[..., 3] = 0
    nan2d[..., 2] = 0
    targets = replace(
        old,
        params=old.params.map(lambda value: torch.full_like(value, torch.nan)),
        camera=torch.full_like(old.camera, torch.nan),
        joints3d=nan3d,
        joints2d=nan2d,
        has_params=no,
        has_camera=no,
    )
    return replace(batch, targets=targets)


def small_config(**changes: object) -> ModelConfig:
    """A tiny keypoint Diff-HMR; ``changes`` are nested dictionaries."""
    settings: dict[str, object] = {
        "encoder": {"kind": "keypoints", "width": 32, "layers": 2, "heads": 2},
        "regressor": {"width": 32},
        "denoiser": {"kind": "mlp", "width": 48, "blocks": 2},
        "diffusion": {"steps": 50},
    }
    for key, value in changes.items():
        old = settings.get(key)
        settings[key] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return ModelConfig.model_validate(settings)
