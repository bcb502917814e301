"""DiffMesh's refinement: one 6D layout, the formula, gradients, and clips of any length."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.clip_batch import ClipBatch
from diffhmr.clip_losses import mesh_terms
from diffhmr.config import SamplerConfig
from diffhmr.config_clips import ClipLossConfig, ClipModelConfig
from diffhmr.errors import UserError
from diffhmr.geometry.rotation import axis_angle_to_matrix, geodesic_distance, random_rotations
from diffhmr.models.clip_models import ClipModel
from diffhmr.models.diffmesh import DiffMeshSize, Variant
from diffhmr.models.motion_refine import RefineHead, decode_pose, encode_pose, shape_of_clip
from tests.models import formulas
from tests.models.layouts import refine_head_layout
from tests.models.small_clips import OVERLAP, WINDOW, clip_batch, clip_model, generator, new_clip_model, some_clips

SAMPLER = SamplerConfig()
VARIANTS: tuple[Variant, ...] = ("released", "paper")
SIZE = DiffMeshSize(features=6, width=8, depth=2, heads=2, condition_width=16, condition_depth=1)
HIDDEN = 10


def _head(variant: Variant = "paper", dropout: float = 0.0) -> RefineHead:
    torch.manual_seed(0)
    template = torch.rand(23, 3)
    head = RefineHead(template, variant, SIZE, HIDDEN, dropout)
    formulas.randomised(head)
    head.mesh_template.copy_(template)
    return head


def _given(size: int, frames: int, seed: int = 0) -> SmplParams:
    """Any rotations; betas that differ from frame to frame."""
    rotations = random_rotations((size, frames, 24), generator(seed))
    return SmplParams.from_rotations(rotations, torch.randn(size, frames, 10, generator=generator(seed + 1)))


def _batch(size: int = 3, frames: int = WINDOW, seed: int = 0) -> ClipBatch:
    """With given parameters some 0.2 rad beside the truth."""
    batch = clip_batch(size, frames, seed)
    assert batch.targets is not None
    off = axis_angle_to_matrix(0.2 * torch.randn(size, frames, 24, 3, generator=generator(seed + 3)))
    betas = (batch.targets.betas + 0.5).unsqueeze(1).expand(-1, frames, -1)
    return replace(batch, initial=SmplParams.from_rotations(batch.targets.rotations @ off, betas))


def _model(body: BodyModel, variant: Variant = "paper", loss: ClipLossConfig | None = None) -> ClipModel:
    return clip_model(body, variant, loss, refine=True, dropout=0.0)


def _without_correction(model: ClipModel) -> ClipModel:
    layer = model.network.head.head_pose
    assert isinstance(layer, nn.Conv1d) and layer.bias is not None
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
    return model


def _some(batch: ClipBatch, which: slice, frames: slice = slice(None)) -> ClipBatch:
    assert batch.initial is not None
    return replace(some_clips(batch, which, frames), initial=batch.initial.map(lambda value: value[which, frames]))


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_parameters_are_those_of_official_files(variant: Variant) -> None:
    with torch.device("meta"):
        head = RefineHead(torch.zeros(6890, 3), variant)
    assert {name: tuple(value.shape) for name, value in head.state_dict().items()} == refine_head_layout()


# The layout


def test_poses_there_and_back() -> None:
    rotations = random_rotations((50, 24), generator())
    pose = encode_pose(rotations)
    torch.testing.assert_close(pose.unflatten(-1, (24, 3, 2)), rotations[..., :2], atol=0, rtol=0)
    torch.testing.assert_close(decode_pose(pose), rotations, atol=1e-6, rtol=0)


def test_the_identity_is_not_singular() -> None:
    identity = torch.eye(3).expand(24, 3, 3)
    pose = encode_pose(identity)
    torch.testing.assert_close(decode_pose(pose), identity, atol=0, rtol=0)
    moved = decode_pose(pose + 1e-3 * torch.randn(144, generator=generator()))
    assert geodesic_distance(moved, identity).max() < 0.01
    # The rows that the official code writes, read as columns: one of them is zero, and any noise decides.
    rows = identity[0, :2].flatten()
    assert torch.linalg.matrix_rank(rows.unflatten(0, (3, 2))) == 1


def test_the_mixed_layout_would_be_far_off() -> None:
    """What the official code does to a pose before any correction."""
    rotations = random_rotations((4000,), generator())
    mixed = decode_pose(rotations[:, :2].flatten(-2).unsqueeze(-2).repeat(1, 24, 1).flatten(-2))[:, 0]
    assert 100 < geodesic_distance(mixed, rotations).mean().rad2deg() < 125


def test_the_shape_is_the_mean_over_the_frames_and_exactly_a_constant_one() -> None:
    betas = torch.randn(2, 7, 10, generator=generator())
    torch.testing.assert_close(shape_of_clip(betas), betas.mean(1))
    assert torch.equal(shape_of_clip(betas[:, :1].expand(-1, 7, -1)), betas[:, 0])


# The head


@torch.no_grad()
@pytest.mark.parametrize("frames", [16, 1])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_forward_pass_is_the_formula(variant: Variant, frames: int) -> None:
    head, given = _head(variant), _given(2, frames)
    features = torch.rand(2, frames, 17, SIZE.features, generator=generator()) * 2 - 1
    estimate = head(features, given)
    expected = formulas.refine_head(head.state_dict(), features, given, SIZE)
    assert geodesic_distance(estimate.rotations, given.rotations).mean() > 0.1
    for name in ("rotations", "betas", "condition", "predicted_condition"):
        torch.testing.assert_close(getattr(estimate, name), getattr(expected, name), atol=2e-5, rtol=0)


def test_clips_of_another_length_are_refused() -> None:
    with pytest.raises(UserError, match="DiffMesh takes clips of 16 frames, or single ones, not 15"):
        _head()(torch.zeros(1, 15, 17, SIZE.features), _given(1, 15))


def test_dropout_follows_from_its_keys() -> None:
    head, features, given = _head(dropout=0.5), torch.rand(2, 16, 17, SIZE.features), _given(2, 16)
    keys = torch.tensor([3, 4])
    one, again, other, none = (head(features, given, key).rotations for key in (keys, keys, keys + 9, None))
    assert torch.equal(one, again) and torch.equal(none, head.eval()(features, given).rotations)
    assert (one - other).abs().max() > 1e-3 and (one - none).abs().max() > 1e-3
    alone = head(features[1:], given.map(lambda value: value[1:]), keys[1:]).rotations
    torch.testing.assert_close(alone, one[1:], atol=1e-5, rtol=0)


# Models


@pytest.mark.parametrize("frames", [1, 3, WINDOW, 3 * WINDOW + 1])
@pytest.mark.parametrize("variant", VARIANTS)
def test_without_correction_the_given_parameters_come_back(variant: Variant, frames: int, toy_body: BodyModel) -> None:
    """Whatever the length; the identity, too."""
    model, batch = _without_correction(_model(toy_body, variant)), _batch(2, frames)
    assert batch.initial is not None
    given = batch.initial.betas
    rotations = batch.initial.rotations.clone()
    rotations[0, :, 3] = torch.eye(3)
    batch = replace(batch, initial=SmplParams.from_rotations(rotations, given))
    answer = model.sample(batch, 2, SAMPLER, 0)
    assert answer.deterministic and answer.params.shape == (2, 2, frames)
    for k in range(2):
        torch.testing.assert_close(answer.params.rotations[:, k], rotations, atol=2e-6, rtol=0)
        assert torch.equal(answer.params.betas[:, k], given)


def test_a_new_model_hardly_changes_what_it_is_given(toy_body: BodyModel) -> None:
    model, batch = new_clip_model(toy_body, "paper", refine=True).eval(), _batch(2, 20)
    assert batch.initial is not None
    answer = model.sample(batch, 1, SAMPLER, 0).params.rotations[:, 0]
    assert geodesic_distance(answer, batch.initial.rotations).max() < 0.1


@torch.no_grad()
def test_windows_are_cut_from_what_is_given(toy_body: BodyModel) -> None:
    model, frames = _model(toy_body), 2 * WINDOW - OVERLAP
    batch = _batch(1, frames)
    whole = model.sample(batch, 1, SAMPLER, 0).params.rotations
    first, second = (
        model.sample(_some(batch, slice(None), slice(start, start + WINDOW)), 1, SAMPLER, 0).params.rotations
        for start in (0, WINDOW - OVERLAP)
    )
    alone = WINDOW - OVERLAP
    torch.testing.assert_close(whole[:, :, :alone], first[:, :, :alone], atol=1e-5, rtol=0)
    torch.testing.assert_close(whole[:, :, WINDOW:], second[:, :, OVERLAP:], atol=1e-5, rtol=0)
    assert batch.initial is not None
    assert geodesic_distance(whole[:, 0], batch.initial.rotations).mean() > 0.05


@pytest.mark.parametrize("variant", VARIANTS)
def test_clips_one_by_one_or_in_a_batch(variant: Variant, toy_body: BodyModel) -> None:
    model, batch = _model(toy_body, variant), _batch(3, 2 * WINDOW)
    together = model.sample(batch, 1, SAMPLER, 0).params
    terms = model.item_losses(batch, generator())
    for item in range(3):
        one = _some(batch, slice(item, item + 1))
        alone = model.sample(one, 1, SAMPLER, 0).params
        torch.testing.assert_close(alone.rotations[0], together.rotations[item], atol=2e-5, rtol=0)
        torch.testing.assert_close(alone.betas[0], together.betas[item])
        for name, value in model.item_losses(one, generator()).items():
            torch.testing.assert_close(value[0], terms[name][item], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_trainable_parameter_has_a_gradient(variant: Variant, toy_body: BodyModel) -> None:
    """After one step of a new model with the default weights; the chain of released never has one."""
    model = new_clip_model(toy_body, variant, refine=True).train()
    weights = ClipLossConfig().model_dump()
    total = sum(weights[name] * value for name, value in model.loss(_batch(4), generator()).items())
    assert isinstance(total, Tensor)
    total.backward()
    frozen = {"network.backbone.head.weight", "network.backbone.head.bias"}
    for name, value in model.named_parameters():
        if value.requires_grad:
            assert value.grad is not None and value.grad.isfinite().all() and value.grad.abs().max() > 0, name
        else:
            chain = ("network.head.fc_mesh_temp.", "network.head.diffmesh_process.entire_process.")
            assert value.grad is None and (name in frozen or (variant == "released" and name.startswith(chain))), name


def test_steps_along_the_gradient_refine(toy_body: BodyModel) -> None:
    model, batch = new_clip_model(toy_body, "paper", refine=True, dropout=0.0).train(), _batch(4)
    assert batch.targets is not None and batch.initial is not None
    optimiser = torch.optim.Adam([value for value in model.parameters() if value.requires_grad], lr=3e-3)
    for _ in range(15):
        optimiser.zero_grad()
        terms = model.loss(batch, generator())
        (terms["joints3d"] + terms["pose"]).backward()
        optimiser.step()
    answer = model.eval().sample(batch, 1, SAMPLER, 0).params.rotations[:, 0]
    before = geodesic_distance(batch.initial.rotations, batch.targets.rotations).mean()
    assert geodesic_distance(answer, batch.targets.rotations).mean() < 0.9 * before


@torch.no_grad()
def test_terms_are_those_of_the_refined_parameters(toy_body: BodyModel) -> None:
    """Without a correction they are those of the given ones, window by window."""
    model, batch = _without_correction(_model(toy_body)), _batch(2, 2 * WINDOW)
    assert batch.targets is not None and batch.initial is not None
    terms = model.item_losses(batch, generator())
    expected = mesh_terms(batch.initial, batch.targets, toy_body, frozenset({"joints3d", "pose", "shape", "norm"}))
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, atol=1e-5, rtol=1e-4)
    assert (terms["shape"] - 0.5).abs().max() < 1e-5 and terms["condition"].min() > 0


def test_what_is_missing_is_said(toy_body: BodyModel) -> None:
    model, batch = _model(toy_body), clip_batch()
    assert model.refines and not clip_model(toy_body, "paper").refines
    for ask in (lambda: model.loss(batch, generator()), lambda: model.sample(batch, 1, SAMPLER, 0)):
        with pytest.raises(UserError, match="refines given SMPL parameters, but these clips have none"):
            ask()
    with pytest.raises(ValueError, match=r"initial has shape \(3, 7\), expected \(3, 8\)"):
        replace(batch, initial=_given(3, 7))
    with pytest.raises(ValueError, match="refine belongs to the heads released and paper, not to ours"):
        ClipModelConfig(head="ours", refine=True)


def test_other_models_do_not_look_at_what_is_given(toy_body: BodyModel) -> None:
    model, batch = clip_model(toy_body, "paper"), _batch(2)
    with_it = model.sample(batch, 1, SAMPLER, 0).params
    without = model.sample(replace(batch, initial=None), 1, SAMPLER, 0).params
    assert torch.equal(with_it.rotations, without.rotations)
