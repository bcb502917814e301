"""Random choices of one item, drawn one after the other from its counter-based numbers."""

from __future__ import annotations

import colorsys
from enum import IntEnum

from diffhmr import random
from diffhmr.random import Seeds, uniforms

Colour = tuple[float, float, float]


class LookStream(IntEnum):
    """Independent streams of numbers that decide what an image looks like."""

    CLOTHES = 1000
    BACKGROUND = 1001
    LIGHT = 1002
    OBJECT = 1003
    CAMERA = 1004


class Dice(random.Dice):
    """Random choices that know colours."""

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
