"""The models of MotionBERT's tasks beside the mesh: lifting keypoints to 3D, and recognising actions.

Zhu et al., "MotionBERT: A Unified Perspective on Learning Human Motion Representations", ICCV 2023, and the official
code. Both take batches whose keypoints are in units of the picture and bring them into the frame of their network.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from diffhmr.body.joints import H36M17
from diffhmr.clip_batch import ActionBatch, LiftingBatch
from diffhmr.config_clips import BackboneConfig, ClipLossConfig, ClipModelConfig
from diffhmr.errors import UserError
from diffhmr.geometry.clip_frame import ClipFrame, normalise_clip
from diffhmr.models.action_views import VIEWS, ViewOptions, framed, moved
from diffhmr.models.clip_windows import WindowOptions, cut_windows, join_windows, window_shares, window_starts
from diffhmr.models.dstformer import DSTformer, DSTformerSize
from diffhmr.models.item_random import draw_seed, step_keys
from diffhmr.models.motion_heads import ActionClassifier, ActionEmbedding, MotionBertAction

TEMPERATURE = 0.1
"""Of the supervised contrastive loss."""

_TINY = 1e-8
_FLIP = list(H36M17.flip)
_FRAMES_AT_ONCE = 4096

Terms = dict[str, Tensor]


class LiftingModel(nn.Module):
    """DSTformer as it is pretrained and as it estimates 3D poses: keypoints of a clip to positions of the joints.

    Positions have x and y of the picture and a z in the same unit. Of what the picture cannot tell, one thing is agreed
    on: with ``root_relative`` every frame is relative to its root, so that where the person moves is left out; without
    it, z counts from the depth of the root in the first frame (of a window), while x and y stay those of the picture.

    Attributes:
        network: the DSTformer, of which every parameter is trained.
        window: how it sees clips.
        root_relative: see above.
        backbone_autocast: data type of the backbone in mixed precision, or None; its head stays in float32.

    Args:
        active: names of the loss terms that are computed.
    """

    deterministic = True

    def __init__(self, network: DSTformer, window: WindowOptions, root_relative: bool, active: frozenset[str]) -> None:
        super().__init__()
        self.network = network
        self.window = window
        self.root_relative = root_relative
        self.backbone_autocast: torch.dtype | None = None
        self._active = active

    def forward(self, x: Tensor) -> Tensor:
        """Positions ``[B, T, 17, 3]`` of the network's input ``x [B, T, 17, 3]``, both in the network's frame."""
        features = _features(self.network, x, self.backbone_autocast)
        positions: Tensor = self.network.head(features)
        if self.root_relative:
            # The root of every frame is known: it is 0.
            positions = torch.cat([torch.zeros_like(positions[..., :1, :]), positions[..., 1:, :]], dim=-2)
        return positions

    def loss(self, batch: LiftingBatch, generator: torch.Generator) -> Terms:
        """Unweighted scalar terms: the means of :meth:`item_losses` over all clips, whether they know depths or not."""
        return {name: values.mean() for name, values in self.item_losses(batch, generator).items()}

    def item_losses(self, batch: LiftingBatch, generator: torch.Generator) -> Terms:  # noqa: ARG002
        """``[B]`` of each active term, in units of the network's frame; nothing in them is random.

        For clips with depths: ``position``, the mean distance of the joints; ``scaled_position``, the same after every
        frame was scaled to fit best; ``position_velocity``, the mean distance of the changes from frame to frame. For
        clips without: ``reprojection``, the distance in x and y times the confidence. A term is 0 for the clips of the
        other kind. A clip longer than a window counts as the mean of its windows.
        """
        starts = window_starts(batch.keypoints.shape[1], self.window.frames, 0)
        parts = (batch.keypoints, batch.positions, batch.weight)
        keypoints, positions, weight = (cut_windows(v, starts, self.window.frames).flatten(0, 1) for v in parts)
        x, frame = _framed(keypoints, self.window.input)
        target = self._wanted(positions, frame)
        estimate = self(x)
        depth = batch.has_depth.to(target)
        terms = {
            "position": (mean_distance, depth),
            "scaled_position": (scaled_distance, depth),
            "position_velocity": (velocity_distance, depth),
        }
        result = {}
        for name, (distance, share) in terms.items():
            if name in self._active:
                result[name] = share * distance(estimate, target).unflatten(0, (-1, len(starts))).mean(1)
        if "reprojection" in self._active:
            if self.root_relative:  # a frame whose root is not seen says nothing about the others
                weight = weight * (weight[..., :1] > 0)
            flat = (weight * _distance(estimate[..., :2], target[..., :2])).mean((-2, -1))
            result["reprojection"] = (1 - depth) * flat.unflatten(0, (-1, len(starts))).mean(1)
        return result

    def _wanted(self, positions: Tensor, frame: ClipFrame) -> Tensor:
        """The target ``[N, W, 17, 3]`` in the frame of the network."""
        origin = torch.cat([frame.centre, torch.zeros_like(frame.centre[..., :1])], dim=-1)
        target = (positions - origin[:, None, None]) / frame.half_side[:, None, None, None]
        if self.root_relative:
            return target - target[..., :1, :]
        return torch.cat([target[..., :2], target[..., 2:] - target[:, :1, :1, 2:]], dim=-1)

    @torch.no_grad()
    def lift(self, keypoints: Tensor, flip: bool = True) -> Tensor:
        """Positions ``[B, L, 17, 3]`` in the unit of ``keypoints [B, L, 17, 3]``, of clips of any length.

        Windows share ``window.overlap`` frames and pass into each other along the smooth ramp of
        :func:`diffhmr.models.clip_windows.window_shares`; without ``root_relative`` each goes on at the depth of the
        one before.

        Args:
            flip: average with the answer to the mirrored keypoints, as MotionBERT is evaluated.
        """
        frames = keypoints.shape[1]
        starts = window_starts(frames, self.window.frames, self.window.overlap)
        windows = cut_windows(keypoints, starts, self.window.frames)
        at_once = max(1, _FRAMES_AT_ONCE // windows.shape[2])
        lifted = torch.cat([self._lift_windows(part, flip) for part in windows.flatten(0, 1).split(at_once)])
        lifted = lifted.unflatten(0, windows.shape[:2])
        if not self.root_relative:
            lifted = _with_depths_joined(lifted, starts)
        shares = window_shares(frames, starts, self.window.frames, self.window.overlap).to(lifted)
        return join_windows(lifted * shares[..., None, None], starts, frames)

    def _lift_windows(self, windows: Tensor, flip: bool) -> Tensor:
        x, frame = _framed(windows, self.window.input)
        positions = self(x)
        if flip:
            positions = (positions + mirrored(self(mirrored(x)))) / 2
        positions = positions * frame.half_side[:, None, None, None]
        if self.root_relative:
            return positions
        return torch.cat([positions[..., :2] + frame.centre[:, None, None], positions[..., 2:]], dim=-1)


class ActionModel(nn.Module):
    """MotionBERT's action recognition: scores of the actions, or a vector that is near to those of the same action.

    In training people are moved at random (:mod:`diffhmr.models.action_views`). With ``input`` person, the square
    around all people of the clip becomes [-1, 1], with a margin, which is random in training.

    Attributes:
        network: backbone and head.
        window: how it sees clips; a clip is one window.
        contrastive: the head gives vectors.
        coco_scores: confidence k of its input is that of COCO's point k, as in the training of the official weights;
            else it is that of the joint k. Whoever makes the input from COCO's points looks here.
        backbone_autocast: data type of the backbone in mixed precision, or None; the head stays in float32.

    Args:
        active: names of the loss terms that are computed.
        views: how clips are moved and framed.
    """

    deterministic = True

    def __init__(
        self,
        network: MotionBertAction,
        window: WindowOptions,
        active: frozenset[str],
        views: ViewOptions = VIEWS,
        coco_scores: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.window = window
        self.views = views
        self.coco_scores = coco_scores
        self.contrastive = isinstance(network.head, ActionEmbedding)
        self.backbone_autocast: torch.dtype | None = None
        self._active = active
        if isinstance(network.head, ActionClassifier):
            # Batch normalisation takes it out again: it would only drift.
            network.head.fc1.bias.requires_grad_(False)

    def forward(self, keypoints: Tensor, keys: Tensor | None = None) -> Tensor:
        """Logits ``[B, classes]`` or vectors of length 1, ``[B, K]``, of ``keypoints [B, M, T, 17, 3]`` of M people.

        Args:
            keys: ``[B]`` int64: a random view and dropout, which follow from them; None for neither.

        Raises:
            UserError: the clips are longer than the window.
        """
        if keypoints.shape[2] > self.window.frames:
            raise UserError(
                f"a clip of {keypoints.shape[2]} frames does not fit this model's window of {self.window.frames}: "
                "set data.frames to at most model.window"
            )
        if keys is not None:
            keypoints = moved(keypoints, keys, self.views)
        if self.window.input == "person":
            keypoints = framed(keypoints, keys, self.views)
        x = _without_unseen(keypoints)
        features = _features(self.network.backbone, x.flatten(0, 1), self.backbone_autocast)
        answer: Tensor = self.network.head(features.unflatten(0, x.shape[:2]), keys)
        return answer

    def loss(self, batch: ActionBatch, generator: torch.Generator) -> Terms:
        """Unweighted scalar terms: the means of :meth:`item_losses`."""
        return {name: values.mean() for name, values in self.item_losses(batch, generator).items()}

    def item_losses(self, batch: ActionBatch, generator: torch.Generator) -> Terms:
        """``[B]`` of ``cross_entropy``, or of ``contrastive``, which is 0 where no other clip is of the same class.

        In training mode batch normalisation couples the clips of a batch; the contrastive loss always does: those of a
        process's share of it, where there are several.
        """
        name = "contrastive" if self.contrastive else "cross_entropy"
        if name not in self._active:
            return {}
        answers = self(batch.keypoints, step_keys(batch.item_seed, draw_seed(generator)))
        if self.contrastive:
            return {name: supervised_contrastive(answers, batch.label, TEMPERATURE)}
        return {name: nn.functional.cross_entropy(answers, batch.label, reduction="none")}

    @torch.no_grad()
    def predict(self, keypoints: Tensor) -> Tensor:
        """What :meth:`forward` gives without anything random; the model is in evaluation mode."""
        return self(keypoints)


def build_lifting_model(config: ClipModelConfig, loss: ClipLossConfig | None = None) -> LiftingModel:
    """The model that ``config`` with the head ``lifting`` describes.

    Args:
        config: of the model.
        loss: terms with a positive weight are computed in training; None means the default weights.

    Raises:
        UserError: the sizes do not fit each other.
    """
    assert config.head == "lifting"
    return LiftingModel(DSTformer(_size(config.backbone)), _window(config), config.root_relative, _active(loss))


def build_action_model(config: ClipModelConfig, loss: ClipLossConfig | None = None) -> ActionModel:
    """The model that ``config`` with the head ``classifier`` or ``embedding`` describes; arguments as above."""
    assert config.head in ("classifier", "embedding")
    size = _size(config.backbone)
    head: ActionClassifier | ActionEmbedding
    if config.head == "classifier":
        head = ActionClassifier(config.classes, size.features, config.dropout)
    else:
        head = ActionEmbedding(size.features, config.embedding, config.dropout)
    return ActionModel(MotionBertAction(DSTformer(size), head), _window(config), _active(loss))


def mirrored(points: Tensor) -> Tensor:
    """What a mirror in the plane x = 0 shows of ``points [..., 17, 3]``: left and right are exchanged."""
    return points[..., _FLIP, :] * points.new_tensor([-1.0, 1.0, 1.0])


def mean_distance(estimate: Tensor, target: Tensor) -> Tensor:
    """MPJPE ``[...]`` of ``[..., T, J, D]``."""
    return _distance(estimate, target).mean((-2, -1))


def scaled_distance(estimate: Tensor, target: Tensor) -> Tensor:
    """MPJPE ``[...]`` after each frame of the estimate ``[..., T, J, D]`` was scaled to fit best (Rhodin et al. 2018).

    The frames are not moved: what fits best keeps the origin.
    """
    product = (estimate * target).sum((-2, -1), keepdim=True)
    square = estimate.square().sum((-2, -1), keepdim=True)
    return mean_distance(product / square.clamp_min(_TINY) * estimate, target)


def velocity_distance(estimate: Tensor, target: Tensor) -> Tensor:
    """Mean distance ``[...]`` of the changes from frame to frame of ``[..., T, J, D]``; 0 of a single frame."""
    if estimate.shape[-3] < 2:
        return (estimate * 0).sum((-3, -2, -1))
    return mean_distance(estimate.diff(dim=-3), target.diff(dim=-3))


def supervised_contrastive(vectors: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """``[N]``: how much less each of ``vectors [N, K]`` of length 1 resembles those of its label than it could.

    Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, equation 2: the mean over the others with the same
    label of ``-log(exp(z_i z_p / t) / sum_(a != i) exp(z_i z_a / t))``; 0 where there is no other.
    """
    similarity = vectors @ vectors.T / temperature
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    same = (labels[:, None] == labels) & ~itself
    log_share = similarity - similarity.masked_fill(itself, -torch.inf).logsumexp(dim=1, keepdim=True)
    total = torch.where(same, log_share, 0.0).sum(1)
    return -total / same.sum(1).clamp_min(1)


def _distance(estimate: Tensor, target: Tensor) -> Tensor:
    return torch.linalg.vector_norm(estimate - target, dim=-1)


def _features(backbone: DSTformer, x: Tensor, dtype: torch.dtype | None) -> Tensor:
    """The representation of ``x`` in float32, computed in ``dtype`` if that is not None."""
    with torch.autocast(x.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        features = backbone.get_representation(x)
    return features.float() if dtype is not None else features


def _framed(keypoints: Tensor, by: Literal["picture", "person"]) -> tuple[Tensor, ClipFrame]:
    """The network's input of windows ``[N, W, 17, 3]``, and what of the picture it is."""
    if by == "person":
        scaled, frame = normalise_clip(keypoints)
        return _without_unseen(scaled), frame
    corner = keypoints.new_zeros(len(keypoints), 2)
    return _without_unseen(keypoints), ClipFrame(corner, torch.ones_like(corner[:, 0]))


def _without_unseen(keypoints: Tensor) -> Tensor:
    """Unseen points are 0 in x, y and confidence, as masked ones are in pretraining."""
    return keypoints * (keypoints[..., 2:] > 0)


def _with_depths_joined(windows: Tensor, starts: list[int]) -> Tensor:
    """Windows ``[B, N, W, 17, 3]`` whose roots have the same depth, on average, where neighbours share frames.

    Neighbours that share none go on at the depth of the last frame.
    """
    parts = [windows[:, 0]]
    for index in range(1, len(starts)):
        shared = starts[index - 1] + windows.shape[2] - starts[index]
        before, after = parts[-1][:, -max(shared, 1) :, 0, 2], windows[:, index, : max(shared, 1), 0, 2]
        shift = (before - after).mean(1)
        xy, z = windows[:, index, ..., :2], windows[:, index, ..., 2:]
        parts.append(torch.cat([xy, z + shift[:, None, None, None]], dim=-1))
    return torch.stack(parts, dim=1)


def _size(config: BackboneConfig) -> DSTformerSize:
    return DSTformerSize(**config.model_dump())


def _window(config: ClipModelConfig) -> WindowOptions:
    return WindowOptions(config.window, config.overlap, config.input)


def _active(loss: ClipLossConfig | None) -> frozenset[str]:
    return frozenset(name for name, weight in (loss or ClipLossConfig()).model_dump().items() if weight > 0)
