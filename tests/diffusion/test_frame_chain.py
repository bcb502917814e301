from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from diffhmr.diffusion.frame_chain import FrameChain, frame_schedule
from diffhmr.diffusion.process import Process
from diffhmr.diffusion.sampling import ddim


def _chain(frames: int = 16, warm_up: int = 14) -> FrameChain:
    return FrameChain(frame_schedule(warm_up + frames), frames)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_schedule_is_nearly_clean() -> None:
    schedule = frame_schedule(30)
    betas = schedule.betas
    assert betas[0].item() == pytest.approx(1e-4, rel=1e-9)
    assert betas[-1].item() == pytest.approx(1e-3, rel=1e-9)
    torch.testing.assert_close(betas.diff(), torch.full((29,), 9e-4 / 29, dtype=torch.float64), rtol=1e-6, atol=1e-12)
    assert schedule.alpha_bar_at(29) == pytest.approx(0.98363, abs=5e-6)
    assert schedule.sigma_at(29) == pytest.approx(0.128, abs=5e-4)


def test_an_update_is_ddim() -> None:
    """Through x0, with sigma = 0; at index 0 the result is x0 itself."""
    chain = _chain()
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 1e-3, 30, dtype=torch.float64), 0).tolist()
    state, noise = _normal(2, 5), _normal(2, 5, seed=1)
    for t in (29, 11, 0):
        now, after = alpha_bar[t], alpha_bar[t - 1] if t else 1.0
        x0 = (state - math.sqrt(1 - now) * noise) / math.sqrt(now)
        expected = math.sqrt(after) * x0 + math.sqrt(1 - after) * noise
        torch.testing.assert_close(chain.update(state, noise, t), expected, rtol=1e-12, atol=1e-12)


def test_it_ends_where_the_noise_points_to() -> None:
    """With the exact noise between the state and a point, every state lies on the way and the last is the point."""
    chain = _chain()
    point, unit = _normal(3, 4), _normal(3, 4, seed=1)

    def network(state: Tensor, condition: Tensor, t: int) -> tuple[Tensor, Tensor]:
        return (state - chain.schedule.signal_at(t) * point) / chain.schedule.sigma_at(t), condition

    start = chain.schedule.signal_at(29) * point + chain.schedule.sigma_at(29) * unit
    frames = chain.run(network, start, torch.zeros(3, 30, 4)).frames
    for index in range(16):
        t = 14 - index
        expected = chain.schedule.signal_at(t) * point + chain.schedule.sigma_at(t) * unit
        torch.testing.assert_close(frames[:, index], expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(frames[:, -1], point, rtol=1e-10, atol=1e-10)


def test_given_noise_adds_up_in_closed_form() -> None:
    """``x_s / sqrt(abar_s) = x_T / sqrt(abar_T) + sum eps_t (tan_{t-1} - tan_t)``, tan the noise-to-signal ratio."""
    chain = _chain(frames=3, warm_up=2)
    conditions, start = _normal(2, 5, 4), _normal(2, 4, seed=1)

    def network(state: Tensor, condition: Tensor, t: int) -> tuple[Tensor, Tensor]:  # noqa: ARG001
        return condition, condition

    frames = chain.run(network, start, conditions).frames
    ratio = [0.0, *(chain.schedule.sigma_at(t) / chain.schedule.signal_at(t) for t in range(5))]  # of t - 1
    scaled = start / chain.schedule.signal_at(4)
    for step in range(5):
        t = 4 - step
        scaled = scaled + conditions[:, step] * (ratio[t] - ratio[t + 1])
        if step >= 2:
            torch.testing.assert_close(frames[:, step - 2] / chain.schedule.signal_at(t - 1), scaled)


def test_the_last_frame_is_what_the_ddim_sampler_gives() -> None:
    chain = _chain()
    process = Process(chain.schedule, "noise")
    weight = _normal(4, 4) / 2

    def noise_of(state: Tensor, t: float) -> Tensor:
        return torch.tanh(state @ weight) + t / 30

    start = _normal(3, 4, seed=2)
    frames = chain.run(lambda x, c, t: (noise_of(x, t), c), start, torch.zeros(3, 30, 4)).frames
    sampled = ddim(process.denoiser(lambda x, t: noise_of(x, float(t[0]))), process, start, 30)
    torch.testing.assert_close(frames[:, -1], sampled, rtol=1e-10, atol=1e-10)


def test_steps_see_their_own_condition_and_hand_on_the_next() -> None:
    chain = _chain(frames=4, warm_up=3)
    assert (chain.num_steps, chain.warm_up, chain.num_frames) == (7, 3, 4)
    conditions = torch.arange(7.0).reshape(1, 7, 1).expand(2, -1, 3)
    seen = []

    def network(state: Tensor, condition: Tensor, t: int) -> tuple[Tensor, Tensor]:
        seen.append((t, condition[0, 0].item()))
        return torch.zeros_like(state), condition + 100

    result = chain.run(network, torch.ones(2, 3), conditions)
    assert seen == [(6 - k, float(k)) for k in range(7)]
    assert result.frames.shape == (2, 4, 3)
    assert result.next_conditions.shape == (2, 3, 3)
    assert result.next_conditions[0, :, 0].tolist() == [103, 104, 105]


def test_gradients_reach_start_conditions_and_every_step() -> None:
    chain = _chain(frames=3, warm_up=2)
    start, conditions = _normal(1, 4).requires_grad_(), _normal(1, 5, 4, seed=1).requires_grad_()
    frames = chain.run(lambda x, c, t: (torch.tanh(x + c), c), start, conditions).frames  # noqa: ARG005
    frames[:, -1].sum().backward()
    assert start.grad is not None
    assert conditions.grad is not None
    assert bool((start.grad != 0).all())
    assert bool((conditions.grad != 0).all())


def test_lengths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot have 31 frames"):
        FrameChain(frame_schedule(30), 31)
    with pytest.raises(ValueError, match="29 conditions for a chain of 30"):
        _chain().run(lambda x, c, t: (x, c), torch.zeros(1, 2), torch.zeros(1, 29, 2))  # noqa: ARG005
