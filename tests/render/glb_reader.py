"""An independent reader of binary glTF: arrays, nodes and what a viewer shows of an animated skin at a key frame."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

_TYPES = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


@dataclass
class Glb:
    """A file that was checked while it was read."""

    document: dict[str, Any]
    binary: bytes

    def array(self, accessor: int) -> np.ndarray:
        """Elements as rows; matrices are column-major, as stored."""
        entry = self.document["accessors"][accessor]
        view = self.document["bufferViews"][entry["bufferView"]]
        kind, width = np.dtype(_TYPES[entry["componentType"]]).newbyteorder("<"), _WIDTHS[entry["type"]]
        start = view["byteOffset"] + entry.get("byteOffset", 0)
        assert start % kind.itemsize == 0 and entry["count"] > 0
        size = entry["count"] * width * kind.itemsize
        assert size <= view["byteLength"] and start + size <= len(self.binary)
        rows = np.frombuffer(self.binary[start : start + size], kind).reshape(-1, width)
        for name, function in (("min", np.min), ("max", np.max)):
            if name in entry:
                np.testing.assert_array_equal(np.array(entry[name], dtype=np.float32), function(rows, axis=0))
        return rows

    def key_frames(self) -> tuple[np.ndarray, dict[tuple[int, str], np.ndarray]]:
        """Times, and the values by node and path; all channels share the times."""
        animation = self.document["animations"][0]
        inputs = {sampler["input"] for sampler in animation["samplers"]}
        assert len(inputs) == 1 and {sampler["interpolation"] for sampler in animation["samplers"]} == {"LINEAR"}
        times = self.array(inputs.pop())[:, 0]
        values = {}
        for channel in animation["channels"]:
            target = channel["target"]["node"], channel["target"]["path"]
            assert target not in values, "two channels for one target"
            values[target] = self.array(animation["samplers"][channel["sampler"]]["output"])
            assert len(values[target]) == len(times)
        return times, values

    def world(self, frame: int | None) -> dict[int, np.ndarray]:
        """Matrices ``[4, 4]`` of all nodes in the scene at a key frame, or as the nodes stand."""
        values = {} if frame is None else self.key_frames()[1]
        result: dict[int, np.ndarray] = {}

        def visit(node: int, above: np.ndarray) -> None:
            entry = self.document["nodes"][node]
            assert node not in result, "a node has two parents"
            local = np.eye(4)
            rotation = values[node, "rotation"][frame] if (node, "rotation") in values else entry.get("rotation")
            if rotation is not None:
                assert abs(np.linalg.norm(rotation) - 1) < 1e-5
                local[:3, :3] = Rotation.from_quat(rotation).as_matrix()
            place = values[node, "translation"][frame] if (node, "translation") in values else entry.get("translation")
            local[:3, 3] = 0 if place is None else place
            result[node] = above @ local
            for child in entry.get("children", []):
                visit(child, result[node])

        for root in self.document["scenes"][self.document["scene"]]["nodes"]:
            visit(root, np.eye(4))
        return result

    def skinned(self, frame: int | None) -> np.ndarray:
        """Vertices ``[V, 3]`` at a key frame, by the formula of the specification (3.7.3)."""
        skin = self.document["skins"][0]
        attributes = self.document["meshes"][0]["primitives"][0]["attributes"]
        inverse = self.array(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1)
        world = self.world(frame)
        bones = np.stack([world[node] for node in skin["joints"]]) @ inverse
        points = self.array(attributes["POSITION"])
        blended = np.einsum(
            "vk,vkij->vij", self.array(attributes["WEIGHTS_0"]), bones[self.array(attributes["JOINTS_0"])]
        )
        return np.einsum("vij,vj->vi", blended[:, :3], np.concatenate([points, np.ones((len(points), 1))], axis=1))


def read_glb(path: Path) -> Glb:
    """Read and check the container: lengths, chunk types, alignment."""
    content = path.read_bytes()
    magic, version, length = struct.unpack("<4sII", content[:12])
    assert (magic, version, length) == (b"glTF", 2, len(content))
    chunks, place = [], 12
    while place < length:
        size, kind = struct.unpack("<I4s", content[place : place + 8])
        assert size % 4 == 0 and place % 4 == 0
        chunks.append((kind, content[place + 8 : place + 8 + size]))
        place += 8 + size
    assert place == length and [kind for kind, _ in chunks] == [b"JSON", b"BIN\0"]
    document = json.loads(chunks[0][1])
    assert 0 <= len(chunks[1][1]) - document["buffers"][0]["byteLength"] < 4
    return Glb(document, chunks[1][1])
