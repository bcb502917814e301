"""What the deterministic baseline and the diffusion model share: encoder, regressor, statistics and SPIN's losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from diffhmr.batch import ImageBatch, Targets
from diffhmr.body.codec import StateCodec
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.geometry.rotation import mean_rotation
from diffhmr.losses import heatmap_error, part_error, regressor_terms, seen_joints2d, visibility_error
from diffhmr.models.encoders import Encoder, Encoding
from diffhmr.models.item_random import draw_seed, step_keys
from diffhmr.models.joint_detector import JointMaps
from diffhmr.models.regressor import Regressor


class PointEstimator(nn.Module):
    """An encoder and a regressor, with the statistics of the data and the losses on the point estimate.

    The body is attached for the losses on joints; it has no weights and is not part of the state dict.

    Args:
        encoder: gives z.
        regressor: from z to one estimate.
        codec: the z-scored state; its statistics travel with the weights.
        body: gives joints for the losses.
        active_terms: names of the loss terms that :meth:`loss` computes.

    Attributes:
        encoder_autocast: dtype in which the encoder may compute, or None. Everything after z is float32.
    """

    encoder_autocast: torch.dtype | None = None

    def __init__(
        self,
        encoder: Encoder,
        regressor: Regressor,
        codec: StateCodec,
        body: BodyModel,
        active_terms: frozenset[str],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.regressor = regressor
        self.codec = codec
        self.body = body
        self.active_terms = active_terms

    def set_statistics(self, params: SmplParams, camera: Tensor) -> None:
        """Take mean and spread of the data from a sample of it; called once, before the first training step.

        Args:
            params: of N people, ``[N]``.
            camera: ``[N, 3]``.
        """
        self.codec.fit(params, camera)
        self.regressor.set_mean(mean_rotation(params.rotations), params.betas.mean(0), camera.mean(0))

    def encode(self, batch: ImageBatch) -> Tensor:
        """z ``[B, C]`` float32. The only part that runs in ``encoder_autocast``, if that is set."""
        return self._encode(batch).z

    def _encode(self, batch: ImageBatch) -> Encoding:
        """z, and the maps of an encoder that has them; all float32."""
        dtype = self.encoder_autocast
        with torch.autocast(batch.device.type, dtype=dtype, enabled=dtype is not None):
            encoding: Encoding = self.encoder(batch)
        return encoding.float()

    def loss(self, batch: ImageBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Unweighted terms, named as the fields of ``LossConfig``: each the mean over all items of the batch.

        Args:
            batch: with targets.
            generator: gives the seed of the step. With ``batch.item_seed`` that decides every random number, so that
                an item's share of the loss does not depend on the others (but for BatchNorm, which sees the batch).

        Raises:
            ValueError: the batch has no targets.
        """
        return {name: values.mean() for name, values in self.item_losses(batch, generator).items()}

    def item_losses(self, batch: ImageBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """The terms of :meth:`loss` per item, ``[B]`` each."""
        targets = require_targets(batch)
        encoding = self._encode(batch)
        with without_autocast(encoding.z):
            keys = step_keys(batch.item_seed.to(encoding.z.device), draw_seed(generator))
            return self._point_terms(encoding, keys, targets)

    def _point_terms(self, encoding: Encoding, keys: Tensor, targets: Targets) -> dict[str, Tensor]:
        estimate = self.regressor(encoding.z, keys)
        terms = regressor_terms(
            estimate.params, estimate.camera, targets, self.body, self.active_terms, self.regressor.frame
        )
        if encoding.maps is not None:
            terms |= map_terms(encoding.maps, targets, self.active_terms)
        return terms


def map_terms(maps: JointMaps, targets: Targets, active: frozenset[str]) -> dict[str, Tensor]:
    """The terms on the maps of a detector, ``[B]`` each, of those named in ``active`` whose labels there are."""
    terms = {}
    if "encoder_joints2d" in active:
        terms["encoder_joints2d"] = heatmap_error(maps.scores, seen_joints2d(targets))
    if "encoder_visible" in active:
        terms["encoder_visible"] = visibility_error(maps.visible, targets.visible, targets.joints2d[..., 2] > 0)
    if "encoder_parts" in active and targets.part is not None:
        terms["encoder_parts"] = part_error(maps.parts, targets.part)
    return terms


def require_targets(batch: ImageBatch) -> Targets:
    """The targets of a batch that must have them."""
    if batch.targets is None:
        raise ValueError("a loss needs a batch with targets")
    return batch.targets


def without_autocast(like: Tensor) -> torch.autocast:
    """Context in which everything on the device of ``like`` runs in float32."""
    return torch.autocast(like.device.type, enabled=False)
