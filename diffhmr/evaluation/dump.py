"""Errors and predictions of every person or frame as an ``.npz``, written while the evaluation goes on.

The memory it takes is constant.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from diffhmr.body.params import SmplParams
from diffhmr.files import atomic_path
from diffhmr.geometry.rotation import matrix_to_axis_angle

_EPOCH = (1980, 1, 1, 0, 0, 0)  # so that the same result gives the same bytes


class Dump:
    """Writes the file when the ``with`` block ends well, and nothing when it does not.

    Arrays: ``pose (N, 1 + S, 72)`` axis-angle and ``betas (N, 1 + S, 10)`` in the frame of the camera (for people in
    pictures that of the crop, whose ``camera (N, 1 + S, 3)`` is there too), and the errors ``(N, 1 + S)`` of every
    metric, float32; hypothesis 0 is the single answer. What is given to :meth:`finish` is added.

    Args:
        path: the ``.npz`` file to be.
        num_items: N people, or frames of sequences.
    """

    def __init__(self, path: str | Path, num_items: int) -> None:
        self._path = Path(path)
        self._num_items = num_items
        self._written = 0
        self._extra: dict[str, np.ndarray] = {}
        self._streams: dict[str, BinaryIO] = {}

    def __enter__(self) -> Dump:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Beside the result: the temporary folder of the system may be small.
        self._folder = tempfile.TemporaryDirectory(prefix=f".{self._path.stem}-", dir=self._path.parent)
        return self

    def add(self, params: SmplParams, arrays: Mapping[str, Tensor]) -> None:
        """The next items in order: parameters ``[N, 1 + S]`` and what else there is of each."""
        pose = matrix_to_axis_angle(params.rotations).flatten(-2)
        for name, values in {"pose": pose, "betas": params.betas, **arrays}.items():
            block = np.ascontiguousarray(values.float().cpu().numpy())
            if name not in self._streams:
                self._streams[name] = self._open(name, block.shape[1:])
            self._streams[name].write(block.tobytes())
        self._written += len(pose)

    def finish(self, facts: Mapping[str, Any], **arrays: np.ndarray) -> None:
        """Add the result as JSON text (``result``) and further arrays."""
        self._extra = {**arrays, "result": np.array(json.dumps(facts))}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for stream in self._streams.values():
                stream.close()
            if kind is None:
                assert self._written == self._num_items and self._extra
                self._pack()
        finally:
            self._folder.cleanup()

    def _open(self, name: str, tail: tuple[int, ...]) -> BinaryIO:
        stream = open(Path(self._folder.name) / f"{name}.npy", "wb")  # noqa: SIM115 - open until the end
        header = {"descr": "<f4", "fortran_order": False, "shape": (self._num_items, *tail)}
        np.lib.format.write_array_header_1_0(stream, header)
        return stream

    def _pack(self) -> None:
        with atomic_path(self._path) as temporary, zipfile.ZipFile(temporary, "w", allowZip64=True) as archive:
            for name in self._streams:
                with (
                    open(Path(self._folder.name) / f"{name}.npy", "rb") as source,
                    archive.open(zipfile.ZipInfo(f"{name}.npy", _EPOCH), "w", force_zip64=True) as target,
                ):
                    while block := source.read(1 << 20):
                        target.write(block)
            for name, array in self._extra.items():
                buffer = io.BytesIO()
                np.lib.format.write_array(buffer, array, allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), buffer.getvalue())
