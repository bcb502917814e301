"""Miniatures of MotionBERT's files: ``mesh_det_*.pkl``, ``h36m_sh_*.pkl``, clips of 3D motion, InstaVariety, noise."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

CAMERAS = {"01": "54138969", "02": "55011271", "03": "58860488", "04": "60457274"}
HEIGHTS = {"54138969": 1002, "55011271": 1000, "58860488": 1000, "60457274": 1002}

CURVE = {"a": 0.028, "b": 1.1, "m": -0.00459, "s": 0.1431}
"""What ``d2c_params.pkl`` says."""


@dataclass
class TrueFrames:
    """What a split holds, video after video.

    Attributes:
        lengths: frames of each video by its name, in the order of the file.
        arrays: of the file.
    """

    lengths: dict[str, int]
    arrays: dict[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> list[str]:
        """Name of the video of every frame."""
        return [name for name, length in self.lengths.items() for _ in range(length)]


def dump(content: Any, path: Path, protocol: int = 4) -> None:
    """Write a pickle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def mesh_frames(
    lengths: dict[str, int],
    rng: np.random.Generator,
    *,
    cameras: bool = False,
    sizes: bool = False,
    refine: bool = False,
) -> TrueFrames:
    """A split of a mesh pickle; of Human3.6M with ``cameras``, of COCO with ``sizes``, of DiffMesh with ``refine``."""
    frames = TrueFrames(lengths)
    count = sum(lengths.values())
    shapes = {name: rng.normal(0, 1, 10).astype(np.float32) for name in lengths}
    frames.arrays = {
        "joint_2d": rng.uniform(0, 1000, (count, 17, 2)),
        "confidence": rng.uniform(-0.1, 1.2, (count, 17, 1)),
        "source": np.array(frames.source),
        "smpl_pose": rng.normal(0, 0.5, (count, 72)).astype(np.float32),
        "smpl_shape": np.stack([shapes[name] for name in frames.source]),
    }
    if cameras:
        frames.arrays["camera_name"] = np.array([CAMERAS[name[-2:]] for name in frames.source])
    if sizes:
        frames.arrays["img_hw"] = np.array([(480, 640) if k % 2 else (640, 427) for k in range(count)])
    if refine:
        frames.arrays["pred_smpl_pose"] = frames.arrays["smpl_pose"] + 0.1
        frames.arrays["pred_smpl_shape"] = rng.normal(0, 1, (count, 10)).astype(np.float32)
    return frames


def write_splits(path: Path, train: TrueFrames, test: TrueFrames, protocol: int = 4) -> None:
    """Write ``{"train": ..., "test": ...}``."""
    dump({"train": train.arrays, "test": test.arrays}, path, protocol)


def h36m_sh_frames(lengths: dict[str, int], rng: np.random.Generator, *, test: bool) -> TrueFrames:
    """A split of Human3.6M; videos such as ``s_09_act_02_subact_01_ca_01``."""
    frames = TrueFrames(lengths)
    count = sum(lengths.values())
    positions = rng.uniform(200, 800, (count, 17, 3))
    positions[..., 2] -= positions[:, :1, 2]
    frames.arrays = {
        "joint_2d": (positions[..., :2] + rng.normal(0, 5, (count, 17, 2))).astype(np.float32),
        "confidence": rng.uniform(0, 1, (count, 17)).astype(np.float32),
        "joint3d_image": positions,
        "camera_name": np.array([CAMERAS[name[-2:]] for name in frames.source]),
        "source": frames.source,
    }
    if test:
        factor = rng.uniform(3, 5, count)
        frames.arrays["2.5d_factor"] = factor
        frames.arrays["joints_2.5d_image"] = positions * factor[:, None, None]
        frames.arrays["action"] = np.array([name[5:11] for name in frames.source], dtype=object)
    return frames


def write_motion3d(folder: Path, clips: int, frames: int, rng: np.random.Generator, *, detected: bool) -> np.ndarray:
    """Write clips; their positions ``(clips, frames, 17, 3)``."""
    positions = rng.uniform(-1, 1, (clips, frames, 17, 3)).astype(np.float32)
    for number, label in enumerate(positions):
        seen = None
        if detected:
            confidence = np.full((frames, 17, 1), 0.5)
            seen = np.concatenate([label[..., :2] + 0.01, confidence], axis=-1)
        dump({"data_input": seen, "data_label": label}, folder / f"{number:08d}.pkl")
    return positions


def write_instavariety(folder: Path, lengths: list[int], rng: np.random.Generator) -> np.ndarray:
    """Write the two arrays; the points ``(N, 17, 3)``. Belly and head are not known."""
    points = rng.uniform(-1, 1, (sum(lengths), 17, 3))
    points[..., 2] = rng.uniform(0.1, 1, points.shape[:2])
    points[:, [7, 10]] = 0
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "motion_all.npy", points)
    np.save(folder / "id_all.npy", np.concatenate([np.full(length, float(k)) for k, length in enumerate(lengths)]))
    return points


def tensors(**changes: Any) -> dict[str, Any]:
    """What ``synthetic_noise.pth`` holds, with other values for every joint; None leaves something out."""
    joints = torch.arange(17, dtype=torch.float32)
    content = {
        "mean": torch.stack([0.001 * joints, -0.002 * joints], dim=1),
        "std": torch.stack([0.01 + 0.001 * joints, 0.02 + 0.001 * joints], dim=1),
        "weight": 0.5 + 0.02 * joints,
    }
    return {key: value for key, value in (content | changes).items() if value is not None}


def write_noise(folder: Path, noise: Any, curve: Any) -> tuple[Path, Path]:
    """Write ``synthetic_noise.pth`` and ``d2c_params.pkl``; their paths."""
    first, second = folder / "synthetic_noise.pth", folder / "d2c_params.pkl"
    dump(curve, second)
    torch.save(noise, first)
    return first, second
