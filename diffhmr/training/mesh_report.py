"""What a run on meshes of clips reports while it learns: errors on the validation clips, and pictures of motions."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from diffhmr.body.joints import H36M17
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.clip_batch import ClipBatch
from diffhmr.config import SamplerConfig
from diffhmr.geometry.camera import normalised_to_pixel
from diffhmr.geometry.clip_frame import normalise_clip
from diffhmr.metrics.joints import pa_mpjpe_mm, point_errors_mm
from diffhmr.metrics.video import acceleration_error_mm
from diffhmr.models.clip_models import ClipModel
from diffhmr.render.skeleton import H36M17_COLOURS, H36M17_EDGES, draw_skeleton
from diffhmr.training.data import BatchDataset

NUM_SAMPLES = 10
VERTEX_STRIDE = 10
"""Vertices are compared in every tenth frame."""
PICTURE_CLIPS = 3
PICTURE_FRAMES = 3
PICTURE_SAMPLES = 3
_CELL_PIXELS = 112
_REACH = 1.1  # metres from the pelvis to the border of a cell


class MeshReport:
    """Validation and pictures of the task ``mesh``.

    Args:
        dataset: validation clips with targets; clips may have different lengths.
        body: on the device of the model.
        sampler: how hypotheses are drawn.
        seed: of the hypotheses' noise; the same at every step, so that curves show the weights only.
    """

    def __init__(self, dataset: BatchDataset[ClipBatch], body: BodyModel, sampler: SamplerConfig, seed: int) -> None:
        self._dataset = dataset
        self._body = body
        self._sampler = sampler
        self._seed = seed

    @torch.no_grad()
    def validate(self, model: ClipModel) -> dict[str, float]:
        """Errors relative to the pelvis in H36M-17 joints and vertices, means over all frames of the validation clips.

        ``mode`` is the single answer: ``mode_mpjpe_mm``, ``mode_pa_mpjpe_mm``, ``mode_mpvpe_mm`` (vertices of every
        tenth frame) and ``mode_accel_error_mm_per_frame2``. Of a model with several answers there are also
        ``random_..._mm`` of a random hypothesis and ``min_of_10_..._mm`` of the best of ten in each frame, chosen with
        the truth. Of parameters that are to be refined there is ``initial_mpjpe_mm``.
        """
        found: dict[str, list[Tensor]] = {}
        for batch in self._clips(len(self._dataset)):
            for name, values in self._errors(model, batch).items():
                found.setdefault(name, []).append(values.flatten().cpu())
        joined = {name: torch.cat(parts) for name, parts in found.items()}
        return {name: float(values.mean()) for name, values in joined.items() if len(values)}

    def _errors(self, model: ClipModel, batch: ClipBatch) -> dict[str, Tensor]:
        """Values of all frames of one clip."""
        assert batch.targets is not None
        count = 1 if model.deterministic else 1 + NUM_SAMPLES
        params = model.sample(batch, count, self._sampler, self._seed).params.map(lambda value: value[0])
        right = batch.targets.params.map(lambda value: value[0])
        joints, pelvis = self._joints(params)
        true_joints, true_pelvis = self._joints(right)
        vertices = self._body(params.map(lambda value: value[:, ::VERTEX_STRIDE])).vertices
        true_vertices = self._body(right.map(lambda value: value[::VERTEX_STRIDE])).vertices
        vertices = vertices - pelvis[:, ::VERTEX_STRIDE]
        true_vertices = true_vertices - true_pelvis[::VERTEX_STRIDE]
        each = {
            "mpjpe_mm": point_errors_mm(joints, true_joints).mean(-1),
            "mpvpe_mm": point_errors_mm(vertices, true_vertices).mean(-1),
        }
        errors = {f"mode_{name}": values[0] for name, values in each.items()}
        errors["mode_pa_mpjpe_mm"] = pa_mpjpe_mm(joints[0], true_joints)
        errors["mode_accel_error_mm_per_frame2"] = acceleration_error_mm(joints[0], true_joints)
        if batch.initial is not None:
            given = self._joints(batch.initial.map(lambda value: value[0]))[0]
            errors["initial_mpjpe_mm"] = point_errors_mm(given, true_joints).mean(-1)
        if not model.deterministic:
            errors |= {f"random_{name}": values[1:].mean(0) for name, values in each.items()}
            errors |= {f"min_of_{NUM_SAMPLES}_{name}": values[1:].amin(0) for name, values in each.items()}
        return errors

    def _joints(self, params: SmplParams) -> tuple[Tensor, Tensor]:
        """H36M-17 ``[..., 17, 3]`` relative to the pelvis, and the pelvis ``[..., 1, 3]``."""
        joints = self._body.joints(params, H36M17)
        return joints - joints[..., :1, :], joints[..., :1, :]

    def _clips(self, count: int) -> Iterator[ClipBatch]:
        """The first ``count`` clips one by one, on the device of the body."""
        device = self._body.v_template.device
        for index in range(count):
            yield self._dataset.__getitems__([index]).to(device)

    @torch.no_grad()
    def picture(self, model: ClipModel) -> Tensor:
        """A sheet ``[3, H, W]`` in [0, 1]: a few frames of a few validation clips, one frame per row.

        Columns: the keypoints that the model sees; truth, single answer and random hypotheses from the camera; the same
        from the right of the image (depth runs to the right). A model with one answer has no columns of hypotheses.
        """
        rows = []
        for batch in self._clips(min(PICTURE_CLIPS, len(self._dataset))):
            assert batch.targets is not None
            count = 1 if model.deterministic else 1 + PICTURE_SAMPLES
            prediction = model.sample(batch, count, self._sampler, self._seed)
            truth = self._joints(batch.targets.params)[0]
            joints = torch.cat([truth, self._joints(prediction.params.map(lambda value: value[0]))[0]]).cpu()
            for frame in torch.linspace(0, batch.num_frames - 1, PICTURE_FRAMES).round().int().tolist():
                views = [points / _REACH for axes in ([0, 1], [2, 1]) for points in joints[:, frame][..., axes]]
                cells = [_keypoints(batch.keypoints[:, frame].cpu()), *(_drawn(points) for points in views)]
                rows.append(torch.cat(cells, dim=2))
        return torch.cat(rows, dim=1)


def _keypoints(points: Tensor) -> Tensor:
    """The seen ones of ``points [1, 17, 3]`` in the middle of a cell."""
    placed = normalise_clip(points, ratio=1.1)[0][0]
    return _drawn(placed[:, :2], seen=placed[:, 2] > 0)


def _drawn(points: Tensor, seen: Tensor | None = None) -> Tensor:
    blank = torch.ones(3, _CELL_PIXELS, _CELL_PIXELS)
    pixels = normalised_to_pixel(points, _CELL_PIXELS)
    return draw_skeleton(blank, pixels, seen=seen, edges=H36M17_EDGES, colours=H36M17_COLOURS)
