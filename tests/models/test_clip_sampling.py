"""Models of clips in use: hypotheses, windows, clips of any length."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.clip_batch import ClipBatch, ClipPrediction
from diffhmr.config import SamplerConfig
from diffhmr.config_clips import Head
from diffhmr.diffusion.noise import sample_seed
from diffhmr.diffusion.temporal_noise import TrackNoise
from diffhmr.errors import UserError
from diffhmr.geometry.rotation import geodesic_distance, mean_rotation
from diffhmr.models import clip_models
from diffhmr.models.clip_models import ClipModel
from diffhmr.models.clip_windows import window_shares
from diffhmr.models.motion_diffusion import STATE_DIM, MotionDiffusion
from tests.models.small_clips import MESH_HEADS, OVERLAP, WINDOW, clip_batch, clip_model, some_clips

SAMPLER = SamplerConfig(steps=3)
SAMPLERS = (
    SAMPLER,
    SamplerConfig(steps=6),
    SamplerConfig(name="ddim", steps=3),
    SamplerConfig(name="ddim", steps=3, eta=0.7),
    SamplerConfig(name="ddpm", steps=3),
)


def _keypoints(size: int, frames: int) -> ClipBatch:
    return replace(clip_batch(size, frames), targets=None)


def _assert_same(first: SmplParams, second: SmplParams, atol: float = 2e-5) -> None:
    torch.testing.assert_close(first.rotations, second.rotations, atol=atol, rtol=0)
    torch.testing.assert_close(first.betas, second.betas, atol=atol, rtol=0)


def _assert_sound(prediction: ClipPrediction, shape: tuple[int, int, int]) -> None:
    params = prediction.params
    assert params.shape == shape and params.transl is None
    rotations = params.rotations.double()
    identity = torch.eye(3, dtype=torch.float64).expand_as(rotations)
    torch.testing.assert_close(rotations @ rotations.transpose(-1, -2), identity, atol=1e-5, rtol=0)
    assert (torch.linalg.det(rotations) > 0).all()
    assert torch.equal(params.betas, params.betas[:, :1, :1].expand_as(params.betas)), "one shape per clip"


@pytest.mark.parametrize("head", MESH_HEADS)
@pytest.mark.parametrize("frames", [1, 3, WINDOW, WINDOW + 1, 3 * WINDOW])
def test_clips_of_any_length(head: Head, frames: int, toy_body: BodyModel) -> None:
    """Also such that are shorter than the chain of DiffMesh."""
    model = clip_model(toy_body, head)
    prediction = model.sample(_keypoints(2, frames), 3, SAMPLER, 0)
    _assert_sound(prediction, (2, 3, frames))
    assert prediction.deterministic == model.deterministic == (head != "ours")
    rotations = prediction.params.rotations
    spread = geodesic_distance(rotations[:, 1:], rotations[:, :1])
    assert (spread.amax((1, 2, 3)) > 0.05).all() if head == "ours" else (spread < 1e-6).all()


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda value: f"{value.name} {value.eta}")
def test_hypothesis_k_is_the_same_however_many_there_are(sampler: SamplerConfig, toy_body: BodyModel) -> None:
    model, batch = clip_model(toy_body, "ours"), _keypoints(2, 2 * WINDOW)
    many = model.sample(batch, 4, sampler, 5)
    _assert_sound(many, (2, 4, 2 * WINDOW))
    for count in (1, 2):
        few = model.sample(batch, count, sampler, 5)
        _assert_same(few.params, many.params.map(lambda value, count=count: value[:, :count]))
    other = model.sample(batch, 4, sampler, 6)
    first = many.params.map(lambda value: value[:, :1])
    _assert_same(other.params.map(lambda value: value[:, :1]), first)
    assert (geodesic_distance(other.params.rotations, many.params.rotations)[:, 1:].amax((2, 3)) > 0.05).all()


def test_the_single_answer_takes_one_step(toy_body: BodyModel) -> None:
    """The random hypotheses take all of them, and those of a sampler with noise on its way do too."""
    model, batch = clip_model(toy_body, "ours"), _keypoints(1, 2 * WINDOW)
    few, many = (model.sample(batch, 2, SamplerConfig(steps=steps), 0).params for steps in (3, 9))
    torch.testing.assert_close(few.rotations[:, 0], many.rotations[:, 0], atol=2e-5, rtol=0)
    assert (few.rotations[:, 1] - many.rotations[:, 1]).abs().max() > 1e-3
    for sampler in (SamplerConfig(name="ddpm", steps=9), SamplerConfig(name="ddim", steps=9, eta=1.0)):
        few, many = (
            model.sample(batch, 1, sampler.model_copy(update={"steps": steps}), 0).params for steps in (3, 9)
        )  # fmt: skip
        assert not torch.equal(few.rotations, many.rotations)


@pytest.mark.parametrize("head", MESH_HEADS)
def test_clips_one_by_one_or_in_a_batch(head: Head, toy_body: BodyModel) -> None:
    model, batch = clip_model(toy_body, head), _keypoints(3, 2 * WINDOW)
    batch = replace(batch, item_seed=torch.tensor([4, 9, 4]))
    together = model.sample(batch, 2, SAMPLER, 0).params
    for item in range(3):
        one = slice(item, item + 1)
        alone = ClipBatch(batch.item_seed[one], batch.keypoints[one], batch.fps[one])
        _assert_same(model.sample(alone, 2, SAMPLER, 0).params, together.map(lambda value, one=one: value[one]))


def test_the_noise_of_a_clip_is_that_of_its_seed(toy_body: BodyModel) -> None:
    model, batch = clip_model(toy_body, "ours"), _keypoints(1, WINDOW)
    two = ClipBatch(torch.tensor([4, 9]), batch.keypoints.expand(2, -1, -1, -1), batch.fps.expand(2))
    rotations = model.sample(two, 2, SAMPLER, 0).params.rotations
    torch.testing.assert_close(rotations[0, 0], rotations[1, 0], atol=1e-5, rtol=0)
    assert geodesic_distance(rotations[0, 1], rotations[1, 1]).max() > 0.05


@torch.no_grad()
@pytest.mark.parametrize("head", MESH_HEADS)
def test_a_clip_as_long_as_a_window_is_one_pass(head: Head, toy_body: BodyModel) -> None:
    model, batch = clip_model(toy_body, head, input="picture"), _keypoints(2, WINDOW)
    network = model.network
    answer = model.sample(batch, 1, SamplerConfig(steps=1), 0).params
    features = network.backbone.get_representation(batch.keypoints)
    if isinstance(network, MotionDiffusion):
        condition = network.condition(features)
        t = torch.full((2, 1), 49)
        state = network.denoise(torch.zeros(2, 1, WINDOW, STATE_DIM), t, condition)
        betas = condition.betas[:, None, None].expand(-1, 1, WINDOW, -1)
        _assert_same(answer, network.decode(state, betas))
        return
    _assert_same(answer, network.head(features).params.map(lambda value: value.unsqueeze(1)))


@pytest.mark.parametrize("head", ["released", "paper"])
def test_a_short_clip_stands_still_after_its_end(head: Head, toy_body: BodyModel) -> None:
    model, short = clip_model(toy_body, head), _keypoints(1, 3)
    held = torch.cat([short.keypoints, short.keypoints[:, -1:].expand(-1, WINDOW - 3, -1, -1)], dim=1)
    whole = model.sample(replace(short, keypoints=held), 1, SAMPLER, 0).params
    _assert_same(model.sample(short, 1, SAMPLER, 0).params, whole.map(lambda value: value[:, :, :3]))


@torch.no_grad()
def test_windows_are_cross_faded_on_rotations(toy_body: BodyModel) -> None:
    model = clip_model(toy_body, "motionbert")
    frames = 2 * WINDOW - OVERLAP
    batch = _keypoints(1, frames)
    whole = model.sample(batch, 1, SAMPLER, 0).params
    starts = (0, WINDOW - OVERLAP)
    parts = [replace(batch, keypoints=batch.keypoints[:, start : start + WINDOW]) for start in starts]
    first, second = (model.sample(part, 1, SAMPLER, 0).params for part in parts)
    alone = WINDOW - OVERLAP
    torch.testing.assert_close(whole.rotations[:, :, :alone], first.rotations[:, :, :alone])
    torch.testing.assert_close(whole.rotations[:, :, WINDOW:], second.rotations[:, :, OVERLAP:])
    shares = window_shares(frames, list(starts), WINDOW, OVERLAP)
    torch.testing.assert_close(shares[0, alone:] + shares[1, :OVERLAP], torch.ones(OVERLAP))
    assert (shares[1, :OVERLAP].diff() > 0).all()
    for k, share in enumerate(shares[1, :OVERLAP]):
        mixed = (1 - share) * first.rotations[0, 0, alone + k] + share * second.rotations[0, 0, k]
        expected = mean_rotation(mixed.unsqueeze(0))
        torch.testing.assert_close(whole.rotations[0, 0, alone + k], expected, atol=1e-5, rtol=0)
    # The shape is the mean by how much is seen.
    seen = torch.stack([part.keypoints[..., 2].sum() for part in parts])
    expected = (seen[0] * first.betas + seen[1] * second.betas)[0, 0, 0] / seen.sum()
    torch.testing.assert_close(whole.betas[0, 0, 0], expected, atol=1e-5, rtol=1e-5)


def _constant(model: ClipModel) -> ClipModel:
    """Whose answer does not depend on what it sees."""
    network = model.network
    layers = [network.head.token, network.denoiser.out] if isinstance(network, MotionDiffusion) else []
    if not layers:
        layers = [network.head.head_pose, network.head.head_shape]
    with torch.no_grad():
        for layer in layers:
            nn.init.zeros_(layer.weight)
    return model


@pytest.mark.parametrize("head", MESH_HEADS)
def test_a_constant_network_gives_no_jump(head: Head, toy_body: BodyModel) -> None:
    answer = _constant(clip_model(toy_body, head)).sample(_keypoints(1, 5 * WINDOW + 1), 1, SAMPLER, 0).params
    rotations = answer.rotations[0, 0]
    torch.testing.assert_close(rotations, rotations[:1].expand_as(rotations), atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda value: f"{value.name} {value.eta}")
def test_all_windows_tell_of_one_random_motion(sampler: SamplerConfig, toy_body: BodyModel) -> None:
    """With a denoiser that looks at single frames, windows make no difference: their noise is one track."""
    small = _constant(clip_model(toy_body, "ours", input="picture"))
    large = _constant(clip_model(toy_body, "ours", input="picture", window=24, overlap=5))
    large.load_state_dict(small.state_dict())
    batch = _keypoints(2, 24)
    first, second = (model.sample(batch, 3, sampler, 1).params for model in (small, large))
    _assert_same(first, second, atol=1e-4)
    assert geodesic_distance(first.rotations[:, 1], first.rotations[:, 2]).amax((1, 2)).min() > 0.05


@torch.no_grad()
def test_the_start_of_a_chain_is_the_track_of_the_clip(toy_body: BodyModel) -> None:
    model = clip_model(toy_body, "ours", input="picture")
    batch = _keypoints(1, WINDOW)
    network = model.network
    assert isinstance(network, MotionDiffusion)
    condition = network.condition(network.backbone.get_representation(batch.keypoints))
    item = int(batch.item_seed[0])
    track = TrackNoise(network.noise, [sample_seed(8, item, 2)], [False], WINDOW, STATE_DIM)
    state = network.denoise(track.draw(0).unsqueeze(0), torch.full((1, 1), 49), condition)
    expected = network.decode(state, condition.betas[:, None, None].expand(-1, 1, WINDOW, -1))
    answer = model.sample(batch, 3, SamplerConfig(steps=1), 8).params
    _assert_same(answer.map(lambda value: value[:, 2:]), expected)


@pytest.mark.parametrize(
    ("head", "sampler", "frames"),
    [("motionbert", SAMPLER, 2000), ("ours", SamplerConfig(steps=2), 2000), ("ours", SAMPLERS[-1], 403)],
)
def test_long_clips_in_chunks(
    head: Head, sampler: SamplerConfig, frames: int, toy_body: BodyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = clip_model(toy_body, head), _keypoints(1, frames)
    sizes: list[int] = []
    features = ClipModel._features

    def counted(self: ClipModel, x: Tensor) -> Tensor:
        sizes.append(len(x))
        return features(self, x)

    monkeypatch.setattr(ClipModel, "_features", counted)
    answers = []
    for at_once in (10**9, 700):
        monkeypatch.setattr(clip_models, "_FRAMES_AT_ONCE", at_once)
        sizes.clear()
        answers.append(model.sample(batch, 2, sampler, 0).params)
        assert sum(sizes) == frames // (WINDOW - OVERLAP) and (len(sizes) == 1) == (at_once == 10**9)
        per_window = WINDOW * (2 if head == "ours" else 1)
        assert max(sizes) * per_window <= at_once
    _assert_same(answers[0], answers[1], atol=1e-4)
    _assert_sound(ClipPrediction(answers[1]), (1, 2, frames))


def test_a_person_who_is_never_seen_has_a_motion_and_a_shape(toy_body: BodyModel) -> None:
    batch = replace(_keypoints(1, 20), keypoints=torch.zeros(1, 20, 17, 3))
    for head in MESH_HEADS:
        prediction = clip_model(toy_body, head).sample(batch, 2, SAMPLER, 0)
        _assert_sound(prediction, (1, 2, 20))
        assert prediction.params.betas.isfinite().all()


def test_sampling_leaves_no_trace(toy_body: BodyModel) -> None:
    model, batch = clip_model(toy_body, "ours"), clip_batch(1, 20)
    before, random_state = batch.keypoints.clone(), torch.get_rng_state()
    first = model.sample(batch, 2, SAMPLER, 0).params
    assert not first.rotations.requires_grad
    _assert_same(model.sample(batch, 2, SAMPLER, 0).params, first, atol=0)
    # The truth is not looked at.
    _assert_same(model.sample(replace(batch, targets=None), 2, SAMPLER, 0).params, first, atol=0)
    assert torch.equal(batch.keypoints, before) and torch.equal(torch.get_rng_state(), random_state)


def test_arguments_that_do_not_fit(toy_body: BodyModel) -> None:
    model, batch = clip_model(toy_body, "ours"), clip_batch(1)
    ancestral = SamplerConfig(name="ddpm", steps=3, eta=0.5)
    for clips, count, sampler, message in (
        (batch, 0, SAMPLER, "number of samples must be at least 1, got 0"),
        (batch, 2, SamplerConfig(steps=51), "51 sampling steps, but the model has 50"),
        (batch, 2, ancestral, "eta = 0.5 belongs to ddim: set it to 0 for ddpm"),
        (some_clips(batch, slice(None), slice(0)), 2, SAMPLER, "without frames"),
    ):
        with pytest.raises(UserError, match=message):
            model.sample(clips, count, sampler, 0)
    # A model with one answer has no use for a sampler, whatever it says.
    clip_model(toy_body, "motionbert").sample(batch, 2, ancestral, 0)
