"""Pooling that keeps where things are: expected joint positions from the feature maps. Not in the paper.

Average pooling forgets places, which makes it slow to learn from scratch where limbs are. Here every joint has a map of
scores over the picture, whose softmax gives an expected position (integral regression, Sun et al., ECCV 2018; spatial
softmax, Finn et al., ICRA 2016) that can be supervised directly. z is still one vector.

A second head says which bone's surface each place shows. z does not see it: where such labels exist, they teach the
features far more per picture than the joints do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from diffhmr.body.joints import SPIN49

NUM_JOINTS = len(SPIN49.joint_names)
NUM_PARTS = 1 + 24
"""Background and SMPL's bones."""

_MAP_CHANNELS = 128
_NECK_BLOCKS = 2


class JointPooling(nn.Module):
    """Feature maps of three strides to z, which ends with the expected positions of the joints of SPIN49.

    Args:
        channels: of the maps, finest first.
        pooled: size of the average-pooled feature.
        width: of the part of z that a residual MLP makes of the pooled feature, the positions and their scores.
    """

    def __init__(self, channels: Sequence[int], pooled: int, width: int = 512) -> None:
        super().__init__()
        self.dim = width + 2 * NUM_JOINTS
        self.lateral = nn.ModuleList(nn.Conv2d(count, _MAP_CHANNELS, 1) for count in channels)
        self.mix = nn.Conv2d(_MAP_CHANNELS, _MAP_CHANNELS, 3, padding=1)
        # Four neighbouring places per cell: features of stride 8 know their surroundings more finely than that.
        self.score = nn.Conv2d(_MAP_CHANNELS, 4 * NUM_JOINTS, 1)
        self.part = nn.Conv2d(_MAP_CHANNELS, 4 * NUM_PARTS, 1)
        self.input = nn.Linear(pooled + 3 * NUM_JOINTS, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
            for _ in range(_NECK_BLOCKS)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, maps: Sequence[Tensor], pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z ``[B, dim]``, the scores ``[B, 49, 2H, 2W]`` of the joints and those of the parts ``[B, 25, 2H, 2W]``.

        Args:
            maps: ``[B, C, H, W]``, finest first.
            pooled: ``[B, pooled]``.
        """
        size = maps[0].shape[-2:]
        merged = sum(
            functional.interpolate(lateral(features), size, mode="nearest")
            for lateral, features in zip(self.lateral, maps, strict=True)
        )
        assert isinstance(merged, Tensor)
        mixed = functional.relu(self.mix(functional.relu(merged)))
        scores = functional.pixel_shuffle(self.score(mixed), 2)
        positions, peaks = expected_positions(scores)
        hidden: Tensor = self.input(torch.cat([pooled.float(), positions.flatten(1), peaks], dim=-1))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        z = torch.cat([self.norm(hidden).float(), positions.flatten(1)], dim=-1)
        return z, scores, functional.pixel_shuffle(self.part(mixed), 2)


def expected_positions(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Mean position ``[B, J, 2]`` under the softmax of ``scores [B, J, H, W]``, and its largest share ``[B, J]``.

    Positions are x, y in [-1, 1] from edge to edge, so that the centre of the first of W cells is at 1/W - 1. Float32.
    """
    height, width = scores.shape[-2:]
    shares = scores.float().flatten(2).softmax(-1)
    x = (torch.arange(width, device=scores.device) + 0.5) * (2 / width) - 1
    y = (torch.arange(height, device=scores.device) + 0.5) * (2 / height) - 1
    grid = torch.stack([x.expand(height, width), y.unsqueeze(1).expand(height, width)], dim=-1)
    return shares @ grid.flatten(0, 1), shares.amax(-1)
