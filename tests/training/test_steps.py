"""The parts of a step: learning rate, weight decay, the total, gradients, seeds."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from diffhmr.batch import ImageBatch
from diffhmr.config import LossConfig, TrainConfig
from diffhmr.config_clips import ClipTrainConfig
from diffhmr.errors import UserError
from diffhmr.models.unet1d import UnetDenoiser
from diffhmr.training.steps import (
    build_optimizer,
    compute_gradients,
    learning_rate,
    set_learning_rate,
    step_seed,
    weighted_sum,
)


def test_learning_rate_warms_up_and_decays() -> None:
    train = TrainConfig(lr=1.0, warmup_steps=4, steps=104)
    rates = [learning_rate(step, train) for step in range(104)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[54] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0.00025, abs=1e-4)
    assert all(late < early for early, late in itertools.pairwise(rates[4:]))
    constant = TrainConfig(lr=1.0, warmup_steps=4, steps=104, decay="constant")
    assert [learning_rate(step, constant) for step in (4, 50, 103)] == [1.0, 1.0, 1.0]
    assert learning_rate(0, TrainConfig(lr=1.0, warmup_steps=0, steps=1)) == 1.0


def test_decay_spares_biases_and_norms() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Conv1d(3, 3, 1))
    model[2].weight.requires_grad_(False)
    decayed, spared = build_optimizer(model, TrainConfig(weight_decay=0.1)).param_groups
    assert decayed["weight_decay"] == 0.1 and spared["weight_decay"] == 0
    assert {id(value) for value in decayed["params"]} == {id(model[0].weight)}
    assert {id(value) for value in spared["params"]} == {
        id(value) for value in (model[0].bias, model[1].weight, model[1].bias, model[2].bias)
    }


def test_decay_spares_the_gains_of_the_unet() -> None:
    model = UnetDenoiser(state_dim=144, condition_dim=8, dim=8, mults=(1, 2))
    groups = build_optimizer(model, TrainConfig()).param_groups
    decayed, spared = ({id(value) for value in group["params"]} for group in groups)
    gains = {id(value) for name, value in model.named_parameters() if name.endswith("gain")}
    kernels = {id(value) for name, value in model.named_parameters() if name.endswith("weight")}
    assert gains and gains <= spared
    assert kernels == decayed


class OnBackbone(nn.Module):
    """The parameters of a model on clips, as far as names matter."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.ModuleDict({"backbone": nn.Linear(3, 3), "head": nn.Linear(3, 2)})


@pytest.mark.parametrize("share", [0.1, 3.0])
def test_the_backbone_learns_at_its_own_rate(share: float) -> None:
    """AdamW's first step is as long as the learning rate, whatever the gradient: in warm-up and at the end alike."""
    train = ClipTrainConfig(lr=0.01, backbone_lr=0.01 * share, warmup_steps=4, steps=20, weight_decay=0.0)
    for step in (0, 4, 12):
        model = OnBackbone()
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        optimizer = build_optimizer(model, train)
        sum(value.sum() for value in model.parameters()).backward()  # type: ignore[union-attr]
        set_learning_rate(optimizer, learning_rate(step, train))
        optimizer.step()
        moved = {name: float((value.detach() - before[name]).abs().mean()) for name, value in model.named_parameters()}
        rate = learning_rate(step, train)
        for name, distance in moved.items():
            assert distance == pytest.approx(rate * (share if ".backbone." in name else 1), rel=1e-3), name


def test_a_rate_of_the_backbone_survives_the_state() -> None:
    train = ClipTrainConfig(lr=0.01, backbone_lr=0.001)
    groups = build_optimizer(OnBackbone(), train).param_groups
    assert [(group["weight_decay"] > 0, group.get("lr_share")) for group in groups] == [
        (True, None), (False, None), (True, pytest.approx(0.1)), (False, pytest.approx(0.1)),
    ]  # fmt: skip
    other = build_optimizer(OnBackbone(), train)
    other.load_state_dict(build_optimizer(OnBackbone(), train).state_dict())
    set_learning_rate(other, 0.5)
    assert [group["lr"] for group in other.param_groups] == pytest.approx([0.5, 0.5, 0.05, 0.05])
    assert all("lr_share" not in group for group in build_optimizer(OnBackbone(), ClipTrainConfig()).param_groups)


def test_a_rate_of_the_backbone_needs_one() -> None:
    for model in (nn.Linear(2, 2), OnBackbone()):
        if isinstance(model, OnBackbone):
            model.network["head"].requires_grad_(False)
        with pytest.raises(UserError, match=r"backbone_lr is set, but this model has no head beside its backbone"):
            build_optimizer(model, ClipTrainConfig(backbone_lr=0.1))


def test_total_is_the_weighted_sum() -> None:
    terms = {"diffusion": torch.tensor(2.0), "regressor_joints3d": torch.tensor(3.0)}
    assert float(weighted_sum(terms, LossConfig(diffusion=0.5, regressor_joints3d=4))) == 13
    unused = {**terms, "x0_joints3d": torch.tensor(float("nan"))}
    assert float(weighted_sum(unused, LossConfig(diffusion=0.5, regressor_joints3d=4))) == 13
    with pytest.raises(UserError, match="nothing to learn"):
        weighted_sum(terms, LossConfig(diffusion=0, regressor_joints3d=0))


def test_gradients_are_fresh_and_clipped() -> None:
    layer = nn.Linear(2, 1, bias=False)
    nn.init.ones_(layer.weight)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, _: ImageBatch, seed: int) -> dict[str, torch.Tensor]:
            return {"diffusion": seed * layer(torch.tensor([3.0, 4.0])).sum()}

    batch = ImageBatch(torch.zeros(1, dtype=torch.int64))
    for _ in range(2):  # gradients of an earlier step must not add up
        outcome = compute_gradients(Network(), batch, 2, LossConfig(), max_norm=1.0)
        assert float(outcome.total) == 14 and float(outcome.norm) == pytest.approx(10)
        assert layer.weight.grad is not None
        torch.testing.assert_close(layer.weight.grad, torch.tensor([[0.6, 0.8]]))
        assert outcome.finite()
    compute_gradients(Network(), batch, 2, LossConfig(), max_norm=100.0)
    torch.testing.assert_close(layer.weight.grad, torch.tensor([[6.0, 8.0]]))
    layer.weight.data.fill_(float("inf"))
    assert not compute_gradients(Network(), batch, 2, LossConfig(), max_norm=1.0).finite()


def test_step_seeds_differ() -> None:
    seeds = {step_seed(seed, step) for seed in range(3) for step in range(100)}
    assert len(seeds) == 300 and step_seed(1, 2) == step_seed(1, 2)
