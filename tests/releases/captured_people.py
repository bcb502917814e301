"""Synthetic people as a motion-capture system and its cameras see them, to put into miniature releases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from diffhmr.body.model import BodyModel
from diffhmr.config import DataConfig
from diffhmr.datasets.people import sample_people
from diffhmr.geometry.rotation import matrix_to_axis_angle
from diffhmr.random import item_seeds

_BONES = (
    (0, 1), (1, 2), (2, 14), (14, 3), (3, 4), (4, 5), (6, 7), (7, 8), (8, 12), (12, 9), (9, 10), (10, 11), (14, 16),
    (16, 12), (12, 17), (17, 18),
)  # fmt: skip
_BITS = 10
_SQUARE = 32


@dataclass(frozen=True)
class CapturedPeople:
    """One person per frame, in the frame of the camera.

    Attributes:
        pose: ``[N, 72]`` axis-angle.
        betas: ``[N, 10]``.
        joints: ``[N, 24, 3]`` metres: the last 24 joints of SPIN49.
        pixels: ``[N, 24, 2]`` their projections.
        size: width and height of the picture.
    """

    pose: np.ndarray
    betas: np.ndarray
    joints: np.ndarray
    pixels: np.ndarray
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.pose)

    def relative(self) -> np.ndarray:
        """``[N, 24, 3]`` joints from the pelvis (14)."""
        return self.joints - self.joints[:, 14:15]

    def picture(self, frame: int) -> np.ndarray:
        """``[H, W, 3]`` BGR: the skeleton and, at the top left, the number of the frame in black and white squares."""
        image = np.full((self.size[1], self.size[0], 3), 90, np.uint8)
        points = np.round(self.pixels[frame]).astype(int)
        for a, b in _BONES:
            cv2.line(image, points[a].tolist(), points[b].tolist(), (60, 160, 230), 14)
        for bit in range(_BITS):
            square = image[:_SQUARE, bit * _SQUARE : (bit + 1) * _SQUARE]
            square[:] = 255 if frame >> bit & 1 else 0
        return image


def number_in(image: np.ndarray | Path) -> int:
    """The number of the frame that :meth:`CapturedPeople.picture` has drawn, in a picture or a file."""
    if isinstance(image, Path):
        stored = cv2.imread(str(image))
        assert stored is not None, image
        image = stored
    centers = image[_SQUARE // 2, _SQUARE // 2 : _BITS * _SQUARE : _SQUARE].mean(axis=-1)
    assert ((centers < 60) | (centers > 195)).all(), centers
    return int(sum(1 << bit for bit, value in enumerate(centers) if value > 128))


def capture_people(body: BodyModel, count: int, seed: int, size: tuple[int, int], focal: float) -> CapturedPeople:
    """People number ``seed * 1000`` and following at about 4.5 m, wholly in a picture of ``size`` (width, height)."""
    seeds = item_seeds(0, "test", range(1000 * seed, 1000 * seed + count))
    people = sample_people(body, seeds, DataConfig(truncation=0.0, occluder=0.0))
    generator = np.random.default_rng(seed)
    where = generator.uniform((-0.3, -0.1, 4.2), (0.3, 0.2, 4.8), (count, 3))
    joints = people.joints3d[:, 25:].double().numpy() + where[:, None]
    pixels = focal * joints[..., :2] / joints[..., 2:] + (np.array(size) - 1) / 2
    assert (pixels > 0).all() and (pixels < np.array(size) - 1).all(), "a person is partly outside"
    params = people.params
    pose = np.concatenate(
        [
            matrix_to_axis_angle(params.global_orient.double()).reshape(count, 3).numpy(),
            matrix_to_axis_angle(params.body_pose.double()).reshape(count, 69).numpy(),
        ],
        axis=1,
    )
    assert params.betas is not None
    return CapturedPeople(pose, params.betas.double().numpy(), joints, pixels, size)


def write_video(path: Path, people: CapturedPeople, code: str, rate: float) -> None:
    """A video of the people, one frame each; ``code`` of the encoder, such as "mp4v"."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), rate, people.size)
    assert writer.isOpened()
    for frame in range(len(people)):
        writer.write(people.picture(frame))
    writer.release()
