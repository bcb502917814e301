"""A moving body as one Wavefront OBJ per frame, for programs that read mesh sequences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path

import torch

from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.files import atomic_folder, ensure_folder
from diffhmr.render.mesh_files import write_mesh

_CHUNK = 32  # frames whose meshes are in memory at once
_FRAME_FILE = re.compile(r"\d{6,}\.obj")


def frame_file(number: int) -> str:
    """Name of the mesh of a frame: ``000012.obj``."""
    return f"{number:06d}.obj"


@torch.no_grad()
def write_obj_sequence(
    folder: str | Path, body: BodyModel, params: SmplParams, frame_numbers: Sequence[int]
) -> list[Path]:
    """Write the body of each frame as ``folder/000012.obj``, metres, y up, as :func:`write_mesh` does.

    The meshes are made a few at a time, so that memory does not grow with the number of frames, and beside the folder:
    an earlier sequence in it goes when the new one is complete, and the two never mix.

    Args:
        folder: is created if needed.
        body: whose mesh is written.
        params: ``[T]`` in the camera frame (y down), with or without ``transl``.
        frame_numbers: T different numbers from 0 on; they name the files.

    Raises:
        UserError: the folder or a file cannot be written.
        ValueError: the frame numbers are not T different ones.
    """
    if len(params.shape) != 1 or len(frame_numbers) != params.shape[0]:
        raise ValueError(f"{len(frame_numbers)} frame numbers for parameters of shape {tuple(params.shape)}")
    if len(set(frame_numbers)) != len(frame_numbers) or min(frame_numbers, default=0) < 0:
        raise ValueError("frame numbers must differ and not be negative")
    folder = ensure_folder(folder)
    with atomic_folder(folder) as temporary:
        for start in range(0, len(frame_numbers), _CHUNK):
            numbers = frame_numbers[start : start + _CHUNK]
            vertices = body(params.map(itemgetter(slice(start, start + len(numbers))))).vertices
            for number, mesh in zip(numbers, vertices, strict=True):
                write_mesh(temporary / frame_file(number), mesh, body.faces)
        for path in folder.iterdir():
            if _FRAME_FILE.fullmatch(path.name) and path.is_file():
                path.unlink()
    return [folder / frame_file(number) for number in frame_numbers]
