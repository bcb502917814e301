"""A miniature MPII Human Pose: the nested struct arrays of the official file, SPIN's train.h5, and a few pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io

from diffhmr.body.model import BodyModel
from tests.releases.drawn_people import DrawnPerson, draw_people, write_picture

MPII16 = (
    "right_ankle", "right_knee", "right_hip_lsp", "left_hip_lsp", "left_knee", "left_ankle", "pelvis_mpii",
    "thorax_mpii", "neck_lsp", "head_top_lsp", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder",
    "left_elbow", "left_wrist",
)  # fmt: skip
"""The order of the release; hips, upper neck and head top are where LSP has them."""

NECK_WITHOUT_FLAG, HEAD_AS_TEXT, HIDDEN = 8, 9, 10
_EMPTY = np.zeros((0, 0))


@dataclass(frozen=True)
class MpiiTruth:
    """What is in the release.

    Attributes:
        people: with all 16 joints, in training pictures of their own, in the order of the file.
        names: of their pictures.
        objpos: ``[P, 2]`` as written, from 1.
        scale: ``[P]`` as written.
        apart: of ``people``, those in ``single_person``.
        partial: has 14 joints; shares the picture of the first of ``people`` and comes after that.
    """

    people: list[DrawnPerson]
    names: list[str]
    objpos: np.ndarray
    scale: np.ndarray
    apart: list[int]
    partial: DrawnPerson


def write_mpii(root: Path, body: BodyModel, people: int = 3, seed: int = 0) -> MpiiTruth:
    """Write ``mpii_human_pose_v1_u12_2/mpii_human_pose_v1_u12_1.mat``, ``images/`` and ``train.h5``.

    There are also a test picture, a training picture without people, people without joints or place, and joints whose
    ``is_visible`` is missing, text or 0, all of which occur in the official file.
    """
    drawn = draw_people(body, people, seed)
    names = [f"{15601864 + 1000 * index:09d}.jpg" for index in range(people)]
    middle = np.stack([person.named(MPII16).mean(axis=0) for person in drawn]) + 1
    extent = np.stack([np.ptp(person.named(MPII16), axis=0).max() for person in drawn])
    objpos, scale = np.round(middle), extent / 200
    entries, train, apart = [], [], []
    for index, person in enumerate(drawn):
        write_picture(root / "images" / names[index], person.image)
        rects = [_rect(person, objpos[index], scale[index])]
        if index == 0:
            rects.append(_rect(person, objpos[0], scale[0], joints=14))
            rects.append({"scale": scale[0], "objpos": _struct([{"x": 5, "y": 6}], ("x", "y"))})
            rects.append({"annopoints": rects[0]["annopoints"]})
        entries.append(_entry(names[index], rects))
        train.append(1)
        apart.append(np.array([[1]]) if index != 1 else _EMPTY)
    entries.append(_entry("099990001.jpg", []))
    entries.append(_entry("099990002.jpg", [{"scale": 2.5, "objpos": _struct([{"x": 5, "y": 6}], ("x", "y"))}]))
    write_picture(root / "images" / "099990002.jpg", drawn[0].image)
    train += [1, 0]
    apart += [_EMPTY, np.array([[1], [2]])]
    _write_mat(root, entries, train, apart)
    _write_h5(root, drawn, names, objpos, scale)
    return MpiiTruth(drawn, names, objpos, scale, [index for index in range(people) if index != 1], drawn[0])


def _write_mat(root: Path, entries: list[dict[str, Any]], train: list[int], apart: list[np.ndarray]) -> None:
    cells = np.empty((len(entries), 1), object)
    for index, cell in enumerate(apart):
        cells[index, 0] = cell
    acts = [{"cat_name": "sports", "act_name": "curling", "act_id": 1} for _ in entries]
    release = {
        "annolist": _struct(entries, ("image", "annorect", "frame_sec", "vididx")),
        "img_train": np.array([train], np.uint8), "version": "12", "single_person": cells,
        "act": _struct(acts, ("cat_name", "act_name", "act_id")).T,
    }  # fmt: skip
    path = root / "mpii_human_pose_v1_u12_2" / "mpii_human_pose_v1_u12_1.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {"RELEASE": release}, do_compression=True)


def _write_h5(root: Path, drawn: list[DrawnPerson], names: list[str], objpos: np.ndarray, scale: np.ndarray) -> None:
    parts = np.stack([person.named(MPII16) + 1 for person in drawn])
    parts = np.concatenate([parts, parts[:1]])
    parts[-1, 8:10] = 0  # without label
    with h5py.File(root / "train.h5", "w") as file:
        file["imgname"] = np.array([name.encode() for name in [*names, names[0]]])
        file["part"] = parts
        file["center"] = np.concatenate([objpos, objpos[:1]])
        file["scale"] = np.concatenate([scale, scale[:1]])


def _entry(name: str, rects: list[dict[str, Any]]) -> dict[str, Any]:
    fields = ("x1", "y1", "x2", "y2", "annopoints", "scale", "objpos")
    return {
        "image": _struct([{"name": name}], ("name",)), "frame_sec": _EMPTY, "vididx": _EMPTY,
        "annorect": _struct(rects, fields) if rects else _EMPTY,
    }  # fmt: skip


def _rect(person: DrawnPerson, objpos: np.ndarray, scale: float, joints: int = 16) -> dict[str, Any]:
    """A person with the first ``joints`` of MPII's; the release lists them in another order than that of their ids."""
    coordinates = person.named(MPII16) + 1
    points = []
    for number in [*range(6, joints), *range(6)]:
        x, y = coordinates[number]
        point = {"x": x, "y": y, "id": number, "is_visible": int(number != HIDDEN)}
        if number == NECK_WITHOUT_FLAG:
            del point["is_visible"]
        if number == HEAD_AS_TEXT:
            point["is_visible"] = "1"
        points.append(point)
    table = _struct(points, ("x", "y", "id", "is_visible"))
    return {
        "x1": 10, "y1": 10, "x2": 30, "y2": 30, "annopoints": _struct([{"point": table}], ("point",)),
        "scale": float(scale), "objpos": _struct([{"x": objpos[0], "y": objpos[1]}], ("x", "y")),
    }  # fmt: skip


def _struct(elements: list[dict[str, Any]], fields: tuple[str, ...]) -> np.ndarray:
    """A (1, n) struct array as MATLAB writes it; fields that an element lacks are empty."""
    array = np.empty((1, len(elements)), dtype=[(field, object) for field in fields])
    for index, element in enumerate(elements):
        for field in fields:
            array[0, index][field] = element.get(field, _EMPTY)
    return array
