"""What happens in one training step: seeds, weighted loss, learning rate, optimiser, check for finite numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffhmr.batch import ImageBatch
from diffhmr.config import LossConfig, TrainConfig
from diffhmr.diffusion.noise import sample_seed
from diffhmr.errors import UserError
from diffhmr.models import HmrModel


def step_seed(seed: int, step: int) -> int:
    """The seed of all random numbers of a training step; with the item seeds it makes the step reproducible."""
    return sample_seed(seed, "training step", step)


def learning_rate(step: int, train: TrainConfig) -> float:
    """Linear warm-up to ``train.lr``, then constant or half a cosine down to zero at ``train.steps``."""
    if step < train.warmup_steps:
        return train.lr * (step + 1) / (train.warmup_steps + 1)
    if train.decay == "constant":
        return train.lr
    progress = (step - train.warmup_steps) / max(1, train.steps - train.warmup_steps)
    return train.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def build_optimizer(model: nn.Module, train: TrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, ICLR 2019) that decays matrices and kernels, but no biases, norms or gains."""
    trainable = [value for value in model.parameters() if value.requires_grad]
    # A gain per channel may be stored as [C, 1]: what counts is in how many dimensions a parameter has an extent.
    extents = [sum(size > 1 for size in value.shape) for value in trainable]
    groups = [
        {"params": [v for v, n in zip(trainable, extents, strict=True) if n >= 2], "weight_decay": train.weight_decay},
        {"params": [v for v, n in zip(trainable, extents, strict=True) if n < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=train.lr)


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Use ``value`` for all parameters from now on."""
    for group in optimizer.param_groups:
        group["lr"] = value


class LossTerms(nn.Module):
    """A model's loss terms as a forward pass, which is what wrappers that average gradients can see.

    Args:
        model: has ``loss(batch, generator)``, unweighted scalar terms named as the fields of :class:`LossConfig`.
    """

    def __init__(self, model: HmrModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: ImageBatch, seed: int) -> dict[str, Tensor]:
        """The terms; every random number in them follows from ``seed`` and the items."""
        return self.model.loss(batch, torch.Generator().manual_seed(seed))


def weighted_sum(terms: Mapping[str, Tensor], weights: LossConfig) -> Tensor:
    """The total of the terms, whose names are those of the weights; terms of weight 0 are left out.

    Raises:
        UserError: no term has a weight.
    """
    factors: dict[str, float] = weights.model_dump()
    weighted = [factors[name] * term for name, term in terms.items() if factors[name] > 0]
    if not weighted:
        raise UserError("nothing to learn: all weights of this model's terms in the section loss are 0")
    return torch.stack(weighted).sum()


@dataclass(frozen=True)
class Gradients:
    """Outcome of a backward pass; the gradients themselves lie in the parameters.

    Attributes:
        total: the weighted loss of this process's share of the batch, detached scalar.
        terms: the unweighted terms, detached scalars.
        norm: 2-norm of all gradients (averaged over the processes) before clipping, scalar.
    """

    total: Tensor
    terms: dict[str, Tensor]
    norm: Tensor

    def finite(self) -> bool:
        """Loss and gradients are finite. Waits for the device."""
        return bool(torch.isfinite(torch.stack([self.total, self.norm])).all())


def compute_gradients(
    network: nn.Module, batch: ImageBatch, seed: int, weights: LossConfig, max_norm: float
) -> Gradients:
    """Replace the gradients of all parameters by those for ``batch``, clipped to ``max_norm``.

    Args:
        network: :class:`LossTerms`, alone or averaged over processes.
        batch: on the device of the network.
        seed: of the step, see :func:`step_seed`.
        weights: of the terms.
        max_norm: for the 2-norm of all gradients.
    """
    for parameter in network.parameters():
        parameter.grad = None
    terms: dict[str, Tensor] = network(batch, seed)
    total = weighted_sum(terms, weights)
    total.backward()
    norm = nn.utils.clip_grad_norm_(network.parameters(), max_norm)
    return Gradients(total.detach(), {name: term.detach() for name, term in terms.items()}, norm)
