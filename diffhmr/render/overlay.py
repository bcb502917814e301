"""Shaded bodies, alone or laid over a photo."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.geometry.camera import project
from diffhmr.render.colors import text_width, write_text
from diffhmr.render.raster import rasterize
from diffhmr.render.shade import Lights, camera_lights, interpolate, irradiance, vertex_normals

MeshRenderer = Callable[[Tensor, Tensor, Tensor, tuple[int, int], Tensor, float], tuple[Tensor, Tensor]]
"""What :func:`render_mesh` is; :class:`diffhmr.render.opengl.OpenGLRenderer` is the other one."""

AMBIENT = 0.35
_SUPERSAMPLE = 2


def lit_colours(vertices: Tensor, faces: Tensor, colours: Tensor, ambient: float = AMBIENT) -> Tensor:
    """Colours ``[B, V, 3]`` of the vertices of B meshes in the light of :func:`diffhmr.render.shade.camera_lights`.

    Args:
        vertices: ``[B, V, 3]`` in the camera frame.
        faces: ``[F, 3]``, counter-clockwise seen from outside.
        colours: RGB in [0, 1], ``[3]`` or per vertex ``[B, V, 3]``.
        ambient: brightness of what no lamp reaches; 1 shows the bare colours.
    """
    lights = camera_lights(len(vertices), vertices)
    share = (1 - ambient) / (1 - lights.ambient).unsqueeze(1)
    lights = Lights(lights.direction, lights.colour * share, torch.full_like(lights.ambient, ambient))
    light = irradiance(vertex_normals(vertices, faces), lights)
    return (colours.to(vertices) * light).clamp(0, 1)


@torch.no_grad()
def render_mesh(
    vertices: Tensor,
    faces: Tensor,
    intrinsic: Tensor,
    size: tuple[int, int],
    colours: Tensor,
    ambient: float = AMBIENT,
) -> tuple[Tensor, Tensor]:
    """Draw B meshes, one per picture, with smooth shading and anti-aliased edges.

    Args:
        vertices: ``[B, V, 3]`` metres in the camera frame.
        faces: ``[F, 3]``, counter-clockwise seen from outside.
        intrinsic: K ``[3, 3]`` or ``[B, 3, 3]``.
        size: height and width in pixels.
        colours: RGB in [0, 1], ``[3]`` or per vertex ``[B, V, 3]``.
        ambient: brightness of what no lamp reaches; 1 shows the bare colours.

    Returns:
        Colour ``[B, H, W, 3]``, already multiplied with the opacity, and opacity ``[B, H, W]``, both in [0, 1].
    """
    batch, (height, width) = vertices.shape[0], size
    pixels = project(vertices, intrinsic)
    # The centre of the top-left pixel is the origin, before and after the enlargement.
    screen = (pixels + 0.5) * _SUPERSAMPLE - 0.5
    rows, columns = height * _SUPERSAMPLE, width * _SUPERSAMPLE
    fragments = rasterize(torch.cat([screen, vertices[..., 2:]], dim=-1), faces, rows, columns)
    shaded = interpolate(fragments, faces, lit_colours(vertices, faces, colours, ambient))
    drawn = fragments.scatter(torch.cat([shaded, torch.ones_like(shaded[:, :1])], -1), 0)
    blocks = drawn.reshape(batch, height, _SUPERSAMPLE, width, _SUPERSAMPLE, 4)
    # Several times faster than a mean over both dimensions.
    total = sum(blocks[:, :, i, :, j] for i in range(_SUPERSAMPLE) for j in range(_SUPERSAMPLE))
    averaged = torch.as_tensor(total / _SUPERSAMPLE**2)
    return averaged[..., :3], averaged[..., 3]


def overlay(
    rgb: NDArray[np.uint8],
    vertices: Tensor,
    faces: Tensor,
    intrinsic: Tensor,
    colours: Tensor,
    opacity: float = 0.85,
    renderer: MeshRenderer = render_mesh,
    names: Sequence[str] = (),
) -> NDArray[np.uint8]:
    """Lay P bodies over a photo; nearer ones hide farther ones, and all other pixels stay as they are.

    Args:
        rgb: ``[H, W, 3]`` uint8.
        vertices: ``[P, V, 3]`` metres in the camera frame.
        faces: ``[F, 3]``.
        intrinsic: K ``[3, 3]`` of the photo.
        colours: ``[P, 3]`` RGB in [0, 1].
        opacity: of the bodies.
        renderer: draws them.
        names: written above the bodies, one for each, or none.
    """
    people, count = vertices.shape[:2]
    result = rgb.copy()
    pixels = project(vertices, intrinsic)
    limits = torch.tensor([rgb.shape[1], rgb.shape[0]], dtype=pixels.dtype)
    low = (pixels.amin((0, 1)).floor() - 1).clamp(min=0).minimum(limits).long().tolist()
    high = (pixels.amax((0, 1)).ceil() + 2).clamp(min=0).minimum(limits).long().tolist()
    if high[0] <= low[0] or high[1] <= low[1]:
        return result
    # Only the window that the bodies fill is drawn: large photos cost no more than small ones.
    window = intrinsic.clone()
    window[:2, 2] -= torch.tensor(low, dtype=window.dtype)
    offsets = torch.arange(people).reshape(-1, 1, 1) * count
    colour, alpha = renderer(
        vertices.reshape(1, people * count, 3),
        (faces.unsqueeze(0) + offsets).reshape(-1, 3),
        window,
        (high[1] - low[1], high[0] - low[0]),
        colours.repeat_interleave(count, dim=0).unsqueeze(0),
        AMBIENT,
    )
    place = (slice(low[1], high[1]), slice(low[0], high[0]))
    result[place] = blend(result[place], colour[0], alpha[0], opacity)
    for points, name in zip(pixels, names, strict=bool(names)):
        _write_above(result, points, name)
    return result


def _write_above(rgb: NDArray[np.uint8], points: Tensor, name: str) -> None:
    """Write ``name`` above the topmost of the ``points [V, 2]``, inside the picture if it can be."""
    height, width = rgb.shape[:2]
    x, y = points[points[:, 1].argmin()].tolist()
    scale = max(0.5, 0.9 * max(height, width) / 1000)
    wide, high = text_width(name, scale), 24 * scale
    left = round(min(max(x - wide / 2, 4), width - wide - 4))
    write_text(rgb, name, (left, round(min(max(y - 0.4 * high, high), height - 4))), scale, outlined=True)


def blend(rgb: NDArray[np.uint8], colour: Tensor, alpha: Tensor, opacity: float = 1.0) -> NDArray[np.uint8]:
    """``rgb [H, W, 3]`` uint8 under a drawing with premultiplied ``colour [H, W, 3]`` and ``alpha [H, W]``."""
    below = torch.from_numpy(rgb.copy()).float() / 255
    mixed = opacity * colour + (1 - opacity * alpha.unsqueeze(-1)) * below
    result: NDArray[np.uint8] = mixed.mul(255).round().clamp(0, 255).byte().numpy()
    return result
