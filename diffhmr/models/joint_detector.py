"""Where the joints are in the picture, which of them are seen, and which bone each place shows. Not in the paper.

Average pooling forgets places, which makes it slow to learn from scratch where limbs are. Here every joint has a map of
scores over the picture, whose softmax gives an expected position (integral regression, Sun et al., ECCV 2018; spatial
softmax, Finn et al., ICRA 2016) that can be supervised directly.

A second head says which bone's surface each place shows. Nothing reads it: where such labels exist, they teach the
features far more per picture than the joints do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from diffhmr.body.joints import SPIN49

NUM_JOINTS = len(SPIN49.joint_names)
NUM_PARTS = 1 + 24
"""Background and SMPL's bones."""

_MAP_CHANNELS = 128


class JointMaps(NamedTuple):
    """What a detector says of B pictures.

    Attributes:
        scores: ``[B, 49, H, W]``, whose softmax over the places says where the joints of SPIN49 are.
        parts: ``[B, 25, H, W]`` logits of background and SMPL's 24 bones in every place.
        visible: ``[B, 49]`` logits of the joints being seen.
    """

    scores: Tensor
    parts: Tensor
    visible: Tensor

    def float(self) -> JointMaps:
        """The same in float32."""
        return JointMaps(*(value.float() for value in self))


class JointDetector(nn.Module):
    """Feature maps of three strides, the finest 8, to maps of stride 4.

    Args:
        channels: of the feature maps, finest first.
        pooled: size of the average-pooled feature.
    """

    def __init__(self, channels: Sequence[int], pooled: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(count, _MAP_CHANNELS, 1) for count in channels)
        self.mix = nn.Conv2d(_MAP_CHANNELS, _MAP_CHANNELS, 3, padding=1)
        # Four neighbouring places per cell: features of stride 8 know their surroundings more finely than that.
        self.score = nn.Conv2d(_MAP_CHANNELS, 4 * NUM_JOINTS, 1)
        self.part = nn.Conv2d(_MAP_CHANNELS, 4 * NUM_PARTS, 1)
        self.visible = nn.Linear(pooled + NUM_JOINTS, NUM_JOINTS)

    def forward(self, maps: Sequence[Tensor], pooled: Tensor) -> JointMaps:
        """The maps of features ``[B, C, H, W]``, finest first, and ``pooled [B, C]``."""
        size = maps[0].shape[-2:]
        merged = sum(
            functional.interpolate(lateral(features), size, mode="nearest")
            for lateral, features in zip(self.lateral, maps, strict=True)
        )
        assert isinstance(merged, Tensor)
        mixed = functional.relu(self.mix(functional.relu(merged)))
        scores = functional.pixel_shuffle(self.score(mixed), 2)
        sharpness = expected_positions(scores)[1]
        visible = self.visible(torch.cat([pooled.float(), sharpness], dim=-1))
        return JointMaps(scores, functional.pixel_shuffle(self.part(mixed), 2), visible)


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
