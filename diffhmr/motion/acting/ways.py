"""Ways of going: where a foot stands, how it gets to its next place, and how steps follow each other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Spot:
    """Where a foot stands: place of the ankle over the floor (metres) and direction of the toes (degrees)."""

    x: float
    z: float
    yaw: float


@dataclass(frozen=True)
class Step:
    """How a foot goes to its next place.

    Attributes:
        swing: seconds in the air.
        period: seconds from step to step; the body takes twice as long to follow.
        height: of the sole in the air, metres.
        heel_off: pitch of the foot when it leaves the floor, degrees.
        kick_up: pitch at the height of the swing, degrees.
        heel_strike: toes up when it lands, degrees.
        roll_off: seconds from the first rise of the heel to leaving the floor.
        free: how far the leg is released from reaching the floor in the air, 0 to 1.
        follow: whether the body comes along.
    """

    swing: float
    period: float
    height: float = 0.05
    heel_off: float = 18.0
    kick_up: float = 12.0
    heel_strike: float = 0.0
    roll_off: float = 0.2
    free: float = 0.3
    follow: bool = True


@dataclass(frozen=True)
class Gait:
    """One way of walking or running, drawn anew every time.

    Attributes:
        length: from one foot's place to the next foot's, metres; negative backwards.
        period: seconds from step to step.
        contact: share of two periods that a foot is on the floor; below 0.5 there is flight.
        arms: how far the arms swing ahead and back, degrees.
        arm_base: angles of the arms about which they swing.
        lean: of the trunk ahead, degrees.
        turn: of the pelvis with each step, degrees.
        height: of the foot in the air, metres.
        drop: of the pelvis besides what the legs need, metres.
        heel_off, kick_up, heel_strike: see :class:`Step`.
        carried: angles of arms that do something else.
    """

    length: float
    period: float
    contact: float
    arms: float
    arm_base: dict[str, float]
    lean: float
    turn: float
    height: float
    drop: float
    heel_off: float
    kick_up: float
    heel_strike: float
    carried: dict[str, float]

    @property
    def swing(self) -> float:
        """Seconds that a foot is in the air."""
        return 2 * self.period * (1 - self.contact)
