"""Evaluation of lifting over whole sequences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from diffhmr.datasets.clip_files.lifting_clips import LiftingSequence
from diffhmr.errors import UserError
from diffhmr.metrics.joints import MM_PER_M
from diffhmr.metrics.lifting import lifting_errors
from diffhmr.metrics.video import acceleration_error_mm
from diffhmr.models.clip_tasks import LiftingModel

_ACCELERATION = "accel_error_mm_per_frame2"


@dataclass
class _Mean:
    """Sums over frames, and over moments for accelerations."""

    total: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    count: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, values: dict[str, Tensor]) -> None:
        for name, value in values.items():
            self.total[name] += float(value.double().sum())
            self.count[name] += value.numel()

    def result(self) -> dict[str, float]:
        return {name: self.total[name] / count for name, count in self.count.items() if count}


@torch.no_grad()
def evaluate_lifting(
    model: LiftingModel, sequences: Iterable[LiftingSequence], limit: int | None = None, flip: bool = True
) -> dict[str, Any]:
    """Measure ``model`` on the first ``limit`` of ``sequences``, one at a time.

    Args:
        model: in evaluation mode.
        flip: average with the answer to the mirror image.

    Returns:
        JSON values: ``num_items``, ``num_frames``, ``metrics`` (:func:`lifting_errors` and the error of acceleration,
        means over the actions where the sequences have some, else over all frames), ``actions`` and ``sequences``.

    Raises:
        UserError: there is no sequence, or one without depths or size.
    """
    device = next(model.parameters()).device
    everything, actions = _Mean(), defaultdict[str, _Mean](_Mean)
    listed: list[dict[str, Any]] = []
    for number, sequence in enumerate(tqdm(sequences, unit="sequence", desc="evaluate", disable=None)):
        if number == limit:
            break
        batch = sequence.batch.to(device)
        if not bool(batch.has_depth.all()) or batch.mm_per_unit is None:
            raise UserError(f"the sequence {sequence.name} has no depths in millimetres to be measured with")
        lifted = model.lift(batch.keypoints, flip)
        errors = lifting_errors(lifted, batch)
        metres = batch.mm_per_unit[..., None, None] / MM_PER_M
        relative = [metres * (points - points[..., :1, :]) for points in (lifted, batch.positions)]
        errors[_ACCELERATION] = acceleration_error_mm(relative[0], relative[1])
        own = _Mean()
        for mean in (own, everything, *([actions[sequence.action]] if sequence.action is not None else [])):
            mean.add(errors)
        listed.append({"name": sequence.name, "num_frames": batch.keypoints.shape[1], **own.result()})
    if not listed:
        raise UserError("there is no sequence to be measured; give another file")
    by_action = {name: mean.result() for name, mean in sorted(actions.items())}
    return {
        "num_items": len(listed),
        "num_frames": sum(one["num_frames"] for one in listed),
        "metrics": _mean_of(list(by_action.values())) if by_action else everything.result(),
        "actions": by_action,
        "sequences": listed,
    }


def _mean_of(results: list[dict[str, float]]) -> dict[str, float]:
    """Every metric, averaged over the results that have it."""
    names = dict.fromkeys(name for one in results for name in one)
    parts = {name: [one[name] for one in results if name in one] for name in names}
    return {name: sum(values) / len(values) for name, values in parts.items()}
