"""Models of clips in training: terms, gradients, windows, and what a loss depends on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from diffhmr.body.model import BodyModel
from diffhmr.clip_losses import mesh_terms
from diffhmr.config_clips import ClipLossConfig, Head
from diffhmr.errors import UserError
from diffhmr.geometry.rotation import matrix_to_rot6d_columns, mean_rotation
from diffhmr.models.clip_models import ClipModel, build_clip_model
from diffhmr.models.diffmesh import condition_error
from diffhmr.models.item_random import draw_seed, item_uniforms, step_keys
from tests.models.people import random_params
from tests.models.small_clips import (
    BACKBONE,
    MESH_HEADS,
    WINDOW,
    clip_batch,
    clip_model,
    clip_settings,
    generator,
    new_clip_model,
    some_clips,
)

# Every term that a weight can switch on.
ALL_TERMS = ClipLossConfig(acceleration=1.0, x0_acceleration=1.0)
COMMON = {"joints3d", "velocity", "acceleration", "pose", "shape", "norm"}
TERMS: dict[Head, set[str]] = {
    "motionbert": COMMON,
    "released": COMMON | {"condition"},
    "paper": COMMON | {"condition"},
    "ours": COMMON | {"diffusion", "x0_joints3d", "x0_velocity", "x0_acceleration"},
}
BACKBONES_OWN_HEAD = {"network.backbone.head.weight", "network.backbone.head.bias"}


@pytest.mark.parametrize("head", MESH_HEADS)
def test_terms_are_those_with_a_weight(head: Head, toy_body: BodyModel) -> None:
    model = clip_model(toy_body, head, ALL_TERMS)
    terms = model.item_losses(clip_batch(), generator())
    assert set(terms) == TERMS[head]
    for name, values in terms.items():
        assert values.shape == (3,) and values.isfinite().all() and (values > 0).all(), name
    for name, value in model.loss(clip_batch(), generator()).items():
        torch.testing.assert_close(value, terms[name].mean())
    for left in ("pose", "shape", "condition" if head in ("released", "paper") else "velocity"):
        only = ClipLossConfig(**{name: float(name == left) for name in ClipLossConfig.model_fields})
        some = clip_model(toy_body, head, only).loss(clip_batch(), generator())
        assert list(some) == [left]
        torch.testing.assert_close(some[left], terms[left].mean())


@pytest.mark.parametrize(
    ("head", "frame", "shortcut"),
    [*((head, "parent", False) for head in MESH_HEADS), ("ours", "camera", False), ("ours", "camera", True)],
)
def test_every_trainable_parameter_has_a_gradient(head: Head, frame: str, shortcut: bool, toy_body: BodyModel) -> None:
    """After one step with the default weights; of biases before a batch norm only rounding is left."""
    denoiser = clip_settings(head).denoiser.model_copy(update={"shortcut": shortcut})
    model = new_clip_model(toy_body, head, rotations=frame, denoiser=denoiser).train()
    weights = ClipLossConfig().model_dump()
    total = sum(weights[name] * value for name, value in model.loss(clip_batch(4), generator()).items())
    assert isinstance(total, Tensor)
    total.backward()
    before_a_norm = {"network.head.fc1.bias", "network.head.fc2.bias"} if head == "motionbert" else set()
    trained = set()
    for name, value in model.named_parameters():
        if not value.requires_grad:
            assert value.grad is None, name
            continue
        assert value.grad is not None and value.grad.isfinite().all(), name
        largest = float(value.grad.abs().max())
        assert largest < 1e-6 if name in before_a_norm else largest > 1e-10, (name, largest)
        trained.add(name)
    frozen = {name for name, _ in model.named_parameters()} - trained
    assert any("shortcut" in name for name in trained) == shortcut
    if head != "released":
        assert frozen == BACKBONES_OWN_HEAD
        return
    # What its class says: the backbone, fc_ds, the layer after the chain and the two output layers learn.
    chain = ("network.head.fc_mesh_temp.", "network.head.diffmesh_process.entire_process.")
    assert frozen > BACKBONES_OWN_HEAD and all(name.startswith(chain) for name in frozen - BACKBONES_OWN_HEAD)
    learning = {name.removeprefix("network.head.").split(".")[0] for name in trained if ".backbone." not in name}
    assert learning == {"fc_ds", "diffmesh_process", "head_pose", "head_shape"}


@pytest.mark.parametrize("head", ["paper", "ours"])
def test_a_step_along_the_gradient_lowers_the_loss(head: Head, toy_body: BodyModel) -> None:
    model, batch = new_clip_model(toy_body, head).train(), clip_batch(4)
    optimiser = torch.optim.Adam([value for value in model.parameters() if value.requires_grad], lr=3e-3)
    totals = []
    for _ in range(8):
        terms = model.loss(batch, generator())
        total = terms["joints3d"] + terms["pose"] + terms["shape"] + terms.get("x0_joints3d", 0)
        totals.append(total.item())
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    assert totals[-1] < 0.95 * totals[0]


@torch.no_grad()
@pytest.mark.parametrize("head", ["motionbert", "released", "paper"])
def test_terms_of_deterministic_heads_are_the_formulas(head: Head, toy_body: BodyModel) -> None:
    model = clip_model(toy_body, head, ALL_TERMS, input="picture", dropout=0.0)
    batch = clip_batch()
    assert batch.targets is not None
    network = model.network
    features = network.backbone.get_representation(batch.keypoints)
    estimate = network.head(features)
    expected = mesh_terms(estimate.params, batch.targets, toy_body, frozenset(TERMS[head]))
    terms = model.item_losses(batch, generator())
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)
    if head != "motionbert":
        torch.testing.assert_close(terms["condition"].mean(), condition_error(estimate))


@torch.no_grad()
def test_the_loss_of_v_is_that_of_x0_by_the_noise(toy_body: BodyModel) -> None:
    """|v - v'|^2 = |x0 - x0'|^2 / sigma_t^2: one network, one t and one noise, two targets."""
    denoiser = clip_settings("ours").denoiser
    models = {}
    for target in ("v", "x0"):
        settings = denoiser.model_copy(update={"target": target})
        models[target] = clip_model(toy_body, "ours", denoiser=settings)
    batch = clip_batch(20)
    terms = {name: model.item_losses(batch, generator(4)) for name, model in models.items()}
    process = models["v"].network.process
    keys = step_keys(step_keys(batch.item_seed, draw_seed(generator(4))), 0)
    t = (item_uniforms(keys, 120, ()) * 50).long()
    assert len(t.unique()) > 8 and int(t.max()) <= 49
    variance = 1 - process.schedule.alpha_bar[t].float()
    torch.testing.assert_close(terms["v"]["diffusion"], terms["x0"]["diffusion"] / variance, rtol=2e-3, atol=0)
    for name in ("x0_joints3d", "x0_velocity", "pose"):
        torch.testing.assert_close(terms["v"][name], terms["x0"][name])


@pytest.mark.parametrize("head", MESH_HEADS)
def test_a_loss_follows_from_step_and_item(head: Head, toy_body: BodyModel) -> None:
    """In evaluation mode; in training, batch norms (motionbert, ours) look at all clips."""
    model, batch = clip_model(toy_body, head, ALL_TERMS), clip_batch(4)
    with torch.no_grad():
        terms = model.item_losses(batch, generator(1))
        again, other = (model.item_losses(batch, generator(seed)) for seed in (1, 2))
        part = model.item_losses(some_clips(batch, slice(1, 3)), generator(1))
        seeds = replace(batch, item_seed=batch.item_seed + 50)
        other_items = model.item_losses(seeds, generator(1))
    for name, values in terms.items():
        assert torch.equal(again[name], values), name
        torch.testing.assert_close(part[name], values[1:3], atol=1e-5, rtol=1e-4)
    random_term = {"motionbert": "pose", "ours": "diffusion"}.get(head)
    for name, values in terms.items():
        is_random = head == "motionbert" or name.startswith(("diffusion", "x0_"))
        assert torch.allclose(other[name], values) != is_random, name
    if random_term is not None:
        assert (other_items[random_term] != terms[random_term]).all()


@pytest.mark.parametrize("head", ["motionbert", "paper"])
def test_long_training_clips_are_the_mean_of_their_windows(head: Head, toy_body: BodyModel) -> None:
    model = clip_model(toy_body, head, ALL_TERMS, dropout=0.0)
    batch = clip_batch(2, frames=2 * WINDOW + 3)
    starts = [0, WINDOW, WINDOW + 3]
    with torch.no_grad():
        terms = model.item_losses(batch, generator())
        parts = []
        for start in starts:
            window = some_clips(batch, slice(None), slice(start, start + WINDOW))
            parts.append(model.item_losses(window, generator()))
    for name, values in terms.items():
        torch.testing.assert_close(values, torch.stack([part[name] for part in parts]).mean(0), rtol=1e-4, atol=1e-5)


def test_windows_of_a_clip_have_noise_of_their_own(toy_body: BodyModel) -> None:
    """The same frames twice: with random times and noise, the mean of two windows is not one of them."""
    model, batch = clip_model(toy_body, "ours"), clip_batch(3)
    assert batch.targets is not None
    twice = replace(
        batch,
        keypoints=batch.keypoints.repeat(1, 2, 1, 1),
        targets=replace(batch.targets, rotations=batch.targets.rotations.repeat(1, 2, 1, 1, 1)),
    )
    with torch.no_grad():
        once, both = (model.item_losses(clips, generator()) for clips in (batch, twice))
    torch.testing.assert_close(once["pose"], both["pose"])
    assert not torch.isclose(once["diffusion"], both["diffusion"], rtol=1e-3).any()


@torch.no_grad()
@pytest.mark.parametrize("head", MESH_HEADS)
def test_by_the_person_size_and_place_in_the_picture_do_not_matter(head: Head, toy_body: BodyModel) -> None:
    batch = clip_batch()
    keypoints = batch.keypoints.clone()
    keypoints[..., 2] = keypoints[..., 2].clamp_min(0.1)
    moved = torch.cat([0.3 * keypoints[..., :2] - 0.2, keypoints[..., 2:]], dim=-1)
    terms = {}
    for by in ("person", "picture"):
        model = clip_model(toy_body, head, input=by)
        terms[by] = [model.item_losses(replace(batch, keypoints=points), generator()) for points in (keypoints, moved)]
    torch.testing.assert_close(*(one["pose"] for one in terms["person"]), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(*(one["pose"] for one in terms["picture"]), rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("by", ["person", "picture"])
def test_unseen_points_are_nothing_whatever_their_place(by: str, toy_body: BodyModel) -> None:
    model, batch = clip_model(toy_body, "motionbert", input=by, dropout=0.0), clip_batch()
    unseen = batch.keypoints[..., 2:] == 0
    assert 0 < unseen.float().mean() < 0.5
    other = replace(batch, keypoints=torch.where(unseen, torch.tensor([0.7, -0.9, 0.0]), batch.keypoints))
    first, second = (model.item_losses(clips, generator())["pose"] for clips in (batch, other))
    torch.testing.assert_close(first, second)


def test_statistics_are_what_answers_count_from(toy_body: BodyModel) -> None:
    params, _ = random_params(50, 9)
    mean = mean_rotation(params.rotations)
    for head in ("motionbert", "paper"):
        model = clip_model(toy_body, head)
        model.set_statistics(params.rotations, params.betas)
        smpl = model.network.head
        torch.testing.assert_close(smpl.init_pose.reshape(24, 3, 2), mean[..., :2])
        torch.testing.assert_close(smpl.init_shape[0], params.betas.mean(0))
    model = clip_model(toy_body, "ours")
    model.set_statistics(params.rotations, params.betas)
    torch.testing.assert_close(model.network.head.mean_pose, matrix_to_rot6d_columns(mean).flatten())
    assert model.network.codec.mean.abs().max() > 0.1


def test_the_body_is_no_part_of_the_weights(toy_body: BodyModel) -> None:
    for head in MESH_HEADS:
        model = clip_model(toy_body, head)
        assert {name.split(".")[0] for name in model.state_dict()} == {"network"}
        assert model.deterministic == (head != "ours")


@torch.no_grad()
def test_bf16_changes_the_backbone_only(toy_body: BodyModel) -> None:
    for head in MESH_HEADS:
        model, batch = clip_model(toy_body, head), clip_batch()
        exact = model.loss(batch, generator())
        model.backbone_autocast = torch.bfloat16
        for name, value in model.loss(batch, generator()).items():
            assert value.dtype == torch.float32, name
            torch.testing.assert_close(value, exact[name], rtol=0.1, atol=0.1)
        assert model.loss(batch, generator())["pose"] != exact["pose"]


def test_what_does_not_fit_is_said(toy_body: BodyModel) -> None:
    model: ClipModel = clip_model(toy_body, "paper")
    with pytest.raises(UserError, match=f"DiffMesh takes clips of {WINDOW} frames"):
        model.loss(clip_batch(frames=WINDOW - 2), generator())
    with pytest.raises(ValueError, match="needs a batch with targets"):
        model.loss(replace(clip_batch(), targets=None), generator())
    with pytest.raises(UserError, match="lifting gives no meshes; choose motionbert, released, paper or ours"):
        build_clip_model(clip_settings("lifting"), toy_body)
    wide = BACKBONE.model_copy(update={"width": 17})
    with pytest.raises(UserError, match="multiple of its heads"):
        build_clip_model(clip_settings("ours", backbone=wide), toy_body)
