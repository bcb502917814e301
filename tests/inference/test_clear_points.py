"""Certain keypoints count, and uncertain ones only where certain ones are few."""

from __future__ import annotations

import numpy as np

from diffhmr.inference.clear_points import CLEAR_CONFIDENCE, clear_points


def test_clear_points_or_all_that_are_seen() -> None:
    confidence = np.array(
        [
            [0.9, 0.8, CLEAR_CONFIDENCE, 0.5, 0.1, 0.0],
            [0.9, 0.8, 0.29, 0.5, 0.1, 0.0],
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        ]
    )
    expected = [[True] * 4 + [False] * 2, [True] * 5 + [False], [False] * 6]
    np.testing.assert_array_equal(clear_points(confidence), expected)
    np.testing.assert_array_equal(clear_points(confidence[1]), expected[1])
