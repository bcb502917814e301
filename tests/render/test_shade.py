"""Normals of a sphere, Lambert's law and interpolation against closed forms."""

from __future__ import annotations

import math

import torch

from diffhmr.render.raster import rasterize
from diffhmr.render.shade import Lights, camera_lights, interpolate, irradiance, vertex_normals
from tests.render.test_raster import project, sphere


def test_normals_of_a_sphere_are_its_points() -> None:
    points, faces = sphere(80, 120)
    turned = torch.stack([points * 2 + 5, points])
    normals = vertex_normals(turned, faces)
    assert normals.shape == turned.shape
    assert float((normals - points).abs().max()) < 0.02
    alone = vertex_normals(points.double(), faces)
    assert torch.allclose(alone, points.double(), atol=0.02)


def test_a_vertex_without_a_face_has_no_normal() -> None:
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [5, 5, 5]])
    normals = vertex_normals(points, torch.tensor([[0, 1, 2]]))
    assert torch.equal(normals[3], torch.zeros(3))
    assert torch.equal(normals[0], torch.tensor([0.0, 0, 1]))


def test_lambert() -> None:
    lights = Lights(
        direction=torch.tensor([[[0.0, 0, -1], [0, -1, 0]], [[0.0, 0, -1], [1, 0, 0]]]),
        colour=torch.tensor([[[1.0, 0.5, 0], [0, 0, 1]], [[0.2, 0.2, 0.2], [0, 0, 0]]]),
        ambient=torch.tensor([[0.1, 0.2, 0.3], [0, 0, 0]]),
    )
    tilted = [0.0, -math.sin(0.7), -math.cos(0.7)]
    normals = torch.tensor([[tilted, [0.0, 0, 1]], [tilted, [1.0, 0, 0]]])
    light = irradiance(normals, lights)
    expected = torch.tensor([0.1 + math.cos(0.7), 0.2 + 0.5 * math.cos(0.7), 0.3 + math.sin(0.7)])
    assert torch.allclose(light[0, 0], expected)
    assert torch.allclose(light[0, 1], torch.tensor([0.1, 0.2, 0.3])), "a surface that faces away gets ambient light"
    assert torch.allclose(light[1, 0], torch.full((3,), 0.2 * math.cos(0.7)))
    assert torch.equal(light[1, 1], torch.zeros(3))


def test_wrapped_light_reaches_behind_the_edge_but_not_the_back() -> None:
    lights = Lights(torch.tensor([[[0.0, 0, -1]]]), torch.ones(1, 1, 3), torch.zeros(1, 3))
    normals = torch.tensor([[[0.0, 0, -1], [1, 0, 0], [0, 0, 1]]])
    light = irradiance(normals, lights, torch.tensor([0.5]))[0, :, 0]
    assert torch.allclose(light, torch.tensor([1.0, 0.5 / 1.5, 0.0]))


def test_interpolated_positions_lie_on_the_rays() -> None:
    points, faces = sphere()
    centred = points[None] + torch.tensor([[[0.0, 0, 3]], [[0.3, 0.2, 4]]])
    fragments = rasterize(project(centred, 60.0, 31.5), faces, 64, 64)
    where = interpolate(fragments, faces, centred)
    again = project(where, 60.0, 31.5)
    assert torch.allclose(again[:, 0], (fragments.pixel % 64).float(), atol=0.02)
    assert torch.allclose(where[:, 2], fragments.pixel_depth, atol=1e-3)
    shared = interpolate(fragments, faces, points)
    shift = torch.tensor([[0.0, 0, 3], [0.3, 0.2, 4]])[fragments.image]
    assert torch.allclose(shared + shift, where, atol=1e-5)
    picture = fragments.scatter(where, 0.0)
    assert picture.shape == (2, 64, 64, 3) and torch.equal(picture[fragments.mask], where)


def test_camera_lights_brighten_what_faces_the_camera() -> None:
    normals = torch.tensor([[[0.0, 0, -1], [0, 0, 1]]]).expand(2, -1, -1)
    light = irradiance(normals, camera_lights(2, normals))
    assert light.shape == (2, 2, 3)
    assert bool((light[:, 0] > 2 * light[:, 1]).all())
