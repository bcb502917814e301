"""One person who performs: their way of moving, where their feet are, and the movements activities are made of."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from diffhmr.body.anatomy import DOFS, LEFT_ARM
from diffhmr.body.base_poses import ARMS
from diffhmr.motion.acting.score import CHANNEL, CHANNELS, UPPER, Activity, Score, Targets
from diffhmr.motion.acting.ways import Gait, Spot, Step
from diffhmr.random import Dice

SIDES = "lr"
_STAND_DROP = 0.012
_LEAST_ELEVATION = 9.0
_NEUTRAL = {dof.name: dof.neutral for dof in DOFS}
_SPREAD = {dof.name: dof.spread for dof in DOFS}
_EASE_SPREAD = {"root_roll": 0.2, "side": 0.4, "tilt": 0.5, "turn": 0.15, "twist": 0.2, "root_spin": 0.0}
_HANDS_FREE = {posture.name: posture for posture in ARMS}


def other(side: str) -> str:
    """The other side."""
    return "r" if side == "l" else "l"


def sign(side: str) -> float:
    """1 for the left side, -1 for the right."""
    return 1.0 if side == "l" else -1.0


def on(side: str, targets: dict[str, float]) -> dict[str, float]:
    """Targets with names without a side, for ``side``."""
    return {f"{side}_{name}": value for name, value in targets.items()}


@dataclass(frozen=True)
class Style:
    """How a person moves, whatever they do.

    Attributes:
        ease: angles of the upper body at ease, degrees.
        tempo: factor on durations.
        energy: factor on amplitudes.
        swing: factor on the swing of the left and the right arm.
        half_width: half the distance of the ankles from side to side, metres.
        toe_out: of the feet, degrees.
        knee_out: of the knees relative to the feet, degrees.
        step_length: factor on the usual step.
        drop: how far the knees are bent in standing, metres.
        wander: factor on slow involuntary variation.
    """

    ease: dict[str, float]
    tempo: float
    energy: float
    swing: tuple[float, float]
    half_width: float
    toe_out: float
    knee_out: float
    step_length: float
    drop: float
    wander: float


def draw_style(dice: Dice) -> Style:
    """A random person."""

    def about(deviation: float) -> float:
        # The sum of three uniform numbers: bell-shaped, never far out.
        return deviation * (dice.unit() + dice.unit() + dice.unit() - 1.5) * 2

    ease = {}
    for name in UPPER:
        ease[name] = _NEUTRAL[name] + about(_EASE_SPREAD.get(name, 0.6) * _SPREAD[name])
    for name in ("elevation", "plane", "elbow", "axial", "pronation", "wrist_flex", "curl", "shrug", "protract"):
        # Most of what is peculiar about arms holds for both of them.
        shared = about(0.5 * _SPREAD[f"l_{name}"])
        for side in SIDES:
            ease[f"{side}_{name}"] += shared
    for side in SIDES:
        # Arms hang beside the thighs, not in them.
        ease[f"{side}_elevation"] = max(ease[f"{side}_elevation"], _LEAST_ELEVATION)
    swing = float(np.exp(about(0.3)))
    return Style(
        ease=ease,
        tempo=float(np.exp(about(0.13))),
        energy=float(np.exp(about(0.14))),
        swing=(swing * dice.uniform(0.85, 1.15), swing * dice.uniform(0.85, 1.15)),
        half_width=dice.uniform(0.07, 0.115),
        toe_out=dice.uniform(2.0, 14.0),
        knee_out=about(4.0),
        step_length=float(np.exp(about(0.09))),
        drop=_STAND_DROP + dice.uniform(0.0, 0.012),
        wander=dice.uniform(0.6, 1.4),
    )


class Performer:
    """Writes the score of one person.

    Activities call its methods one after the other; :attr:`now` is the time up to which the score is written.

    Attributes:
        score: what was written.
        dice: random choices.
        style: how the person moves.
        now: seconds.
        heading: direction of the body over its feet, degrees, to the left positive.
        feet: where each foot stands or is about to stand.
        stepping: the foot of the last stride and its gait while the person is on the way, None when standing.
    """

    def __init__(self, dice: Dice) -> None:
        self.dice = dice
        self.style = draw_style(dice)
        self.now = 0.0
        self.heading = dice.uniform(-180.0, 180.0)
        self.feet = {side: self.spot(side, (0.0, 0.0), self.heading) for side in SIDES}
        self.stepping: tuple[str, Gait] | None = None
        initial = [0.0] * len(CHANNELS)
        for name, value in self.style.ease.items():
            initial[CHANNEL[name]] = value
        for name, value in {**self._support(), "drop": self.style.drop}.items():
            initial[CHANNEL[name]] = value
        for side, foot in self.feet.items():
            for name, value in on(side, {"x": foot.x, "z": foot.z, "yaw": foot.yaw}).items():
                initial[CHANNEL[name]] = value
            initial[CHANNEL[f"{side}_knee_out"]] = self.style.knee_out
        self.score = Score(initial)

    def begin(self, activity: Activity) -> None:
        """From now on the person does ``activity``."""
        if not self.score.labels or self.score.labels[-1][1] != activity:
            self.score.labels.append((self.now, activity))

    def wait(self, duration: float) -> None:
        """Nothing new for ``duration`` seconds."""
        self.now += duration

    def move(self, duration: float, targets: Targets, delay: float = 0.0) -> None:
        """Channels go to ``targets`` from ``delay`` seconds after now on; time does not go on."""
        self.score.move(self.now + delay, duration, targets)

    def settle(self, duration: float, targets: Targets | None = None, delay: float = 0.0) -> None:
        """The whole upper body goes to the posture at ease but for ``targets``; the parts not quite in step."""
        goal: dict[str, float] = {**self.style.ease, "l_swing": 0.0, "r_swing": 0.0}
        for name, value in (targets or {}).items():
            if name in CHANNEL:
                assert not isinstance(value, tuple), name
                goal[name] = value
            else:
                goal[f"l_{name}"], goal[f"r_{name}"] = value if isinstance(value, tuple) else (value, value)
        for part in ("trunk", "l", "r"):
            names = [name for name in goal if (name[0] if name[1] == "_" else "trunk") == part]
            late = duration * self.dice.uniform(0.0, 0.12)
            self.move(duration * self.dice.uniform(0.84, 0.98), {name: goal[name] for name in names}, delay + late)

    def about(self, value: float, share: float = 0.15) -> float:
        """``value`` up to ``share`` more or less."""
        return value * self.dice.uniform(1 - share, 1 + share)

    def arms_of(self, name: str, mirrored: bool = False, spread: float = 0.7) -> dict[str, float]:
        """Angles of both arms in the arm posture ``name`` of ``base_poses``, varied."""
        goal = {}
        angles = _HANDS_FREE[name].angles
        for side in SIDES:
            for dof in DOFS[LEFT_ARM]:
                joint = dof.name[2:]
                value = angles.get(joint, dof.neutral)
                if isinstance(value, tuple):
                    value = value[(side == "r") != mirrored]
                goal[f"{side}_{joint}"] = value + spread * dof.spread * self.dice.uniform(-1.0, 1.0)
        return goal

    def spot(
        self, side: str, base: tuple[float, float], heading: float, ahead: float = 0.0, wider: float = 0.0
    ) -> Spot:
        """Where the foot stands if the body is over ``base`` (x, z) and faces ``heading``."""
        out = sign(side) * (self.style.half_width + wider)
        sine, cosine = np.sin(np.deg2rad(heading)), np.cos(np.deg2rad(heading))
        x, z = base[0] + out * cosine + ahead * sine, base[1] - out * sine + ahead * cosine
        return Spot(float(x), float(z), heading + sign(side) * self.style.toe_out)

    @property
    def base(self) -> tuple[float, float]:
        """The point (x, z) between the feet."""
        left, right = self.feet["l"], self.feet["r"]
        return (left.x + right.x) / 2, (left.z + right.z) / 2

    def shifted(self, spot: Spot, ahead: float, left: float) -> Spot:
        """``spot`` moved in the directions of the body."""
        sine, cosine = np.sin(np.deg2rad(self.heading)), np.cos(np.deg2rad(self.heading))
        x, z = spot.x + ahead * sine + left * cosine, spot.z + ahead * cosine - left * sine
        return replace(spot, x=float(x), z=float(z))

    def step(self, side: str, spot: Spot, heading: float, way: Step, delay: float = 0.0) -> None:
        """The foot goes to ``spot`` and the body after it, from ``delay`` seconds after now on; time does not go on."""
        lift = self.now + delay
        land = lift + way.swing
        score = self.score
        score.airborne.append((SIDES.index(side), lift, land))
        score.move(lift, way.swing, on(side, {"x": spot.x, "z": spot.z, "yaw": spot.yaw}))
        rise = 0.4 * way.swing
        score.move(lift, rise, on(side, {"lift": way.height}))
        score.move(lift + rise, way.swing - rise, on(side, {"lift": 0.0}))
        score.move(lift - way.roll_off, way.roll_off + 0.1 * way.swing, on(side, {"pitch": way.heel_off}))
        score.move(lift, 0.4 * way.swing, on(side, {"pitch": way.kick_up}))
        score.move(lift + 0.25 * way.swing, 0.72 * way.swing, on(side, {"pitch": -way.heel_strike}))
        if way.heel_strike > 0:
            score.move(land, min(0.12, 0.35 * way.period), on(side, {"pitch": 0.0}))
        score.move(lift, 0.35 * way.swing, on(side, {"free": way.free}))
        score.move(land - 0.35 * way.swing, 0.35 * way.swing, on(side, {"free": 0.0}))
        self.feet[side] = spot
        self.heading = heading
        # In step with the feet the body is over their middle half way from one stance to the next.
        middle = lift + way.swing / 2
        if way.follow:
            score.move(middle - way.period, 2 * way.period, self._support())

    def stance(self, spots: dict[str, Spot], heading: float, tempo: float = 1.0) -> None:
        """Feet that are not where ``spots`` wants them go there, one after the other; time goes on."""

        def off(side: str) -> float:
            old, new = self.feet[side], spots[side]
            return float(np.hypot(old.x - new.x, old.z - new.z) + 0.002 * abs(old.yaw - new.yaw))

        for side in sorted(SIDES, key=off, reverse=True):
            if off(side) < 0.025:
                continue
            duration = self.style.tempo * tempo * self.dice.uniform(0.5, 0.62)
            way = Step(swing=0.6 * duration, period=duration, height=0.025 + 0.12 * min(off(side), 0.4),
                       heel_off=12 + 25 * min(off(side), 0.5), kick_up=8.0)  # fmt: skip
            self.shift(-0.55 * sign(side), 0.55 * duration)
            self.step(side, spots[side], heading, way, delay=0.32 * duration)
            self.wait(0.92 * duration)
        self.heading = heading

    def even_stance(self, wider: float = 0.0, stagger: float = 0.0, toe_out: float = 0.0) -> dict[str, Spot]:
        """Spots side by side around the present base; ``stagger``: the left foot ahead, metres."""
        spots = {s: self.spot(s, self.base, self.heading, sign(s) * stagger / 2, wider) for s in SIDES}
        return {side: replace(spot, yaw=spot.yaw + sign(side) * toe_out) for side, spot in spots.items()}

    def shift(self, weight: float, duration: float, delay: float = 0.0) -> None:
        """The weight goes over to the left (1) or right (-1) foot, the free hip sinks a little."""
        roll = -2.5 * weight * self.style.energy
        self.move(duration, {"weight": weight, "root_roll": roll, "side": -0.8 * roll}, delay)

    def centre(self, duration: float, delay: float = 0.0) -> None:
        """The body comes over the middle of the feet."""
        self.move(duration, {**self._support(), "forward": 0.0, "sideways": 0.0, "weight": 0.0}, delay)

    def centre_to_feet(self, start: float, duration: float) -> None:
        """The base follows the feet from ``start`` on; where the pelvis is over it does not change."""
        self.score.move(start, duration, self._support())

    def _support(self) -> dict[str, float]:
        """Targets of the body over its feet."""
        left, right = self.feet["l"], self.feet["r"]
        x, z = self.base
        span = {"span_x": (left.x - right.x) / 2, "span_z": (left.z - right.z) / 2}
        return {"base_x": x, "base_z": z, "heading": self.heading, **span}
