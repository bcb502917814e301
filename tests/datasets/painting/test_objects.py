"""Objects in front of people cover exactly the pixels they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from diffhmr.datasets.painting.dice import LookStream, cast
from diffhmr.datasets.painting.objects import OBJECT_NUMBERS, PixelGrid, draw_object
from diffhmr.datasets.painting.textures import TextureBank
from diffhmr.datasets.people import covered

SIZE = 48


@pytest.mark.parametrize(
    "occluder",
    [
        (0.1, -0.2, 0.3, 0.15, 0.7, 1.0),
        (-0.5, 0.4, 0.2, 0.5, 2.0, 2.0),
        (0.0, 1.6, 1.5, 1.0, 0.05, 1.0),
        (3.0, 3.0, 0.2, 0.2, 0.0, 1.0),
        (0.0, 0.0, 0.3, 0.3, 0.0, 0.0),
    ],
)
def test_object_and_its_mask(occluder: tuple[float, ...]) -> None:
    grid = PixelGrid(SIZE, torch.device("cpu"))
    bank = TextureBank(SIZE, torch.device("cpu"))
    points = torch.stack([grid.x, grid.y], -1).reshape(1, -1, 2)
    expected = covered(points, torch.tensor([[occluder]])).view(SIZE, SIZE)
    for dice in cast(np.arange(12), LookStream.OBJECT, OBJECT_NUMBERS):
        image = torch.full((3, SIZE, SIZE), 7.0)
        hidden = draw_object(image, occluder, dice, grid, bank)
        assert torch.equal(hidden, expected)
        assert torch.equal((image != 7).any(0), expected)
    area = 4 if occluder[5] == 1 else torch.pi
    if max(abs(value) for value in occluder[:2]) < 1 and occluder[5]:
        share = area * occluder[2] * occluder[3] / 4
        assert float(hidden.float().mean()) == pytest.approx(share, rel=0.1)


def test_the_grid_is_that_of_pixel_centres() -> None:
    grid = PixelGrid(4, torch.device("cpu"))
    assert torch.allclose(grid.x[0], torch.tensor([-0.75, -0.25, 0.25, 0.75]))
    assert torch.equal(grid.y, grid.x.T)
    assert grid.around(0.0, 0.3) == slice(1, 3) and grid.around(5.0, 0.1) == slice(4, 4)
    assert grid.around(-5.0, 0.1) == slice(0, 0)
