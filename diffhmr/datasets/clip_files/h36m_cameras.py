"""Sizes of the pictures of Human3.6M's cameras."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffhmr.datasets.clip_files.tables import as_text
from diffhmr.errors import UserError

FPS = 50.0
"""Frames per second."""

WIDTH = 1000
HEIGHTS = {"54138969": 1002, "55011271": 1000, "58860488": 1000, "60457274": 1002}


def picture_sizes(cameras: NDArray[Any], where: str) -> NDArray[np.float32]:
    """Width and height ``(N, 2)`` of the pictures of ``cameras (N,)``.

    Raises:
        UserError: a camera is none of Human3.6M's.
    """
    names, inverse = np.unique(cameras, return_inverse=True)
    texts = as_text(names).tolist()
    unknown = [name for name in texts if name not in HEIGHTS]
    if unknown:
        raise UserError(
            f"{where}: camera_name is {unknown[0]!r}, which is none of Human3.6M's ({', '.join(HEIGHTS)}); set "
            "resolution of the source if it is another data set"
        )
    heights = np.array([HEIGHTS[name] for name in texts], np.float32)[inverse.ravel()]
    return np.stack([np.full_like(heights, WIDTH), heights], axis=1)
