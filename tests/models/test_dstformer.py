from __future__ import annotations

import pytest
import torch
from torch import Tensor

from diffhmr.errors import UserError
from diffhmr.models import dstformer
from diffhmr.models.dstformer import FULL, LITE, DSTformer, DSTformerSize
from tests.models.formulas import dstformer_features, linear, randomised
from tests.models.layouts import dstformer_layout

SMALL = DSTformerSize(width=16, hidden=24, depth=2, heads=4, features=12, max_frames=243)


def _clips(batch: int, frames: int, seed: int = 0) -> Tensor:
    return torch.rand(batch, frames, 17, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _small() -> DSTformer:
    network = DSTformer(SMALL)
    randomised(network)
    return network.eval()


@pytest.mark.parametrize(("size", "width", "count"), [(FULL, 512, 42_466_317), (LITE, 256, 16_001_549)])
def test_the_parameters_are_those_of_official_files(size: DSTformerSize, width: int, count: int) -> None:
    with torch.device("meta"):
        network = DSTformer(size)
    state = network.state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == dstformer_layout(width)
    assert len(state) == 260
    assert sum(value.numel() for value in network.parameters()) == count


@pytest.mark.parametrize("frames", [1, 7])
def test_the_forward_pass_is_the_formula(frames: int) -> None:
    network = _small()
    x = _clips(2, frames)
    features = network.get_representation(x)
    assert features.shape == (2, frames, 17, 12)
    state = network.state_dict()
    expected = dstformer_features(state, x, SMALL.depth, SMALL.heads)
    assert expected.std() > 0.1
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(network(x), linear(state, "head", expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("frames", [1, 16, 243])
def test_a_clip_alone_or_in_a_batch_has_the_same_features(frames: int) -> None:
    network = _small()
    x = _clips(3, frames)
    together = network.get_representation(x)
    for i in range(3):
        torch.testing.assert_close(network.get_representation(x[i : i + 1])[0], together[i], atol=1e-5, rtol=0)


@torch.no_grad()
def test_the_full_network_alone_or_in_a_batch() -> None:
    """16 frames, at the official initialisation, whose statistics are held here too."""
    torch.manual_seed(0)
    network = DSTformer(FULL).eval()
    x = _clips(2, 16)
    together = network.get_representation(x)
    assert together.shape == (2, 16, 17, 512)
    torch.testing.assert_close(network.get_representation(x[1:])[0], together[1], atol=1e-5, rtol=0)

    state = network.state_dict()
    for name in ("temp_embed", "pos_embed", "blocks_ts.3.attn_t.qkv.weight", "joints_embed.weight", "head.weight"):
        assert abs(state[name].std().item() / 0.02 - 1) < 0.1, name
    for name, value in state.items():
        if name.startswith("ts_attn"):
            assert bool((value == (0.5 if name.endswith("bias") else 0)).all()), name
        elif name.endswith("bias"):
            assert bool((value == 0).all()), name
        elif "norm" in name:
            assert bool((value == 1).all()), name


@pytest.mark.slow
@pytest.mark.parametrize("size", [FULL, LITE])
@torch.no_grad()
def test_official_sizes_alone_or_in_a_batch_of_the_longest_clips(size: DSTformerSize) -> None:
    torch.manual_seed(0)
    network = DSTformer(size).eval()
    x = _clips(2, 243)
    together = network.get_representation(x)
    torch.testing.assert_close(network.get_representation(x[1:])[0], together[1], atol=1e-5, rtol=0)


def test_more_sequences_than_a_kernel_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    network = _small()
    x = _clips(3, 5)
    expected = network.get_representation(x)
    monkeypatch.setattr(dstformer, "_MOST_SEQUENCES", 7)
    torch.testing.assert_close(network.get_representation(x), expected, atol=1e-6, rtol=0)


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    network = DSTformer(SMALL)
    network(_clips(2, 6)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert parameter.grad.abs().max().item() > 0, name
    # Embeddings of frames that a clip does not have are not touched.
    gradient = network.temp_embed.grad
    assert gradient is not None
    assert bool((gradient[:, 6:] == 0).all())
    assert bool((gradient[:, :6].abs().amax(dim=(0, 2, 3)) > 0).all())


def test_clips_that_do_not_fit_are_refused() -> None:
    network = _small()
    for frames in (0, 244):
        with pytest.raises(UserError, match=f"{frames} frames .* takes 1 to 243"):
            network.get_representation(torch.zeros(1, frames, 17, 3))
    for shape in ((1, 4, 16, 3), (1, 4, 17, 2), (4, 17, 3)):
        with pytest.raises(ValueError, match="shape"):
            network(torch.zeros(shape))
    with pytest.raises(UserError, match="multiple of its heads"):
        DSTformerSize(width=20)
