"""Evaluation over whole sequences: what a predictor is worth on a set of sequences, in all and one by one.

Nothing of an evaluation goes back into a training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from diffhmr.body.params import SmplParams
from diffhmr.clip_batch import ClipTargets
from diffhmr.errors import UserError
from diffhmr.evaluation.clips.data import ClipSet, MeasuredClips
from diffhmr.evaluation.clips.measures import OF_SAMPLES, SequenceMeasurer, TrueSequence, with_ratios
from diffhmr.evaluation.clips.predictors import Predictor
from diffhmr.evaluation.dump import Dump
from diffhmr.evaluation.run import EvaluationOptions
from diffhmr.evaluation.sums import Sums

_SEQUENCES_AT_ONCE = 8
_BODIES_AT_ONCE = 8192
"""Parameters of so many bodies are in memory at once, if a single sequence does not have more."""


@dataclass(frozen=True)
class ClipEvaluation:
    """What came out.

    Attributes:
        metrics: over all measured frames.
        num_frames: how many these are.
        sequences: of each sequence its ``name``, ``num_frames`` and metrics.
        baseline: metrics of the baseline, None without one.
    """

    metrics: dict[str, Any]
    num_frames: int
    sequences: list[dict[str, Any]]
    baseline: dict[str, Any] | None = None


@torch.no_grad()
def evaluate_clips(
    predictor: Predictor,
    clips: ClipSet,
    measurer: SequenceMeasurer,
    options: EvaluationOptions,
    dump: Dump | None = None,
    baseline: Predictor | None = None,
) -> ClipEvaluation:
    """Measure ``predictor`` on the first ``options.limit`` sequences of ``clips``.

    The memory grows with the longest sequence, not with their number; of meshes only some frames are there at a time.

    Args:
        predictor: on the device of the bodies of ``measurer``.
        measurer: compares with the truth; the largest n of its minima is the number of random motions.
        dump: takes everything frame by frame, frames that are not measured included.
        baseline: another predictor, with one answer, that is measured beside.
    """
    hypotheses = 1 if predictor.deterministic else 1 + max(measurer.min_of)
    device = measurer.bodies.prediction.v_template.device
    total = number_of(clips, options)
    everything, beside, sequences = Sums(OF_SAMPLES), Sums(OF_SAMPLES), []
    with tqdm(total=total, unit="sequence", desc="evaluate", disable=None) as progress:
        for indices in _of_one_length(clips.lengths[:total], hypotheses):
            taken = clips.take(indices).to(device)
            prediction = predictor(taken, hypotheses, options.seed)
            other = None if baseline is None else baseline(taken, 1, options.seed).params
            for row, index in enumerate(indices):
                params = prediction.params.map(lambda value, row=row: value[row])  # type: ignore[misc]
                _check_finite(params, clips.names[index])
                truth = _truth(taken, row)
                measured = measurer(truth, params, prediction.deterministic)
                own = Sums(OF_SAMPLES)
                for sums in (everything, own):
                    sums.add(measured.measures, truth.valid)
                if other is not None:
                    given = other.map(lambda value, row=row: value[row])  # type: ignore[misc]
                    beside.add(measurer(truth, given, deterministic=True).measures, truth.valid)
                about = {"name": clips.names[index], "num_frames": own.num_items, "fps": truth.fps}
                sequences.append({**about, **with_ratios(own.result())})
                if dump is not None:
                    frames_first = params.map(lambda value: value.transpose(0, 1))
                    dump.add(frames_first, {"valid": truth.valid, **measured.errors})
            progress.update(len(indices))
    found = None if baseline is None else with_ratios(beside.result())
    return ClipEvaluation(with_ratios(everything.result()), everything.num_items, sequences, found)


def number_of(clips: ClipSet, options: EvaluationOptions) -> int:
    """How many sequences are measured."""
    return len(clips.names) if options.limit is None else min(options.limit, len(clips.names))


def _of_one_length(lengths: Sequence[int], hypotheses: int) -> Iterator[list[int]]:
    """Indices of neighbours of the same length, as many as fit into the memory."""
    start = 0
    while start < len(lengths):
        at_once = max(1, min(_SEQUENCES_AT_ONCE, _BODIES_AT_ONCE // (hypotheses * lengths[start])))
        end = start + 1
        while end < len(lengths) and lengths[end] == lengths[start] and end - start < at_once:
            end += 1
        yield list(range(start, end))
        start = end


def _truth(taken: MeasuredClips, row: int) -> TrueSequence:
    targets, one = taken.batch.targets, slice(row, row + 1)
    assert targets is not None
    own = ClipTargets(
        rotations=targets.rotations[one],
        betas=targets.betas[one],
        visible=None if targets.visible is None else targets.visible[one],
        gender=None if targets.gender is None else targets.gender[one],
    )
    return TrueSequence(own, taken.valid[row], float(taken.batch.fps[row]))


def _check_finite(params: SmplParams, name: str) -> None:
    if not all(bool(value.isfinite().all()) for value in (params.rotations, params.betas)):
        raise UserError(f"{name}: the model's output is not finite; use another checkpoint")
