"""Augmentation: SPIN's distributions, and labels that move as the picture does."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from diffhmr.body.joints import SMPL24, SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.config import AugmentConfig
from diffhmr.datasets.augment import (
    boxes_of_parts,
    draw_augmentation,
    exchange_sides,
    mirror,
    no_augmentation,
    turn,
)
from diffhmr.datasets.crops import plan_crop, warp_crop
from diffhmr.geometry.camera import crop_matrix, project_crop
from diffhmr.geometry.rotation import axis_angle_to_matrix, random_rotations
from diffhmr.random import item_seeds
from tests.datasets.pictures import rough


def people(count: int = 5) -> tuple[SmplParams, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    rotations = random_rotations((count, 24), generator).double()
    params = SmplParams.from_rotations(rotations, torch.randn(count, 10, generator=generator).double())
    return params, torch.randn(count, 49, 4, generator=generator).double()


def assert_same(first: tuple[SmplParams, torch.Tensor], second: tuple[SmplParams, torch.Tensor]) -> None:
    torch.testing.assert_close(first[0].rotations, second[0].rotations, atol=1e-12, rtol=0)
    torch.testing.assert_close(first[0].betas, second[0].betas, atol=0, rtol=0)
    torch.testing.assert_close(first[1], second[1], atol=1e-12, rtol=0)


def test_distributions_are_those_of_spin() -> None:
    drawn = draw_augmentation(item_seeds(0, "train", np.arange(40_000)), AugmentConfig())
    assert drawn.flip.mean() == pytest.approx(0.5, abs=0.01)
    turned = drawn.rotation[drawn.rotation != 0]
    assert len(turned) / 40_000 == pytest.approx(0.4, abs=0.01)
    degrees = np.rad2deg(turned)
    assert np.abs(degrees).max() == pytest.approx(60) and degrees.std() == pytest.approx(28.8, abs=0.7)
    # A normal number clipped at two deviations is at the bounds in 4.55 % of all cases, at one in 31.7 %.
    assert (np.abs(degrees) > 59.999).mean() == pytest.approx(0.0455, abs=0.005)
    assert drawn.scale.min() == 0.75 and drawn.scale.max() == 1.25
    assert np.isin(drawn.scale, (0.75, 1.25)).mean() == pytest.approx(0.317, abs=0.01)
    assert drawn.gain.min() > 0.6 and drawn.gain.max() < 1.4 and drawn.gain.mean() == pytest.approx(1, abs=0.005)
    assert drawn.gain.std() == pytest.approx(0.8 / np.sqrt(12), abs=0.005)
    assert (drawn.part == -1).all()
    independent = np.corrcoef([drawn.flip, drawn.rotation, drawn.scale, *drawn.gain.T])
    assert np.abs(independent - np.eye(6)).max() < 0.03


def test_an_item_depends_on_its_seed_alone() -> None:
    seeds = item_seeds(3, "train", np.arange(50))
    settings = AugmentConfig(extreme_crop=0.5)
    together = draw_augmentation(seeds, settings)
    for k in (0, 17, 49):
        alone = draw_augmentation(seeds[k : k + 1], settings)
        for name in ("flip", "rotation", "scale", "gain", "part"):
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(together, name)[k])
    nothing = draw_augmentation(seeds, AugmentConfig(flip=0, rotate=0, scale=0, colour=0))
    for name in ("flip", "rotation", "scale", "gain", "part"):
        np.testing.assert_array_equal(getattr(nothing, name), getattr(no_augmentation(50), name))


def test_mirrored_twice_and_turned_back_is_the_same() -> None:
    params, joints = people()
    everybody, some = torch.ones(5, dtype=torch.bool), torch.arange(5) % 2 == 0
    for where in (everybody, some):
        assert_same(mirror(*mirror(params, joints, where), where), (params, joints))
        torch.testing.assert_close(exchange_sides(exchange_sides(joints, where), where), joints)
    angle = torch.linspace(-2, 2, 5).double()
    assert_same(turn(*turn(params, joints, angle), -angle), (params, joints))
    untouched = mirror(params, joints, some)
    torch.testing.assert_close(untouched[0].rotations[1::2], params.rotations[1::2])
    assert not torch.allclose(untouched[0].rotations[::2], params.rotations[::2])


def test_the_picture_is_the_same_too() -> None:
    picture = cv2.GaussianBlur(rough(64, 64), (0, 0), 2)
    centre, side = torch.tensor([31.5, 31.5]).double(), torch.tensor(64.0).double()
    there, back = (crop_matrix(centre, side, 64, angle).numpy() for angle in (0.5, -0.5))
    flipped = crop_matrix(centre, side, 64, 0.0, True).numpy()
    once = warp_crop(picture, plan_crop(flipped, 64, False), 64)
    np.testing.assert_array_equal(once, picture[:, ::-1])
    np.testing.assert_array_equal(warp_crop(once, plan_crop(flipped, 64, False), 64), picture)
    turned = warp_crop(warp_crop(picture, plan_crop(there, 64, False), 64), plan_crop(back, 64, False), 64)
    inner = np.hypot(*(np.indices((64, 64)) - 31.5)) < 28
    assert np.abs(turned.astype(float) - picture)[inner].max() < 6


def test_mirroring_axis_angles_negates_y_and_z() -> None:
    vector = torch.randn(1, 24, 3, generator=torch.Generator().manual_seed(1)).double()
    params = SmplParams.from_rotations(axis_angle_to_matrix(vector), torch.zeros(1, 10).double())
    mirrored = mirror(params, torch.zeros(1, 49, 4).double(), torch.tensor([True]))[0]
    wanted = axis_angle_to_matrix(vector[:, list(SMPL24.flip)] * torch.tensor([1, -1, -1]))
    torch.testing.assert_close(mirrored.rotations, wanted)


def test_the_body_moves_as_its_labels_do(toy_body: BodyModel) -> None:
    body = toy_body
    params, _ = people()
    params = SmplParams(params.global_orient.float(), params.body_pose.float(), torch.zeros(5, 10))
    joints49 = torch.cat([body.joints(params, SPIN49), torch.ones(5, 49, 1)], dim=-1)
    angle = torch.linspace(-1, 1, 5)
    turned, labels = turn(params, joints49, angle)
    root = body.joints(params, SMPL24)[:, :1]
    # The body turns about its pelvis, the labels about the origin of the frame.
    shift = torch.einsum("bij,bnj->bni", _about_z(angle), root) - root
    torch.testing.assert_close(body.joints(turned, SPIN49) + shift, labels[..., :3], atol=2e-6, rtol=0)
    mirrored, _ = mirror(params, joints49, torch.ones(5, dtype=torch.bool))
    wanted = body.joints(params, SMPL24)[:, list(SMPL24.flip)] * torch.tensor([-1.0, 1, 1])
    # The surface of the toy body is not the same on both sides; the joints of its tree are.
    torch.testing.assert_close(body.joints(mirrored, SMPL24), wanted, atol=2e-6, rtol=0)


def test_points_follow_the_picture() -> None:
    """A 3D joint, projected after turning and mirroring, lies where the crop's matrix takes its old projection."""
    params, joints = people()
    size, angle = 100, torch.full((5,), 0.7).double()
    camera = torch.tensor([[0.9, 0.0, 0.0]]).double().expand(5, 3)
    before = project_crop(joints[..., :3], camera)
    where = torch.ones(5, dtype=torch.bool)
    after = project_crop(mirror(*turn(params, joints, angle), where)[1][..., :3], camera)
    # A picture of 100 px in which the person's box is everything.
    pixels = (before + 1) * size / 2 - 0.5
    centre, side = torch.full((5, 2), (size - 1) / 2).double(), torch.full((5,), float(size)).double()
    matrix = crop_matrix(centre, side, size, angle, where)
    moved = pixels @ matrix[..., :2].transpose(1, 2) + matrix[:, None, :, 2]
    torch.testing.assert_close(exchange_sides((moved + 0.5) * 2 / size - 1, where), after, atol=1e-9, rtol=0)


def test_extreme_crops() -> None:
    points = np.zeros((4, 17, 2))
    points[:, :, 1] = np.arange(17) * 10.0
    points[:, :, 0] = 50
    labelled = np.ones((4, 17), bool)
    labelled[2, :5] = False
    center, side = np.full((4, 2), 80.0), np.full(4, 200.0)
    part = np.array([-1, 0, 0, 2])
    new_center, new_side = boxes_of_parts(part, points, labelled, center, side)
    # Too few points of the part are known in row 2.
    np.testing.assert_allclose(new_center, [[80, 80], [50, 30], [80, 80], [50, 135]])
    np.testing.assert_allclose(new_side, [200, 72, 200, 60])
    shares = draw_augmentation(item_seeds(0, "train", np.arange(20_000)), AugmentConfig(extreme_crop=0.1)).part
    assert (shares >= 0).mean() == pytest.approx(0.1, abs=0.01) and set(shares) == {-1, 0, 1, 2, 3, 4}


def _about_z(angle: torch.Tensor) -> torch.Tensor:
    zero = torch.zeros_like(angle)
    return axis_angle_to_matrix(torch.stack([zero, zero, angle], dim=-1))
