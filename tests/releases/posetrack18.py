"""A miniature of PoseTrack18's annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np


def write_posetrack18(folder: Path, people: dict[str, dict[int, np.ndarray]], video: int, *, ids: bool = True) -> Path:
    """Write one video.

    Args:
        folder: of the split.
        people: number of a person as text to its frames: number of the frame to points ``(17, 3)``, or an empty array
            for somebody of whom only the box is known.
        video: its number.
        ids: the images say to which video they belong, as in PoseTrack18.
    """
    frames = 1 + max(frame for tracks in people.values() for frame in tracks)
    images: list[dict[str, Any]] = []
    for frame in range(frames):
        number = 10_000_000_000 + 10_000 * video + frame
        image = {"id": number, "frame_id": number, "file_name": f"images/train/{video:06d}_mpii_train/{frame:06d}.jpg"}
        images.append(image | ({"vid_id": f"{video:06d}", "is_labeled": True, "nframes": frames} if ids else {}))
    annotations = [
        {
            "image_id": images[frame]["id"],
            "track_id": int(person),
            "id": 100 * images[frame]["id"] + int(person),
            "keypoints": points.ravel().tolist(),
            "bbox": [0.0, 0.0, 1.0, 1.0],
            "category_id": 1,
        }
        for person, tracks in people.items()
        for frame, points in tracks.items()
    ]
    path = folder / f"{video:06d}_mpii_train.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": []}), encoding="utf-8")
    return path
