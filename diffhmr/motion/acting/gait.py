"""Going from place to place: walking, running, turning on the spot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diffhmr.motion.acting.performer import SIDES, Performer, on, other, sign
from diffhmr.motion.acting.score import Activity, Flight
from diffhmr.motion.acting.ways import Gait, Step

_AHEAD_WALK, _AHEAD_RUN = 0.07, 0.05
"""Of the pelvis over the ankles, in step lengths: people push off with the balls of their feet."""

_CARRIED = {
    "in pockets": 1.0, "phone in hand": 1.0, "phone at ear": 1.0, "carrying in front": 1.0, "crossed": 0.5,
    "holding at belly": 1.0, "behind back": 0.5, "hands on hips": 0.3, "waving": 0.4, "eating": 0.4,
}  # fmt: skip


def walk(person: Performer, duration: float, go_on: bool) -> None:
    """Walk for about ``duration`` seconds along a curve; end standing unless the person is to ``go_on``."""
    person.begin(Activity.WALK)
    _travel(person, _draw_walk(person), duration, go_on)


def run(person: Performer, duration: float, go_on: bool) -> None:
    """Run for about ``duration`` seconds along a curve; end standing unless the person is to ``go_on``."""
    person.begin(Activity.RUN)
    _travel(person, _draw_run(person), duration, go_on)


def turn(person: Performer) -> None:
    """Turn on the spot in several steps, the head first."""
    person.begin(Activity.TURN)
    dice, style = person.dice, person.style
    angle = dice.pick((-1.0, 1.0)) * dice.uniform(70.0, 220.0)
    count = max(2, round(abs(angle) / dice.uniform(26.0, 48.0)))
    period = style.tempo * dice.uniform(0.42, 0.62)
    goal = person.heading + angle
    centre = person.base
    person.settle(0.7 * style.tempo, person.arms_of("hanging"))
    look = np.sign(angle) * min(55.0, 0.5 * abs(angle))
    person.move(0.5, {"turn": look, "twist": 0.2 * look, "nod": 8.0})
    way = Step(swing=0.62 * period, period=period, height=0.035, heel_off=16.0, kick_up=8.0)
    side = "l" if angle > 0 else "r"  # the inner foot goes first
    person.wait(0.15)
    start = person.heading
    for index in range(count + 1):
        share = min(1.0, (index + 1) / count)
        heading = start + share * angle
        person.shift(-0.45 * sign(side), 0.6 * period)
        # A foot may turn in or out of the direction of the body only so far.
        person.step(side, person.spot(side, centre, heading), (heading + person.heading) / 2, way, delay=0.2 * period)
        person.move(period, {"swing": (-6 * sign(side), 6 * sign(side))})
        person.wait(period)
        side = other(side)
    person.step(side, person.spot(side, centre, goal), goal, way, delay=0.2 * period)
    person.shift(0.0, period, 0.4 * period)
    person.move(0.8 * period, {"turn": style.ease["turn"], "twist": style.ease["twist"]}, 0.2 * period)
    person.wait(1.1 * period)


def _travel(person: Performer, gait: Gait, duration: float, go_on: bool) -> None:
    """Strides that gather pace, go on until the time is over, and slow down to a step that brings the feet together."""
    dice = person.dice
    slow = _creep(gait)
    if person.stepping is None:
        side = dice.pick(SIDES)
        strides = [_between(slow, gait, share) for share in _shares(gait.length)]
        _posture(person, gait, 1.2 * gait.period)
        person.shift(-0.5 * sign(side), 0.8 * gait.period)
        person.wait(0.55 * gait.period)
    else:
        side, before = other(person.stepping[0]), person.stepping[1]
        strides = [_between(before, gait, share) for share in (0.35, 0.7)]
        _posture(person, gait, 2.0 * gait.period)
    strides += [gait] * max(3, round(duration / gait.period))
    if not go_on:
        strides += [_between(slow, gait, share) for share in _shares(gait.length)[::-1]]
    bend = dice.uniform(-26.0, 26.0)
    for stride in strides:
        bend += dice.uniform(-14.0, 14.0) - 0.12 * bend
        _stride(person, stride, side, bend * stride.period)
        side = other(side)
    person.stepping = (other(side), gait)
    if not go_on:
        _close(person, max(gait.period, 0.42), side)


def _shares(length: float) -> list[float]:
    """How far the strides from standing to a gait with steps of ``length`` are towards that gait."""
    count = round(abs(length) / 0.42)
    return [(k + 1) / (count + 1) for k in range(count)]


def _creep(gait: Gait) -> Gait:
    """The way into ``gait`` and out of it: the shortest steps."""
    return replace(gait, length=0.12 * float(np.sign(gait.length)), period=max(gait.period, 0.44), contact=0.6,
                   arms=0.3 * gait.arms, turn=0.4 * gait.turn, height=min(gait.height, 0.05), heel_off=14.0,
                   kick_up=10.0, heel_strike=0.0)  # fmt: skip


def _between(first: Gait, second: Gait, share: float) -> Gait:
    """What is measured in numbers goes from ``first`` to ``second``; the rest is that of ``second``."""
    names = ("length", "period", "contact", "arms", "turn", "height", "heel_off", "kick_up", "heel_strike")
    mixed = {name: (1 - share) * getattr(first, name) + share * getattr(second, name) for name in names}
    return replace(second, **mixed)


def _stride(person: Performer, gait: Gait, side: str, bend: float) -> None:
    """One step with all that goes with it; time goes on by one period."""
    period = gait.period
    airy = gait.contact < 0.5
    way = Step(swing=gait.swing, period=period, height=person.about(gait.height, 0.1), heel_off=gait.heel_off,
               kick_up=gait.kick_up, heel_strike=gait.heel_strike, roll_off=min(0.5, gait.contact) * period,
               free=1.0 if airy else 0.4)  # fmt: skip
    # The middle of the body goes along the path, each foot beside it; feet come closer together the faster one goes.
    width = 2 * person.style.half_width * (0.6 if airy else 0.85)
    length = gait.length * person.dice.uniform(0.95, 1.05)
    spot = person.shifted(person.feet[other(side)], length, sign(side) * width)
    yaw = person.heading + bend / 2 + sign(side) * 0.7 * person.style.toe_out
    person.step(side, replace(spot, yaw=yaw), person.heading + bend, way)
    _body_in_step(person, gait, side, 0.4 * bend)
    if airy:
        contact = 2 * period - gait.swing
        start = person.now + gait.swing - (period - contact)
        person.score.flights.append(Flight(start, period - contact, contact / 2, feet=False))
    person.wait(period)


def _body_in_step(person: Performer, gait: Gait, side: str, look: float) -> None:
    """Pelvis, trunk, head and arms during a step that begins now."""
    period, ease = gait.period, person.style.ease
    middle, end = gait.swing / 2 - period, gait.swing - period
    toward = sign(side)
    roll = 0.45 * gait.turn * toward
    person.move(period, {"weight": -0.32 * toward, "root_roll": roll, "side": -1.1 * roll}, middle)
    spin = -gait.turn * toward * person.about(1.0, 0.2)
    counter = 0.6 if gait.contact < 0.5 else 0.45
    trunk = {"root_spin": spin, "twist": -(1 + counter) * spin, "turn": ease["turn"] + 0.9 * counter * spin + look}
    person.move(period, {**trunk, "root_pitch": gait.lean + person.dice.uniform(-1.0, 1.0)}, end)
    for arm, ahead in ((other(side), 1.0), (side, -0.8)):
        if f"{arm}_elevation" in gait.carried:
            person.move(period, on(arm, {"swing": 0.12 * gait.arms * ahead}), end)
            continue
        swing = ahead * gait.arms * person.style.swing[arm == "r"] * person.about(1.0, 0.12)
        bent = max(gait.arm_base["elbow"] + 0.3 * swing, 4.0)
        person.move(period, on(arm, {"swing": swing}), end + 0.03 * period)
        person.move(period, on(arm, {"elbow": bent}), end + 0.06 * period)


def _close(person: Performer, period: float, side: str) -> None:
    """Bring the feet together and the body to rest."""
    last = person.shifted(person.feet[other(side)], 0.0, 2 * sign(side) * person.style.half_width)
    way = Step(swing=0.76 * period, period=period, height=0.04, heel_off=24.0, kick_up=12.0)
    yaw = person.heading + sign(side) * person.style.toe_out
    person.step(side, replace(last, yaw=yaw), person.heading, way)
    still = {"forward": 0.0, "drop": person.style.drop, "weight": 0.0, "root_roll": 0.0}
    person.move(1.3 * period, still, 0.2 * period)
    person.settle(1.6 * period, delay=0.1 * period)
    person.stepping = None
    person.wait(1.1 * period)


def _posture(person: Performer, gait: Gait, duration: float) -> None:
    """Trunk and arms as the gait wants them; the strides add the rest."""
    arms: dict[str, float] = {}
    for side in SIDES:
        arms |= on(side, gait.arm_base)
    trunk = {"bend": person.style.ease["bend"] + 0.35 * gait.lean, "nod": person.style.ease["nod"] - 0.3 * gait.lean}
    person.settle(duration, {**trunk, "root_pitch": gait.lean, **arms, **gait.carried})
    ahead = (_AHEAD_RUN if gait.contact < 0.5 else _AHEAD_WALK) * gait.length
    person.move(1.5 * duration, {"drop": gait.drop, "forward": ahead})


def _draw_carried(person: Performer) -> dict[str, float]:
    """Angles of arms that do not swing, of one side or both, often none."""
    dice = person.dice
    if dice.chance(0.65):
        return {}
    arms = person.arms_of(dice.weighted(_CARRIED), dice.chance(0.5))
    sides = dice.weighted({"lr": 1.5, "l": 1.0, "r": 1.0})
    return {name: value for name, value in arms.items() if name[0] in sides}


def _draw_walk(person: Performer) -> Gait:
    dice, style = person.dice, person.style
    speed = dice.uniform(0.55, 1.85)
    # Step length and cadence both grow with about the square root of the speed.
    length = 0.62 * np.sqrt(speed / 1.3) * style.step_length * dice.uniform(0.92, 1.08)
    length = min(length, 0.76)
    period = length / speed
    manner = dice.weighted({"plain": 0.82, "backwards": 0.07, "high": 0.06, "low": 0.05})
    if manner == "backwards":
        length, period = -0.6 * length, 1.2 * period
    vigour = style.energy * length / 0.62
    high = dice.uniform(0.08, 0.2) if manner == "high" else 0.0
    return Gait(
        length=float(length),
        period=float(np.clip(period, 0.42 + 0.8 * high, 0.9)),
        contact=dice.uniform(0.565, 0.61),
        arms=float(abs(vigour) * dice.uniform(12.0, 26.0)),
        arm_base={"plane": dice.uniform(10.0, 35.0), "elevation": dice.uniform(9.0, 14.0),
                  "elbow": dice.uniform(12.0, 32.0), "axial": dice.uniform(5.0, 22.0)},
        lean=dice.uniform(0.0, 5.0) + (14.0 if manner == "low" else 0.0),
        turn=float(abs(vigour) * dice.uniform(4.0, 8.0)),
        height=dice.uniform(0.04, 0.07) + high,
        drop=dice.uniform(0.015, 0.035) + (dice.uniform(0.08, 0.16) if manner == "low" else 0.0),
        heel_off=float(np.clip(72.0 * length, 8.0, 52.0)),
        kick_up=float(np.clip(62.0 * length, 8.0, 54.0)),
        heel_strike=float(np.clip(30.0 * (length - 0.2), 0.0, 20.0)),
        carried=_draw_carried(person),
    )  # fmt: skip


def _draw_run(person: Performer) -> Gait:
    dice, style = person.dice, person.style
    speed = dice.uniform(1.9, 4.2)
    period = 0.37 * (3.0 / speed) ** 0.22 * style.tempo**0.4
    # Legs reach ahead and back only so far: the faster, the shorter a foot is on the floor.
    contact = float(np.clip((0.56 / speed + 0.045) / (2 * period), 0.24, 0.45)) * dice.uniform(0.95, 1.03)
    length = speed * period
    # At landing the foot is this far ahead of the pelvis, which then sinks until it is over the foot.
    ahead = speed * contact * period - _AHEAD_RUN * length
    depth = Flight(0.0, period * (1 - 2 * contact), contact * period, feet=False).depth
    return Gait(
        length=float(length),
        period=float(period),
        contact=contact,
        arms=style.energy * dice.uniform(24.0, 44.0),
        arm_base={"plane": dice.uniform(5.0, 30.0), "elevation": dice.uniform(14.0, 24.0),
                  "elbow": dice.uniform(72.0, 104.0), "axial": dice.uniform(12.0, 28.0)},
        lean=dice.uniform(5.0, 12.0),
        turn=style.energy * dice.uniform(6.0, 11.0),
        height=float(np.interp(speed, [2.0, 4.6], [0.12, 0.34])) * dice.uniform(0.85, 1.15),
        drop=0.8 - float(np.sqrt(0.775**2 - min(ahead, 0.55) ** 2)) + depth,
        heel_off=float(np.interp(speed, [2.0, 4.6], [38.0, 52.0])),
        kick_up=float(np.interp(speed, [2.0, 4.6], [60.0, 105.0])),
        heel_strike=dice.uniform(-4.0, 10.0),
        carried={},
    )  # fmt: skip
