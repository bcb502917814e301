"""The same drawings from OpenGL, through pyrender: optional, for machines with a graphics card.

Light is computed by :func:`diffhmr.render.overlay.lit_colours` and OpenGL only decides what is seen, so the pictures
look like those of the software renderer and the colours of a spread picture keep their values.

pyrender is imported when something is drawn, never before. Its version 0.1.45 works with NumPy 2 as long as nobody asks
for the bounds of a scene; only its shadows and its viewer do, and neither is used here. It asks for PyOpenGL 3.1.0, too
old for Python 3.12 and for OSMesa: ``pip install --upgrade PyOpenGL`` goes against that wish, and works.
"""

from __future__ import annotations

import logging
import os
import sys
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.errors import UserError
from diffhmr.render.mesh_files import to_y_up
from diffhmr.render.overlay import AMBIENT, MeshRenderer, lit_colours, render_mesh

_NEAREST = 1e-3


class OpenGLRenderer:
    """Draws what :func:`diffhmr.render.overlay.render_mesh` draws, called with the same arguments.

    Opening OpenGL takes longer than drawing, so make one and hand it on. There should be one at a time: pyrender's
    contexts share a display, and the first that goes takes it along.

    Raises:
        UserError: pyrender is not installed, or there is no OpenGL on this machine.
    """

    def __init__(self) -> None:
        self._pyrender = _import_pyrender()
        try:
            self._renderer = self._pyrender.OffscreenRenderer(64, 64)
        except Exception as error:
            # Which exception it is depends on the platform and on what is missing (library, driver, display).
            raise UserError(_no_opengl(self._pyrender, error)) from error

    @torch.no_grad()
    def __call__(
        self,
        vertices: Tensor,
        faces: Tensor,
        intrinsic: Tensor,
        size: tuple[int, int],
        colours: Tensor,
        ambient: float = AMBIENT,
    ) -> tuple[Tensor, Tensor]:
        """Colour ``[B, H, W, 3]``, multiplied with the opacity, and opacity ``[B, H, W]``, both in [0, 1]."""
        drawn, _ = self.draw(vertices, faces, intrinsic, size, lit_colours(vertices, faces, colours, ambient))
        return drawn[..., :3], drawn[..., 3]

    @torch.no_grad()
    def draw(
        self, vertices: Tensor, faces: Tensor, intrinsic: Tensor, size: tuple[int, int], colours: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Draw B meshes, one per picture, in the bare ``colours``; edges are anti-aliased, four samples per pixel.

        Args:
            vertices: ``[B, V, 3]`` metres in the camera frame; what lies behind the camera is clipped.
            faces: ``[F, 3]``, counter-clockwise seen from outside; backs are not drawn.
            intrinsic: K ``[3, 3]`` or ``[B, 3, 3]`` without skew.
            size: height and width in pixels.
            colours: RGB in [0, 1], ``[B, V, 3]``.

        Returns:
            RGBA ``[B, H, W, 4]`` in [0, 1], colour already multiplied with the opacity, and depth ``[B, H, W]`` in
            metres, infinity where there is no surface.
        """
        rgba = vertices.new_zeros(len(vertices), *size, 4)
        depth = vertices.new_zeros(len(vertices), *size)
        matrices = intrinsic.expand(len(vertices), 3, 3).cpu()
        for index, (mesh, colour) in enumerate(zip(vertices.cpu(), colours.cpu(), strict=True)):
            picture, distance = self._render(_scene(self._pyrender, mesh, faces.cpu(), matrices[index], colour), size)
            rgba[index] = torch.from_numpy(picture).to(rgba) / 255
            depth[index] = torch.from_numpy(distance)
        return rgba, torch.where(depth > 0, depth, torch.inf)

    def _render(self, scene: Any, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """RGBA ``[H, W, 4]`` and depth ``[H, W]``, 0 where there is nothing."""
        flags = self._pyrender.RenderFlags.RGBA | self._pyrender.RenderFlags.FLAT
        self._renderer.viewport_height, self._renderer.viewport_width = size
        try:
            rgba, depth = self._renderer.render(scene, flags=flags)
        except Exception as error:
            raise UserError(_no_opengl(self._pyrender, error)) from error
        return np.ascontiguousarray(rgba), np.ascontiguousarray(depth)


def choose_renderer(name: Literal["software", "opengl"]) -> MeshRenderer:
    """The renderer of that name.

    Raises:
        UserError: OpenGL was asked for and is not there.
    """
    return OpenGLRenderer() if name == "opengl" else render_mesh


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
    # It reports that an accelerator for large arrays is not installed, which nobody needs here.
    logging.getLogger("OpenGL.acceleratesupport").setLevel(logging.WARNING)
    try:
        import pyrender
    except ModuleNotFoundError as error:
        raise UserError(
            f"the OpenGL renderer needs the package {error.name}: pip install pyrender, or use the software renderer"
        ) from error
    except Exception as error:
        raise UserError(_no_opengl(None, error)) from error
    module: ModuleType = pyrender
    return module


def _no_opengl(pyrender: ModuleType | None, error: Exception) -> str:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    with_versions = "" if pyrender is None else f" in pyrender {pyrender.__version__} with NumPy {np.__version__}"
    platform = os.environ.get("PYOPENGL_PLATFORM", "not set")
    return (
        f"OpenGL cannot be used here ({reason}{with_versions}; PYOPENGL_PLATFORM is {platform}); use the software "
        "renderer, set PYOPENGL_PLATFORM to egl or osmesa, or try pip install --upgrade PyOpenGL"
    )
