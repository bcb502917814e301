"""The motion of a window as one diffusion: states, the point estimate, the denoiser around it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from diffhmr.body.frames import RotationFrame, to_frame
from diffhmr.diffusion.noise import SampleNoise
from diffhmr.diffusion.sampling import SamplerName, sample
from diffhmr.errors import UserError
from diffhmr.geometry.rotation import geodesic_distance, matrix_to_rot6d_columns, mean_rotation
from diffhmr.models.dstformer import DSTformer, DSTformerSize
from diffhmr.models.motion_diffusion import STATE_DIM, MotionCondition, MotionDiffusion, MotionDiffusionSize
from tests.models.formulas import randomised
from tests.models.people import random_params

FEATURES, FRAMES = 6, 7
BACKBONE = DSTformerSize(width=16, hidden=24, depth=1, heads=4, features=FEATURES, max_frames=20)
SIZE = MotionDiffusionSize(width=16, depth=2, heads=2, steps=40, noise_frames=2.0, smoothing=0.0)
PEOPLE, _ = random_params(100, 3)


def _model(**changes: Any) -> MotionDiffusion:
    torch.manual_seed(0)
    model = MotionDiffusion(DSTformer(BACKBONE), replace(SIZE, **changes))
    randomised(model.head)
    model.set_mean(PEOPLE.rotations, PEOPLE.betas)
    with torch.no_grad():
        for layer in (model.head.pose, model.head.shape):
            layer.weight.mul_(0.2)
            layer.bias.mul_(0.2)
    return model.eval()


def _features(*lead: int, seed: int = 0) -> Tensor:
    return 2 * torch.rand(*lead, 17, FEATURES, generator=torch.Generator().manual_seed(seed)) - 1


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("frame", get_args(RotationFrame))
def test_states_are_rotations(frame: RotationFrame) -> None:
    model = _model(frame=frame)
    params, _ = random_params(2 * FRAMES, 1)
    rotations, betas = params.rotations.unflatten(0, (2, FRAMES)), params.betas.unflatten(0, (2, FRAMES))
    states = model.encode(rotations)
    assert states.shape == (2, FRAMES, STATE_DIM)
    decoded = model.decode(states, betas)
    torch.testing.assert_close(decoded.rotations, rotations, atol=1e-4, rtol=0)
    assert torch.equal(decoded.betas, betas)
    # Of any numbers at all.
    anything = model.decode(3 * _normal(2, 3, FRAMES, STATE_DIM), torch.zeros(2, 3, FRAMES, 10)).rotations
    identity = torch.eye(3).expand_as(anything)
    torch.testing.assert_close(anything @ anything.transpose(-1, -2), identity, atol=1e-5, rtol=0)


@pytest.mark.parametrize("frame", get_args(RotationFrame))
def test_statistics_are_those_of_the_data(frame: RotationFrame) -> None:
    model = _model(frame=frame)
    states = model.encode(PEOPLE.rotations)
    torch.testing.assert_close(states.mean(0), torch.zeros(STATE_DIM), atol=1e-4, rtol=0)
    torch.testing.assert_close(states.std(0, correction=0), torch.ones(STATE_DIM), atol=1e-3, rtol=0)
    mean = mean_rotation(to_frame(PEOPLE.rotations, frame))
    torch.testing.assert_close(model.head.mean_pose, matrix_to_rot6d_columns(mean).flatten())
    torch.testing.assert_close(model.head.mean_shape, PEOPLE.betas.mean(0))


@torch.no_grad()
@pytest.mark.parametrize("frame", get_args(RotationFrame))
def test_a_head_without_an_opinion_gives_the_means(frame: RotationFrame) -> None:
    model = _model(frame=frame)
    for layer in (model.head.pose, model.head.shape):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    condition = model.condition(_features(2, FRAMES))
    mean = mean_rotation(to_frame(PEOPLE.rotations, frame))
    torch.testing.assert_close(to_frame(condition.rotations, frame), mean.expand(2, FRAMES, -1, -1, -1))
    torch.testing.assert_close(condition.betas, PEOPLE.betas.mean(0).expand(2, -1))


@torch.no_grad()
@pytest.mark.parametrize("frame", get_args(RotationFrame))
def test_the_denoiser_sees_the_estimate_as_a_state(frame: RotationFrame) -> None:
    model = _model(frame=frame, smoothing=1.5)
    condition = model.condition(_features(2, FRAMES))
    torch.testing.assert_close(condition.mean, model.encode(condition.rotations), atol=1e-4, rtol=0)
    betas = condition.betas.unsqueeze(1).expand(-1, FRAMES, -1)
    torch.testing.assert_close(model.decode(condition.mean, betas).rotations, condition.rotations, atol=1e-5, rtol=0)
    assert geodesic_distance(condition.rotations[:, 1:], condition.rotations[:, :-1]).max() > 0.01
    assert condition.tokens.shape == (2, FRAMES, SIZE.width)
    assert condition.spread.shape == (2, FRAMES, STATE_DIM) and (condition.spread > 0).all()


@torch.no_grad()
def test_the_shortcut_adds_to_the_pose_of_the_token() -> None:
    """A layer for each joint alone, then one for all; the tokens and the shape do not know of it."""
    with_it, features = _model(shortcut=True), _features(2, FRAMES)
    without = _model()
    missing = without.head.load_state_dict(with_it.head.state_dict(), strict=False).unexpected_keys
    assert missing == ["shortcut.0.weight", "shortcut.0.bias", "shortcut.3.weight"]
    (tokens, pose, betas), (own_tokens, own_pose, own_betas) = with_it.head(features), without.head(features)
    assert torch.equal(tokens, own_tokens) and torch.equal(betas, own_betas)
    layers = with_it.head.shortcut
    assert layers is not None
    joints = [(layers[0].weight @ features[..., joint, :, None]).squeeze(-1) + layers[0].bias for joint in range(17)]
    added = torch.cat(joints, dim=-1).relu() @ layers[3].weight.T
    torch.testing.assert_close(pose - own_pose, added, atol=1e-5, rtol=1e-5)
    assert added.abs().max() > 1e-3


def _silent(model: MotionDiffusion) -> MotionDiffusion:
    nn.init.zeros_(model.denoiser.out.weight)
    nn.init.zeros_(model.denoiser.out.bias)
    return model


@torch.no_grad()
def test_a_denoiser_that_says_nothing_knows_a_gaussian_around_the_estimate() -> None:
    model = _silent(_model())
    condition = model.condition(_features(2, FRAMES))
    x_t, t = _normal(2, 3, FRAMES, STATE_DIM), torch.tensor([[0, 20, 39], [5, 5, 38]])
    pred = model.denoise(x_t, t, condition)
    alpha_bar = model.process.schedule.alpha_bar[t][..., None, None].float()
    mean, variance = condition.mean.unsqueeze(1), condition.spread.unsqueeze(1).square()
    gain = alpha_bar.sqrt() * variance / (alpha_bar * variance + 1 - alpha_bar)
    torch.testing.assert_close(pred, mean + gain * (x_t - alpha_bar.sqrt() * mean), atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", get_args(SamplerName))
def test_the_zero_noise_path_of_a_silent_denoiser_ends_on_the_estimate(name: SamplerName) -> None:
    model = _silent(_model())
    condition = model.condition(_features(1, FRAMES))

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        return model.denoise(x_t.unsqueeze(0), t.unsqueeze(0), condition)[0]

    noise = SampleNoise([1], [True])
    end = sample(name, denoise, model.process, noise.draw((FRAMES, STATE_DIM)), 10, noise)
    # Hardly any signal is left where the chain starts: of zeros, almost nothing follows.
    assert model.process.schedule.signal_at(39) < 2e-3
    torch.testing.assert_close(end, condition.mean, atol=1e-3, rtol=1e-2)


@torch.no_grad()
def test_clips_and_hypotheses_do_not_know_of_each_other() -> None:
    model = _model(smoothing=1.2)
    features = _features(3, FRAMES)
    condition = model.condition(features)
    x_t = _normal(3, 2, FRAMES, STATE_DIM)
    t = torch.tensor([[0, 20], [10, 39], [3, 3]])
    together = model.denoise(x_t, t, condition)
    for item in range(3):
        alone = model.condition(features[item : item + 1])
        for name in MotionCondition.__dataclass_fields__:
            torch.testing.assert_close(getattr(alone, name)[0], getattr(condition, name)[item], atol=1e-5, rtol=1e-5)
        for k in range(2):
            pred = model.denoise(x_t[item : item + 1, k : k + 1], t[item : item + 1, k : k + 1], alone)
            torch.testing.assert_close(pred[0, 0], together[item, k], atol=1e-4, rtol=1e-4)
    other = model.denoise(x_t, torch.full_like(t, 30), condition)
    assert (other - together).abs().flatten(2).amax(-1).min() > 1e-3, "the time matters"


@torch.no_grad()
def test_all_frames_of_a_window_matter_and_their_order_too() -> None:
    model = _model()
    condition = model.condition(_features(1, FRAMES))
    x_t, t = _normal(1, 1, FRAMES, STATE_DIM), torch.tensor([[20]])
    pred = model.denoise(x_t, t, condition)
    changed = x_t.clone()
    changed[0, 0, 2] += 1
    assert (model.denoise(changed, t, condition) - pred).abs().amax((0, 1, 3)).min() > 1e-5
    parts = {name: getattr(condition, name).flip(1) for name in ("tokens", "rotations", "mean", "spread")}
    backwards = model.denoise(x_t.flip(2), t, MotionCondition(betas=condition.betas, **parts))
    assert not torch.allclose(backwards.flip(2), pred, atol=1e-4)


@torch.no_grad()
def test_smoothing_is_a_gaussian_over_frames() -> None:
    rough, smooth = _silent(_model()), _silent(_model(smoothing=1.2))
    features = _features(1, 15)
    place = torch.arange(15.0)
    weights = torch.exp(-0.5 * ((place[:, None] - place) / 1.2) ** 2)
    weights = weights / weights.sum(1, keepdim=True)
    offsets = rough.head(features)[1]
    expected = (weights @ offsets + smooth.head.mean_pose).unflatten(-1, (24, 2, 3))[..., 0, :]
    expected = expected / expected.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(smooth.condition(features).rotations[..., 0], expected, atol=1e-5, rtol=0)
    condition, x_t, t = rough.condition(features), _normal(1, 2, 15, STATE_DIM), torch.tensor([[20, 3]])
    torch.testing.assert_close(
        smooth.denoise(x_t, t, condition), weights @ rough.denoise(x_t, t, condition), atol=1e-4, rtol=1e-4
    )
    # What does not change over time stays, also at both ends.
    still = smooth.condition(features[:, :1].expand(-1, 15, -1, -1)).rotations
    torch.testing.assert_close(still, rough.condition(features[:, :1]).rotations.expand_as(still), atol=1e-5, rtol=0)


def test_the_denoisers_losses_do_not_pull_at_the_estimate() -> None:
    model = _model().train()
    condition = model.condition(_features(2, FRAMES))
    pred = model.denoise(_normal(2, 1, FRAMES, STATE_DIM), torch.tensor([[5], [30]]), condition)
    pred.square().mean().backward()
    for name, value in model.named_parameters():
        if name.startswith(("head.pose", "head.shape", "backbone")):
            assert value.grad is None, name
        else:
            assert value.grad is not None and value.grad.abs().max() > 0, name


def test_the_backbones_own_head_is_not_trained() -> None:
    frozen = {name for name, value in _model().named_parameters() if not value.requires_grad}
    assert frozen == {"backbone.head.weight", "backbone.head.bias"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 10, "heads": 3}, "width .10. must be a multiple of its heads .3."),
        ({"width": 0}, "width is 0, expected 1 to"),
        ({"depth": -1}, "depth is -1"),
        ({"head_blocks": -1}, "head_blocks is -1, expected 0 to"),
        ({"heads": 0}, "heads is 0"),
        ({"steps": 10**9}, "steps is 1000000000"),
        ({"steps": 10.5}, "steps is 10.5"),
        ({"noise_frames": float("inf")}, "noise_frames is inf"),
        ({"smoothing": float("nan")}, "smoothing is nan"),
        ({"smoothing": -1.0}, "smoothing is -1"),
        ({"schedule": "quick"}, "schedule is 'quick', expected cosine or linear"),
        ({"frame": "world"}, "frame is 'world', expected parent or camera"),
    ],
)
def test_sizes_of_no_network(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        MotionDiffusionSize(**changes)
