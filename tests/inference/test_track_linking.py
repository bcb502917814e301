"""Who is who, from the keypoints alone: crossings, gaps, order, noise."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from diffhmr.body.joints import HALPE26
from diffhmr.inference.track_linking import GAP_SECONDS, link_people
from tests.inference.keypoint_motion import Floats, walk

COUNT = 60


def crossing(noise: float = 0.0, seed: int = 0, speed: float = 6.0) -> Floats:
    """``[2, T, 26, 3]`` two alike who meet in the middle of the clip, one from each side, in the same place."""
    frames = np.arange(COUNT)
    half = speed * (COUNT - 1) / 2
    people = np.stack([walk(frames, 320 - half, speed), walk(frames, 320 + half, -speed, phase=2.0)])
    people[..., :2] += noise * np.random.default_rng(seed).normal(size=people[..., :2].shape)
    return people


def shuffled(people: Floats, drop: NDArray[np.bool_] | None = None, seed: int = 0) -> tuple[NDArray[np.int64], ...]:
    """Frames, true people and points of all rows in random order; ``drop [M, T]`` rows are left out."""
    number, frame = np.nonzero(np.ones(people.shape[:2], dtype=bool) if drop is None else ~drop)
    order = np.random.default_rng(seed).permutation(len(frame))
    return frame[order], number[order], people[number, frame][order]


def agrees(numbers: NDArray[np.int64], truth: NDArray[np.int64]) -> bool:
    """Whether the same rows belong together."""
    pairs = set(zip(numbers.tolist(), truth.tolist(), strict=True))
    return len(pairs) == len({number for number, _ in pairs}) == len({person for _, person in pairs})


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_people_who_cross_keep_their_identity(noise: float, seed: int) -> None:
    frames, truth, points = shuffled(crossing(noise, seed), seed=seed)
    numbers = link_people(frames, points)
    assert agrees(numbers, truth)
    assert numbers[(frames == 0) & (truth == 0)] == 0 and numbers[(frames == 0) & (truth == 1)] == 1


@pytest.mark.parametrize("hidden", [4, 10, 20])
@pytest.mark.parametrize("seed", range(3))
def test_one_is_hidden_while_they_cross(hidden: int, seed: int) -> None:
    drop = np.zeros((2, COUNT), dtype=bool)
    drop[1, (COUNT - hidden) // 2 : (COUNT + hidden) // 2] = True
    frames, truth, points = shuffled(crossing(2.0, seed), drop, seed)
    assert agrees(link_people(frames, points), truth)


def test_without_their_motion_they_could_not_be_told_apart() -> None:
    """In the frames around the meeting the nearest person of the frame before is the wrong one."""
    people = crossing(speed=24.0)
    middle = COUNT // 2
    apart = np.linalg.norm(people[:, None, middle, :, :2] - people[None, :, middle - 1, :, :2], axis=-1).mean(-1)
    assert apart[0, 1] < apart[0, 0] and apart[1, 0] < apart[1, 1]
    frames, truth, points = shuffled(people)
    assert agrees(link_people(frames, points), truth)


def test_velocities_are_taken_over_several_frames() -> None:
    """Boxes that tremble as a whole would send a hidden person anywhere if the last two frames were to say."""
    for seed in range(5):
        people = crossing()
        people[..., :2] += 6 * np.random.default_rng(seed).normal(size=(2, COUNT, 1, 2))
        drop = np.zeros((2, COUNT), dtype=bool)
        drop[1, 22:42] = True
        frames, truth, points = shuffled(people, drop, seed)
        assert agrees(link_people(frames, points), truth)


def test_hidden_people_walk_on() -> None:
    frames = np.array([*range(10), *range(40, 50)])
    points = walk(frames, 50, 8.0)
    assert link_people(frames, points).max() == 0


def test_of_two_in_one_place_the_one_seen_last_is_preferred() -> None:
    frames = np.arange(14)
    first, second = walk(frames, 200, 0.0), walk(frames, 206, 0.0)
    first[11:, :, 0] += 4  # nearer to where the second one was
    drop = np.zeros((2, 14), dtype=bool)
    drop[1, 8:] = True
    rows, truth, points = shuffled(np.stack([first, second]), drop)
    assert agrees(link_people(rows, points), truth)


def test_a_newcomer_does_not_push_people_along() -> None:
    """The first stays, the second is away, a third comes: near enough to be the first, if that one were the second."""
    frames = np.arange(12)
    people = np.stack([walk(frames, 230, 0.0), walk(frames, 170, 0.0), walk(frames, 285, 0.0)])
    drop = np.zeros((3, 12), dtype=bool)
    drop[1, 6:] = drop[2, :11] = True
    rows, truth, points = shuffled(people, drop)
    assert agrees(link_people(rows, points), truth)


def test_a_crowd_in_any_order() -> None:
    frames = np.arange(COUNT)
    generator = np.random.default_rng(3)
    crowd = np.stack([walk(frames, 60 + 90 * i, generator.normal(), 150, float(i)) for i in range(6)])
    first_frames, truth, points = shuffled(crowd)
    numbers = link_people(first_frames, points)
    assert np.array_equal(numbers, truth)  # numbered from the left to the right
    for seed in (1, 2):
        other_frames, other_truth, other_points = shuffled(crowd, seed=seed)
        assert np.array_equal(link_people(other_frames, other_points), other_truth)


def test_gaps_are_bridged_up_to_two_seconds() -> None:
    points = walk(np.arange(300), 100, 1.0)
    for gap, people in ((int(GAP_SECONDS * 30), 1), (int(GAP_SECONDS * 30) + 2, 2)):
        frames = np.array([*range(50), *range(50 + gap - 1, 150)])
        assert link_people(frames, points[frames]).max() + 1 == people
    frames = np.array([*range(50), *range(100, 150)])
    assert link_people(frames, points[frames], fps=60).max() == 0
    assert link_people(frames, points[frames], fps=10).max() == 1


def test_somebody_elsewhere_is_somebody_else() -> None:
    frames = np.arange(20)
    points = walk(frames, 100, 1.0)
    points[10:, :, 0] += 400
    assert link_people(frames, points).tolist() == [0] * 10 + [1] * 10


def test_outliers_and_missing_limbs_do_not_break_a_track() -> None:
    frames = np.arange(COUNT)
    points = walk(frames, 100, 2.0)
    generator = np.random.default_rng(0)
    wild = generator.random((COUNT, 26)) < 0.1
    points[wild, :2] += generator.normal(size=(int(wild.sum()), 2)) * 200
    points[generator.random((COUNT, 26)) < 0.3] = 0
    assert (points[..., 2] > 0).any(1).all() and link_people(frames, points).max() == 0


def test_halves_of_a_body() -> None:
    """The left and the right half by turns have no point in common; whether they belong together, the middles say."""
    frames = np.arange(20)
    points = walk(frames, 100, 1.0)
    for frame in frames:
        points[frame, [HALPE26.joint_names.index(name) for name in HALPE26.joint_names if side(name) == frame % 2]] = 0
    assert link_people(frames, points).max() == 0
    points[1::2, points[1, :, 2] > 0, 0] += 300
    assert link_people(frames, points).tolist() == [0, 1] * 10


def side(name: str) -> int:
    return int(name.startswith("right_"))


def test_tiny_people() -> None:
    """A single point has no size."""
    frames = np.arange(10)
    points = np.zeros((10, 17, 3))
    points[:, 0] = [50, 60, 0.9]
    points[:, 0, 0] += frames
    assert link_people(frames, points).max() == 0


def test_nobody_is_two_people_in_one_frame() -> None:
    points = np.repeat(walk(np.arange(10), 100, 0.0), 2, axis=0)
    numbers = link_people(np.repeat(np.arange(10), 2), points)
    assert np.bincount(numbers).tolist() == [10, 10]
