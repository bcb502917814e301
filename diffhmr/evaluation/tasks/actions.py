"""Evaluation of action recognition: top 1 and top 5, or one-shot by the nearest exemplar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from tqdm import tqdm

from diffhmr.clip_batch import ActionBatch
from diffhmr.errors import UserError
from diffhmr.metrics.actions import among_top, nearest
from diffhmr.models.clip_tasks import ActionModel

_CLIPS_AT_ONCE = 16
_LARGEST_CONFUSION = 30


class ActionSet(Protocol):
    """Clips of one length with labels."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: Sequence[int]) -> ActionBatch:
        """The clips of these indices."""
        ...


def evaluate_action(
    model: ActionModel, clips: ActionSet, exemplars: ActionSet | None = None, limit: int | None = None
) -> dict[str, Any]:
    """Measure ``model`` on the first ``limit`` of ``clips``.

    Args:
        model: in evaluation mode.
        exemplars: of a model that gives vectors, one clip of each class.

    Returns:
        JSON values: ``num_items`` and ``metrics``: ``top1`` and, of more than five classes, ``top5``, or ``one_shot``;
        ``per_class`` the share of each label's clips that were recognised, by label, and ``mean_class`` their mean;
        ``confusion``, rows by label and columns by answer, of up to 30 classes.

    Raises:
        UserError: the model gives scores where vectors are needed, or the other way round; a label is unknown to it.
    """
    if model.contrastive != (exemplars is not None):
        needed = "vectors (the head embedding)" if exemplars is not None else "scores of classes (the head classifier)"
        raise UserError(f"this protocol needs a model that gives {needed}; choose another protocol or checkpoint")
    answers, labels = _answers(model, clips, limit)
    if exemplars is None:
        if int(labels.max()) >= answers.shape[1]:
            raise UserError(f"the data have the class {int(labels.max())}, but the model knows {answers.shape[1]} only")
        chosen, known = answers.argmax(1), torch.arange(answers.shape[1])
        tops = {f"top{k}": among_top(answers, labels, k) for k in (1, 5) if k < answers.shape[1]}
    else:
        vectors, known = _answers(model, exemplars, None)
        if len(known.unique()) < len(known):
            raise UserError("a class has more than one exemplar; one-shot recognition takes one of each")
        chosen = known[nearest(answers, vectors)]
        tops = {"one_shot": chosen == labels}
    metrics: dict[str, Any] = {name: float(right.double().mean()) for name, right in tops.items()}
    per_class = {int(one): float((chosen == labels)[labels == one].double().mean()) for one in labels.unique()}
    metrics["mean_class"] = sum(per_class.values()) / len(per_class)
    result = {"num_items": len(labels), "metrics": metrics, "per_class": {str(k): v for k, v in per_class.items()}}
    if len(known) <= _LARGEST_CONFUSION:
        rows = [[int(((labels == row) & (chosen == column)).sum()) for column in known] for row in known]
        result["confusion"] = {"labels": known.tolist(), "counts": rows}
    return result


def _answers(model: ActionModel, clips: ActionSet, limit: int | None) -> tuple[Tensor, Tensor]:
    """What the model gives ``[N, K]`` and the labels ``[N]``, on the CPU."""
    device = next(model.parameters()).device
    count = len(clips) if limit is None else min(limit, len(clips))
    answers, labels = [], []
    for start in tqdm(range(0, count, _CLIPS_AT_ONCE), unit="batch", desc="evaluate", disable=None):
        batch = clips.__getitems__(range(start, min(start + _CLIPS_AT_ONCE, count)))
        answers.append(model.predict(batch.keypoints.to(device)).cpu())
        labels.append(batch.label)
    return torch.cat(answers), torch.cat(labels)
