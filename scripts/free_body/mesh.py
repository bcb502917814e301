"""Mesh operations of the builder: triangles from quads, mirror partners, and simplification that keeps a vertex subset.

Simplification moves no vertex: it collapses an edge onto one of its two ends. Whatever was known per vertex (blend
shapes, skinning weights) therefore stays exact for the vertices that remain.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Array = NDArray[np.float64]
Faces = NDArray[np.int64]


def triangulate(quads: Faces, vertices: Array) -> Faces:
    """Triangles (2F, 3) from quads (F, 4), cut along the shorter diagonal; the winding is kept."""
    corners = vertices[quads]
    first = np.linalg.norm(corners[:, 0] - corners[:, 2], axis=1)
    second = np.linalg.norm(corners[:, 1] - corners[:, 3], axis=1)
    cut_first = (first <= second + 1e-9)[:, None]
    one = np.where(cut_first, quads[:, [0, 1, 2]], quads[:, [0, 1, 3]])
    two = np.where(cut_first, quads[:, [0, 2, 3]], quads[:, [1, 2, 3]])
    return np.stack([one, two], axis=1).reshape(-1, 3)


def signed_volume(vertices: Array, faces: Faces) -> float:
    """Enclosed volume in cubic metres; positive when the faces are wound counter-clockwise seen from outside."""
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    return float((np.cross(a, b) * c).sum() / 6.0)


def mirror_partners(vertices: Array, tolerance: float = 2e-3) -> NDArray[np.int64]:
    """For each vertex (V) the vertex at its mirror image in x, or -1 where there is none; partners are mutual."""
    distance, partner = cKDTree(vertices).query(vertices * (-1.0, 1.0, 1.0))
    partner = partner.astype(np.int64)
    mutual = (partner[partner] == np.arange(len(vertices))) & (distance < tolerance)
    return np.where(mutual, partner, -1)


def simplify(
    vertices: Array, faces: Faces, target: int, importance: Array, keep: NDArray[np.integer]
) -> tuple[NDArray[np.int64], Faces]:
    """Collapse edges until ``target`` vertices remain, the least visible change first, left and right alike.

    The cost of an edge is the quadric error of Garland and Heckbert (1997) plus a small share of the edge's length,
    which keeps flat parts evenly meshed; ``importance`` (V) scales it, and the vertices in ``keep`` are never removed.

    Returns:
        The indices of the vertices that remain, ascending, and the faces re-numbered to them.
    """
    mesh = _Collapser(vertices, faces, importance, keep)
    mesh.run(target)
    return mesh.result()


class _Collapser:
    """A triangle mesh under half-edge collapse: face lists per vertex, quadrics, and a heap of candidate edges."""

    _MIN_COSINE = 0.2  # a collapse may not turn a face by more than this
    _LENGTH_SHARE = 0.02

    def __init__(self, vertices: Array, faces: Faces, importance: Array, keep: NDArray[np.integer]) -> None:
        self.vertices = vertices
        self.importance = importance
        self.faces: list[tuple[int, int, int] | None] = [(int(a), int(b), int(c)) for a, b, c in faces]
        self.around: list[set[int]] = [set() for _ in vertices]
        for number, face in enumerate(faces):
            for vertex in face:
                self.around[vertex].add(number)
        self.locked = np.zeros(len(vertices), dtype=bool)
        self.locked[keep] = True
        self.alive = np.array([bool(near) for near in self.around])
        self.partner = mirror_partners(vertices)
        self.quadrics = self._quadrics(faces)
        self.version = np.zeros(len(vertices), dtype=np.int64)
        self.heap: list[tuple[float, int, int, int, int]] = []

    def _quadrics(self, faces: Faces) -> Array:
        a, b, c = np.moveaxis(self.vertices[faces], 1, 0)
        normal = np.cross(b - a, c - a)
        double_area = np.linalg.norm(normal, axis=1, keepdims=True)
        normal = normal / np.maximum(double_area, 1e-12)
        plane = np.concatenate([normal, -(normal * a).sum(1, keepdims=True)], axis=1)
        quadric = double_area[..., None] * plane[:, :, None] * plane[:, None, :]
        total = np.zeros((len(self.vertices), 4, 4))
        for corner in range(3):
            np.add.at(total, faces[:, corner], quadric)
        return total

    def neighbours(self, vertex: int) -> set[int]:
        """Vertices that share an edge with ``vertex``."""
        found: set[int] = set()
        for number in self.around[vertex]:
            found.update(self._face(number))
        found.discard(vertex)
        return found

    def _face(self, number: int) -> tuple[int, int, int]:
        face = self.faces[number]
        assert face is not None, "a removed face is still listed at a vertex"
        return face

    def _push(self, removed: int, kept: int) -> None:
        if self.locked[removed]:
            return
        point = np.append(self.vertices[kept], 1.0)
        error = float(point @ (self.quadrics[removed] + self.quadrics[kept]) @ point)
        edge = self.vertices[removed] - self.vertices[kept]
        length = float(edge @ edge)
        cost = (error + self._LENGTH_SHARE * length * length) * float(max(self.importance[removed], 1e-9))
        entry = (cost, removed, kept, int(self.version[removed]), int(self.version[kept]))
        heapq.heappush(self.heap, entry)

    def _push_around(self, vertex: int) -> None:
        for other in self.neighbours(vertex):
            self._push(vertex, other)
            self._push(other, vertex)

    def run(self, target: int) -> None:
        for vertex in np.flatnonzero(self.alive):
            for other in self.neighbours(int(vertex)):
                self._push(int(vertex), other)
        remaining = int(self.alive.sum())
        while remaining > target and self.heap:
            _, removed, kept, seen_removed, seen_kept = heapq.heappop(self.heap)
            current = self.version[removed] == seen_removed and self.version[kept] == seen_kept
            if not (current and self.alive[removed] and self.alive[kept]):
                continue
            twin = (int(self.partner[removed]), int(self.partner[kept]))
            if not self._twin_fits(removed, kept, twin) or not self._allowed(removed, kept):
                continue
            self._collapse(removed, kept)
            remaining -= 1
            if twin[0] not in (removed, -1) and self._allowed(*twin):
                self._collapse(*twin)
                remaining -= 1

    def _twin_fits(self, removed: int, kept: int, twin: tuple[int, int]) -> bool:
        """The mirrored collapse can follow this one: it does not use a vertex that this one removes."""
        if -1 in twin:
            return False
        on_middle = twin[0] == removed
        return twin == (removed, kept) if on_middle else removed not in twin and twin[0] != kept

    def _allowed(self, removed: int, kept: int) -> bool:
        """The surface stays closed (link condition) and no face flips."""
        if self.locked[removed] or not (self.alive[removed] and self.alive[kept]):
            return False
        if not self.around[removed] & self.around[kept]:
            return False
        if len(self.neighbours(removed) & self.neighbours(kept)) != 2 or len(self.around[kept]) <= 3:
            return False
        for number in self.around[removed] - self.around[kept]:
            before = self._face(number)
            after = [kept if vertex == removed else vertex for vertex in before]
            old, new = self._normal(before), self._normal(after)
            if old @ new < self._MIN_COSINE * float(np.sqrt((old @ old) * (new @ new))) or new @ new < 1e-16:
                return False
        return True

    def _normal(self, face: tuple[int, int, int] | list[int]) -> Array:
        (ax, ay, az), b, c = self.vertices[face[0]], self.vertices[face[1]], self.vertices[face[2]]
        ux, uy, uz, wx, wy, wz = b[0] - ax, b[1] - ay, b[2] - az, c[0] - ax, c[1] - ay, c[2] - az
        return np.array([uy * wz - uz * wy, uz * wx - ux * wz, ux * wy - uy * wx])

    def _collapse(self, removed: int, kept: int) -> None:
        for number in list(self.around[removed]):
            face = self._face(number)
            if kept in face:
                for vertex in face:
                    self.around[vertex].discard(number)
                self.faces[number] = None
            else:
                a, b, c = (kept if vertex == removed else vertex for vertex in face)
                self.faces[number] = (a, b, c)
                self.around[kept].add(number)
        self.around[removed] = set()
        self.alive[removed] = False
        self.quadrics[kept] += self.quadrics[removed]
        self.version[kept] += 1
        self._push_around(kept)

    def result(self) -> tuple[NDArray[np.int64], Faces]:
        kept = np.flatnonzero(self.alive)
        number = np.full(len(self.vertices), -1, dtype=np.int64)
        number[kept] = np.arange(len(kept))
        faces = np.array([face for face in self.faces if face is not None], dtype=np.int64)
        return kept, number[faces]
