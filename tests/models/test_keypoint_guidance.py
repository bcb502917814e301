from __future__ import annotations

import pytest
import torch

from diffhmr.geometry.camera import project_crop
from diffhmr.models.keypoint_guidance import KeypointGuidance


def _scene() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    joints = torch.randn(2, 3, 17, 3, generator=torch.Generator().manual_seed(0))
    camera = torch.tensor([0.9, 0.0, 0.1]).expand(2, 3, 3)
    keypoints = torch.cat([project_crop(joints, camera)[:, 0], torch.ones(2, 17, 1)], -1)
    return joints[:, :1].expand(-1, 3, -1, -1), camera, keypoints


def test_loss_is_a_negative_log_likelihood_near_the_keypoints() -> None:
    joints, camera, keypoints = _scene()
    exact = KeypointGuidance(keypoints, deviation=0.05, outlier=100.0).loss(joints, camera)
    assert exact.shape == (2, 3)
    assert exact.max().item() < 1e-8
    keypoints[1, 4, :2] += torch.tensor([0.03, -0.04])
    keypoints[1, 4, 2] = 0.5
    moved = KeypointGuidance(keypoints, deviation=0.05, outlier=100.0).loss(joints, camera)
    assert moved[1, 0].item() == pytest.approx(0.5 * 0.05**2 / (2 * 0.05**2), rel=1e-3)
    assert moved[0].max().item() < 1e-8


def test_a_wrong_keypoint_pulls_no_more_than_an_outlier_may() -> None:
    joints, camera, keypoints = _scene()
    keypoints[..., 2] = 0
    keypoints[0, 3] = torch.tensor([50.0, 50.0, 1.0])
    loss = KeypointGuidance(keypoints, deviation=0.03, outlier=0.2).loss(joints, camera)
    assert loss[0, 0].item() == pytest.approx(0.2**2 / (2 * 0.03**2), rel=1e-3)
    assert loss[1].abs().max().item() == 0


def test_some_items() -> None:
    _, _, keypoints = _scene()
    part = KeypointGuidance(keypoints, scale=3.0).items(slice(1, 2))
    assert torch.equal(part.keypoints, keypoints[1:]) and part.scale == 3.0
