"""Light on a mesh: vertex normals, Lambert's law with a few directional lights, values carried from vertices to pixels.

Light is computed at the vertices and interpolated (Gouraud 1971), so a picture costs little more than its visibility.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from diffhmr.render.raster import Fragments


@dataclass(frozen=True)
class Lights:
    """L directional lights for each of B pictures, and light from everywhere.

    Attributes:
        direction: ``[B, L, 3]`` unit vectors from the surface to the light, in the frame of the normals.
        colour: ``[B, L, 3]`` RGB, what a white surface reflects when it faces the light; 0 switches a light off.
        ambient: ``[B, 3]`` RGB that reaches every surface.
    """

    direction: Tensor
    colour: Tensor
    ambient: Tensor


def camera_lights(batch: int, like: Tensor) -> Lights:
    """A neutral arrangement for overlays: a main light above the camera's left shoulder and a weak one from the right.

    The frame is the camera's (x right, y down, z forward); tensors get the device and type of ``like``.
    """
    direction = like.new_tensor([[-0.4, -0.6, -0.7], [0.8, 0.1, -0.5]])
    direction = direction / torch.linalg.vector_norm(direction, dim=-1, keepdim=True)
    colour = like.new_tensor([[0.62, 0.62, 0.62], [0.18, 0.18, 0.18]])
    ambient = like.new_tensor([0.35, 0.35, 0.35])
    return Lights(direction.expand(batch, -1, -1), colour.expand(batch, -1, -1), ambient.expand(batch, -1))


def vertex_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals ``[..., V, 3]`` of ``vertices [..., V, 3]``: the mean over faces, weighted by their area.

    They point outwards when ``faces [F, 3]`` are counter-clockwise seen from outside in a right-handed frame. A vertex
    without a face of positive area gets the zero vector.
    """
    corners = [vertices.index_select(-2, column) for column in faces.long().unbind(1)]
    across = torch.linalg.cross(corners[1] - corners[0], corners[2] - corners[0])
    normals = torch.zeros_like(vertices)
    for column in faces.long().unbind(1):
        normals = normals.index_add(-2, column, across)
    return normals / torch.linalg.vector_norm(normals, dim=-1, keepdim=True).clamp_min(1e-20)


def irradiance(normals: Tensor, lights: Lights, wrap: Tensor | float = 0.0) -> Tensor:
    """Light ``[B, V, 3]`` that reaches surfaces with unit ``normals [B, V, 3]``.

    Lambert's cosine law. ``wrap`` in [0, 1), a number or ``[B]``, lets light reach around the edge as in a diffuse
    surrounding: the cosine c becomes ``max(0, (c + wrap) / (1 + wrap))``.
    """
    if isinstance(wrap, Tensor):
        wrap = wrap[:, None]
    nx, ny, nz = normals.unbind(-1)
    total = [lights.ambient[:, channel, None].expand_as(nx) for channel in range(3)]
    for direction, colour in zip(lights.direction.unbind(1), lights.colour.unbind(1), strict=True):
        cosine = nx * direction[:, 0, None] + ny * direction[:, 1, None] + nz * direction[:, 2, None]
        cosine = ((cosine + wrap) / (1 + wrap)).clamp_min(0)
        total = [value + cosine * colour[:, channel, None] for channel, value in enumerate(total)]
    return torch.stack(total, -1)


def interpolate(fragments: Fragments, faces: Tensor, values: Tensor) -> Tensor:
    """Values of vertices at the covered pixels, perspective-correct.

    Args:
        fragments: what the pixels see.
        faces: ``[F, 3]`` as given to the rasteriser.
        values: ``[B, V, C]``, or ``[V, C]`` when they are the same for all images.

    Returns:
        ``[N, C]`` in the order of ``fragments.pixel``; ``fragments.scatter`` makes a picture of it.
    """
    vertex = faces.long()[fragments.pixel_face]
    if values.dim() == 3:
        vertex = vertex + (fragments.image * values.shape[1])[:, None]
        values = values.reshape(-1, values.shape[-1])
    at_corner = values.index_select(0, vertex.reshape(-1)).reshape(*vertex.shape, values.shape[-1])
    weight = fragments.pixel_bary.to(values.dtype).unsqueeze(-1)
    first, second, third = (at_corner * weight).unbind(1)
    return first + second + third
