"""Level of detail: a coarse mesh over a subset of a mesh's own vertices, so that it is skinned like the original."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra
from torch import Tensor


def decimate(
    vertices: Tensor, faces: Tensor, count: int, density: Tensor | None = None, keep: Sequence[int] = ()
) -> tuple[Tensor, Tensor]:
    """Choose about ``count`` vertices of a mesh and connect them.

    Vertices are chosen one by one, each as far as possible from those before (farthest-point sampling). Every vertex
    then joins the chosen one that is nearest along the surface, and a face whose corners have joined three different
    ones becomes a coarse face: the dual of the Voronoi regions on the surface. Parts that touch without being
    connected, such as two legs, do not grow together.

    Args:
        vertices: ``[V, 3]``.
        faces: ``[F, 3]``.
        count: number of vertices wanted; at most V are given.
        density: ``[V]`` positive; where it is twice as high, vertices are half as far from one another.
        keep: vertices that are chosen in any case.

    Returns:
        chosen vertices ``[M]`` (int64, ascending) and faces ``[G, 3]`` that index into them, oriented as the original.
    """
    points = vertices.detach().cpu().double().numpy()
    triangles = faces.detach().cpu().numpy().astype(np.int64)
    weight = np.ones(len(points)) if density is None else density.detach().cpu().double().numpy()
    chosen = _farthest_points(points, weight, min(count, len(points)), keep)
    owner = _nearest_on_surface(points, triangles, chosen)
    chosen = np.unique(chosen)
    place = np.full(len(points) + 1, -1)
    place[chosen] = np.arange(len(chosen))
    coarse = place[owner[triangles]]
    proper = (coarse >= 0).all(1)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        proper &= coarse[:, i] != coarse[:, j]
    coarse = coarse[proper]
    # The same face can come from several fine ones; rotate the smallest index to the front and keep one of each.
    first = coarse.argmin(1)
    coarse = np.take_along_axis(coarse, (first[:, None] + np.arange(3)) % 3, axis=1)
    coarse = np.unique(coarse, axis=0)
    return torch.from_numpy(chosen).to(faces.device), torch.from_numpy(coarse).to(faces.device)


def _farthest_points(
    points: NDArray[np.float64], weight: NDArray[np.float64], count: int, keep: Sequence[int]
) -> NDArray[np.int64]:
    chosen = list(dict.fromkeys(keep)) or [int(points[:, 1].argmax())]
    distance = np.full(len(points), np.inf)
    for index in chosen:
        distance = np.minimum(distance, ((points - points[index]) ** 2).sum(1))
    priority = weight**2
    while len(chosen) < count:
        index = int((distance * priority).argmax())
        if distance[index] == 0:
            break
        chosen.append(index)
        distance = np.minimum(distance, ((points - points[index]) ** 2).sum(1))
    return np.array(chosen, dtype=np.int64)


def _nearest_on_surface(
    points: NDArray[np.float64], faces: NDArray[np.int64], chosen: NDArray[np.int64]
) -> NDArray[np.int64]:
    """``[V]`` the chosen vertex nearest along the edges of the mesh, or -1 where none can be reached."""
    start, end = faces.ravel(), np.roll(faces, 1, axis=1).ravel()
    length = np.linalg.norm(points[start] - points[end], axis=1) + 1e-9
    # coo_matrix adds up entries that occur twice; an undirected edge of a closed mesh occurs once in each direction.
    pair = np.unique(np.stack([np.minimum(start, end), np.maximum(start, end)], 1), axis=0, return_index=True)[1]
    graph = coo_matrix((length[pair], (start[pair], end[pair])), shape=(len(points), len(points))).tocsr()
    _, _, owner = dijkstra(graph, directed=False, indices=chosen, min_only=True, return_predecessors=True)
    return np.where(owner < 0, -1, owner).astype(np.int64)
