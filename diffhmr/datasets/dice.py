"""Random choices of one item, drawn one after the other from its counter-based numbers."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from enum import IntEnum
from typing import TypeVar

from diffhmr.random import Seeds, uniforms

Colour = tuple[float, float, float]
_Option = TypeVar("_Option")


class LookStream(IntEnum):
    """Independent streams of numbers that decide what an image looks like."""

    CLOTHES = 1000
    BACKGROUND = 1001
    LIGHT = 1002
    OBJECT = 1003
    CAMERA = 1004


class Dice:
    """A sequence of uniform numbers with convenient ways to use them up.

    Every call takes the next numbers; running out of them is a defect of the caller and raises ``IndexError``.
    """

    def __init__(self, numbers: Sequence[float]) -> None:
        self._numbers = numbers
        self._next = 0

    def unit(self) -> float:
        """Uniform in (0, 1)."""
        value = self._numbers[self._next]
        self._next += 1
        return value

    def uniform(self, low: float, high: float) -> float:
        """Uniform in (low, high)."""
        return low + (high - low) * self.unit()

    def spread(self, low: float, high: float) -> float:
        """Between two positive numbers, uniform in the logarithm."""
        return float(low * (high / low) ** self.unit())

    def integer(self, count: int) -> int:
        """One of 0 .. count - 1."""
        return min(int(self.unit() * count), count - 1)

    def chance(self, probability: float) -> bool:
        """True with ``probability``."""
        return self.unit() < probability

    def pick(self, options: Sequence[_Option]) -> _Option:
        """One of ``options``, all equally likely."""
        return options[self.integer(len(options))]

    def colour(self) -> Colour:
        """Any RGB colour of everyday things: a third are greys, the others more or less saturated."""
        grey, hue = self.chance(0.33), self.unit()
        saturation = self.uniform(0.0, 0.12) if grey else self.uniform(0.15, 0.9)
        return colorsys.hsv_to_rgb(hue, saturation, self.uniform(0.06, 0.97))

    def near(self, colour: Colour, amount: float) -> Colour:
        """A colour up to ``amount`` away per channel."""
        red, green, blue = (min(max(value + self.uniform(-amount, amount), 0.0), 1.0) for value in colour)
        return red, green, blue


def cast(item_seeds: Seeds, stream: LookStream, count: int) -> list[Dice]:
    """One :class:`Dice` with ``count`` numbers for each item."""
    return [Dice(row) for row in uniforms(item_seeds, stream, count).tolist()]
