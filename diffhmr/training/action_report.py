"""What a run on actions reports while it learns: how often they are recognised, and pictures of clips."""

from __future__ import annotations

import torch
from torch import Tensor

from diffhmr.clip_batch import ActionBatch
from diffhmr.geometry.camera import normalised_to_pixel
from diffhmr.geometry.clip_frame import normalise_clip
from diffhmr.metrics.actions import among_top, same_as_nearest_other
from diffhmr.models.clip_tasks import ActionModel
from diffhmr.render.skeleton import H36M17_COLOURS, H36M17_EDGES, LEFT, MIDDLE, RIGHT, Colour, draw_skeleton
from diffhmr.training.data import BatchDataset

PICTURE_CLIPS = 6
PICTURE_FRAMES = 5
_CELL_PIXELS = 96
_MARGIN = 1.1
_CHUNK = 32


class ActionReport:
    """Validation and pictures of the task ``action``.

    Args:
        dataset: validation clips of one length.
        device: of the model.
    """

    def __init__(self, dataset: BatchDataset[ActionBatch], device: torch.device) -> None:
        self._dataset = dataset
        self._device = device

    def validate(self, model: ActionModel) -> dict[str, float]:
        """``top1`` and ``top5``, shares of the validation clips, and ``cross_entropy``; there is no top 5 of five.

        Of vectors ``nearest``: the share of clips of which that one of all other validation clips that is the most
        similar shows the same action.
        """
        answers, labels = self._answers(model, len(self._dataset))
        if model.contrastive:
            return {"nearest": float(same_as_nearest_other(answers, labels).float().mean())}
        scores = {"cross_entropy": float(torch.nn.functional.cross_entropy(answers, labels))}
        for count in (1, 5):
            if count < answers.shape[1]:
                scores[f"top{count}"] = float(among_top(answers, labels, count).float().mean())
        return scores

    def picture(self, model: ActionModel) -> Tensor:
        """A sheet ``[3, H, W]`` in [0, 1]: one validation clip per row, frames of all people in it, and a bar chart.

        Bars: probability of each class, or cosine with each of the other clips of the sheet; green for the right class
        or a clip of the same action, orange for the others.
        """
        count = min(PICTURE_CLIPS, len(self._dataset))
        keypoints = self._dataset.__getitems__(range(count)).keypoints
        answers, labels = self._answers(model, count)
        if model.contrastive:
            heights = answers @ answers.T
            right = labels[:, None] == labels
            heights = heights.clamp(0, 1).fill_diagonal_(0)
        else:
            heights = answers.softmax(-1)
            right = torch.nn.functional.one_hot(labels, answers.shape[1]) > 0
        rows = []
        for clip, bars, own in zip(keypoints, heights.tolist(), right.tolist(), strict=True):
            colours = [MIDDLE if same else RIGHT for same in own]
            rows.append(torch.cat([*_frames(clip), _bars(bars, colours)], dim=2))
        return torch.cat(rows, dim=1)

    def _answers(self, model: ActionModel, count: int) -> tuple[Tensor, Tensor]:
        """Logits or vectors ``[N, K]`` and labels ``[N]`` of the first clips, on the CPU."""
        answers, labels = [], []
        for start in range(0, count, _CHUNK):
            batch = self._dataset.__getitems__(range(start, min(start + _CHUNK, count)))
            answers.append(model.predict(batch.keypoints.to(self._device)).cpu())
            labels.append(batch.label)
        return torch.cat(answers), torch.cat(labels)


def _frames(clip: Tensor) -> list[Tensor]:
    """Pictures of some frames of ``clip [M, T, 17, 3]``, in the square around its people."""
    together = clip.transpose(0, 1).flatten(1, 2)  # [T, M * 17, 3]
    placed = normalise_clip(together, ratio=_MARGIN)[0].unflatten(1, (-1, 17))
    cells = []
    for frame in torch.linspace(0, clip.shape[1] - 1, PICTURE_FRAMES).round().int().tolist():
        cell = torch.ones(3, _CELL_PIXELS, _CELL_PIXELS)
        for person in placed[frame]:
            pixels = normalised_to_pixel(person[:, :2], _CELL_PIXELS)
            seen = person[:, 2] > 0
            cell = draw_skeleton(cell, pixels, seen=seen, edges=H36M17_EDGES, colours=H36M17_COLOURS)
        cells.append(cell)
    return cells


def _bars(heights: list[float], colours: list[Colour]) -> Tensor:
    """A chart of ``heights`` in [0, 1] over a line."""
    cell = torch.ones(3, _CELL_PIXELS, _CELL_PIXELS)
    usable = _CELL_PIXELS - 8
    cell[:, -4] = torch.tensor(LEFT)[:, None]
    for index, (height, colour) in enumerate(zip(heights, colours, strict=True)):
        first, last = (4 + round(usable * place / len(heights)) for place in (index, index + 1))
        top = _CELL_PIXELS - 4 - round(usable * height)
        cell[:, top : _CELL_PIXELS - 4, first : max(last - 1, first + 1)] = torch.tensor(colour)[:, None, None]
    return cell
