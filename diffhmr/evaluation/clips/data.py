"""Which sequences an evaluation measures: synthetic ones, or those of files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.checkpoint import REPOSITORY
from diffhmr.clip_batch import ClipBatch, ClipTargets
from diffhmr.config_clips import ClipDataConfig, ClipNoiseConfig
from diffhmr.datasets.clips import SyntheticClips
from diffhmr.datasets.labels import read_labels
from diffhmr.errors import UserError
from diffhmr.evaluation.clips.protocols import (
    SYNTHETIC_MOTION,
    ClipProtocol,
    find_clip_protocol,
    is_label_file,
    kind_of_file,
    on_other_files,
)
from diffhmr.evaluation.clips.sequences import LabelledSequence, cut, sequences_of_labels, sequences_of_mesh_det
from diffhmr.evaluation.data import describe_file

_SYNTHETIC = (
    "kind", "seed", "fps", "motions", "activities", "keypoint_noise", "occluder", "truncation", "test_frames",
    "test_items",
)  # fmt: skip


@dataclass(frozen=True)
class MeasuredClips:
    """B sequences of T frames.

    Attributes:
        batch: with targets.
        valid: ``[B, T]`` bool, frames that are measured. The others have no truth, and mostly no keypoints.
        coco: ``[B, T, 17, 3]`` the same detections as COCO-17, x and y from the middle of the picture in halves of its
            shorter side, which is not the unit of the batch's keypoints where a protocol gives pictures a size; None
            where there are none.
    """

    batch: ClipBatch
    valid: Tensor
    coco: Tensor | None = None

    def to(self, device: torch.device | str) -> MeasuredClips:
        """The same on ``device``."""
        coco = None if self.coco is None else self.coco.to(device)
        return MeasuredClips(self.batch.to(device), self.valid.to(device), coco)


class ClipSet(Protocol):
    """Sequences to be measured, each the same in any batch."""

    @property
    def names(self) -> Sequence[str]:
        """Of the sequences."""

    @property
    def lengths(self) -> Sequence[int]:
        """Frames of each."""

    def take(self, indices: Sequence[int]) -> MeasuredClips:
        """The sequences ``indices``, which have the same length."""


@dataclass(frozen=True)
class ClipSource:
    """What a model is evaluated on.

    Attributes:
        dataset: name of the data set.
        protocol: name of one of its protocols; None for the default.
        data: its file or the folder with it; None for where the protocol looks in ``data/``.

    Raises:
        UserError: there is no such data set or protocol, or an option does not belong to it.
    """

    dataset: str
    protocol: str | None = None
    data: Path | None = None

    def __post_init__(self) -> None:
        if not self.terms.files and self.data is not None:
            raise UserError("synthetic motion is made on demand: --data belongs to other data sets")

    @property
    def terms(self) -> ClipProtocol:
        """The protocol."""
        return find_clip_protocol(self.dataset, self.protocol)


def open_clips(source: ClipSource, body: BodyModel, *, initial: bool = False) -> tuple[ClipSet, dict[str, Any]]:
    """The sequences of ``source``, and where they come from, for the result.

    Args:
        initial: the sequences have to bring parameters to be refined.

    Raises:
        UserError: the file is missing, damaged, of another kind than the protocol measures on, or lacks what the
            protocol measures or models take.
    """
    protocol = source.terms
    if protocol is SYNTHETIC_MOTION:
        data = synthetic_motion().model_copy(update={"initial": initial})
        made = SyntheticMotion(SyntheticClips(body, data, "test"))
        about = {"split": "test"} | data.model_dump(mode="json", include=set(_SYNTHETIC))
        return made, about | ({"initial": "the truth, disturbed as by a model of pictures"} if initial else {})
    path = _find_file(source)
    if protocol.reads_labels:
        sequences = sequences_of_labels(read_labels(path), path, protocol.resolution)
    else:
        sequences = sequences_of_mesh_det(path, protocol.resolution)
    if protocol.clip_length is not None:
        sequences = [clip for sequence in sequences for clip in cut(sequence, protocol.clip_length)]
    if not sequences:
        raise UserError(f"{path} has no sequence that {protocol.full_name} measures; give another file with --data")
    if initial and any(one.initial is None for one in sequences):
        raise UserError(
            f"{path} has no parameters to be refined, which the model takes; give a file of MotionBERT's format with "
            "pred_smpl_pose and pred_smpl_shape with --data"
        )
    clips = SequenceSet(sequences)
    description = {
        "split": path.stem if protocol.reads_labels else "test",
        "labels": describe_file(path),
        "rows": {"measured": sum(int(one.valid.sum()) for one in sequences), "sha256": _digest(sequences)},
        "input": f"the 2D keypoints of {kind_of_file(labels=protocol.reads_labels)}",
        **({"initial": "pred_smpl_pose and pred_smpl_shape of the file"} if initial else {}),
        "test_items": len(sequences),
    }
    return clips, description


def synthetic_motion() -> ClipDataConfig:
    """The sequences of the protocol ``synthetic-motion-v1``: the same for every model, however it was trained.

    A change of them makes a new version of the protocol.
    """
    noise = ClipNoiseConfig(
        jitter=0.01, outlier=0.005, drop_point=0.04, drop_limb=0.08, drop_frame=0.03, drop_hidden=0.6, swap=0.02
    )
    return ClipDataConfig(
        seed=0,
        fps=30.0,
        motions=None,
        activities=(),
        keypoint_noise=noise,
        occluder=0.4,
        truncation=0.2,
        test_frames=150,
        test_items=100,
    )


class SyntheticMotion:
    """The test sequences of the synthetic stream."""

    def __init__(self, clips: SyntheticClips) -> None:
        self._clips = clips
        self.names = tuple(f"clip {index:03d}" for index in range(len(clips)))
        self.lengths = (clips.num_frames,) * len(clips)

    def take(self, indices: Sequence[int]) -> MeasuredClips:
        """The clips ``indices``, all frames of which are measured."""
        batch = self._clips.__getitems__(indices)
        valid = torch.ones(batch.keypoints.shape[:2], dtype=torch.bool)
        return MeasuredClips(batch, valid, self._clips.coco_keypoints(indices))


class SequenceSet:
    """Sequences in memory."""

    def __init__(self, sequences: Sequence[LabelledSequence]) -> None:
        self._sequences = tuple(sequences)
        self.names = tuple(one.name for one in sequences)
        self.lengths = tuple(len(one) for one in sequences)

    def take(self, indices: Sequence[int]) -> MeasuredClips:
        """The sequences ``indices``, which have the same length."""
        some = [self._sequences[index] for index in indices]
        targets = ClipTargets(
            rotations=torch.stack([one.rotations for one in some]),
            betas=torch.stack([one.betas for one in some]),
            gender=torch.tensor([one.gender for one in some]),
        )
        initial = [one.initial for one in some if one.initial is not None]
        batch = ClipBatch(
            item_seed=torch.tensor([one.seed for one in some]),
            keypoints=torch.stack([one.keypoints for one in some]),
            fps=torch.tensor([one.fps for one in some]),
            initial=_stacked(initial) if len(initial) == len(some) else None,
            targets=targets,
        )
        coco = [one.coco for one in some if one.coco is not None]
        valid = torch.stack([one.valid for one in some])
        return MeasuredClips(batch, valid, torch.stack(coco) if len(coco) == len(some) else None)


def _stacked(params: Sequence[SmplParams]) -> SmplParams:
    rotations, betas = torch.stack([one.rotations for one in params]), torch.stack([one.betas for one in params])
    return SmplParams.from_rotations(rotations, betas)


def _digest(sequences: Sequence[LabelledSequence]) -> str:
    """Hash of everything that decides a number.

    What not all files have, the points for models of pictures and the parameters to be refined, counts where it is
    there, under its name.
    """
    digest = hashlib.sha256("\n".join(one.name for one in sequences).encode())
    for one in sequences:
        for values in (one.keypoints, one.rotations, one.betas, one.valid, torch.tensor([one.gender, one.fps])):
            digest.update(values.contiguous().numpy().tobytes())
        optional = {} if one.coco is None else {"coco": one.coco}
        if one.initial is not None:
            optional |= {"initial rotations": one.initial.rotations, "initial betas": one.initial.betas}
        for name, values in optional.items():
            digest.update(name.encode() + values.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _find_file(source: ClipSource) -> Path:
    """The file, of the kind that the protocol measures on: one name never means two kinds of data."""
    protocol = source.terms
    other = on_other_files(protocol)
    if source.data is not None and source.data.is_file():
        if is_label_file(source.data) != protocol.reads_labels:
            found, wanted = (kind_of_file(labels=kind) for kind in (not protocol.reads_labels, protocol.reads_labels))
            remedy = "give another with --data" + ("" if other is None else f", or --protocol {other.name}")
            raise UserError(f"{source.data} is {found}, but {protocol.full_name} measures on {wanted}; {remedy}")
        return source.data
    if source.data is not None:
        places = [source.data / Path(name).name for name in protocol.files]
    else:
        folder = Path("data") if Path("data").exists() else REPOSITORY / "data"
        places = [folder / name for name in protocol.files]
    for place in places:
        if place.is_file():
            return place
    remedy = "data/README.md says whence they come, and --data FILE says where they are"
    if other is not None:
        remedy += f"; --protocol {other.name} measures on {kind_of_file(labels=other.reads_labels)}"
    raise UserError(
        f"the sequences of {protocol.full_name} are missing: there is no {' or '.join(map(str, places))}; {remedy}"
    )
