"""The coarse mesh is closed, is made of the mesh's own vertices, and looks like it."""

from __future__ import annotations

import torch
from torch import Tensor

from diffhmr.body.model import BodyModel
from diffhmr.render.detail import decimate
from diffhmr.render.raster import rasterize
from tests.render.test_raster import project, sphere


def edges_between(faces: Tensor) -> Tensor:
    """How many times each directed edge occurs minus its opposite."""
    start, end = faces.reshape(-1), faces.roll(-1, 1).reshape(-1)
    balance = torch.zeros(int(faces.max()) + 1, int(faces.max()) + 1, dtype=torch.long)
    balance.index_put_((start, end), torch.ones_like(start), accumulate=True)
    return balance - balance.T


def volume(points: Tensor, faces: Tensor) -> float:
    a, b, c = points[faces].unbind(1)
    return float((torch.linalg.cross(a, b) * c).sum() / 6)


def test_a_decimated_sphere_is_a_closed_sphere() -> None:
    points, faces = sphere(60, 90)
    chosen, coarse = decimate(points, faces, 300)
    assert len(chosen) == 300 and bool((chosen.diff() > 0).all())
    assert len(coarse) == 2 * 300 - 4, "Euler's formula for a closed surface without handles"
    assert not edges_between(coarse).any()
    ratio = volume(points[chosen], coarse) / volume(points, faces)
    assert 0.95 < ratio < 1


def test_all_vertices_give_the_mesh_back() -> None:
    points, faces = sphere(8, 12)
    chosen, coarse = decimate(points, faces, 10_000)
    assert torch.equal(chosen, torch.arange(len(points)))
    assert {tuple(sorted(face)) for face in coarse.tolist()} == {tuple(sorted(face)) for face in faces.tolist()}
    assert not edges_between(coarse).any() and abs(volume(points, coarse) - volume(points, faces)) < 1e-5


def test_density_and_vertices_to_keep() -> None:
    points, faces = sphere(60, 90)
    upper = points[:, 2] > 0
    keep = [17, 2000]
    chosen, _ = decimate(points, faces, 300, torch.where(upper, 2.0, 1.0), keep)
    share = float(upper[chosen].float().mean())
    assert 0.7 < share < 0.88, "twice the density on a line is four times on a surface"
    assert set(keep) <= set(chosen.tolist())


def test_the_coarse_body_looks_like_the_body(free_body: BodyModel) -> None:
    points = free_body.v_template.unflatten(-1, (3, -1)).T
    chosen, coarse = decimate(points, free_body.faces, 1200)
    assert not edges_between(coarse).any()
    turned = points * torch.tensor([1.0, -1, -1]) + torch.tensor([0.0, 0, 4])
    screen = project(turned, 250.0, 63.5)[None]
    fine = rasterize(screen, free_body.faces, 128, 128)
    rough = rasterize(screen[:, chosen], coarse, 128, 128)
    overlap = int((fine.mask & rough.mask).sum()) / int((fine.mask | rough.mask).sum())
    assert overlap > 0.95
    both = fine.mask & rough.mask
    assert float((fine.depth - rough.depth)[both].abs().median()) < 0.005
