"""Everything that is written for the people of a photo: results, pictures, meshes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.body.model import BodyModel
from diffhmr.errors import UserError
from diffhmr.files import atomic_path, ensure_folder
from diffhmr.inference.people import PersonInput
from diffhmr.inference.photo import Photo, crop_square
from diffhmr.inference.result import PersonResult, save_result
from diffhmr.render.colors import ANSWER_COLOUR, person_colour
from diffhmr.render.mesh_files import write_mesh
from diffhmr.render.overlay import overlay
from diffhmr.render.sheet import PersonView, hypothesis_sheet, spread_picture

MAX_PICTURE = 1600
"""Longer side of the overlays in pixels; larger photos are shrunk for them."""

SHOWN_HYPOTHESES = 9
"""The single answer and up to eight samples are shown in sheets and written as meshes."""

_CELL = 256


def write_people(
    people: Sequence[PersonInput],
    results: Sequence[PersonResult],
    body: BodyModel,
    folder: str | Path,
    mesh: Literal["none", "obj", "glb", "ply"] = "none",
) -> list[Path]:
    """Write a sub-folder per photo, named after it; returns the paths of all files in the order of the people.

    Per person ``personI.npz`` and ``.json`` (see :mod:`diffhmr.inference.result`), ``personI_overlay.png``,
    ``personI_sheet.png``, ``personI_spread.png`` and with ``mesh`` ``personI_answer.*`` and ``personI_sample1.*`` to
    ``8``; per photo ``people_overlay.png`` with everybody in it.

    Raises:
        UserError: the folder cannot be written.
    """
    folder = ensure_folder(folder)
    written: list[Path] = []
    for photo, rows in _by_photo(people):
        place = folder / _folder_name(photo.path, people)
        answers = []
        for row in rows:
            vertices = results[row].vertices(body, SHOWN_HYPOTHESES)
            answers.append(vertices[0])
            written += write_person(people[row], results[row], vertices, body, place)
            written += write_meshes(place / f"person{people[row].index}", vertices, body.faces, mesh)
        colours = torch.stack([person_colour(index) for index in range(len(rows))])
        picture = _on_photo(photo, torch.stack(answers), body.faces, results[rows[0]].intrinsic, colours)
        written.append(_write_png(place / "people_overlay.png", picture))
    return written


def write_person(
    person: PersonInput, result: PersonResult, vertices: Tensor, body: BodyModel, folder: Path
) -> list[Path]:
    """Result files and pictures of one person; ``vertices [S, V, 3]`` are those of the hypotheses to show."""
    stem = folder / f"person{person.index}"
    written = list(save_result(result, stem.with_suffix(".npz")))
    crop = crop_square(person.photo, person.centre, person.side, _CELL)
    view = PersonView(crop, person.centre, person.side, result.intrinsic, result.keypoints)
    title = f"{person.photo.path.name}, person {person.index} ({body.name})"
    colour = torch.tensor([ANSWER_COLOUR]) / 255
    pictures = {
        "overlay": _on_photo(person.photo, vertices[:1], body.faces, result.intrinsic, colour),
        "sheet": hypothesis_sheet(view, vertices, body.faces, title),
        "spread": spread_picture(
            view, vertices[0], body.faces, result.vertex_spread_mm, f"{title}: spread of {len(result)} hypotheses"
        ),
    }
    return written + [_write_png(folder / f"{stem.name}_{name}.png", image) for name, image in pictures.items()]


def write_meshes(stem: Path, vertices: Tensor, faces: Tensor, mesh: Literal["none", "obj", "glb", "ply"]) -> list[Path]:
    """``STEM_answer.*`` and ``STEM_sample1.*`` and so on, one file for each of ``vertices [S, V, 3]``."""
    if mesh == "none":
        return []
    names = ["answer", *(f"sample{index}" for index in range(1, len(vertices)))]
    return [
        write_mesh(stem.with_name(f"{stem.name}_{name}.{mesh}"), vertices[index], faces)
        for index, name in enumerate(names)
    ]


def _on_photo(photo: Photo, vertices: Tensor, faces: Tensor, intrinsic: Tensor, colours: Tensor) -> NDArray[np.uint8]:
    scale = min(1.0, MAX_PICTURE / max(photo.width, photo.height))
    rgb, shrunk = photo.rgb, intrinsic.clone()
    if scale < 1:
        size = (round(photo.width * scale), round(photo.height * scale))
        rgb = np.asarray(cv2.resize(photo.rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        for axis, factor in enumerate((size[0] / photo.width, size[1] / photo.height)):
            shrunk[axis] *= factor
            shrunk[axis, 2] += (factor - 1) / 2
    return overlay(rgb, vertices, faces, shrunk, colours)


def _by_photo(people: Sequence[PersonInput]) -> list[tuple[Photo, list[int]]]:
    groups: dict[Path, list[int]] = {}
    for row, person in enumerate(people):
        groups.setdefault(person.photo.path, []).append(row)
    return [(people[rows[0]].photo, rows) for rows in groups.values()]


def _folder_name(path: Path, people: Sequence[PersonInput]) -> str:
    """The photo's name without its suffix, or with it if another photo has the same name otherwise."""
    twins = {person.photo.path.name for person in people if person.photo.path.stem == path.stem}
    return path.stem if len(twins) == 1 else path.name.replace(".", "_")


def _write_png(path: Path, rgb: NDArray[np.uint8]) -> Path:
    with atomic_path(path) as temporary:
        if not cv2.imwrite(str(temporary), rgb[..., ::-1]):
            raise UserError(f"cannot write {path}: is the disk full?")
    return path
