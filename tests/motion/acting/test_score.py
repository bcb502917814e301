from __future__ import annotations

import numpy as np
import pytest

from diffhmr.motion.acting.score import (
    CHANNEL,
    CHANNELS,
    GRAVITY,
    GRID_RATE,
    Activity,
    Flight,
    Score,
    contacts_at,
    evaluate,
    frames_of,
    labels_at,
    min_jerk,
)

COUNT = 240
TIMES = np.arange(COUNT) / GRID_RATE


def empty() -> Score:
    return Score([0.0] * len(CHANNELS))


def channel(score: Score, name: str) -> np.ndarray:
    return evaluate([score], 0.0, COUNT)[name][0]


def test_a_transition_is_the_one_of_least_jerk() -> None:
    score = empty()
    score.initial[CHANNEL["bend"]] = 5.0
    score.move(1.0, 0.5, {"bend": 25.0})
    value = channel(score, "bend")
    np.testing.assert_array_equal(value[TIMES <= 1.0], 5.0)
    np.testing.assert_allclose(value[TIMES >= 1.5], 25.0, atol=1e-12)
    assert value[TIMES == 1.25][0] == pytest.approx(15.0)
    speed = np.diff(value) * GRID_RATE
    assert speed.max() == pytest.approx(1.875 * 20 / 0.5, rel=0.01)
    acceleration = np.diff(value, n=2) * GRID_RATE**2
    assert np.abs(acceleration).max() == pytest.approx(5.7735 * 20 / 0.5**2, rel=0.02)


def test_min_jerk_starts_and_ends_at_rest() -> None:
    share = np.linspace(0, 1, 10_001)
    value = min_jerk(share)
    assert value[0] == 0 and value[-1] == 1
    first, second = np.gradient(value, share), np.gradient(np.gradient(value, share), share)
    np.testing.assert_allclose(first[[0, -1]], 0, atol=1e-3)
    np.testing.assert_allclose(second[[0, -1]], 0, atol=2e-2)


def test_overlapping_transitions_add_up_and_end_at_the_last_target() -> None:
    both, one, two = empty(), empty(), empty()
    # Written in any order: what counts is when they begin.
    both.move(1.3, 0.6, {"nod": -4.0})
    both.move(1.0, 0.6, {"nod": 10.0})
    one.move(1.0, 0.6, {"nod": 10.0})
    two.move(1.3, 0.6, {"nod": -14.0})
    np.testing.assert_allclose(channel(both, "nod"), channel(one, "nod") + channel(two, "nod"), atol=1e-12)
    assert channel(both, "nod")[-1] == pytest.approx(-4.0)


def test_names_without_a_side_stand_for_both() -> None:
    score = empty()
    score.move(0.5, 0.2, {"elbow": (10.0, 20.0), "plane": 30.0, "l_axial": 7.0})
    curves = evaluate([score], 0.0, COUNT)
    last = {name: curves[name][0, -1] for name in ("l_elbow", "r_elbow", "l_plane", "r_plane", "l_axial", "r_axial")}
    assert last == pytest.approx(
        {"l_elbow": 10, "r_elbow": 20, "l_plane": 30, "r_plane": 30, "l_axial": 7, "r_axial": 0}
    )


def test_transitions_before_the_grid_are_done_and_those_after_it_have_no_effect() -> None:
    score = empty()
    score.move(-3.0, 0.5, {"bend": 8.0})
    score.move(COUNT, 0.5, {"bend": 90.0})
    np.testing.assert_allclose(channel(score, "bend"), 8.0, atol=1e-12)


def test_scores_of_a_batch_do_not_know_each_other() -> None:
    first, second = empty(), empty()
    first.move(0.2, 0.4, {"bend": 8.0})
    second.move(0.3, 0.9, {"bend": -8.0, "turn": 50.0})
    second.flights.append(Flight(1.0, 0.4, 0.2, feet=True))
    together = evaluate([first, second], 0.0, COUNT)
    for index, score in enumerate((first, second)):
        alone = evaluate([score], 0.0, COUNT)
        np.testing.assert_array_equal(together.values[index], alone.values[0])
        np.testing.assert_array_equal(together.rise[index], alone.rise[0])


def test_a_flight_follows_gravity_and_leaves_no_trace() -> None:
    flight = Flight(2.0, 0.5, 0.25, feet=True)
    score = empty()
    score.flights.append(flight)
    curves = evaluate([score], 0.0, COUNT)
    rise, feet = curves.rise[0], curves.flight[0]
    acceleration = np.diff(rise, n=2) * GRID_RATE**2
    middle = (TIMES[1:-1] > 2.1) & (TIMES[1:-1] < 2.4)
    np.testing.assert_allclose(acceleration[middle], -GRAVITY, rtol=1e-3)
    top = flight.depth + GRAVITY * flight.duration**2 / 8
    assert rise.max() == pytest.approx(top, rel=0.02) and feet.max() == pytest.approx(top - flight.depth, rel=0.02)
    np.testing.assert_allclose(rise[[0, -1]], 0, atol=1e-12)
    # The push is as long as it says, and as strong as the speed at take-off needs.
    push = (TIMES[1:-1] > 1.83) & (TIMES[1:-1] < 1.92)
    np.testing.assert_allclose(acceleration[push], flight.speed / flight.push, rtol=1e-3)


def test_frames_are_interpolated_smoothly_between_samples() -> None:
    grid = np.stack([TIMES, np.sin(3 * TIMES)], axis=-1)[None]
    times = np.array([0.5, 0.507, 1.2345, 2.0])
    frames = frames_of(grid, 0.0, times)
    np.testing.assert_allclose(frames[0, :, 0], times, atol=1e-12)
    np.testing.assert_allclose(frames[0, :, 1], np.sin(3 * times), atol=1e-5)
    np.testing.assert_array_equal(frames[0, [0, 3]], grid[0, [30, 120]])


def test_labels_and_contacts_by_time() -> None:
    score = empty()
    score.labels = [(-1.0, Activity.WALK), (1.0, Activity.JUMP)]
    score.airborne = [(0, 0.5, 0.8), (1, 1.0, 1.4)]
    times = np.array([0.0, 0.6, 0.99, 1.0, 1.2, 2.0])
    walk, jump = Activity.WALK, Activity.JUMP
    np.testing.assert_array_equal(labels_at(score, times), [walk, walk, walk, jump, jump, jump])
    np.testing.assert_array_equal(contacts_at(score, times)[:, 0], [True, False, True, True, True, True])
    np.testing.assert_array_equal(contacts_at(score, times)[:, 1], [True, True, True, True, False, True])


def test_a_shifted_score_is_the_same_later() -> None:
    score = empty()
    score.move(0.5, 0.4, {"bend": 20.0})
    score.flights.append(Flight(1.0, 0.3, 0.2, feet=False))
    score.airborne.append((1, 1.0, 1.3))
    score.labels.append((0.0, Activity.RUN))
    later = score.shifted(0.5)
    steps = round(0.5 * GRID_RATE)
    before, after = evaluate([score], 0.0, COUNT), evaluate([later], 0.0, COUNT)
    np.testing.assert_allclose(after.values[:, steps:], before.values[:, :-steps], atol=1e-9)
    np.testing.assert_allclose(after.rise[:, steps:], before.rise[:, :-steps], atol=1e-9)
    np.testing.assert_array_equal(contacts_at(later, TIMES + 0.5), contacts_at(score, TIMES))
