"""Which people of successive frames are the same person, from nothing but their keypoints.

Every known person is moved on with the velocity of the last frames; the people found in a frame are matched to these
predictions so that the sum of the roots of the distances is smallest (Hungarian method). The distance is that between
corresponding keypoints as a part of the person's size, the idea of COCO's object keypoint similarity. So two people who
cross keep their identities as long as they keep walking, also when one of them is hidden for a while.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from diffhmr.inference.clear_points import clear_points

GAP_SECONDS = 2.0
"""A person who is not found for longer than this becomes somebody new."""

_COAST_SECONDS = 1.0  # people who are hidden go on with their velocity so long, then stand still
_USUAL_FPS = 30.0
_HISTORY = 10  # frames from which a velocity is taken
_GATE = 0.3  # largest mean distance of keypoints to a match, as a part of the diagonal of the person's box
_GATE_GROWTH = 0.02  # per frame in which the person was missing
_MAX_GATE = 0.7
_NO_MATCH = 0.75  # what leaving somebody unmatched costs
_LOST = 0.05  # of two people who fit as well, the one seen last is preferred
_MIN_SHARED = 3
_MIN_SIZE = 8.0  # pixels


@dataclass(frozen=True)
class _Sighting:
    """A person in a frame: points ``[K, 3]``, their middle ``[2]`` and the diagonal of their box."""

    frame: int
    points: NDArray[np.float64]
    centre: NDArray[np.float64]
    size: float


@dataclass
class _Person:
    """Somebody who is being followed."""

    number: int
    sightings: deque[_Sighting] = field(default_factory=lambda: deque(maxlen=_HISTORY))

    @property
    def last(self) -> _Sighting:
        return self.sightings[-1]

    @property
    def size(self) -> float:
        """Median of the last sightings."""
        return sorted(sighting.size for sighting in self.sightings)[len(self.sightings) // 2]

    def see(self, sighting: _Sighting) -> None:
        while self.sightings and sighting.frame - self.sightings[0].frame > 2 * _HISTORY:
            self.sightings.popleft()
        self.sightings.append(sighting)

    def velocity(self) -> NDArray[np.float64]:
        """Pixels per frame: the median over the keypoints, which swinging arms and outliers do not move."""
        first, last = self.sightings[0], self.last
        seen = (first.points[:, 2] > 0) & (last.points[:, 2] > 0)
        count = int(np.count_nonzero(seen))
        if first.frame == last.frame or not count:
            return np.zeros(2)
        steps = np.sort(last.points[seen, :2] - first.points[seen, :2], axis=0)
        velocity: NDArray[np.float64] = (steps[(count - 1) // 2] + steps[count // 2]) / (2 * (last.frame - first.frame))
        return velocity


def link_people(frames: NDArray[np.int64], points: NDArray[np.float64], fps: float | None = None) -> NDArray[np.int64]:
    """The person to whom each row belongs, numbered from 0 by first appearance, in one frame from left to right.

    The order of the rows does not matter. No two rows of a frame are the same person.

    Args:
        frames: ``[N]`` number of the frame of each row.
        points: ``[N, K, 3]`` pixels and confidence; every row has a point with a confidence above 0.
        fps: frames per second, for how long somebody may be missing; None: 30.
    """
    rate = fps if fps is not None and 0 < fps < math.inf else _USUAL_FPS
    max_gap, coast = max(round(GAP_SECONDS * rate), 2), max(round(_COAST_SECONDS * rate), 1)
    numbers = np.full(len(frames), -1, dtype=np.int64)
    centres, sizes = _centres_and_sizes(points)
    known: list[_Person] = []
    count = 0
    order = np.argsort(frames, kind="stable")
    starts = np.flatnonzero(np.diff(frames[order], prepend=-1))
    for rows in np.split(order, starts[1:]):
        frame = int(frames[rows[0]])
        found = [_Sighting(frame, points[row], centres[row], float(sizes[row])) for row in rows]
        if len(rows) > 1:  # in an order that depends on the people alone
            places = sorted(range(len(rows)), key=lambda place: _sort_key(found[place]))
            rows, found = rows[places], [found[place] for place in places]
        known = [person for person in known if frame - person.last.frame <= max_gap]
        for row, sighting, person in zip(rows, found, _matched(known, found, coast), strict=True):
            if person is None:
                person = _Person(count)
                known.append(person)
                count += 1
            person.see(sighting)
            numbers[row] = person.number
    return numbers


def _matched(known: list[_Person], found: list[_Sighting], coast: int) -> list[_Person | None]:
    """For each of the people found in a frame who it is; None: somebody new."""
    matched: list[_Person | None] = [None] * len(found)
    if not known:
        return matched
    gaps = np.array([found[0].frame - person.last.frame for person in known])
    cost = _distance(known, found, np.minimum(gaps, coast)) + np.where(gaps > 1, _LOST, 0.0)[:, None]
    gate = np.minimum(_GATE + _GATE_GROWTH * (gaps - 1), _MAX_GATE)
    cost[cost > gate[:, None]] = _NO_MATCH
    # The root makes one sure and one open match better than two that are both poor.
    for row, column in zip(*linear_sum_assignment(np.sqrt(cost)), strict=True):
        if cost[row, column] < _NO_MATCH:
            matched[column] = known[row]
    return matched


def _distance(known: list[_Person], found: list[_Sighting], ahead: NDArray[np.int64]) -> NDArray[np.float64]:
    """``[m, n]`` mean distance of the keypoints of m people, moved on by ``ahead`` frames, and n found ones.

    As a part of the person's size. Points are weighted with the lower of their confidences, and none counts more than
    the whole person.
    """
    moved = ahead[:, None] * np.stack([person.velocity() for person in known])
    before = np.stack([person.last.points for person in known])[:, None]
    now = np.stack([sighting.points for sighting in found])[None]
    sizes = np.array([person.size for person in known])[:, None] + np.array([sighting.size for sighting in found])
    size = np.maximum(sizes / 2, _MIN_SIZE)
    weight = np.minimum(before[..., 2], now[..., 2])
    step = before[..., :2] + moved[:, None, None] - now[..., :2]
    length = np.sqrt((step**2).sum(-1)) / size[..., None]
    mean = (weight * np.minimum(length, 1)).sum(-1) / np.maximum(weight.sum(-1), 1e-9)
    # Two halves of a body have hardly a point in common: then the middles have to do.
    centres = np.stack([person.last.centre for person in known]) + moved
    apart = np.linalg.norm(centres[:, None] - np.stack([sighting.centre for sighting in found]), axis=-1) / size
    shared = np.count_nonzero(weight, axis=-1) >= min(_MIN_SHARED, now.shape[2])
    return np.where(shared, mean, apart)


def _sort_key(sighting: _Sighting) -> tuple[float, list[float]]:
    return float(sighting.centre[0]), sighting.points.ravel().tolist()


def _centres_and_sizes(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Middle ``[N, 2]`` and diagonal ``[N]`` of the points that are certain, or of all seen ones if they are few."""
    use = clear_points(points[..., 2])[..., None]
    places = points[..., :2]
    extent = np.where(use, places, -np.inf).max(1) - np.where(use, places, np.inf).min(1)
    return np.where(use, places, 0.0).sum(1) / use.sum(1), np.linalg.norm(extent, axis=-1)
