"""Measures of batches, summed up in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from diffhmr.metrics.distribution import calibration_error

HITS = "calibration_hits"
"""The measure from which ``ece`` and ``ece_bias`` are made."""

Measures = dict[str, tuple[Tensor, Tensor]]
"""Name to values ``[B, ...]`` and weights ``[B]``. A slash in a name makes a group in the result.

Weights of the shape of the values ``[B, K]`` make a mean over the items for each of the K, and of these the mean.
"""


class Sums:
    """Weighted sums of measures in float64. The memory depends on neither the items nor the hypotheses.

    Args:
        optional: names that are None in the result when they were not measured.
    """

    def __init__(self, optional: Iterable[str] = ()) -> None:
        self.num_items = 0
        self._optional = tuple(optional)
        self._values: dict[str, Tensor] = {}
        self._weights: dict[str, Tensor] = {}

    def add(self, measures: Measures, selected: Tensor) -> None:
        """Add the items where ``selected [B]`` is True."""
        self.num_items += int(selected.sum())
        for name, (values, weights) in measures.items():
            value = values[selected].double().sum(0).cpu()
            weight = weights[selected].double().sum(0).cpu()
            self._values[name] = self._values.get(name, 0) + value
            self._weights[name] = self._weights.get(name, 0) + weight

    def result(self) -> dict[str, Any]:
        """Nested means as JSON values; None where nothing was measured, and empty without any item."""
        if self.num_items == 0:
            return {}
        flat: dict[str, Any] = {}
        for name, value in self._values.items():
            mean = _mean(value, self._weights[name])
            if name == HITS:
                assert mean is not None
                calibration = calibration_error(mean)
                flat["ece"], flat["ece_bias"] = calibration.ece, calibration.bias
            else:
                flat[name] = None if mean is None else mean.tolist()
        return _nest(flat | {name: None for name in self._optional if name not in flat})


def _mean(value: Tensor, weight: Tensor) -> Tensor | None:
    if weight.dim() == 0:
        return value / weight if weight > 0 else None
    measured = weight > 0
    return (value[measured] / weight[measured]).mean() if bool(measured.any()) else None


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    nested: dict[str, Any] = {}
    for name, value in flat.items():
        *groups, last = name.split("/")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return nested
