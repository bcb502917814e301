"""A miniature of pyskl's pickles of NTU RGB+D."""

from __future__ import annotations

from typing import Any

import numpy as np


def recording(name: str, label: int, frames: int, rng: np.random.Generator, people: int = 1) -> dict[str, Any]:
    """An annotation as in ``ntu60_hrnet.pkl``: coordinates in half precision."""
    return {
        "frame_dir": name,
        "label": label,
        "img_shape": (1080, 1920),
        "original_shape": (1080, 1920),
        "total_frames": frames,
        "keypoint": rng.uniform(100, 1000, (people, frames, 17, 2)).astype(np.float16),
        "keypoint_score": rng.uniform(0.1, 1, (people, frames, 17)).astype(np.float16),
    }


def ntu60(rng: np.random.Generator) -> dict[str, Any]:
    """Five recordings of three classes."""
    names = [f"S001C00{camera}P001R001A00{label}" for label in (1, 2, 3) for camera in (1, 2)][:5]
    annotations = [recording(name, k // 2, 20 + 10 * k, rng, people=1 + k % 2) for k, name in enumerate(names)]
    return {
        "split": {"xsub_train": names[:3], "xsub_val": names[3:], "xview_train": names[::2], "xview_val": names[1::2]},
        "annotations": annotations,
    }
