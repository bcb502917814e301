from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.geometry.camera import intrinsics, project
from diffhmr.geometry.rotation import axis_angle_to_matrix
from diffhmr.render.colors import ANSWER_COLOUR, SAMPLE_COLOUR
from diffhmr.render.overlay import render_mesh
from diffhmr.render.sheet import PersonView, from_the_side, hypothesis_sheet, spread_picture

SIZE = 96
HEADING = 30
LABEL = 22
SIDE = HEADING + LABEL + SIZE + 4 + LABEL
"""Row in which the first side views begin."""


def standing(body: BodyModel, count: int) -> Tensor:
    """T-poses in the camera frame, 5 m away, facing the camera, the later ones turned a little."""
    rotations = torch.eye(3).repeat(count, 24, 1, 1)
    turn = torch.zeros(count, 3)
    turn[:, 1] = 0.1 * torch.arange(count)
    upright = axis_angle_to_matrix(torch.tensor([torch.pi, 0, 0]))
    rotations[:, 0] = upright @ axis_angle_to_matrix(turn)
    transl = torch.tensor([0.5, 0.2, 5.0]).expand(count, 3)
    return body(SmplParams.from_rotations(rotations, torch.zeros(count, 10), transl)).vertices


@pytest.fixture
def view() -> PersonView:
    keypoints = torch.zeros(17, 4)
    keypoints[0] = torch.tensor([400.0, 250, 1, 1])
    keypoints[1] = torch.tensor([380.0, 240, 0, 1])
    crop = np.full((SIZE, SIZE, 3), 90, np.uint8)
    return PersonView(crop, (399.5, 259.5), 400.0, intrinsics(800, 640, 480), keypoints)


def coloured(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """``[H, W]`` bool: pixels of that hue, lit or not."""
    rgb = picture.astype(float)
    share = rgb / np.maximum(rgb.sum(-1, keepdims=True), 1)
    return (np.abs(share - np.array(colour) / sum(colour)).max(-1) < 0.04) & (np.ptp(rgb, axis=-1) > 25)


def test_the_crop_camera_sees_what_the_photo_shows(view: PersonView) -> None:
    points = torch.tensor([[0.5, 0.1, 5.0], [0.2, -0.3, 4.0]])
    pixels = project(points, view.intrinsic)
    expected = (pixels - torch.tensor(view.centre)) * SIZE / view.side + (SIZE - 1) / 2
    assert torch.allclose(project(points, view.crop_intrinsic(SIZE)), expected, atol=1e-4)


def test_the_side_view_is_a_quarter_turn() -> None:
    points = torch.tensor([[[-1.0, -2, 9], [1.0, 2, 11], [0.2, 0.5, 9.5], [0.9, -1.3, 10.7]]])
    turned = from_the_side(points)
    # The middle is (0, 0, 10). Point 2 is 0.5 m nearer than it, so 0.5 m left; 0.2 m to its right, so 0.2 m nearer.
    assert torch.allclose(turned[0, 2], torch.tensor([-0.5, 0.5, 10 - 0.2]))
    volumes = [torch.det(cloud[0, 1:] - cloud[0, :1]) for cloud in (points, turned)]
    assert volumes[0].abs() > 0.1 and torch.allclose(volumes[0], volumes[1]), "rigid and not mirrored"
    assert torch.allclose(torch.cdist(turned, turned), torch.cdist(points, points), atol=1e-4)


@pytest.mark.parametrize(("count", "blocks", "columns"), [(1, 1, 2), (4, 1, 5), (9, 2, 5), (25, 2, 5)])
def test_the_sheet_has_a_cell_for_each(
    free_body: BodyModel, view: PersonView, count: int, blocks: int, columns: int
) -> None:
    sheet = hypothesis_sheet(view, standing(free_body, count), free_body.faces, "title")
    block = 2 * (LABEL + SIZE) + 4
    assert sheet.shape == (HEADING + blocks * block + (blocks - 1) * 16, columns * SIZE + (columns - 1) * 4, 3)
    answer = coloured(sheet[:, 100:200], ANSWER_COLOUR)
    assert answer.sum() > 300 and not coloured(sheet[:, 200:], ANSWER_COLOUR).any()
    samples = coloured(sheet, SAMPLE_COLOUR)
    samples[:, :100] = False
    cells = [samples[:, start : start + SIZE].any() for start in range(200, sheet.shape[1], 100)]
    assert all(cells) if count > 1 else not samples.any()


def test_the_body_stands_on_the_photo_and_upright_from_the_side(free_body: BodyModel, view: PersonView) -> None:
    vertices = standing(free_body, 1)
    sheet = hypothesis_sheet(view, vertices, free_body.faces, "title")
    top = HEADING + LABEL
    front = coloured(sheet[top : top + SIZE, 100:196], ANSWER_COLOUR)
    rows, columns = np.nonzero(front)
    pixels = project(vertices[0], view.crop_intrinsic(SIZE))
    low, high = pixels.amin(0), pixels.amax(0)
    assert np.abs([columns.min() - low[0], rows.min() - low[1]]).max() < 2
    assert np.abs([columns.max() - high[0], rows.max() - high[1]]).max() < 2
    side = coloured(sheet[SIDE : SIDE + SIZE, 100:196], ANSWER_COLOUR)
    side_rows, side_columns = np.nonzero(side)
    assert np.ptp(side_columns) < 0.45 * np.ptp(columns), "arms of a T-pose point away"
    assert np.ptp(side_rows) == pytest.approx(np.ptp(rows), abs=4)
    nose = free_body.landmarks["nose"]
    assert from_the_side(vertices)[0, nose, 0] < -0.05, "who faces the camera looks to the left"


def test_a_body_that_is_long_from_the_side_still_fits(free_body: BodyModel, view: PersonView) -> None:
    lying = standing(free_body, 1)[:, :, [0, 2, 1]] * torch.tensor([1.0, 1, 1]) - torch.tensor([0, 4.8, -4.8])
    sheet = hypothesis_sheet(view, lying, free_body.faces.flip(1), "title")
    cell = sheet[SIDE : SIDE + SIZE, 100:196]
    side = coloured(cell, ANSWER_COLOUR)
    assert side.any() and not side[:, :6].any() and not side[:, -6:].any(), "the sign of the camera has its place"
    assert (cell[SIZE // 2 - 3 : SIZE // 2 + 3, 7:9] < 200).all() and (cell[:30, :6] == 255).all()


def test_keypoints_are_marked(free_body: BodyModel, view: PersonView) -> None:
    sheet = hypothesis_sheet(view, standing(free_body, 1), free_body.faces, "title")
    x, y = round((400 - 399.5) * 0.24 + 47.5), round((250 - 259.5) * 0.24 + 47.5)
    assert np.abs(sheet[HEADING + LABEL + y, x].astype(int) - ANSWER_COLOUR).max() < 40
    hollow_x, hollow_y = round((380 - 399.5) * 0.24 + 47.5), round((240 - 259.5) * 0.24 + 47.5)
    assert sheet[HEADING + LABEL + hollow_y, hollow_x].tolist() == [90, 90, 90]


def test_spread_colours_the_body(free_body: BodyModel, view: PersonView) -> None:
    vertices = standing(free_body, 1)[0]
    spread = torch.where(vertices[:, 1] < vertices[:, 1].mean(), 78.0, 0.0)
    picture = spread_picture(view, vertices, free_body.faces, spread, "title")
    top = HEADING + 24 + LABEL
    assert picture.shape[0] == top + 400 and 2 * 400 + 8 + 80 < picture.shape[1] < 2 * 400 + 8 + 150
    body = picture[top:, :400].astype(int)
    low, high = project(vertices, view.crop_intrinsic(400)).amin(0), project(vertices, view.crop_intrinsic(400)).amax(0)
    x = int((low[0] + high[0]) / 2)
    head, leg = body[int(low[1]) + 10, x], body[int(0.7 * low[1] + 0.3 * high[1]) + 120, x - 18]
    assert head[0] > 120 and head[1] > 120 and head[2] < 90, "yellow where it is uncertain"
    assert leg[2] > leg[1] and leg.max() < 140, "dark blue where it is certain"


def test_long_titles_are_shortened(free_body: BodyModel, view: PersonView) -> None:
    sheet = hypothesis_sheet(view, standing(free_body, 1), free_body.faces, 30 * "a long title ")
    ink = np.asarray((sheet[: HEADING - 4] < 150).any((0, 2)))
    assert ink[:60].any() and ink[100:180].any() and not ink[-3:].any()


def test_bodies_are_drawn_by_the_renderer_that_is_given(free_body: BodyModel, view: PersonView) -> None:
    calls = []

    def renderer(*arguments: Any) -> tuple[Tensor, Tensor]:
        calls.append(arguments)
        return render_mesh(*arguments)

    vertices = standing(free_body, 2)
    spread = torch.linspace(0, 50, vertices.shape[1])
    sheet = hypothesis_sheet(view, vertices, free_body.faces, "title", renderer)
    picture = spread_picture(view, vertices[0], free_body.faces, spread, "title", renderer)
    assert [len(arguments[0]) for arguments in calls] == [2, 2, 1, 1]
    assert np.array_equal(sheet, hypothesis_sheet(view, vertices, free_body.faces, "title"))
    assert np.array_equal(picture, spread_picture(view, vertices[0], free_body.faces, spread, "title"))
