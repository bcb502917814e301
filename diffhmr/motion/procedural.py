"""Procedural motion: people who walk, run, turn, reach, sit, squat, wave, jump, kick, punch and so on, from a seed.

A motion is a pure function of its seed. The seed decides who moves (``acting/performer.py``), what they do one after
the other, and every detail of it; the score is written first and evaluated afterwards, for many people at once. The
world of a motion has y up and the floor at y = 0 for the skeleton ``anatomy.REST``, which is that of the free body; the
person is over the origin in the first frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from diffhmr.body.anatomy import Floats
from diffhmr.motion.acting.figure import build_figure
from diffhmr.motion.acting.gait import run, turn, walk
from diffhmr.motion.acting.lowering import crouch, pick_up, sit, squat
from diffhmr.motion.acting.performer import Performer
from diffhmr.motion.acting.score import GRID_RATE, Activity, Score, contacts_at, evaluate, labels_at
from diffhmr.motion.acting.standing import gesture, reach, stand, wave
from diffhmr.motion.acting.striking import jump, kick, punch
from diffhmr.motion.sequence import Motion
from diffhmr.random import Dice, Seeds, Stream, uniforms

_WEIGHTS = {
    Activity.STAND: 1.3,
    Activity.WALK: 3.2,
    Activity.RUN: 1.3,
    Activity.TURN: 1.0,
    Activity.REACH: 1.2,
    Activity.SIT: 1.5,
    Activity.SQUAT: 0.6,
    Activity.WAVE: 0.9,
    Activity.JUMP: 0.9,
    Activity.KICK: 0.7,
    Activity.PUNCH: 0.7,
    Activity.PICK_UP: 0.9,
    Activity.CROUCH: 0.7,
    Activity.GESTURE: 1.2,
}
_WITH_DURATION: dict[Activity, tuple[Callable[[Performer, float], None], float, float]] = {
    Activity.STAND: (stand, 1.2, 5.0),
    Activity.GESTURE: (gesture, 2.0, 6.0),
    Activity.SIT: (sit, 1.2, 6.0),
    Activity.CROUCH: (crouch, 0.8, 3.0),
}
_ONCE: dict[Activity, Callable[[Performer], None]] = {
    Activity.TURN: turn,
    Activity.REACH: reach,
    Activity.SQUAT: squat,
    Activity.WAVE: wave,
    Activity.JUMP: jump,
    Activity.KICK: kick,
    Activity.PUNCH: punch,
    Activity.PICK_UP: pick_up,
}
_TRAVEL = {Activity.WALK: (walk, 2.0, 6.0), Activity.RUN: (run, 1.5, 4.5)}
_LEAD_S = (1.0, 5.0)
"""The first frame lies this long after the beginning of the score: motions begin in the middle of something."""
_BEYOND_S = 2.5
"""The score goes on this long after the last frame, since movements begin before their foot lands."""
_PAD = 20
_NUMBERS_PER_SECOND = 150
_CHUNK = 32


@dataclass(frozen=True)
class MotionBatch:
    """Motions of one length.

    Attributes:
        rotations: ``[B, T, 24, 3, 3]`` of SMPL's joints relative to the parent, the root in the world (y up).
        position: ``[B, T, 3]`` metres, the pelvis.
        activity: ``[B, T]`` values of :class:`~diffhmr.motion.acting.score.Activity`.
        contact: ``[B, T, 2]`` whether the left and the right foot are on the floor.
        seeds: ``[B]``.
        fps: frames per second.
    """

    rotations: Floats
    position: Floats
    activity: NDArray[np.int64]
    contact: NDArray[np.bool_]
    seeds: Seeds
    fps: float

    def motion(self, index: int) -> Motion:
        """One of them."""
        return Motion(self.rotations[index], self.position[index], self.fps, f"procedural_{self.seeds[index]}")


def sample_motion(seed: int, frames: int, fps: float, activities: Sequence[Activity] | None = None) -> Motion:
    """The motion of ``seed``; see :func:`sample_motions`."""
    return sample_motions(np.array([seed], np.int64), frames, fps, activities).motion(0)


def sample_motions(seeds: Seeds, frames: int, fps: float, activities: Sequence[Activity] | None = None) -> MotionBatch:
    """Motions of ``frames`` frames, each a pure function of its seed, ``fps`` and ``activities``.

    More frames continue a motion, and another rate samples the same movement at other times.

    Args:
        seeds: ``[B]``.
        frames: T.
        fps: frames per second.
        activities: what people do, all equally often; everything, as often as in everyday life and sports, if left out.

    Raises:
        ValueError: no frames, a rate that is not positive, or an empty choice of activities.
    """
    if frames < 1 or not fps > 0:
        raise ValueError(f"cannot make {frames} frames at {fps} frames per second")
    if activities is not None and not activities:
        raise ValueError("there are no activities to choose from")
    seeds = np.asarray(seeds, np.int64)
    weights = _WEIGHTS if activities is None else {Activity(activity): 1.0 for activity in activities}
    parts = [_sample(seeds[k : k + _CHUNK], frames, fps, weights) for k in range(0, len(seeds), _CHUNK)]
    rotations, position, activity, contact = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return MotionBatch(rotations, position, activity, contact, seeds, float(fps))


def _sample(
    seeds: Seeds, frames: int, fps: float, weights: dict[Activity, float]
) -> tuple[Floats, Floats, NDArray[np.int64], NDArray[np.bool_]]:
    """Rotations, positions, activities and contacts of one chunk."""
    times = np.arange(frames) / fps
    written = [_write(seed, times[-1], weights) for seed in seeds]
    scores = [score for score, _ in written]
    count = int(np.ceil(times[-1] * GRID_RATE)) + 2 * _PAD
    curves = evaluate(scores, -_PAD / GRID_RATE, count)
    figure = build_figure(curves, seeds, np.array([looseness for _, looseness in written]), times)
    position = figure.position.copy()
    position[..., [0, 2]] -= figure.position[:, :1, [0, 2]]
    activity = np.stack([labels_at(score, times) for score in scores])
    contact = np.stack([contacts_at(score, times) for score in scores])
    return figure.rotations(), position, activity, contact


def _write(seed: np.int64, until: float, weights: dict[Activity, float]) -> tuple[Score, float]:
    """The score of one person, in which time 0 is that of the first frame, and how much they wander."""
    count = 2000 + int(_NUMBERS_PER_SECOND * (until + _LEAD_S[1] + _BEYOND_S))
    dice = Dice(uniforms(np.array([seed], np.int64), Stream.MOTION_PLAN, count)[0].tolist())
    person = Performer(dice)
    lead = dice.uniform(*_LEAD_S)
    upcoming = dice.weighted(weights)
    while person.now < lead + until + _BEYOND_S:
        activity, upcoming = upcoming, dice.weighted(weights)
        _perform(person, activity, upcoming)
    return person.score.shifted(-lead), person.style.wander


def _perform(person: Performer, activity: Activity, upcoming: Activity) -> None:
    """One activity; whoever goes on to walk or run does not stop before."""
    dice = person.dice
    if activity in _TRAVEL:
        travel, least, most = _TRAVEL[activity]
        travel(person, dice.uniform(least, most), upcoming in _TRAVEL and dice.chance(0.8))
    elif activity in _WITH_DURATION:
        last, least, most = _WITH_DURATION[activity]
        last(person, dice.uniform(least, most))
    else:
        _ONCE[activity](person)
