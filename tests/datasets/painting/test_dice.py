"""Random choices of one item."""

from __future__ import annotations

import numpy as np
import pytest

from diffhmr.datasets.painting.dice import Dice, LookStream, cast


def test_draws_stay_in_their_ranges_and_fill_them() -> None:
    dice = Dice(np.random.default_rng(0).random(20_000).tolist())
    uniform = [dice.uniform(-2, 5) for _ in range(1000)]
    assert -2 < min(uniform) < -1.9 and 4.9 < max(uniform) < 5
    spread = [dice.spread(0.1, 10) for _ in range(1000)]
    assert min(spread) > 0.1 and max(spread) < 10 and 0.7 < np.median(spread) < 1.4
    assert {dice.integer(5) for _ in range(200)} == set(range(5))
    assert {dice.pick("abc") for _ in range(100)} == set("abc")
    assert 0.25 < np.mean([dice.chance(0.3) for _ in range(1000)]) < 0.35
    colours = np.array([dice.colour() for _ in range(500)])
    assert colours.min() >= 0 and colours.max() <= 1 and colours.std(0).min() > 0.2
    near = np.array([dice.near((0.5, 0.02, 0.9), 0.1) for _ in range(200)])
    assert near.min() >= 0 and np.abs(near - [0.5, 0.02, 0.9]).max() <= 0.1


def test_items_and_streams_are_independent_and_repeat() -> None:
    def first(stream: LookStream) -> list[float]:
        return [dice.unit() for dice in cast(np.arange(4), stream, 3)]

    assert first(LookStream.LIGHT) == first(LookStream.LIGHT)
    assert len({*first(LookStream.LIGHT), *first(LookStream.CAMERA)}) == 8


def test_running_out_is_an_error() -> None:
    dice = Dice([0.5])
    dice.unit()
    with pytest.raises(IndexError):
        dice.unit()
