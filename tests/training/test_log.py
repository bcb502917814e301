"""Reports: means over the steps between them, and durations."""

from __future__ import annotations

import pytest
import torch

from diffhmr.training.log import MeanOfTerms, format_duration


def test_means_of_terms() -> None:
    means = MeanOfTerms()
    for value in (1.0, 2.0, 6.0):
        means.add({"a": torch.tensor(value), "b": torch.tensor(-value)})
    assert {name: float(value) for name, value in means.take().items()} == {"a": 3, "b": -3}
    means.add({"a": torch.tensor(5.0)})
    assert float(means.take()["a"]) == 5


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0:00:00"), (61, "0:01:01"), (36000.4, "10:00:00")])
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
