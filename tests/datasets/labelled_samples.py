"""Small label files with pictures: people of a body, projected into pictures of noise, all labels true."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from diffhmr.body.joints import PELVIS_SPIN49, SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.config import SourceConfig
from diffhmr.datasets.jpeg import encode_jpeg
from diffhmr.datasets.labels import write_labels
from diffhmr.geometry.camera import normalised_to_box, project_crop
from diffhmr.geometry.rotation import axis_angle_to_matrix
from tests.datasets.pictures import rough

WIDTH, HEIGHT = 320, 240


@dataclass(frozen=True)
class Sample:
    """A label file, the folder of its pictures, and the truth: parameters, cameras and rows as written."""

    labels: Path
    images: Path
    params: SmplParams
    camera: torch.Tensor
    rows: dict[str, np.ndarray]

    def source(self, name: str, weight: float | None = None) -> SourceConfig:
        return SourceConfig(name=name, labels=self.labels, images=self.images, weight=weight)


def write_sample(folder: Path, body: BodyModel, count: int, seed: int = 0, per_picture: int = 2) -> Sample:
    """``count`` people, ``per_picture`` in each picture; every fourth without SMPL, every fifth without 2D labels."""
    generator = np.random.default_rng(seed)
    pose = generator.normal(0, 0.25, (count, 72))
    pose[:, :3] = np.array([np.pi, 0, 0]) + generator.normal(0, 0.2, (count, 3))
    betas = generator.normal(0, 0.5, (count, 10))
    rotations = axis_angle_to_matrix(torch.from_numpy(pose.reshape(count, 24, 3)).float())
    params = SmplParams.from_rotations(rotations, torch.from_numpy(betas).float())
    joints = body.joints(params, SPIN49)
    middle = joints.mean(1)
    camera = torch.cat([torch.full((count, 1), 0.8), -middle[:, :2]], dim=1)
    side = torch.from_numpy(generator.uniform(90, 200, count)).float()
    center = torch.from_numpy(generator.uniform((110, 90), (210, 150), (count, 2))).float()
    pixels = normalised_to_box(project_crop(joints, camera), center, side).numpy()
    points = np.concatenate([pixels, np.ones((count, 49, 1))], axis=-1)
    points[::5, :, 2] = 0
    relative = (joints - joints[:, PELVIS_SPIN49, None]).numpy()
    spatial = np.concatenate([relative[:, 25:], np.ones((count, 24, 1))], axis=-1)
    names = [f"pictures/{seed}_{k // per_picture:03d}.jpg" for k in range(count)]
    for k, name in enumerate(dict.fromkeys(names)):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(rough(WIDTH, HEIGHT, seed=100 * seed + k), 95))
    rows = {
        "imgname": np.array(names), "center": center.numpy(), "scale": side.numpy() / 200,
        "part": points[:, 25:], "openpose": points[:, :25], "S": spatial, "pose": pose, "shape": betas,
        "has_smpl": (np.arange(count) % 4 > 0).astype(np.uint8), "gender": np.array(["m", "f"] * count)[:count],
    }  # fmt: skip
    labels = folder / f"train_{seed}.npz"
    write_labels(labels, rows, {"dataset": f"sample {seed}", "split": "train"})
    return Sample(labels, folder / "images", params, camera, rows)
