"""Pictures of synthetic people with known joints, to put into miniature releases of data sets with 2D labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from diffhmr.body.joints import SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.config import DataConfig
from diffhmr.datasets.painting.scene import render_people
from diffhmr.datasets.people import sample_people
from diffhmr.random import item_seeds

_CROP = 128
WIDTH, HEIGHT = 200, 160
OFFSET = (50, 20)


@dataclass(frozen=True)
class DrawnPerson:
    """One person alone in a picture.

    Attributes:
        image: ``[HEIGHT, WIDTH, 3]`` BGR.
        points: ``[49, 2]`` pixels of SPIN49, the centre of the first pixel is (0, 0); all inside the picture.
        visible: ``[49]`` bool.
    """

    image: np.ndarray
    points: np.ndarray
    visible: np.ndarray

    def named(self, names: tuple[str, ...]) -> np.ndarray:
        """``[K, 2]`` joints by name."""
        return self.points[[SPIN49.joint_names.index(name) for name in names]]

    def gt24(self) -> np.ndarray:
        """``[24, 2]`` the last joints of SPIN49: the slots of ``part``."""
        return self.points[25:]


def draw_people(body: BodyModel, count: int, seed: int) -> list[DrawnPerson]:
    """People number ``seed * 1000`` and following."""
    seeds = item_seeds(0, "test", range(1000 * seed, 1000 * seed + count))
    people = sample_people(body, seeds, DataConfig(image_size=_CROP, truncation=0.0, occluder=0.0))
    rendered = render_people(people, body, _CROP)
    drawn = []
    for row in range(count):
        picture = (rendered.image[row].permute(1, 2, 0).numpy()[..., ::-1] * 255).round().astype(np.uint8)
        image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
        image[OFFSET[1] : OFFSET[1] + _CROP, OFFSET[0] : OFFSET[0] + _CROP] = picture
        points = (people.joints2d[row].double().numpy() + 1) * (_CROP / 2) - 0.5 + OFFSET
        drawn.append(DrawnPerson(image, points, rendered.visible[row].numpy()))
    return drawn


def write_picture(path: Path, image: np.ndarray) -> None:
    """A JPEG or PNG file, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def openpose_json(points: np.ndarray) -> dict[str, object]:
    """What OpenPose writes for people with ``points [P, 25, 3]``."""
    people = [{"person_id": [-1], "pose_keypoints_2d": person.ravel().tolist()} for person in points]
    return {"version": 1.3, "people": people}
