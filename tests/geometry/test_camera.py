"""Cameras: closed forms against explicit pinhole projections, and round trips."""

from __future__ import annotations

import math

import pytest
import torch

from diffhmr.geometry.camera import (
    FOCAL_HALF_CROP,
    box_to_normalised,
    crop_matrix,
    crop_to_full,
    crop_translation,
    estimate_translation,
    fit_crop_camera,
    intrinsics,
    normalised_to_box,
    normalised_to_pixel,
    pixel_to_normalised,
    project,
    project_crop,
    scale_intrinsics,
)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def person(generator: torch.Generator) -> torch.Tensor:
    """20 points the size of a person, root at the origin: [20, 3] metres."""
    return torch.randn(20, 3, generator=generator) * torch.tensor([0.25, 0.45, 0.15])


def apply_affine(matrix: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    return points @ matrix[..., :2].transpose(-1, -2) + matrix[..., None, :, 2]


def test_projection_is_the_pinhole_of_the_translated_points(person: torch.Tensor) -> None:
    camera = torch.tensor([[0.9, 0.1, -0.2], [0.4, 0.0, 0.3]])
    translated = person + crop_translation(camera).unsqueeze(-2)
    expected = FOCAL_HALF_CROP * translated[..., :2] / translated[..., 2:]
    torch.testing.assert_close(project_crop(person.expand(2, 20, 3), camera), expected, atol=1e-5, rtol=0)
    # SPIN's own form: 5000 px on a 224 px crop.
    assert crop_translation(torch.tensor([0.9, 0.0, 0.0]))[2].item() == pytest.approx(2 * 5000 / (224 * 0.9), rel=1e-6)


def test_projection_is_finite_for_any_scale(person: torch.Tensor) -> None:
    camera = torch.tensor([[0.0, 0.1, 0.2], [-1e-9, 0, 0], [-0.5, 0.1, 0.0], [1e4, 0, 0]]).requires_grad_()
    projected = project_crop(person, camera)
    projected.sum().backward()
    assert projected.isfinite().all() and camera.grad is not None and camera.grad.isfinite().all()


@pytest.mark.parametrize("focal", [FOCAL_HALF_CROP, 4.0])
def test_fit_crop_camera_recovers_the_camera(person: torch.Tensor, focal: float) -> None:
    camera = torch.tensor([[0.9, 0.1, -0.2], [0.5, -0.3, 0.4]])
    points2d = project_crop(person, camera, focal)
    fitted = fit_crop_camera(person.expand(2, 20, 3), points2d, torch.ones(2, 20), focal)
    pixels = (project_crop(person, fitted, focal) - points2d) * 112
    assert pixels.abs().max() < (0.05 if focal > 10 else 1.5)


def test_fit_crop_camera_ignores_points_of_weight_zero(person: torch.Tensor) -> None:
    camera = torch.tensor([0.8, 0.0, 0.1])
    points2d = project_crop(person, camera)
    points2d[3:9] += 0.7
    weight = torch.ones(20)
    weight[3:9] = 0
    torch.testing.assert_close(fit_crop_camera(person, points2d, weight), camera, atol=1e-4, rtol=0)
    nothing = fit_crop_camera(person, points2d, torch.zeros(20))
    assert nothing.isfinite().all()


def test_intrinsics_and_project_by_hand() -> None:
    intrinsic = intrinsics(500.0, 640, 480)
    assert intrinsic.tolist() == [[500, 0, 319.5], [0, 500, 239.5], [0, 0, 1]]
    pixel = project(torch.tensor([[0.0, 0.0, 3.0], [0.6, -0.3, 3.0]]), intrinsic)
    torch.testing.assert_close(pixel, torch.tensor([[319.5, 239.5], [419.5, 189.5]]))


def test_a_scaled_camera_sees_scaled_pictures(person: torch.Tensor) -> None:
    large = intrinsics(700, 640, 480)
    small = scale_intrinsics(large, 0.5, 0.25)
    torch.testing.assert_close(small, torch.tensor([[350.0, 0, 159.5], [0, 175.0, 59.5], [0, 0, 1]]))
    placed = person + torch.tensor([0.3, 0.2, 4.0])
    # Measured from the edge, everything is a half and a quarter.
    expected = (project(placed, large) + 0.5) * torch.tensor([0.5, 0.25]) - 0.5
    torch.testing.assert_close(project(placed, small), expected)


def test_project_crop_recover_project_is_within_half_a_pixel(person: torch.Tensor) -> None:
    """A person of a full image, seen in a crop, and brought back to the full image by the recovered translation."""
    intrinsic = intrinsics(1200.0, 1920, 1080)
    for transl in torch.tensor([[0.0, 0.0, 4.0], [1.5, -0.3, 6.0], [-2.0, 0.4, 9.0]]):
        pixels = project(person + transl, intrinsic)
        centre, side = (pixels.amax(0) + pixels.amin(0)) / 2, 1.2 * (pixels.amax(0) - pixels.amin(0)).max()
        crop_pixels = apply_affine(crop_matrix(centre, side, 224), pixels)
        back = normalised_to_box(pixel_to_normalised(crop_pixels, 224), centre, side)
        recovered = estimate_translation(person, back, intrinsic, torch.ones(20))
        assert (project(person + recovered, intrinsic) - pixels).norm(dim=-1).max() < 0.5
        torch.testing.assert_close(recovered, transl, atol=1e-3, rtol=0)


def test_estimate_translation_batched_and_weighted(person: torch.Tensor, generator: torch.Generator) -> None:
    intrinsic = intrinsics(800.0, 640, 480)
    transl = torch.tensor([[0.3, 0.1, 3.0], [-0.5, 0.2, 40.0]])
    pixels = project(person + transl[:, None], intrinsic)
    weight = torch.ones(2, 20)
    weight[:, :5] = 0
    pixels[:, :5] += 100 * torch.randn(2, 5, 2, generator=generator)
    torch.testing.assert_close(
        estimate_translation(person.expand(2, 20, 3), pixels, intrinsic, weight), transl, atol=0, rtol=2e-3
    )


@pytest.mark.parametrize("centre", [(959.5, 539.5), (1500.0, 300.0), (200.0, 900.0)])
def test_crop_to_full_agrees_with_the_crop(person: torch.Tensor, centre: tuple[float, float]) -> None:
    focal, side = 1500.0, torch.tensor(300.0)
    intrinsic = intrinsics(focal, 1920, 1080)
    box_centre = torch.tensor(centre)
    camera = torch.tensor([0.9, 0.1, -0.05])
    rotation, transl = crop_to_full(camera, box_centre, side, intrinsic)
    full = project(person @ rotation.T + transl, intrinsic)
    crop = normalised_to_box(project_crop(person, camera), box_centre, side)

    # Exact bound: in the virtual camera, at the angle a from the optical axis, a point with tangent (r, t) along and
    # across the radius reprojects to F (r / cos a, t) / (cos a (1 - r tan a)) from the box centre; the rest is the
    # depth z of the point in either camera. Every component of the offset is right to this factor.
    offset = crop - box_centre
    tan = (box_centre - intrinsic[:2, 2]).norm() / focal
    cosine = 1 / (1 + tan.square()).sqrt()
    depth = person[:, 2].abs()
    perspective = (1 + 0.9 * depth / FOCAL_HALF_CROP) / (1 - depth / transl.norm())
    tangent = offset.norm(dim=-1) / focal * perspective
    factor = cosine**-0.5 * perspective / (1 - tangent * tan)
    assert factor.max() < 1.4
    assert ((full - crop).norm(dim=-1) <= (factor - 1) * offset.norm(dim=-1) + 0.01).all()


def test_crop_to_full_small_flat_person_on_the_axis_is_exact() -> None:
    intrinsic = intrinsics(1000.0, 641, 481)
    flat = torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.5, 0.0], [-0.4, 0.6, 0.0]])
    camera = torch.tensor([0.8, 0.1, 0.2])
    centre, side = torch.tensor([320.0, 240.0]), torch.tensor(200.0)
    rotation, transl = crop_to_full(camera, centre, side, intrinsic)
    torch.testing.assert_close(rotation, torch.eye(3))
    torch.testing.assert_close(transl, torch.tensor([0.1, 0.2, 2 * 1000 / (200 * 0.8)]), atol=1e-4, rtol=0)
    full = project(flat + transl, intrinsic)
    torch.testing.assert_close(full, normalised_to_box(project_crop(flat, camera), centre, side), atol=1e-3, rtol=0)


def test_crop_to_full_puts_the_box_centre_on_its_ray_and_batches() -> None:
    intrinsic = intrinsics(700.0, 1280, 720)
    centre = torch.tensor([[100.0, 650.0], [900.0, 20.0]])
    side = torch.tensor([80.0, 300.0])
    camera = torch.tensor([[1.0, 0.0, 0.0], [0.7, 0.0, 0.0]])
    rotation, transl = crop_to_full(camera, centre, side, intrinsic)
    torch.testing.assert_close(project(transl.unsqueeze(-2), intrinsic).squeeze(-2), centre, atol=1e-2, rtol=0)
    one_rotation, one_transl = crop_to_full(camera[1], centre[1], side[1], intrinsic)
    torch.testing.assert_close(rotation[1], one_rotation)
    torch.testing.assert_close(transl[1], one_transl)


def test_off_axis_scale_is_the_geometric_mean_of_both_directions() -> None:
    """A small box at 30 degrees reprojects cos^-0.5 larger along the radius and cos^0.5 smaller across it."""
    intrinsic = intrinsics(1000.0, 2001, 2001)
    centre, side = torch.tensor([1000.0 + 577.35, 1000.0]), torch.tensor(4.0)
    camera = torch.tensor([1.0, 0.0, 0.0])
    rotation, transl = crop_to_full(camera, centre, side, intrinsic)
    cross = torch.tensor([[0.01, 0.0, 0.0], [0.0, 0.01, 0.0]], dtype=torch.float64)
    full = project(cross @ rotation.double().T + transl.double(), intrinsic.double()) - centre
    ratio = full.diagonal() / (0.01 * side / 2)
    cosine = math.cos(math.pi / 6)
    torch.testing.assert_close(ratio, torch.tensor([cosine**-0.5, cosine**0.5]).double(), atol=1e-2, rtol=0)


def test_box_and_pixel_coordinates_by_hand_and_round_trip(generator: torch.Generator) -> None:
    assert normalised_to_pixel(torch.tensor([-1.0, 0.0, 1.0]), 224).tolist() == [-0.5, 111.5, 223.5]
    centre, side = torch.tensor([[50.0, 60.0]]), torch.tensor([40.0])
    corner = torch.tensor([[[30.0, 80.0]]])
    assert box_to_normalised(corner, centre, side).tolist() == [[[-1.0, 1.0]]]
    points = torch.randn(1, 30, 2, generator=generator)
    torch.testing.assert_close(box_to_normalised(normalised_to_box(points, centre, side), centre, side), points)
    torch.testing.assert_close(pixel_to_normalised(normalised_to_pixel(points, 128), 128), points, atol=1e-5, rtol=0)


def test_crop_matrix_agrees_with_the_normalised_box(generator: torch.Generator) -> None:
    centre, side = torch.tensor([[50.0, 60.0], [7.0, -3.0]]), torch.tensor([40.0, 123.0])
    points = 100 * torch.rand(2, 10, 2, generator=generator)
    through_matrix = apply_affine(crop_matrix(centre, side, 224), points)
    direct = normalised_to_pixel(box_to_normalised(points, centre, side), 224)
    torch.testing.assert_close(through_matrix, direct, atol=1e-3, rtol=0)


def test_crop_matrix_turns_clockwise_and_then_mirrors() -> None:
    centre, side = torch.tensor([10.0, 10.0]), torch.tensor(20.0)
    right_of_centre = torch.tensor([[15.0, 10.0]])
    turned = apply_affine(crop_matrix(centre, side, 20, math.pi / 2), right_of_centre)
    torch.testing.assert_close(turned, torch.tensor([[9.5, 14.5]]), atol=1e-5, rtol=0)  # below the centre: clockwise
    both = apply_affine(crop_matrix(centre, side, 20, 0.3, flip=True), right_of_centre)
    plain = apply_affine(crop_matrix(centre, side, 20, 0.3), right_of_centre)
    torch.testing.assert_close(both, torch.stack([19 - plain[:, 0], plain[:, 1]], dim=-1), atol=1e-5, rtol=0)
    batch = crop_matrix(centre.expand(2, 2), side.expand(2), 20, torch.tensor([0.0, 0.3]), torch.tensor([False, True]))
    torch.testing.assert_close(batch[1], crop_matrix(centre, side, 20, 0.3, flip=True))
