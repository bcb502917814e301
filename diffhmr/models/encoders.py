"""g(.): what turns the input of an item into one feature vector z."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, TypeAlias

import torch
import torch.nn.functional as functional
import torchvision
from torch import Tensor, nn

from diffhmr.batch import ImageBatch
from diffhmr.body.joints import COCO17_FROM_SPIN49
from diffhmr.errors import UserError
from diffhmr.models.joint_detector import NUM_JOINTS, JointDetector, JointMaps, expected_positions

Backbone = Literal["resnet18", "resnet34", "resnet50"]
Norm = Literal["batch", "frozen"]
Pooling = Literal["average", "joints"]
Encoder: TypeAlias = "ImageEncoder | KeypointEncoder | KeypointMlpEncoder"

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_NUM_KEYPOINTS = 17
_FREQUENCIES = 5
_FIRST_FREQUENCY = math.pi / 2  # a period of 4: truncated people have points far outside [-1, 1]


class Encoding(NamedTuple):
    """What an encoder says of B items.

    Attributes:
        z: ``[B, D]``.
        maps: where the joints seem to be; None without pooling "joints".
    """

    z: Tensor
    maps: JointMaps | None = None

    def float(self) -> Encoding:
        """The same in float32."""
        return Encoding(self.z.float(), None if self.maps is None else self.maps.float())


class ImageEncoder(nn.Module):
    """A torchvision ResNet whose pooled feature is z; normalises the image itself.

    With ``pooling`` "joints" the picture is read in two steps: a detector tells where the joints are
    (:mod:`diffhmr.models.joint_detector`), and its 17 COCO points go through the network of
    :class:`KeypointMlpEncoder`, to which the pooled feature adds what points do not say. A model of keypoints can
    therefore be the start of everything behind the detector.

    Works with either memory format: after ``model.to(memory_format=torch.channels_last)`` the convolutions keep it.

    Args:
        backbone: which ResNet.
        pretrained: start from torchvision's ImageNet weights (``IMAGENET1K_V1``, the ones SPIN starts from).
        norm: ``frozen`` makes BatchNorm a fixed affine map by the statistics that were loaded. Without pretrained
            weights it starts as the identity and only makes sense for a model that continues from a checkpoint.
        pooling: what z is made of.
        width, layers: of the network behind the detector, with pooling "joints".

    Raises:
        UserError: the weights are neither in torchvision's cache nor can be fetched.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        pretrained: bool = False,
        norm: Norm = "batch",
        pooling: Pooling = "average",
        width: int = 512,
        layers: int = 4,
    ) -> None:
        super().__init__()
        norm_layer = torchvision.ops.FrozenBatchNorm2d if norm == "frozen" else nn.BatchNorm2d
        self.resnet = getattr(torchvision.models, backbone)(norm_layer=norm_layer)
        if pretrained:
            self.resnet.load_state_dict(_imagenet_weights(backbone))
        self.dim = int(self.resnet.fc.in_features)
        self.resnet.fc = nn.Identity()
        self.pooling = pooling
        if pooling == "joints":
            self.detector = JointDetector((self.dim // 4, self.dim // 2, self.dim), self.dim)
            self.lifter = KeypointMlpEncoder(width, layers)
            self.appearance = _Appearance(self.dim, width)
            self.dim = width
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).reshape(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).reshape(3, 1, 1), persistent=False)

    def forward(self, batch: ImageBatch) -> Encoding:
        """z of ``batch.image``; average-pooled, 512 numbers for ResNet-18 and -34, 2048 for ResNet-50.

        Raises:
            UserError: the batch has no images.
        """
        if batch.image is None:
            raise UserError("this model looks at images, but the input holds keypoints only: use a keypoint model")
        image = (batch.image - self.mean) / self.std
        if self.pooling == "average":
            return Encoding(self.resnet(image))
        net = self.resnet
        features = net.layer1(net.maxpool(net.relu(net.bn1(net.conv1(image)))))
        maps = []
        for layer in (net.layer2, net.layer3, net.layer4):
            features = layer(features)
            maps.append(features)
        pooled = net.avgpool(features).flatten(1)
        found: JointMaps = self.detector(maps, pooled)
        positions = expected_positions(found.scores)[0]
        seen = found.visible.float().sigmoid().unsqueeze(-1)
        coco = list(COCO17_FROM_SPIN49)
        points = torch.cat([positions, seen], dim=-1)[:, coco]
        extra = self.appearance(pooled, torch.cat([positions, seen], dim=-1))
        return Encoding(self.lifter.lift(points, seen[:, coco], extra), found)


class _Appearance(nn.Module):
    """What the pooled feature and all 49 positions add to the 17 points: little at first."""

    def __init__(self, pooled: int, width: int) -> None:
        super().__init__()
        self.input = nn.Linear(pooled + 3 * NUM_JOINTS, width)
        self.block = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.LayerNorm(width)
        )
        self.output = nn.Linear(width, width)
        with torch.no_grad():
            self.output.weight.mul_(0.1)
            self.output.bias.zero_()

    def forward(self, pooled: Tensor, points: Tensor) -> Tensor:
        """``[B, width]`` of ``pooled [B, C]`` and ``points [B, 49, 3]``."""
        result: Tensor = self.output(self.block(self.input(torch.cat([pooled.float(), points.flatten(1)], dim=-1))))
        return result


class KeypointEncoder(nn.Module):
    """A small pre-LN transformer over the 17 COCO points; a class token becomes z.

    A point's token is a learned vector for the joint plus a projection of its features: x, y, their Fourier features
    and the confidence. An unseen point (confidence 0) has a learned vector in place of the features. The class token
    starts from all coordinates at once, so that relations between points need no attention to be linear in z.

    Args:
        width: of the tokens, a multiple of ``heads``.
        layers: number of transformer blocks.
        heads: of the attention.

    Raises:
        UserError: ``width`` is not a multiple of ``heads``.
    """

    def __init__(self, width: int = 256, layers: int = 4, heads: int = 4) -> None:
        super().__init__()
        if width % heads:
            raise UserError(f"encoder.width ({width}) must be a multiple of encoder.heads ({heads})")
        self.dim = 2 * width
        self.point = nn.Linear(3 + 4 * _FREQUENCIES, width)
        self.joint = nn.Parameter(torch.randn(_NUM_KEYPOINTS, width) * 0.02)
        self.unseen = nn.Parameter(torch.randn(width) * 0.02)
        self.summary = nn.Linear(3 * _NUM_KEYPOINTS, width)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(layers))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, self.dim), nn.GELU())

    def forward(self, batch: ImageBatch) -> Encoding:
        """z ``[B, 2 width]`` of ``batch.keypoints``.

        Raises:
            UserError: the batch has no keypoints.
        """
        keypoints = require_keypoints(batch)
        seen = keypoints[..., 2:] > 0
        # Whatever an unseen point's coordinates are, they say nothing.
        points = torch.where(seen, keypoints, 0)
        tokens = torch.where(seen, self.point(_point_features(points)), self.unseen) + self.joint
        summary = self.summary(points.flatten(1)).unsqueeze(1)
        tokens = torch.cat([summary, tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return Encoding(self.head(tokens[:, 0]))


class KeypointMlpEncoder(nn.Module):
    """A residual MLP over the 17 COCO points together: much cheaper than the transformer, the choice for a CPU.

    The input holds, for every point, the features of :class:`KeypointEncoder` and whether it is seen; the features of
    an unseen point are 0.

    Args:
        width: of z and of the trunk; the blocks are twice as wide inside.
        layers: number of residual blocks.
    """

    def __init__(self, width: int = 768, layers: int = 3) -> None:
        super().__init__()
        self.dim = width
        self.input = nn.Linear(_NUM_KEYPOINTS * (4 + 4 * _FREQUENCIES), width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, batch: ImageBatch) -> Encoding:
        """z ``[B, width]`` of ``batch.keypoints``.

        Raises:
            UserError: the batch has no keypoints.
        """
        keypoints = require_keypoints(batch)
        seen = keypoints[..., 2:] > 0
        # Whatever an unseen point's coordinates are, they say nothing.
        return Encoding(self.lift(torch.where(seen, keypoints, 0), seen.to(keypoints.dtype)))

    def lift(self, points: Tensor, seen: Tensor, extra: Tensor | None = None) -> Tensor:
        """z ``[B, width]`` of ``points [B, 17, 3]``.

        Args:
            points: x, y, confidence.
            seen: ``[B, 17, 1]`` probability that the point is one; a share of its features counts.
            extra: ``[B, width]``, added before the last normalisation.
        """
        hidden: Tensor = self.input(torch.cat([_point_features(points) * seen, seen], dim=-1).flatten(1))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        result: Tensor = self.norm(hidden if extra is None else hidden + extra)
        return result


def require_keypoints(batch: ImageBatch) -> Tensor:
    """The keypoints ``[B, 17, 3]`` of a batch that must have them.

    Raises:
        UserError: the batch has no keypoints.
    """
    if batch.keypoints is None:
        raise UserError("this model looks at keypoints, but the input holds none: give keypoints or an image model")
    return batch.keypoints


class TransformerBlock(nn.Module):
    """Self-attention and a four times wider MLP, both on normalised input and both added to it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        # No bias on the keys: softmax over the keys does not see it, so it would never learn.
        self.query_value = nn.Linear(width, 2 * width)
        self.key = nn.Linear(width, width, bias=False)
        self.attention_out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """``[B, N, width]`` to the same."""
        normed = self.attention_norm(tokens)
        query, value = self.query_value(normed).chunk(2, dim=-1)
        query, key, value = (self._split(part) for part in (query, self.key(normed), value))
        attended = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.attention_out(attended.transpose(1, 2).flatten(2))
        result: Tensor = tokens + self.mlp(tokens)
        return result

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _point_features(points: Tensor) -> Tensor:
    """``[..., 17, 3]`` to x, y, confidence and the sines and cosines of x and y at five octaves."""
    octaves = _FIRST_FREQUENCY * 2.0 ** torch.arange(_FREQUENCIES, device=points.device)
    angle = (points[..., :2].unsqueeze(-1) * octaves).flatten(-2)
    return torch.cat([points, angle.sin(), angle.cos()], dim=-1)


def _imagenet_weights(backbone: Backbone) -> dict[str, Tensor]:
    weights = torchvision.models.get_model_weights(backbone).IMAGENET1K_V1
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        name = weights.url.rsplit("/", 1)[-1]
        raise UserError(
            f"cannot fetch the ImageNet weights of {backbone} ({error}): put {weights.url} into "
            f"{torch.hub.get_dir()}/checkpoints/{name}, or set model.encoder.weights=none"
        ) from error
    return state
