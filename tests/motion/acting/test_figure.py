from __future__ import annotations

import numpy as np
import pytest

from diffhmr.body.anatomy import HIGH, INDEX, LOW, Floats, stick_joints
from diffhmr.motion.acting.figure import Figure, build_figure
from diffhmr.motion.acting.performer import Performer
from diffhmr.motion.acting.score import GRID_RATE, evaluate
from diffhmr.motion.acting.ways import Spot, Step
from diffhmr.random import Dice, uniforms

PAD = 10
SECONDS = 4.0
TIMES = np.arange(int(SECONDS * 30)) / 30


def performer(seed: int = 0) -> Performer:
    return Performer(Dice(uniforms(np.array([seed]), 5, 4000)[0].tolist()))


def figure_of(person: Performer, looseness: float = 1.0) -> Figure:
    curves = evaluate([person.score], -PAD / GRID_RATE, int(SECONDS * GRID_RATE) + 2 * PAD)
    return build_figure(curves, np.array([1]), np.array([looseness]), TIMES)


def joints_of(figure: Figure) -> Floats:
    return stick_joints(figure.rotations()[0]) + figure.position[0][:, None]


def test_without_wandering_a_standing_person_is_a_statue_over_their_feet() -> None:
    person = performer()
    figure = figure_of(person, 0.0)
    joints = joints_of(figure)
    np.testing.assert_allclose(joints, np.broadcast_to(joints[:1], joints.shape), atol=1e-9)
    for side, joint in (("l", 7), ("r", 8)):
        spot = person.feet[side]
        np.testing.assert_allclose(joints[0, joint, [0, 2]], [spot.x, spot.z], atol=2e-3)
    assert joints[0, 15, 1] > 1.4
    assert np.rad2deg(figure.heading[0, 0]) == pytest.approx(person.heading)


def test_wandering_moves_the_body_but_not_the_feet() -> None:
    joints = joints_of(figure_of(performer(), 2.0))
    assert np.ptp(joints[:, 15], axis=0).max() > 0.005
    assert np.ptp(joints[:, [7, 8]], axis=0).max() < 2e-3


def test_a_step_puts_the_foot_where_it_should_be_and_the_body_follows() -> None:
    person = performer(3)
    spot = person.shifted(person.feet["l"], 0.5, 0.1)
    person.wait(1.0)
    person.step("l", Spot(spot.x, spot.z, spot.yaw + 10.0), person.heading, Step(swing=0.4, period=0.6))
    joints = joints_of(figure_of(person, 0.0))
    after = joints[TIMES > 2.0]
    np.testing.assert_allclose(after[:, 7][:, [0, 2]], np.broadcast_to([spot.x, spot.z], (len(after), 2)), atol=5e-3)
    right = person.feet["r"]
    np.testing.assert_allclose(
        joints[:, 8][:, [0, 2]], np.broadcast_to([right.x, right.z], (len(joints), 2)), atol=5e-3
    )
    middle = joints[-1, [7, 8]].mean(0)
    np.testing.assert_allclose(joints[-1, 0, [0, 2]], middle[[0, 2]], atol=0.05)


def test_a_long_stance_lowers_the_pelvis() -> None:
    heights = []
    for ahead in (0.0, 0.5, 0.8):
        person = performer(4)
        person.wait(1.0)
        if ahead:
            spot = person.shifted(person.feet["l"], ahead, 0.0)
            person.step("l", spot, person.heading, Step(swing=0.4, period=0.6))
        heights.append(figure_of(person, 0.0).position[0, -1, 1])
    assert heights[0] - 0.01 > heights[1] > heights[2] + 0.03


def test_angles_that_are_asked_for_beyond_their_limits_end_softly_within() -> None:
    person = performer(5)
    person.wait(0.5)
    person.move(1.0, {"bend": 140.0, "elbow": 200.0, "nod": -90.0, "turn": 30.0})
    figure = figure_of(person, 0.0)
    angles = figure.angles[0]
    low = LOW.copy()
    low[[INDEX["l_plane"], INDEX["r_plane"]]] = -np.pi / 2  # see ``_within_limits``
    assert (angles >= low - 1e-9).all() and (angles <= HIGH + 1e-9).all()
    for name in ("bend", "l_elbow", "r_elbow"):
        assert angles[-1, INDEX[name]] == pytest.approx(HIGH[INDEX[name]], abs=np.deg2rad(0.5))
        speed = np.abs(np.diff(angles[:, INDEX[name]], n=2))
        assert speed.max() < np.deg2rad(8)
    assert np.rad2deg(angles[-1, INDEX["turn"]]) == pytest.approx(30.0, abs=0.1)


def test_a_swung_arm_goes_ahead_and_back_beside_the_body() -> None:
    person = performer(8)
    person.wait(0.5)
    person.move(0.5, {"elevation": 12.0, "plane": 20.0, "elbow": 5.0, "axial": 0.0, "twist": 0.0})
    person.move(0.5, {"swing": (40.0, -40.0)}, 0.6)
    figure = figure_of(person, 0.0)
    rotations = figure.rotations()[0]
    rotations[:, 0] = np.eye(3)
    joints = stick_joints(rotations)
    left, right = joints[:, 18] - joints[:, 16], joints[:, 19] - joints[:, 17]
    before, after = TIMES < 0.6, TIMES > 1.7
    assert (left[after, 2] > left[before, 2].max() + 0.1).all() and (right[after, 2] < -0.1).all()
    # As far from the side as before.
    assert left[after, 0].min() > 0.02 and right[after, 0].max() < -0.02
    path = joints[:, [18, 19]]
    assert np.abs(np.diff(path, n=2, axis=0)).max() < 0.02
    # It is as far back as anatomy allows, however far the swing.
    person.move(0.5, {"swing": -120.0}, 1.4)
    elevation = np.rad2deg(figure_of(person, 0.0).angles[0, -1, INDEX["l_elevation"]])
    assert 50 < elevation < 64


def test_where_an_ankle_cannot_bend_further_the_heel_comes_up() -> None:
    person = performer(6)
    person.wait(0.5)
    person.move(1.0, {"drop": 0.5, "forward": 0.12})
    figure = figure_of(person, 0.0)
    joints = joints_of(figure)
    assert joints[-1, [7, 8], 1].min() > joints[0, [7, 8], 1].max() + 0.03
    np.testing.assert_allclose(joints[-1, [10, 11]], joints[0, [10, 11]], atol=0.01)
    assert figure.angles[0, :, INDEX["l_ankle"]].max() <= HIGH[INDEX["l_ankle"]]


def test_where_a_hip_cannot_bend_further_the_spine_does() -> None:
    person = performer(7)
    person.wait(0.5)
    person.move(1.0, {"drop": 0.45, "forward": -0.35, "root_pitch": 75.0, "bend": 5.0})
    figure = figure_of(person, 0.0)
    last = np.rad2deg(figure.angles[0, -1])
    assert last[INDEX["root_pitch"]] < 65 and last[INDEX["bend"]] > 15
    assert last[INDEX["root_pitch"]] + last[INDEX["bend"]] == pytest.approx(80.0, abs=1.0)
    assert max(last[INDEX["l_hip_flex"]], last[INDEX["r_hip_flex"]]) <= 130
