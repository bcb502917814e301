"""The bodies of a video laid over its frames, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.body.model import BodyModel
from diffhmr.geometry.camera import scale_intrinsics
from diffhmr.inference.video.footage import Footage, watched
from diffhmr.inference.video.track_result import TrackResult
from diffhmr.render.colors import person_colour
from diffhmr.render.overlay import MeshRenderer, overlay, render_mesh
from diffhmr.render.video_file import even_size, video_writer

MAX_SIDE = 1280
"""Longer side of overlays in pixels; larger videos are shrunk for them."""

_OPACITY, _MISSING_OPACITY = 0.85, 0.4
_SHOWN_SECONDS = 1.0  # that far from a frame in which somebody was found, a made-up motion is shown
_CHUNK = 16


def write_overlay(
    path: str | Path,
    footage: Footage,
    results: Sequence[TrackResult],
    body: BodyModel,
    renderer: MeshRenderer = render_mesh,
) -> Path:
    """Write the video with everybody's body on the picture, read and written one frame at a time.

    Bodies are paler in frames in which the person was not found, and left out where that lasts for longer than a
    second on both sides.

    Args:
        path: of the ``.mp4``.
        footage: the video.
        results: of one or more people, of ``body``.
        body: whose mesh is drawn.
        renderer: draws it.

    Raises:
        UserError: the file cannot be written.
    """
    width, height = footage.size
    scale = min(1.0, MAX_SIDE / max(width, height))
    shrunk = (max(round(width * scale), 2), max(round(height * scale), 2))
    size = even_size(*shrunk)
    intrinsic = scale_intrinsics(results[0].intrinsic, shrunk[0] / width, shrunk[1] / height)
    people = [_Figure(result, body) for result in results]
    colours = torch.stack([person_colour(index) for index in range(len(results))])
    names = [str(result.metadata["track"]["id"]) for result in results]
    faces = body.faces.cpu()
    with video_writer(path, size, footage.fps) as write:
        for frame, rgb in enumerate(watched(footage.frames(), footage.num_frames, "drawing the overlay")):
            picture = _resized(rgb, shrunk)
            for pale in (True, False):
                shown = [index for index, person in enumerate(people) if person.shown(frame) == (not pale, pale)]
                if shown:
                    picture = overlay(
                        picture,
                        torch.stack([people[index].vertices(frame) for index in shown]),
                        faces,
                        intrinsic,
                        colours[shown],
                        _MISSING_OPACITY if pale else _OPACITY,
                        renderer,
                        [names[index] for index in shown] if len(names) > 1 else [],
                    )
            write(np.ascontiguousarray(picture[: size[1], : size[0]]))
    return Path(path)


def _resized(rgb: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if rgb.shape[1::-1] == size:
        return rgb
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


class _Figure:
    """The mesh of a track, made for a few frames at a time as they are asked for."""

    def __init__(self, result: TrackResult, body: BodyModel) -> None:
        self._params = result.answer
        self._body = body
        self._first = int(result.frames[0])
        self._missing = result.missing
        found = np.flatnonzero(~result.missing)
        rows = np.arange(len(result))
        place = np.searchsorted(found, rows).clip(max=len(found) - 1)
        distance = np.minimum(np.abs(found[place] - rows), np.abs(rows - found[(place - 1).clip(min=0)]))
        self._near = distance <= _SHOWN_SECONDS * result.fps
        self._chunk = -1
        self._cached = torch.zeros(0)

    def shown(self, frame: int) -> tuple[bool, bool]:
        """Whether it is drawn in ``frame``, in full colour or paler."""
        row = frame - self._first
        if not 0 <= row < len(self._missing) or not self._near[row]:
            return False, False
        return not self._missing[row], bool(self._missing[row])

    def vertices(self, frame: int) -> Tensor:
        """``[V, 3]`` on the CPU."""
        chunk, row = divmod(frame - self._first, _CHUNK)
        if chunk != self._chunk:
            part = self._params.map(lambda value: value[chunk * _CHUNK : (chunk + 1) * _CHUNK])
            self._cached = self._body(part.to(self._body.faces.device)).vertices.cpu()
            self._chunk = chunk
        return self._cached[row]
