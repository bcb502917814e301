"""What is done with force: jumps, kicks and punches."""

from __future__ import annotations

from dataclasses import replace

from diffhmr.motion.acting.performer import SIDES, Performer, on, other, sign
from diffhmr.motion.acting.score import Activity, Flight
from diffhmr.motion.acting.ways import Spot


def jump(person: Performer) -> None:
    """Jump up, ahead, several times in a row, or as a jumping jack."""
    person.begin(Activity.JUMP)
    manner = person.dice.weighted({"up": 2.0, "ahead": 1.5, "hops": 1.5, "jack": 1.5})
    if manner in ("up", "ahead"):
        person.stance(person.even_stance(person.dice.uniform(0.0, 0.06)), person.heading, 0.85)
        _single_jump(person, person.dice.uniform(0.25, 1.0) if manner == "ahead" else 0.0)
    else:
        person.stance(person.even_stance(), person.heading, 0.85)
        _series(person, jack=manner == "jack")
    person.settle(0.8 * person.style.tempo)
    person.wait(0.6 * person.style.tempo)


def _single_jump(person: Performer, length: float) -> None:
    """Crouch with the arms back, jump, land softly."""
    dice, style = person.dice, person.style
    air = dice.uniform(0.32, 0.52) + 0.06 * length
    push = dice.uniform(0.21, 0.28)
    flight = Flight(0.0, air, push, feet=True)
    depth = flight.depth
    dip = style.tempo * dice.uniform(0.42, 0.65)
    lean = {"root_pitch": 22 + 60 * depth + 12 * length, "bend": 14.0, "nod": -10.0}
    person.settle(dip, {**lean, "swing": dice.uniform(-52.0, -32.0), "elbow": 14.0, "axial": 20.0})
    person.move(dip, {"drop": style.drop + depth, "forward": -0.28 * depth + 0.1 * length, "knee_out": 6.0})
    person.wait(0.97 * dip)
    top = dice.uniform(85.0, 160.0)
    person.move(push + 0.1, {"root_pitch": 6 * length, "bend": -2.0, "nod": -6.0})
    person.move(push + 0.3, {"swing": 0.0, "elevation": top, "plane": 74.0, "elbow": dice.uniform(8.0, 40.0)}, -0.12)
    person.wait(push)
    _fly(person, replace(flight, start=person.now), dict.fromkeys(SIDES, length), dice.uniform(0.0, 0.16))
    tuck = 8 + 18 * length
    person.move(0.7 * air, {"root_pitch": tuck, "bend": 8.0, "elevation": 0.62 * top}, 0.3 * air)
    person.wait(air)
    person.move(push + 0.08, {"root_pitch": 24 + 10 * length, "bend": 18.0, "nod": -4.0}, -0.05)
    person.move(push + 0.08, {"elevation": 38.0, "plane": 55.0, "elbow": 30.0}, -0.05)
    person.wait(push)
    rise = style.tempo * dice.uniform(0.5, 0.8)
    person.settle(1.1 * rise, delay=0.06)
    person.move(rise, {"drop": style.drop, "knee_out": style.knee_out}, 0.03)
    person.centre(rise, 0.03)
    person.wait(0.9 * rise)


def _series(person: Performer, jack: bool) -> None:
    """Hops in a row, or jumping jacks."""
    dice, style = person.dice, person.style
    air = dice.uniform(0.2, 0.3)
    ground = style.tempo * dice.uniform(0.2, 0.28)
    depth = Flight(0.0, air, ground / 2, feet=True).depth
    wide = dice.uniform(0.1, 0.19)
    arms_down = {"elevation": dice.uniform(6.0, 16.0), "plane": 15.0, "elbow": dice.uniform(5.0, 25.0), "axial": 0.0}
    top = dice.uniform(118.0, 158.0)
    person.settle(0.5, arms_down if jack else {"elbow": 45.0, "elevation": 22.0})
    person.move(0.45, {"drop": style.drop + (0.04 if jack else 0.01) + depth, "root_pitch": 8.0})
    person.wait(0.45)
    count = 2 * (2 + dice.integer(3))
    for index in range(count):
        person.wait(ground / 2)
        flight = Flight(person.now, air, ground / 2, feet=True)
        out = index % 2 == 0
        spread = (wide if out else -wide) if jack else 0.0
        ahead = 0.0 if jack else dice.uniform(-0.04, 0.12)
        aside = {side: spread * sign(side) for side in SIDES}
        _fly(person, flight, dict.fromkeys(SIDES, ahead), dice.uniform(0.0, 0.03), aside)
        beat = air + ground
        if jack:
            goal = {"elevation": person.about(top, 0.05), "axial": -20.0} if out else arms_down
            person.move(0.95 * beat, goal, -0.3 * ground)
        else:
            swing = style.energy * dice.uniform(6.0, 22.0)
            person.move(0.5 * beat, {"elevation": 26 + swing}, -0.2 * ground)
            person.move(0.5 * beat, {"elevation": 22.0}, 0.5 * beat - 0.2 * ground)
        person.wait(air + ground / 2)
    person.move(0.6, {"drop": style.drop})
    person.centre(0.6)
    person.wait(0.3)


def _fly(
    person: Performer, flight: Flight, ahead: dict[str, float], tuck: float, aside: dict[str, float] | None = None
) -> None:
    """A flight from now on: feet roll off and land on their balls, and come down elsewhere; time does not go on."""
    start, air = flight.start, flight.duration
    person.score.flights.append(flight)
    for index, side in enumerate(SIDES):
        foot = person.shifted(person.feet[side], ahead[side], (aside or {}).get(side, 0.0))
        person.feet[side] = foot
        person.score.airborne.append((index, start - 0.03, start + air + 0.03))
        person.score.move(start, air, on(side, {"x": foot.x, "z": foot.z}))
        if tuck > 0:
            person.score.move(start + 0.05 * air, 0.45 * air, on(side, {"lift": tuck}))
            person.score.move(start + 0.5 * air, 0.45 * air, on(side, {"lift": 0.0}))
    # In the air the legs need not reach the floor.
    person.score.move(start - 0.04, 0.08, {"free": 0.8})
    person.score.move(start + air - 0.05, 0.08, {"free": 0.0})
    rise = 0.55 * flight.push
    person.score.move(start - rise, rise + 0.06, {"pitch": 34.0})
    person.score.move(start - rise, rise + 0.04, {"tiptoe": 0.05})
    person.score.move(start + 0.5 * air, 0.5 * air, {"pitch": 24.0})
    person.score.move(start + air - 0.01, 0.12, {"pitch": 0.0, "tiptoe": 0.0})
    person.centre_to_feet(start - 0.12, air + 0.24)


def kick(person: Performer) -> None:
    """Kick a ball, or kick ahead at the height of knee to chest."""
    person.begin(Activity.KICK)
    dice, style = person.dice, person.style
    side = dice.pick(SIDES)
    ball = dice.chance(0.5)
    person.stance(person.even_stance(0.0, -sign(side) * dice.uniform(0.06, 0.2)), person.heading, 0.85)
    ready = style.tempo * dice.uniform(0.35, 0.5)
    arms = person.arms_of("hanging apart" if ball else "guard", side == "r")
    home = person.feet[side]
    person.settle(1.3 * ready, {**arms, "root_pitch": 4.0, "bend": 10.0})
    stand = other(side)
    person.move(ready, {"weight": -0.9 * sign(side), "drop": style.drop + 0.03, "forward": 0.04, "root_roll": 0.0})
    person.wait(0.75 * ready)
    start = person.now
    if ball:
        _ball_kick(person, side, home)
    else:
        _front_kick(person, side, home)
    person.score.airborne.append((SIDES.index(side), start, person.now))
    person.settle(0.9 * style.tempo, delay=-0.15)
    person.move(0.8 * style.tempo, {"drop": style.drop}, -0.15)
    person.centre(0.8 * style.tempo, -0.15)
    person.move(0.3, on(stand, {"pitch": 0.0}))
    person.wait(0.65 * style.tempo)


def _foot(person: Performer, side: str, home: Spot, duration: float, place: tuple[float, float, float]) -> None:
    """The free foot goes ``(ahead of home, height, pitch)``; time goes on."""
    ahead, height, pitch = place
    spot = person.shifted(home, ahead, -0.25 * sign(side) * person.style.half_width if height > 0.02 else 0.0)
    person.move(duration, on(side, {"x": spot.x, "z": spot.z, "lift": height, "pitch": pitch}))
    person.wait(duration)


def _ball_kick(person: Performer, side: str, home: Spot) -> None:
    dice, style = person.dice, person.style
    quick = style.tempo / style.energy
    toward = sign(side)
    person.move(0.3 * quick, on(side, {"free": 1.0}))
    arms = on(side, {"elevation": 30.0, "plane": 30.0}) | on(other(side), {"elevation": 62.0, "plane": 15.0})
    person.move(0.4 * quick, {"root_pitch": 10.0, "root_spin": -16 * toward, "twist": 22 * toward, **arms})
    _foot(person, side, home, 0.36 * quick, (dice.uniform(-0.5, -0.36), dice.uniform(0.2, 0.42), 62.0))
    reach, height = dice.uniform(0.66, 0.82), dice.uniform(0.2, 0.6)
    arms = on(side, {"swing": -34.0}) | on(other(side), {"elevation": 58.0, "plane": 75.0})
    person.move(
        0.36 * quick, {"root_pitch": -10.0, "root_spin": 14 * toward, "twist": -22 * toward, "bend": 16.0, **arms}
    )
    # Past the floor where the ball lies, then up.
    spot = person.shifted(home, reach, -0.06 * toward)
    person.move(0.34 * quick, on(side, {"x": spot.x, "z": spot.z, "pitch": -18.0}))
    person.move(0.16 * quick, on(side, {"lift": 0.045}))
    person.move(0.22 * quick, on(side, {"lift": height}), 0.13 * quick)
    person.wait(0.38 * quick)
    _foot(person, side, home, 0.42 * quick, (0.1, 0.1, 4.0))
    _put_down(person, side, home, 0.26 * quick)


def _front_kick(person: Performer, side: str, home: Spot) -> None:
    dice, style = person.dice, person.style
    quick = style.tempo / style.energy
    height = dice.uniform(0.38, 0.95)
    ahead = 0.78 - 0.3 * max(0.0, height - 0.6)
    person.move(0.3 * quick, on(side, {"free": 1.0}))
    person.move(0.3 * quick, {"root_pitch": -4.0})
    _foot(person, side, home, 0.32 * quick, (0.12, 0.3 + 0.3 * height, 32.0))
    person.move(
        0.3 * quick, {"root_pitch": -8 - 14 * height, "bend": 12.0, "root_spin": 10 * sign(side), "forward": 0.07}
    )
    _foot(person, side, home, dice.uniform(0.2, 0.26) * quick, (ahead, height, -38.0))
    person.move(0.5 * quick, {"root_pitch": 0.0, "root_spin": 0.0, "forward": 0.0})
    _foot(person, side, home, 0.3 * quick, (0.18, 0.3 + 0.15 * height, 20.0))
    _put_down(person, side, home, 0.4 * quick)


def _put_down(person: Performer, side: str, home: Spot, duration: float) -> None:
    person.move(duration, on(side, {"free": 0.0}))
    _foot(person, side, home, duration, (0.0, 0.0, 0.0))


def punch(person: Performer) -> None:
    """Punches from a guard, one foot ahead."""
    person.begin(Activity.PUNCH)
    dice, style = person.dice, person.style
    lead = dice.pick(SIDES)
    person.stance(
        person.even_stance(dice.uniform(0.02, 0.07), sign(lead) * dice.uniform(0.24, 0.38), 6.0), person.heading, 0.85
    )
    guard = person.arms_of("guard", lead == "r", 0.5)
    spin = -14.0 * sign(lead)  # the shoulder on the side of the foot ahead points to the opponent
    trunk = {"root_pitch": 8.0, "bend": 12.0, "root_spin": spin, "turn": -0.8 * spin, "twist": 0.4 * spin, "curl": 58.0}
    low = style.drop + dice.uniform(0.03, 0.08)
    person.settle(0.55, {**guard, **trunk, "wrist_flex": 0.0})
    person.move(0.5, {"drop": low})
    person.wait(0.55)
    for _ in range(3 + dice.integer(5)):
        side = lead if dice.chance(0.55) else other(lead)
        _blow(person, side, {**guard, **trunk})
        pause = dice.uniform(0.0, 0.35)
        person.move(0.2 + pause, {"drop": low + dice.uniform(-0.012, 0.03), "forward": dice.uniform(-0.03, 0.03)}, -0.1)
        person.wait(pause)
    person.settle(0.75 * style.tempo)
    person.move(0.6, {"drop": style.drop, "forward": 0.0, "weight": 0.0})
    person.wait(0.6 * style.tempo)


def _blow(person: Performer, side: str, guard: dict[str, float]) -> None:
    """One straight, hook or uppercut and back to the guard."""
    dice, style = person.dice, person.style
    there = max(style.tempo / style.energy * dice.uniform(0.17, 0.25), 0.17)
    manner = dice.weighted({"straight": 3.0, "hook": 1.0, "upper": 0.8})
    arm = {
        "straight": {"elevation": dice.uniform(78.0, 94.0), "plane": 88.0, "axial": 34.0, "elbow": 6.0,
                     "protract": 22.0, "pronation": 50.0, "shrug": 10.0},
        "hook": {"elevation": 82.0, "plane": 105.0, "axial": 60.0, "elbow": 82.0, "protract": 20.0},
        "upper": {"elevation": 62.0, "plane": 84.0, "axial": 12.0, "elbow": 104.0, "pronation": -60.0},
    }[manner]  # fmt: skip
    # The shoulder goes with the fist: to the right for the left hand.
    turned = -sign(side) * dice.uniform(18.0, 30.0)
    person.move(there, {**on(side, arm), "twist": turned, "root_spin": guard["root_spin"] + 0.4 * turned,
                        "turn": -0.8 * (turned + guard["root_spin"]), "forward": 0.04})  # fmt: skip
    person.wait(there * 1.02)
    back = {name: guard[name] for name in guard if name[:2] == f"{side}_"}
    rest = {name: guard[name] for name in ("twist", "root_spin", "turn")}
    person.move(1.35 * there, {**back, **on(side, {"shrug": 2.0, "protract": 4.0}), **rest, "forward": 0.0})
    person.wait(1.1 * there)
