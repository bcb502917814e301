"""Known people who walk through a picture, and their keypoints as the detectors of other projects write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffhmr.body.joints import HALPE26, OPENPOSE25, select
from diffhmr.inference.tracks import Track

SIZE = (640, 480)
COUNT = 40
Floats = NDArray[np.float64]

# A person of height 1 who faces the camera, in the order of Halpe-26, from the pelvis; the left side has x > 0.
_LEFT = {
    "eye": (0.02, -0.42), "ear": (0.04, -0.41), "shoulder": (0.11, -0.30), "elbow": (0.15, -0.15), "wrist": (0.16, 0.0),
    "hip": (0.06, 0.0), "knee": (0.07, 0.24), "ankle": (0.07, 0.46), "big_toe": (0.08, 0.5), "small_toe": (0.1, 0.5),
    "heel": (0.07, 0.48),
}  # fmt: skip
# The rest lies where other sets put it when they have to make it up.
_MIDDLE = {"nose": (0.0, -0.40), "head_top_lsp": (0.0, -0.42), "neck": (0.0, -0.30), "pelvis": (0.0, 0.0)}


def figure() -> Floats:
    """``[26, 2]`` Halpe points of the person of height 1."""
    rows = []
    for name in HALPE26.joint_names:
        side, _, part = name.partition("_")
        x, y = _MIDDLE[name] if name in _MIDDLE else _LEFT[part]
        rows.append((-x if side == "right" else x, y))
    return np.array(rows)


def walk(frames: NDArray[np.int64], start: float, speed: float, height: float = 200.0, phase: float = 0.0) -> Floats:
    """``[T, 26, 3]`` somebody who walks sideways through the picture with swinging limbs, confidence 0.9."""
    points = np.zeros((len(frames), 26, 3))
    points[..., :2] = height * figure()
    swing = 0.12 * height * np.sin(0.3 * frames + phase)
    for name, share in (("wrist", 1.0), ("elbow", 0.5), ("ankle", -1.0), ("knee", -0.5)):
        for side, sign in (("left", 1.0), ("right", -1.0)):
            points[:, HALPE26.joint_names.index(f"{side}_{name}"), 0] += sign * share * swing
    points[..., 0] += (start + speed * frames)[:, None]
    points[..., 1] += 240
    points[..., 2] = 0.9
    return points


def two_people(count: int = 40) -> Floats:
    """``[2, T, 26, 3]`` two who walk side by side, 300 pixels apart."""
    frames = np.arange(count)
    return np.stack([walk(frames, 120, 1.5), walk(frames, 420, 1.0, 230.0, 1.0)])


def openpose25(points: Floats) -> Floats:
    """Halpe points ``[..., 26, 3]`` in the order of BODY_25, with the same names."""
    rows: Floats = points[..., list(select(HALPE26, OPENPOSE25)), :]
    return rows


def h36m17(points: Floats) -> Floats:
    """Halpe points ``[T, 26, 3]`` as those of Human3.6M."""
    return Track(0, np.arange(len(points)), points, HALPE26.name).h36m17().points


def write(path: Path, content: Any) -> Path:
    """``content`` as JSON."""
    path.write_text(json.dumps(content))
    return path


def flat(people: Floats, name: str = "{}.jpg", ids: bool = False) -> list[dict[str, Any]]:
    """AlphaPose's list, frame by frame; ``people [M, T, K, 3]``."""
    entries = []
    for frame in range(people.shape[1]):
        for person in range(len(people)):
            entry: dict[str, Any] = {"image_id": name.format(frame), "category_id": 1, "score": 2.5}
            entry |= {"keypoints": people[person, frame].ravel().tolist(), "box": [1.0, 2.0, 3.0, 4.0]}
            entries.append(entry | ({"idx": person + 1} if ids else {}))
    return entries


def mmpose(people: Floats, first: int = 0) -> list[dict[str, Any]]:
    """The list of frames of MMPose."""
    return [
        {
            "frame_id": frame + first,
            "instances": [
                {"keypoints": rows[:, :2].tolist(), "keypoint_scores": rows[:, 2].tolist(), "bbox": [[0, 0, 9, 9]]}
                for rows in people[:, frame]
            ],
        }
        for frame in range(people.shape[1])
    ]


def openpose_folder(folder: Path, people: Floats) -> Path:
    """One file per frame, as ``--write_json`` makes them; nobody has a number."""
    folder.mkdir()
    for frame in range(people.shape[1]):
        entries = [
            {"person_id": [-1], "pose_keypoints_2d": rows.ravel().tolist(), "face_keypoints_2d": []}
            for rows in openpose25(people[:, frame])
        ]
        write(folder / f"clip2_{frame:012d}_keypoints.json", {"version": 1.3, "people": entries})
    return folder


def coco_annotations(people: Floats) -> dict[str, Any]:
    """COCO's annotation file with ``track_id``; every point is labelled as visible."""
    images = [{"id": 700 + frame, "file_name": f"v/{frame:06d}.png"} for frame in range(people.shape[1])]
    annotations = []
    for person in range(len(people)):
        for frame in range(people.shape[1]):
            rows = people[person, frame, :17].copy()
            rows[:, 2] = 2
            entry = {"image_id": 700 + frame, "category_id": 1, "keypoints": rows.ravel().tolist(), "track_id": person}
            annotations.append(entry)
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}


def one(count: int = COUNT) -> Floats:
    return two_people(count)[:1]


def kept(entries: list[dict[str, Any]], frames: range | list[int]) -> list[dict[str, Any]]:
    return [entry for entry in entries if int(entry["image_id"][:-4]) in frames]


def widened(people: Floats, count: int) -> Floats:
    """People with more points behind theirs, as detectors of hands and faces have them."""
    return np.concatenate([people, np.full((*people.shape[:2], count - people.shape[2], 3), 7.0)], axis=2)


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def npy(path: Path, array: Any) -> Path:
    np.save(path, array)
    return path


H36M = np.stack([h36m17(person) for person in two_people(COUNT)])
