"""What brings the body down: sitting down and standing up, squats, crouching, picking something up."""

from __future__ import annotations

from diffhmr.motion.acting.performer import SIDES, Performer, on, other, sign
from diffhmr.motion.acting.score import Activity
from diffhmr.motion.acting.standing import look_about
from diffhmr.motion.acting.ways import Step

_SEATED_ARMS = {
    "on lap": 4.0, "on knees": 3.0, "on table": 2.0, "crossed": 1.5, "hanging": 0.8, "holding at belly": 1.5,
    "phone in hand": 2.0, "phone at ear": 1.0, "eating": 1.5, "chin on hand": 1.0, "hands behind head": 0.6,
    "holding at chest": 0.8, "reaching forward": 0.5,
}  # fmt: skip


def sit(person: Performer, duration: float) -> None:
    """Sit down on a seat, sit for about ``duration`` seconds, stand up."""
    person.begin(Activity.SIT)
    dice, style = person.dice, person.style
    person.stance(person.even_stance(dice.uniform(0.0, 0.09), dice.uniform(-0.08, 0.08)), person.heading)
    drop, back = dice.uniform(0.3, 0.46), dice.uniform(-0.42, -0.32)
    down = style.tempo * dice.uniform(1.0, 1.6)
    lean = dice.uniform(24.0, 42.0)
    person.settle(
        0.6 * down, {**_rising_arms(person, lean), "root_pitch": lean, "bend": dice.uniform(8.0, 22.0), "nod": 0.0}
    )
    # The trunk goes ahead first and keeps the weight over the feet while the pelvis goes back and down.
    person.move(0.95 * down, {"drop": drop, "forward": back, "weight": 0.0, "root_roll": 0.0}, 0.18 * down)
    person.move(down, {"knee_out": dice.uniform(-4.0, 12.0)}, 0.1 * down)
    person.wait(0.85 * down)
    posture = {"root_pitch": dice.uniform(-14.0, 6.0), "bend": dice.uniform(4.0, 18.0)}
    person.settle(0.8 * style.tempo, {**posture, **_seated_arms(person)}, 0.1 * down)
    person.wait(0.3 * down)
    end = person.now + duration
    while person.now < end:
        _pass_time_seated(person)
    up = style.tempo * dice.uniform(0.95, 1.5)
    lean = dice.uniform(28.0, 46.0)
    person.settle(
        0.6 * up, {**_rising_arms(person, lean), "root_pitch": lean, "bend": dice.uniform(10.0, 24.0), "nod": -4.0}
    )
    person.move(up, {"drop": style.drop, "knee_out": style.knee_out}, 0.38 * up)
    person.centre(up, 0.38 * up)
    person.wait(0.62 * up)
    person.settle(0.85 * up)
    person.wait(0.8 * up)


def squat(person: Performer) -> None:
    """Several squats in a row."""
    person.begin(Activity.SQUAT)
    dice, style = person.dice, person.style
    wide = dice.uniform(0.04, 0.13)
    turned = dice.uniform(4.0, 18.0)
    person.stance(person.even_stance(wide, 0.0, turned), person.heading, 0.85)
    depth = dice.uniform(0.2, 0.42)
    back = -0.32 * depth - dice.uniform(0.0, 0.05)
    arms = dice.weighted({"forward": 3.0, "hips": 1.0, "head": 0.8, "chest": 1.0})
    names = {
        "forward": "both forward",
        "hips": "hands on hips",
        "head": "hands behind head",
        "chest": "holding at chest",
    }
    held = person.arms_of(names[arms])
    up_arms = person.arms_of("hanging") if arms == "forward" else held
    low = {"root_pitch": 55 * depth + dice.uniform(2.0, 14.0), "bend": 30 * depth + dice.uniform(0.0, 8.0),
           "nod": -22 * depth}  # fmt: skip
    down, up = (style.tempo * dice.uniform(0.55, 1.0) * (0.6 + depth) for _ in range(2))
    person.settle(0.5, up_arms)
    person.wait(0.4)
    person.move(down, {"knee_out": 4 + 0.3 * turned})
    for _ in range(2 + dice.integer(4)):
        share = person.about(1.0, 0.08)
        person.settle(down, {**held, **low})
        person.move(down, {"drop": style.drop + share * depth, "forward": share * back})
        person.wait(down + dice.uniform(0.0, 0.15))
        person.settle(up, up_arms)
        person.move(up, {"drop": style.drop, "forward": 0.0})
        person.wait(up + dice.uniform(0.0, 0.2))
    person.settle(0.6)
    person.move(0.6, {"knee_out": style.knee_out})
    person.wait(0.4)


def crouch(person: Performer, duration: float) -> None:
    """Go down on bent legs, heels up or one foot behind, stay and look about, come up."""
    person.begin(Activity.CROUCH)
    dice, style = person.dice, person.style
    stagger = dice.pick((-1.0, 1.0)) * dice.uniform(0.0, 0.36)
    person.stance(person.even_stance(dice.uniform(0.0, 0.08), stagger), person.heading, 0.9)
    depth = dice.uniform(0.36, 0.52)
    # The heel of the foot behind comes up most.
    behind = "r" if stagger > 0 else "l"
    heels = on(behind, {"pitch": 16 + 105 * abs(stagger)}) | on(other(behind), {"pitch": dice.uniform(8.0, 22.0)})
    down, up = (style.tempo * dice.uniform(0.7, 1.1) for _ in range(2))
    low = {"root_pitch": dice.uniform(8.0, 30.0), "bend": dice.uniform(12.0, 30.0), "nod": dice.uniform(-18.0, 8.0)}
    lean = low["root_pitch"] + low["bend"]
    person.settle(1.05 * down, {**_arms_over_knees(person, lean), **low})
    body = {"drop": depth, "forward": dice.uniform(-0.09, 0.0), "knee_out": dice.uniform(0.0, 16.0)}
    person.move(down, {**body, **heels})
    person.wait(1.05 * down)
    end = person.now + duration
    while person.now < end:
        length = style.tempo * dice.uniform(0.5, 1.0)
        what = dice.weighted({"look": 3.0, "arms": 1.5, "sway": 2.0})
        if what == "look":
            look_about(person, 0.8 * length)
        elif what == "arms":
            person.move(length, _arms_over_knees(person, lean))
        else:
            person.move(length, {"drop": person.about(depth, 0.06), "weight": dice.uniform(-0.3, 0.3),
                                 "root_pitch": low["root_pitch"] + dice.uniform(-8.0, 8.0)})  # fmt: skip
        person.wait(length * dice.uniform(0.9, 1.3))
    person.settle(1.1 * up)
    person.move(up, {"drop": style.drop, "forward": 0.0, "knee_out": style.knee_out, "pitch": 0.0, "weight": 0.0}, 0.05)
    person.wait(1.1 * up)


def pick_up(person: Performer) -> None:
    """Bend down, take something from the floor with one hand or both, come up and hold it."""
    person.begin(Activity.PICK_UP)
    dice, style = person.dice, person.style
    both = dice.chance(0.5)
    side = dice.pick(SIDES)
    bent_knees = dice.uniform(0.0, 1.0)
    stagger = 0.0 if both and dice.chance(0.6) else -sign(side) * dice.uniform(0.0, 0.3)
    person.stance(person.even_stance(dice.uniform(0.0, 0.1), stagger), person.heading, 0.9)
    drop = 0.12 + 0.32 * bent_knees
    pitch, bend = 66 - 32 * bent_knees, 46 - 12 * bent_knees
    lean = pitch + bend
    trunk = {"root_pitch": pitch, "bend": bend, "nod": dice.uniform(-12.0, 12.0),
             "side": 0.0 if both else 7 * sign(side), "twist": 0.0 if both else -12 * sign(side)}  # fmt: skip
    # The arms hang straight down from a trunk that leans ahead, and a little further ahead.
    down_arm = {"elevation": min(lean + dice.uniform(-6.0, 10.0), 118.0), "plane": 84.0, "axial": 14.0, "elbow": 8.0,
                "curl": 5.0, "pronation": 10.0, "protract": 18.0}  # fmt: skip
    knee_arm = {"elevation": 0.62 * lean, "plane": 66.0, "axial": 30.0, "elbow": 42.0}
    arms = {f"{one}_{k}": v for one in SIDES for k, v in (down_arm if both or one == side else knee_arm).items()}
    down, up = (style.tempo * dice.uniform(0.75, 1.25) for _ in range(2))
    heel = {"pitch": 0.0} if bent_knees < 0.5 else {f"{'r' if stagger > 0 else 'l'}_pitch": 10 + 70 * abs(stagger)}
    person.settle(down, {**trunk, **arms})
    person.move(1.05 * down, {"drop": drop, "forward": -0.17 + 0.1 * bent_knees, **heel})
    person.wait(1.08 * down)
    held = SIDES if both else side
    for one in held:
        person.move(0.25, on(one, {"curl": 45.0}))
    person.wait(dice.uniform(0.15, 0.6))
    carry = person.arms_of("carrying in front" if both else "holding at belly")
    person.settle(1.05 * up, {k: v for k, v in carry.items() if k[0] in held})
    person.move(up, {"drop": style.drop, "forward": 0.0, "pitch": 0.0})
    person.wait(1.1 * up + dice.uniform(0.1, 1.0))
    person.settle(0.8 * style.tempo)
    person.wait(0.6 * style.tempo)


def _seated_arms(person: Performer) -> dict[str, float]:
    return person.arms_of(person.dice.weighted(_SEATED_ARMS), person.dice.chance(0.5))


def _rising_arms(person: Performer, lean: float) -> dict[str, float]:
    """Arms of a person who sits down or stands up: on the knees, or hanging."""
    posture = "on knees" if person.dice.chance(0.45) else "hanging bent"
    return _lifted(person.arms_of(posture), lean + 12)


def _lifted(arms: dict[str, float], lean: float) -> dict[str, float]:
    """Arms that hang or rest before an upright trunk, for one that leans ahead by ``lean`` and takes them along."""
    result = dict(arms)
    for side in SIDES:
        result[f"{side}_elevation"] += 0.85 * max(lean - 6.0, 0.0)
        result[f"{side}_plane"] = max(result[f"{side}_plane"], 58.0)
    return result


def _arms_over_knees(person: Performer, lean: float) -> dict[str, float]:
    """Arms of a person who crouches: each over its knee, or reaching for something ahead or low."""
    dice = person.dice
    result: dict[str, float] = {}
    for side in SIDES:
        far = dice.chance(0.4)
        result |= on(side, {
            "elevation": min(lean + dice.uniform(24.0, 46.0), 125.0), "plane": dice.uniform(64.0, 88.0),
            "axial": dice.uniform(0.0, 30.0), "elbow": dice.uniform(6.0, 30.0) if far else dice.uniform(30.0, 75.0),
            "curl": dice.uniform(0.0, 30.0), "pronation": dice.uniform(-10.0, 40.0),
        })  # fmt: skip
    return result


def _pass_time_seated(person: Performer) -> None:
    """Something small that people do while they sit; time goes on."""
    dice, style = person.dice, person.style
    length = style.tempo * dice.uniform(0.6, 1.2)
    what = dice.weighted({"look": 3.0, "arms": 2.5, "lean": 2.0, "foot": 1.0, "knees": 0.8})
    if what == "look":
        look_about(person, 0.7 * length)
    elif what == "arms":
        person.move(length, _seated_arms(person))
    elif what == "lean":
        trunk = {
            "root_pitch": dice.uniform(-16.0, 26.0),
            "bend": dice.uniform(4.0, 24.0),
            "side": dice.uniform(-8.0, 8.0),
        }
        lean = trunk["root_pitch"] + trunk["bend"]
        arms = _lifted(person.arms_of("on knees"), lean) if lean > 14 else {}
        person.move(1.2 * length, {**trunk, **arms})
    elif what == "knees":
        person.move(length, {"knee_out": dice.uniform(-8.0, 18.0)})
    else:
        side = dice.pick(SIDES)
        # Only the foot moves: the body stays on the seat.
        way = Step(0.5 * length, length, height=0.03, heel_off=12.0, kick_up=6.0, roll_off=0.2 * length, follow=False)
        person.step(side, person.shifted(person.feet[side], dice.uniform(-0.07, 0.1), 0.0), person.heading, way)
    person.wait(length * dice.uniform(0.9, 1.5))
