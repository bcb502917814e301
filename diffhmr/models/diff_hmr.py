"""Diff-HMR (Cho and Kim, ICCV 2023 workshops): a diffusion model over body parameters given one image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffhmr.batch import ImageBatch, Prediction, Targets
from diffhmr.body.joints import COCO17
from diffhmr.body.params import SmplParams
from diffhmr.config import SamplerConfig
from diffhmr.diffusion import sampling
from diffhmr.diffusion.guidance import proximal
from diffhmr.diffusion.noise import SampleNoise, sample_seed
from diffhmr.diffusion.process import Denoiser, Process, Weighting
from diffhmr.errors import UserError
from diffhmr.losses import state_error, x0_terms
from diffhmr.models.item_random import draw_seed, item_keep, item_normals, item_uniforms, step_keys
from diffhmr.models.keypoint_guidance import KeypointGuidance
from diffhmr.models.mlp_denoiser import MlpDenoiser
from diffhmr.models.point_estimator import PointEstimator, require_targets, without_autocast
from diffhmr.models.precondition import Reference, SpreadHead, denoise_around, signal_sigma
from diffhmr.models.regressor import Estimate
from diffhmr.models.unet1d import UnetDenoiser

MAX_SAMPLES_AT_ONCE = 4096
"""Hypotheses of all items together that go through the denoiser at once; more are done in turns."""

_TIME_STREAM, _NOISE_STREAM, _NULL_STREAM = 1, 2, 3


@dataclass(frozen=True)
class DiffusionOptions:
    """How the denoiser is trained and conditioned: fields of ``DiffusionConfig`` and ``DenoiserConfig``."""

    loss_weight: Weighting = "uniform"
    draws_per_item: int = 1
    condition_dropout: float = 0.0
    condition_on_estimate: bool = True


@dataclass(frozen=True)
class Condition:
    """What the denoiser knows of each item, computed once for all its samples and steps.

    Attributes:
        embedding: ``[B, K]`` from the denoiser's ``condition``.
        reference: the Gaussian around the point estimate, or None when the estimate is no condition.
        estimate: the point estimate of the B items; gives shape and camera when they are not in the state.
    """

    embedding: Tensor
    reference: Reference | None
    estimate: Estimate

    def items(self, index: slice) -> Condition:
        """The condition of some of the items."""
        reference = self.reference
        if reference is not None:
            reference = Reference(reference.mean[index], reference.spread[index])
        estimate = Estimate(
            self.estimate.rot6d[index], self.estimate.params.map(lambda v: v[index]), self.estimate.camera[index]
        )
        return Condition(self.embedding[index], reference, estimate)


class DiffHMR(PointEstimator):
    """Encoder, iterative regressor and a denoiser of the z-scored state that is conditioned on z and t.

    With ``condition_on_estimate`` the denoiser also knows the regressor's estimate, encoded like the state, and works
    relative to it (:mod:`diffhmr.models.precondition`). The estimate is taken without dropout and without gradient:
    the denoiser then sees in training what it will see in use, the regressor stays the point estimate that its own
    losses ask for, and the encoder still learns from the diffusion loss through z.

    With ``condition_dropout`` that share of the items is trained without z (a learned vector in its place) and without
    estimate, so that the network also knows the distribution of bodies before an image is seen (Ho and Salimans 2022).

    Args:
        base: encoder, regressor, codec, body and active loss terms; its parts are taken over.
        denoiser: f_omega; its ``condition_dim`` is that of z, plus that of the state with ``condition_on_estimate``.
        process: schedule and prediction target.
        options: see ``DiffusionOptions``.
    """

    state_limit: Tensor

    def __init__(
        self, base: PointEstimator, denoiser: MlpDenoiser | UnetDenoiser, process: Process, options: DiffusionOptions
    ) -> None:
        super().__init__(base.encoder, base.regressor, base.codec, base.body, base.active_terms)
        self.denoiser = denoiser
        self.process = process
        self.options = options
        z_dim, state_dim = self.encoder.dim, self.codec.dim
        self.z_norm = nn.LayerNorm(z_dim)
        self.null_z = nn.Parameter(torch.randn(z_dim) * 0.02) if options.condition_dropout > 0 else None
        self.spread = SpreadHead(z_dim, state_dim) if options.condition_on_estimate else None
        # Range of the data. The estimate is clipped to it, and x0 where it follows from a predicted noise, which at
        # almost no signal magnifies every error.
        self.register_buffer("state_limit", torch.full((state_dim,), 10.0))

    def set_statistics(self, params: SmplParams, camera: Tensor) -> None:
        """See ``PointEstimator``; also notes the range of the state."""
        super().set_statistics(params, camera)
        self.state_limit.copy_(self.codec.encode(params, camera).abs().amax(0))

    def item_losses(self, batch: ImageBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """The terms of :meth:`loss` per item, ``[B]`` each; ``draws_per_item`` times and noises share one z."""
        targets = require_targets(batch)
        encoding = self._encode(batch)
        z = encoding.z
        with without_autocast(z):
            keys = step_keys(batch.item_seed.to(z.device), draw_seed(generator))
            terms = self._point_terms(encoding, keys, targets)
            if self.active_terms & {"diffusion", "x0_joints3d", "x0_joints2d"}:
                terms |= self._diffusion_terms(z, keys, targets)
            return terms

    @torch.no_grad()
    def sample(
        self,
        batch: ImageBatch,
        num_samples: int,
        sampler: SamplerConfig,
        seed: int,
        guidance: KeypointGuidance | None = None,
        condition_scale: float = 1.0,
        max_at_once: int = MAX_SAMPLES_AT_ONCE,
    ) -> Prediction:
        """Draw hypotheses; number 0 starts from zero noise and is the single answer.

        Hypothesis k of an item depends on ``seed``, ``batch.item_seed`` and k only, not on the other items or on
        ``num_samples`` (up to rounding).

        Args:
            batch: B items.
            num_samples: S hypotheses for each.
            sampler: how noise becomes a hypothesis.
            seed: of the noise.
            guidance: pull the hypotheses to these keypoints.
            condition_scale: w of classifier-free guidance, ``x0 = x0_null + w (x0_z - x0_null)``: 1 samples the model,
                0 ignores the image, more than 1 sharpens at the cost of calibration. Others than 1 need a model that
                was trained with ``condition_dropout``.
            max_at_once: bound on the samples in one call of the denoiser.

        Raises:
            UserError: an argument does not fit the model.
        """
        self._check(num_samples, sampler, condition_scale)
        z = self.encode(batch)
        with without_autocast(z):
            condition = self._condition(z, self.regressor(z), None)
            null = None
            if condition_scale != 1:
                nothing = torch.ones(len(z), dtype=torch.bool, device=z.device)
                null = self._condition(z, condition.estimate, nothing)
            item_seeds = batch.item_seed.tolist()
            states = torch.empty(len(z), num_samples, self.codec.dim, device=z.device)
            at_once = min(num_samples, max_at_once)
            for items in _slices(len(z), max_at_once // at_once):
                null_part = None if null is None else null.items(items)
                denoise = self._denoiser(condition.items(items), null_part, condition_scale)
                if guidance is not None:
                    denoise = self._guided(denoise, guidance.items(items), condition.items(items))
                for hypotheses in _slices(num_samples, at_once):
                    numbers = range(num_samples)[hypotheses]
                    seeds = [sample_seed(seed, item, k) for item in item_seeds[items] for k in numbers]
                    noise = SampleNoise(seeds, [k == 0 for _ in item_seeds[items] for k in numbers])
                    end = self._run_chain(denoise, noise, sampler, z.device)
                    states[items, hypotheses] = end.unflatten(0, (-1, len(numbers)))
            return Prediction(*self._decode(states, condition.estimate))

    def _run_chain(self, denoise: Denoiser, noise: SampleNoise, sampler: SamplerConfig, device: torch.device) -> Tensor:
        start = noise.draw((self.codec.dim,), device)
        return sampling.sample(sampler.name, denoise, self.process, start, sampler.steps, noise, eta=sampler.eta)

    def _check(self, num_samples: int, sampler: SamplerConfig, condition_scale: float) -> None:
        if num_samples < 1:
            raise UserError(f"the number of samples must be at least 1, got {num_samples}")
        if sampler.steps > self.process.num_steps:
            raise UserError(
                f"{sampler.steps} sampling steps, but the model has {self.process.num_steps}: ask for fewer steps"
            )
        if sampler.eta != 0 and sampler.name != "ddim":
            raise UserError(f"sampler.eta = {sampler.eta} belongs to ddim: set it to 0 for {sampler.name}")
        if condition_scale != 1 and self.null_z is None:
            raise UserError("condition_scale needs a model that was trained with model.denoiser.condition_dropout > 0")

    def _condition(self, z: Tensor, estimate: Estimate, dropped: Tensor | None) -> Condition:
        """What the denoiser is told: ``z [B, C]`` and the estimate, but of the items where ``dropped [B]`` nothing."""
        features = self.z_norm(z)
        if dropped is not None:
            assert self.null_z is not None
            features = torch.where(dropped.unsqueeze(-1), self.null_z, features)
        reference = None
        if self.spread is not None:
            mean = self._clip(self.codec.encode(estimate.params, estimate.camera))
            spread = self.spread(self.z_norm(z))
            if dropped is not None:
                mean = torch.where(dropped.unsqueeze(-1), 0, mean)
                spread = torch.where(dropped.unsqueeze(-1), 1, spread)
            reference = Reference(mean, spread)
            features = torch.cat([features, mean], dim=-1)
        return Condition(self.denoiser.condition(features), reference, estimate)

    def _clip(self, state: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(state, -self.state_limit), self.state_limit)

    def _denoise(self, x_t: Tensor, t: Tensor, condition: Condition) -> tuple[Tensor, Tensor]:
        """Estimate of the clean state and of the prediction target, ``[B, S, D]`` each, of ``x_t [B, S, D]``."""

        def network(x: Tensor, at: Tensor) -> Tensor:
            output: Tensor = self.denoiser(x, at, condition.embedding)
            return output

        flat_x, flat_t = x_t.flatten(0, 1), t.expand(x_t.shape[:2]).flatten()
        if condition.reference is None:
            output = network(x_t, t)
            x0 = self.process.to_x0(output.flatten(0, 1), flat_x, flat_t)
            if self.process.target == "noise":
                x0 = self._clip(x0)
            return x0.reshape(x_t.shape), output
        around = denoise_around(network, self.process, x_t, t, condition.reference)
        flat = around.flatten(0, 1)
        target = self.process.training_target(flat, flat_t, self.process.to_noise(flat, flat_x, flat_t))
        return around, target.reshape(x_t.shape)

    def _denoiser(self, condition: Condition, null: Condition | None, condition_scale: float) -> Denoiser:
        """The denoiser of some items as samplers take it: ``(x_t [B S, D], t [B S]) -> x0``, all t the same."""
        items = condition.embedding.shape[0]

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            states = x_t.unflatten(0, (items, -1))
            shared_t = t.unflatten(0, (items, -1))[:, :1]
            x0, _ = self._denoise(states, shared_t, condition)
            if null is not None:
                x0_null, _ = self._denoise(states, shared_t, null)
                x0 = x0_null + condition_scale * (x0 - x0_null)
            return x0.flatten(0, 1)

        return denoise

    def _guided(self, denoise: Denoiser, guidance: KeypointGuidance, condition: Condition) -> Denoiser:
        items = condition.embedding.shape[0]

        def loss(x0: Tensor) -> Tensor:
            params, camera = self._decode(x0.unflatten(0, (items, -1)), condition.estimate)
            return guidance.loss(self.body.joints(params, COCO17), camera).flatten()

        return proximal(denoise, loss, guidance.scale, self.process, guidance.iterations)

    def _decode(self, states: Tensor, estimate: Estimate) -> tuple[SmplParams, Tensor]:
        """Parameters and camera of ``states [B, S, D]``; what is not in the state comes from the estimate."""
        params, camera = self.codec.decode(states)
        lead = states.shape[:2]
        if "shape" not in self.codec.parts:
            betas = estimate.params.betas.unsqueeze(1).expand(*lead, -1)
            params = SmplParams(params.global_orient, params.body_pose, betas)
        if camera is None:
            camera = estimate.camera.unsqueeze(1).expand(*lead, -1)
        return params, camera

    def _diffusion_terms(self, z: Tensor, keys: Tensor, targets: Targets) -> dict[str, Tensor]:
        with torch.no_grad():
            estimate = self.regressor(z)
            x0, valid = self._clean_state(targets)
            t = self._draw_times(keys)
            noise = item_normals(keys, _NOISE_STREAM, (t.shape[1], x0.shape[-1]))
        dropped = None
        if self.null_z is not None:
            dropped = ~item_keep(keys, _NULL_STREAM, (1,), self.options.condition_dropout).squeeze(1)
        x0 = x0.unsqueeze(1).expand_as(noise)
        flat_x0, flat_t, flat_noise = x0.flatten(0, 1), t.flatten(), noise.flatten(0, 1)
        x_t = self.process.add_noise(flat_x0, flat_t, flat_noise).reshape(x0.shape)
        wanted = self.process.training_target(flat_x0, flat_t, flat_noise).reshape(x0.shape)
        pred_x0, pred = self._denoise(x_t, t, self._condition(z, estimate, dropped))
        terms = {}
        if "diffusion" in self.active_terms:
            weight = self.process.loss_weight(flat_t, self.options.loss_weight).reshape(t.shape)
            terms["diffusion"] = (weight * state_error(pred, wanted, valid.unsqueeze(1))).mean(1)
        if self.active_terms & {"x0_joints3d", "x0_joints2d"}:
            params, camera = self._decode(pred_x0, estimate)
            alpha_bar = signal_sigma(self.process, x_t, t)[0].squeeze(-1).square()
            geometry = x0_terms(params, camera, targets, self.body, self.active_terms)
            terms |= {name: (alpha_bar * values).mean(1) for name, values in geometry.items()}
        return terms

    def _clean_state(self, targets: Targets) -> tuple[Tensor, Tensor]:
        """The state ``[B, D]`` and which of its entries are labelled; the others are 0, the mean of the data."""
        state = self.codec.encode(targets.params, targets.camera)
        valid = targets.has_params.unsqueeze(-1).expand_as(state)
        if "camera" in self.codec.parts:
            valid = torch.cat([valid[:, :-3], targets.has_camera.unsqueeze(-1).expand(-1, 3)], dim=-1)
        return torch.where(valid, state, 0), valid

    def _draw_times(self, keys: Tensor) -> Tensor:
        """``[B, R]`` diffusion indices: each uniform, those of an item evenly spread (Kingma et al. 2021, I.1)."""
        draws = self.options.draws_per_item
        spread = torch.arange(draws, device=keys.device) / draws
        fraction = (item_uniforms(keys, _TIME_STREAM, (1,)) + spread) % 1.0
        total = self.process.num_steps
        return (fraction * total).long().clamp(max=total - 1)


def _slices(length: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]
