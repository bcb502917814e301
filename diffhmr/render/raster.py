"""A batched triangle rasteriser in plain torch: CPU and CUDA, no OpenGL, nothing to compile, no loop over triangles.

Vertices are rounded to a sub-pixel grid of 1/256 px, on which all coverage arithmetic is exact: a pixel belongs to a
triangle when its centre lies inside, and a centre on a shared edge belongs to exactly one of the two triangles (the
top-left rule). Meshes that are closed therefore have neither holes nor double pixels, whatever their size on screen.

Every triangle is expanded into the rows it crosses, every row into the pixels between its two edges, and a scatter
with "minimum" of (depth, face) keys is the z-buffer. The work grows with the covered pixels, not with bounding boxes.
An image depends only on its own vertices: bit for bit the same alone or inside a batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

SUBPIXELS = 256
# Beyond this distance from the origin (in sub-pixels) products would no longer be exact in float64.
_GUARD = float(2**22)
_EMPTY = torch.iinfo(torch.int64).max
_DEPTH_LEVELS = float(2**31 - 1)
# Faces set up and pixels tested at once on a CPU: what its cache holds. An accelerator gets larger pieces.
_FACE_BUDGET = 2**15
_PIXEL_BUDGET = 2**16
_ACCELERATOR_FACTOR = 64


@dataclass(frozen=True)
class Fragments:
    """The first surface behind every pixel, stored for the N covered pixels only; dense views are made on demand.

    Attributes:
        shape: (B, H, W).
        pixel: ``[N]`` int64, ascending index of the covered pixel in the flattened ``[B, H, W]``.
        pixel_face: ``[N]`` int64, its face.
        pixel_bary: ``[N, 3]`` perspective-correct barycentric coordinates in that face.
        pixel_depth: ``[N]`` z of the surface.
    """

    shape: tuple[int, int, int]
    pixel: Tensor
    pixel_face: Tensor
    pixel_bary: Tensor
    pixel_depth: Tensor

    @cached_property
    def image(self) -> Tensor:
        """``[N]`` which image of the batch each covered pixel belongs to."""
        return torch.div(self.pixel, self.shape[1] * self.shape[2], rounding_mode="floor")

    @property
    def mask(self) -> Tensor:
        """``[B, H, W]`` bool, covered pixels."""
        return self.scatter(torch.ones_like(self.pixel, dtype=torch.bool), False)

    @property
    def face(self) -> Tensor:
        """``[B, H, W]`` int32, the visible face or -1."""
        return self.scatter(self.pixel_face.int(), -1)

    @property
    def depth(self) -> Tensor:
        """``[B, H, W]`` z of the visible surface, infinity where there is none."""
        return self.scatter(self.pixel_depth, torch.inf)

    @property
    def bary(self) -> Tensor:
        """``[B, H, W, 3]`` perspective-correct barycentric coordinates, 0 where there is no surface."""
        return self.scatter(self.pixel_bary, 0)

    def scatter(self, values: Tensor, empty: float) -> Tensor:
        """Dense ``[B, H, W, ...]`` from ``[N, ...]`` values of the covered pixels; the others get ``empty``."""
        batch, height, width = self.shape
        dense = values.new_full((batch * height * width, *values.shape[1:]), empty)
        dense[self.pixel] = values
        return dense.reshape(batch, height, width, *values.shape[1:])


@torch.no_grad()
def rasterize(
    vertices: Tensor, faces: Tensor, height: int, width: int, *, cull_back: bool = True, near: float = 1e-3
) -> Fragments:
    """Find the first triangle behind every pixel centre.

    Args:
        vertices: ``[B, V, 3]`` x and y in pixels (the centre of the top-left pixel is the origin, y down) and z, the
            distance along the optical axis, in metres. x and y come from a perspective projection, so 1/z is linear
            on the screen; for an orthographic picture give depths that are large against their differences.
        faces: ``[F, 3]`` vertex indices, counter-clockwise seen from outside.
        height: rows of the picture.
        width: columns of the picture.
        cull_back: leave out faces that show their back.
        near: faces with a vertex at z <= ``near`` are left out as a whole (they are not clipped); so are faces with a
            vertex that is not finite or more than 16,384 px away from the origin.

    Returns:
        What every pixel sees.
    """
    if vertices.dim() != 3 or vertices.shape[-1] != 3 or faces.dim() != 2 or faces.shape[-1] != 3:
        raise ValueError(f"expected vertices [B, V, 3] and faces [F, 3], got {vertices.shape} and {faces.shape}")
    batch = vertices.shape[0]
    step = max(1, _FACE_BUDGET * _factor(vertices) // max(1, faces.shape[0]))
    columns = faces.long().unbind(1)
    parts = []
    for start in range(0, batch, step):
        triangles = _set_up(vertices[start : start + step], columns, height, width, cull_back, near)
        buffer = _depth_test(triangles, min(step, batch - start), height, width)
        parts.append(_resolve(triangles, buffer, start, height, width, vertices.dtype))
    if not parts:
        empty = torch.zeros(0, dtype=torch.int64, device=vertices.device)
        return Fragments((0, height, width), empty, empty, vertices.new_zeros(0, 3), vertices.new_zeros(0))
    pixel, face, bary, depth = (
        torch.cat(column) if len(parts) > 1 else column[0] for column in zip(*parts, strict=True)
    )
    return Fragments((batch, height, width), pixel, face, bary, depth)


@dataclass(frozen=True)
class _Triangles:
    """The T triangles that can be seen; coordinates are whole sub-pixels held in float64, w is 1/z."""

    image: Tensor
    face: Tensor
    x: tuple[Tensor, Tensor, Tensor]
    y: tuple[Tensor, Tensor, Tensor]
    w: tuple[Tensor, Tensor, Tensor]
    area: Tensor
    depth_scale: Tensor


def _set_up(
    vertices: Tensor, columns: tuple[Tensor, ...], height: int, width: int, cull_back: bool, near: float
) -> _Triangles:
    x, y, z = (vertices[..., axis].double() for axis in range(3))
    x, y = torch.round(x * SUBPIXELS), torch.round(y * SUBPIXELS)
    usable = (z > near) & (z < torch.inf) & (x.abs() <= _GUARD) & (y.abs() <= _GUARD)
    # NaN spreads through the area of every face that uses such a vertex and fails the comparisons below.
    x = torch.where(usable, x, torch.nan)
    nearest = torch.where(usable, z, torch.inf).amin(1)
    xs = [x.index_select(1, column) for column in columns]
    ys = [y.index_select(1, column) for column in columns]
    area = (xs[1] - xs[0]) * (ys[2] - ys[0]) - (ys[1] - ys[0]) * (xs[2] - xs[0])
    # With y down, a face seen from its front has a negative signed area.
    keep = area < 0 if cull_back else area.abs() > 0
    keep &= (torch.maximum(torch.maximum(ys[0], ys[1]), ys[2]) > 0) & (
        torch.minimum(torch.minimum(ys[0], ys[1]), ys[2]) <= (height - 1) * SUBPIXELS
    )
    keep &= (torch.maximum(torch.maximum(xs[0], xs[1]), xs[2]) > 0) & (
        torch.minimum(torch.minimum(xs[0], xs[1]), xs[2]) <= (width - 1) * SUBPIXELS
    )
    image, face = keep.nonzero(as_tuple=True)
    flat = image * columns[0].shape[0] + face
    at_vertex = [image * vertices.shape[1] + column[face] for column in columns]
    z_flat = z.reshape(-1)
    return _Triangles(
        image,
        face,
        _three(value.reshape(-1)[flat] for value in xs),
        _three(value.reshape(-1)[flat] for value in ys),
        _three(1 / z_flat[index] for index in at_vertex),
        area.reshape(-1)[flat],
        # Levels are shared out from the nearest vertex of the image to infinity, equally in 1/z.
        (nearest * _DEPTH_LEVELS)[image],
    )


def _depth_test(triangles: _Triangles, batch: int, height: int, width: int) -> Tensor:
    """``[batch * height * width]`` key of the nearest triangle: depth level in the upper half, index in the lower."""
    buffer = torch.full((batch * height * width,), _EMPTY, dtype=torch.int64, device=triangles.image.device)
    if not triangles.image.numel():
        return buffer
    triangle, row, left, count = _spans(triangles, height, width)
    first, slope = _depth_levels(triangles, triangle, row)
    base = (triangles.image[triangle] * height + row) * width + left
    first = first + slope * left.double()
    ends = count.cumsum(0)
    total = int(ends[-1]) if ends.numel() else 0
    budget = _PIXEL_BUDGET * _factor(buffer)
    begin, done = 0, 0
    while done < total:
        # At least one row at a time, as many as the budget allows.
        end = int(torch.searchsorted(ends, done + budget, right=True)) if total > budget else len(ends)
        end = max(end, begin + 1)
        covered = int(ends[end - 1]) - done
        rows = slice(begin, end)
        span = torch.repeat_interleave(count[rows], output_size=covered)
        step = torch.arange(covered, device=buffer.device) - (ends[rows] - count[rows] - done)[span]
        level = (first[rows][span] + slope[rows][span] * step.double()).clamp(0, _DEPTH_LEVELS).long()
        key = level.bitwise_left_shift(32).bitwise_or(triangle[rows][span])
        buffer.scatter_reduce_(0, base[rows][span] + step, key, "amin")
        begin, done = end, done + covered
    return buffer


def _spans(triangles: _Triangles, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rows crossed by triangles: triangle, row, first column and number of pixels of each (only non-empty ones)."""
    (xa, ya), (xb, yb), (xc, yc) = _sort_by_y(triangles.x, triangles.y)
    top = torch.ceil(ya / SUBPIXELS).clamp(min=0)
    bottom = torch.ceil(yc / SUBPIXELS).clamp(max=height)
    rows = (bottom - top).clamp(min=0).long()
    triangle = torch.repeat_interleave(rows)
    offset = rows.cumsum(0) - rows
    row = torch.arange(triangle.numel(), device=rows.device) - (offset - top.long())[triangle]
    y = row.double() * SUBPIXELS
    # x on an edge at height y is (constant + y * dx) / dy: whole numbers, so the quotient rounds the right way.
    edges = []
    for x0, y0, x1, y1 in ((xa, ya, xc, yc), (xa, ya, xb, yb), (xb, yb, xc, yc)):
        dx, dy = x1 - x0, y1 - y0
        edges.append((x0 * dy - y0 * dx, dx, dy * SUBPIXELS))
    long_edge = (edges[0][0][triangle] + y * edges[0][1][triangle]) / edges[0][2][triangle]
    upper_or_lower = triangle + xa.numel() * (y >= yb[triangle])
    constant, dx, dy = (torch.cat([upper, lower])[upper_or_lower] for upper, lower in zip(*edges[1:], strict=True))
    short_edge = (constant + y * dx) / dy
    left = torch.ceil(torch.minimum(long_edge, short_edge)).clamp(0, width)
    right = torch.ceil(torch.maximum(long_edge, short_edge)).clamp(0, width)
    keep = (right > left).nonzero().squeeze(1)
    left = left[keep].long()
    return triangle[keep], row[keep], left, right[keep].long() - left


def _depth_levels(triangles: _Triangles, triangle: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """Depth level of each row at column 0, and its change per column."""
    (x0, x1, x2), (y0, y1, y2), (w0, w1, w2) = triangles.x, triangles.y, triangles.w
    dx = ((w1 - w0) * (y2 - y0) - (w2 - w0) * (y1 - y0)) / triangles.area
    dy = ((w2 - w0) * (x1 - x0) - (w1 - w0) * (x2 - x0)) / triangles.area
    scale = -triangles.depth_scale
    origin = (w0 - dx * x0 - dy * y0) * scale + _DEPTH_LEVELS
    down, right = dy * (scale * SUBPIXELS), dx * (scale * SUBPIXELS)
    return origin[triangle] + down[triangle] * row.double(), right[triangle]


def _resolve(
    triangles: _Triangles, buffer: Tensor, start: int, height: int, width: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Covered pixels of the whole batch with face, barycentric coordinates and depth."""
    pixel = (buffer != _EMPTY).nonzero().squeeze(1)
    winner = buffer[pixel].bitwise_and(2**32 - 1)
    x = (pixel % width).double() * SUBPIXELS
    y = (torch.div(pixel, width, rounding_mode="floor") % height).double() * SUBPIXELS
    dx = [value[winner] - x for value in triangles.x]
    dy = [value[winner] - y for value in triangles.y]
    weights = []
    for corner in range(3):
        after, last = (corner + 1) % 3, (corner + 2) % 3
        share = dx[after] * dy[last] - dy[after] * dx[last]
        weights.append(share * triangles.w[corner][winner])
    total = weights[0] + weights[1] + weights[2]
    bary = torch.stack([weight / total for weight in weights], -1).to(dtype)
    depth = (triangles.area[winner] / total).to(dtype)
    return pixel + start * height * width, triangles.face[winner], bary, depth


def _sort_by_y(
    x: tuple[Tensor, Tensor, Tensor], y: tuple[Tensor, Tensor, Tensor]
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """The corners of each triangle from top to bottom."""
    corners = [(x[0], y[0]), (x[1], y[1]), (x[2], y[2])]
    for i, j in ((0, 1), (1, 2), (0, 1)):
        (xi, yi), (xj, yj) = corners[i], corners[j]
        swap = yi > yj
        corners[i] = (torch.where(swap, xj, xi), torch.minimum(yi, yj))
        corners[j] = (torch.where(swap, xi, xj), torch.maximum(yi, yj))
    return corners[0], corners[1], corners[2]


def _factor(tensor: Tensor) -> int:
    return 1 if tensor.device.type == "cpu" else _ACCELERATOR_FACTOR


def _three(values: Iterable[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    first, second, third = values
    return first, second, third
