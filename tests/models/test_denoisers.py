"""What both denoisers have in common, and the size of the U-Net."""

from __future__ import annotations

import pytest
import torch

from diffhmr.models.mlp_denoiser import MlpDenoiser
from diffhmr.models.unet1d import UnetDenoiser

POSE, FULL = 144, 157


def _denoiser(kind: str, state_dim: int, condition_dim: int = 20) -> MlpDenoiser | UnetDenoiser:
    torch.manual_seed(0)
    if kind == "mlp":
        return MlpDenoiser(state_dim, condition_dim, width=32, blocks=2)
    return UnetDenoiser(state_dim, condition_dim, dim=8, mults=(1, 2, 4, 8))


@pytest.mark.parametrize("state_dim", [POSE, FULL])
@pytest.mark.parametrize("kind", ["mlp", "unet"])
def test_samples_are_independent_and_a_shared_time_is_the_same_as_many(kind: str, state_dim: int) -> None:
    denoiser = _denoiser(kind, state_dim)
    x_t, features = torch.randn(3, 4, state_dim), torch.randn(3, 20)
    condition = denoiser.condition(features)
    shared = denoiser(x_t, torch.tensor([[3], [700], [9]]), condition)
    each = denoiser(x_t, torch.tensor([[3] * 4, [700] * 4, [9] * 4]), condition)
    assert shared.shape == x_t.shape
    torch.testing.assert_close(shared, each, atol=1e-5, rtol=1e-5)
    alone = denoiser(x_t[1:2, 2:3], torch.tensor([[700]]), denoiser.condition(features[1:2]))
    torch.testing.assert_close(shared[1, 2], alone[0, 0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["mlp", "unet"])
def test_output_depends_on_state_time_and_condition(kind: str) -> None:
    denoiser = _denoiser(kind, FULL)
    x_t, t, condition = torch.randn(2, 1, FULL), torch.tensor([[10], [10]]), denoiser.condition(torch.randn(2, 20))
    base = denoiser(x_t, t, condition)
    changed_x = x_t.clone()
    changed_x[..., -1] += 1.0  # the camera, which the U-Net keeps in its last token
    for other in (
        denoiser(changed_x, t, condition),
        denoiser(x_t, t + 300, condition),
        denoiser(x_t, t, denoiser.condition(torch.randn(2, 20))),
    ):
        assert (other - base).abs().amax((1, 2)).min().item() > 1e-4


@pytest.mark.parametrize("state_dim", [POSE, FULL])
@pytest.mark.parametrize("kind", ["mlp", "unet"])
def test_every_parameter_learns_from_the_first_step(kind: str, state_dim: int) -> None:
    denoiser = _denoiser(kind, state_dim)
    condition = denoiser.condition(torch.randn(3, 20))
    output = denoiser(torch.randn(3, 2, state_dim), torch.randint(0, 50, (3, 2)), condition)
    (output - torch.randn_like(output)).square().mean().backward()
    for name, parameter in denoiser.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert parameter.grad.abs().max().item() > 0, name


def test_the_unet_of_the_lineage_has_14_9_million_parameters() -> None:
    denoiser = UnetDenoiser(POSE, 2048)
    count = sum(parameter.numel() for parameter in denoiser.unet.parameters())
    assert count == pytest.approx(14.9e6, rel=0.02)
    projection = sum(parameter.numel() for parameter in denoiser.condition_in.parameters())
    assert projection == 2048 * 256 + 256


@pytest.mark.parametrize(
    ("state_dim", "mults", "length"), [(144, (1, 2, 4, 8), 24), (157, (1, 2, 4, 8), 32), (157, (1, 2), 28)]
)
def test_tokens_are_padded_to_what_the_levels_need(state_dim: int, mults: tuple[int, ...], length: int) -> None:
    denoiser = UnetDenoiser(state_dim, 4, dim=8, mults=mults)
    assert denoiser.length == length
    seen: list[torch.Tensor] = []
    denoiser.unet.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x_t = torch.randn(1, 1, state_dim)
    denoiser(x_t, torch.tensor([[1]]), denoiser.condition(torch.randn(1, 4)))
    tokens = seen[0].transpose(1, 2).flatten(1)
    assert tokens.shape == (1, 6 * length)
    assert torch.equal(tokens[:, :state_dim], x_t[0])  # six numbers of a joint are one token
    assert tokens[:, state_dim:].abs().sum().item() == 0
