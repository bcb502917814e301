"""A bank of noise pictures from which backgrounds, objects and sensor noise are cut.

The bank is the same in every run; an item chooses where to cut. That is much cheaper than noise made for each image.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from diffhmr.datasets.painting.dice import Dice

_SEED = 20231
# Lowest and highest frequency in cycles per 128 px, and p of the amplitude 1 / frequency^p: from clouds to gravel.
# Photographs have p near 1.
_BANDS = ((0.5, 64, 2.0), (0.5, 64, 1.5), (1, 64, 1.1), (2, 12, 0.5), (5, 30, 0.3), (0.5, 4, 0.5), (12, 64, 0.0))


class TextureBank:
    """Noise maps that repeat seamlessly.

    Attributes:
        maps: ``[K, T, T]`` with zero mean and unit variance, of K kinds from cloudy to grainy.
        grain: ``[L]`` independent standard normal numbers.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        side = 256
        while side < 2 * size:
            side *= 2
        generator = np.random.default_rng(_SEED)
        self.maps = torch.from_numpy(np.stack([_band_noise(generator, side, *band) for band in _BANDS])).to(device)
        self.grain = torch.from_numpy(generator.standard_normal(8 * side * side, dtype=np.float32)).to(device)

    def cut(self, dice: Dice, height: int, width: int) -> Tensor:
        """A piece ``[height, width]`` of a random map, perhaps mirrored or turned; both at most half of T. A view."""
        texture = self.maps[dice.integer(len(self.maps))]
        top = dice.integer(texture.shape[0] - max(height, width) + 1)
        left = dice.integer(texture.shape[1] - max(height, width) + 1)
        if dice.chance(0.5):
            texture = texture.T
        return texture[top : top + height, left : left + width]

    def noise(self, dice: Dice, *shape: int) -> Tensor:
        """Standard normal numbers of ``shape``, a contiguous piece of the grain. A view."""
        count = int(np.prod(shape))
        start = dice.integer(self.grain.numel() - count + 1)
        return self.grain[start : start + count].view(shape)


def _band_noise(generator: np.random.Generator, side: int, low: float, high: float, fall: float) -> np.ndarray:
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]) * 128
    inside = (frequency >= low) & (frequency <= high)
    amplitude = np.where(inside, np.maximum(frequency, low) ** -fall, 0)
    spectrum = np.fft.rfft2(generator.standard_normal((side, side))) * amplitude
    texture = np.fft.irfft2(spectrum, s=(side, side))
    texture -= texture.mean()
    return (texture / texture.std()).astype(np.float32)
