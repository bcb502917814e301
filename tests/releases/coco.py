"""A miniature COCO: both years' annotation files and a few pictures of synthetic people."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffhmr.body.joints import COCO17
from diffhmr.body.model import BodyModel
from tests.releases.drawn_people import HEIGHT, WIDTH, DrawnPerson, draw_people, write_picture

_FACE_AND_LIMBS = tuple(
    {"left_hip": "left_hip_lsp", "right_hip": "right_hip_lsp"}.get(name, name) for name in COCO17.joint_names
)
HIDDEN, UNLABELLED = "left_wrist", "right_ear"


@dataclass(frozen=True)
class CocoTruth:
    """What is in the release.

    Attributes:
        folder: of the pictures, such as train2014.
        people: those with all limb joints, in the order of the annotations.
        keypoints: ``[P, 17, 2]`` as written: whole pixels.
        bbox: ``[P, 4]`` as written.
        area: ``[P]``.
        image_names: of the pictures of ``people``.
        partial: the row in ``annotations`` of a person with 10 limb joints only.
    """

    folder: str
    people: list[DrawnPerson]
    keypoints: np.ndarray
    bbox: np.ndarray
    area: np.ndarray
    image_names: list[str]
    partial: int


def write_coco(
    root: Path, body: BodyModel, people: int = 3, seed: int = 0, split: str = "train", year: str = "2014"
) -> CocoTruth:
    """Write ``annotations/person_keypoints_SPLITYEAR.json`` and the pictures of ``people`` persons.

    In addition there are a person with few labels, one without any, and a crowd. The hips are those of LSP, which stand
    for COCO's; of each person one joint is hidden and one not labelled.
    """
    folder = f"{split}{year}"
    drawn = draw_people(body, people, seed)
    keypoints = np.stack([np.round(person.named(_FACE_AND_LIMBS)) for person in drawn])
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    names = []
    for index, person in enumerate(drawn):
        number = 1000 + 17 * (people - index)  # ids are not in order
        prefix = f"COCO_{folder}_" if year == "2014" else ""
        names.append(f"{prefix}{number:012d}.jpg")
        write_picture(root / folder / names[-1], person.image)
        images.append(_image(number, names[-1]))
        annotations.append(_annotation(index, number, keypoints[index]))
    # The other three share the first picture.
    shared = images[0]["id"]
    partial = _annotation(people, shared, keypoints[0])
    partial["keypoints"][3 * 15 :] = [0] * 6  # both ankles
    nobody = _annotation(people + 1, shared, keypoints[0]) | {"keypoints": [0] * 51, "num_keypoints": 0}
    crowd = _annotation(people + 2, shared, keypoints[0]) | {
        "iscrowd": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": [5, 10]},
    }  # fmt: skip
    annotations += [partial, nobody, crowd]
    content = {
        "info": {"description": f"COCO {year} Dataset", "year": int(year), "version": "1.0"},
        "licenses": [{"id": 1, "name": "Attribution License", "url": "http://creativecommons.org/licenses/by/2.0/"}],
        "images": images[::-1],
        "annotations": annotations,
        "categories": [
            {"supercategory": "person", "id": 1, "name": "person", "keypoints": list(COCO17.joint_names),
             "skeleton": [[16, 14], [14, 12]]}
        ],
    }  # fmt: skip
    path = root / "annotations" / f"person_keypoints_{folder}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    bbox = np.array([annotation["bbox"] for annotation in annotations[:people]])
    area = np.array([annotation["area"] for annotation in annotations[:people]])
    return CocoTruth(folder, drawn, keypoints, bbox, area, names, people)


def _image(number: int, name: str) -> dict[str, Any]:
    return {
        "license": 1, "file_name": name, "coco_url": f"http://images.cocodataset.org/x/{name}", "height": HEIGHT,
        "width": WIDTH, "date_captured": "2013-11-14 11:18:45", "flickr_url": "http://example.org", "id": number,
    }  # fmt: skip


def _annotation(index: int, image_id: int, points: np.ndarray) -> dict[str, Any]:
    flags = np.full(17, 2)
    flags[COCO17.joint_names.index(HIDDEN)] = 1
    flags[COCO17.joint_names.index(UNLABELLED)] = 0
    rows = np.concatenate([points, flags[:, None]], axis=1).astype(int)
    rows[flags == 0] = 0
    low, high = points.min(axis=0) - 3.25, points.max(axis=0) + 4.5
    width, height = high - low
    outline = [low[0], low[1], high[0], low[1], high[0], high[1], low[0], high[1]]
    return {
        "segmentation": [outline], "num_keypoints": int((flags > 0).sum()), "area": float(0.6 * width * height),
        "iscrowd": 0, "keypoints": rows.ravel().tolist(), "image_id": image_id,
        "bbox": [float(low[0]), float(low[1]), float(width), float(height)], "category_id": 1, "id": 400_000 + index,
    }  # fmt: skip
