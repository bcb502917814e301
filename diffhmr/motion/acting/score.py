"""The score of a movement: who goes where when, as smooth transitions of named channels.

A person's voluntary movement from one posture to another follows the curve of least jerk (Flash and Hogan, "The
coordination of arm movements", J. Neuroscience 1985), and a movement that begins before the last one has ended adds to
it. So a channel of a :class:`Score` is a sum of such transitions: continuous with its first two derivatives, still
where nothing happens, and evaluated for many people at once. A :class:`Flight` is the exception: what leaves the floor
follows gravity.

Channels: the anatomical angles of trunk and arms (degrees; names as in ``body/anatomy.py``), where the body is over its
feet, and the two feet. Metres and degrees.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from diffhmr.body.anatomy import DOFS, LEFT_LEG

Floats = NDArray[np.float64]
Targets = Mapping[str, float | tuple[float, float]]

GRAVITY = 9.81
GRID_RATE = 60.0
"""Samples per second of curves; frames of any rate are interpolated between them."""

UPPER = tuple(dof.name for dof in DOFS[: LEFT_LEG.start])
"""Channels of trunk, head and arms: the first anatomical angles, in their order."""

_BODY = ("base_x", "base_z", "heading", "span_x", "span_z", "forward", "sideways", "weight", "drop", "tiptoe")
_LIMBS = ("swing", "x", "z", "yaw", "lift", "pitch", "free", "knee_out")
CHANNELS = (*UPPER, *_BODY, *(f"{side}_{name}" for side in "lr" for name in _LIMBS))
"""Of the body: ``base``, the point between the feet; ``heading``, where it faces (to the left positive); ``span``, half
the way from the right to the left foot; ``forward`` and ``sideways`` (to the left), the pelvis relative to the base;
``weight``, 0 on both feet and 1 on the left foot; ``drop``, how much lower it is than with straight legs;
``tiptoe``, how much higher because heels are up.
Of an arm: ``swing``, ahead (positive) or back out of the direction that ``elevation`` and ``plane`` give it.
Of a foot: ``x``, ``z``, the place of the ankle over the floor when the foot is flat; ``yaw`` (toes to the left
positive); ``lift`` of the sole; ``pitch`` (toes down positive); ``free``, 1 where the leg need not reach the floor;
``knee_out``, how far the knee points outwards of the foot."""
CHANNEL = {name: i for i, name in enumerate(CHANNELS)}

_JOLTED = np.array([name in ("l_x", "l_z", "r_x", "r_z") for name in CHANNELS])
"""Feet in the air: a foot that came to rest gently would be far ahead of the body long before it lands."""
_LIFT_SMOOTHING_S = 0.022


class Activity(IntEnum):
    """What a person does, as the label of a frame."""

    STAND = 0
    WALK = 1
    RUN = 2
    TURN = 3
    REACH = 4
    SIT = 5
    SQUAT = 6
    WAVE = 7
    JUMP = 8
    KICK = 9
    PUNCH = 10
    PICK_UP = 11
    CROUCH = 12
    GESTURE = 13


@dataclass(frozen=True)
class Flight:
    """Time without contact with the floor.

    The pelvis is pushed up with constant force over ``push`` seconds, flies for ``duration`` seconds, and is caught
    with the same force. It rises by :attr:`depth` before it leaves the floor and sinks by as much afterwards.

    Attributes:
        start: when the feet leave the floor, seconds.
        feet: whether both feet go up with the pelvis (in a run they have their own way).
    """

    start: float
    duration: float
    push: float
    feet: bool

    @property
    def speed(self) -> float:
        """Upward at take-off, m/s."""
        return GRAVITY * self.duration / 2

    @property
    def depth(self) -> float:
        """Rise during the push, metres."""
        return self.speed * self.push / 2


@dataclass
class Score:
    """The plan of one person's movement: a list of events, written by ``performer.py`` and the activities.

    Attributes:
        initial: value of every channel before the first event, ``[C]``.
        moves: channel, start, duration, target.
        flights: times without contact.
        airborne: side (0 left, 1 right), from, to: when a foot is not on the floor.
        labels: start of an activity and which one, in order of time.
    """

    initial: list[float]
    moves: list[tuple[int, float, float, float]] = field(default_factory=list)
    flights: list[Flight] = field(default_factory=list)
    airborne: list[tuple[int, float, float]] = field(default_factory=list)
    labels: list[tuple[float, Activity]] = field(default_factory=list)

    def move(self, start: float, duration: float, targets: Targets) -> None:
        """Channels go to ``targets`` between ``start`` and ``start + duration``.

        A name without its side (``elbow``) stands for both sides, with one value or a pair (left, right).
        """
        for name, value in targets.items():
            if name in CHANNEL:
                assert not isinstance(value, tuple), name
                self.moves.append((CHANNEL[name], start, duration, value))
            else:
                left, right = value if isinstance(value, tuple) else (value, value)
                self.moves.append((CHANNEL[f"l_{name}"], start, duration, left))
                self.moves.append((CHANNEL[f"r_{name}"], start, duration, right))

    def shifted(self, delay: float) -> Score:
        """The same score, ``delay`` seconds later."""
        return Score(
            self.initial,
            [(channel, start + delay, duration, target) for channel, start, duration, target in self.moves],
            [replace(flight, start=flight.start + delay) for flight in self.flights],
            [(side, start + delay, end + delay) for side, start, end in self.airborne],
            [(start + delay, activity) for start, activity in self.labels],
        )


@dataclass(frozen=True)
class Curves:
    """Scores as numbers on a regular grid of times.

    Attributes:
        start: time of the first sample, seconds.
        values: ``[B, G, C]`` channels; metres and degrees.
        rise: ``[B, G]`` metres, the pelvis relative to ``drop`` because of flights.
        flight: ``[B, G]`` metres, height of feet that go up with the pelvis.
    """

    start: float
    values: Floats
    rise: Floats
    flight: Floats

    def __getitem__(self, name: str) -> Floats:
        return self.values[..., CHANNEL[name]]


def evaluate(scores: Sequence[Score], start: float, count: int) -> Curves:
    """Curves of B scores at ``count`` times from ``start`` (seconds) on, :data:`GRID_RATE` per second."""
    values = _transitions(scores, start, count)
    rise, flight = np.zeros((2, len(scores), count))
    times = start + np.arange(count) / GRID_RATE
    for index, score in enumerate(scores):
        for event in score.flights:
            _add_flight(event, times, rise[index], flight[index])
    # All that goes up and down with a kink is rounded off alike, so that legs keep their length.
    rise, flight = (gaussian_filter1d(array, _LIFT_SMOOTHING_S * GRID_RATE, axis=1) for array in (rise, flight))
    return Curves(start, values, rise, flight)


def frames_of(curves: Floats, start: float, times: Floats) -> Floats:
    """Samples ``[B, G, ...]`` of a grid that begins at ``start`` interpolated (Catmull-Rom) at ``times [T]``."""
    place = (times - start) * GRID_RATE
    first = np.clip(np.floor(place + 1e-9).astype(np.int64), 1, curves.shape[1] - 3)
    u = (place - first).reshape(-1, *[1] * (curves.ndim - 2))
    before, left, right, after = (curves[:, first + k] for k in (-1, 0, 1, 2))
    slope, other = (right - before) / 2, (after - left) / 2
    change = right - left
    result: Floats = left + u * (slope + u * (3 * change - 2 * slope - other + u * (slope + other - 2 * change)))
    return result


def labels_at(score: Score, times: Floats) -> NDArray[np.int64]:
    """The activity ``[T]`` at each of ``times``."""
    starts = [start for start, _ in score.labels]
    kinds = np.array([int(kind) for _, kind in score.labels])
    return np.asarray(kinds[np.maximum(np.searchsorted(starts, times, side="right") - 1, 0)])


def contacts_at(score: Score, times: Floats) -> NDArray[np.bool_]:
    """Which feet (left, right) are on the floor, ``[T, 2]``, at each of ``times``."""
    on_floor = np.ones((len(times), 2), bool)
    for side, start, end in score.airborne:
        on_floor[(times > start) & (times < end), side] = False
    return on_floor


def min_jerk(share: Floats) -> Floats:
    """The transition of least jerk from 0 to 1, for ``share`` of its time in [0, 1]."""
    return share**3 * (10 - share * (15 - 6 * share))


def with_jolts(share: Floats) -> Floats:
    """Half way between the transitions of least jerk and of least acceleration: its speed is more even."""
    return (min_jerk(share) + share * share * (3 - 2 * share)) / 2


def _transitions(scores: Sequence[Score], start: float, count: int) -> Floats:
    """Sums of all transitions, ``[B, count, C]``.

    Each transition is added where it is under way; its full change is added to all later samples by a running sum.
    """
    channels = len(CHANNELS)
    rows = [(index, *move) for index, score in enumerate(scores) for move in score.moves]
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    table = table[np.lexsort((table[:, 2], table[:, 1], table[:, 0]))]
    line = (table[:, 0] * channels + table[:, 1]).astype(np.int64)
    initial = np.array([score.initial for score in scores])
    before = np.empty(len(table))
    before[1:] = table[:-1, 4]
    fresh = np.ones(len(table), bool)
    fresh[1:] = line[1:] != line[:-1]
    before[fresh] = initial.reshape(-1)[line[fresh]]
    change = table[:, 4] - before
    begin, duration = table[:, 2] - start, table[:, 3]
    first = np.clip(np.ceil(begin * GRID_RATE), 0, count).astype(np.int64)
    last = np.clip(np.ceil((begin + duration) * GRID_RATE), 0, count).astype(np.int64)
    flat = (len(scores) * channels, count + 1)
    whole = np.bincount(line * flat[1] + last, change, flat[0] * flat[1]).reshape(flat)
    total = initial.reshape(-1, 1) + np.cumsum(whole, axis=1)[:, :count]
    length = last - first
    active = np.repeat(np.arange(len(table)), length)
    sample = np.arange(len(active)) - np.repeat(np.cumsum(length) - length, length) + first[active]
    share = np.clip((sample / GRID_RATE - begin[active]) / duration[active], 0.0, 1.0)
    done = np.where(_JOLTED[line[active] % channels], with_jolts(share), min_jerk(share))
    partial = np.bincount(line[active] * count + sample, change[active] * done, total.size)
    total += partial.reshape(total.shape)
    return np.ascontiguousarray(np.swapaxes(total.reshape(len(scores), channels, count), 1, 2))


def _add_flight(event: Flight, times: Floats, rise: Floats, flight: Floats) -> None:
    """Add one flight to ``rise [G]`` and ``flight [G]``: parabolas that meet with the same speed."""
    since = times - event.start
    push = np.clip(since / event.push + 1, 0.0, 1.0)
    air = np.clip(since, 0.0, event.duration)
    catch = np.clip((since - event.duration) / event.push, 0.0, 1.0)
    height = air * (event.speed - GRAVITY / 2 * air)
    rise += event.depth * (push**2 - 1 + (1 - catch) ** 2) + height
    if event.feet:
        flight += height
