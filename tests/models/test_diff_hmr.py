"""Diff-HMR: gradients, independence of items, sampling and a tiny fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from diffhmr.batch import ImageBatch, Prediction
from diffhmr.body.joints import COCO17, SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.config import LossConfig, SamplerConfig
from diffhmr.errors import UserError
from diffhmr.geometry.camera import project_crop
from diffhmr.models import build_model
from diffhmr.models.diff_hmr import DiffHMR
from diffhmr.models.keypoint_guidance import KeypointGuidance
from tests.models.people import random_batch, random_params, small_config, some_items, without_labels

ALL_TERMS = LossConfig(x0_joints3d=1.0, x0_joints2d=1.0)
SAMPLER = SamplerConfig(name="dpm_solver_pp_2m", steps=4)

MAP_TERMS = {"encoder_joints2d", "encoder_visible", "encoder_parts"}
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {},
    "pose": {"state": ("pose",)},
    "camera_frame": {"rotations": "camera", "diffusion": {"draws_per_item": 2}},
    "unet": {"denoiser": {"kind": "unet", "dim": 8}},
    "unet_pose_noise": {
        "state": ("pose",),
        "denoiser": {"kind": "unet", "dim": 8, "condition_on_estimate": False},
        "diffusion": {"target": "noise", "schedule": "linear"},
    },
    "x0_snr": {"diffusion": {"target": "x0", "loss_weight": "min_snr", "draws_per_item": 3}},
    "noise_around": {"diffusion": {"target": "noise", "draws_per_item": 2}},
    "no_estimate": {"denoiser": {"condition_on_estimate": False}},
    "dropout": {"denoiser": {"condition_dropout": 0.5}},
    "dropout_no_estimate": {"denoiser": {"condition_dropout": 0.5, "condition_on_estimate": False}},
    "keypoint_mlp": {"encoder": {"network": "mlp"}},
    "image": {"encoder": {"kind": "image"}},
    "image_frozen": {"encoder": {"kind": "image", "norm": "frozen"}},
    "image_joints": {"encoder": {"kind": "image", "pooling": "joints", "network": "mlp", "width": 32, "layers": 1}},
}


def _model(body: BodyModel, variant: str = "default") -> DiffHMR:
    torch.manual_seed(0)
    model = build_model(small_config(**VARIANTS[variant]), body, ALL_TERMS)
    assert isinstance(model, DiffHMR)
    model.set_statistics(*random_params(500, 9))
    return model


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def _flat(prediction: Prediction) -> Tensor:
    params = prediction.params
    return torch.cat([params.rotations.flatten(2), params.betas, prediction.camera], -1)


@pytest.fixture(scope="module")
def model(body: BodyModel) -> Iterator[DiffHMR]:
    yield _model(body, "dropout").eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns_from_every_loss(variant: str, body: BodyModel, batch: ImageBatch) -> None:
    model = _model(body, variant)
    terms = model.loss(batch, _generator())
    assert set(terms) == set(LossConfig.model_fields) - (MAP_TERMS if variant != "image_joints" else set())
    for name, term in terms.items():
        assert term.shape == (), name
        assert term.item() > 0 and bool(torch.isfinite(term)), name
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert parameter.grad.abs().max().item() > 0, name


def test_terms_without_weight_are_not_computed(body: BodyModel, batch: ImageBatch) -> None:
    only = LossConfig.model_validate(dict.fromkeys(LossConfig.model_fields, 0.0) | {"diffusion": 1.0})
    assert set(build_model(small_config(), body, only).loss(batch, _generator())) == {"diffusion"}
    assert set(build_model(small_config(), body).loss(batch, _generator())) == {
        name for name, weight in LossConfig().model_dump().items() if weight > 0 and name not in MAP_TERMS
    }


@pytest.mark.parametrize("variant", ["default", "x0_snr", "dropout", "unet_pose_noise", "image_frozen"])
def test_the_loss_of_an_item_does_not_depend_on_its_batch(variant: str, body: BodyModel, batch: ImageBatch) -> None:
    model = _model(body, variant)
    together = model.item_losses(batch, _generator())
    torch.manual_seed(123)  # nothing may come from the global stream
    for index in (slice(0, 2), slice(2, 6)):
        part = model.item_losses(some_items(batch, index), _generator())
        for name, values in part.items():
            torch.testing.assert_close(values, together[name][index], atol=1e-5, rtol=1e-3, msg=name)
    halves = [model.loss(some_items(batch, index), _generator()) for index in (slice(0, 3), slice(3, 6))]
    for name, value in model.loss(batch, _generator()).items():
        torch.testing.assert_close((halves[0][name] + halves[1][name]) / 2, value, atol=1e-5, rtol=1e-3, msg=name)


def test_steps_and_items_see_different_noise(body: BodyModel, batch: ImageBatch) -> None:
    model = _model(body)
    generator = _generator()
    first, second = model.item_losses(batch, generator), model.item_losses(batch, generator)
    assert (first["diffusion"] - second["diffusion"]).abs().min().item() > 0
    twins = replace(batch, item_seed=torch.full_like(batch.item_seed, 7), keypoints=None, image=None)
    assert batch.keypoints is not None
    twins = replace(twins, keypoints=batch.keypoints[:1].expand_as(batch.keypoints))
    times = model._draw_times(twins.item_seed)
    assert bool((times == times[:1]).all())


def test_draws_of_an_item_are_spread_over_the_times(body: BodyModel) -> None:
    model = _model(body, "x0_snr")
    times = model._draw_times(torch.arange(3000))
    total = model.process.num_steps
    assert times.shape == (3000, 3) and times.min().item() == 0 and times.max().item() == total - 1
    gaps = (times - times.roll(1, 1)) % total
    assert bool(((gaps - total / 3).abs() <= 1).all())


@pytest.mark.parametrize("variant", ["default", "unet_pose_noise", "dropout"])
def test_a_batch_without_labels_teaches_nothing(variant: str, body: BodyModel, batch: ImageBatch) -> None:
    model = _model(body, variant)
    terms = model.loss(without_labels(batch), _generator())
    terms.pop("regressor_scale")  # needs no label
    assert all(term.item() == 0 for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert parameter.grad.abs().max().item() == 0, name


def test_a_missing_camera_hides_the_camera_only(body: BodyModel, batch: ImageBatch) -> None:
    model = _model(body)
    assert batch.targets is not None
    targets = replace(batch.targets, has_camera=torch.zeros(6, dtype=torch.bool))
    state, valid = model._clean_state(targets)
    assert bool(valid[:, :-3].all()) and not bool(valid[:, -3:].any())
    assert state[:, -3:].abs().max().item() == 0
    torch.testing.assert_close(state[:, :-3], model.codec.encode(targets.params, targets.camera)[:, :-3])


@pytest.mark.parametrize("name", ["ddpm", "ddim", "dpm_solver_pp_2m"])
def test_a_batch_is_sampled_as_one_by_one(name: Any, model: DiffHMR, batch: ImageBatch) -> None:
    sampler = SamplerConfig(name=name, steps=5, eta=0.5 if name == "ddim" else 0.0)
    together = _flat(model.sample(batch, 3, sampler, seed=1))
    assert together.shape == (6, 3, 24 * 9 + 10 + 3)
    for item in range(6):
        alone = _flat(model.sample(some_items(batch, slice(item, item + 1)), 3, sampler, seed=1))
        torch.testing.assert_close(alone[0], together[item], atol=2e-4, rtol=1e-3)


def test_a_hypothesis_does_not_depend_on_how_many_are_drawn(model: DiffHMR, batch: ImageBatch) -> None:
    many = _flat(model.sample(batch, 7, SAMPLER, seed=1))
    few = _flat(model.sample(batch, 2, SAMPLER, seed=1))
    torch.testing.assert_close(few, many[:, :2], atol=2e-4, rtol=1e-3)
    for at_once in (1, 5, 15):
        parts = _flat(model.sample(batch, 7, SAMPLER, seed=1, max_at_once=at_once))
        torch.testing.assert_close(parts, many, atol=2e-4, rtol=1e-3)
    # All hypotheses differ, and so do the seeds, except for the single answer.
    assert torch.pdist(many[0]).min().item() > 0.01
    other = _flat(model.sample(batch, 7, SAMPLER, seed=2))
    torch.testing.assert_close(other[:, 0], many[:, 0], atol=1e-5, rtol=0)
    assert (other[:, 1:] - many[:, 1:]).abs().amax(-1).min().item() > 0.01


def test_the_denoiser_is_called_once_per_step_and_the_encoder_once(model: DiffHMR, batch: ImageBatch) -> None:
    calls = {"encoder": 0, "denoiser": 0}

    def count(name: str) -> Any:
        def hook(*_: Any) -> None:
            calls[name] += 1

        return hook

    handles = [
        model.encoder.register_forward_hook(count("encoder")),
        model.denoiser.register_forward_hook(count("denoiser")),
    ]
    model.sample(batch, 25, SAMPLER, seed=0)
    for handle in handles:
        handle.remove()
    assert calls == {"encoder": 1, "denoiser": SAMPLER.steps}


@pytest.mark.parametrize("variant", ["pose", "unet_pose_noise"])
def test_pose_state_takes_shape_and_camera_from_the_regressor(variant: str, body: BodyModel, batch: ImageBatch) -> None:
    model = _model(body, variant).eval()
    prediction = model.sample(batch, 4, SAMPLER, seed=0)
    with torch.no_grad():
        estimate = model.regressor(model.encode(batch))
    for k in range(4):
        torch.testing.assert_close(prediction.params.betas[:, k], estimate.params.betas)
        torch.testing.assert_close(prediction.camera[:, k], estimate.camera)
    assert (prediction.params.rotations[:, 1] - prediction.params.rotations[:, 2]).abs().max().item() > 0.01


def test_full_state_has_shape_and_camera_of_its_own(model: DiffHMR, batch: ImageBatch) -> None:
    prediction = model.sample(batch, 4, SAMPLER, seed=0)
    assert not prediction.deterministic
    assert (prediction.params.betas[:, 1] - prediction.params.betas[:, 2]).abs().min().item() > 0
    assert (prediction.camera[:, 1] - prediction.camera[:, 2]).abs().min().item() > 0


def test_an_untrained_denoiser_answers_with_the_regressor(body: BodyModel, batch: ImageBatch) -> None:
    """Around the estimate, a network that says nothing leaves the estimate as the single answer."""
    model = _model(body).eval()
    for parameter in model.denoiser.parameters():
        torch.nn.init.zeros_(parameter)
    prediction = model.sample(batch, 2, SAMPLER, seed=0)
    with torch.no_grad():
        estimate = model.regressor(model.encode(batch))
    torch.testing.assert_close(prediction.params.rotations[:, 0], estimate.params.rotations, atol=1e-3, rtol=0)
    assert (prediction.params.rotations[:, 1] - estimate.params.rotations).abs().max().item() > 0.05


def test_condition_scale_mixes_image_and_prior(model: DiffHMR, batch: ImageBatch, body: BodyModel) -> None:
    prior = _flat(model.sample(batch, 2, SAMPLER, seed=0, condition_scale=0.0))
    # Hypothesis 0 has no noise: without an image it is the same for everybody.
    torch.testing.assert_close(prior[:, 0], prior[:1, 0].expand(6, -1), atol=1e-4, rtol=1e-3)
    plain = _flat(model.sample(batch, 2, SAMPLER, seed=0))
    nearly = _flat(model.sample(batch, 2, SAMPLER, seed=0, condition_scale=1.0 + 1e-6))
    torch.testing.assert_close(nearly, plain, atol=1e-4, rtol=1e-3)
    assert (plain[:, 0] - prior[:, 0]).abs().max().item() > 0.1
    with pytest.raises(UserError, match="condition_dropout"):
        _model(body).sample(batch, 2, SAMPLER, seed=0, condition_scale=2.0)


@pytest.mark.parametrize(("variant", "share"), [("default", 0.6), ("pose", 0.9)])
def test_guidance_brings_the_projected_joints_to_the_keypoints(
    variant: str, share: float, body: BodyModel, batch: ImageBatch
) -> None:
    """With the pose alone in the state, the camera of the untrained regressor stays wrong and only limbs can give."""
    model = _model(body, variant).eval()
    sampler = SamplerConfig(steps=8)
    assert batch.keypoints is not None

    def distance(prediction: Prediction) -> Tensor:
        points = project_crop(body.joints(prediction.params, COCO17), prediction.camera)
        assert batch.keypoints is not None
        seen = batch.keypoints[:, None, :, 2]
        return ((points - batch.keypoints[:, None, :, :2]).norm(dim=-1) * seen).sum(-1) / seen.sum(-1)

    free = distance(model.sample(batch, 3, sampler, seed=0))
    pulled = distance(model.sample(batch, 3, sampler, seed=0, guidance=KeypointGuidance(batch.keypoints)))
    assert pulled.mean().item() < share * free.mean().item()
    unseen = KeypointGuidance(torch.zeros_like(batch.keypoints))
    torch.testing.assert_close(distance(model.sample(batch, 3, sampler, seed=0, guidance=unseen)), free)


@pytest.mark.parametrize(
    ("num_samples", "sampler", "words"),
    [
        (0, SAMPLER, "at least 1"),
        (2, SamplerConfig(steps=51), "has 50"),
        (2, SamplerConfig(name="ddpm", steps=5, eta=0.5), "belongs to ddim"),
    ],
)
def test_impossible_requests_are_user_errors(
    num_samples: int, sampler: SamplerConfig, words: str, model: DiffHMR, batch: ImageBatch
) -> None:
    with pytest.raises(UserError, match=words):
        model.sample(batch, num_samples, sampler, seed=0)


def test_weights_and_statistics_travel_without_the_body(body: BodyModel, batch: ImageBatch) -> None:
    model = _model(body).eval()
    state = model.state_dict()
    assert not any(name.startswith("body.") for name in state)
    torch.manual_seed(1)
    other = build_model(small_config(), body).eval()
    other.load_state_dict(state)
    torch.testing.assert_close(_flat(other.sample(batch, 2, SAMPLER, 0)), _flat(model.sample(batch, 2, SAMPLER, 0)))
    half = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    other.load_state_dict(half)
    assert all(value.dtype == torch.float32 for value in other.parameters())
    torch.testing.assert_close(
        _flat(other.sample(batch, 2, SAMPLER, 0)), _flat(model.sample(batch, 2, SAMPLER, 0)), atol=0.03, rtol=0.03
    )


def test_only_the_encoder_runs_in_bfloat16(body: BodyModel, batch: ImageBatch) -> None:
    model = _model(body).eval()
    full = model.sample(batch, 2, SAMPLER, seed=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = model.sample(batch, 2, SAMPLER, seed=0)
    assert torch.equal(_flat(full), _flat(inside))
    model.encoder_autocast = torch.bfloat16
    z = model.encode(batch)
    assert z.dtype == torch.float32
    assert torch.equal(z, z.bfloat16().float())
    assert not torch.equal(_flat(full), _flat(model.sample(batch, 2, SAMPLER, seed=0)))


def test_samples_of_a_fitted_model_are_near_the_truth(body: BodyModel) -> None:
    """A few people by heart: the answers approach them, in 3D and in the crop."""
    config = small_config(
        encoder={"width": 64, "layers": 1},
        regressor={"width": 256, "dropout": 0.0},
        denoiser={"width": 256},
        diffusion={"steps": 1000, "draws_per_item": 8},
    )
    torch.manual_seed(0)
    model = build_model(config, body)
    batch = random_batch(body, size=4)
    assert batch.targets is not None
    model.set_statistics(*random_params(500, 9))
    truth = batch.targets

    def errors() -> tuple[float, float]:
        prediction = model.sample(batch, 5, SamplerConfig(steps=8), seed=0)
        joints = body.joints(prediction.params, SPIN49)
        distance = (joints - truth.joints3d[:, None, :, :3]).norm(dim=-1).mean()
        points = project_crop(joints, prediction.camera)
        return distance.item(), (points - truth.joints2d[:, None, :, :2]).norm(dim=-1).mean().item()

    before = errors()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    weights = LossConfig().model_dump()
    generator = torch.Generator().manual_seed(0)
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / 150)
        terms = model.loss(batch, generator)
        optimizer.zero_grad()
        torch.stack([weights[name] * value for name, value in terms.items()]).sum().backward()
        optimizer.step()
    after = errors()
    assert before[0] > 0.25
    assert after[0] < 0.05
    assert after[1] < 0.05
