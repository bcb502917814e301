"""A miniature of AMASS: some subsets of "SMPL+H G" and one of "SMPL-X N", a few seconds each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SECONDS = 1.5


@dataclass(frozen=True)
class TrueRecording:
    """What a recording is: its frame rate, and its poses of the root and 21 joints at any time."""

    framerate: float
    speed: np.ndarray
    offset: np.ndarray

    def poses(self, seconds: np.ndarray) -> np.ndarray:
        """``(T, 66)`` axis-angle."""
        return self.offset + 0.3 * np.sin(seconds[:, None] * self.speed)


RECORDINGS = {
    "ACCAD/Female1General_c3d/A1 - Stand_poses.npz": 120.0,
    "CMU/01/01_01_poses.npz": 60.0,
    "CMU/01/01_02_poses.npz": 100.0,
    "CMU/02/02_01_poses.npz": 59.0,
    "SFU/0005/0005_Walking001_poses.npz": 120.0,
    "SSM/20160330/punch_kick_sync_stageii.npz": 250.0,
}
"""With their frame rates; the last is of SMPL-X."""

SHORT = "CMU/02/02_02_poses.npz"
JUMPING = "CMU/02/02_03_poses.npz"


def write_amass(root: Path, seed: int = 0) -> dict[str, TrueRecording]:
    """Write the release to ``root``."""
    rng = np.random.default_rng(seed)
    truth = {}
    for name, framerate in {**RECORDINGS, SHORT: 120.0, JUMPING: 120.0}.items():
        recording = TrueRecording(framerate, rng.uniform(0.5, 3, 66), rng.normal(0, 0.2, 66))
        count = 30 if name == SHORT else round(SECONDS * framerate)
        body = recording.poses(np.arange(count) / framerate)
        if name == JUMPING:
            body[count // 2 :, 9:12] += (0, 2.5, 0)
        _write(root / name, body, framerate, rng)
        truth[name] = recording
    for folder in ("CMU/01", "SFU/0005"):
        np.savez(root / folder / "shape.npz", gender="male", betas=rng.normal(0, 1, 16))
    return truth


def _write(path: Path, body: np.ndarray, framerate: float, rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count = len(body)
    content: dict[str, Any] = {"trans": rng.normal(0, 1, (count, 3)), "betas": rng.normal(0, 1, 16)}
    hands = rng.normal(0, 1, (count, 90))
    if path.stem.endswith("_stageii"):
        content |= {
            "poses": np.concatenate([body, rng.normal(0, 1, (count, 9)), hands], axis=1),
            "mocap_frame_rate": framerate,
            "gender": "neutral",
            "surface_model_type": "smplx",
            "root_orient": body[:, :3],
            "pose_body": body[:, 3:],
        }
    else:
        content |= {
            "poses": np.concatenate([body, hands], axis=1),
            "mocap_framerate": framerate,
            "gender": "female",
            "dmpls": rng.normal(0, 1, (count, 8)),
        }
    np.savez(path, **content)
