"""Binary glTF 2.0 (``.glb``): arrays as accessors, and the container around them.

The rules are those of the Khronos Group's glTF 2.0 specification: chapter 4 for the container, 3.6 for buffers and
accessors. Meshes, skins and animations are written by :mod:`diffhmr.render.animated_glb`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from diffhmr.files import atomic_path

VERTEX_DATA, INDEX_DATA = 34962, 34963
"""What a buffer view is for: ARRAY_BUFFER and ELEMENT_ARRAY_BUFFER."""

_COMPONENT_TYPES = {"uint8": 5121, "uint16": 5123, "uint32": 5125, "float32": 5126}
_SHAPES = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
_MAGIC, _VERSION, _JSON_CHUNK, _BINARY_CHUNK = 0x46546C67, 2, 0x4E4F534A, 0x004E4942
_ALIGNMENT = 4


@dataclass
class GltfArrays:
    """The binary part of a file while it is put together: one buffer view per array, each starting at 4 bytes."""

    accessors: list[dict[str, Any]] = field(default_factory=list)
    views: list[dict[str, Any]] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)

    def add(self, array: np.ndarray, target: int | None = None, bounds: bool = False) -> int:
        """Append ``array [N, ...]`` and return the index of its accessor.

        Args:
            array: uint8, uint16, uint32 or float32; one element is a number, a vector of 2 to 4, or a matrix
                ``[4, 4]``, which is given row by row and stored column by column as glTF wants it.
            target: ``VERTEX_DATA`` or ``INDEX_DATA``; None for everything that is no mesh.
            bounds: state the least and greatest values, as positions and times of key frames must.
        """
        kind = _SHAPES[array.shape[1:]]
        assert len(array) and array.dtype.name in _COMPONENT_TYPES
        if array.dtype.kind == "f":
            assert np.isfinite(array).all(), "glTF has no numbers for what is not finite"
        # Elements of vertex data start at multiples of four bytes.
        assert target != VERTEX_DATA or array[0].nbytes % _ALIGNMENT == 0
        stored = array.swapaxes(-1, -2) if kind == "MAT4" else array
        self.data += bytes(-len(self.data) % _ALIGNMENT)
        content = np.ascontiguousarray(stored).astype(stored.dtype.newbyteorder("<"), copy=False).tobytes()
        view: dict[str, Any] = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(content)}
        self.views.append(view if target is None else {**view, "target": target})
        self.data += content
        accessor: dict[str, Any] = {
            "bufferView": len(self.views) - 1,
            "componentType": _COMPONENT_TYPES[array.dtype.name],
            "count": len(array),
            "type": kind,
        }
        if bounds:
            flat = array.reshape(len(array), -1)
            accessor |= {"min": flat.min(axis=0).tolist(), "max": flat.max(axis=0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1


def write_glb(path: Path, document: Mapping[str, Any], arrays: GltfArrays) -> None:
    """Write ``document``, the glTF without its buffers, views and accessors, and ``arrays`` as one ``.glb``.

    Raises:
        UserError: the file cannot be written.
    """
    content = {
        **document,
        "accessors": arrays.accessors,
        "bufferViews": arrays.views,
        "buffers": [{"byteLength": len(arrays.data)}],
    }
    text = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    # JSON is filled up with blanks, binary data with zeros.
    chunks = ((_JSON_CHUNK, _padded(text, b" ")), (_BINARY_CHUNK, _padded(bytes(arrays.data), b"\0")))
    size = 12 + sum(8 + len(chunk) for _, chunk in chunks)
    with atomic_path(path) as temporary, temporary.open("wb") as stream:
        stream.write(struct.pack("<III", _MAGIC, _VERSION, size))
        for kind, chunk in chunks:
            stream.write(struct.pack("<II", len(chunk), kind))
            stream.write(chunk)


def _padded(content: bytes, filler: bytes) -> bytes:
    return content + filler * (-len(content) % _ALIGNMENT)
