"""Networks of clips as models: what a training, an evaluation and a demo ask of them, whatever is inside.

A network sees windows of a fixed length. A model takes clips of any length: in training they are cut into windows, in
use the windows overlap and are cross-faded on rotations, and a clip has one shape.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn

from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.clip_batch import ClipBatch, ClipPrediction, ClipTargets
from diffhmr.clip_losses import POINT_TERMS, mesh_terms, root_relative_joints
from diffhmr.config import SamplerConfig
from diffhmr.config_clips import ClipLossConfig, ClipModelConfig
from diffhmr.diffusion import sampling
from diffhmr.diffusion.noise import sample_seed
from diffhmr.diffusion.temporal_noise import TrackNoise, WindowNoise
from diffhmr.errors import UserError
from diffhmr.geometry.clip_frame import normalise_clip
from diffhmr.geometry.rotation import mean_rotation
from diffhmr.models.clip_windows import WindowOptions, cut_windows, join_windows, window_shares, window_starts
from diffhmr.models.diffmesh import DiffMesh, DiffMeshEstimate, DiffMeshHead, DiffMeshSize
from diffhmr.models.dstformer import DSTformer, DSTformerSize
from diffhmr.models.item_random import draw_seed, item_normals, item_uniforms, step_keys
from diffhmr.models.motion_diffusion import STATE_DIM, MotionCondition, MotionDiffusion, MotionDiffusionSize
from diffhmr.models.motion_heads import ClipEstimate, MeshHead, MotionBertMesh
from diffhmr.models.motion_refine import DiffMeshRefine, RefineHead, shape_of_clip
from diffhmr.models.point_estimator import without_autocast

MeshNetwork: TypeAlias = MotionBertMesh | DiffMesh | DiffMeshRefine | MotionDiffusion

_TIME_STREAM, _NOISE_STREAM = 120, 121
_FRAMES_AT_ONCE = 4096
"""Frames of all windows and hypotheses together that go through a network at once."""
ANSWER_STEPS = 1
"""Steps to the single answer, in contrast to random hypotheses: from zero noise the first one leads to the mean that
the denoiser learned. On 32 validation clips (MPJPE mm, acceleration error mm/frame^2) 1 step: 84.4 and 2.98, 2 steps:
85.7 and 3.07, 3 steps: 84.7 and 3.20.
"""


class ClipModel(nn.Module):
    """A network that gives SMPL parameters, with the losses on them and sampling for clips of any length.

    Args:
        network: of windows.
        body: gives joints for the losses; it has no weights and is not part of the state dict.
        windows: how the network sees clips.
        active_terms: names of the loss terms that are computed.

    Attributes:
        backbone_autocast: dtype in which the backbone may compute, or None. Everything after it is float32.
    """

    backbone_autocast: torch.dtype | None = None

    def __init__(
        self, network: MeshNetwork, body: BodyModel, windows: WindowOptions, active_terms: frozenset[str]
    ) -> None:
        super().__init__()
        self.network = network
        self.body = body
        self.windows = windows
        self.active_terms = active_terms

    @property
    def deterministic(self) -> bool:
        """The model has one answer only."""
        return not isinstance(self.network, MotionDiffusion)

    @property
    def refines(self) -> bool:
        """The model refines given SMPL parameters: its batches need ``initial``, which other models do not look at."""
        return isinstance(self.network, DiffMeshRefine)

    def set_statistics(self, rotations: Tensor, betas: Tensor) -> None:
        """Take mean and spread of the data from N frames of it; called once, before the first training step.

        Args:
            rotations: ``[N, 24, 3, 3]``, relative to the parents.
            betas: ``[N, 10]``.
        """
        if isinstance(self.network, MotionDiffusion):
            self.network.set_mean(rotations, betas)
        elif not isinstance(self.network, DiffMeshRefine):  # which counts from what it is given
            self.network.head.set_mean(mean_rotation(rotations), betas.mean(0))

    # Training

    def loss(self, batch: ClipBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """Unweighted terms, named as the fields of ``ClipLossConfig``: each the mean over all clips of the batch.

        Raises:
            ValueError: the batch has no targets.
            UserError: it has no parameters to refine, but the model needs them.
        """
        return {name: values.mean() for name, values in self.item_losses(batch, generator).items()}

    def item_losses(self, batch: ClipBatch, generator: torch.Generator) -> dict[str, Tensor]:
        """The terms of :meth:`loss` per clip, ``[B]`` each: means over the windows that the clip is cut into."""
        if batch.targets is None:
            raise ValueError("a loss needs a batch with targets")
        initial = self._initial(batch)
        starts = window_starts(batch.num_frames, self.windows.frames, 0)
        x = self._network_input(cut_windows(batch.keypoints, starts, self.windows.frames).flatten(0, 1))
        targets = _cut_targets(batch.targets, starts, self.windows.frames)
        features = self._features(x)
        keys = step_keys(batch.item_seed.to(x.device), draw_seed(generator))
        # Each window of a clip has random numbers of its own.
        keys = torch.stack([step_keys(keys, number) for number in range(len(starts))], dim=1).flatten()
        given = None if initial is None else _cut_params(initial, starts, self.windows.frames)
        with without_autocast(features):
            terms = self._terms(features, targets, keys, given)
        return {name: values.unflatten(0, (-1, len(starts))).mean(1) for name, values in terms.items()}

    def _terms(
        self, features: Tensor, targets: ClipTargets, keys: Tensor, initial: SmplParams | None
    ) -> dict[str, Tensor]:
        if isinstance(self.network, MotionDiffusion):
            return self._diffusion_terms(self.network, features, targets, keys)
        if isinstance(self.network, MotionBertMesh):
            estimate: ClipEstimate = self.network.head(features, keys)
        elif isinstance(self.network, DiffMeshRefine):
            estimate = self.network.head(features, initial, keys)
        else:
            estimate = self.network.head(features)
        terms = mesh_terms(estimate.params, targets, self.body, self.active_terms)
        if isinstance(estimate, DiffMeshEstimate) and "condition" in self.active_terms:
            difference = estimate.condition - estimate.predicted_condition
            terms["condition"] = torch.linalg.vector_norm(difference, dim=(-2, -1)).mean(1)
        return terms

    def _diffusion_terms(
        self, network: MotionDiffusion, features: Tensor, targets: ClipTargets, keys: Tensor
    ) -> dict[str, Tensor]:
        condition = network.condition(features)
        frames = features.shape[1]
        betas = condition.betas.unsqueeze(1).expand(-1, frames, -1)
        estimate = SmplParams.from_rotations(condition.rotations, betas)
        terms = mesh_terms(estimate, targets, self.body, self.active_terms, network.size.frame)
        on_points = {f"x0_{name}": error for name, error in POINT_TERMS.items() if f"x0_{name}" in self.active_terms}
        if not on_points and "diffusion" not in self.active_terms:
            return terms
        x0 = network.encode(targets.rotations)
        process = network.process
        t = (item_uniforms(keys, _TIME_STREAM, ()) * process.num_steps).long().clamp_max(process.num_steps - 1)
        noise = network.noise.correlate(item_normals(keys, _NOISE_STREAM, network.noise.white_shape(frames, STATE_DIM)))
        x_t = process.add_noise(x0, t, noise)
        pred = network.denoise(x_t.unsqueeze(1), t.unsqueeze(1), condition).squeeze(1)
        if "diffusion" in self.active_terms:
            wanted = process.training_target(x0, t, noise)
            given = process.training_target(pred, t, process.to_noise(pred, x_t, t))
            terms["diffusion"] = (given - wanted).square().mean((-2, -1))
        if on_points:
            signal = process.signal_sigma(t, x_t)[0].flatten().square()
            joints = root_relative_joints(network.decode(pred, betas.detach()), self.body)
            truth = root_relative_joints(targets.params, self.body)
            terms |= {name: signal * error(joints, truth) for name, error in on_points.items()}
        return terms

    # Use

    @torch.no_grad()
    def sample(self, batch: ClipBatch, num_samples: int, sampler: SamplerConfig, seed: int) -> ClipPrediction:
        """Hypotheses for clips of any length; number 0 starts from zero noise and is the single answer.

        Hypothesis k of a clip depends on ``seed``, ``batch.item_seed`` and k only. Its noise is one track through the
        whole clip, so that overlapping windows tell of the same motion.

        Args:
            batch: B clips of T frames.
            num_samples: S hypotheses for each.
            sampler: how noise becomes a hypothesis; not used by deterministic models. To the single answer it takes
                :data:`ANSWER_STEPS` steps at most, unless noise comes on the way (ddpm, eta above 0).
            seed: of the noise.

        Raises:
            UserError: an argument does not fit the model.
        """
        self._check_sampling(batch, num_samples, sampler)
        window, least, initial = self.windows.frames, self._least_frames(), self._initial(batch)
        keypoints = _padded(batch.keypoints, least)
        given = None if initial is None else initial.map(lambda value: _padded(value, least))
        starts = window_starts(keypoints.shape[1], window, self.windows.overlap)
        shares = window_shares(keypoints.shape[1], starts, window, self.windows.overlap).to(keypoints.device)
        clips = [
            self._sample_clip(keypoints[clip], _row(given, clip), starts, shares, num_samples, sampler, (seed, item))
            for clip, item in enumerate(batch.item_seed.tolist())
        ]
        rotations = torch.stack([rotations for rotations, _ in clips])[:, :, : batch.num_frames]
        shapes = torch.stack([shape for _, shape in clips]) if initial is None else shape_of_clip(initial.betas)
        betas = shapes[:, None, None].expand(*rotations.shape[:3], -1)
        return ClipPrediction(SmplParams.from_rotations(rotations, betas), self.deterministic)

    def _check_sampling(self, batch: ClipBatch, num_samples: int, sampler: SamplerConfig) -> None:
        if num_samples < 1:
            raise UserError(f"the number of samples must be at least 1, got {num_samples}")
        if batch.num_frames < 1:
            raise UserError("a clip without frames has no motion")
        if not isinstance(self.network, MotionDiffusion):
            return
        most = self.network.process.num_steps
        if not 1 <= sampler.steps <= most:
            raise UserError(f"{sampler.steps} sampling steps, but the model has {most}: ask for 1 to {most}")
        if sampler.eta != 0 and sampler.name != "ddim":
            raise UserError(f"sampler.eta = {sampler.eta} belongs to ddim: set it to 0 for {sampler.name}")

    def _sample_clip(
        self,
        keypoints: Tensor,
        initial: SmplParams | None,
        starts: list[int],
        shares: Tensor,
        num_samples: int,
        sampler: SamplerConfig,
        seeds: tuple[int, int],
    ) -> tuple[Tensor, Tensor]:
        """Rotations ``[S, T, 24, 3, 3]`` and betas ``[10]`` from ``keypoints [T, 17, 3]`` and ``initial [T]``."""
        frames, window = len(keypoints), shares.shape[1]
        track = None
        if isinstance(self.network, MotionDiffusion):
            hypotheses = [sample_seed(*seeds, k) for k in range(num_samples)]
            zero = [k == 0 for k in range(num_samples)]
            track = TrackNoise(self.network.noise, hypotheses, zero, frames, STATE_DIM)
        distinct = num_samples if track is not None else 1
        blended = keypoints.new_zeros(distinct, frames, 24, 3, 3)
        betas, weights = [], []
        at_once = max(1, _FRAMES_AT_ONCE // (window * distinct))
        for first in range(0, len(starts), at_once):
            part = starts[first : first + at_once]
            cut = cut_windows(keypoints.unsqueeze(0), part, window)[0]
            features = self._features(self._network_input(cut))
            given = None if initial is None else _cut_params(initial.map(lambda value: value[None]), part, window)
            with without_autocast(features):
                rotations, shape = self._windows(features, sampler, track, part, distinct, given)
            faded = rotations * shares[first : first + at_once, :, None, None, None]
            blended += join_windows(faded, part, frames)
            betas.append(shape)
            weights.append(cut[..., 2].sum((-2, -1)) + 1e-6)
        shared = join_windows((shares > 0).float().unsqueeze(0), starts, frames)[0] > 1
        if shared.any():
            blended[:, shared] = mean_rotation(blended[:, shared].unsqueeze(0))
        weight = torch.cat(weights)
        shape = (torch.cat(betas) * (weight / weight.sum()).unsqueeze(-1)).sum(0)
        return blended.expand(num_samples, *blended.shape[1:]), shape

    def _windows(
        self,
        features: Tensor,
        sampler: SamplerConfig,
        track: TrackNoise | None,
        starts: list[int],
        num_samples: int,
        initial: SmplParams | None,
    ) -> tuple[Tensor, Tensor]:
        """Rotations ``[S, N, W, 24, 3, 3]`` and betas ``[N, 10]`` of N windows.

        They follow from ``features [N, W, 17, C]`` and ``initial [N, W]``.
        """
        if not isinstance(self.network, MotionDiffusion):
            given = () if initial is None else (initial,)
            estimate: ClipEstimate = self.network.head(features, *given)
            return estimate.rotations.unsqueeze(0), estimate.betas
        assert track is not None
        condition = self.network.condition(features)
        groups = {sampler.steps: list(range(num_samples))}
        if sampler.name != "ddpm" and sampler.eta == 0 and sampler.steps > ANSWER_STEPS:
            groups = {ANSWER_STEPS: [0], sampler.steps: list(range(1, num_samples))}
        states = [
            self._denoised(condition, track, starts, hypotheses, sampler.model_copy(update={"steps": steps}))
            for steps, hypotheses in groups.items()
            if hypotheses
        ]
        state = torch.cat(states, dim=1)
        betas = condition.betas[:, None, None].expand(*state.shape[:3], -1)
        return self.network.decode(state, betas).rotations.transpose(0, 1), condition.betas

    def _denoised(
        self,
        condition: MotionCondition,
        track: TrackNoise,
        starts: list[int],
        hypotheses: list[int],
        sampler: SamplerConfig,
    ) -> Tensor:
        """States ``[N, S, W, D]`` of the S ``hypotheses`` for N windows, from their noise in ``track``."""
        network = self.network
        assert isinstance(network, MotionDiffusion)
        count, window = condition.mean.shape[:2]
        rows = hypotheses * count
        noise = WindowNoise(track, rows, [start for start in starts for _ in hypotheses], window)

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            states, times = x_t.unflatten(0, (count, -1)), t.unflatten(0, (count, -1))
            return network.denoise(states, times, condition).flatten(0, 1)

        start = noise.draw((window, STATE_DIM), condition.mean.device)
        state = sampling.sample(sampler.name, denoise, network.process, start, sampler.steps, noise, eta=sampler.eta)
        return state.unflatten(0, (count, len(hypotheses)))

    def _features(self, x: Tensor) -> Tensor:
        """``[N, W, 17, C]`` float32 of the network's input ``x [N, W, 17, 3]``."""
        dtype = self.backbone_autocast
        with torch.autocast(x.device.type, dtype=dtype, enabled=dtype is not None):
            features: Tensor = self.network.backbone.get_representation(x)
        return features.float()

    def _network_input(self, windows: Tensor) -> Tensor:
        """Windows ``[N, W, 17, 3]`` of a batch's keypoints as the network takes them."""
        x = normalise_clip(windows)[0] if self.windows.input == "person" else windows
        # What a batch says of the place of unseen points means nothing, and a shift would make it depend on the person.
        return torch.where(x[..., 2:] > 0, x, 0.0)

    def _initial(self, batch: ClipBatch) -> SmplParams | None:
        """What a model that refines is given.

        Raises:
            UserError: there is nothing.
        """
        if not self.refines:
            return None
        if batch.initial is None:
            raise UserError(
                "the model refines given SMPL parameters, but these clips have none: give them (data.initial=true in "
                "a training, demo.py --initial FILE), or take another model"
            )
        return batch.initial

    def _least_frames(self) -> int:
        """The chain of DiffMesh has a fixed number of frames."""
        return self.windows.frames if isinstance(self.network, DiffMesh | DiffMeshRefine) else 1


def build_clip_model(config: ClipModelConfig, body: BodyModel, loss: ClipLossConfig | None = None) -> ClipModel:
    """The model of meshes that ``config`` describes.

    Args:
        config: which network, and how it sees clips.
        body: for the losses on joints, and for the template of DiffMesh.
        loss: terms with a positive weight are computed in training; None means the default weights.

    Raises:
        UserError: its sizes do not fit each other.
    """
    weights = (loss or ClipLossConfig()).model_dump()
    active = frozenset(name for name, weight in weights.items() if weight > 0)
    windows = WindowOptions(config.window, config.overlap, config.input)
    return ClipModel(_build_network(config, body), body, windows, active)


def _build_network(config: ClipModelConfig, body: BodyModel) -> MeshNetwork:
    backbone = DSTformer(DSTformerSize(**config.backbone.model_dump()))
    features = config.backbone.features
    if config.head == "motionbert":
        return MotionBertMesh(backbone, MeshHead(features, config.hidden, config.dropout))
    if config.head == "released" or config.head == "paper":
        size = DiffMeshSize(features, frames=config.window, **config.chain.model_dump())
        template = body.v_template.reshape(3, -1).T
        if config.refine:
            return DiffMeshRefine(backbone, RefineHead(template, config.head, size, config.hidden, config.dropout))
        return DiffMesh(backbone, DiffMeshHead(template, config.head, size))
    if config.head != "ours":
        raise UserError(f"the head {config.head} gives no meshes; choose motionbert, released, paper or ours")
    return MotionDiffusion(backbone, MotionDiffusionSize(**config.denoiser.model_dump(), frame=config.rotations))


def _cut_targets(targets: ClipTargets, starts: list[int], window: int) -> ClipTargets:
    """The truth about the windows of B clips, ``[B N]``."""
    rotations = cut_windows(targets.rotations, starts, window).flatten(0, 1)
    return ClipTargets(rotations, targets.betas.repeat_interleave(len(starts), 0))


def _cut_params(params: SmplParams, starts: list[int], window: int) -> SmplParams:
    """The windows of parameters ``[B, T]``, ``[B N, W]``."""
    return params.map(lambda value: cut_windows(value, starts, window).flatten(0, 1))


def _padded(values: Tensor, frames: int) -> Tensor:
    """``values [B, T, ...]`` with at least ``frames`` frames: the last one is repeated."""
    missing = frames - values.shape[1]
    return values if missing <= 0 else torch.cat([values, values[:, -1:].repeat_interleave(missing, dim=1)], dim=1)


def _row(params: SmplParams | None, row: int) -> SmplParams | None:
    return None if params is None else params.map(lambda value: value[row])
