"""Exponential moving average of a model's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_COUNT = "num_updates"
_PREFIX = "weights."


class Ema:
    """Averages the parameters of a model and copies its buffers.

    The decay warms up as ``min(decay, (1 + n) / (10 + n))`` after n updates, so that the random start is forgotten
    quickly. Buffers (batch-norm statistics, normalisation constants) are copied, not averaged. Non-persistent buffers
    are left alone.

    Args:
        model: where the average starts.
        decay: final decay, in [0, 1).

    Raises:
        ValueError: the decay is outside [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of the moving average must lie in [0, 1), got {decay}")
        self.decay = decay
        self.num_updates = 0
        self._weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the current weights of ``model``."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        parameters = dict(model.named_parameters(remove_duplicate=False))
        averaged: list[Tensor] = []
        current: list[Tensor] = []
        for name, value in model.state_dict().items():
            if name in parameters and value.is_floating_point():
                averaged.append(self._weights[name])
                current.append(value.detach())
            else:
                self._weights[name].copy_(value)
        if averaged:
            torch._foreach_lerp_(averaged, current, 1 - decay)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Overwrite the weights and persistent buffers of ``model`` with the average."""
        model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything needed to go on exactly: a flat dictionary of tensors."""
        state = {_PREFIX + name: value for name, value in self._weights.items()}
        state[_COUNT] = torch.tensor(self.num_updates, dtype=torch.int64)
        return state

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore :meth:`state_dict`.

        Raises:
            ValueError: the names are not those of this model's weights.
        """
        wanted = {_PREFIX + name for name in self._weights} | {_COUNT}
        if wanted != set(state):
            different = sorted(wanted ^ set(state))
            raise ValueError(f"the moving average belongs to another model; names that differ: {different[:5]}")
        for name, value in self._weights.items():
            value.copy_(state[_PREFIX + name])
        self.num_updates = int(state[_COUNT])
