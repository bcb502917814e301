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
    shortened,
    viridis,
    write_text,
)
from diffhmr.render.overlay import AMBIENT, MeshRenderer, blend, render_mesh

_PER_ROW = 5
_LABEL_HEIGHT = 22
_LINE_HEIGHT = 24
_BLOCK_GAP = 16
_PAPER = 255  # of side views: lighter than the sheet, so that their frames can be seen
_GREY = (120, 120, 120)
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


def hypothesis_sheet(
    view: PersonView, vertices: Tensor, faces: Tensor, title: str, renderer: MeshRenderer = render_mesh
) -> NDArray[np.uint8]:
    """The photo, the single answer and up to eight samples; under each what it looks like from the side.

    Args:
        view: the cut-out of the photo; its size is that of the pictures of the sheet.
        vertices: ``[S, V, 3]`` metres in the camera frame of the photo; hypothesis 0 is the single answer.
        faces: ``[F, 3]``.
        title: of the sheet.
        renderer: draws the bodies.
    """
    vertices = vertices[: 2 * _PER_ROW - 1]
    size = view.crop.shape[0]
    colours = torch.tensor([ANSWER_COLOUR] + [SAMPLE_COLOUR] * (len(vertices) - 1)) / 255
    per_vertex = colours.unsqueeze(1).expand(-1, vertices.shape[1], 3)
    front = _draw(vertices, faces, view.crop_intrinsic(size), per_vertex, _dimmed(view.crop), renderer=renderer)
    side = _draw(*_side_view(vertices, faces, view, size), per_vertex, _side_paper(size), renderer=renderer)
    labels = ["single answer", *(f"sample {index}" for index in range(1, len(vertices)))]
    above = [_labelled(_photo_cell(view), "photo")]
    above += [_labelled(picture, label) for picture, label in zip(front, labels, strict=True)]
    below = [_labelled(_legend(size, view.keypoints is not None), "")]
    below += [_labelled(picture, f"{label}, side view") for picture, label in zip(side, labels, strict=True)]
    starts = range(0, len(above), _PER_ROW)
    blocks = [as_rows([above[start : start + _PER_ROW], below[start : start + _PER_ROW]]) for start in starts]
    return _under_heading(as_rows([[block] for block in blocks], _BLOCK_GAP), title)


def spread_picture(
    view: PersonView,
    vertices: Tensor,
    faces: Tensor,
    spread_mm: Tensor,
    title: str,
    renderer: MeshRenderer = render_mesh,
) -> NDArray[np.uint8]:
    """The single answer, coloured by how far the samples spread at each vertex, from the camera and from the side.

    Args:
        view: the cut-out of the photo.
        vertices: ``[V, 3]`` metres in the camera frame of the photo.
        faces: ``[F, 3]``.
        spread_mm: ``[V]`` millimetres.
        title: of the picture.
        renderer: draws the body.
    """
    size = _SPREAD_SIZE
    # A few vertices (finger tips) spread most; the scale ends where 99 % of the body lie.
    top = round_up(float(torch.quantile(spread_mm, 0.99)))
    colours = viridis(spread_mm / top).unsqueeze(0)
    body, background = vertices.unsqueeze(0), _dimmed(_resized(view.crop, size))
    front = _draw(body, faces, view.crop_intrinsic(size), colours, background, _SPREAD_AMBIENT, renderer)
    side = _draw(*_side_view(body, faces, view, size), colours, _side_paper(size), _SPREAD_AMBIENT, renderer)
    bar = color_bar(size + _LABEL_HEIGHT, top, "spread (mm)", bool(spread_mm.max() > top))
    table = as_rows([[_labelled(front[0], "from the camera"), _labelled(side[0], "side view"), bar]])
    return _under_heading(table, title, "mean distance of a point from its mean over the samples, pelvis held still")


def _side_view(vertices: Tensor, faces: Tensor, view: PersonView, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, faces and K of the side view: the scale of the camera's view, or smaller if a body needs more room."""
    turned = from_the_side(vertices)
    intrinsic = view.crop_intrinsic(size)
    intrinsic[:2, 2] = (size - 1) / 2
    reach = (turned[..., :2] / turned[..., 2:].clamp_min(0.1)).abs().amax((0, 1)) * intrinsic[0, 0]
    # Left and right of the bodies there is room for the sign of the camera.
    room = size * torch.tensor([0.39, 0.48])
    shrink = min(1.0, float((room / reach.clamp_min(1e-6)).min()))
    intrinsic[0, 0] *= shrink
    intrinsic[1, 1] *= shrink
    return turned, faces, intrinsic


def _draw(
    vertices: Tensor,
    faces: Tensor,
    intrinsic: Tensor,
    colours: Tensor,
    background: NDArray[np.uint8],
    ambient: float = AMBIENT,
    renderer: MeshRenderer = render_mesh,
) -> list[NDArray[np.uint8]]:
    size = (background.shape[0], background.shape[1])
    drawn, alpha = renderer(vertices, faces, intrinsic, size, colours, ambient)
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
            _mark_keypoint(picture, place, confidence > 0)
    return picture


def _mark_keypoint(picture: NDArray[np.uint8], place: tuple[int, int], given: bool) -> None:
    cv2.circle(picture, place, 4, (255, 255, 255), -1 if given else 1, cv2.LINE_AA)
    cv2.circle(picture, place, 3, ANSWER_COLOUR, -1 if given else 1, cv2.LINE_AA)


def _legend(size: int, keypoints: bool) -> NDArray[np.uint8]:
    """What the colours and signs of a sheet mean."""
    picture = blank(size, size)
    lines: list[tuple[str, str]] = [("single answer", "starts from zero noise"), ("random samples", "equally likely")]
    lines += [("side view", "from the right; the photo's"), ("", "camera is on the left")]
    lines += [("keypoint", "that the model was given"), ("keypoint", "that it was not given")] if keypoints else []
    rows = [18, 62, 106, 124, 168, 212]
    for row, (name, note) in zip(rows, lines, strict=False):
        write_text(picture, name, (34, row))
        write_text(picture, note, (34, row + 18), 0.42)
    for row, colour in zip(rows, (ANSWER_COLOUR, SAMPLE_COLOUR), strict=False):
        picture[row - 12 : row + 2, 10:24] = colour
    _draw_camera(picture, (8, rows[2] - 5))
    if keypoints:
        _mark_keypoint(picture, (17, rows[4] - 5), given=True)
        _mark_keypoint(picture, (17, rows[5] - 5), given=False)
    return picture


def _side_paper(size: int) -> NDArray[np.uint8]:
    """The empty side view: at its left edge the camera of the photo."""
    paper = np.full((size, size, 3), _PAPER, dtype=np.uint8)
    _draw_camera(paper, (6, size // 2))
    return paper


def _draw_camera(picture: NDArray[np.uint8], place: tuple[int, int]) -> None:
    """The sign of a camera that looks to the right; ``place`` is the middle of its back."""
    x, y = place
    cv2.rectangle(picture, (x, y - 5), (x + 10, y + 5), _GREY, -1)
    cv2.fillConvexPoly(picture, np.array([(x + 11, y), (x + 17, y - 5), (x + 17, y + 5)]), _GREY, cv2.LINE_AA)


def _labelled(picture: NDArray[np.uint8], label: str) -> NDArray[np.uint8]:
    strip = blank(_LABEL_HEIGHT, picture.shape[1])
    write_text(strip, shortened(label, strip.shape[1] - 8), (4, _LABEL_HEIGHT - 7))
    return np.concatenate([strip, picture], axis=0)


def _under_heading(table: NDArray[np.uint8], title: str, note: str | None = None) -> NDArray[np.uint8]:
    """``table`` under its title, and a smaller line below the title."""
    lines = [(title, 0.6)] if note is None else [(title, 0.6), (note, 0.45)]
    heading = blank(6 + _LINE_HEIGHT * len(lines), table.shape[1])
    for index, (line, scale) in enumerate(lines):
        place = (4, _LINE_HEIGHT * (index + 1) - 4)
        write_text(heading, shortened(line, heading.shape[1] - 8, scale), place, scale)
    return np.concatenate([heading, table], axis=0)


def _dimmed(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Paler, so that the body stands out."""
    return (0.55 * picture + 0.45 * 255).astype(np.uint8)


def _resized(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
