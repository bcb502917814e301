"""Rotations: known values, round trips, and finite gradients at hard places (identity, half turns, degenerate 6D)."""

from __future__ import annotations

import math

import pytest
import torch

from diffhmr.geometry.rotation import (
    axis_angle_to_matrix,
    geodesic_distance,
    look_rotation,
    matrix_to_axis_angle,
    matrix_to_rot6d_columns,
    mean_rotation,
    random_rotations,
    rot6d_columns_to_interleaved,
    rot6d_columns_to_matrix,
    rot6d_interleaved_to_columns,
    rotation_between,
)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def assert_rotation(matrix: torch.Tensor, atol: float = 1e-5) -> None:
    identity = torch.eye(3, dtype=matrix.dtype).expand_as(matrix)
    torch.testing.assert_close(matrix @ matrix.transpose(-1, -2), identity, atol=atol, rtol=0)
    torch.testing.assert_close(torch.det(matrix), torch.ones(matrix.shape[:-2], dtype=matrix.dtype), atol=atol, rtol=0)


def test_quarter_turn_about_z() -> None:
    matrix = axis_angle_to_matrix(torch.tensor([0.0, 0.0, math.pi / 2]))
    expected = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(matrix, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("angle", [0.0, 1e-8, 1e-4, 0.5, 2.0, math.pi - 1e-2, math.pi - 1e-3])
def test_axis_angle_round_trip(angle: float, generator: torch.Generator) -> None:
    axis = torch.nn.functional.normalize(torch.randn(200, 3, generator=generator), dim=-1)
    torch.testing.assert_close(
        matrix_to_axis_angle(axis_angle_to_matrix(axis * angle)), axis * angle, atol=2e-5, rtol=0
    )


def test_half_turns_come_back_up_to_sign(generator: torch.Generator) -> None:
    axis = torch.nn.functional.normalize(torch.randn(200, 3, generator=generator), dim=-1)
    recovered = matrix_to_axis_angle(axis_angle_to_matrix(axis * math.pi))
    agreement = (recovered * axis).sum(-1).abs()
    torch.testing.assert_close(agreement, torch.full((200,), math.pi), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "vector", [[0.0, 0.0, 0.0], [1e-9, 0.0, 0.0], [math.pi, 0.0, 0.0], [0.0, 2.2214415, 2.2214415]]
)
def test_axis_angle_gradients_are_finite(vector: list[float]) -> None:
    axis_angle = torch.tensor(vector, requires_grad=True)
    matrix = axis_angle_to_matrix(axis_angle)
    (matrix * torch.arange(9.0).view(3, 3)).sum().backward()
    assert axis_angle.grad is not None and axis_angle.grad.isfinite().all() and axis_angle.grad.abs().sum() > 0

    matrix = matrix.detach().requires_grad_()
    matrix_to_axis_angle(matrix).sum().backward()
    assert matrix.grad is not None and matrix.grad.isfinite().all() and matrix.grad.abs().sum() > 0


def test_6d_is_the_first_two_columns() -> None:
    matrix = torch.arange(9.0).view(3, 3)
    assert matrix_to_rot6d_columns(matrix).tolist() == [0, 3, 6, 1, 4, 7]
    assert rot6d_columns_to_interleaved(matrix_to_rot6d_columns(matrix)).tolist() == [0, 1, 3, 4, 6, 7]
    assert rot6d_interleaved_to_columns(torch.tensor([0.0, 1, 3, 4, 6, 7])).tolist() == [0, 3, 6, 1, 4, 7]


def test_6d_round_trip_and_leading_dimensions(generator: torch.Generator) -> None:
    matrix = random_rotations((4, 5), generator)
    recovered = rot6d_columns_to_matrix(matrix_to_rot6d_columns(matrix))
    torch.testing.assert_close(recovered, matrix, atol=1e-6, rtol=0)
    single = torch.stack([rot6d_columns_to_matrix(x) for x in matrix_to_rot6d_columns(matrix).flatten(0, 1)])
    torch.testing.assert_close(recovered.flatten(0, 1), single)


def test_any_finite_6d_gives_a_rotation(generator: torch.Generator) -> None:
    ordinary = 3 * torch.randn(100, 6, generator=generator)
    a1 = torch.randn(100, 3, generator=generator)
    parallel = torch.cat([a1, -2.5 * a1], dim=-1)
    hard = torch.tensor([[0.0] * 6, [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0], [0, 0, 0, 1, 0, 0], [1e-12] * 6, [1e6] * 6])
    vectors = torch.cat([ordinary, parallel, hard]).requires_grad_()
    matrix = rot6d_columns_to_matrix(vectors)
    assert_rotation(matrix.detach())
    (matrix * torch.arange(9.0).view(3, 3)).sum().backward()
    assert vectors.grad is not None and vectors.grad.isfinite().all()
    assert (vectors.grad[:100].abs().sum(-1) > 0).all()


def test_gram_schmidt_keeps_the_direction_of_the_first_column() -> None:
    matrix = rot6d_columns_to_matrix(torch.tensor([0.0, 2.0, 0.0, 1.0, 5.0, 0.0]))
    torch.testing.assert_close(matrix, torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]]))


@pytest.mark.parametrize("angle", [0.0, 1e-4, 0.3, 1.5, 3.0, math.pi - 1e-4, math.pi])
def test_geodesic_distance_is_the_angle(angle: float, generator: torch.Generator) -> None:
    axis = torch.nn.functional.normalize(torch.randn(50, 3, generator=generator), dim=-1)
    base = random_rotations((50,), generator)
    distance = geodesic_distance(base, base @ axis_angle_to_matrix(axis * angle))
    torch.testing.assert_close(distance, torch.full((50,), angle), atol=2e-6, rtol=0)


@pytest.mark.parametrize("angle", [0.0, 1.0, 3.0, math.pi])
def test_geodesic_distance_has_finite_gradients(angle: float) -> None:
    other = axis_angle_to_matrix(torch.tensor([0.0, angle, 0.0])).requires_grad_()
    geodesic_distance(torch.eye(3), other).backward()
    assert other.grad is not None and other.grad.isfinite().all()
    if 0 < angle < math.pi:  # at both ends the distance has a kink
        # Turning further about the axis adds just that angle: the directional derivative along dR/dangle is 1.
        cos, sin = math.cos(angle), math.sin(angle)
        along = torch.tensor([[-sin, 0.0, cos], [0.0, 0.0, 0.0], [-cos, 0.0, -sin]])
        assert (other.grad * along).sum().item() == pytest.approx(1.0, abs=1e-4)


def test_random_rotations_are_uniform_and_reproducible() -> None:
    matrix = random_rotations((20000,), torch.Generator().manual_seed(3))
    assert_rotation(matrix)
    assert matrix.mean(0).abs().max() < 0.03
    # For the uniform distribution the rotation angle has density (1 - cos) / pi, whose mean is pi / 2 + 2 / pi.
    angle = geodesic_distance(torch.eye(3), matrix)
    assert angle.mean().item() == pytest.approx(math.pi / 2 + 2 / math.pi, abs=0.02)
    torch.testing.assert_close(matrix, random_rotations((20000,), torch.Generator().manual_seed(3)))


def test_mean_rotation_of_a_symmetric_fan_is_its_middle(generator: torch.Generator) -> None:
    middle = random_rotations((6,), generator)
    fan = axis_angle_to_matrix(torch.tensor([[0.0, a, 0.0] for a in (-0.7, -0.1, 0.1, 0.7)]))
    torch.testing.assert_close(mean_rotation(middle[:, None] @ fan, dim=-3), middle, atol=1e-5, rtol=0)


def test_rotation_between_turns_source_into_target(generator: torch.Generator) -> None:
    source, target = torch.randn(2, 300, 3, generator=generator)
    target[0] = -2 * source[0]
    target[1] = 3 * source[1]
    matrix = rotation_between(source, target)
    assert_rotation(matrix)
    unit = torch.nn.functional.normalize
    turned = (matrix @ unit(source, dim=-1).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(turned, unit(target, dim=-1), atol=1e-5, rtol=0)
    # It is the smallest such rotation: its angle is the angle between the vectors.
    angle = torch.acos(torch.cosine_similarity(source, target, dim=-1).clamp(-1, 1))
    torch.testing.assert_close(geodesic_distance(torch.eye(3), matrix), angle, atol=2e-3, rtol=0)
    torch.testing.assert_close(matrix[1], torch.eye(3), atol=1e-6, rtol=0)


def test_look_rotation_along_the_axis_and_to_the_right() -> None:
    torch.testing.assert_close(look_rotation(torch.tensor([0.0, 0.0, 5.0])), torch.eye(3))
    right = look_rotation(torch.tensor([1.0, 0.0, 1.0]))
    torch.testing.assert_close(right, axis_angle_to_matrix(torch.tensor([0.0, math.pi / 4, 0.0])), atol=1e-6, rtol=0)
