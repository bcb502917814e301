"""The subset against BodyModel, and its independence of the batch."""

from __future__ import annotations

import pytest
import torch

from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.datasets.painting.skinning import SubsetSkinner
from diffhmr.geometry.rotation import random_rotations
from diffhmr.render.shade import vertex_normals


def random_params(count: int, transl: bool = False) -> SmplParams:
    generator = torch.Generator().manual_seed(4)
    rotations = random_rotations((count, 24), generator)
    betas = torch.randn(count, 10, generator=generator)
    return SmplParams.from_rotations(rotations, betas, torch.randn(count, 3, generator=generator) if transl else None)


@pytest.mark.parametrize("name", ["free_body", "toy_body"])  # the toy body has corrections for the pose
def test_equals_the_body_model(name: str, request: pytest.FixtureRequest) -> None:
    body: BodyModel = request.getfixturevalue(name)
    params = random_params(5, transl=True)
    index = torch.arange(0, body.num_vertices, 7)
    vertices, normals = SubsetSkinner(body, index)(params)
    assert torch.allclose(vertices.transpose(1, 2), body(params).vertices[:, index], atol=1e-5)
    assert torch.allclose(normals.norm(dim=1), torch.ones(1), atol=1e-5)


@pytest.mark.parametrize("name", ["free_body", "toy_body"])
def test_bit_identical_in_every_batch(name: str, request: pytest.FixtureRequest) -> None:
    body: BodyModel = request.getfixturevalue(name)
    params = random_params(9)
    skinner = SubsetSkinner(body, torch.arange(0, body.num_vertices, 3))
    together = skinner(params)
    for index in (slice(4, 5), slice(3, 9), slice(0, 2)):
        piece = skinner(params.map(lambda value, index=index: value[index]))  # type: ignore[misc]
        assert torch.equal(piece[0], together[0][index]) and torch.equal(piece[1], together[1][index])


def test_normals_turn_with_a_rigid_body(free_body: BodyModel) -> None:
    turn = random_rotations((1,), torch.Generator().manual_seed(0))
    params = SmplParams(turn, torch.eye(3).expand(1, 23, 3, 3), torch.zeros(1, 10))
    index = torch.arange(free_body.num_vertices)
    _, normals = SubsetSkinner(free_body, index)(params)
    expected = vertex_normals(free_body(params).vertices, free_body.faces)
    assert float((normals.transpose(1, 2) - expected).norm(dim=-1).quantile(0.99)) < 0.02


def test_offsets_move_along_the_normals(free_body: BodyModel) -> None:
    params = random_params(3)
    skinner = SubsetSkinner(free_body, torch.arange(0, free_body.num_vertices, 9))
    plain, normals = skinner(params)
    offset = torch.linspace(0, 0.03, plain.shape[2]).expand(3, -1)
    moved, _ = skinner(params, offset)
    step = moved - plain
    assert float((step.norm(dim=1) - offset).max()) < 1e-5, "blended rotations shorten, they never lengthen"
    along = (step * normals).sum(1)
    assert torch.allclose(along, step.norm(dim=1), atol=1e-5)
