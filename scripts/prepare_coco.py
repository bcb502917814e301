"""People of COCO with 2D keypoints as label files: python -m scripts.prepare_coco --year 2014 --root RAW

RAW is the folder in which the official archives were unpacked: ``annotations/person_keypoints_{train,val}YEAR.json``
and the pictures in ``trainYEAR/`` and ``valYEAR/`` (Lin et al., ECCV 2014). The box is the annotated one, 1.2 times
larger; taken are, as in SPIN, people all of whose 12 limb joints are labelled, and no crowds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from diffhmr.command_line import run_command
from diffhmr.errors import UserError
from diffhmr.files import require_file
from scripts.preparation import job
from scripts.preparation.people2d import BOX_FACTOR, LabelOptions, Parts, People2D, Rows, chosen_rows, to_slots

SLOTS = (19, 20, 21, 22, 23, 9, 8, 10, 7, 11, 6, 3, 2, 4, 1, 5, 0)
"""Where COCO's 17 keypoints go: its hips to the hips of LSP, as in SPIN."""

YEARS = ("2014", "2017")
NUM_PICTURES = {"train2014": 82_783, "val2014": 40_504, "train2017": 118_287, "val2017": 5_000}
_DOWNLOAD = {"train2014": "13 GB", "val2014": "6 GB", "train2017": "18 GB", "val2017": "1 GB"}

_LIMBS = slice(5, 17)
_NUM_KEYPOINTS = 17


@dataclass
class Coco(People2D):
    """One of the two releases."""

    year: str
    splits: ClassVar[tuple[str, ...]] = ("train", "val")
    source: ClassVar[str] = "https://cocodataset.org/#download"
    licence: ClassVar[str] = "annotations CC BY 4.0; pictures under the terms of Flickr, each with its own licence"

    @property
    def name(self) -> str:
        """coco2014 or coco2017."""
        return f"coco{self.year}"

    def parts(self, root: Path, split: str) -> Parts:
        """``annotations/person_keypoints_trainYEAR.json`` and ``trainYEAR/``."""
        folder = f"{split}{self.year}"
        site = "http://images.cocodataset.org"
        remedy = (
            f"download {site}/zips/{folder}.zip ({_DOWNLOAD[folder]}) and "
            f"{site}/annotations/annotations_trainval{self.year}.zip (241 MB) and unpack both into {root}"
        )
        return Parts(annotation_file(root, folder), root / folder, ".jpg", NUM_PICTURES[folder], remedy)

    def read(self, root: Path, split: str) -> Rows:
        """All people of a split."""
        folder = f"{split}{self.year}"
        return read_people(annotation_file(root, folder), folder, self.options)


def annotation_file(root: Path, folder: str) -> Path:
    """Of the pictures in ``folder``, such as train2014."""
    return root / "annotations" / f"person_keypoints_{folder}.json"


def read_people(path: Path, folder: str, options: LabelOptions) -> Rows:
    """The rows of an annotation file, in its order, without OpenPose's detections.

    COCO's keypoints are whole pixels, 0 for the first column; its boxes are measured from the edges of the picture, so
    that half a pixel is taken from their corners. Keypoints with flag 1 are hidden.

    Args:
        path: the JSON file.
        folder: of the pictures; becomes part of ``imgname``.
        options: the user's.

    Raises:
        UserError: the file is missing or is not COCO's.
    """
    content = _read_json(path)
    try:
        pictures = {item["id"]: item for item in content["images"]}
        people = [item for item in content["annotations"] if not item.get("iscrowd")]
        points = np.array([item["keypoints"] for item in people], np.float64).reshape(len(people), _NUM_KEYPOINTS, 3)
        theirs = [pictures[item["image_id"]] for item in people]
        bbox = np.array([item["bbox"] for item in people], np.float64).reshape(len(people), 4)
        names = [f"{folder}/{item['file_name']}" for item in theirs]
        sizes = [(int(item["width"]), int(item["height"])) for item in theirs]
        areas = [float(item["area"]) for item in people]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} is no complete keypoint annotation of COCO ({error!r}): is it a person_keypoints_*.json? "
            "unpack the official archive again"
        ) from error
    bbox[:, :2] -= 0.5
    confidence = np.select([points[..., 2] >= 2, points[..., 2] >= 1], [1.0, options.hidden_confidence], 0.0)
    rows = {
        "imgname": np.array(names, np.str_),
        "center": bbox[:, :2] + bbox[:, 2:] / 2,
        "scale": BOX_FACTOR * bbox[:, 2:].max(axis=1, initial=0.0) / 200,
        "part": to_slots(points[..., :2], confidence, SLOTS),
        "image_size": np.array(sizes, np.int64).reshape(len(people), 2),
        "area": np.array(areas, np.float64),
        "bbox": bbox,
    }
    return chosen_rows(rows, (points[:, _LIMBS, 2] > 0).sum(axis=1) >= options.min_keypoints)


def _read_json(path: Path) -> dict[str, Any]:
    require_file(path, "annotation file", "unpack the archive of annotations into the same folder as the pictures")

    def without_outlines(item: dict[str, Any]) -> dict[str, Any]:
        item.pop("segmentation", None)  # most of the file
        return item

    try:
        content = json.loads(path.read_bytes(), object_hook=without_outlines)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is no complete JSON file ({error}); unpack the archive again") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a list, not COCO's annotations; unpack the archive again")
    return content


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""

    def add_options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--year", choices=YEARS, default="2014", help="default: %(default)s, as SPIN")
        LabelOptions.add_to(parser, (12, 12, "the 12 limb joints"))

    def make(arguments: argparse.Namespace) -> Coco:
        return Coco(LabelOptions.of(arguments), arguments.year)

    return job.main(make, argv, description=__doc__, add_options=add_options)


if __name__ == "__main__":
    sys.exit(run_command(main))
