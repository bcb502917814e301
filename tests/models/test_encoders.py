from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from diffhmr.batch import ImageBatch
from diffhmr.errors import UserError
from diffhmr.models.encoders import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Backbone,
    ImageEncoder,
    KeypointEncoder,
    KeypointMlpEncoder,
)


@pytest.mark.parametrize(("backbone", "dim"), [("resnet18", 512), ("resnet34", 512), ("resnet50", 2048)])
def test_image_encoder_gives_the_pooled_feature(backbone: Backbone, dim: int, batch: ImageBatch) -> None:
    encoder = ImageEncoder(backbone).eval()
    with torch.no_grad():
        z = encoder(replace(batch)).z
    assert encoder.dim == dim
    assert z.shape == (len(batch), dim)
    assert z.min().item() >= 0  # a mean after a ReLU


def test_image_encoder_normalises_with_the_imagenet_statistics(batch: ImageBatch) -> None:
    encoder = ImageEncoder("resnet18").eval()
    assert batch.image is not None
    seen: list[torch.Tensor] = []
    encoder.resnet.conv1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        encoder(batch)
    for channel in range(3):
        expected = (batch.image[:, channel] - IMAGENET_MEAN[channel]) / IMAGENET_STD[channel]
        torch.testing.assert_close(seen[0][:, channel], expected)


def test_image_encoder_in_channels_last_gives_the_same(batch: ImageBatch) -> None:
    encoder = ImageEncoder("resnet18").eval()
    with torch.no_grad():
        before = encoder(batch).z
        after = encoder.to(memory_format=torch.channels_last)(batch).z
    torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-4)


def test_frozen_norm_does_not_learn_and_ignores_the_rest_of_the_batch(batch: ImageBatch) -> None:
    frozen, normal = ImageEncoder("resnet18", norm="frozen"), ImageEncoder("resnet18", norm="batch")
    assert batch.image is not None
    one = ImageBatch(batch.item_seed[:1], batch.image[:1])
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    z = frozen(batch).z
    torch.testing.assert_close(z[:1], frozen(one).z, atol=1e-3, rtol=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    names = {name for name, _ in frozen.named_parameters()}
    assert not any("bn" in name for name in names)
    assert any("bn" in name for name, _ in normal.named_parameters())
    # Weights with batch statistics load into the frozen network.
    normal_state = {k: v for k, v in normal.state_dict().items() if not k.endswith("num_batches_tracked")}
    frozen.load_state_dict(normal_state)


def test_missing_imagenet_weights_are_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    with pytest.raises(UserError, match=r"resnet18.*no network.*weights=none"):
        ImageEncoder("resnet18", pretrained=True)


def test_imagenet_weights_are_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    stored = torchvision.models.resnet18().state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: stored)
    encoder = ImageEncoder("resnet18", pretrained=True)
    torch.testing.assert_close(encoder.resnet.conv1.weight.detach(), stored["conv1.weight"])
    frozen = ImageEncoder("resnet18", pretrained=True, norm="frozen")
    torch.testing.assert_close(frozen.resnet.bn1.running_var, stored["bn1.running_var"])


def _keypoint_encoder(network: str) -> KeypointEncoder | KeypointMlpEncoder:
    torch.manual_seed(0)
    return KeypointEncoder(32, 2, 2) if network == "transformer" else KeypointMlpEncoder(64, 2)


@pytest.mark.parametrize("network", ["transformer", "mlp"])
def test_keypoint_encoder_ignores_the_coordinates_of_unseen_points(network: str, batch: ImageBatch) -> None:
    encoder = _keypoint_encoder(network)
    assert batch.keypoints is not None
    moved = batch.keypoints.clone()
    unseen = moved[..., 2] == 0
    assert bool(unseen.any())
    moved[..., :2][unseen] = torch.nan
    z, z_moved = encoder(batch).z, encoder(replace(batch, keypoints=moved)).z
    assert z.shape == (len(batch), encoder.dim) == (len(batch), 64)
    assert torch.equal(z, z_moved)
    (z_moved.sum()).backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in encoder.parameters() if p.grad is not None)


@pytest.mark.parametrize("network", ["transformer", "mlp"])
@pytest.mark.parametrize("change", ["position", "confidence", "unseen", "order"])
def test_keypoint_encoder_reacts_to_its_input(change: str, network: str, batch: ImageBatch) -> None:
    encoder = _keypoint_encoder(network)
    assert batch.keypoints is not None
    points = batch.keypoints.clone()
    if change == "position":
        points[:, 16, 0] += 0.1
    elif change == "confidence":
        points[:, 16, 2] *= 0.5
    elif change == "unseen":
        points[:, 16] = 0
    else:
        points = points[:, torch.arange(16, -1, -1)]
    difference = (encoder(replace(batch, keypoints=points)).z - encoder(batch).z).abs().amax(1)
    assert difference.min().item() > 1e-4


def test_width_must_be_a_multiple_of_heads() -> None:
    with pytest.raises(UserError, match="multiple"):
        KeypointEncoder(30, 1, 4)


def test_the_wrong_kind_of_input_is_a_user_error(batch: ImageBatch) -> None:
    with pytest.raises(UserError, match="keypoint model"):
        ImageEncoder("resnet18")(replace(batch, image=None))
    with pytest.raises(UserError, match="image model"):
        KeypointEncoder(32, 1, 2)(replace(batch, keypoints=None))
    with pytest.raises(UserError, match="image model"):
        KeypointMlpEncoder(32, 1)(replace(batch, keypoints=None))
