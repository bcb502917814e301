"""What people wear and look like: skin, face, hair, clothes, shoes.

Everything is defined on the T-pose of the template (x to the left hand, y up, z to the front, metres), so that it
follows the body. Colours are a function of the T-pose position and are evaluated at every pixel of the person: hems,
stripes and eyes are sharp whatever the resolution of the mesh. Loose clothes and hair also move the surface outwards.

The body needs no labels: heights and lengths come from its joints and landmarks, so any SMPL-format body is dressed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from diffhmr.body.joints import SMPL24
from diffhmr.body.model import BodyModel
from diffhmr.datasets.painting.dice import Colour, Dice

CLOTHES_NUMBERS = 160

_SKIN = (
    (0.97, 0.83, 0.74),
    (0.93, 0.76, 0.65),
    (0.87, 0.67, 0.54),
    (0.78, 0.57, 0.43),
    (0.66, 0.46, 0.33),
    (0.52, 0.35, 0.25),
    (0.39, 0.26, 0.19),
    (0.27, 0.18, 0.14),
)
_HAIR = (
    (0.06, 0.05, 0.05),
    (0.14, 0.09, 0.07),
    (0.27, 0.17, 0.11),
    (0.42, 0.26, 0.14),
    (0.62, 0.46, 0.26),
    (0.82, 0.70, 0.45),
    (0.55, 0.53, 0.51),
    (0.85, 0.84, 0.82),
    (0.45, 0.16, 0.08),
)
_DENIM = (0.20, 0.28, 0.45)


@dataclass(frozen=True)
class BodyMap:
    """Where things are on the template, in metres of its T-pose."""

    eye_x: float
    eye_y: float
    eye_z: float
    nose_y: float
    ear_y: float
    ear_z: float
    top_y: float
    chin_y: float
    shoulder_x: float
    shoulder_y: float
    wrist_x: float
    neck_y: float
    hip_y: float
    waist_y: float
    knee_y: float
    ankle_y: float

    @classmethod
    def of(cls, body: BodyModel) -> BodyMap:
        """Measure the template of ``body``."""
        joints = body.rest_joints.unflatten(-1, (-1, 3))
        template = body.v_template.unflatten(-1, (3, -1)).T

        def joint(name: str, axis: int) -> float:
            return (
                abs(float(joints[SMPL24.joint_names.index(name), axis]))
                if axis == 0
                else float(joints[SMPL24.joint_names.index(name), axis])
            )

        def landmark(name: str, axis: int) -> float:
            return float(template[body.landmarks[name], axis])

        nose_y, eye_y = landmark("nose", 1), landmark("left_eye", 1)
        return cls(
            eye_x=abs(landmark("left_eye", 0)),
            eye_y=eye_y,
            eye_z=landmark("left_eye", 2),
            nose_y=nose_y,
            ear_y=landmark("left_ear", 1),
            ear_z=landmark("left_ear", 2),
            top_y=float(template[:, 1].max()),
            chin_y=nose_y - 1.75 * (eye_y - nose_y),
            shoulder_x=joint("left_shoulder", 0),
            shoulder_y=joint("left_shoulder", 1),
            wrist_x=joint("left_wrist", 0),
            neck_y=joint("neck", 1),
            hip_y=joint("left_hip", 1),
            waist_y=joint("spine1", 1),
            knee_y=joint("left_knee", 1),
            ankle_y=joint("left_ankle", 1),
        )


@dataclass(frozen=True)
class Fabric:
    """Two colours and how they are spread over the body."""

    first: Colour
    second: Colour
    pattern: str
    direction: tuple[float, float, float]
    frequency: float  # radians per metre
    phase: float
    share: float  # of the second colour, roughly


@dataclass(frozen=True)
class Appearance:
    """One person's look. Positions are those of the T-pose; ``loose`` is how far cloth hangs off the skin. Metres."""

    skin: Colour
    lips: Colour
    hair: Colour
    hair_style: str  # bald, short, long, cap
    hair_length: float
    hair_volume: float
    beard: bool
    upper: Fabric | None
    print_front: Fabric | None
    print_back: Fabric | None
    opening: Colour | None  # an open jacket shows this at the front
    opening_width: float
    sleeve_x: float
    hem_y: float
    neckline_y: float
    neckline_slope: float
    upper_loose: float
    lower: Fabric
    leg_y: float
    waist_y: float
    lower_loose: float
    shoes: Colour | None
    sole: Colour
    sock_y: float
    socks: Colour
    gloves: Colour | None
    folds: float  # depth of the darker and lighter folds of the cloth
    fold_phase: float


def draw_appearance(dice: Dice, where: BodyMap) -> Appearance:
    """Choose the look of one person."""
    tone = dice.unit() * (len(_SKIN) - 1)
    low = min(int(tone), len(_SKIN) - 2)
    skin = dice.near(_mix(_SKIN[low], _SKIN[low + 1], tone - low), 0.04)
    hair = dice.near(dice.pick(_HAIR), 0.05) if dice.chance(0.93) else dice.colour()
    hair_style = dice.pick(("short", "short", "short", "long", "long", "cap", "bald"))
    bare = dice.chance(0.05)
    dress, suit = dice.chance(0.1), dice.chance(0.12)
    upper = None if bare else _fabric(dice, dice.colour())
    lower = _fabric(dice, dice.near(_DENIM, 0.1) if dice.chance(0.3) else dice.colour(), plain=0.75)
    if suit and upper is not None:
        lower = upper
    arm = where.wrist_x - where.shoulder_x
    sleeve = dice.pick((-0.12, 0.35, 0.42, 0.5, 0.75, 0.93, 0.97, 1.0)) + dice.uniform(-0.05, 0.05)
    leg = where.hip_y - where.ankle_y
    long_legs = dice.chance(0.62)
    trousers = dice.uniform(0.85, 1.02) if long_legs else dice.uniform(0.12, 0.6)
    hem = where.hip_y + dice.uniform(-0.1, 0.09)
    if dress:
        hem = where.hip_y - leg * dice.uniform(0.2, 0.55)
    shoes = None if dice.chance(0.12) else dice.colour()
    return Appearance(
        skin=skin,
        lips=_mix(skin, (0.55, 0.15, 0.15), dice.uniform(0.2, 0.7)),
        hair=dice.colour() if hair_style == "cap" else hair,
        hair_style=hair_style,
        hair_length=dice.uniform(0.02, 0.3) if hair_style == "long" else 0.0,
        hair_volume=0.0 if hair_style == "bald" else dice.uniform(0.004, 0.03),
        beard=dice.chance(0.15),
        upper=upper,
        print_front=_fabric(dice, dice.colour()) if dice.chance(0.3) else None,
        print_back=_fabric(dice, dice.colour()) if dice.chance(0.12) else None,
        opening=dice.colour() if dice.chance(0.25) else None,
        opening_width=dice.uniform(0.008, 0.07),
        sleeve_x=where.shoulder_x + arm * sleeve,
        hem_y=hem,
        neckline_y=where.neck_y - dice.uniform(-0.03, 0.12),
        neckline_slope=dice.spread(1.0, 4.0),
        upper_loose=0.002 + 0.028 * dice.unit() ** 2,
        lower=lower,
        leg_y=where.hip_y - leg * trousers,
        waist_y=where.hip_y + dice.uniform(0.04, 0.13),
        lower_loose=0.002 + 0.03 * dice.unit() ** 2,
        shoes=shoes,
        sole=dice.colour(),
        sock_y=where.ankle_y + (0.0 if dice.chance(0.4) else dice.uniform(0.02, 0.3)),
        socks=dice.colour(),
        gloves=dice.colour() if dice.chance(0.05) else None,
        folds=dice.uniform(0.0, 0.16),
        fold_phase=dice.uniform(0, 2 * math.pi),
    )


def thickness(looks: list[Appearance], rest: Tensor, where: BodyMap) -> Tensor:
    """How far clothes and hair lie outside the skin: ``[B, M]`` metres for the T-pose vertices ``rest [3, M]``."""
    x, y, z = rest[0].abs(), rest[1], rest[2]

    def column(name: str) -> Tensor:
        return rest.new_tensor([[float(getattr(look, name))] for look in looks])

    below_neck = y < (column("neckline_y") + column("neckline_slope") * x).clamp_max(where.chin_y - 0.015)
    dressed = rest.new_tensor([[float(look.upper is not None)] for look in looks])
    upper = (x < column("sleeve_x")) & (y > column("hem_y")) & below_neck
    lower = (y < column("waist_y")) & (y > column("leg_y"))
    hair = (y > _hairline(where, z)) & (y > where.chin_y)
    behind = (z < where.ear_z) & (y > where.neck_y - column("hair_length")) & (column("hair_length") > 0)
    mane = behind & (x < 0.09) & (y > where.hip_y)
    shoes = y < where.ankle_y
    shod = rest.new_tensor([[0.006 * float(look.shoes is not None)] for look in looks])
    cloth = torch.maximum(upper * dressed * column("upper_loose"), lower * column("lower_loose"))
    return torch.maximum(cloth, (hair | mane) * column("hair_volume")) + shoes * shod


def paint(look: Appearance, where: BodyMap, rest: Tensor, facing: Tensor) -> Tensor:
    """Colours of one person.

    Args:
        look: what the person wears.
        where: the measures of the body.
        rest: ``[3, N]`` T-pose positions of the visible points.
        facing: ``[N]`` z of the T-pose normals: positive on the front of the body.

    Returns:
        ``[3, N]`` RGB of the surface, before light.
    """
    x, y, z = rest.unbind(0)
    side = x.abs()
    canvas = _Canvas(look.skin, rest)
    # The arms of the T-pose are above all this, so heights alone tell the legs.
    canvas.fabric((y < look.waist_y) & (y > look.leg_y), look.lower)
    if look.sock_y > where.ankle_y:
        canvas.fill((y < look.sock_y) & (y < look.leg_y), look.socks)
    if look.shoes is not None:
        shoe_y = where.ankle_y + 0.005
        canvas.fill(y < shoe_y, look.shoes)
        canvas.fill(y < where.ankle_y - 0.055, look.sole)
    if look.gloves is not None:
        canvas.fill(side > where.wrist_x - 0.02, look.gloves)
    if look.upper is not None:
        # A V at the front, hardly below the nape at the back, above everything at the shoulders.
        lowest = torch.where(facing > 0, look.neckline_y, max(look.neckline_y, where.neck_y - 0.02))
        neckline = (lowest + look.neckline_slope * side).clamp_max(where.chin_y - 0.015)
        upper = (side < look.sleeve_x) & (y > look.hem_y) & (y < neckline)
        _dress(canvas, look, where, upper, facing)
    if look.folds:
        fold = torch.sin(9 * x + 23 * y + look.fold_phase) * torch.sin(31 * x - 8 * y + 17 * z + look.fold_phase)
        canvas.scale(1 + look.folds * fold)
    _head(canvas, look, where)
    return canvas.colour


def _dress(canvas: _Canvas, look: Appearance, where: BodyMap, upper: Tensor, facing: Tensor) -> None:
    """The upper garment with prints on chest and back, and what an open jacket shows."""
    assert look.upper is not None
    side, y = canvas.rest[0].abs(), canvas.rest[1]
    canvas.fabric(upper, look.upper)
    chest = upper & (side < 0.09) & (y < where.shoulder_y - 0.06) & (y > where.waist_y + 0.06)
    if look.print_front is not None:
        canvas.fabric(chest & (facing > 0.2), look.print_front)
    if look.print_back is not None:
        canvas.fabric(chest & (facing < -0.2), look.print_back)
    if look.opening is not None:
        canvas.fill(upper & (side < look.opening_width) & (facing > 0.2), look.opening)


def _head(canvas: _Canvas, look: Appearance, where: BodyMap) -> None:
    """Face and hair. Eyes, brows and mouth are larger than life, so that they survive at a few pixels."""
    _, y, z = canvas.rest.unbind(0)
    inside = (y > where.chin_y - 0.3).nonzero().squeeze(1)
    part = _Canvas(look.skin, canvas.rest[:, inside], canvas.colour[:, inside])
    x, y, z = part.rest.unbind(0)
    side, face = x.abs(), z > where.ear_z + 0.03
    head = (y > where.chin_y) & (side < where.shoulder_x * 0.7)
    if look.beard:
        part.fill(head & face & (y < where.nose_y - 0.012) & (side < 0.075), look.hair)
    across, up = (side - where.eye_x) / 0.019, (y - where.eye_y) / 0.012
    part.fill(face & (across * across + up * up < 1), (0.93, 0.92, 0.9))
    across, up = (side - where.eye_x) / 0.010, (y - where.eye_y) / 0.012
    part.fill(face & (across * across + up * up < 1), (0.08, 0.06, 0.05))
    across, up = (side - where.eye_x) / 0.026, (y - where.eye_y - 0.024) / 0.007
    part.fill(face & (across * across + up * up < 1), _mix(look.hair, (0.08, 0.06, 0.05), 0.4))
    across, up = side / 0.032, (y - where.nose_y + 0.035) / 0.011
    part.fill(face & (across * across + up * up < 1), look.lips)
    part.fill(face & (side < 0.016) & ((y - where.nose_y + 0.016).abs() < 0.005), _mix(look.skin, (0, 0, 0), 0.45))
    if look.hair_style != "bald":
        part.fill(head & (y > _hairline(where, z)), look.hair)
        tail = (z < where.ear_z) & (side < 0.09) & (y > where.neck_y - look.hair_length)
        if look.hair_length:
            part.fill(tail, look.hair)
            part.fill(head & (z < where.ear_z + 0.035) & (side > 0.05), look.hair)
    canvas.colour[:, inside] = part.colour


class _Canvas:
    """Colours ``[3, N]`` of the points ``rest [3, N]``, painted layer by layer."""

    def __init__(self, base: Colour, rest: Tensor, colour: Tensor | None = None) -> None:
        self.rest = rest
        self.colour = rest.new_tensor(base)[:, None].repeat(1, rest.shape[1]) if colour is None else colour

    def fill(self, mask: Tensor, colour: Colour) -> None:
        """Paint ``mask [N]`` in one colour."""
        self.colour = torch.where(mask, self.rest.new_tensor(colour)[:, None], self.colour)

    def fabric(self, mask: Tensor, fabric: Fabric) -> None:
        """Paint ``mask [N]`` with cloth."""
        if fabric.pattern == "plain":
            self.fill(mask, fabric.first)
            return
        blend = _pattern(fabric, self.rest)
        first, second = (self.rest.new_tensor(value)[:, None] for value in (fabric.first, fabric.second))
        self.colour = torch.where(mask, first + blend * (second - first), self.colour)

    def scale(self, factor: Tensor) -> None:
        """Make points ``factor [N]`` times as bright."""
        self.colour = self.colour * factor


def _hairline(where: BodyMap, z: Tensor) -> Tensor:
    """Lower edge of the hair (T-pose y): from above the brows down to the nape."""
    front_z, front_y = where.eye_z, where.eye_y + 0.55 * (where.top_y - where.eye_y)
    back_z, back_y = where.ear_z - 0.06, where.ear_y - 0.06
    slope = (front_y - back_y) / (front_z - back_z)
    return (back_y + slope * (z - back_z)).clamp_min(back_y)


def _fabric(dice: Dice, first: Colour, plain: float = 0.4) -> Fabric:
    pattern = dice.pick(("stripes", "stripes", "checks", "blobs", "gradient", "mottled"))
    if dice.chance(plain):
        pattern = "plain"
    axis = dice.pick(((0.0, 1.0, 0.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.7, 0.7, 0.0), (-0.6, 0.6, 0.5)))
    return Fabric(
        first=first,
        second=dice.colour() if dice.chance(0.7) else dice.near(first, 0.25),
        pattern=pattern,
        direction=axis,
        frequency=2 * math.pi / dice.spread(0.03, 0.25),
        phase=dice.uniform(0, 2 * math.pi),
        share=dice.uniform(-0.6, 0.6),
    )


def _pattern(fabric: Fabric, rest: Tensor) -> Tensor:
    """Share of the second colour ``[N]`` at T-pose positions ``[3, N]``."""
    x, y, z = rest.unbind(0)
    a, b, c = fabric.direction
    along = (a * x + b * y + c * z) * fabric.frequency + fabric.phase
    if fabric.pattern == "gradient":
        return (0.5 + along / (4 * math.pi) - math.floor(fabric.phase / (4 * math.pi))).clamp(0, 1)
    wave = torch.sin(along)
    if fabric.pattern == "stripes":
        return (wave > fabric.share).to(rest.dtype)
    across = torch.sin((b * x - a * y + (1 - c) * z) * fabric.frequency + fabric.phase)
    if fabric.pattern == "checks":
        return ((wave > 0) ^ (across > 0)).to(rest.dtype)
    third = torch.sin((x + z) * (1.3 * fabric.frequency) - along * 0.7)
    if fabric.pattern == "blobs":
        return (wave * across + third * 0.5 > fabric.share).to(rest.dtype)
    return (0.5 + 0.25 * (wave * across + third)).clamp(0, 1)


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue
