"""A few hundred procedural motions: what they promise, and that bodies could do them."""

from __future__ import annotations

import numpy as np
import pytest

from diffhmr.body.anatomy import REST, stick_joints
from diffhmr.datasets.poses import _collides
from diffhmr.motion.acting.score import GRAVITY, Activity
from diffhmr.motion.plausibility import Plausibility, measure, sole_points
from diffhmr.motion.procedural import MotionBatch, sample_motion, sample_motions
from diffhmr.motion.rest_body import RestBody
from diffhmr.random import item_seeds

FPS = 30.0
PELVIS, HEAD = 0, 15


@pytest.fixture(scope="module")
def crowd() -> MotionBatch:
    return sample_motions(item_seeds(5, "train", np.arange(240)), 90, FPS)


@pytest.fixture(scope="module")
def measured(crowd: MotionBatch) -> Plausibility:
    return measure(crowd.rotations, crowd.position, crowd.contact, FPS)


@pytest.fixture(scope="module")
def performed() -> dict[Activity, MotionBatch]:
    return {kind: sample_motions(np.arange(6), 180, FPS, (kind,)) for kind in Activity}


def joints_of(batch: MotionBatch) -> np.ndarray:
    flat = stick_joints(batch.rotations.reshape(-1, 24, 3, 3))
    return flat.reshape(*batch.position.shape[:2], 24, 3) + batch.position[:, :, None]


def height(batch: MotionBatch) -> np.ndarray:
    return batch.position[..., 1]


def test_a_motion_is_a_pure_function_of_its_seed() -> None:
    together = sample_motions(np.array([3, 11, 7]), 40, FPS)
    for index, seed in enumerate((3, 11, 7)):
        alone = sample_motions(np.array([seed]), 40, FPS)
        np.testing.assert_array_equal(alone.rotations[0], together.rotations[index])
        np.testing.assert_array_equal(alone.position[0], together.position[index])
        np.testing.assert_array_equal(alone.activity[0], together.activity[index])
        np.testing.assert_array_equal(alone.contact[0], together.contact[index])
    motion = sample_motion(11, 40, FPS)
    np.testing.assert_array_equal(motion.rotations, together.rotations[1])
    assert motion.fps == FPS and motion.name == "procedural_11"


def test_seeds_differ() -> None:
    batch = sample_motions(np.arange(12), 30, FPS, (Activity.WALK,))
    flat = batch.rotations.reshape(12, -1)
    distance = np.abs(flat[:, None] - flat[None]).max(-1)
    assert distance[~np.eye(12, dtype=bool)].min() > 0.1


def test_more_frames_continue_a_motion() -> None:
    short, long = sample_motions(np.arange(4), 30, FPS), sample_motions(np.arange(4), 200, FPS)
    np.testing.assert_allclose(long.rotations[:, :30], short.rotations, atol=1e-9)
    np.testing.assert_allclose(long.position[:, :30], short.position, atol=1e-9)
    np.testing.assert_array_equal(long.activity[:, :30], short.activity)


def test_the_rate_only_chooses_the_moments() -> None:
    slow, fast = sample_motions(np.arange(4), 31, 20.0), sample_motions(np.arange(4), 91, 60.0)
    np.testing.assert_allclose(fast.rotations[:, ::3], slow.rotations, atol=1e-9)
    np.testing.assert_array_equal(fast.contact[:, ::3], slow.contact)
    # Between the samples of the grid, too: 50 and 60 frames per second meet every 0.1 s.
    other = sample_motions(np.arange(4), 76, 50.0)
    np.testing.assert_allclose(other.position[:, ::5], fast.position[:, ::6], atol=1e-9)
    middle = (fast.position[:, :-1] + fast.position[:, 1:]) / 2
    np.testing.assert_allclose(sample_motions(np.arange(4), 181, 120.0).position[:, 1::2], middle, atol=0.01)


def test_it_begins_over_the_origin_and_its_motions_are_valid(crowd: MotionBatch) -> None:
    np.testing.assert_array_equal(crowd.position[:, 0, [0, 2]], 0.0)
    assert len(crowd.motion(5)) == 90  # the type checks rotations and finiteness
    assert height(crowd).min() > 0.2 and height(crowd).max() < 1.5


def test_bad_requests_are_refused() -> None:
    for frames, fps in ((0, 30.0), (10, 0.0), (10, -5.0), (10, float("nan"))):
        with pytest.raises(ValueError, match="frames"):
            sample_motion(0, frames, fps)
    with pytest.raises(ValueError, match="activit"):
        sample_motion(0, 10, FPS, ())


def test_planted_feet_stay(crowd: MotionBatch, measured: Plausibility) -> None:
    assert len(measured.skating) > 20_000
    assert measured.skating.mean() < 0.01  # asked for: 0.03
    assert np.quantile(measured.skating, 0.999) < 0.3
    # Over a whole stance the ball of a foot that stays down does not creep away either.
    soles = sole_points(crowd.rotations, joints_of(crowd))
    drifts = []
    for one, on_floor in zip(soles, crowd.contact, strict=True):
        for side in range(2):
            edges = np.flatnonzero(np.diff(np.concatenate([[0], on_floor[:, side], [0]])))
            for start, end in edges.reshape(-1, 2):
                ball = one[start:end, side, 1]
                down = ball[ball[:, 1] < 0.005][:, [0, 2]]
                if len(down) > 4:
                    drifts.append(np.linalg.norm(down - np.median(down, axis=0), axis=-1).max())
    assert len(drifts) > 500 and np.quantile(drifts, 0.99) < 0.01


def test_nobody_sinks_into_the_floor(measured: Plausibility) -> None:
    assert measured.penetration.max() < 0.02


def test_limbs_do_not_run_through_the_body(crowd: MotionBatch) -> None:
    figures = stick_joints(crowd.rotations.reshape(-1, 24, 3, 3))
    assert _collides(figures).mean() < 0.02


def test_a_planted_foot_touches_the_floor(crowd: MotionBatch) -> None:
    lowest = sole_points(crowd.rotations, joints_of(crowd))[..., 1].min(-1)
    assert np.quantile(lowest[crowd.contact], 0.99) < 0.01
    both_up = ~crowd.contact.any(-1)
    assert both_up.mean() > 0.005 and lowest[both_up].mean() > 0.03


def test_speeds_and_accelerations_are_those_of_people(measured: Plausibility) -> None:
    """Bounds from recorded everyday motion and sports at 30 frames per second: maxima 100 to 200 m/s^2 for the limbs,
    40 for head and pelvis; means 1 (standing) to 26 (dashing)."""
    acceleration = measured.acceleration
    assert 1.0 < acceleration.mean() < 8.0
    assert acceleration[..., [PELVIS, HEAD]].max() < 70 and np.quantile(acceleration[..., [PELVIS, HEAD]], 0.99) < 30
    assert acceleration.max() < 300 and np.quantile(acceleration, 0.999) < 130
    assert measured.speed.max() < 18
    # A hip turns by up to 25 radians per second in a sprint, wrists and shoulders by more.
    assert np.quantile(measured.turning, 0.999) < 15 and measured.turning.max() < 45
    assert np.quantile(measured.angular_acceleration, 0.999) < 450 and measured.angular_acceleration.max() < 1500


def test_transitions_are_continuous_in_speed() -> None:
    """The jump of the velocity from frame to frame vanishes as the frames come closer: C1."""
    slow = sample_motions(np.arange(24), 120, 60.0)
    fast = sample_motions(np.arange(24), 239, 120.0)
    jump = [np.quantile(np.abs(np.diff(joints_of(b), n=2, axis=1)).max((-1, -2)), 0.98) * b.fps for b in (slow, fast)]
    assert jump[1] < 0.62 * jump[0]


def test_flights_are_ballistic(performed: dict[Activity, MotionBatch]) -> None:
    checked = 0
    for one, on_floor in zip(height(performed[Activity.JUMP]), performed[Activity.JUMP].contact, strict=True):
        air = ~on_floor.any(-1)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], air, [0]]))).reshape(-1, 2)
        for start, end in edges:
            if end - start >= 9:
                middle = slice(start + 2, end - 2)  # the ends are rounded off
                time = np.arange(middle.stop - middle.start) / FPS
                fall = -2 * np.polyfit(time, one[middle], 2)[0]
                assert fall == pytest.approx(GRAVITY, rel=0.12)
                checked += 1
    assert checked >= 3


def test_every_activity_is_named_and_happens(crowd: MotionBatch, performed: dict[Activity, MotionBatch]) -> None:
    share = np.bincount(crowd.activity.ravel(), minlength=len(Activity)) / crowd.activity.size
    assert share.min() > 0.01 and share.argmax() == Activity.WALK
    for kind, batch in performed.items():
        assert (batch.activity == kind).all()


def test_activities_are_what_they_are_called(performed: dict[Activity, MotionBatch]) -> None:
    joints = {kind: joints_of(batch) for kind, batch in performed.items()}
    low = {kind: np.quantile(height(batch), 0.2) for kind, batch in performed.items()}
    assert low[Activity.SIT] < 0.62 and low[Activity.CROUCH] < 0.58
    assert height(performed[Activity.SQUAT]).min(1).max() < 0.75
    assert low[Activity.STAND] > 0.82 and low[Activity.WAVE] > 0.82
    way = {k: np.linalg.norm(np.diff(b.position[..., [0, 2]], axis=1), axis=-1).sum(1) for k, b in performed.items()}
    assert way[Activity.RUN].min() > 1.5 * way[Activity.WALK].mean() and way[Activity.WALK].min() > 1.0
    assert max(way[kind].max() for kind in (Activity.WAVE, Activity.PUNCH, Activity.GESTURE)) < 2.5
    assert (~performed[Activity.WALK].contact.any(-1)).mean() == 0.0
    assert (~performed[Activity.RUN].contact.any(-1)).mean() > 0.15
    assert (height(performed[Activity.JUMP]).max(1) > 0.93).all()
    for kind in (Activity.WAVE, Activity.REACH):
        hands, shoulders = joints[kind][:, :, [20, 21], 1], joints[kind][:, :, [16, 17], 1]
        assert (hands > shoulders - 0.1).any((1, 2)).mean() > 0.8
        assert (hands > joints[kind][:, :, 15:16, 1] + 0.2).any((1, 2)).mean() > 0.3
    assert (joints[Activity.PICK_UP][:, :, [22, 23], 1].min((1, 2)) < 0.3).all()
    lifted = joints[Activity.KICK][:, :, [7, 8], 1].max((1, 2))
    assert (lifted > 0.35).all()
    assert np.ptp(np.unwrap(facing(performed[Activity.TURN])), axis=1).min() > np.deg2rad(60)


def facing(batch: MotionBatch) -> np.ndarray:
    return np.arctan2(batch.rotations[:, :, 0, 0, 2], batch.rotations[:, :, 0, 2, 2])


def test_walking_follows_from_its_steps(performed: dict[Activity, MotionBatch]) -> None:
    """The pelvis is between the feet on average, goes up and down by centimetres, and its path curves."""
    batch = performed[Activity.WALK]
    ankles = joints_of(batch)[:, :, [7, 8]]
    offset = np.linalg.norm((ankles.mean(2) - batch.position)[..., [0, 2]], axis=-1)
    assert offset.mean() < 0.2
    assert 0.01 < np.ptp(height(batch)[:, 30:90], axis=1).mean() < 0.14
    assert np.ptp(np.unwrap(facing(batch)), axis=1).mean() > np.deg2rad(15)


def test_the_free_body_stands_on_the_floor_of_the_motions(rest: RestBody, crowd: MotionBatch) -> None:
    """The generator's skeleton is that of the free body, and so are its soles: the mesh touches y = 0 with its feet."""
    np.testing.assert_allclose(REST, rest.joints - rest.joints[0], atol=1.5e-3)
    lowest = np.stack([rest.lowest(crowd.motion(index)) for index in range(0, len(crowd.position), 12)])
    planted = crowd.contact[::12].any(-1)
    assert lowest.min() > -0.04
    assert np.abs(np.median(lowest[planted])) < 0.01 and np.quantile(lowest[planted], 0.99) < 0.03
    assert lowest[~planted].mean() > 0.02
