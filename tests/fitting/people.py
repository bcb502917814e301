"""People with known bodies and noisy keypoints, and a start for their fits that is wrong as a network is wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffhmr.body.joints import J14_FROM_SPIN49, PELVIS_SPIN49, SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.config import DataConfig
from diffhmr.datasets.synthetic import SyntheticPeople
from diffhmr.geometry.camera import project_crop
from diffhmr.geometry.rotation import axis_angle_to_matrix
from diffhmr.metrics.joints import point_errors_mm

HALF_CROP_PX = 112.0
START_DEGREES = 5.0
START_BETAS = 0.7


@dataclass(frozen=True)
class NoisyPeople:
    """``params [B]`` and ``camera [B, 3]`` of the truth, ``keypoints [B, 49, 3]`` with noise, ``start [B]``."""

    params: SmplParams
    camera: Tensor
    keypoints: Tensor
    start: SmplParams


def noisy_people(body: BodyModel, count: int, noise_px: float = 2.0) -> NoisyPeople:
    """People of the synthetic test split, nobody hidden or cut off.

    Keypoints have Gaussian noise of ``noise_px`` per coordinate on a crop of 224 px, the same for the same joint. The
    start is the truth with every joint turned by a random rotation (5 degrees about each axis) and betas 0.7 off: on
    average 92 mm and 50 mm after alignment, which is what SPIN reports for photographs (96.9 and 59.2 mm on 3DPW).
    """
    settings = DataConfig(images=False, occluder=0.0, truncation=0.0)
    targets = SyntheticPeople(body, settings, "test").__getitems__(range(count)).targets
    assert targets is not None
    names = sorted(set(SPIN49.joint_names))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(count, len(names), 2, generator=generator) * (noise_px / HALF_CROP_PX)
    clean = project_crop(body.joints(targets.params, SPIN49), targets.camera)
    points = clean + noise[:, [names.index(name) for name in SPIN49.joint_names]]
    turns = torch.randn(count, 24, 3, generator=generator) * math.radians(START_DEGREES)
    rotations = targets.params.rotations @ axis_angle_to_matrix(turns)
    betas = targets.params.betas + START_BETAS * torch.randn(count, 10, generator=generator)
    keypoints = torch.cat([points, torch.ones(count, 49, 1)], dim=-1)
    return NoisyPeople(targets.params, targets.camera, keypoints, SmplParams.from_rotations(rotations, betas))


def mpjpe_mm(body: BodyModel, params: SmplParams, truth: SmplParams) -> Tensor:
    """Mean error ``[B]`` over J14 relative to the pelvis."""
    chosen, root = list(J14_FROM_SPIN49), [PELVIS_SPIN49]
    pair = [body.joints(value, SPIN49) for value in (params, truth)]
    return point_errors_mm(*(joints[:, chosen] - joints[:, root] for joints in pair)).mean(-1)


def distance_px(body: BodyModel, params: SmplParams, camera: Tensor, keypoints: Tensor) -> Tensor:
    """Mean distance ``[B]`` of the 49 joints from the keypoints in pixels of a crop of 224 px."""
    offset = project_crop(body.joints(params, SPIN49), camera) - keypoints[..., :2]
    return HALF_CROP_PX * torch.linalg.vector_norm(offset, dim=-1).mean(-1)
