from __future__ import annotations

import pytest
import torch

from diffhmr.batch import ImageBatch
from diffhmr.body.model import BodyModel
from diffhmr.config import LossConfig, SamplerConfig
from diffhmr.errors import UserError
from diffhmr.models import build_model
from diffhmr.models.spin import SPIN
from tests.models.people import random_params, small_config


def _model(body: BodyModel, **changes: object) -> SPIN:
    torch.manual_seed(0)
    model = build_model(small_config(kind="spin", **changes), body)
    assert isinstance(model, SPIN)
    model.set_statistics(*random_params(500, 9))
    return model


@pytest.mark.parametrize("encoder", ["keypoints", "image"])
def test_every_parameter_learns(encoder: str, body: BodyModel, batch: ImageBatch) -> None:
    model = _model(body, encoder={"kind": encoder})
    terms = model.loss(batch, torch.Generator().manual_seed(0))
    assert set(terms) == {name for name in LossConfig.model_fields if name.startswith("regressor_")}
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert parameter.grad.abs().max().item() > 0, name


def test_all_hypotheses_are_the_same(body: BodyModel, batch: ImageBatch) -> None:
    model = _model(body).eval()
    prediction = model.sample(batch, 3, SamplerConfig(), seed=0)
    assert prediction.deterministic
    assert prediction.params.shape == (6, 3)
    for k in (1, 2):
        assert torch.equal(prediction.params.rotations[:, k], prediction.params.rotations[:, 0])
        assert torch.equal(prediction.camera[:, k], prediction.camera[:, 0])
    # Dropout is a matter of the loss, not of the mode of the module.
    model.train()
    assert torch.equal(model.sample(batch, 3, SamplerConfig(), 0).params.rotations, prediction.params.rotations)
    with pytest.raises(UserError, match="at least 1"):
        model.sample(batch, 0, SamplerConfig(), seed=0)


def test_statistics_set_the_start_and_travel_with_the_weights(body: BodyModel) -> None:
    params, camera = random_params(500, 9)
    model = _model(body)
    torch.testing.assert_close(model.regressor.mean_camera, camera.mean(0))
    torch.testing.assert_close(model.regressor.mean_betas, params.betas.mean(0))
    state = model.state_dict()
    assert not any(name.startswith("body.") for name in state)
    encoded = model.codec.encode(params, camera)
    torch.testing.assert_close(encoded.mean(0), torch.zeros(157), atol=1e-4, rtol=0)
    other = build_model(small_config(kind="spin"), body)
    other.load_state_dict(state)
    torch.testing.assert_close(other.regressor.mean_rot6d, model.regressor.mean_rot6d)
    torch.testing.assert_close(other.codec.encode(params, camera), encoded)


def test_a_batch_without_targets_is_refused(body: BodyModel, batch: ImageBatch) -> None:
    with pytest.raises(ValueError, match="targets"):
        _model(body).loss(ImageBatch(batch.item_seed, keypoints=batch.keypoints), torch.Generator())
