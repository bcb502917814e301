"""Who is in a photo, ready for a model: square box, crop, and keypoints in the box."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from diffhmr.batch import ImageBatch
from diffhmr.errors import UserError
from diffhmr.geometry.camera import box_to_normalised
from diffhmr.inference.annotations import (
    HIDDEN_CONFIDENCE,
    NUM_KEYPOINTS,
    Annotation,
    AnnotationFile,
    Box,
    Keypoints,
    read_annotations,
)
from diffhmr.inference.detection import Detector, load_detector
from diffhmr.inference.photo import Photo, crop_square, list_images, read_photo

log = logging.getLogger(__name__)

BOX_SCALE = 1.2
"""Side of the square crop as a multiple of the longer side of the person's box."""

KEYPOINT_MARGIN = 0.1
"""Keypoints end at the eyes and the ankles: their extent grows by this share of its longer side on every side."""


@dataclass(frozen=True)
class PersonInput:
    """One person in one photo.

    Attributes:
        photo: the picture.
        index: number of the person in the picture, from 0.
        box: x0, y0, x1, y1 in pixels from the image's edges; may stick out of it.
        box_source: where the box comes from, in words.
        keypoints: COCO-17 in pixels, or None.
    """

    photo: Photo
    index: int
    box: Box
    box_source: str
    keypoints: Keypoints | None = None

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of the box in pixel coordinates (the centre of the top-left pixel is the origin)."""
        return (self.box[0] + self.box[2]) / 2 - 0.5, (self.box[1] + self.box[3]) / 2 - 0.5

    @property
    def longer_side(self) -> float:
        """Longer side of the box in pixels."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    @property
    def side(self) -> float:
        """Side of the square crop in pixels."""
        return BOX_SCALE * self.longer_side

    @property
    def item_seed(self) -> int:
        """Identifies the person by the file's name and the index, so that nobody's samples depend on the others."""
        digest = hashlib.sha256(f"{self.photo.path.name}#{self.index}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True)
class PeopleSource:
    """How people are found; at most one of ``box``, ``boxes`` and ``whole_image``.

    Attributes:
        box: one person in one image.
        boxes: annotation file with boxes, and perhaps keypoints.
        keypoints: annotation file with keypoints; they replace those of ``boxes``.
        whole_image: every image is one person.
        hidden_confidence: confidence given to keypoints that an annotation file labels as hidden (v = 1).
    """

    box: Box | None = None
    boxes: Path | None = None
    keypoints: Path | None = None
    whole_image: bool = False
    hidden_confidence: float = HIDDEN_CONFIDENCE

    def __post_init__(self) -> None:
        if sum((self.box is not None, self.boxes is not None, self.whole_image)) > 1:
            raise UserError("give only one of --box, --boxes and --whole-image")


def parse_box(text: str) -> Box:
    """``"x0,y0,x1,y1"`` in pixels.

    Raises:
        UserError: there are not four numbers.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4:
        raise UserError(f"box {text!r} is not four numbers x0,y0,x1,y1 in pixels")
    return values[0], values[1], values[2], values[3]


def check_box(box: Box, photo: Photo) -> Box:
    """``box`` itself, if it is one on ``photo``.

    Raises:
        UserError: a corner is not finite, the box is reversed or empty, or less than half of it lies in the image.
    """
    x0, y0, x1, y1 = box
    text = f"{photo.path.name}: box {','.join(f'{value:g}' for value in box)}"
    if not all(math.isfinite(value) for value in box):
        raise UserError(f"{text} holds a value that is not a finite number")
    if x1 - x0 < 1 or y1 - y0 < 1:
        raise UserError(f"{text} is reversed or empty: give x0,y0,x1,y1 with x0 < x1 and y0 < y1, in pixels")
    inside = max(min(x1, photo.width) - max(x0, 0), 0) * max(min(y1, photo.height) - max(y0, 0), 0)
    if inside < 0.5 * (x1 - x0) * (y1 - y0):
        raise UserError(f"{text} lies outside the picture: give pixels of its {photo.width} x {photo.height}")
    return box


def check_keypoints(keypoints: Keypoints | None, box: Box, photo: Photo) -> Keypoints | None:
    """``keypoints`` themselves, if they can be those of the person in ``box``.

    Raises:
        UserError: most of the labelled points lie outside the box, or all lie in one place: they are not in pixels, or
            of somebody else.
    """
    if keypoints is None:
        return None
    points = keypoints.points[keypoints.labelled, :2] + 0.5
    slack = 0.1 * max(box[2] - box[0], box[3] - box[1])
    inside = (points >= np.array(box[:2]) - slack).all(1) & (points <= np.array(box[2:]) + slack).all(1)
    if inside.mean() < 0.5 or (len(points) > 1 and float(np.ptp(points, axis=0).max()) < 2):
        text = ",".join(f"{value:g}" for value in box)
        raise UserError(
            f"{photo.path.name}: keypoints do not fit the box {text}; give COCO-17 points in pixels of the image"
        )
    return keypoints


def box_from_keypoints(keypoints: Keypoints) -> Box:
    """The extent of the labelled points, grown by :data:`KEYPOINT_MARGIN` of its longer side on every side.

    Points are all there is to go by: with only a head and shoulders labelled, the box is that of head and shoulders.
    """
    points = keypoints.points[keypoints.labelled, :2] + 0.5
    low, high = points.min(axis=0), points.max(axis=0)
    margin = max(KEYPOINT_MARGIN * float((high - low).max()), 1.0)
    x0, y0 = low - margin
    x1, y1 = high + margin
    return float(x0), float(y0), float(x1), float(y1)


def find_people(
    path: str | Path, source: PeopleSource, device: torch.device | str = "cpu"
) -> Iterator[list[PersonInput]]:
    """The people in the image or folder ``path``, photo by photo: only one photo is held in memory.

    Photos in which the annotations name nobody are left out with a warning.

    Raises:
        UserError: an image, an annotation file or a box cannot be used, or there is nobody in any image.
    """
    paths = list_images(path)
    if source.box is not None and len(paths) > 1:
        raise UserError(f"--box is for one image, but {path} has {len(paths)}: use --boxes FILE.json")
    boxes, keypoints = (
        None if file is None else read_annotations(file, source.hidden_confidence)
        for file in (source.boxes, source.keypoints)
    )
    detector: Detector | None = None
    if source.box is None and boxes is None and keypoints is None and not source.whole_image:
        detector = load_detector(device)
    nobody = True
    for image in paths:
        photo = read_photo(image)
        single = len(paths) == 1
        found, method = _people_in(photo, source, _of(boxes, image, single), _of(keypoints, image, single), detector)
        if not found:
            if not single:
                log.warning("%s: the annotations name nobody in this image, leaving it out", image.name)
            continue
        nobody = False
        people = []
        for index, person in enumerate(found):
            box = check_box(_box_of(person), photo)
            people.append(PersonInput(photo, index, box, method, check_keypoints(person.keypoints, box, photo)))
        yield people
    if nobody:
        raise UserError(f"{source.boxes or source.keypoints} names nobody in {path}; correct the file names in it")


def make_batch(people: Sequence[PersonInput], size: int, images: bool) -> ImageBatch:
    """The input of a model.

    Args:
        people: at least one.
        size: side of the crops in pixels.
        images: cut out crops; otherwise the batch holds keypoints.

    Raises:
        UserError: keypoints are needed and somebody has none.
    """
    seeds = torch.tensor([person.item_seed for person in people], dtype=torch.int64)
    if images:
        crops = np.stack([crop_square(person.photo, person.centre, person.side, size) for person in people])
        return ImageBatch(seeds, image=torch.from_numpy(crops).permute(0, 3, 1, 2).float().div(255).contiguous())
    return ImageBatch(seeds, keypoints=torch.stack([_needed_keypoints(person) for person in people]))


def _needed_keypoints(person: PersonInput) -> Tensor:
    if person.keypoints is None:
        raise UserError(
            f"{person.photo.path.name}, person {person.index}: the model needs COCO keypoints and there are none in "
            "the box; give --keypoints FILE.json or choose an image model with --checkpoint"
        )
    return given_keypoints(person)


def given_keypoints(person: PersonInput) -> Tensor:
    """COCO-17 ``[17, 3]``: x, y in [-1, 1] over the crop and confidence; 0 where unseen or outside the crop."""
    if person.keypoints is None:
        return torch.zeros(NUM_KEYPOINTS, 3)
    points = torch.from_numpy(person.keypoints.points).float()
    centre, side = torch.tensor(person.centre, dtype=points.dtype), torch.tensor(person.side, dtype=points.dtype)
    scaled = torch.cat([box_to_normalised(points[:, :2], centre, side), points[:, 2:]], dim=-1)
    # In training, points outside the crop are unseen.
    given = (points[:, 2:] > 0) & (scaled[:, :2].abs() <= 1).all(-1, keepdim=True)
    return torch.where(given, scaled, 0.0)


def _of(file: AnnotationFile | None, image: Path, only_image: bool) -> list[Annotation] | None:
    return None if file is None else file.people(image, only_image)


def _people_in(
    photo: Photo,
    source: PeopleSource,
    boxes: list[Annotation] | None,
    keypoints: list[Annotation] | None,
    detector: Detector | None,
) -> tuple[list[Annotation], str]:
    """People in one photo, with whatever boxes and keypoints there are, and where the boxes come from."""
    if detector is not None:
        return detector.find(photo)
    method = "annotation file"
    if source.box is not None:
        boxes, method = [Annotation(source.box, None)], "given box"
    elif source.whole_image:
        boxes, method = [Annotation((0.0, 0.0, float(photo.width), float(photo.height)), None)], "whole image"
    if boxes is None:
        people = keypoints or []
        return people, "annotation file" if any(person.box for person in people) else "extent of the keypoints"
    if keypoints is None:
        return boxes, method
    people = pair_keypoints(boxes, keypoints)
    without = [str(index) for index, person in enumerate(people) if person.keypoints is None]
    if without and keypoints and source.box is not None:
        raise UserError(
            f"{photo.path.name}: nobody in {source.keypoints} is where --box is: correct one (both are in pixels), or "
            "leave it out"
        )
    if without and keypoints:
        log.warning("%s: no keypoints lie in the boxes of person %s", photo.path.name, ", ".join(without))
    return people, method


def _box_of(person: Annotation) -> Box:
    if person.box is not None:
        return person.box
    assert person.keypoints is not None
    return box_from_keypoints(person.keypoints)


def pair_keypoints(boxes: list[Annotation], keypoints: list[Annotation]) -> list[Annotation]:
    """Give every box the keypoints whose extent fits it best.

    The sum of the overlaps (intersection over union) is maximised; a pair that does not overlap is none, and such a box
    keeps no keypoints. Keypoints that no box wants are left out.
    """
    candidates = [person.keypoints for person in keypoints if person.keypoints is not None]
    overlap = np.array([[_iou(_box_of(box), box_from_keypoints(points)) for points in candidates] for box in boxes])
    paired: list[Keypoints | None] = [None] * len(boxes)
    if candidates:
        for row, column in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
            if overlap[row, column] > 0:
                paired[row] = candidates[column]
    return [Annotation(_box_of(box), points) for box, points in zip(boxes, paired, strict=True)]


def _iou(first: Box, second: Box) -> float:
    a, b = np.array(first), np.array(second)
    shared = _area(np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:]))
    return shared / max(_area(a[:2], a[2:]) + _area(b[:2], b[2:]) - shared, 1e-9)


def _area(low: NDArray[np.float64], high: NDArray[np.float64]) -> float:
    return float(np.prod((high - low).clip(min=0)))
