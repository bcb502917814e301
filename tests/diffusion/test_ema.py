"""Moving average of weights against its closed form."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from diffhmr.diffusion.ema import Ema


def _model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def _set(model: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


def test_warm_up_follows_the_formula_and_reaches_the_decay() -> None:
    model = _model()
    _set(model, 0.0)
    ema, expected = Ema(model, decay=0.5), 0.0
    for n in range(1, 31):
        _set(model, float(n))
        ema.update(model)
        decay = min(0.5, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * n
        averaged = _model()
        ema.copy_to(averaged)
        assert averaged[0].weight[0, 0].item() == pytest.approx(expected, rel=1e-5)
    assert min(0.5, 31 / 40) == 0.5


def test_buffers_are_copied_not_averaged() -> None:
    model = _model()
    ema = Ema(model, decay=0.9)
    model(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)) + 5)
    ema.update(model)
    averaged = _model()
    ema.copy_to(averaged)
    assert torch.equal(averaged[1].running_mean, model[1].running_mean)
    assert int(averaged[1].num_batches_tracked) == 1


def test_resumed_average_is_bit_identical() -> None:
    def run(model: nn.Module, ema: Ema, steps: range) -> None:
        for step in steps:
            _set(model, float(step) ** 0.5)
            ema.update(model)

    model = _model()
    straight, first = Ema(model), Ema(model)
    run(copy.deepcopy(model), straight, range(20))
    run(copy.deepcopy(model), first, range(7))
    resumed = Ema(_model())
    resumed.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    run(copy.deepcopy(model), resumed, range(7, 20))
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_model_itself_is_left_alone() -> None:
    model = _model()
    before = copy.deepcopy(model.state_dict())
    ema = Ema(model)
    ema.update(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_state_of_another_model_is_refused() -> None:
    with pytest.raises(ValueError, match="another model"):
        Ema(nn.Linear(2, 2)).load_state_dict(Ema(nn.Sequential(nn.Linear(2, 2))).state_dict())
    with pytest.raises(ValueError, match="decay"):
        Ema(nn.Linear(2, 2), decay=1.0)
