"""Sheets of one person: hypotheses from the camera and from the side, and the spread between them on the body."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.render.colors import (
    ANSWER_COLOUR,
    SAMPLE_COLOUR,
    as_rows,
    blank,
    color_bar,
    round_up,
    viridis,
    write_text,
)
from diffhmr.render.overlay import blend, render_mesh

_PER_ROW = 5
_LABEL_HEIGHT = 22
_SPREAD_SIZE = 400
_SPREAD_AMBIENT = 0.7  # colours are values here: shading must not change them much


@dataclass(frozen=True)
class PersonView:
    """One person as seen in a square cut-out of the photo.

    Attributes:
        crop: ``[N, N, 3]`` uint8, the cut-out.
        centre: x, y of its centre in pixels of the photo.
        side: its side in pixels of the photo.
        intrinsic: K ``[3, 3]`` of the photo.
        keypoints: ``[17, 4]`` pixels of the photo, confidence, 1 if labelled; or None.
    """

    crop: NDArray[np.uint8]
    centre: tuple[float, float]
    side: float
    intrinsic: Tensor
    keypoints: Tensor | None = None

    def crop_intrinsic(self, size: int) -> Tensor:
        """K of the cut-out scaled to ``size`` pixels."""
        scale = size / self.side
        result = self.intrinsic.clone()
        result[:2] *= scale
        result[:2, 2] += (size - 1) / 2 - scale * torch.tensor(self.centre, dtype=result.dtype)
        return result


def from_the_side(vertices: Tensor) -> Tensor:
    """Bodies ``[S, V, 3]`` as a camera to the right of them sees them, at the distance of the real one.

    The camera goes 90 degrees round the vertical through the middle of each body: what was near is now on the left.
    The middle of each body comes to lie on the optical axis.
    """
    low, high = vertices.amin(1, keepdim=True), vertices.amax(1, keepdim=True)
    middle = (low + high) / 2
    x, y, z = (vertices - middle).unbind(-1)
    distance = torch.linalg.vector_norm(middle, dim=-1)
    return torch.stack([z, y, distance - x], dim=-1)


def hypothesis_sheet(view: PersonView, vertices: Tensor, faces: Tensor, title: str) -> NDArray[np.uint8]:
    """The photo, the single answer and up to eight samples; under each what it looks like from the side.

    Args:
        view: the cut-out of the photo; its size is that of the pictures of the sheet.
        vertices: ``[S, V, 3]`` metres in the camera frame of the photo; hypothesis 0 is the single answer.
        faces: ``[F, 3]``.
        title: of the sheet.
    """
    vertices = vertices[: 2 * _PER_ROW - 1]
    size = view.crop.shape[0]
    colours = torch.tensor([ANSWER_COLOUR] + [SAMPLE_COLOUR] * (len(vertices) - 1)) / 255
    per_vertex = colours.unsqueeze(1).expand(-1, vertices.shape[1], 3)
    front = _draw(vertices, faces, view.crop_intrinsic(size), per_vertex, _dimmed(view.crop))
    side = _draw(*_side_view(vertices, faces, view, size), per_vertex, blank(size, size))
    labels = ["single answer", *(f"sample {index}" for index in range(1, len(vertices)))]
    cells = [(_photo_cell(view), _legend(size), "photo")]
    cells += list(zip(front, side, labels, strict=True))
    rows: list[list[NDArray[np.uint8]]] = []
    for start in range(0, len(cells), _PER_ROW):
        part = cells[start : start + _PER_ROW]
        rows.append([_labelled(picture, label) for picture, _, label in part])
        rows.append([_labelled(picture, "" if label == "photo" else f"{label}, side") for _, picture, label in part])
    table = as_rows(rows)
    heading = blank(_LABEL_HEIGHT + 6, table.shape[1])
    write_text(heading, title, (6, _LABEL_HEIGHT - 4))
    return np.concatenate([heading, table], axis=0)


def spread_picture(
    view: PersonView, vertices: Tensor, faces: Tensor, spread_mm: Tensor, title: str
) -> NDArray[np.uint8]:
    """The single answer, coloured by how far the samples spread at each vertex, from the camera and from the side.

    Args:
        view: the cut-out of the photo.
        vertices: ``[V, 3]`` metres in the camera frame of the photo.
        faces: ``[F, 3]``.
        spread_mm: ``[V]`` millimetres.
        title: of the picture.
    """
    size = _SPREAD_SIZE
    # A few vertices (finger tips) spread most; the scale ends where 99 % of the body lie.
    top = round_up(float(torch.quantile(spread_mm, 0.99)))
    colours = viridis(spread_mm / top).unsqueeze(0)
    body = vertices.unsqueeze(0)
    front = _draw(body, faces, view.crop_intrinsic(size), colours, _dimmed(_resized(view.crop, size)), _SPREAD_AMBIENT)[
        0
    ]
    side = _draw(*_side_view(body, faces, view, size), colours, blank(size, size), _SPREAD_AMBIENT)[0]
    bar = color_bar(size + _LABEL_HEIGHT, top, "mm", bool(spread_mm.max() > top))
    table = as_rows([[_labelled(front, "from the camera"), _labelled(side, "from the side"), bar]])
    heading = blank(_LABEL_HEIGHT + 6, table.shape[1])
    write_text(heading, title, (6, _LABEL_HEIGHT - 4))
    return np.concatenate([heading, table], axis=0)


def _side_view(vertices: Tensor, faces: Tensor, view: PersonView, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, faces and K of the side view: the scale of the camera's view, or smaller if a body needs more room."""
    turned = from_the_side(vertices)
    intrinsic = view.crop_intrinsic(size)
    intrinsic[:2, 2] = (size - 1) / 2
    reach = float((turned[..., :2] / turned[..., 2:].clamp_min(0.1)).abs().amax() * intrinsic[0, 0])
    shrink = min(1.0, 0.48 * size / max(reach, 1e-6))
    intrinsic[0, 0] *= shrink
    intrinsic[1, 1] *= shrink
    return turned, faces, intrinsic


def _draw(
    vertices: Tensor,
    faces: Tensor,
    intrinsic: Tensor,
    colours: Tensor,
    background: NDArray[np.uint8],
    ambient: float = 0.35,
) -> list[NDArray[np.uint8]]:
    size = (background.shape[0], background.shape[1])
    drawn, alpha = render_mesh(vertices, faces, intrinsic, size, colours, ambient)
    return [blend(background, drawn[index], alpha[index]) for index in range(len(vertices))]


def _photo_cell(view: PersonView) -> NDArray[np.uint8]:
    """The cut-out with the labelled keypoints; those that the model was not given are hollow."""
    picture = view.crop.copy()
    if view.keypoints is None:
        return picture
    size = picture.shape[0]
    scale = size / view.side
    for x, y, confidence, labelled in view.keypoints.tolist():
        if labelled:
            place = (
                round((x - view.centre[0]) * scale + (size - 1) / 2),
                round((y - view.centre[1]) * scale + (size - 1) / 2),
            )
            cv2.circle(picture, place, 4, (255, 255, 255), -1 if confidence > 0 else 1, cv2.LINE_AA)
            cv2.circle(picture, place, 3, ANSWER_COLOUR, -1 if confidence > 0 else 1, cv2.LINE_AA)
    return picture


def _legend(size: int) -> NDArray[np.uint8]:
    picture = blank(size, size)
    lines = (
        (ANSWER_COLOUR, "single answer", "(starts from zero noise)"),
        (SAMPLE_COLOUR, "random samples", "(each equally likely)"),
    )
    for index, (colour, name, note) in enumerate(lines):
        top = 20 + 60 * index
        picture[top : top + 14, 12:26] = colour
        write_text(picture, name, (34, top + 12))
        write_text(picture, note, (34, top + 32), 0.4)
    write_text(picture, "side: seen from the right,", (12, 160), 0.4)
    write_text(picture, "the camera is on the left", (12, 178), 0.4)
    return picture


def _labelled(picture: NDArray[np.uint8], label: str) -> NDArray[np.uint8]:
    strip = blank(_LABEL_HEIGHT, picture.shape[1])
    write_text(strip, label, (4, _LABEL_HEIGHT - 7))
    return np.concatenate([strip, picture], axis=0)


def _dimmed(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Paler, so that the body stands out."""
    return (0.55 * picture + 0.45 * 255).astype(np.uint8)


def _resized(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
