"""What people do on the spot, upright: standing about, talking with their hands, reaching, waving."""

from __future__ import annotations

from diffhmr.motion.acting.performer import SIDES, Performer, on, sign
from diffhmr.motion.acting.score import Activity

_ARM_WEIGHTS = {
    "hanging": 9.0, "hanging bent": 3.0, "crossed": 1.5, "hands on hips": 1.5, "in pockets": 1.5,
    "clasped in front": 1.5, "behind back": 0.8, "holding at belly": 2.0, "holding at chest": 1.0,
    "phone at ear": 1.5, "phone in hand": 2.0, "eating": 0.8, "hand on chest": 0.4, "hand on neck": 0.6,
    "carrying in front": 0.8,
}  # fmt: skip


def random_arms(person: Performer) -> dict[str, float]:
    """An everyday posture of the arms."""
    return person.arms_of(person.dice.weighted(_ARM_WEIGHTS), person.dice.chance(0.5))


def stand(person: Performer, duration: float) -> None:
    """Stand about: the weight goes from foot to foot, the eyes wander, the arms change."""
    person.begin(Activity.STAND)
    dice, style = person.dice, person.style
    end = person.now + duration
    if dice.chance(0.35):
        wider, stagger = dice.uniform(-0.02, 0.1), dice.uniform(-0.12, 0.12)
        person.stance(person.even_stance(wider, stagger, dice.uniform(-3.0, 8.0)), person.heading)
    person.settle(style.tempo * dice.uniform(0.7, 1.2), random_arms(person))
    while person.now < end:
        pause = min(dice.uniform(0.7, 2.0), max(end - person.now, 0.3))
        what = dice.weighted({"weight": 4.0, "look": 3.0, "arms": 1.5, "lean": 1.0, "touch": 0.8})
        length = style.tempo * dice.uniform(0.6, 1.1)
        if what == "weight":
            _rest_on(person, dice.pick((-1.0, 1.0)) * dice.uniform(0.3, 0.95), length)
        elif what == "look":
            look_about(person, 0.7 * length)
        elif what == "arms":
            person.move(length, random_arms(person))
        elif what == "lean":
            bend = dice.uniform(-6.0, 18.0)
            person.move(length, {"bend": style.ease["bend"] + bend, "nod": style.ease["nod"] + bend})
        else:
            side = dice.pick(SIDES)
            face = {"elevation": 46.0, "plane": 74.0, "axial": 32.0, "elbow": 134.0}
            person.move(0.7 * length, on(side, {k: person.about(v, 0.08) for k, v in face.items()}))
            person.move(0.9 * length, on(side, _at_ease(person, side, tuple(face))), 0.7 * length + 0.4)
        person.wait(pause)
    _rest_on(person, 0.0, 0.7)
    person.wait(0.25)


def gesture(person: Performer, duration: float) -> None:
    """Talk with the hands."""
    person.begin(Activity.GESTURE)
    dice = person.dice
    end = person.now + duration
    active = dice.weighted({"l": 1.0, "r": 1.0, "lr": 3.0})
    person.settle(0.6, person.arms_of("holding at belly"))
    while person.now < end:
        beat = person.style.tempo * dice.uniform(0.28, 0.6)
        size = person.style.energy
        shared = [dice.uniform(-1.0, 1.0) for _ in range(4)]
        for side in active:
            own = [0.7 * value + 0.6 * dice.uniform(-1.0, 1.0) for value in shared]
            arm = {"elevation": 34 + 18 * size * own[0], "plane": 62 + 26 * own[1], "elbow": 82 - 34 * size * own[2],
                   "axial": 22 + 28 * own[3], "pronation": dice.uniform(-50.0, 50.0), "curl": dice.uniform(0.0, 30.0),
                   "wrist_flex": dice.uniform(-20.0, 25.0)}  # fmt: skip
            person.move(beat, on(side, arm), dice.uniform(0.0, 0.06))
        if dice.chance(0.35):
            look_about(person, beat)
        if dice.chance(0.2):
            _rest_on(person, dice.uniform(-0.8, 0.8), 2 * beat)
        person.wait(beat * dice.uniform(0.8, 1.5))
    person.settle(0.8 * person.style.tempo)
    _rest_on(person, 0.0, 0.8)
    person.wait(0.6)


def reach(person: Performer) -> None:
    """Reach for something high, in front, aside or low, with one hand or both, and take the hand back."""
    person.begin(Activity.REACH)
    dice, style = person.dice, person.style
    if dice.chance(0.4):
        person.stance(person.even_stance(dice.uniform(0.0, 0.08), dice.uniform(-0.16, 0.16)), person.heading)
    both = dice.chance(0.3)
    side = dice.pick(SIDES)
    elevation = dice.pick((dice.uniform(118.0, 165.0), dice.uniform(70.0, 118.0), dice.uniform(48.0, 74.0)))
    plane = dice.uniform(60.0, 92.0) if both else dice.uniform(-5.0, 100.0)
    arm = {"elevation": elevation, "plane": plane, "axial": dice.uniform(0.0, 25.0), "elbow": dice.uniform(3.0, 18.0),
           "curl": dice.uniform(0.0, 12.0), "pronation": dice.uniform(-10.0, 60.0), "shrug": 6 + 0.1 * elevation,
           "protract": 14.0}  # fmt: skip
    ahead = max(0.0, (plane + 15) / 100)
    low = max(0.0, (85 - elevation) / 40)
    effort = dice.uniform(0.4, 1.0)
    toward = 0.0 if both else sign(side)
    trunk = {
        "root_pitch": effort * ahead * (8 + 24 * low), "bend": effort * ahead * (6 + 26 * low),
        "nod": 2 + 14 * low - 0.25 * max(0.0, elevation - 100), "turn": toward * (90 - plane) * 0.55,
        "twist": toward * ((75 - plane) * 0.25 - 12), "side": toward * effort * (1 - ahead) * 16,
    }  # fmt: skip
    weight = {"weight": toward * 0.6 * effort * (1 - 0.5 * ahead), "forward": effort * (0.05 - 0.1 * low) * ahead,
              "drop": style.drop + 0.07 * low * effort, "pitch": 0.0}  # fmt: skip
    if elevation > 135 and dice.chance(0.5):
        weight |= {"pitch": dice.uniform(12.0, 28.0), "drop": style.drop - 0.02}
    there, back = (style.tempo * dice.uniform(0.55, 1.0) for _ in range(2))
    hold = dice.uniform(0.15, 0.9)
    sides = SIDES if both else side
    person.move(1.1 * there, {**trunk, **weight})
    for one in sides:
        lifted = {k: v + dice.uniform(-3.0, 3.0) for k, v in arm.items()}
        person.move(there, on(one, lifted), 0.1)
        person.move(0.3, on(one, {"curl": 42.0}), there + 0.1)
    person.wait(there + hold + 0.1)
    fetched = dice.chance(0.6)
    goal = {k: v for one in sides for k, v in person.arms_of("holding at belly").items() if k[0] == one}
    person.settle(1.15 * back, goal if fetched else None)
    person.move(back, {"weight": 0.0, "forward": 0.0, "drop": style.drop, "pitch": 0.0, "root_roll": 0.0})
    person.wait(1.2 * back + (dice.uniform(0.2, 0.8) if fetched else 0.0))
    if fetched:
        person.settle(0.8 * style.tempo)
        person.wait(0.5 * style.tempo)


def wave(person: Performer) -> None:
    """Wave with one hand, or with both arms over the head."""
    person.begin(Activity.WAVE)
    dice, style = person.dice, person.style
    manner = dice.weighted({"forearm": 3.0, "arm": 2.0, "both": 1.2})
    side = dice.pick(SIDES)
    sides = SIDES if manner == "both" else side
    beat = style.tempo * dice.spread(0.19, 0.38) * (1.5 if manner != "forearm" else 1.0)
    plane = dice.uniform(5.0, 45.0)
    if manner == "forearm":
        lifted = {"elevation": dice.uniform(60.0, 100.0), "plane": plane, "axial": dice.uniform(-85.0, -62.0),
                  "elbow": dice.uniform(78.0, 108.0)}  # fmt: skip
        swing = {"elbow": style.energy * dice.uniform(16.0, 30.0), "axial": dice.uniform(0.0, 10.0)}
    else:
        lifted = {"elevation": dice.uniform(122.0, 142.0), "plane": plane, "axial": -20.0, "elbow": 22.0}
        swing = {"elevation": style.energy * dice.uniform(14.0, 24.0), "elbow": style.energy * dice.uniform(8.0, 20.0)}
    raise_time = style.tempo * dice.uniform(0.5, 0.85)
    lifted |= {"curl": dice.uniform(-3.0, 10.0), "pronation": dice.uniform(-20.0, 30.0), "shrug": 8.0}
    person.settle(raise_time, {f"{one}_{k}": v for one in sides for k, v in lifted.items()})
    look = sign(side) * dice.uniform(-5.0, 30.0)
    person.move(raise_time, {"turn": look if manner != "both" else 0.0, "nod": dice.uniform(-8.0, 4.0)})
    person.wait(0.85 * raise_time)
    together = dice.chance(0.5)
    for index in range(2 * dice.integer(4) + 5):
        direction = 1.0 if index % 2 else -1.0
        for one in sides:
            same = direction if together or one == side else -direction
            goal = {k: lifted[k] + same * person.about(v, 0.2) for k, v in swing.items()}
            person.move(beat, on(one, goal))
        if index % 4 == 0:
            person.move(2 * beat, {"side": style.energy * dice.uniform(-5.0, 5.0), "weight": dice.uniform(-0.3, 0.3)})
        person.wait(beat * dice.uniform(0.9, 1.02))
    person.settle(1.1 * raise_time)
    person.move(1.1 * raise_time, {"weight": 0.0})
    person.wait(1.1 * raise_time)


def look_about(person: Performer, duration: float) -> None:
    """The head turns somewhere, the shoulders follow a little."""
    turn = person.dice.pick((-1.0, 1.0)) * person.dice.uniform(5.0, 58.0)
    ease = person.style.ease
    targets = {
        "turn": turn,
        "nod": ease["nod"] + person.dice.uniform(-14.0, 20.0),
        "twist": ease["twist"] + 0.15 * turn,
    }
    person.move(duration, targets)


def _rest_on(person: Performer, weight: float, duration: float) -> None:
    """Most of the weight on one foot; the knee of the other leg bends."""
    roll = -4.0 * weight
    ease = person.style.ease
    person.move(duration, {"weight": 0.75 * weight, "root_roll": roll, "side": ease["side"] - roll,
                           "drop": person.style.drop + 0.006 * abs(weight)})  # fmt: skip


def _at_ease(person: Performer, side: str, names: tuple[str, ...]) -> dict[str, float]:
    return {name: person.style.ease[f"{side}_{name}"] for name in names}
