from __future__ import annotations

import pytest
import torch

from diffhmr.body.frames import RotationFrame, to_frame
from diffhmr.geometry.rotation import matrix_to_rot6d_columns
from diffhmr.models.item_random import step_keys
from diffhmr.models.regressor import Regressor
from tests.models.people import random_params


@pytest.mark.parametrize("frame", ["parent", "camera"])
def test_it_starts_at_the_mean(frame: RotationFrame) -> None:
    regressor = Regressor(8, width=16, frame=frame)
    params, camera = random_params(1, 0)
    regressor.set_mean(params.rotations[0], params.betas[0], camera[0])
    for head in (regressor.pose_head, regressor.shape_head, regressor.camera_head):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    estimate = regressor(torch.randn(3, 8))
    torch.testing.assert_close(estimate.params.rotations, params.rotations.expand(3, -1, -1, -1))
    torch.testing.assert_close(estimate.params.betas, params.betas.expand(3, -1))
    torch.testing.assert_close(estimate.camera, camera.expand(3, -1))
    expected = matrix_to_rot6d_columns(to_frame(params.rotations, frame)).flatten(1)
    torch.testing.assert_close(estimate.rot6d, expected.expand(3, -1))
    torch.testing.assert_close(regressor.mean_params().rotations, params.rotations[0])


def test_the_mean_is_saved_with_the_weights() -> None:
    regressor = Regressor(8, width=16)
    params, camera = random_params(1, 0)
    regressor.set_mean(params.rotations[0], params.betas[0], camera[0])
    other = Regressor(8, width=16)
    other.load_state_dict(regressor.state_dict())
    z = torch.randn(2, 8)
    assert torch.equal(other(z).rot6d, regressor(z).rot6d)


def test_iterations_add_up_to_the_formula() -> None:
    """Two linear layers without activation and three heads, each pass added to the estimate."""
    regressor = Regressor(8, width=16, iterations=3)
    z = torch.randn(2, 8)
    state = torch.cat([regressor.mean_rot6d, regressor.mean_betas, regressor.mean_camera]).expand(2, -1)
    heads = [regressor.pose_head, regressor.shape_head, regressor.camera_head]
    weight, bias = torch.cat([head.weight for head in heads]), torch.cat([head.bias for head in heads])
    for _ in range(3):
        hidden = torch.cat([z, state], 1) @ regressor.fc1.weight.T + regressor.fc1.bias
        hidden = hidden @ regressor.fc2.weight.T + regressor.fc2.bias
        state = state + hidden @ weight.T + bias
    estimate = regressor(z)
    torch.testing.assert_close(torch.cat([estimate.rot6d, estimate.params.betas, estimate.camera], 1), state)


def test_rotations_are_rotations() -> None:
    rotations = Regressor(8, width=16)(10 * torch.randn(5, 8)).params.rotations
    torch.testing.assert_close(
        rotations @ rotations.transpose(-1, -2), torch.eye(3).expand_as(rotations), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(5, 24))


def test_dropout_follows_the_keys_and_nothing_else() -> None:
    regressor = Regressor(8, width=64, dropout=0.5)
    z = torch.randn(4, 8)
    keys = step_keys(torch.arange(4), 0)
    free, dropped = regressor(z), regressor(z, keys)
    assert not torch.allclose(free.rot6d, dropped.rot6d, atol=1e-4)
    assert torch.equal(dropped.rot6d, regressor(z, keys).rot6d)
    torch.testing.assert_close(regressor(z[2:3], keys[2:3]).rot6d, dropped.rot6d[2:3])
    assert not torch.allclose(regressor(z, step_keys(torch.arange(4), 1)).rot6d, dropped.rot6d, atol=1e-4)
    regressor.eval()
    assert torch.equal(dropped.rot6d, regressor(z, keys).rot6d)
    regressor.dropout = 0.0
    assert torch.equal(free.rot6d, regressor(z, keys).rot6d)


def test_dropout_keeps_the_expectation() -> None:
    regressor = Regressor(8, width=64, iterations=1, dropout=0.3)
    z = torch.randn(1, 8)
    free = regressor(z).rot6d
    many = regressor(z.expand(20000, -1), step_keys(torch.arange(20000), 0)).rot6d
    error = (many.mean(0) - free[0]).abs()
    assert bool((error < 5 * many.std(0) / 20000**0.5 + 1e-6).all())
