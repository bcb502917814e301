"""What 2D pose detectors write about videos, each recognised by its content and turned into the same table of people.

Known are the JSON files of AlphaPose (one list of people; ``docs/output.md`` of that project), of MMPose's inferencer
and of its demos (a list of frames with instances, there under ``instance_info``), COCO results and annotations, folders
with one OpenPose file per frame, and NumPy arrays. A JSON file is unpacked while it is parsed, so that a file of many
frames takes little more memory than its text.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from diffhmr.body.joints import COCO17, H36M17, HALPE26, JOINT_SETS, OPENPOSE25
from diffhmr.errors import UserError, some_of
from diffhmr.files import require_file
from diffhmr.inference.annotations import is_person, person_categories
from diffhmr.inference.frame_numbers import MOST, FrameNumbers, numbers_from_keys
from diffhmr.inference.keypoint_arrays import is_array_file, read_array

log = logging.getLogger(__name__)

KNOWN_FORMATS = (
    "known are the JSON of AlphaPose, MMPose and COCO, a folder of OpenPose's BODY_25 files, and arrays (frames, 17, 2 "
    "or 3) in .npy or .npz"
)

UNNUMBERED = -1
"""Number of people to whom a file gives none."""

# AlphaPose and MMPose write whole bodies with the points of a smaller set first: 136 and 68 are Halpe with face and
# hands or with hands, 133 is COCO-WholeBody.
_SETS = {17: COCO17.name, 26: HALPE26.name, 68: HALPE26.name, 133: COCO17.name, 136: HALPE26.name}
_OPENPOSE_SETS = {25: OPENPOSE25.name}
_PACKED = ("keypoints", "keypoint_scores", "pose_keypoints_2d")
_DROPPED = ("face_keypoints_2d", "hand_left_keypoints_2d", "hand_right_keypoints_2d", "pred_xyz_jts", "segmentation")
_IDENTITY_KEYS = ("idx", "track_id", "person_id")
# Frames of a video as AlphaPose and OpenPose name them, both from 0; pictures in a folder have names of their own.
_NAMES_FROM_0 = re.compile(r"(0|[1-9]\d*)\.jpg|.+_\d{12}_keypoints\.json")


@dataclass(frozen=True)
class Detections:
    """The people of a file, in its order.

    Attributes:
        kind: name of the format, for messages.
        frames: their frames, as numbered in the file.
        ids: ``[N]`` int64 identity that the file gives them, :data:`UNNUMBERED` if it gives none.
        points: ``[N, K, 3]`` float64 x, y, confidence; may hold values that are not finite.
        joint_set: name of the K points.
        tracked: False if everybody has the ``idx`` 0, which AlphaPose writes when it does not track.
    """

    kind: str
    frames: FrameNumbers
    ids: NDArray[np.int64]
    points: NDArray[np.float64]
    joint_set: str
    tracked: bool = True


def read_detections(path: str | Path, num_frames: int | None = None) -> Detections:
    """Read a keypoint file or a folder of them.

    Args:
        path: the file or the folder.
        num_frames: of the video, if it is known: of an array it says which axis is time.

    Raises:
        UserError: it is missing or empty, broken off, of no known format, or names nobody.
    """
    path = Path(path)
    if path.is_dir():
        table = _read_folder(path)
    else:
        require_file(path, "keypoint file", KNOWN_FORMATS)
        if is_array_file(path):
            array = read_array(path, num_frames)
            frames = FrameNumbers(array.frames, array.listed)
            return Detections("array", frames, array.ids, array.points, array.joint_set)
        table = _table_of(_load_json(path), path)
    return table.finished()


@dataclass
class _Table:
    """People as they are read, one entry each in ``keys`` (frame or image), ``ids`` and ``points``.

    ``listed`` are all frames. Where a format lists all of them or some, ``perhaps``, they count if there is no gap.
    """

    kind: str
    path: Path
    sets: dict[int, str]
    keys: list[str | int] = field(default_factory=list)
    ids: list[int] = field(default_factory=list)
    points: list[NDArray[np.float64]] = field(default_factory=list)
    listed: list[str | int] | None = None
    perhaps: bool = False
    first: int | None = None
    others: Counter[str] = field(default_factory=Counter)
    tracked: bool = False

    def add(self, key: Any, person: dict[str, Any], name: str = "keypoints") -> None:
        """A person of the file; other things than people are left out."""
        if not is_person(person.get("category_id")):
            self.leave_out(person)
            return
        if isinstance(key, float) and key.is_integer():  # tables with gaps make whole numbers so
            key = int(key)
        if isinstance(key, bool) or not isinstance(key, str | int):
            self.wrong(f"the frame {str(key)[:40]} is neither a number nor a file name")
        points = self._rows(person.get(name), person.get("keypoint_scores"))
        self.keys.append(key)
        self.ids.append(self._identity(person))
        self.points.append(points)

    def leave_out(self, thing: dict[str, Any]) -> None:
        """Note something of another category."""
        self.others[str(thing.get("category_id"))[:30]] += 1

    def finished(self) -> Detections:
        """The table as arrays; only the points of a known set are kept."""
        others = f"{self.others.total()} things of other categories than 1 or person ({some_of(sorted(self.others))})"
        if not self.points:
            but = f" but {others}" if self.others else ""
            raise UserError(f"{self.path} names no people{but}: check that the detector found somebody")
        if self.others:
            log.warning("%s: %s are left out", self.path, others)
        counts = sorted({len(rows) for rows in self.points})
        if len(counts) > 1 or counts[0] not in self.sets:
            known = ", ".join(map(str, self.sets))
            self.wrong(f"people have {' and '.join(map(str, counts[:4]))} points, known are {known} for {self.kind}")
        joint_set = self.sets[counts[0]]
        points = np.stack([rows[: len(JOINT_SETS[joint_set])] for rows in self.points])
        listed = self.listed or []
        numbers = numbers_from_keys([*listed, *self.keys], str(self.path))
        every = np.unique(numbers[: len(listed)])
        complete = self.listed is not None and not (self.perhaps and (np.diff(every) > 1).any())
        first = 0 if all(_NAMES_FROM_0.fullmatch(str(key)) for key in self.keys) else self.first
        frames = FrameNumbers(numbers[len(listed) :], every if complete else None, first)
        return Detections(self.kind, frames, np.array(self.ids, dtype=np.int64), points, joint_set, self.tracked)

    def wrong(self, what: str) -> NoReturn:
        """Refuse the file."""
        raise UserError(f"{self.path}: {what}; {KNOWN_FORMATS}")

    def _rows(self, values: Any, scores: Any) -> NDArray[np.float64]:
        """``[K, 3]`` from K x 3 numbers in a row, or K pairs with scores beside them."""
        rows, beside = _numbers(values), _numbers(scores) if scores is not None else None
        if rows is None or rows.ndim > 2 or (scores is not None and beside is None):
            self.wrong(f"{self.kind}: keypoints {' '.join(str(values).split())[:40]} are not a list of numbers")
        if beside is None:
            if rows.ndim == 2 and rows.shape[1] == 2:
                found = (rows != 0).any(axis=1, keepdims=True)  # (0, 0) is what detectors write of points not found
                return np.concatenate([rows, found], axis=1)
            if rows.size == 0 or rows.size % 3 or (rows.ndim == 2 and rows.shape[1] != 3):
                self.wrong(f"keypoints have {rows.size} numbers, expected x, y and confidence of every point")
            return rows.reshape(-1, 3)
        if rows.size == 3 * beside.size:
            self.wrong("keypoints have three coordinates: give the 2D keypoints, before they are lifted to 3D")
        if rows.size != 2 * beside.size:
            self.wrong(f"keypoints have {rows.size} numbers and {beside.size} scores")
        return np.concatenate([rows.reshape(-1, 2), beside.reshape(-1, 1)], axis=1)

    def _identity(self, person: dict[str, Any]) -> int:
        """Number of the person; AlphaPose and OpenPose put it into lists, and write -1 or nothing for nobody known."""
        name = next((key for key in _IDENTITY_KEYS if person.get(key) is not None), None)
        value = None if name is None else person[name]
        while isinstance(value, list):
            value = value[0] if value else None
        if value is None:
            return UNNUMBERED
        try:
            number = int(float(value))
        except (TypeError, ValueError, OverflowError):
            self.wrong(f"the person {str(value)[:40]} is not a number: give people whole numbers")
        if number >= MOST:
            self.wrong(f"the number of the person {str(value)[:40]} is too large: give people numbers below {MOST}")
        self.tracked |= number > 0 or name != "idx"
        return max(number, UNNUMBERED)


def _table_of(content: Any, path: Path) -> _Table:
    """The people of a parsed JSON file of a whole video."""
    if isinstance(content, dict):
        if isinstance(content.get("instance_info"), list):
            return _mmpose(content["instance_info"], path, content.get("meta_info"), first=1)
        if isinstance(content.get("annotations"), list):
            return _coco(content, path)
        if "people" in content:
            raise UserError(f"{path} is one frame of OpenPose: give the folder in which the files of all frames lie")
        if content and all(isinstance(people, list) for people in content.values()):
            # AlphaPose's own tracker lists the frames with people only: an empty one shows that all are listed.
            listed = None if all(content.values()) else list(content)
            table = _Table("AlphaPose", path, _SETS, listed=listed, perhaps=True)
            for name, person in _people_of(content.items(), table):
                table.add(name, person)
            return table
    if isinstance(content, list):
        first = content[0] if content else {"keypoints": []}
        if isinstance(first, dict) and "instances" in first:
            return _mmpose(content, path, None)
        if isinstance(first, dict) and "keypoints" in first and not _is_instance(first):
            return _flat(content, path)
        if _is_instance(first):
            raise UserError(f"{path} is one picture of MMPose: give the folder in which the files of all frames lie")
    raise UserError(f"{path} holds {_described(content)}, which is no known keypoint format; {KNOWN_FORMATS}")


def _flat(content: list[Any], path: Path) -> _Table:
    """AlphaPose's list of people, or COCO results."""
    table = _Table("AlphaPose or COCO", path, _SETS)
    for person in content:
        if not isinstance(person, dict) or "keypoints" not in person:
            table.wrong(f"an entry of the list is {_described(person)}, expected a person with keypoints")
        key = person.get("image_id", person.get("frame_id"))
        if key is None:
            table.wrong("people have no image_id, which says in which frame they are")
        table.add(key, person)
    return table


def _mmpose(frames: list[Any], path: Path, meta: Any, first: int | None = None) -> _Table:
    """MMPose: frames with instances. The inferencer numbers frames from 0, the demo scripts from 1."""
    human36m = isinstance(meta, dict) and str(meta.get("dataset_name", "")).lower().startswith("h36m")
    table = _Table("MMPose", path, {17: H36M17.name} if human36m else _SETS, listed=[], first=first)
    assert table.listed is not None
    for place, frame in enumerate(frames):
        if not isinstance(frame, dict) or not isinstance(frame.get("instances"), list):
            table.wrong(f"frame {place} is {_described(frame)}, expected instances")
        key = frame.get("frame_id", place)
        table.listed.append(key)
        for _, person in _people_of([(key, frame["instances"])], table):
            table.add(key, person)
    return table


def _coco(content: dict[str, Any], path: Path) -> _Table:
    """COCO annotations; the frame is in the name of the image, or in ``frame_id``."""
    table = _Table("COCO", path, {17: COCO17.name})
    try:
        images = {image["id"]: image.get("frame_id", image.get("file_name")) for image in content.get("images", [])}
        if images and all(isinstance(key, str | int) for key in images.values()):
            table.listed, table.perhaps = list(images.values()), True
        people = person_categories(content.get("categories", []))
        for item in content.get("categories", []):
            names = item.get("keypoints")
            if str(item["id"]) in people and names and list(names) != list(COCO17.joint_names):
                table.wrong("its categories name other points than the 17 of COCO")
        for person in content["annotations"]:
            if not is_person(person.get("category_id"), people):
                table.leave_out(person)
            elif "keypoints" in person and not person.get("iscrowd"):
                key = images[person["image_id"]] if images else person.get("frame_id", person.get("image_id"))
                table.add(key, {**person, "category_id": None})
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is no complete COCO annotation file ({error!r}): images need id and file_name, annotations "
            "image_id and keypoints"
        ) from error
    return table


def _read_folder(path: Path) -> _Table:
    """One JSON file per frame: OpenPose's, or those of MMPose's inferencer for a folder of pictures."""
    files = sorted(path.glob("*.json"))
    if not files:
        raise UserError(f"the folder {path} holds no .json files; {KNOWN_FORMATS}")
    table = _Table("OpenPose", path, _OPENPOSE_SETS, listed=[file.name for file in files])
    for file in files:
        content = _load_json(file)
        if isinstance(content, dict) and isinstance(content.get("people"), list):
            people, name = content["people"], "pose_keypoints_2d"
        elif isinstance(content, list) and all(_is_instance(item) for item in content):
            people, name, table.kind, table.sets = content, "keypoints", "MMPose", _SETS
        else:
            raise UserError(
                f"{file} holds {_described(content)}, not one frame of OpenPose; if it is a whole video, give the file "
                "itself instead of its folder"
            )
        for _, person in _people_of([(file.name, people)], table):
            if np.size(person.get(name, ())):  # OpenPose also lists people of whom it sees a hand only
                table.add(file.name, person, name)
    return table


def _is_instance(item: Any) -> bool:
    """Whether ``item`` is a person of MMPose."""
    return isinstance(item, dict) and "keypoint_scores" in item


def _people_of(groups: Any, table: _Table) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Pairs of group and person, each of them a dictionary."""
    for key, people in groups:
        for person in people:
            if not isinstance(person, dict):
                table.wrong(f"a person is {_described(person)}, expected keypoints")
            yield key, person


def _load_json(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is neither JSON nor a NumPy file; {KNOWN_FORMATS}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    if text.strip() == "":
        raise UserError(f"keypoint file is empty: {path}; run the detector again")
    try:
        return json.loads(text, object_hook=_packed)
    except RecursionError as error:
        raise UserError(f"{path} is nested too deeply for a keypoint file; {KNOWN_FORMATS}") from error
    except json.JSONDecodeError as error:
        if text.lstrip()[0] not in "[{":
            raise UserError(f"{path} is neither JSON nor a NumPy file; {KNOWN_FORMATS}") from error
        if error.pos >= len(text.rstrip()) - 1 or error.msg.startswith("Unterminated"):
            raise UserError(
                f"{path} breaks off after {len(text)} characters: run the detector to its end, or copy the file again"
            ) from error
        raise UserError(f"{path} is not valid JSON ({error}): run the detector again") from error
    except ValueError as error:  # a number of thousands of digits
        raise UserError(f"{path} is not valid JSON ({error}): run the detector again") from error


def _packed(item: dict[str, Any]) -> dict[str, Any]:
    """An object of the file with its long lists as arrays and without what is not needed."""
    for key in _DROPPED:
        item.pop(key, None)
    for key in _PACKED:
        if key in item:
            values = _numbers(item[key])
            item[key] = item[key] if values is None else values
    return item


def _numbers(values: Any) -> NDArray[np.float64] | None:
    """An array, with NaN for null; None if these are no numbers."""
    if isinstance(values, list) and values and isinstance(values[0], str):
        return None
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None


def _described(content: Any) -> str:
    if isinstance(content, dict):
        return f"a dictionary with {', '.join(map(str, list(content)[:4])) or 'nothing'}"
    if isinstance(content, list):
        return f"a list of {_described(content[0])}" if content else "an empty list"
    return f"the value {str(content)[:30]}"
