"""Sequences of people out of files: pickles of MotionBERT and DiffMesh, and label files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.body.joints import COCO17, H36M17
from diffhmr.body.keypoint_maps import map_keypoints
from diffhmr.body.params import SmplParams
from diffhmr.config_clips import ClipSourceConfig
from diffhmr.datasets.clip_files.mesh_clips import mesh_sequences
from diffhmr.datasets.clip_files.mesh_det import to_shorter_side
from diffhmr.datasets.labelled import coco_points
from diffhmr.datasets.labels import Labels
from diffhmr.errors import UserError
from diffhmr.geometry.rotation import axis_angle_to_matrix


@dataclass(frozen=True, eq=False)
class LabelledSequence:
    """One person through T frames, in float32.

    Attributes:
        name: of the sequence and the person.
        keypoints: ``[T, 17, 3]`` H36M-17 as in :class:`diffhmr.clip_batch.ClipBatch`.
        rotations: ``[T, 24, 3, 3]`` as in :class:`diffhmr.clip_batch.ClipTargets`.
        betas: ``[10]``.
        valid: ``[T]`` bool, frames with labels.
        fps: frames per second.
        coco: ``[T, 17, 3]`` the keypoints as COCO-17, x and y from the middle of the picture in halves of its shorter
            side, whatever the unit of ``keypoints``; or None.
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


def sequences_of_labels(
    labels: Labels, path: Path, resolution: int | None = None, fps: float = 30.0
) -> list[LabelledSequence]:
    """The people of a label file through time, with a row for every frame from the first to the last of each.

    Frames that the file does not have, where the camera was lost or nobody seen, are not valid and have no keypoints.

    Args:
        labels: with ``sequence``, ``subject``, ``frame`` and ``image_size``.
        path: of the file, for messages.
        resolution: the pictures count as squares of this side in ``keypoints``, as in :func:`sequences_of_mesh_det`;
            None: ``keypoints`` have the unit of ``coco``.
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
    centred = _centred(coco, labels.extra["image_size"])
    points = centred if resolution is None else _squared(coco, resolution)
    people = np.char.add(np.char.add(labels.extra["sequence"], ", person "), labels.extra["subject"])
    both = np.stack([points, centred])
    return [_sequence(labels, both, name, np.flatnonzero(people == name), fps) for name in dict.fromkeys(people)]


def _sequence(
    labels: Labels, detected: NDArray[np.float32], name: str, rows: NDArray[np.intp], fps: float
) -> LabelledSequence:
    """The sequence of ``rows``; COCO-17 ``detected (2, N, 17, 3)`` is in the unit of ``keypoints`` and in that of
    ``coco``.
    """
    frame = labels.extra["frame"][rows]
    if len(np.unique(frame)) < len(frame):
        raise UserError(f"{name}: two rows of the label file are of the same frame; leave one of them out")
    place = frame - frame.min()
    points = np.zeros((2, int(place.max()) + 1, 17, 3), np.float32)
    pose = np.zeros((points.shape[1], 72), np.float32)
    valid = np.zeros(points.shape[1], bool)
    points[:, place], pose[place], valid[place] = detected[:, rows], labels.pose[rows], True
    if "valid" in labels.extra:
        valid[place] = labels.extra["valid"][rows]
    return LabelledSequence(
        name=str(name),
        keypoints=torch.from_numpy(map_keypoints(points[0], COCO17, H36M17)),
        rotations=axis_angle_to_matrix(torch.from_numpy(pose).unflatten(-1, (24, 3))),
        betas=torch.from_numpy(labels.betas[rows].mean(axis=0)),
        valid=torch.from_numpy(valid),
        fps=fps,
        coco=torch.from_numpy(points[1]),
        gender=int(labels.gender[rows[0]]),
    )


def _centred(points: NDArray[np.float32], size: NDArray[np.int64]) -> NDArray[np.float32]:
    """Pixels ``(N, 17, 3)`` of pictures of ``size (N, 2)`` in halves of the shorter side from the middle.

    The middle of the first pixel is (0, 0) in label files, so the middle of the picture is half a pixel less.
    """
    half = size[:, None].astype(np.float32) / 2
    result = points.copy()
    result[..., :2] = (points[..., :2] + 0.5 - half) / half.min(axis=-1, keepdims=True)
    return _seen(result)


def _squared(points: NDArray[np.float32], resolution: int) -> NDArray[np.float32]:
    """Pixels ``(N, 17, 3)`` in halves of ``resolution`` from its middle, as those of pickles: without half a pixel."""
    result = points.astype(np.float32)
    to_shorter_side(result, np.full((1, 2), resolution, np.float32))
    return _seen(result)


def _seen(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """With confidences in [0, 1]; unseen points are 0."""
    points[..., 2] = points[..., 2].clip(0, 1)
    return np.where(points[..., 2:] > 0, points, 0).astype(np.float32)
