"""Which sequences an evaluation measures: synthetic ones, or those of files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.body.joints import COCO17, H36M17
from diffhmr.body.keypoint_maps import map_keypoints
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.checkpoint import REPOSITORY
from diffhmr.clip_batch import ClipBatch, ClipTargets
from diffhmr.config_clips import ClipDataConfig, ClipNoiseConfig, ClipSourceConfig
from diffhmr.datasets.clip_files.mesh_clips import mesh_sequences
from diffhmr.datasets.clips import SyntheticClips
from diffhmr.datasets.labelled import coco_points
from diffhmr.datasets.labels import Labels, read_labels
from diffhmr.errors import UserError
from diffhmr.evaluation.clip_protocols import SYNTHETIC_MOTION, ClipProtocol, find_clip_protocol
from diffhmr.evaluation.data import describe_file
from diffhmr.geometry.rotation import axis_angle_to_matrix

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
        coco: ``[B, T, 17, 3]`` the same detections as COCO-17, in the unit of the batch's keypoints; None where there
            are none.
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
        UserError: the file is missing, damaged, or lacks what the protocol measures or models take.
    """
    protocol = source.terms
    if protocol is SYNTHETIC_MOTION:
        data = synthetic_motion().model_copy(update={"initial": initial})
        made = SyntheticMotion(SyntheticClips(body, data, "test"))
        about = {"split": "test"} | data.model_dump(mode="json", include=set(_SYNTHETIC))
        return made, about | ({"initial": "the truth, disturbed as by a model of pictures"} if initial else {})
    path = _find_file(source)
    if path.suffix == ".npz":
        sequences = sequences_of_labels(read_labels(path), path)
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
        "split": path.stem if path.suffix == ".npz" else "test",
        "labels": describe_file(path),
        "rows": {"measured": sum(int(one.valid.sum()) for one in sequences), "sha256": _digest(sequences)},
        "input": "the 2D keypoints of the file",
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


@dataclass(frozen=True, eq=False)
class LabelledSequence:
    """One person through T frames, in float32.

    Attributes:
        name: of the sequence and the person.
        keypoints: ``[T, 17, 3]`` H36M-17 as in :class:`ClipBatch`.
        rotations: ``[T, 24, 3, 3]`` as in :class:`ClipTargets`.
        betas: ``[10]``.
        valid: ``[T]`` bool, frames with labels.
        fps: frames per second.
        coco: ``[T, 17, 3]`` the keypoints as COCO-17, or None.
        gender: 0 male, 1 female, -1 unknown.
        initial: parameters ``[T]`` to be refined, or None.
    """

    name: str
    keypoints: Tensor
    rotations: Tensor
    betas: Tensor
    valid: Tensor
    fps: float
    coco: Tensor | None = None
    gender: int = -1
    initial: SmplParams | None = None

    def __len__(self) -> int:
        return len(self.valid)

    @property
    def seed(self) -> int:
        """Identifies the sequence by its name, so that no sample depends on the other sequences."""
        return int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:8], "big") >> 1


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


def cut(sequence: LabelledSequence, frames: int) -> Iterator[LabelledSequence]:
    """Clips of ``frames`` frames, one after the other; what is left at the end is dropped, and what is not valid."""
    for start in range(0, len(sequence) - frames + 1, frames):
        part = slice(start, start + frames)
        if not bool(sequence.valid[part].any()):
            continue
        yield replace(
            sequence,
            name=f"{sequence.name} from {start}",
            keypoints=sequence.keypoints[part],
            rotations=sequence.rotations[part],
            valid=sequence.valid[part],
            coco=None if sequence.coco is None else sequence.coco[part],
            initial=None if sequence.initial is None else sequence.initial.map(lambda value, part=part: value[part]),  # type: ignore[misc]
        )


def sequences_of_mesh_det(path: Path, resolution: int | None) -> list[LabelledSequence]:
    """The test videos of a file of MotionBERT or DiffMesh.

    Args:
        resolution: see :class:`ClipSourceConfig`.

    Raises:
        UserError: the file cannot be used.
    """
    source = ClipSourceConfig(name=path.name, format="mesh_det", path=path, split="test", resolution=resolution)
    sequences = []
    for name, batch in ((video.name, video.batch) for video in mesh_sequences(source)):
        targets = batch.targets
        assert targets is not None
        sequences.append(
            LabelledSequence(
                name=name,
                keypoints=batch.keypoints[0],
                rotations=targets.rotations[0],
                betas=targets.betas[0],
                valid=torch.ones(batch.num_frames, dtype=torch.bool),
                fps=float(batch.fps[0]),
                initial=None if batch.initial is None else batch.initial.map(lambda value: value[0]),
            )
        )
    return sequences


def sequences_of_labels(labels: Labels, path: Path, fps: float = 30.0) -> list[LabelledSequence]:
    """The people of a label file through time, with a row for every frame from the first to the last of each.

    Frames that the file does not have, where the camera was lost or nobody seen, are not valid and have no keypoints.

    Args:
        labels: with ``sequence``, ``subject``, ``frame`` and ``image_size``.
        path: of the file, for messages.
        fps: of the videos; 30 for 3DPW.

    Raises:
        UserError: the labels do not say which frame of which sequence a row is, or lack keypoints or parameters.
    """
    missing = [name for name in ("sequence", "subject", "frame", "image_size") if name not in labels.extra]
    if missing:
        raise UserError(
            f"{path} does not say to which {missing[0]} its rows belong; make it with python -m scripts.prepare_3dpw"
        )
    coco = coco_points(torch.from_numpy(labels.keypoints)).numpy()
    if not (coco[..., 2] > 0).any():
        raise UserError(f"{path} has no 2D keypoints, which models of clips read; make it with scripts.prepare_3dpw")
    if not labels.has_smpl.all():
        raise UserError(f"{path} has people without SMPL parameters; evaluate on a file that labels them all")
    coco = _centred(coco, labels.extra["image_size"])
    people = np.char.add(np.char.add(labels.extra["sequence"], ", person "), labels.extra["subject"])
    return [_sequence(labels, coco, name, np.flatnonzero(people == name), fps) for name in dict.fromkeys(people)]


def _sequence(
    labels: Labels, coco: NDArray[np.float32], name: str, rows: NDArray[np.intp], fps: float
) -> LabelledSequence:
    frame = labels.extra["frame"][rows]
    if len(np.unique(frame)) < len(frame):
        raise UserError(f"{name}: two rows of the label file are of the same frame; leave one of them out")
    place = frame - frame.min()
    points = np.zeros((int(place.max()) + 1, 17, 3), np.float32)
    pose = np.zeros((len(points), 72), np.float32)
    valid = np.zeros(len(points), bool)
    points[place], pose[place], valid[place] = coco[rows], labels.pose[rows], True
    if "valid" in labels.extra:
        valid[place] = labels.extra["valid"][rows]
    return LabelledSequence(
        name=str(name),
        keypoints=torch.from_numpy(map_keypoints(points, COCO17, H36M17)),
        rotations=axis_angle_to_matrix(torch.from_numpy(pose).unflatten(-1, (24, 3))),
        betas=torch.from_numpy(labels.betas[rows].mean(axis=0)),
        valid=torch.from_numpy(valid),
        fps=fps,
        coco=torch.from_numpy(points),
        gender=int(labels.gender[rows[0]]),
    )


def _stacked(params: Sequence[SmplParams]) -> SmplParams:
    rotations, betas = torch.stack([one.rotations for one in params]), torch.stack([one.betas for one in params])
    return SmplParams.from_rotations(rotations, betas)


def _centred(points: NDArray[np.float32], size: NDArray[np.int64]) -> NDArray[np.float32]:
    """Pixels ``(N, 17, 3)`` of pictures of ``size (N, 2)`` in halves of the shorter side from the middle."""
    half = size[:, None].astype(np.float32) / 2
    result = points.copy()
    result[..., :2] = (points[..., :2] + 0.5 - half) / half.min(axis=-1, keepdims=True)
    result[..., 2] = points[..., 2].clip(0, 1)
    return np.where(points[..., 2:] > 0, result, 0).astype(np.float32)


def _digest(sequences: Sequence[LabelledSequence]) -> str:
    """Hash of everything that decides a number."""
    digest = hashlib.sha256("\n".join(one.name for one in sequences).encode())
    for one in sequences:
        for values in (one.keypoints, one.rotations, one.betas, one.valid, torch.tensor([one.gender, one.fps])):
            digest.update(values.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _find_file(source: ClipSource) -> Path:
    protocol = source.terms
    if source.data is not None and source.data.is_file():
        return source.data
    if source.data is not None:
        places = [source.data / Path(name).name for name in protocol.files]
    else:
        folder = Path("data") if Path("data").exists() else REPOSITORY / "data"
        places = [folder / name for name in protocol.files]
    for place in places:
        if place.is_file():
            return place
    raise UserError(
        f"the sequences of {protocol.full_name} are missing: there is no {' or '.join(map(str, places))}; "
        "data/README.md says whence they come, and --data FILE says where they are"
    )
