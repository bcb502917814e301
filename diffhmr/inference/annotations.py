"""Files that say where people are: COCO annotations, COCO results, and plain lists of boxes or keypoints.

Boxes are (x0, y0, x1, y1) in pixels measured from the image's left and top EDGE, as in COCO: a box over a whole picture
is (0, 0, W, H). Keypoints are COCO-17 pixel coordinates, in which the centre of the top-left pixel is (0, 0).
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffhmr.errors import UserError
from diffhmr.files import require_file

Box = tuple[float, float, float, float]

NUM_KEYPOINTS = 17
HIDDEN_CONFIDENCE = 1.0
"""Confidence given to a point that COCO labels as hidden (v = 1). Annotators place such points well."""

_PERSON, _PERSON_NAME = "1", "person"
"""COCO's category of people; detectors list cars and dogs in the same file."""

_FORMATS = (
    "use COCO annotations, a COCO results list, [[x0,y0,x1,y1], ...], [[[x,y,confidence] x 17], ...] or "
    '{"file name": [...]} of these'
)


@dataclass(frozen=True)
class Keypoints:
    """COCO-17 points of one person.

    Attributes:
        points: ``[17, 3]`` float64 pixels x, y and confidence in [0, 1]; all three are 0 where nothing is known.
        labelled: ``[17]`` bool, the point has a position, even if its confidence is 0 so that no model is given it.
    """

    points: NDArray[np.float64]
    labelled: NDArray[np.bool_]


@dataclass(frozen=True)
class Annotation:
    """What a file or a detector says about one person; at least one of the two is there."""

    box: Box | None
    keypoints: Keypoints | None


class AnnotationFile:
    """People by image. Images are known by file name, by COCO id, or not at all (a list for a single image)."""

    def __init__(self, path: Path, entries: list[tuple[str | int | None, Annotation]]) -> None:
        self._path = path
        self._entries = entries

    def people(self, image: Path, only_image: bool) -> list[Annotation]:
        """The people of ``image`` in the order of the file.

        Args:
            image: recognised by its name with or without suffix, or, for COCO ids, by the number that is its name.
            only_image: this is the only image, so that people without an image belong to it.

        Raises:
            UserError: the file names no images but there are several.
        """
        found = []
        for key, annotation in self._entries:
            if key is None and not only_image:
                raise UserError(f"{self._path} does not say which image its people are in: {_FORMATS}")
            if key is None or _matches(key, image):
                found.append(annotation)
        return found


def read_annotations(path: str | Path, hidden_confidence: float = HIDDEN_CONFIDENCE) -> AnnotationFile:
    """Read people from a JSON file; see the module's text for the units.

    Known forms: a COCO annotation file (``images`` and ``annotations`` with ``bbox`` x, y, width, height and perhaps
    ``keypoints``; crowds and other categories than people are left out), a COCO results list (``image_id``, ``bbox``,
    ``keypoints`` with scores), a list of boxes or of 17 x 3 keypoints for a single image, and a dictionary from file
    name to such a list.

    Args:
        path: the file.
        hidden_confidence: confidence given to points labelled v = 1; scores of detectors are kept, limited to 1.

    Raises:
        UserError: the file is missing, is not JSON, or has none of these forms.
    """
    path = require_file(path, "annotation file", _FORMATS)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a JSON file ({error}); {_FORMATS}") from error
    parser = _Parser(path, hidden_confidence)
    if isinstance(content, dict) and "annotations" in content:
        return AnnotationFile(path, parser.coco(content))
    if isinstance(content, list):
        return AnnotationFile(path, parser.people(None, content))
    if isinstance(content, dict):
        named = [entry for name, people in content.items() for entry in parser.people(name, people)]
        return AnnotationFile(path, named)
    raise UserError(f"{path} holds a single value; {_FORMATS}")


def keypoints_from_rows(rows: NDArray[np.float64], confidence: NDArray[np.float64]) -> Keypoints:
    """From pixels ``rows [17, 2]`` and ``confidence [17]``; points with confidence 0 are unseen and not labelled."""
    seen = confidence > 0
    points = np.concatenate([rows, np.clip(confidence, 0, 1)[:, None]], axis=1)
    return Keypoints(np.where(seen[:, None], points, 0.0), seen)


def person_categories(categories: list[dict[str, Any]]) -> set[str]:
    """Numbers, as text, of the categories of a COCO file that mean people; 1 if none is called person."""
    return {str(item["id"]) for item in categories if str(item["name"]).lower() == _PERSON_NAME} or {_PERSON}


def is_person(category: Any, people: Collection[str] = (_PERSON,)) -> bool:
    """Whether a ``category_id`` means a person; where there is none it does.

    Tools write it as a number, as a number in quotation marks, or as the name.
    """
    if category is None:
        return True
    text = str(int(category) if isinstance(category, float) and category.is_integer() else category).strip()
    return text in people or text.lower() == _PERSON_NAME


@dataclass(frozen=True)
class _Parser:
    path: Path
    hidden_confidence: float

    def coco(self, content: dict[str, Any]) -> list[tuple[str | int | None, Annotation]]:
        try:
            names = {image["id"]: str(image["file_name"]) for image in content["images"]}
            people = person_categories(content.get("categories", []))
            entries: list[tuple[str | int | None, Annotation]] = []
            for item in content["annotations"]:
                if not is_person(item.get("category_id"), people) and content.get("categories"):
                    continue
                if item.get("iscrowd"):
                    continue
                entries.append((names[item["image_id"]], self._person(item, flags=True)))
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{self.path} is no complete COCO annotation file ({error!r}): images need id and file_name, "
                "annotations the image_id of an image and bbox or keypoints, categories id and name"
            ) from error
        return entries

    def people(self, image: str | None, items: Any) -> list[tuple[str | int | None, Annotation]]:
        if not isinstance(items, list):
            raise self._wrong(items)
        entries: list[tuple[str | int | None, Annotation]] = []
        for item in items:
            if isinstance(item, dict):
                if not is_person(item.get("category_id")):
                    continue
                key = item.get("image_id") if image is None else image
                if not isinstance(key, str | int | None):
                    raise UserError(f"{self.path}: the image_id {str(key)[:60]} is neither a number nor a file name")
                entries.append((key, self._person(item, flags=False)))
                continue
            values = self._numbers(item)
            if values.shape == (4,):
                x0, y0, x1, y1 = (float(value) for value in values)
                entries.append((image, Annotation((x0, y0, x1, y1), None)))
            else:
                entries.append((image, self._somebody(None, self._keypoints(values, flags=False))))
        return entries

    def _person(self, item: dict[str, Any], flags: bool) -> Annotation:
        box = None
        if item.get("bbox") is not None:
            values = self._numbers(item["bbox"])
            if values.shape != (4,):
                raise self._wrong(item["bbox"])
            x, y, width, height = (float(value) for value in values)
            box = (x, y, x + width, y + height)
        keypoints = None
        if item.get("keypoints") is not None:
            keypoints = self._keypoints(self._numbers(item["keypoints"]), flags)
        return self._somebody(box, keypoints)

    def _somebody(self, box: Box | None, keypoints: Keypoints | None) -> Annotation:
        if box is None and keypoints is None:
            raise UserError(f"{self.path}: a person has neither bbox nor visible keypoints; {_FORMATS}")
        return Annotation(box, keypoints)

    def _keypoints(self, values: NDArray[np.float64], flags: bool) -> Keypoints | None:
        """From 51 numbers; the third of each point is COCO's v (0, 1, 2) or a score. None when no point is seen.

        Detectors write scores in the layout of annotations too: a person in whom one is neither 0, 1 nor 2 has scores.
        """
        if values.size != NUM_KEYPOINTS * 3:
            raise UserError(
                f"{self.path}: keypoints have {values.size} numbers, expected 17 COCO points of x, y, confidence"
            )
        table = values.reshape(NUM_KEYPOINTS, 3)
        confidence = table[:, 2]
        labelled = confidence > 0
        if not labelled.any():
            return None
        if np.isin(confidence, (0, 1, 2)).all() and (flags or (confidence == 2).any()):
            confidence = np.select([confidence >= 2, confidence >= 1], [1.0, self.hidden_confidence], 0.0)
        points = keypoints_from_rows(table[:, :2], confidence).points
        points[labelled, :2] = table[labelled, :2]
        return Keypoints(points, labelled)

    def _numbers(self, item: Any) -> NDArray[np.float64]:
        try:
            values = np.asarray(item, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise self._wrong(item) from error
        if not np.isfinite(values).all():
            raise UserError(f"{self.path} holds a value that is not a finite number")
        return values

    def _wrong(self, item: Any) -> UserError:
        return UserError(f"{self.path}: cannot understand {str(item)[:60]}; {_FORMATS}")


def _matches(key: str | int, image: Path) -> bool:
    if isinstance(key, int):
        return image.stem.isdecimal() and int(image.stem) == key
    return Path(key).name == image.name or key == image.stem
