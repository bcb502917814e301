"""Shapes are checked where data meets models."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from diffhmr.batch import ImageBatch, Prediction, Targets
from diffhmr.body.params import SmplParams


def identity_params(*lead: int) -> SmplParams:
    rotations = torch.eye(3).expand(*lead, 24, 3, 3)
    return SmplParams.from_rotations(rotations, torch.zeros(*lead, 10))


def make_targets(size: int) -> Targets:
    return Targets(
        params=identity_params(size),
        camera=torch.zeros(size, 3),
        joints3d=torch.zeros(size, 49, 4),
        joints2d=torch.zeros(size, 49, 3),
        visible=torch.zeros(size, 49, dtype=torch.bool),
        has_params=torch.ones(size, dtype=torch.bool),
        has_camera=torch.ones(size, dtype=torch.bool),
        occluded=torch.zeros(size, dtype=torch.bool),
        truncated=torch.zeros(size, dtype=torch.bool),
    )


def test_params_split_and_join() -> None:
    rotations = torch.linalg.qr(torch.randn(2, 5, 24, 3, 3, generator=torch.Generator().manual_seed(0)))[0]
    params = SmplParams.from_rotations(rotations, torch.zeros(2, 5, 10), torch.ones(2, 5, 3))
    assert params.shape == (2, 5)
    assert torch.equal(params.rotations, rotations)
    first = params.map(lambda tensor: tensor[:, 0])
    assert first.shape == (2,)
    assert first.transl is not None
    assert torch.equal(first.body_pose, rotations[:, 0, 1:])


@pytest.mark.parametrize(
    "change",
    [
        {"body_pose": torch.zeros(2, 22, 3, 3)},
        {"betas": torch.zeros(3, 10)},
        {"transl": torch.zeros(2, 2)},
        {"global_orient": torch.zeros(2, 3)},
    ],
)
def test_params_refuse_wrong_shapes(change: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="SmplParams"):
        replace(identity_params(2), **change)


def test_targets_refuse_wrong_shapes() -> None:
    with pytest.raises(ValueError, match=r"Targets\.joints3d"):
        replace(make_targets(2), joints3d=torch.zeros(2, 24, 4))
    with pytest.raises(ValueError, match=r"Targets\.params"):
        replace(make_targets(2), params=identity_params(3))


def test_batch_checks_moves_and_counts() -> None:
    batch = ImageBatch(torch.arange(2), torch.zeros(2, 3, 8, 8), torch.zeros(2, 17, 3), make_targets(2))
    assert len(batch) == 2
    moved = batch.to("meta")
    assert moved.device.type == "meta"
    assert moved.targets is not None
    assert moved.targets.params.betas.device.type == "meta"
    assert moved.targets.mask is None
    with pytest.raises(ValueError, match="image"):
        ImageBatch(torch.arange(2), image=torch.zeros(2, 8, 8, 3))
    with pytest.raises(ValueError, match="keypoints"):
        ImageBatch(torch.arange(2), keypoints=torch.zeros(2, 25, 3))


def test_device_of_an_input_without_images() -> None:
    assert ImageBatch(torch.arange(1), keypoints=torch.zeros(1, 17, 3)).device == torch.device("cpu")
    assert ImageBatch(torch.arange(1)).device == torch.device("cpu")


def test_prediction_wants_people_and_hypotheses() -> None:
    prediction = Prediction(identity_params(2, 4), torch.zeros(2, 4, 3))
    assert not prediction.deterministic
    with pytest.raises(ValueError, match="leading shape"):
        Prediction(identity_params(2), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="camera"):
        Prediction(identity_params(2, 4), torch.zeros(2, 3))
