"""What models and data sets exchange: a batch of people, the truth about them, and a prediction of them."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from diffhmr.body.params import SmplParams


@dataclass(frozen=True)
class Targets:
    """Supervision for B people in the frame of their crop camera (x right, y down, z forward).

    Joints are the 49 of ``SPIN49``. Every label carries its validity: a confidence of 0 or a flag that is False.

    Attributes:
        params: SMPL parameters ``[B]``; ``transl`` is None.
        camera: ``[B, 3]`` (s, tx, ty) on the crop.
        joints3d: ``[B, 49, 4]`` metres, relative to no particular root, and confidence.
        joints2d: ``[B, 49, 3]`` crop coordinates in [-1, 1] (outside when truncated) and confidence.
        visible: ``[B, 49]`` bool, the joint is seen in the crop: not hidden by the person, an object or the border.
        has_params: ``[B]`` bool, ``params`` are valid.
        has_camera: ``[B]`` bool, ``camera`` is valid.
        occluded: ``[B]`` bool, an object hides at least one joint of COCO-17 that would otherwise be seen.
        truncated: ``[B]`` bool, at least one joint of COCO-17 lies outside the crop or beyond the photograph's border.
        mask: ``[B, H, W]`` bool, visible pixels of the person, or None.
        part: ``[B, H, W]`` int16, the bone (SMPL's 24) whose surface a pixel shows, -1 where the person is not seen; or
            None.
        gender: ``[B]`` int64: 0 male, 1 female, -1 unknown; or None.
        item: ``[B]`` int64, the row in the label file, or None. Where several label files make one data set their rows
            count on from one file to the next, in the order of the settings.
    """

    params: SmplParams
    camera: Tensor
    joints3d: Tensor
    joints2d: Tensor
    visible: Tensor
    has_params: Tensor
    has_camera: Tensor
    occluded: Tensor
    truncated: Tensor
    mask: Tensor | None = None
    part: Tensor | None = None
    gender: Tensor | None = None
    item: Tensor | None = None

    def __post_init__(self) -> None:
        size = self.camera.shape[0]
        expected = {
            "camera": (size, 3),
            "joints3d": (size, 49, 4),
            "joints2d": (size, 49, 3),
            "visible": (size, 49),
            "has_params": (size,),
            "has_camera": (size,),
            "occluded": (size,),
            "truncated": (size,),
        }
        expected |= {name: (size,) for name in ("gender", "item") if getattr(self, name) is not None}
        _check_shapes(self, expected)
        if tuple(self.params.shape) != (size,):
            raise ValueError(f"Targets.params has leading shape {tuple(self.params.shape)}, expected ({size},)")


@dataclass(frozen=True)
class ImageBatch:
    """Input for B people.

    Attributes:
        item_seed: ``[B]`` int64, identifies each item; per-item randomness is derived from it.
        image: ``[B, 3, H, W]`` RGB in [0, 1], or None when only keypoints are used. Encoders normalise it themselves.
        keypoints: ``[B, 17, 3]`` COCO-17 points: x, y in [-1, 1] over the box, confidence; all three are 0 when a point
            is unseen. None when only images are used.
        targets: the truth, or None at inference.
    """

    item_seed: Tensor
    image: Tensor | None = None
    keypoints: Tensor | None = None
    targets: Targets | None = None

    def __post_init__(self) -> None:
        size = self.item_seed.shape[0]
        if self.image is not None and (self.image.dim() != 4 or self.image.shape[:2] != (size, 3)):
            raise ValueError(f"ImageBatch.image has shape {tuple(self.image.shape)}, expected ({size}, 3, H, W)")
        if self.keypoints is not None and tuple(self.keypoints.shape) != (size, 17, 3):
            raise ValueError(f"ImageBatch.keypoints has shape {tuple(self.keypoints.shape)}, expected ({size}, 17, 3)")

    def __len__(self) -> int:
        return self.item_seed.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the input lies."""
        source = self.keypoints if self.image is None else self.image
        return self.item_seed.device if source is None else source.device

    def to(self, device: torch.device | str) -> ImageBatch:
        """The same batch on ``device``."""
        moved = _move(self, device)
        targets = None if self.targets is None else _move(self.targets, device)
        return replace(moved, targets=targets)


@dataclass(frozen=True)
class Prediction:
    """S hypotheses for each of B people, in the frame of the crop camera.

    Hypothesis 0 is the single answer (the chain started from zero noise); hypotheses 1 to S-1 are random samples. For
    a deterministic model all S are the same.

    Attributes:
        params: SMPL parameters ``[B, S]``; ``transl`` is None.
        camera: ``[B, S, 3]`` (s, tx, ty) on the crop.
        deterministic: the model has one answer only.
    """

    params: SmplParams
    camera: Tensor
    deterministic: bool = False

    def __post_init__(self) -> None:
        lead = tuple(self.params.shape)
        if len(lead) != 2:
            raise ValueError(f"Prediction.params has leading shape {lead}, expected (B, S)")
        _check_shapes(self, {"camera": (*lead, 3)})


_Value = TypeVar("_Value", ImageBatch, Targets)


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
