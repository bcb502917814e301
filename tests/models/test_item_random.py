from __future__ import annotations

import math

import pytest
import torch

from diffhmr.models import item_random
from diffhmr.models.item_random import draw_seed, item_keep, item_normals, item_uniforms, step_keys

KEYS = step_keys(torch.arange(4000), 7)


def test_numbers_depend_on_item_step_and_stream_only() -> None:
    seeds = torch.tensor([5, -3, 2**62])
    keys = step_keys(seeds, 1)
    for draw in (item_uniforms, item_normals):
        together = draw(keys, 0, (7,))
        alone = torch.cat([draw(step_keys(seeds[i : i + 1], 1), 0, (7,)) for i in range(3)])
        assert torch.equal(together, alone)
        assert not torch.equal(together, draw(keys, 1, (7,)))
        assert not torch.equal(together, draw(step_keys(seeds, 2), 0, (7,)))
    # A longer draw begins with the shorter one.
    assert torch.equal(item_uniforms(keys, 0, (3,)), item_uniforms(keys, 0, (9,))[:, :3])


def test_the_mixing_function_is_splitmix64() -> None:
    """First outputs of the reference generator from the seed 1234567, whose state grows by the golden ratio."""
    golden = 0x9E3779B97F4A7C15
    states = torch.tensor([item_random._signed(1234567 + step * golden) for step in (1, 2, 3)])
    mixed = [value % 2**64 for value in item_random._mix(states).tolist()]
    assert mixed == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_uniforms_are_uniform_and_never_zero_or_one() -> None:
    values = item_uniforms(KEYS, 3, (50,)).double()
    assert values.min().item() > 0 and values.max().item() < 1
    counts = torch.histc(values, 20, 0, 1) / values.numel()
    assert counts.sub(0.05).abs().max().item() < 0.002
    neighbours = torch.corrcoef(values.T)
    assert (neighbours - torch.eye(50)).abs().max().item() < 0.08


@pytest.mark.parametrize("count", [40, 41])
def test_normals_have_the_moments_of_a_normal(count: int) -> None:
    values = item_normals(KEYS, 3, (count,)).double()
    assert values.shape == (4000, count)
    assert values.mean().item() == pytest.approx(0, abs=0.01)
    assert values.var().item() == pytest.approx(1, abs=0.02)
    assert values.pow(4).mean().item() == pytest.approx(3, abs=0.1)
    assert (values.abs() < 1.96).double().mean().item() == pytest.approx(0.95, abs=0.003)
    assert (torch.cov(values.T) - torch.eye(count)).abs().max().item() < 0.1


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.5, 0.9])
def test_masks_drop_the_share_that_is_asked_for(drop: float) -> None:
    keep = item_keep(KEYS, 4, (3, 11), drop)
    assert keep.shape == (4000, 3, 11)
    assert keep.double().mean().item() == pytest.approx(1 - drop, abs=4 * math.sqrt(0.25 / keep.numel()))
    assert torch.equal(keep[5:6], item_keep(KEYS[5:6], 4, (3, 11), drop))


def test_a_generator_gives_one_seed_after_the_other() -> None:
    first, second = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    seeds = [draw_seed(first), draw_seed(first)]
    assert seeds == [draw_seed(second), draw_seed(second)]
    assert seeds[0] != seeds[1]
