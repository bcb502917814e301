"""StateCodec: layout, statistics, round trips, and rejection of impossible states."""

from __future__ import annotations

import pytest
import torch

from diffhmr.body.codec import MIN_STD, StateCodec
from diffhmr.body.params import SmplParams
from diffhmr.errors import UserError
from diffhmr.geometry.rotation import axis_angle_to_matrix

ALL_PARTS = [("pose",), ("pose", "shape"), ("pose", "camera"), ("pose", "shape", "camera")]


def make_people(*lead: int, seed: int = 0) -> tuple[SmplParams, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rotations = axis_angle_to_matrix(0.5 * torch.randn(*lead, 24, 3, generator=generator))
    rotations[..., 22:, :, :] = torch.eye(3)  # hands that never move
    camera = torch.tensor([0.9, 0.0, 0.1]) + 0.1 * torch.randn(*lead, 3, generator=generator)
    return SmplParams.from_rotations(rotations, torch.randn(*lead, 10, generator=generator)), camera


def fitted(parts: tuple[str, ...]) -> StateCodec:
    codec = StateCodec(parts)
    codec.fit(*make_people(500))
    return codec


@pytest.mark.parametrize("parts", ALL_PARTS, ids="+".join)
def test_round_trip(parts: tuple[str, ...]) -> None:
    codec = fitted(parts)
    params, camera = make_people(4, 5, seed=1)
    state = codec.encode(params, camera)
    assert state.shape == (4, 5, codec.dim) and codec.dim == 144 + 10 * ("shape" in parts) + 3 * ("camera" in parts)
    decoded, decoded_camera = codec.decode(state)
    torch.testing.assert_close(decoded.rotations, params.rotations, atol=1e-5, rtol=0)
    if "shape" in parts:
        torch.testing.assert_close(decoded.betas, params.betas, atol=1e-5, rtol=0)
    else:
        assert decoded.betas.shape == (4, 5, 0)
    if "camera" in parts:
        torch.testing.assert_close(decoded_camera, camera, atol=1e-5, rtol=0)
    else:
        assert decoded_camera is None


def test_round_trip_of_rotations_relative_to_the_camera() -> None:
    codec = StateCodec(("pose", "shape", "camera"), "camera")
    codec.fit(*make_people(500))
    params, camera = make_people(4, seed=1)
    state = codec.encode(params, camera)
    torch.testing.assert_close(codec.decode(state)[0].rotations, params.rotations, atol=1e-5, rtol=0)
    # A turned shoulder turns the elbow's camera rotation, but not its own relative to the shoulder.
    moved = params.rotations.clone()
    moved[:, 16] = moved[:, 16] @ axis_angle_to_matrix(torch.tensor([0.0, 0.0, 0.7]))
    changed = codec.encode(SmplParams.from_rotations(moved, params.betas), camera) - state
    per_joint = changed[:, :144].unflatten(1, (24, 6)).abs().amax((0, 2))
    assert [joint for joint in range(24) if per_joint[joint] > 1e-4] == [16, 18, 20, 22]


def test_layout_is_joint_major_columns_then_betas_then_camera() -> None:
    codec = StateCodec(("pose", "shape", "camera"))
    params, camera = make_people(2)
    state = codec.encode(params, camera)
    torch.testing.assert_close(state[:, :3], params.global_orient[:, :, 0])
    torch.testing.assert_close(state[:, 3:6], params.global_orient[:, :, 1])
    torch.testing.assert_close(state[:, 6 * 18 : 6 * 18 + 3], params.body_pose[:, 17, :, 0])
    torch.testing.assert_close(state[:, 144:154], params.betas)
    torch.testing.assert_close(state[:, 154:], camera)


def test_fitted_data_has_mean_zero_and_deviation_one() -> None:
    codec = fitted(("pose", "shape", "camera"))
    state = codec.encode(*make_people(500))
    torch.testing.assert_close(state.mean(0), torch.zeros(157), atol=1e-4, rtol=0)
    moving = torch.ones(157, dtype=torch.bool)
    moving[6 * 22 : 144] = False
    torch.testing.assert_close(state.std(0, correction=0)[moving], torch.ones(145), atol=1e-4, rtol=0)
    assert (codec.std[~moving] == MIN_STD).all() and state[:, ~moving].abs().max() < 1e-3


def test_statistics_are_those_of_any_leading_shape() -> None:
    flat, nested = StateCodec(("pose", "shape")), StateCodec(("pose", "shape"))
    params, camera = make_people(6, 50)
    nested.fit(params, camera)
    flat.fit(params.map(lambda t: t.flatten(0, 1)), camera.flatten(0, 1))
    torch.testing.assert_close(flat.mean, nested.mean)
    torch.testing.assert_close(flat.std, nested.std)


def test_statistics_are_saved_with_the_weights() -> None:
    codec = fitted(("pose", "camera"))
    assert set(codec.state_dict()) == {"mean", "std"}
    copy = StateCodec(("pose", "camera"))
    copy.load_state_dict(codec.state_dict())
    params, camera = make_people(3, seed=2)
    torch.testing.assert_close(copy.encode(params, camera), codec.encode(params, camera))


def test_any_state_decodes_to_rotations_with_finite_gradients() -> None:
    codec = fitted(("pose", "shape", "camera"))
    state = 5 * torch.randn(200, 157, generator=torch.Generator().manual_seed(3))
    state[0] = 1e4
    state[1] = -codec.mean / codec.std  # the raw state is exactly zero
    state.requires_grad_()
    params, camera = codec.decode(state)
    product = params.rotations @ params.rotations.transpose(-1, -2)
    torch.testing.assert_close(product, torch.eye(3).expand(200, 24, 3, 3), atol=1e-4, rtol=0)
    assert (torch.det(params.rotations) > 0).all() and camera is not None
    (params.rotations.sum() + params.betas.sum() + camera.sum()).backward()
    assert state.grad is not None and state.grad.isfinite().all() and (state.grad[2:, :144].abs().sum(-1) > 0).all()


@pytest.mark.parametrize(
    "parts", [(), ("shape",), ("shape", "pose"), ("pose", "camera", "shape"), ("pose", "pose"), ("pose", "hands")]
)
def test_impossible_states_are_refused(parts: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match="in this order"):
        StateCodec(parts)


def test_one_person_has_no_spread() -> None:
    with pytest.raises(ValueError, match="no statistics"):
        StateCodec(("pose",)).fit(*make_people(1))
