"""What happens in one training step: seeds, weighted loss, learning rate, optimiser, check for finite numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from diffhmr.config import LossConfig, TrainConfig
from diffhmr.config_clips import ClipLossConfig, ClipTrainConfig
from diffhmr.diffusion.noise import sample_seed
from diffhmr.errors import UserError
from diffhmr.training.data import ItemBatch
from diffhmr.training.task import Learner

_BACKBONE = "network.backbone."
_LR_SHARE = "lr_share"


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
    """AdamW (Loshchilov and Hutter, ICLR 2019) that decays matrices and kernels, but no biases, norms or gains.

    With ``backbone_lr`` the parameters below ``network.backbone`` learn at ``backbone_lr / lr`` of the others' rate, at
    all times.

    Raises:
        UserError: there is a ``backbone_lr``, but nothing beside the backbone learns.
    """
    trainable = {name: value for name, value in model.named_parameters() if value.requires_grad}
    backbone_lr = train.backbone_lr if isinstance(train, ClipTrainConfig) else None
    if backbone_lr is None:
        groups = _decay_groups(list(trainable.values()), train.weight_decay)
    else:
        backbone = [value for name, value in trainable.items() if name.startswith(_BACKBONE)]
        rest = [value for name, value in trainable.items() if not name.startswith(_BACKBONE)]
        if not backbone or not rest:
            raise UserError("train.backbone_lr is set, but this model has no head beside its backbone: use train.lr")
        share = {_LR_SHARE: backbone_lr / train.lr}
        groups = _decay_groups(rest, train.weight_decay)
        groups += [group | share for group in _decay_groups(backbone, train.weight_decay)]
    return torch.optim.AdamW(groups, lr=train.lr)


def _decay_groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    # A gain per channel may be stored as [C, 1]: what counts is in how many dimensions a parameter has an extent.
    extents = [sum(size > 1 for size in value.shape) for value in parameters]
    groups = [
        {"params": [v for v, n in zip(parameters, extents, strict=True) if n >= 2], "weight_decay": weight_decay},
        {"params": [v for v, n in zip(parameters, extents, strict=True) if n < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Use ``value`` from now on, and its share for the parameters of a backbone with a rate of its own."""
    for group in optimizer.param_groups:
        group["lr"] = value * group.get(_LR_SHARE, 1.0)


class LossTerms(nn.Module):
    """A model's loss terms as a forward pass, which is what wrappers that average gradients can see.

    Args:
        model: a :class:`diffhmr.training.task.Learner`.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: ItemBatch, seed: int) -> dict[str, Tensor]:
        """The terms; every random number in them follows from ``seed`` and the items."""
        return cast(Learner, self.model).loss(batch, torch.Generator().manual_seed(seed))


def weighted_sum(terms: Mapping[str, Tensor], weights: LossConfig | ClipLossConfig) -> Tensor:
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
    network: nn.Module, batch: ItemBatch, seed: int, weights: LossConfig | ClipLossConfig, max_norm: float
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
