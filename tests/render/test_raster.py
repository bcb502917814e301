"""Coverage against exact rational arithmetic, depth and barycentric coordinates against closed forms."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from diffhmr.render import raster
from diffhmr.render.raster import rasterize


def covered_exactly(corners: list[tuple[Fraction, Fraction]], height: int, width: int) -> set[tuple[int, int]]:
    """Pixels (row, column) in a triangle by edge functions with the top-left rule, in rational arithmetic."""
    (ax, ay), (bx, by), (cx, cy) = corners
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    if area == 0:
        return set()
    if area < 0:
        corners = [corners[0], corners[2], corners[1]]
    inside = set()
    for row in range(height):
        for column in range(width):
            signs = []
            for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
                value = (x1 - x0) * (row - y0) - (y1 - y0) * (column - x0)
                top_left = y1 < y0 or (y1 == y0 and x1 > x0)
                signs.append(value > 0 or (value == 0 and top_left))
            if all(signs):
                inside.add((row, column))
    return inside


def random_triangles(count: int, size: float, on_grid: bool) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    points = torch.rand(count, 3, 3, generator=generator) * size * 1.6 - size * 0.3
    if on_grid:  # corners and edges that run through pixel centres
        points = points.round()
    points[..., 2] = 2
    return points


@pytest.mark.parametrize("on_grid", [False, True])
def test_coverage_is_exact(on_grid: bool) -> None:
    height, width = 9, 12
    triangles = random_triangles(60, 10, on_grid)
    mask = rasterize(triangles, torch.tensor([[0, 1, 2]]), height, width, cull_back=False).mask
    for triangle, picture in zip(triangles, mask, strict=True):
        corners = [(Fraction(round(x * 256), 256), Fraction(round(y * 256), 256)) for x, y in triangle[:, :2].tolist()]
        found = {(int(row), int(column)) for row, column in picture.nonzero()}
        assert found == covered_exactly(corners, height, width)


def jittered_sheet(cells: int, size: float) -> tuple[Tensor, Tensor]:
    """A rectangle cut into irregular triangles; their corners lie partly on pixel centres."""
    generator = torch.Generator().manual_seed(5)
    axis = torch.linspace(-3, size + 3, cells + 1)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    jitter = (torch.rand(2, cells + 1, cells + 1, generator=generator) - 0.5) * 0.45 * (size / cells)
    jitter[:, ::2] = 0
    points = torch.stack([x + jitter[0], y + jitter[1], torch.full_like(x, 3)], -1).reshape(-1, 3)
    corner = (torch.arange(cells)[:, None] * (cells + 1) + torch.arange(cells)).reshape(-1)
    faces = torch.cat(
        [
            torch.stack([corner, corner + cells + 1, corner + 1], -1),
            torch.stack([corner + 1, corner + cells + 1, corner + cells + 2], -1),
        ]
    )
    return points, faces


def test_neighbouring_faces_share_no_pixel_and_leave_none() -> None:
    points, faces = jittered_sheet(11, 40)
    single = points[faces]
    masks = rasterize(single, torch.tensor([[0, 1, 2]]), 40, 40).mask
    assert bool((masks.sum(0) == 1).all())
    together = rasterize(points[None], faces, 40, 40)
    assert torch.equal(together.face[0].long(), masks.int().argmax(0))


def sphere(rings: int = 40, segments: int = 60) -> tuple[Tensor, Tensor]:
    """Unit sphere, counter-clockwise from outside in a right-handed frame."""
    theta = torch.linspace(0, torch.pi, rings + 1)[1:-1]
    phi = torch.arange(segments) * (2 * torch.pi / segments)
    ring = torch.stack(
        [
            torch.sin(theta)[:, None] * torch.cos(phi),
            torch.sin(theta)[:, None] * torch.sin(phi),
            torch.cos(theta)[:, None].expand(-1, segments),
        ],
        -1,
    ).reshape(-1, 3)
    points = torch.cat([ring, torch.tensor([[0.0, 0, 1], [0, 0, -1]])])
    top, bottom = len(ring), len(ring) + 1
    faces = []
    for k in range(segments):
        following = (k + 1) % segments
        faces.append([top, k, following])
        for r in range(rings - 2):
            a, b = r * segments + k, r * segments + following
            faces += [[a, a + segments, b], [b, a + segments, b + segments]]
        last = (rings - 2) * segments
        faces.append([last + k, bottom, last + following])
    return points, torch.tensor(faces)


def project(points: Tensor, focal: float, centre: float) -> Tensor:
    return torch.cat([points[..., :2] * focal / points[..., 2:] + centre, points[..., 2:]], -1)


def test_sphere_against_ray_casting() -> None:
    points, faces = sphere(120, 160)
    size, focal, distance = 96, 120.0, 3.0
    points = points + torch.tensor([0.2, -0.1, distance])
    fragments = rasterize(project(points, focal, (size - 1) / 2)[None].double(), faces, size, size)
    axis = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2) / focal
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    ray = torch.stack([x, y, torch.ones_like(x)], -1)
    centre = torch.tensor([0.2, -0.1, distance], dtype=torch.float64)
    a, b, c = (ray**2).sum(-1), (ray * centre).sum(-1), (centre**2).sum() - 1
    root = b**2 - a * c
    expected = torch.where(root > 0, (b - root.clamp(min=0).sqrt()) / a, torch.inf)
    mask = fragments.mask[0]
    rim = (root > 0) != mask
    assert int(rim.sum()) < 0.02 * int(mask.sum())
    inner = mask & (root > 0.05)
    assert float((fragments.depth[0] - expected)[inner].abs().max()) < 5e-3
    filled = mask.int().diff(dim=1)
    assert int((filled == 1).sum(1).max()) == 1, "a convex body has one interval per row"


def test_barycentric_coordinates_give_the_point_on_the_ray() -> None:
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(20, 3, 3, generator=generator, dtype=torch.float64) * 2 - 1
    corners[..., 2] = torch.rand(20, 3, generator=generator, dtype=torch.float64) * 4 + 0.5
    screen = project(corners, 20.0, 15.5)
    screen[..., :2] = (screen[..., :2] * 256).round() / 256
    exact = torch.cat([(screen[..., :2] - 15.5) / 20 * screen[..., 2:], screen[..., 2:]], -1)
    fragments = rasterize(screen, torch.tensor([[0, 1, 2]]), 32, 32, cull_back=False)
    assert fragments.pixel.numel() > 400
    point = (fragments.pixel_bary[..., None] * exact[fragments.image]).sum(1)
    again = project(point, 20.0, 15.5)
    column = fragments.pixel % 32
    row = fragments.pixel // 32 % 32
    assert torch.allclose(again[:, 0], column.double(), atol=1e-9)
    assert torch.allclose(again[:, 1], row.double(), atol=1e-9)
    assert torch.allclose(again[:, 2], fragments.pixel_depth, atol=1e-9)
    assert torch.allclose(fragments.pixel_bary.sum(1), torch.ones(1, dtype=torch.float64))


def test_the_nearer_of_two_crossing_faces_wins_on_either_side() -> None:
    left_near = torch.tensor([[-10.0, -10, 2], [-10, 60, 2], [60, -10, 4], [60, 60, 4]])
    right_near = left_near * torch.tensor([1.0, 1, 0]) + torch.tensor([[0.0, 0, 4], [0, 0, 4], [0, 0, 2], [0, 0, 2]])
    faces = torch.tensor([[0, 1, 2], [2, 1, 3]])
    fragments = rasterize(torch.cat([left_near, right_near])[None], torch.cat([faces, faces + 4]), 51, 51)
    assert bool((fragments.face[0, :, :25] < 2).all())
    assert bool((fragments.face[0, :, 26:] >= 2).all())


def test_back_faces_are_culled_on_request() -> None:
    front = torch.tensor([[[0.0, 0, 1], [0, 8, 1], [8, 0, 1]]])
    back = front.flip(1)
    face = torch.tensor([[0, 1, 2]])
    assert int(rasterize(front, face, 8, 8).mask.sum()) > 20
    assert int(rasterize(back, face, 8, 8).mask.sum()) == 0
    assert torch.equal(rasterize(back, face, 8, 8, cull_back=False).mask, rasterize(front, face, 8, 8).mask)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0, 0.0])
def test_faces_with_an_unusable_depth_vanish_and_others_stay(bad: float) -> None:
    good = torch.tensor([[0.0, 0, 1], [0, 8, 1], [8, 0, 1]])
    broken = good.clone()
    broken[1, 2] = bad
    fragments = rasterize(torch.cat([good, broken])[None], torch.tensor([[0, 1, 2], [3, 4, 5]]), 8, 8)
    assert set(fragments.face.unique().tolist()) == {-1, 0}


def test_nothing_to_see() -> None:
    face = torch.tensor([[0, 1, 2]])
    away = torch.tensor([[[100.0, 0, 1], [100, 8, 1], [108, 0, 1]]])
    fragments = rasterize(away, face, 8, 8)
    assert not fragments.mask.any() and bool((fragments.face == -1).all()) and bool(fragments.depth.isinf().all())
    assert rasterize(away[:0], face, 8, 8).mask.shape == (0, 8, 8)
    with pytest.raises(ValueError, match="expected vertices"):
        rasterize(away[0], face, 8, 8)


def test_an_image_does_not_depend_on_its_batch_or_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    points, faces = sphere()
    generator = torch.Generator().manual_seed(1)
    shift = torch.rand(7, 1, 3, generator=generator) - 0.5 + torch.tensor([0.0, 0, 3])
    screen = project(points + shift, 60.0, 31.5)
    together = rasterize(screen, faces, 64, 64)
    alone = [rasterize(one[None], faces, 64, 64) for one in screen]
    for field in ("face", "depth", "bary"):
        assert torch.equal(getattr(together, field), torch.cat([getattr(one, field) for one in alone]))
    monkeypatch.setattr(raster, "_PIXEL_BUDGET", 100)
    monkeypatch.setattr(raster, "_FACE_BUDGET", 2 * len(faces))
    chunked = rasterize(screen, faces, 64, 64)
    assert torch.equal(chunked.face, together.face) and torch.equal(chunked.depth, together.depth)


@pytest.mark.gpu
def test_cuda_draws_the_same_picture() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    points, faces = sphere()
    screen = project(points + torch.tensor([0.0, 0, 3]), 60.0, 31.5)[None]
    here, there = rasterize(screen, faces, 64, 64), rasterize(screen.cuda(), faces.cuda(), 64, 64)
    assert torch.equal(here.face, there.face.cpu())
    assert torch.allclose(here.bary, there.bary.cpu(), atol=1e-6)
