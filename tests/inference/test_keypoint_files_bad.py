"""Every keypoint file that cannot be read gets one line that says why."""

from __future__ import annotations

import copy
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffhmr.errors import UserError
from diffhmr.inference.keypoint_files import read_tracks
from tests.inference.keypoint_motion import H36M, coco_annotations, flat, mmpose, npy, npz, one, write


def halved(path: Path) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def text(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


def raw(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def zipped(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.json", "[]")
    return path


def without(key: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in entry.items() if name != key} for entry in flat(one())]


def changed(**values: Any) -> list[dict[str, Any]]:
    entries = copy.deepcopy(flat(one()))
    entries[3] |= values
    return entries


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


KNOWN = "known are the JSON of AlphaPose, MMPose and COCO, a folder of OpenPose"
BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "no file": (lambda path: path, "keypoint file not found"),
    "empty": (lambda path: text(path, ""), "keypoint file is empty"),
    "blank": (lambda path: text(path, " \n"), "keypoint file is empty"),
    "empty list": (lambda path: text(path, "[]"), "names no people"),
    "broken off": (lambda path: halved(write(path, flat(one()))), "breaks off after .* characters: run the detector"),
    "broken off in a string": (lambda path: text(path, '[{"image_id": "0.j'), "breaks off after 18 characters"),
    "broken inside": (lambda path: text(path, '[{"a": 1} {"b": 2}, 3, 4]'), "is not valid JSON"),
    "text": (lambda path: text(path, "frame,x,y\n0,1,2\n"), f"neither JSON nor a NumPy file; {KNOWN}"),
    "binary": (lambda path: raw(path, b"\x80\x04\x95\xff\xfe"), f"neither JSON nor a NumPy file; {KNOWN}"),
    "another dictionary": (lambda path: write(path, {"a": 1, "b": 2}), f"with a, b, which is no.*; {KNOWN}"),
    "another list": (lambda path: write(path, [[1, 2], [3, 4]]), "a list of a list of the value 1, which is no known"),
    "a number": (lambda path: write(path, [3]), "a list of the value 3"),
    "one frame of OpenPose": (lambda path: write(path, {"people": []}), "is one frame of OpenPose: give the folder"),
    "one picture of MMPose": (
        lambda path: write(path, mmpose(one())[0]["instances"]),
        "is one picture of MMPose: give the folder",
    ),
    "3D": (
        lambda path: write(path, [{"instances": [{"keypoints": [[1, 2, 3]] * 17, "keypoint_scores": [1] * 17}]}]),
        "three coordinates: give the 2D keypoints",
    ),
    "other scores": (
        lambda path: write(path, [{"instances": [{"keypoints": [[1, 2]] * 17, "keypoint_scores": [1] * 16}]}]),
        "keypoints have 34 numbers and 16 scores",
    ),
    "frames that are none": (lambda path: write(path, [*mmpose(one()), 5]), "frame 40 is the value 5, expected"),
    "18 points": (lambda path: write(path, flat(one()[:, :, :18])), "people have 18 points, known are 17, 26, 68, 133"),
    "mixed points": (lambda path: write(path, flat(one()) + flat(one()[:, :, :17])), "people have 17 and 26 points"),
    "odd numbers": (lambda path: write(path, changed(keypoints=[1.0] * 50)), "keypoints have 50 numbers"),
    "words": (lambda path: write(path, changed(keypoints=["a"] * 51)), "are not a list of numbers"),
    "no frame": (lambda path: write(path, without("image_id")), "people have no image_id"),
    "odd frame": (lambda path: write(path, changed(image_id=1.5)), "frame 1.5 is neither a number nor a file name"),
    "negative frame": (lambda path: write(path, [dict(entry, image_id=int(entry["image_id"][:-4]) - 3)
                                                 for entry in flat(one())]), "has a frame number -3"),
    "no keypoints": (lambda path: write(path, [*flat(one()), {"a": 1}]), "a dictionary with a, expected a person"),
    "other things": (
        lambda path: write(path, [entry | {"category_id": 3} for entry in flat(one())]),
        r"names no people but 40 things of other categories than 1 or person \(3\)",
    ),
    "no images": (
        lambda path: write(path, coco_annotations(one()) | {"images": [{"id": 1, "file_name": "1.jpg"}]}),
        "no complete COCO annotation file",
    ),
    "other points": (
        lambda path: write(
            path, coco_annotations(one()) | {"categories": [{"id": 1, "name": "person", "keypoints": ["head_bottom"]}]}
        ),
        "categories name other points than the 17 of COCO",
    ),
    "a frame far away": (
        lambda path: write(path, [dict(entry, image_id=10**30) for entry in flat(one())]),
        "is no frame number: number the frames from 0 or 1",
    ),
    "a person far away": (lambda path: write(path, changed(idx=10**30)), "is too large: give people numbers below"),
    "a number of 5000 digits": (lambda path: text(path, '[{"image_id": ' + "1" * 5000 + "}]"), "is not valid JSON"),
    "nothing within the picture's reach": (
        lambda path: write(path, [entry | {"keypoints": [1e200, 1e200, 1.0] * 26} for entry in flat(one())]),
        "all keypoints are NaN or no pixels",
    ),
    "OpenPose of nobody": (
        lambda path: write(made(path) / "0.json", {"people": [{"pose_keypoints_2d": None}]}).parent,
        "keypoints",
    ),
    "a zip of other things": (lambda path: zipped(path.with_suffix(".npz")), "breaks off or is damaged"),
    "npy with a torn header": (
        lambda path: raw(path.with_suffix(".npy"), b"\x93NUMPY\x01\x00\x10\x00{'descr': '(((((  \n" + b"0" * 90),
        "breaks off or is damaged",
    ),
    "frames far away": (
        lambda path: npz(path.with_suffix(".npz"), keypoints=H36M, frames=np.array([*range(39), 2**62])),
        "is no frame number",
    ),
    "empty folder": (made, "holds no .json files"),
    "a whole video in a folder": (
        lambda path: write(made(path) / "a.json", flat(one())).parent,
        "not one frame of OpenPose; if it is a whole video, give the file itself",
    ),
    "OpenPose of 18": (
        lambda path: write(made(path) / "0.json", {"people": [{"pose_keypoints_2d": [1.0] * 54}]}).parent,
        "people have 18 points, known are 25 for OpenPose",
    ),
    "shape": (lambda path: npy(path.with_suffix(".npy"), np.ones((5, 40))), r"shape \(5, 40\): expected \(frames, 17"),
    "19 points": (lambda path: npy(path.with_suffix(".npy"), np.ones((5, 19, 2))), r"shape \(5, 19, 2\)"),
    "objects": (lambda path: npy(path.with_suffix(".npy"), np.array([{}], dtype=object)), "could run code"),
    "strings": (lambda path: npy(path.with_suffix(".npy"), np.array(["a"])), "not an array of numbers"),
    "two arrays": (lambda path: npz(path.with_suffix(".npz"), a=H36M, b=H36M), "holds a, b: call the points keypoints"),
    "confidence": (
        lambda path: npz(path.with_suffix(".npz"), keypoints=H36M, confidence=H36M[0]),
        "confidence of shape .* does not fit",
    ),
    "broken npy": (lambda path: halved(npy(path.with_suffix(".npy"), H36M)), "breaks off or is damaged"),
    "broken npz": (lambda path: halved(npz(path.with_suffix(".npz"), keypoints=H36M)), "breaks off or is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str, tmp_path: Path) -> None:
    maker, message = BAD[name]
    with pytest.raises(UserError, match=message) as caught:
        read_tracks(maker(tmp_path / "keypoints.json"))
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
