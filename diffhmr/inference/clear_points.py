"""Which keypoints of a person say where the person is: the certain ones, or all if hardly one is certain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

CLEAR_CONFIDENCE = 0.3
"""From here on the usual detectors are right about a point more often than not."""

FEW_POINTS = 4
"""So many points tell where a person is and how large."""


def clear_points(confidence: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Those of K points ``[..., K]`` that count: the clear ones; where these are fewer than four, all that are seen."""
    clear = confidence >= CLEAR_CONFIDENCE
    enough = clear.sum(axis=-1, keepdims=True) >= FEW_POINTS
    counting: NDArray[np.bool_] = np.where(enough, clear, confidence > 0)
    return counting
