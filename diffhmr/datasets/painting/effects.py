"""What a camera and a file format do to a picture ``[3, H, W]`` with values in [0, 1].

Every function works on one picture: the result cannot depend on what else is in the batch.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from diffhmr.datasets.painting.dice import Dice
from diffhmr.datasets.painting.textures import TextureBank

CAMERA_NUMBERS = 40

_REFERENCE_SIZE = 128

# Quantisation of luma and chroma at quality 50, ISO/IEC 10918-1 (JPEG), Annex K.1.
_LUMA = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
    (99, 99, 99, 99, 99, 99, 99, 99),
)


def photograph(image: Tensor, dice: Dice, bank: TextureBank) -> Tensor:
    """Take ``image`` with a random camera: blur, resolution, exposure, colour, noise, compression, 8 bits.

    Blur and detail are those of a picture of 128 pixels, enlarged or reduced with it: a small picture is as sharp as a
    large one that was scaled down, and not harder to read.
    """
    scale = image.shape[-1] / _REFERENCE_SIZE
    if dice.chance(0.85):
        image = gaussian_blur(image, scale * dice.spread(0.35, 1.3))
    else:
        image = motion_blur(image, scale * dice.uniform(1.5, 6.0), dice.uniform(0, math.pi))
    if dice.chance(0.3):
        factor = dice.uniform(0.35, 0.9) / scale
        image = coarsen(image, factor) if factor < 1 else image
    image = expose(image, dice)
    if dice.chance(0.8):
        image = image + min(1.0, scale) * dice.spread(0.003, 0.045) * bank.noise(dice, *image.shape)
    image = image.clamp(0, 1)
    if dice.chance(0.5):
        image = jpeg(image, 100 - min(1.0, scale) * (100 - dice.uniform(15, 92)))
    return (image * 255).round() / 255


def expose(image: Tensor, dice: Dice) -> Tensor:
    """Exposure that half corrects for dark and bright scenes, then random brightness, white balance and contrast."""
    image = image * (0.42 / image.mean().clamp_min(0.05)).sqrt()
    gain = dice.spread(0.7, 1.35)
    balance = [gain * dice.uniform(0.88, 1.12) for _ in range(3)]
    contrast, pivot = dice.spread(0.75, 1.25), dice.uniform(0.35, 0.6)
    scale = image.new_tensor(balance)[:, None, None] * contrast
    image = image * scale + pivot * (1 - contrast)
    if dice.chance(0.06):
        image = (0.299 * image[0] + 0.587 * image[1] + 0.114 * image[2]).expand_as(image)
    return image


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Blur by a Gaussian of ``sigma`` pixels, cut off at 2.5 sigma; the border repeats the outermost pixels."""
    radius = max(1, math.ceil(2.5 * sigma))
    weight = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(radius + 1)]
    total = weight[0] + 2 * sum(weight[1:])
    for axis in (-1, -2):
        size = image.shape[axis]
        padding = [radius, radius, 0, 0] if axis == -1 else [0, 0, radius, radius]
        padded = functional.pad(image[None], padding, mode="replicate")[0]
        image = padded.narrow(axis, radius, size) * (weight[0] / total)
        for k in range(1, radius + 1):
            pair = padded.narrow(axis, radius - k, size) + padded.narrow(axis, radius + k, size)
            image = image + pair * (weight[k] / total)
    return image


def motion_blur(image: Tensor, length: float, angle: float) -> Tensor:
    """Mean along a straight path of ``length`` pixels in direction ``angle`` (from x towards y)."""
    taps = max(2, math.ceil(length) + 1)
    height, width = image.shape[1:]
    margin = math.ceil(length / 2) + 1
    padded = functional.pad(image[None], [margin] * 4, mode="replicate")[0]
    total = torch.zeros_like(image)
    for k in range(taps):
        at = (k / (taps - 1) - 0.5) * length
        top, left = margin + round(at * math.sin(angle)), margin + round(at * math.cos(angle))
        total = total + padded[:, top : top + height, left : left + width]
    return total / taps


def coarsen(image: Tensor, factor: float) -> Tensor:
    """Reduce the resolution by ``factor`` (< 1) and enlarge again, like a small person cut out of a photograph."""
    size = image.shape[1:]
    small = [max(8, round(side * factor)) for side in size]
    reduced = functional.interpolate(image[None], small, mode="bilinear", align_corners=False, antialias=True)
    return functional.interpolate(reduced, size, mode="bilinear", align_corners=False)[0]


def jpeg(image: Tensor, quality: float) -> Tensor:
    """The loss of JPEG compression: quantised 8 x 8 cosine transforms of luma and chroma (not subsampled).

    Args:
        image: ``[3, H, W]`` in [0, 1].
        quality: 1 to 100 on the scale of the Independent JPEG Group.
    """
    height, width = image.shape[1:]
    padded = functional.pad(image[None], [0, -width % 8, 0, -height % 8], mode="replicate")[0]
    transform, to_ycc, from_ycc, tables = _jpeg_constants(image.device)
    scale = 50 / quality if quality < 50 else 2 - quality / 50
    step = (tables * max(scale, 0.01)).round().clamp(1, 255).repeat(1, 1, padded.shape[2] // 8)
    planes = (to_ycc @ (padded.flatten(1) * 255)).view_as(padded)
    planes = torch.cat([planes[:1] - 128, planes[1:]])
    blocks = planes.unflatten(1, (-1, 8))  # [3, rows of blocks, 8, W]
    columns = transform @ blocks
    frequency = (columns.unflatten(3, (-1, 8)) @ transform.T).flatten(3)
    frequency = torch.round(frequency / step[:, None]) * step[:, None]
    columns = (frequency.unflatten(3, (-1, 8)) @ transform).flatten(3)
    planes = (transform.T @ columns).flatten(1, 2)
    planes = torch.cat([planes[:1] + 128, planes[1:]])
    result = (from_ycc @ planes.flatten(1)).view_as(padded) / 255
    return result[:, :height, :width].clamp(0, 1)


@lru_cache(maxsize=8)
def _jpeg_constants(device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Cosine transform ``[8, 8]``, RGB to YCbCr and back ``[3, 3]`` (JFIF 1.02), quantisation ``[3, 8, 8]``."""
    k, n = torch.arange(8.0)[:, None], torch.arange(8.0)
    transform = torch.cos(math.pi * (2 * n + 1) * k / 16) * 0.5
    transform[0] = math.sqrt(1 / 8)
    to_ycc = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
    tables = torch.tensor([_LUMA, _CHROMA, _CHROMA], dtype=torch.float32)
    return transform.to(device), to_ycc.to(device), torch.linalg.inv(to_ycc).to(device), tables.to(device)
