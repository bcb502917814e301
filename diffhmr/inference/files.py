"""Everything that is written for the people of a photo: results, pictures, meshes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.body.model import BodyModel
from diffhmr.errors import UserError
from diffhmr.files import atomic_path, ensure_folder, name_for_results
from diffhmr.geometry.camera import scale_intrinsics
from diffhmr.inference.people import PersonInput
from diffhmr.inference.photo import IMAGE_SUFFIXES, Photo, crop_square
from diffhmr.inference.result import PersonResult, save_result
from diffhmr.render.colors import ANSWER_COLOUR, person_colour
from diffhmr.render.mesh_files import write_mesh
from diffhmr.render.overlay import MeshRenderer, overlay, render_mesh
from diffhmr.render.sheet import PersonView, hypothesis_sheet, spread_picture

MAX_PICTURE = 1600
"""Longer side of the overlays in pixels; larger photos are shrunk for them."""

SHOWN_HYPOTHESES = 9
"""The single answer and up to eight samples are shown in sheets and written as meshes."""

_CELL = 256
_NAMED = 6
_RESULT = re.compile(
    r"person\d+(_(answer|sample\d+|overlay|sheet|spread))?\.(npz|json|png|obj|glb|ply)|people_overlay\.png"
)
_TEMPORARY = re.compile(r"\.(.+)-.{8}(\.\w+)")


@dataclass(frozen=True)
class WrittenPeople:
    """What there is of a photo.

    Attributes:
        files: that were written.
        older: results of earlier runs in the same folder that were not written anew.
    """

    files: list[Path]
    older: list[Path]

    def summary(self) -> Iterator[str]:
        """Lines for people."""
        pictures = [path for path in self.files if path.suffix == ".png"]
        yield from (f"  {path}" for path in pictures)
        yield f"  and {len(self.files) - len(pictures)} result and mesh files beside them"
        if self.older:
            names = [path.name for path in self.older[:_NAMED]]
            more = f" and {len(self.older) - _NAMED} more" if len(self.older) > _NAMED else ""
            yield f"  beside them of an earlier run, not written anew: {', '.join(names)}{more}"


def write_people(
    people: Sequence[PersonInput],
    results: Sequence[PersonResult],
    body: BodyModel,
    folder: str | Path,
    mesh: Literal["none", "obj", "glb", "ply"] = "none",
    renderer: MeshRenderer = render_mesh,
    sheets: bool = True,
) -> WrittenPeople:
    """Write what belongs to one photo into a sub-folder named after it.

    Per person ``personI.npz`` and ``.json`` (see :mod:`diffhmr.inference.result`), ``personI_overlay.png``,
    ``personI_sheet.png``, ``personI_spread.png`` and with ``mesh`` ``personI_answer.*`` and ``personI_sample1.*`` to
    ``8``; ``people_overlay.png`` with everybody.

    Args:
        people: those of one photo.
        results: of them, in the same order.
        body: of the results.
        folder: in which the sub-folder is made.
        mesh: format of the mesh files.
        renderer: draws the bodies.
        sheets: draw ``_sheet`` and ``_spread`` too, which are about hypotheses and say so.

    Raises:
        UserError: the folder cannot be written.
    """
    photo = people[0].photo
    assert all(person.photo is photo for person in people), "one photo at a time"
    place = ensure_folder(Path(folder) / name_for_results(photo.path, IMAGE_SUFFIXES))
    _clean(place)
    faces = body.faces.cpu()
    written: list[Path] = []
    answers = []
    for person, result in zip(people, results, strict=True):
        vertices = result.vertices(body, SHOWN_HYPOTHESES)
        answers.append(vertices[0])
        title = f"{photo.path.name}, person {person.index} ({body.name})"
        stem = place / f"person{person.index}"
        written += write_person(person, result, vertices, faces, stem, title, renderer, sheets)
        written += write_meshes(stem, vertices, faces, mesh)
    colours = torch.stack([person_colour(index) for index in range(len(people))])
    names = [str(person.index) for person in people] if len(people) > 1 else []
    picture = _on_photo(photo, torch.stack(answers), faces, results[0].intrinsic, colours, renderer, names)
    written.append(_write_png(place / "people_overlay.png", picture))
    known = {path.name for path in written}
    older = [path for path in place.iterdir() if _RESULT.fullmatch(path.name) and path.name not in known]
    return WrittenPeople(written, sorted(older))


def _clean(place: Path) -> None:
    """Delete what killed runs left half written."""
    for path in place.glob(".*"):
        name = _TEMPORARY.fullmatch(path.name)
        if name is not None and _RESULT.fullmatch(f"{name[1]}{name[2]}"):
            path.unlink()


def write_person(
    person: PersonInput,
    result: PersonResult,
    vertices: Tensor,
    faces: Tensor,
    stem: Path,
    title: str,
    renderer: MeshRenderer = render_mesh,
    sheets: bool = True,
) -> list[Path]:
    """Result files ``STEM.*`` and pictures ``STEM_*.png`` of one person.

    Args:
        person: the person.
        result: the prediction.
        vertices: ``[S, V, 3]`` of the hypotheses to show.
        faces: ``[F, 3]``.
        stem: path without suffix.
        title: of the pictures.
        renderer: draws the bodies.
        sheets: draw sheet and spread besides the overlay.
    """
    written = list(save_result(result, stem.with_suffix(".npz")))
    colour = torch.tensor([ANSWER_COLOUR]) / 255
    pictures = {"overlay": _on_photo(person.photo, vertices[:1], faces, result.intrinsic, colour, renderer)}
    if sheets:
        crop = crop_square(person.photo, person.centre, person.side, _CELL)
        view = PersonView(crop, person.centre, person.side, result.intrinsic, result.keypoints)
        spread = result.vertex_spread_mm
        what = f"spread of {len(result) - 1} samples" if bool(spread.any()) else "one answer only, no spread"
        pictures["sheet"] = hypothesis_sheet(view, vertices, faces, title, renderer)
        pictures["spread"] = spread_picture(view, vertices[0], faces, spread, f"{title}: {what}", renderer)
    return written + [_write_png(stem.with_name(f"{stem.name}_{name}.png"), image) for name, image in pictures.items()]


def write_meshes(stem: Path, vertices: Tensor, faces: Tensor, mesh: Literal["none", "obj", "glb", "ply"]) -> list[Path]:
    """``STEM_answer.*`` and ``STEM_sample1.*`` and so on, one file for each of ``vertices [S, V, 3]``."""
    if mesh == "none":
        return []
    names = ["answer", *(f"sample{index}" for index in range(1, len(vertices)))]
    return [
        write_mesh(stem.with_name(f"{stem.name}_{name}.{mesh}"), vertices[index], faces)
        for index, name in enumerate(names)
    ]


def _on_photo(
    photo: Photo,
    vertices: Tensor,
    faces: Tensor,
    intrinsic: Tensor,
    colours: Tensor,
    renderer: MeshRenderer,
    names: Sequence[str] = (),
) -> NDArray[np.uint8]:
    scale = min(1.0, MAX_PICTURE / max(photo.width, photo.height))
    rgb, shrunk = photo.rgb, intrinsic
    if scale < 1:
        size = (max(1, round(photo.width * scale)), max(1, round(photo.height * scale)))
        rgb = np.asarray(cv2.resize(photo.rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
        shrunk = scale_intrinsics(intrinsic, size[0] / photo.width, size[1] / photo.height)
    return overlay(rgb, vertices, faces, shrunk, colours, renderer=renderer, names=names)


def _write_png(path: Path, rgb: NDArray[np.uint8]) -> Path:
    with atomic_path(path) as temporary:
        if not cv2.imwrite(str(temporary), rgb[..., ::-1]):
            raise UserError(f"cannot write {path}: is the disk full?")
    return path
