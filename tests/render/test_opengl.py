"""The OpenGL renderer against the software renderer, where pyrender and OpenGL are there."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.errors import UserError
from diffhmr.geometry.camera import intrinsics, project
from diffhmr.geometry.rotation import axis_angle_to_matrix
from diffhmr.render import opengl as opengl_module
from diffhmr.render.opengl import OpenGLRenderer
from diffhmr.render.overlay import overlay, render_mesh
from diffhmr.render.raster import rasterize

SIZE = (240, 320)
INTRINSIC = intrinsics(300, 320, 240)
TRIANGLE = torch.tensor([[[0.0, 0, 2], [0, 0.1, 2], [0.1, 0, 2]]]), torch.tensor([[0, 1, 2]])


@pytest.fixture(scope="module")
def opengl() -> OpenGLRenderer:
    """The renderer; where pyrender cannot draw, tests are skipped with the reason."""
    if sys.platform.startswith("linux"):
        os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    pyrender = pytest.importorskip("pyrender", reason="pyrender is not installed", exc_type=ImportError)
    try:
        pyrender.OffscreenRenderer(8, 8).delete()
    except Exception as error:
        pytest.skip(f"no OpenGL context: {type(error).__name__}: {error}")
    return OpenGLRenderer()


def bodies(body: BodyModel, count: int) -> Tensor:
    """Bodies ``[B, V, 3]`` in different poses, off the optical axis."""
    generator = torch.Generator().manual_seed(0)
    axis_angle = 0.25 * torch.randn(count, 24, 3, generator=generator)
    rotations = axis_angle_to_matrix(axis_angle)
    rotations[:, 0] = axis_angle_to_matrix(torch.tensor([torch.pi, 0, 0])) @ rotations[:, 0]
    transl = torch.tensor([0.4, 0.1, 3.2]).expand(count, 3)
    return body(SmplParams.from_rotations(rotations, torch.zeros(count, 10), transl)).vertices


def iou(first: Tensor, second: Tensor) -> float:
    return float((first & second).sum() / (first | second).sum())


def test_both_renderers_see_the_same_bodies(opengl: OpenGLRenderer, free_body: BodyModel) -> None:
    vertices, size = bodies(free_body, 2), (480, 640)
    intrinsic = intrinsics(600, 640, 480).repeat(2, 1, 1)
    intrinsic[1, 0, 0], intrinsic[1, :2, 2] = 560, torch.tensor([240.0, 300])
    screen = torch.cat([project(vertices, intrinsic), vertices[..., 2:]], dim=-1)
    fragments = rasterize(screen, free_body.faces, *size)
    drawn, depth = opengl.draw(vertices, free_body.faces, intrinsic, size, torch.ones_like(vertices))
    for index in range(2):
        alpha = drawn[index, ..., 3]
        assert iou(alpha >= 0.5, fragments.mask[index]) > 0.97
        inside = (alpha == 1) & fragments.mask[index]
        difference_mm = 1000 * (depth[index] - fragments.depth[index])[inside].abs()
        assert inside.sum() > 10_000
        assert difference_mm.median() < 1.5 and difference_mm.quantile(0.95) < 6
        assert torch.isinf(depth[index][alpha == 0]).all()


def test_no_half_pixel_is_lost(opengl: OpenGLRenderer, free_body: BodyModel) -> None:
    vertices = bodies(free_body, 1)
    _, software = render_mesh(vertices, free_body.faces, INTRINSIC, SIZE, torch.ones(3))
    _, hardware = opengl(vertices, free_body.faces, INTRINSIC, SIZE, torch.ones(3))
    assert torch.minimum(software, hardware).sum() > 0.97 * torch.maximum(software, hardware).sum()
    for axis in (1, 2):
        place = torch.arange(float(software.shape[axis]))
        others = tuple({0, 1, 2} - {axis})
        centres = [float((alpha.sum(others) * place).sum() / alpha.sum()) for alpha in (software, hardware)]
        assert centres[0] == pytest.approx(centres[1], abs=0.08)


@pytest.mark.parametrize("ambient", [0.35, 1.0])
def test_both_renderers_show_the_same_colours(opengl: OpenGLRenderer, free_body: BodyModel, ambient: float) -> None:
    vertices = bodies(free_body, 2)
    colours = torch.rand(2, vertices.shape[1], 1, generator=torch.Generator().manual_seed(1)) * torch.ones(3)
    colours[..., 0] = (vertices[..., 1] - vertices[..., 1].min()) / 2
    arguments = (vertices, free_body.faces, INTRINSIC, SIZE, colours, ambient)
    software, hardware = render_mesh(*arguments), opengl(*arguments)
    inside = (software[1] == 1) & (hardware[1] == 1)
    difference = (software[0] - hardware[0])[inside].abs()
    assert difference[..., 0].median() < 0.01 and difference[..., 0].quantile(0.95) < 0.04
    assert (hardware[0] <= hardware[1].unsqueeze(-1) + 0.003).all(), "premultiplied"
    assert ((hardware[1] > 0.1) & (hardware[1] < 0.9)).any(), "edges are smooth"


def test_overlays_agree(opengl: OpenGLRenderer, free_body: BodyModel) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    vertices = bodies(free_body, 2) + torch.tensor([[[-0.5, 0, 0.3]], [[0.1, 0, 0]]])
    colours = torch.tensor([[0.3, 0.7, 0.9], [0.9, 0.6, 0]])
    software = overlay(photo, vertices, free_body.faces, INTRINSIC, colours)
    hardware = overlay(photo, vertices, free_body.faces, INTRINSIC, colours, renderer=opengl)
    changed = [torch.from_numpy((picture != photo).any(-1)) for picture in (software, hardware)]
    assert iou(*changed) > 0.97
    assert np.abs(software.astype(int) - hardware).mean() < 1


def test_backs_and_what_is_behind_the_camera_are_not_drawn(opengl: OpenGLRenderer) -> None:
    vertices, faces = TRIANGLE
    _, front = opengl(vertices, faces, INTRINSIC, SIZE, torch.ones(3))
    _, software = render_mesh(vertices, faces, INTRINSIC, SIZE, torch.ones(3))
    assert front.sum() == pytest.approx(15 * 15 / 2, rel=0.1) and software.sum() == pytest.approx(15 * 15 / 2, rel=0.1)
    _, back = opengl(vertices, faces.flip(1), INTRINSIC, SIZE, torch.ones(3))
    _, behind = opengl(-vertices, faces, INTRINSIC, SIZE, torch.ones(3))
    assert not back.any() and not behind.any()


def test_no_mesh_at_all(opengl: OpenGLRenderer) -> None:
    mesh = trimesh.creation.box()
    colour, alpha = opengl(torch.zeros(0, 8, 3), torch.tensor(mesh.faces), INTRINSIC, SIZE, torch.ones(0, 8, 3))
    assert colour.shape == (0, *SIZE, 3) and alpha.shape == (0, *SIZE)


def test_importing_the_module_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYOPENGL_PLATFORM", raising=False)
    for package in ("pyrender", "OpenGL"):
        monkeypatch.setitem(sys.modules, package, None)
    assert "OpenGLRenderer" in runpy.run_path(str(Path(opengl_module.__file__)))
    assert "PYOPENGL_PLATFORM" not in os.environ


def test_what_to_do_without_pyrender(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYOPENGL_PLATFORM", "egl")
    # None in sys.modules makes an import fail as if the package were not installed.
    monkeypatch.setitem(sys.modules, "pyrender", None)
    with pytest.raises(UserError, match=r"pip install pyrender") as caught:
        OpenGLRenderer()
    assert "\n" not in str(caught.value) and "software" in str(caught.value)


@pytest.mark.usefixtures("opengl")
def test_what_to_do_without_opengl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYOPENGL_PLATFORM", "nonsense")
    with pytest.raises(UserError, match="PYOPENGL_PLATFORM is nonsense") as caught:
        OpenGLRenderer()
    assert "\n" not in str(caught.value) and "software" in str(caught.value)
