from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from diffhmr.geometry.camera import intrinsics
from diffhmr.render.overlay import blend, lit_colours, overlay, render_mesh

INTRINSIC = intrinsics(100, 80, 60)


def sphere(centre: tuple[float, float, float], radius: float) -> tuple[Tensor, Tensor]:
    """Vertices ``[V, 3]`` and outward faces ``[F, 3]``."""
    mesh = trimesh.creation.icosphere(subdivisions=4, radius=radius)
    return torch.tensor(mesh.vertices).float() + torch.tensor(centre), torch.tensor(mesh.faces)


def test_a_sphere_is_where_the_camera_sees_it() -> None:
    vertices, faces = sphere((0.4, -0.2, 4), 0.5)
    colour, alpha = render_mesh(vertices.unsqueeze(0), faces, INTRINSIC, (60, 80), torch.ones(3))
    rows, columns = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing="ij")
    centre_x, centre_y = 39.5 + 100 * 0.4 / 4, 29.5 - 100 * 0.2 / 4
    assert float((alpha[0] * columns).sum() / alpha.sum()) == pytest.approx(centre_x, abs=0.25)
    assert float((alpha[0] * rows).sum() / alpha.sum()) == pytest.approx(centre_y, abs=0.25)
    assert float(alpha.sum()) == pytest.approx(torch.pi * (100 * 0.5 / 4) ** 2, rel=0.03)
    assert ((alpha > 0.1) & (alpha < 0.9)).any(), "edges are smooth"
    assert (colour <= alpha.unsqueeze(-1) + 1e-6).all(), "premultiplied"


def test_light_comes_from_above_left() -> None:
    vertices, faces = sphere((0, 0, 4), 0.8)
    colour, _ = render_mesh(vertices.unsqueeze(0), faces, INTRINSIC, (60, 80), torch.ones(3))
    grey = colour[0, ..., 0]
    assert grey[20, 32] > grey[38, 47] + 0.2
    flat, alpha = render_mesh(vertices.unsqueeze(0), faces, INTRINSIC, (60, 80), torch.ones(3), ambient=1.0)
    assert torch.allclose(flat[..., 0], alpha, atol=1e-5)


def test_colours_can_differ_by_vertex_and_by_mesh() -> None:
    vertices, faces = sphere((0, 0, 4), 0.8)
    colours = torch.zeros(2, len(vertices), 3)
    colours[0, :, 0] = (vertices[:, 0] < 0).float()
    colours[1, :, 2] = 1
    drawn, _ = render_mesh(vertices.expand(2, -1, -1), faces, INTRINSIC, (60, 80), colours)
    assert drawn[0, 30, 30, 0] > 0.3 and drawn[0, 30, 50, 0] < 0.05
    assert drawn[1, 30, 50, 2] > 0.3 and (drawn[1, ..., :2] == 0).all()


def test_all_other_pixels_stay() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    vertices, faces = sphere((0.4, -0.2, 4), 0.5)
    before = photo.copy()
    result = overlay(photo, vertices.unsqueeze(0), faces, INTRINSIC, torch.ones(1, 3))
    assert np.array_equal(photo, before)
    rows, columns = np.nonzero((result != photo).any(-1))
    distance = np.hypot(columns - 49.5, rows - 24.5)
    assert distance.max() < 13.5 and len(rows) > 400


def test_the_nearer_body_hides_the_farther_one() -> None:
    near, faces = sphere((0.1, 0, 3), 0.4)
    far, _ = sphere((-0.1, 0, 5), 0.7)
    colours = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    photo = np.zeros((60, 80, 3), np.uint8)
    result = overlay(photo, torch.stack([near, far]), faces, INTRINSIC, colours, opacity=1.0)
    assert result[29, 43, 0] > 60 and result[29, 43, 1] == 0
    assert result[29, 27, 1] > 60 and result[29, 27, 0] == 0
    swapped = overlay(photo, torch.stack([far, near]), faces, INTRINSIC, colours.flip(0), opacity=1.0)
    assert np.array_equal(swapped, result)


def test_bodies_may_stick_out_or_be_elsewhere() -> None:
    photo = np.full((60, 80, 3), 100, np.uint8)
    edge, faces = sphere((-1.6, 0, 4), 0.5)
    outside, _ = sphere((-9, 0, 4), 0.5)
    assert (overlay(photo, edge.unsqueeze(0), faces, INTRINSIC, torch.ones(1, 3))[:, 0] != 100).any()
    for vertices in (outside, edge - torch.tensor([0, 0, 9.0])):
        assert np.array_equal(overlay(photo, vertices.unsqueeze(0), faces, INTRINSIC, torch.ones(1, 3)), photo)


def test_blending() -> None:
    photo = np.full((1, 3, 3), 200, np.uint8)
    colour = torch.tensor([[[0.0] * 3, [0.5] * 3, [1.0] * 3]])
    alpha = torch.tensor([[0.0, 0.5, 1.0]])
    assert blend(photo, colour, alpha)[0, :, 0].tolist() == [200, 228, 255]
    assert blend(photo, colour, alpha, 0.5)[0, :, 0].tolist() == [200, 214, 228]


def test_names_are_written_above_bodies() -> None:
    photo = np.full((60, 80, 3), 100, np.uint8)
    near, faces = sphere((-0.7, 0.4, 4), 0.4)
    top, _ = sphere((0.7, -1.0, 4), 0.4)
    arguments = (photo, torch.stack([near, top]), faces, INTRINSIC, torch.ones(2, 3))
    plain, named = overlay(*arguments), overlay(*arguments, names=["0", "1"])
    rows, columns = np.nonzero((plain != named).any(-1))
    left, right = columns < 40, columns >= 40
    x, y = 39.5 - 0.7 * 25, 29.5 + 0.4 * 25 - 10
    assert abs(columns[left].mean() - x) < 3 and y - 18 < rows[left].mean() < y
    assert rows[right].min() >= 0 and abs(columns[right].mean() - (39.5 + 0.7 * 25)) < 3, "stays in the picture"


def test_the_light_has_the_brightness_asked_for() -> None:
    vertices, faces = sphere((0, 0, 4), 0.5)
    grey = lit_colours(vertices.unsqueeze(0), faces, torch.tensor([0.5, 0.5, 0.5]), ambient=0.7)[0, :, 0]
    assert float(grey.min()) == pytest.approx(0.5 * 0.7) and 0.46 < float(grey.max()) <= 0.5
    bare = lit_colours(vertices.unsqueeze(0), faces, torch.tensor([0.5, 0.2, 0.1]), ambient=1.0)
    assert torch.allclose(bare, torch.tensor([0.5, 0.2, 0.1]).expand_as(bare))
