"""Objects between camera and person, and the pixel grid that objects and backgrounds are drawn on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from diffhmr.datasets.painting.dice import Dice
from diffhmr.datasets.painting.textures import TextureBank
from diffhmr.datasets.people import OCCLUDER_NONE, covered

OBJECT_NUMBERS = 40


class PixelGrid:
    """Crop coordinates of the pixel centres of a square picture.

    Attributes:
        x, y: ``[size, size]`` in (-1, 1).
    """

    def __init__(self, size: int, device: torch.device) -> None:
        axis = (torch.arange(size, device=device) + 0.5) * (2 / size) - 1
        self.size = size
        self.x = axis[None].expand(size, size)
        self.y = axis[:, None].expand(size, size)

    def around(self, centre: float, reach: float) -> slice:
        """Rows or columns that may be less than ``reach`` away from the coordinate ``centre``."""
        first = math.floor((centre - reach + 1) * self.size / 2)
        last = math.ceil((centre + reach + 1) * self.size / 2)
        return slice(max(0, min(first, self.size)), max(0, min(last, self.size)))


def draw_object(image: Tensor, occluder: Sequence[float], dice: Dice, grid: PixelGrid, bank: TextureBank) -> Tensor:
    """Draw one of ``People.occluders`` over ``image [3, S, S]`` in place, textured and with some light across it.

    Returns:
        ``[S, S]`` bool, the pixels it covers: those whose centre ``covered`` finds inside it.
    """
    hidden = torch.zeros(image.shape[1:], dtype=torch.bool, device=image.device)
    cx, cy, half_width, half_height, angle, kind = occluder
    if kind == OCCLUDER_NONE:
        return hidden
    reach = math.hypot(half_width, half_height)
    rows, columns = grid.around(cy, reach), grid.around(cx, reach)
    x, y = grid.x[rows, columns], grid.y[rows, columns]
    if x.numel() == 0:
        return hidden
    points = torch.stack([x, y], -1).reshape(1, -1, 2)
    inside = covered(points, image.new_tensor([[occluder]])).view(x.shape)
    ux, uy = math.cos(angle), math.sin(angle)
    along, across = (x - cx) * ux + (y - cy) * uy, (y - cy) * ux - (x - cx) * uy
    texture = bank.cut(dice, *x.shape)
    pattern, frequency = dice.pick(("plain", "stripes", "checks", "mottled")), dice.spread(8, 60)
    if pattern == "plain":
        blend = torch.zeros_like(along)
    elif pattern == "stripes":
        blend = (torch.sin(frequency * across) > 0).to(along.dtype)
    elif pattern == "checks":
        blend = (torch.sin(frequency * along) * torch.sin(frequency * across) > 0).to(along.dtype)
    else:
        blend = (0.5 + 0.4 * texture).clamp(0, 1)
    low, high = (image.new_tensor(colour)[:, None, None] for colour in (dice.colour(), dice.colour()))
    fall = dice.uniform(-0.3, 0.3) / max(half_width, half_height)
    brightness = 1 + fall * along + dice.uniform(0.0, 0.15) * texture
    area = image[:, rows, columns]
    area.copy_(torch.where(inside, (low + blend * (high - low)) * brightness, area))
    hidden[rows, columns] = inside
    return hidden
