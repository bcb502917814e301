"""What a run on lifting reports while it learns: errors on the validation clips, and pictures of skeletons."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from diffhmr.clip_batch import LiftingBatch
from diffhmr.geometry.camera import normalised_to_pixel
from diffhmr.geometry.clip_frame import ClipFrame, normalise_clip
from diffhmr.metrics.lifting import lifting_errors, reprojection_error
from diffhmr.models.clip_tasks import LiftingModel
from diffhmr.render.skeleton import H36M17_COLOURS, H36M17_EDGES, draw_skeleton
from diffhmr.training.data import BatchDataset

PICTURE_CLIPS = 3
PICTURE_FRAMES = 3
_CELL_PIXELS = 112
_CHUNK = 16
_MARGIN = 1.1
_SMALLER = 1.3


class LiftingReport:
    """Validation and pictures of the tasks ``pretrain`` and ``pose3d``.

    Args:
        dataset: validation clips of one length.
        device: of the model.
    """

    def __init__(self, dataset: BatchDataset[LiftingBatch], device: torch.device) -> None:
        self._dataset = dataset
        self._device = device

    def validate(self, model: LiftingModel) -> dict[str, float]:
        """Means of :func:`lifting_errors` over all frames, keypoints and their mirror image averaged.

        Of clips without depths ``reprojection_units``, the weighted mean distance in x and y.
        """
        found: dict[str, list[Tensor]] = {}
        for batch in self._clips(len(self._dataset)):
            lifted = model.lift(batch.keypoints)
            for name, values in lifting_errors(lifted, batch).items():
                found.setdefault(name, []).append(values.flatten())
            total, weight = (values[~batch.has_depth] for values in reprojection_error(lifted, batch))
            found.setdefault("total", []).append(total)
            found.setdefault("weight", []).append(weight)
        joined = {name: torch.cat(parts) for name, parts in found.items()}
        total, weight = joined.pop("total").sum(), joined.pop("weight").sum()
        means = {name: float(values.mean()) for name, values in joined.items() if len(values)}
        return means | ({"reprojection_units": float(total / weight)} if weight > 0 else {})

    def picture(self, model: LiftingModel) -> Tensor:
        """A sheet ``[3, H, W]`` in [0, 1]: a few frames of a few validation clips, one frame per row.

        Columns: the keypoints; the truth and what the model gives, from the camera; both from the right of the image
        (depth runs to the right). Clips without depths have no truth from the right.
        """
        rows = []
        for batch in self._clips(min(PICTURE_CLIPS, len(self._dataset)), size=1):
            lifted = model.lift(batch.keypoints)[0].cpu()
            truth, points = batch.positions[0].cpu(), batch.keypoints[0].cpu()
            frames = torch.linspace(0, len(points) - 1, PICTURE_FRAMES).round().int().tolist()
            for frame in frames:
                known = torch.cat([truth[frame, :, :2], batch.weight[0, frame].cpu()[:, None]], dim=-1)
                box = normalise_clip(known[None], ratio=_MARGIN)[1]
                cells = [_keypoints(points[frame], box), _keypoints(known, box)]
                cells.append(_relative(lifted[frame][:, :2], box))
                beside = truth[frame][:, [2, 1]]
                cells.append(_relative(beside, box) if bool(batch.has_depth[0]) else _blank())
                cells.append(_relative(lifted[frame][:, [2, 1]], box))
                rows.append(torch.cat(cells, dim=2))
        return torch.cat(rows, dim=1)

    def _clips(self, count: int, size: int = _CHUNK) -> Iterator[LiftingBatch]:
        """The first ``count`` clips, ``size`` at a time, on the device."""
        for start in range(0, count, size):
            yield self._dataset.__getitems__(range(start, min(start + size, count))).to(self._device)


def _keypoints(points: Tensor, box: ClipFrame) -> Tensor:
    """The seen ones of ``points [17, 3]`` in their box."""
    placed = (points[:, :2] - box.centre) / box.half_side
    return _drawn(placed, points[:, 2] > 0)


def _relative(points: Tensor, box: ClipFrame) -> Tensor:
    """``points [17, 2]`` in a somewhat smaller scale than the box, the root in the middle."""
    return _drawn((points - points[:1]) / (_SMALLER * box.half_side), torch.ones(len(points), dtype=torch.bool))


def _blank() -> Tensor:
    return torch.ones(3, _CELL_PIXELS, _CELL_PIXELS)


def _drawn(points: Tensor, seen: Tensor) -> Tensor:
    pixels = normalised_to_pixel(points, _CELL_PIXELS)
    return draw_skeleton(_blank(), pixels, seen=seen, edges=H36M17_EDGES, colours=H36M17_COLOURS)
