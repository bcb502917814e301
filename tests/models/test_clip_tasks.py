from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from diffhmr.clip_batch import ActionBatch, LiftingBatch
from diffhmr.config_clips import BackboneConfig, ClipLossConfig, ClipModelConfig
from diffhmr.errors import UserError
from diffhmr.models.clip_tasks import (
    TEMPERATURE,
    ActionModel,
    LiftingModel,
    build_action_model,
    build_lifting_model,
    mean_distance,
    mirrored,
    scaled_distance,
    supervised_contrastive,
    velocity_distance,
)
from diffhmr.models.clip_windows import window_shares
from diffhmr.models.item_random import draw_seed, step_keys

TINY = BackboneConfig(width=16, hidden=24, depth=2, heads=4, features=12, max_frames=20)
LIFTING_TERMS = {"position", "scaled_position", "position_velocity", "reprojection"}


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=_generator(seed))


def _keypoints(*lead: int, seed: int = 0) -> Tensor:
    points = 0.3 * _random(*lead, 17, 3, seed=seed)
    points[..., 2] = torch.rand(*lead, 17, generator=_generator(seed)).clamp_min(0.1)
    return points


def _lifting_batch(size: int = 3, frames: int = 8, flat: int = 1) -> LiftingBatch:
    """The last ``flat`` clips are without depths."""
    has_depth = torch.arange(size) < size - flat
    return LiftingBatch(
        item_seed=torch.arange(size),
        keypoints=_keypoints(size, frames),
        positions=0.3 * _random(size, frames, 17, 3, seed=1),
        weight=torch.rand(size, frames, 17, generator=_generator(2)),
        has_depth=has_depth,
    )


def _lifting(loss: ClipLossConfig | None = None, **settings: object) -> LiftingModel:
    torch.manual_seed(0)
    values = {"head": "lifting", "backbone": TINY, "window": 8, "overlap": 2, "input": "picture", **settings}
    model = build_lifting_model(ClipModelConfig.model_validate(values), loss)
    with torch.no_grad():
        for value in model.parameters():  # away from the small start, so that all parts matter
            value.add_(0.2 * torch.randn(value.shape, generator=_generator(3)))
    return model


def _action_batch(size: int = 6, frames: int = 5, people: int = 2) -> ActionBatch:
    keypoints = _keypoints(size, people, frames)
    keypoints[::2, 1:] = 0
    return ActionBatch(torch.arange(size), keypoints, torch.arange(size) % 3)


def _action(head: str, **settings: object) -> ActionModel:
    torch.manual_seed(0)
    values = {"head": head, "backbone": TINY, "window": 8, "overlap": 0, "classes": 3, "embedding": 10, **settings}
    return build_action_model(ClipModelConfig.model_validate(values))


def test_distances_in_closed_form() -> None:
    target = _random(2, 5, 17, 3)
    torch.testing.assert_close(mean_distance(target + torch.tensor([0.0, 3.0, 4.0]), target), torch.full((2,), 5.0))
    torch.testing.assert_close(scaled_distance(-0.7 * target, target), torch.zeros(2), atol=1e-5, rtol=0)
    # What is at a right angle cannot be scaled to fit: the best scale is 0.
    swapped = target[..., [1, 0, 2]] * torch.tensor([1.0, -1.0, 0.0])
    torch.testing.assert_close(scaled_distance(swapped, target), mean_distance(0 * target, target))
    frame = torch.arange(5.0)[:, None, None]
    drift = target + frame * torch.tensor([0.0, 0.6, 0.8])
    torch.testing.assert_close(velocity_distance(drift, target), torch.ones(2))
    assert torch.equal(velocity_distance(target[:, :1], target[:, 1:2]), torch.zeros(2))


def test_the_lifting_terms_are_the_formulas() -> None:
    batch, model = _lifting_batch(), _lifting()
    terms = model.item_losses(batch, _generator())
    assert set(terms) == LIFTING_TERMS
    estimate = model(batch.keypoints)
    first = torch.zeros(3, 1, 1, 3)
    first[..., 2] = batch.positions[:, :1, :1, 2]
    target = batch.positions - first
    known = batch.has_depth.float()
    for name, value in (
        ("position", mean_distance(estimate, target)),
        ("scaled_position", scaled_distance(estimate, target)),
        ("position_velocity", velocity_distance(estimate, target)),
    ):
        torch.testing.assert_close(terms[name], known * value)
    flat = (estimate[..., :2] - target[..., :2]) * batch.weight[..., None]
    torch.testing.assert_close(terms["reprojection"], (1 - known) * flat.norm(dim=-1).mean((1, 2)))
    for name, value in model.loss(batch, _generator()).items():
        torch.testing.assert_close(value, terms[name].mean())


def test_root_relative_lifting_knows_the_root() -> None:
    batch, model = _lifting_batch(), _lifting(root_relative=True)
    assert torch.equal(model(batch.keypoints)[..., 0, :], torch.zeros(3, 8, 3))
    far = replace(batch, positions=batch.positions + _random(3, 8, 1, 3, seed=5))
    for name, value in model.item_losses(far, _generator()).items():
        torch.testing.assert_close(value, model.item_losses(batch, _generator())[name], atol=1e-5, rtol=1e-5)
    # Without it only the depth of the first frame is free.
    absolute = _lifting()
    deeper = replace(batch, positions=batch.positions + torch.tensor([0.0, 0.0, 2.0]))
    same, other = absolute.item_losses(deeper, _generator()), absolute.item_losses(far, _generator())
    for name, value in absolute.item_losses(batch, _generator()).items():
        torch.testing.assert_close(same[name], value, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(other[name], value)


def test_frames_without_a_root_do_not_count_where_all_is_relative_to_it() -> None:
    batch, model = _lifting_batch(flat=3), _lifting(root_relative=True)
    weight = batch.weight.clone()
    weight[:, ::2, 0] = 0
    lost, half = replace(batch, weight=weight), batch.weight.clone()
    half[:, ::2] = 0
    torch.testing.assert_close(
        model.loss(lost, _generator())["reprojection"],
        model.loss(replace(batch, weight=half), _generator())["reprojection"],
    )


@pytest.mark.parametrize("root_relative", [False, True])
def test_by_the_person_size_and_place_in_the_picture_do_not_matter(root_relative: bool) -> None:
    batch, model = _lifting_batch(), _lifting(input="person", root_relative=root_relative)
    shift, size = torch.tensor([0.4, -0.2, 0.0]), torch.tensor([2.0, 2.0, 2.0])
    keypoints = torch.cat([size[:2] * batch.keypoints[..., :2] + shift[:2], batch.keypoints[..., 2:]], dim=-1)
    other = replace(batch, keypoints=keypoints, positions=size * batch.positions + shift)
    again = model.item_losses(other, _generator())
    for name, value in model.item_losses(batch, _generator()).items():
        torch.testing.assert_close(again[name], value, atol=1e-4, rtol=1e-4)
    moved = size * model.eval().lift(batch.keypoints) + (torch.zeros(3) if root_relative else shift)
    torch.testing.assert_close(model.lift(keypoints), moved, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(_lifting().lift(keypoints), _lifting().lift(batch.keypoints))


def test_unseen_points_are_nothing_whatever_their_place() -> None:
    for by in ("picture", "person"):
        model = _lifting(input=by).eval()
        keypoints = _keypoints(1, 8)
        keypoints[0, 2:4, 5, 2] = 0
        other = keypoints.clone()
        other[0, 2:4, 5, :2] = 0.7
        torch.testing.assert_close(model.lift(other), model.lift(keypoints))


def test_terms_of_weight_0_are_not_computed() -> None:
    model = _lifting(ClipLossConfig(scaled_position=0, reprojection=0))
    assert set(model.loss(_lifting_batch(), _generator())) == {"position", "position_velocity"}


@pytest.mark.parametrize("root_relative", [False, True])
def test_long_clips_are_lifted_in_windows(root_relative: bool) -> None:
    model = _lifting(root_relative=root_relative).eval()
    keypoints = _keypoints(2, 21)
    lifted = model.lift(keypoints, flip=False)
    assert lifted.shape == (2, 21, 17, 3)
    starts = [0, 6, 12, 13]
    alone = [model(keypoints[:, start : start + 8]).detach() for start in starts]
    torch.testing.assert_close(lifted[:, :6], alone[0][:, :6])
    shift = 0.0
    if not root_relative:
        shift = (alone[0][:, 6:, 0, 2] - alone[1][:, :2, 0, 2]).mean(1)[:, None, None]
    depth = alone[1][..., 2] + shift
    torch.testing.assert_close(lifted[:, 8:12, :, 2], depth[:, 2:6])
    first, second = window_shares(21, starts, 8, 2)[[0, 1], [6, 0]]
    assert 0.5 < first < 1
    middle = first * alone[0][:, 6, :, 2] + second * depth[:, 0]
    torch.testing.assert_close(lifted[:, 6, :, 2], middle)
    for item in range(2):
        torch.testing.assert_close(model.lift(keypoints[item : item + 1], flip=False)[0], lifted[item])
    torch.testing.assert_close(model.lift(keypoints[:, :3], flip=False), model(keypoints[:, :3]).detach())


def test_windows_without_shared_frames_go_on_at_the_same_depth() -> None:
    model = _lifting(overlap=0).eval()
    lifted = model.lift(_keypoints(2, 16), flip=False)
    torch.testing.assert_close(lifted[:, 7, 0, 2], lifted[:, 8, 0, 2])


@torch.no_grad()
def test_flip_averages_with_the_mirror_image() -> None:
    model, keypoints = _lifting().eval(), _keypoints(2, 6)
    assert torch.equal(mirrored(mirrored(keypoints)), keypoints)
    lifted = model.lift(keypoints)
    torch.testing.assert_close(lifted, (model(keypoints) + mirrored(model(mirrored(keypoints)))) / 2)
    torch.testing.assert_close(model.lift(mirrored(keypoints)), mirrored(lifted))
    assert not torch.allclose(model.lift(keypoints, flip=False), lifted)


def test_long_training_clips_are_the_mean_of_their_windows() -> None:
    batch, model = _lifting_batch(frames=16), _lifting()
    parts = []
    for start in (0, 8):
        cut = {name: getattr(batch, name)[:, start : start + 8] for name in ("keypoints", "positions", "weight")}
        parts.append(model.item_losses(replace(batch, **cut), _generator()))
    for name, value in model.item_losses(batch, _generator()).items():
        torch.testing.assert_close(value, (parts[0][name] + parts[1][name]) / 2)


def _assert_gradients(model: nn.Module, terms: dict[str, Tensor]) -> None:
    torch.stack(list(terms.values())).sum().backward()
    for name, value in model.named_parameters():
        if value.requires_grad:
            assert value.grad is not None and value.grad.isfinite().all(), name
            assert value.grad.abs().max() > 0, name


@pytest.mark.parametrize("root_relative", [False, True])
@pytest.mark.parametrize("flat", [0, 3])
def test_every_parameter_of_lifting_is_trained(root_relative: bool, flat: int) -> None:
    model = _lifting(root_relative=root_relative).train()
    assert all(value.requires_grad for value in model.parameters())
    _assert_gradients(model, model.loss(_lifting_batch(flat=flat), _generator()))


@pytest.mark.parametrize("head", ["classifier", "embedding"])
def test_every_trainable_parameter_of_actions_is_trained(head: str) -> None:
    model = _action(head).train()
    frozen = {name for name, value in model.named_parameters() if not value.requires_grad}
    before_the_norm = {"network.head.fc1.bias"} if head == "classifier" else set()
    assert frozen == {"network.backbone.head.weight", "network.backbone.head.bias", *before_the_norm}
    _assert_gradients(model, model.loss(_action_batch(), _generator()))


def test_the_contrastive_loss_is_the_formula() -> None:
    vectors = nn.functional.normalize(_random(5, 4), dim=-1)
    labels = torch.tensor([0, 1, 0, 0, 2])
    losses = supervised_contrastive(vectors, labels, 0.1)
    expected = torch.zeros(5)
    for i in range(5):
        others = [a for a in range(5) if a != i]
        total = sum(math.exp(float(vectors[i] @ vectors[a]) / 0.1) for a in others)
        positive = [a for a in others if labels[a] == labels[i]]
        if positive:
            expected[i] = -sum(float(vectors[i] @ vectors[p]) / 0.1 - math.log(total) for p in positive) / len(positive)
    torch.testing.assert_close(losses, expected)
    # Two classes apart from each other, of two clips each: nothing is left to gain but exp(-20).
    apart = torch.tensor([[1.0, 0], [1, 0], [-1, 0], [-1, 0]])
    ideal = supervised_contrastive(apart, torch.tensor([0, 0, 1, 1]), 0.1)
    torch.testing.assert_close(ideal, torch.full((4,), math.log(1 + 2 * math.exp(-20))), atol=1e-6, rtol=0)


def test_clips_are_compared_in_one_view_each() -> None:
    model, batch = _action("embedding").eval(), _action_batch()
    losses = model.item_losses(batch, _generator(1))
    assert set(losses) == {"contrastive"}
    vectors = model(batch.keypoints, step_keys(batch.item_seed, draw_seed(_generator(1))))
    torch.testing.assert_close(losses["contrastive"], supervised_contrastive(vectors, batch.label, TEMPERATURE))
    alone = replace(batch, label=torch.arange(6))
    assert not model.item_losses(alone, _generator(1))["contrastive"].any(), "nothing of a class to be near to"


def test_cross_entropy_of_a_classifier_without_an_opinion() -> None:
    model, batch = _action("classifier").train(), _action_batch()
    for value in model.network.head.fc2.parameters():
        nn.init.zeros_(value)
    terms = model.item_losses(batch, _generator())
    torch.testing.assert_close(terms["cross_entropy"], torch.full((6,), math.log(3)))
    assert set(model.loss(batch, _generator())) == {"cross_entropy"}


@pytest.mark.parametrize("head", ["classifier", "embedding"])
def test_actions_follow_from_step_and_item(head: str) -> None:
    model, batch = _action(head).eval(), _action_batch()
    losses = model.item_losses(batch, _generator(1))
    (name,) = losses
    assert torch.equal(model.item_losses(batch, _generator(1))[name], losses[name])
    assert not torch.allclose(model.item_losses(batch, _generator(2))[name], losses[name])
    answer = model.predict(batch.keypoints)
    for item in range(len(batch)):
        torch.testing.assert_close(model.predict(batch.keypoints[item : item + 1])[0], answer[item])
    if head == "classifier":
        part = ActionBatch(batch.item_seed[2:4], batch.keypoints[2:4], batch.label[2:4])
        torch.testing.assert_close(model.item_losses(part, _generator(1))[name], losses[name][2:4])
        assert answer.shape == (6, 3)
    else:
        torch.testing.assert_close(answer.norm(dim=-1), torch.ones(6))


def test_what_people_look_like_from_nearer_is_the_same_action() -> None:
    model, batch = _action("classifier").eval(), _action_batch()
    nearer = torch.cat([2 * batch.keypoints[..., :2] - 0.3, batch.keypoints[..., 2:]], dim=-1)
    nearer = torch.where(batch.keypoints[..., 2:] > 0, nearer, 0.0)
    torch.testing.assert_close(model.predict(nearer), model.predict(batch.keypoints), atol=1e-4, rtol=1e-4)
    picture = _action("classifier", input="picture").eval()
    assert not torch.allclose(picture.predict(nearer), picture.predict(batch.keypoints))


def test_clips_longer_than_the_window_of_an_action_are_refused() -> None:
    with pytest.raises(UserError, match="9 frames does not fit this model's window of 8"):
        _action("classifier").predict(_keypoints(1, 1, 9))


def test_bf16_changes_the_backbone_only() -> None:
    lifting, batch = _lifting(), _lifting_batch()
    exact = lifting.loss(batch, _generator())
    lifting.backbone_autocast = torch.bfloat16
    for name, value in lifting.loss(batch, _generator()).items():
        assert value.dtype == torch.float32 and value != exact[name]
        torch.testing.assert_close(value, exact[name], rtol=0.05, atol=0.05)
    action = _action("embedding")
    action.backbone_autocast = torch.bfloat16
    assert action.predict(_keypoints(1, 2, 5)).dtype == torch.float32
