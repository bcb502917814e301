"""What is behind the people: procedural scenes, or crops of pictures from a folder."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from diffhmr.datasets.painting.dice import Colour, Dice
from diffhmr.datasets.painting.objects import PixelGrid
from diffhmr.datasets.painting.textures import TextureBank
from diffhmr.errors import UserError

BACKGROUND_NUMBERS = 400
_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp"))
_MAX_SIDE = 640
_LIMB_COLOURS = ((0.87, 0.67, 0.54), (0.66, 0.46, 0.33), (0.39, 0.26, 0.19), (0.93, 0.76, 0.65))


class PictureFolder:
    """Pictures of a folder and its subfolders as backgrounds; they should show no people.

    Raises:
        UserError: the folder does not exist or holds no pictures; a picture cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UserError(
                f"folder of background pictures not found: {folder}; correct data.backgrounds or leave it out"
            )
        self.files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES)
        if not self.files:
            raise UserError(f"no pictures ({', '.join(sorted(_SUFFIXES))}) in {folder}; correct data.backgrounds")
        self._read = lru_cache(maxsize=256)(_read_picture)

    def paint(self, dice: Dice, size: int, device: torch.device) -> Tensor:
        """A square piece of one of the pictures, mirrored half of the time: ``[3, size, size]``."""
        picture = self._read(self.files[dice.integer(len(self.files))])
        height, width = picture.shape[:2]
        side = max(1, int(min(height, width) * dice.uniform(0.4, 1.0)))
        top, left = dice.integer(height - side + 1), dice.integer(width - side + 1)
        piece = picture[top : top + side, left : left + side]
        piece = cv2.resize(piece, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)
        if dice.chance(0.5):
            piece = piece[:, ::-1]
        planes = np.ascontiguousarray(piece[..., ::-1].transpose(2, 0, 1))
        return torch.from_numpy(planes).to(device).float() / 255


def _read_picture(file: Path) -> np.ndarray:
    picture = cv2.imread(str(file), cv2.IMREAD_COLOR)
    if picture is None:
        raise UserError(f"cannot read the background picture {file}; remove it or replace it")
    scale = _MAX_SIDE / max(picture.shape[:2])
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return picture


class ProceduralScene:
    """Walls, floors, clouds of noise, boxes, lines, and shapes that look like limbs but are none."""

    def __init__(self, bank: TextureBank, grid: PixelGrid) -> None:
        self.bank = bank
        self.grid = grid
        self.size = grid.size

    def paint(self, dice: Dice) -> Tensor:
        """A background ``[3, size, size]``; values may leave [0, 1] a little."""
        image = self._base(dice)
        for _ in range(dice.pick((0, 0, 1, 2, 4, 8))):
            self._box(dice, image)
        for _ in range(dice.pick((0, 0, 1, 3))):
            self._bar(dice, image, dice.colour(), dice.spread(0.01, 0.1), 3.0)
        for _ in range(dice.pick((0, 0, 1, 2, 4))):
            colour = dice.near(dice.pick(_LIMB_COLOURS), 0.08) if dice.chance(0.5) else dice.colour()
            self._bar(dice, image, colour, dice.spread(0.03, 0.12), dice.uniform(0.2, 0.9))
        return image

    def _base(self, dice: Dice) -> Tensor:
        """Wall, or wall and floor, each with a gradient and noise."""
        image = self._surface(dice, self.size)
        if dice.chance(0.55):
            horizon = int(self.size * dice.uniform(0.25, 0.95))
            image[:, horizon:] = self._surface(dice, self.size - horizon)
        return image

    def _surface(self, dice: Dice, height: int) -> Tensor:
        first, second = dice.colour(), dice.colour()
        if dice.chance(0.5):
            second = dice.near(first, 0.2)
        angle = dice.uniform(0, 2 * math.pi)
        blend = 0.5 + 0.5 * (math.cos(angle) * self.grid.x[:height] + math.sin(angle) * self.grid.y[:height])
        strength = dice.pick((0.02, 0.08, 0.15, 0.3, 0.5))
        blend = blend * dice.uniform(0.2, 1.0) + strength * self.bank.cut(dice, height, self.size)
        low, high = (blend.new_tensor(colour)[:, None, None] for colour in (first, second))
        image = low + blend.clamp(-0.3, 1.3) * (high - low)
        return image + dice.uniform(0.0, 0.09) * self.bank.cut(dice, height, self.size)

    def _box(self, dice: Dice, image: Tensor) -> None:
        """An upright rectangle: a window, a door, furniture."""
        top, left = dice.integer(self.size), dice.integer(self.size)
        height, width = (1 + int(self.size * dice.spread(0.04, 0.6)) for _ in range(2))
        area = image[:, top : top + height, left : left + width]
        colour = area.new_tensor(dice.colour())[:, None, None]
        texture = self.bank.cut(dice, area.shape[1], area.shape[2])
        area.copy_(colour + dice.uniform(0.0, 0.12) * texture)

    def _bar(self, dice: Dice, image: Tensor, colour: Colour, radius: float, length: float) -> None:
        """A line or, when it is short and thick, something that could be a limb, rounded and shaded across."""
        cx, cy, angle = dice.uniform(-1, 1), dice.uniform(-1, 1), dice.uniform(0, math.pi)
        ux, uy = math.cos(angle), math.sin(angle)
        reach_x, reach_y = length / 2 * abs(ux) + radius, length / 2 * abs(uy) + radius
        columns, rows = self.grid.around(cx, reach_x), self.grid.around(cy, reach_y)
        area = image[:, rows, columns]
        if area.numel() == 0:
            return
        dx, dy = self.grid.x[rows, columns] - cx, self.grid.y[rows, columns] - cy
        along = dx * ux + dy * uy
        beyond = along - along.clamp(-length / 2, length / 2)
        across = dy * ux - dx * uy
        square = (across * across + beyond * beyond) / (radius * radius)
        light = (1 - dice.uniform(0, 0.5) * square).clamp_min(0)
        area.copy_(torch.where(square < 1, area.new_tensor(colour)[:, None, None] * light, area))
