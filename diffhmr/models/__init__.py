"""The networks, and the one place that builds them from a configuration."""

from __future__ import annotations

from typing import TypeAlias

from diffhmr.body.codec import StateCodec
from diffhmr.body.model import BodyModel
from diffhmr.config import DiffusionConfig, EncoderConfig, LossConfig, ModelConfig
from diffhmr.diffusion.process import Process
from diffhmr.diffusion.schedule import cosine_schedule, linear_schedule
from diffhmr.models.diff_hmr import DiffHMR, DiffusionOptions
from diffhmr.models.encoders import Encoder, ImageEncoder, KeypointEncoder, KeypointMlpEncoder
from diffhmr.models.mlp_denoiser import MlpDenoiser
from diffhmr.models.regressor import Regressor
from diffhmr.models.spin import SPIN
from diffhmr.models.unet1d import UnetDenoiser

HmrModel: TypeAlias = DiffHMR | SPIN


def build_model(config: ModelConfig, body: BodyModel, loss: LossConfig | None = None) -> HmrModel:
    """The network that ``config`` describes.

    Args:
        config: which network.
        body: for the losses on joints and for guidance.
        loss: terms with a positive weight are computed in training; None means the default weights.

    Raises:
        UserError: the encoder's ImageNet weights cannot be had, or its sizes do not fit each other.
    """
    weights = (loss or LossConfig()).model_dump()
    active = frozenset(name for name, weight in weights.items() if weight > 0)
    encoder = _build_encoder(config.encoder)
    settings = config.regressor
    regressor = Regressor(encoder.dim, settings.width, settings.iterations, settings.dropout, config.rotations)
    base = SPIN(encoder, regressor, StateCodec(config.state, config.rotations), body, active)
    if config.kind == "spin":
        return base
    process = _build_process(config.diffusion)
    options = DiffusionOptions(
        config.diffusion.loss_weight,
        config.diffusion.draws_per_item,
        config.denoiser.condition_dropout,
        config.denoiser.condition_on_estimate,
    )
    return DiffHMR(base, _build_denoiser(config, encoder.dim, base.codec.dim), process, options)


def _build_encoder(config: EncoderConfig) -> Encoder:
    if config.kind == "keypoints" and config.network == "mlp":
        return KeypointMlpEncoder(config.width, config.layers)
    if config.kind == "keypoints":
        return KeypointEncoder(config.width, config.layers, config.heads)
    pretrained = config.weights == "imagenet"
    return ImageEncoder(config.backbone, pretrained, config.norm, config.pooling, config.width, config.layers)


def _build_denoiser(config: ModelConfig, z_dim: int, state_dim: int) -> MlpDenoiser | UnetDenoiser:
    denoiser = config.denoiser
    condition_dim = z_dim + (state_dim if denoiser.condition_on_estimate else 0)
    if denoiser.kind == "unet":
        return UnetDenoiser(state_dim, condition_dim, denoiser.dim, denoiser.mults)
    return MlpDenoiser(state_dim, condition_dim, denoiser.width, denoiser.blocks)


def _build_process(config: DiffusionConfig) -> Process:
    schedule = cosine_schedule(config.steps) if config.schedule == "cosine" else linear_schedule(config.steps)
    return Process(schedule, config.target)
