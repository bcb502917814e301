"""What models and data sets of clips exchange: 2D keypoints of people over time, the truth, and a prediction of it.

Keypoints are H36M-17 (right leg first). Unless it is said otherwise their x and y count from the middle of the picture
in halves of its shorter side, y down, so that they run over [-1, 1] along that side.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from diffhmr.body.params import SmplParams


@dataclass(frozen=True)
class ClipTargets:
    """The truth about B clips of T frames in the camera frame (x right, y down, z forward).

    Attributes:
        rotations: ``[B, T, 24, 3, 3]``: of the pelvis into the camera frame, of the others relative to their parents.
        betas: ``[B, 10]``, one shape per clip.
        position: ``[B, T, 3]`` metres, the pelvis joint; None where it is not known.
        visible: ``[B, T, 17]`` bool, the joints of H36M-17 that can be seen; None where it is not known.
        gender: ``[B]`` int64: 0 male, 1 female, -1 unknown; or None.
    """

    rotations: Tensor
    betas: Tensor
    position: Tensor | None = None
    visible: Tensor | None = None
    gender: Tensor | None = None

    def __post_init__(self) -> None:
        lead = tuple(self.rotations.shape[:2])
        expected: dict[str, tuple[int, ...]] = {"rotations": (*lead, 24, 3, 3), "betas": (*lead[:1], 10)}
        optional = {"position": (*lead, 3), "visible": (*lead, 17), "gender": lead[:1]}
        _check_shapes(self, expected | {k: v for k, v in optional.items() if getattr(self, k) is not None})

    @property
    def params(self) -> SmplParams:
        """Rotations and betas per frame, ``[B, T]``."""
        frames = self.rotations.shape[1]
        return SmplParams.from_rotations(self.rotations, self.betas.unsqueeze(1).expand(-1, frames, -1))


@dataclass(frozen=True)
class ClipBatch:
    """Input for B clips of T frames with one person each: what meshes are recovered from.

    Attributes:
        item_seed: ``[B]`` int64, identifies each clip; per-item randomness is derived from it.
        keypoints: ``[B, T, 17, 3]`` x, y and confidence; unseen points have confidence 0.
        fps: ``[B]`` frames per second.
        initial: SMPL parameters ``[B, T]`` that are to be refined, or None.
        targets: the truth, or None at inference.
    """

    item_seed: Tensor
    keypoints: Tensor
    fps: Tensor
    initial: SmplParams | None = None
    targets: ClipTargets | None = None

    def __post_init__(self) -> None:
        size = self.item_seed.shape[0]
        frames = self.keypoints.shape[1]
        expected: dict[str, tuple[int, ...]] = {"keypoints": (size, frames, 17, 3), "fps": (size,)}
        _check_shapes(self, expected | ({} if self.initial is None else {"initial": (size, frames)}))

    def __len__(self) -> int:
        return self.item_seed.shape[0]

    @property
    def num_frames(self) -> int:
        """T."""
        return self.keypoints.shape[1]

    def to(self, device: torch.device | str) -> ClipBatch:
        """The same batch on ``device``."""
        targets = None if self.targets is None else _move(self.targets, device)
        return replace(_move(self, device), targets=targets)


@dataclass(frozen=True)
class ClipPrediction:
    """S hypotheses for each of B clips of T frames.

    Hypothesis 0 is the single answer; the others are random motions. For a deterministic model all S are the same.

    Attributes:
        params: SMPL parameters ``[B, S, T]`` in the camera frame; ``transl`` is None. The betas of all frames of a
            hypothesis are the same.
        deterministic: the model has one answer only.
    """

    params: SmplParams
    deterministic: bool = False

    def __post_init__(self) -> None:
        if len(self.params.shape) != 3:
            raise ValueError(f"ClipPrediction.params has leading shape {tuple(self.params.shape)}, expected (B, S, T)")


@dataclass(frozen=True)
class LiftingBatch:
    """B clips of T frames for the tasks ``pretrain`` and ``pose3d``.

    Attributes:
        item_seed: ``[B]`` int64.
        keypoints: ``[B, T, 17, 3]``, what the network sees.
        positions: ``[B, T, 17, 3]`` the wanted x, y (of the picture, as of the keypoints) and z in the same unit.
        weight: ``[B, T, 17]`` confidence of the wanted x and y.
        has_depth: ``[B]`` bool, the z are known; of the other clips only x and y are.
        mm_per_unit: ``[B, T]`` millimetres per unit of the positions, or None where the size is not known.
    """

    item_seed: Tensor
    keypoints: Tensor
    positions: Tensor
    weight: Tensor
    has_depth: Tensor
    mm_per_unit: Tensor | None = None

    def __post_init__(self) -> None:
        lead = tuple(self.keypoints.shape[:2])
        expected: dict[str, tuple[int, ...]] = {
            "item_seed": lead[:1],
            "keypoints": (*lead, 17, 3),
            "positions": (*lead, 17, 3),
            "weight": (*lead, 17),
            "has_depth": lead[:1],
        }
        _check_shapes(self, expected | ({} if self.mm_per_unit is None else {"mm_per_unit": lead}))

    def __len__(self) -> int:
        return self.item_seed.shape[0]

    def to(self, device: torch.device | str) -> LiftingBatch:
        """The same batch on ``device``."""
        return _move(self, device)


@dataclass(frozen=True)
class ActionBatch:
    """B clips of T frames with up to M people for the task ``action``.

    Attributes:
        item_seed: ``[B]`` int64.
        keypoints: ``[B, M, T, 17, 3]``; an empty place is all 0.
        label: ``[B]`` int64, the class.
    """

    item_seed: Tensor
    keypoints: Tensor
    label: Tensor

    def __post_init__(self) -> None:
        size, people, frames = self.keypoints.shape[:3]
        _check_shapes(self, {"item_seed": (size,), "keypoints": (size, people, frames, 17, 3), "label": (size,)})

    def __len__(self) -> int:
        return self.item_seed.shape[0]

    def to(self, device: torch.device | str) -> ActionBatch:
        """The same batch on ``device``."""
        return _move(self, device)


AnyClipBatch = ClipBatch | LiftingBatch | ActionBatch
_Value = TypeVar("_Value", ClipBatch, ClipTargets, LiftingBatch, ActionBatch)


def _check_shapes(owner: object, expected: dict[str, tuple[int, ...]]) -> None:
    for name, shape in expected.items():
        actual = tuple(getattr(owner, name).shape)
        if actual != shape:
            raise ValueError(f"{type(owner).__name__}.{name} has shape {actual}, expected {shape}")


def _move(value: _Value, device: torch.device | str) -> _Value:
    changes: dict[str, Any] = {}
    for field in fields(value):
        content = getattr(value, field.name)
        if isinstance(content, (Tensor, SmplParams)):
            changes[field.name] = content.to(device)
    return replace(value, **changes)
