"""Clothes on the T-pose: what is where, and that looks differ."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from diffhmr.body.model import BodyModel
from diffhmr.datasets.painting.appearance import (
    CLOTHES_NUMBERS,
    Appearance,
    BodyMap,
    Fabric,
    draw_appearance,
    paint,
    thickness,
)
from diffhmr.datasets.painting.dice import LookStream, cast
from diffhmr.render.shade import vertex_normals

RED, GREEN, BLUE, WHITE, BLACK = (0.9, 0.1, 0.1), (0.1, 0.8, 0.1), (0.1, 0.1, 0.9), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
SKIN = (0.8, 0.6, 0.5)


def plain(colour: tuple[float, float, float]) -> Fabric:
    return Fabric(colour, WHITE, "plain", (0.0, 1.0, 0.0), 100.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def where(free_body: BodyModel) -> BodyMap:
    return BodyMap.of(free_body)


@pytest.fixture(scope="module")
def rest(free_body: BodyModel) -> Tensor:
    return free_body.v_template.unflatten(-1, (3, -1))


@pytest.fixture(scope="module")
def facing(free_body: BodyModel, rest: Tensor) -> Tensor:
    return vertex_normals(rest.T, free_body.faces)[:, 2]


@pytest.fixture(scope="module")
def look(where: BodyMap) -> Appearance:
    """Red T-shirt, blue shorts, black shoes, green hair."""
    drawn = draw_appearance(cast(np.array([1]), LookStream.CLOTHES, CLOTHES_NUMBERS)[0], where)
    return replace(
        drawn, skin=SKIN, upper=plain(RED), lower=plain(BLUE), shoes=BLACK, sole=BLACK, hair=GREEN, hair_style="short",
        hair_length=0.0, beard=False, print_front=None, print_back=None, opening=None, gloves=None, folds=0.0,
        sleeve_x=(where.shoulder_x + where.wrist_x) / 2, hem_y=where.hip_y, neckline_y=where.neck_y - 0.03,
        neckline_slope=2.0, leg_y=(where.hip_y + where.knee_y) / 2, waist_y=where.hip_y + 0.05, sock_y=where.ankle_y,
    )  # fmt: skip


def colour_at(body: BodyModel, colours: Tensor, landmark: str) -> Tensor:
    return colours[:, body.landmarks[landmark]]


def test_measures_are_in_the_order_of_a_body(where: BodyMap) -> None:
    assert where.ankle_y < where.knee_y < where.hip_y < where.waist_y < where.shoulder_y < where.neck_y
    assert where.neck_y < where.chin_y < where.nose_y < where.eye_y < where.top_y
    assert 0 < where.shoulder_x < where.wrist_x and 0 < where.eye_x < 0.05 and where.eye_z > where.ear_z


def test_garments_are_where_they_belong(
    free_body: BodyModel, look: Appearance, where: BodyMap, rest: Tensor, facing: Tensor
) -> None:
    colours = paint(look, where, rest, facing)
    x, y, _ = rest
    chest = (x.abs() < 0.08) & (y > where.waist_y) & (y < where.shoulder_y - 0.05)
    upper_arm = (y > where.waist_y) & (x.abs() > where.shoulder_x) & (x.abs() < where.shoulder_x + 0.15)
    forearm = (x.abs() > where.wrist_x - 0.15) & (x.abs() < where.wrist_x)
    thigh = (y < where.hip_y - 0.05) & (y > where.hip_y - 0.12) & (x.abs() < 0.3)
    shin = (y < where.knee_y - 0.1) & (y > where.ankle_y + 0.1)
    foot = y < where.ankle_y - 0.01
    for mask, colour in ((chest, RED), (upper_arm, RED), (forearm, SKIN), (thigh, BLUE), (shin, SKIN), (foot, BLACK)):
        assert int(mask.sum()) > 20
        assert torch.allclose(colours[:, mask], torch.tensor(colour)[:, None]), colour
    assert torch.allclose(colour_at(free_body, colours, "head_top"), torch.tensor(GREEN))
    assert torch.allclose(colour_at(free_body, colours, "left_index_tip"), torch.tensor(SKIN))
    assert torch.allclose(colour_at(free_body, colours, "nose"), torch.tensor(SKIN))


def test_the_face_is_in_front_and_hair_behind(look: Appearance, where: BodyMap, rest: Tensor, facing: Tensor) -> None:
    colours = paint(look, where, rest, facing)
    x, y, z = rest
    head = (y > where.nose_y - 0.02) & (x.abs() < 0.1)
    back, front = head & (z < where.ear_z - 0.03), head & (z > where.ear_z + 0.06) & (y < where.eye_y + 0.03)
    is_hair = (colours - torch.tensor(GREEN)[:, None]).abs().amax(0) < 1e-6
    assert float(is_hair[back].float().mean()) > 0.9 and float(is_hair[front].float().mean()) < 0.05
    eye = torch.tensor([[where.eye_x], [where.eye_y], [where.eye_z]])
    assert float(paint(look, where, eye, torch.ones(1)).max()) < 0.15, "pupils are dark"
    behind = eye * torch.tensor([[1.0], [1.0], [-1.0]])
    assert torch.allclose(paint(look, where, behind, -torch.ones(1))[:, 0], torch.tensor(GREEN))


def test_a_point_has_its_colour_whatever_else_is_painted(where: BodyMap, rest: Tensor, facing: Tensor) -> None:
    for dice in cast(np.arange(30), LookStream.CLOTHES, CLOTHES_NUMBERS):
        look = draw_appearance(dice, where)
        everything = paint(look, where, rest, facing)
        some = torch.arange(3, rest.shape[1], 11)
        assert torch.allclose(paint(look, where, rest[:, some], facing[some]), everything[:, some], atol=1e-6)
        assert bool(torch.isfinite(everything).all()) and float(everything.min()) >= 0
        assert float(everything.max()) <= 1.3


def test_patterns_cover_what_they_say(look: Appearance, where: BodyMap) -> None:
    y = torch.linspace(where.waist_y, where.shoulder_y - 0.1, 5001)
    points = torch.stack([torch.full_like(y, 0.05), y, torch.full_like(y, 0.1)])
    striped = replace(look, upper=Fabric(RED, BLUE, "stripes", (0.0, 1.0, 0.0), 200.0, 0.3, 0.0))
    is_blue = paint(striped, where, points, torch.ones_like(y))[2] > 0.5
    assert abs(float(is_blue.float().mean()) - 0.5) < 0.06
    changes = int((is_blue[1:] != is_blue[:-1]).sum())
    assert abs(changes - 200 * float(y[-1] - y[0]) / torch.pi) <= 2, "two changes per period"
    rising = replace(look, upper=Fabric(BLACK, WHITE, "gradient", (0.0, 1.0, 0.0), 2.0, 0.0, 0.0))
    shades = paint(rising, where, points, torch.ones_like(y))[0]
    assert bool((shades.diff() >= 0).all()) and float(shades[-1]) > float(shades[0])


def test_cloth_and_hair_lie_outside_the_skin(look: Appearance, where: BodyMap, rest: Tensor) -> None:
    loose = replace(look, upper_loose=0.02, lower_loose=0.01, hair_volume=0.015)
    bare = replace(loose, upper=None, hair_volume=0.0, shoes=None)
    offset = thickness([loose, bare], rest, where)
    x, y, _ = rest
    chest = (x.abs() < 0.08) & (y > where.waist_y + 0.05) & (y < where.shoulder_y - 0.05)
    assert torch.allclose(offset[0, chest], torch.tensor(0.02)) and not offset[1, chest].any()
    hands = x.abs() > where.wrist_x + 0.02
    assert not offset[:, hands].any()
    thigh = (y < where.hip_y - 0.05) & (y > look.leg_y + 0.02)
    assert torch.allclose(offset[:, thigh], torch.tensor(0.01))
    top = y > where.top_y - 0.02
    assert torch.allclose(offset[0, top], torch.tensor(0.015)) and not offset[1, top].any()


def test_looks_differ_and_repeat(where: BodyMap) -> None:
    def draw() -> list[Appearance]:
        return [draw_appearance(dice, where) for dice in cast(np.arange(400), LookStream.CLOTHES, CLOTHES_NUMBERS)]

    looks = draw()
    assert looks == draw()
    assert {look.hair_style for look in looks} == {"short", "long", "cap", "bald"}
    assert {look.lower.pattern for look in looks} == {"plain", "stripes", "checks", "blobs", "gradient", "mottled"}
    middle = (where.shoulder_x + where.wrist_x) / 2
    sleeves = [look.sleeve_x for look in looks]
    assert 0.2 < np.mean([sleeve > middle + 0.1 for sleeve in sleeves]) < 0.7
    assert min(sleeves) < where.shoulder_x and any(look.upper is None for look in looks)
    assert 0.45 < np.mean([look.leg_y < where.knee_y - 0.2 for look in looks]) < 0.75
    brightness = [sum(look.skin) / 3 for look in looks]
    assert min(brightness) < 0.25 and max(brightness) > 0.8
