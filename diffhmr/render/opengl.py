"""The same drawings from OpenGL, through pyrender: optional, for machines with a graphics card.

Light is computed by :func:`diffhmr.render.overlay.lit_colours` and OpenGL only decides what is seen, so the pictures
look like those of the software renderer and the colours of a spread picture keep their values.

pyrender is imported when something is drawn, never before. Its version 0.1.45 works with NumPy 2 as long as nobody asks
for the bounds of a scene; only its shadows and its viewer do, and neither is used here. It asks for PyOpenGL 3.1.0, too
old for Python 3.12 and for OSMesa: ``pip install --upgrade PyOpenGL`` goes against that wish, and works.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.errors import UserError
from diffhmr.render.mesh_files import to_y_up
from diffhmr.render.overlay import lit_colours

_NEAREST = 1e-3


@torch.no_grad()
def render_mesh_opengl(
    vertices: Tensor,
    faces: Tensor,
    intrinsic: Tensor,
    size: tuple[int, int],
    colours: Tensor,
    ambient: float = 0.35,
) -> tuple[Tensor, Tensor]:
    """What :func:`diffhmr.render.overlay.render_mesh` draws, with the same arguments and results.

    Raises:
        UserError: pyrender is not installed, or there is no OpenGL on this machine.
    """
    drawn, _ = draw_opengl(vertices, faces, intrinsic, size, lit_colours(vertices, faces, colours, ambient))
    return drawn[..., :3], drawn[..., 3]


@torch.no_grad()
def draw_opengl(
    vertices: Tensor, faces: Tensor, intrinsic: Tensor, size: tuple[int, int], colours: Tensor
) -> tuple[Tensor, Tensor]:
    """Draw B meshes, one per picture, in the bare ``colours``; edges are anti-aliased with four samples per pixel.

    Args:
        vertices: ``[B, V, 3]`` metres in the camera frame; what lies behind the camera is clipped.
        faces: ``[F, 3]``, counter-clockwise seen from outside; backs are not drawn.
        intrinsic: K ``[3, 3]`` or ``[B, 3, 3]`` without skew.
        size: height and width in pixels.
        colours: RGB in [0, 1], ``[B, V, 3]``.

    Returns:
        RGBA ``[B, H, W, 4]`` in [0, 1], colour already multiplied with the opacity, and depth ``[B, H, W]`` in metres,
        infinity where there is no surface.

    Raises:
        UserError: pyrender is not installed, or there is no OpenGL on this machine.
    """
    pyrender = _import_pyrender()
    (height, width), device = size, vertices.device
    renderer = _open_renderer(pyrender, height, width)
    drawn, depths = [], []
    try:
        for mesh, colour, matrix in zip(vertices, colours, intrinsic.expand(len(vertices), 3, 3), strict=True):
            rgba, depth = _render(pyrender, renderer, _scene(pyrender, mesh.cpu(), faces.cpu(), matrix, colour.cpu()))
            drawn.append(torch.from_numpy(rgba))
            depths.append(torch.from_numpy(depth))
    finally:
        renderer.delete()
    if not drawn:
        return vertices.new_zeros(0, height, width, 4), vertices.new_zeros(0, height, width)
    all_depths = torch.stack(depths).to(device, vertices.dtype)
    return torch.stack(drawn).to(device, vertices.dtype) / 255, torch.where(all_depths > 0, all_depths, torch.inf)


def _scene(pyrender: ModuleType, vertices: Tensor, faces: Tensor, intrinsic: Tensor, colours: Tensor) -> Any:
    scene = pyrender.Scene(bg_color=[0.0, 0.0, 0.0, 0.0])
    opaque = torch.cat([colours, torch.ones_like(colours[:, :1])], dim=1)
    # OpenGL looks along -z with y up. Half a turn about x keeps the faces' orientation.
    primitive = pyrender.Primitive(
        to_y_up(vertices).float().numpy(),
        color_0=opaque.float().numpy(),
        indices=faces.numpy().astype(np.uint32),
    )
    scene.add(pyrender.Mesh([primitive]))
    depth = vertices[:, 2]
    seen = depth[depth > _NEAREST]
    near, far = (float(seen.min()), float(seen.max())) if len(seen) else (1.0, 1.0)
    (fx, _, cx), (_, fy, cy) = intrinsic[:2].tolist()
    # pyrender counts pixels from the corner of the picture; our origin is the centre of the first pixel.
    scene.add(pyrender.IntrinsicsCamera(fx, fy, cx + 0.5, cy + 0.5, znear=0.99 * near, zfar=1.01 * far))
    return scene


def _import_pyrender() -> ModuleType:
    # pyrender looks for a window if nothing is said; EGL needs neither a screen nor a window, but only Linux has it.
    if sys.platform.startswith("linux"):
        os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    try:
        import pyrender
    except ModuleNotFoundError as error:
        raise UserError(
            f"the OpenGL renderer needs the package {error.name}: pip install pyrender, or use the software renderer"
        ) from error
    except Exception as error:
        # Which exception it is depends on the platform and on what is missing (library, driver, display).
        raise UserError(_no_opengl(None, error)) from error
    module: ModuleType = pyrender
    return module


def _open_renderer(pyrender: ModuleType, height: int, width: int) -> Any:
    try:
        return pyrender.OffscreenRenderer(width, height)
    except Exception as error:
        raise UserError(_no_opengl(pyrender, error)) from error


def _render(pyrender: ModuleType, renderer: Any, scene: Any) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """RGBA ``[H, W, 4]`` and depth ``[H, W]``, 0 where there is nothing."""
    try:
        rgba, depth = renderer.render(scene, flags=pyrender.RenderFlags.RGBA | pyrender.RenderFlags.FLAT)
    except Exception as error:
        raise UserError(_no_opengl(pyrender, error)) from error
    return np.ascontiguousarray(rgba), np.ascontiguousarray(depth)


def _no_opengl(pyrender: ModuleType | None, error: Exception) -> str:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    with_versions = "" if pyrender is None else f" in pyrender {pyrender.__version__} with NumPy {np.__version__}"
    platform = os.environ.get("PYOPENGL_PLATFORM", "not set")
    return (
        f"OpenGL cannot be used here ({reason}{with_versions}; PYOPENGL_PLATFORM is {platform}); use the software "
        "renderer, set PYOPENGL_PLATFORM to egl or osmesa, or try pip install --upgrade PyOpenGL"
    )
