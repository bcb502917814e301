"""Clips of keypoints with 3D positions, or without, for pretraining and 3D poses."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.clip_batch import LiftingBatch
from diffhmr.config_clips import ClipDataConfig, ClipSourceConfig
from diffhmr.datasets.clip_files.h36m_sh import read_h36m_sh
from diffhmr.datasets.clip_files.instavariety import read_instavariety
from diffhmr.datasets.clip_files.lifting_frames import LiftingFrames, LiftingPart, LiftingSource
from diffhmr.datasets.clip_files.mirror import exchange_where, mirror_where
from diffhmr.datasets.clip_files.motion3d import MotionClips, Seen
from diffhmr.datasets.clip_files.order import ClipOrder, Part, draw_flips, join, sources_of
from diffhmr.datasets.clip_files.posetrack18 import read_posetrack18
from diffhmr.datasets.clip_files.videos import Windows
from diffhmr.datasets.synthetic import Split
from diffhmr.errors import UserError
from diffhmr.geometry.clip_frame import normalise_clip
from diffhmr.random import Seeds, Stream, item_seeds, uniforms

Kind: TypeAlias = Literal["depth", "flat"]

SMALLEST_SHARE = 0.25
"""Of the picture's shorter side that people without place and size in a picture get; MotionBERT's."""


@dataclass(frozen=True)
class LiftingSequence:
    """A whole video.

    Attributes:
        name: of the video, such as ``s_09_act_02_subact_01_ca_01``.
        batch: one clip with all frames.
        action: of Human3.6M's test, as the file names it; else None.
        camera: of Human3.6M; else None.
    """

    name: str
    batch: LiftingBatch
    action: str | None = None
    camera: str | None = None


class LiftingClips:
    """Clips of ``config.frames`` frames as batches, without corruption; give indices to ``__getitems__``.

    In 3D pose estimation keypoints are those of a detector, but of sources with ``ground_truth_2d``. In pretraining,
    whose clips are corrupted afterwards, those of training clips with depths are the x and y of the positions, with
    confidence 1; those of other clips are a detector's where the file has some.

    Training clips begin every ``config.stride`` frames and are mirrored at random; those of the other splits follow
    each other. People of files without depths (PoseTrack18, InstaVariety) have no place in a picture that would fit the
    others: the square around each clip's person is put into the middle, with a side of a random share of the picture's,
    from a quarter on; outside of training with all of it. Millimetres are given if all files know them.

    Attributes:
        flat: for each file, whether it is without depths.

    Args:
        config: of the data.
        split: of the items.
        task: see above.
        only: use files with depths only, or those without; the others keep their relative shares.

    Raises:
        UserError: a file cannot be used or lacks detections, the weights do not add up, or ``only`` leaves no file.
    """

    def __init__(
        self,
        config: ClipDataConfig,
        split: Split,
        task: Literal["pretrain", "pose3d"],
        only: Kind | None = None,
    ) -> None:
        self._train = split == "train"
        self._clean = self._train and task == "pretrain"
        self._flip = config.augment.flip if self._train else 0.0
        sources = sources_of(config, split)
        self._sources = [read_source(source, task) for source in sources]
        self.flat = tuple(not source.has_depth for source in self._sources)
        self.num_frames = config.frames
        stride = (config.stride if self._train else None) or config.frames
        self._windows = [Windows(source.videos, config.frames, stride) for source in self._sources]
        self._rows = [_usable(*pair) for pair in zip(self._sources, self._windows, strict=True)]
        self._config: ClipDataConfig = config
        self._split: Split = split
        self._choose(only)

    def _choose(self, only: Kind | None) -> None:
        chosen = [number for number, flat in enumerate(self.flat) if only is None or flat == (only == "flat")]
        if not chosen:
            kind = "without depths" if only == "flat" else "with depths"
            names = ", ".join(source.name for source in sources_of(self._config, self._split))
            raise UserError(f"no file {kind} among {names}")
        self._sized = all(self._sources[number].has_size for number in chosen)
        self._order = ClipOrder(self._config, self._split, [len(rows) for rows in self._rows], chosen)

    def only(self, kind: Kind) -> LiftingClips:
        """The same files, which are not read again, as with the argument ``only``.

        Raises:
            UserError: no file is left.
        """
        clips = copy.copy(self)
        clips._choose(kind)
        return clips

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> LiftingBatch:
        """The batch of the one clip ``index``."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> LiftingBatch:
        """The clips ``indices`` as one batch on the CPU.

        Raises:
            IndexError: an index is negative or not smaller than the length.
            UserError: a file that is read only now is damaged.
        """
        batches, places = [], []
        for part in self._order.parts(indices):
            batches.append(self._batch(part))
            places.append(part.places)
        return join(batches, places)

    def detected(self, indices: Sequence[int]) -> NDArray[np.bool_]:
        """``[B]``: whether the keypoints of the clips ``indices`` are those of a detector, with its errors."""
        result = np.zeros(len(indices), bool)
        for part in self._order.parts(indices):
            source = self._sources[part.source]
            result[part.places] = source.detected and not (self._clean and source.has_depth)
        return result

    def _batch(self, part: Part) -> LiftingBatch:
        source = self._sources[part.source]
        clips = source.take(self._windows[part.source](self._rows[part.source][part.rows]))
        if self._clean and source.has_depth:
            clips.keypoints[..., :2] = clips.positions[..., :2]
            clips.keypoints[..., 2] = 1
        share = np.ones(len(part.seeds))
        if self._train:
            share = SMALLEST_SHARE + (1 - SMALLEST_SHARE) * uniforms(part.seeds, Stream.CLIP_SHARE, 1)[:, 0]
        batch = lifting_batch(clips, part.seeds, has_depth=source.has_depth, has_size=self._sized, share=share)
        flip = torch.from_numpy(draw_flips(part.seeds, self._flip))
        return LiftingBatch(
            item_seed=batch.item_seed,
            keypoints=mirror_where(batch.keypoints, flip),
            positions=mirror_where(batch.positions, flip),
            weight=exchange_where(batch.weight, flip),
            has_depth=batch.has_depth,
            mm_per_unit=batch.mm_per_unit,
        )


def _usable(source: LiftingSource, windows: Windows) -> np.ndarray:
    """The windows that begin with a frame with which one may begin."""
    every = np.arange(len(windows))
    return every if source.may_begin is None else every[source.may_begin[windows.first_frames(every)]]


def read_source(source: ClipSourceConfig, task: Literal["pretrain", "pose3d"]) -> LiftingFrames | MotionClips:
    """Read the file or folder of a source of one of the formats of pretraining and 3D poses.

    Raises:
        UserError: it cannot be used.
    """
    try:
        if source.format == "motion3d":
            seen: Seen = "any" if task == "pretrain" else "truth" if source.ground_truth_2d else "detected"
            return MotionClips(source.path, source.split, seen)
        if source.format == "h36m_sh":
            return read_h36m_sh(source.path, source.split)
        if source.format == "posetrack18":
            return read_posetrack18(source.path, source.split)
        assert source.format == "instavariety", source.format
        return read_instavariety(source.path, source.split)
    except UserError as error:
        raise UserError(f"{source.name}: {error}") from error


def lifting_sequences(source: ClipSourceConfig) -> Iterator[LiftingSequence]:
    """The whole videos of a source, seen as in 3D pose estimation; of the format ``motion3d`` the whole clips.

    Raises:
        UserError: the file cannot be used.
    """
    frames = read_source(source, "pose3d")
    actions = frames.actions if isinstance(frames, LiftingFrames) else None
    cameras = frames.cameras if isinstance(frames, LiftingFrames) else None
    for number, name in enumerate(frames.videos.names):
        clip = frames.take(frames.videos.frames(number)[None])
        seeds = item_seeds(0, "test", [number])
        batch = lifting_batch(clip, seeds, has_depth=frames.has_depth, has_size=frames.has_size, share=np.ones(1))
        action = None if actions is None else actions[number]
        camera = None if cameras is None else cameras[number]
        yield LiftingSequence(name, batch, action, camera)


def lifting_batch(
    clips: LiftingPart, seeds: Seeds, *, has_depth: bool, has_size: bool, share: np.ndarray
) -> LiftingBatch:
    """Clips of one file as a batch.

    Args:
        clips: B clips.
        seeds: ``[B]`` of the items.
        has_depth: the z are known.
        has_size: give millimetres per unit, which are known.
        share: ``[B]`` of people without depths: side of their square in parts of the picture's.
    """
    keypoints, positions = torch.from_numpy(clips.keypoints), torch.from_numpy(clips.positions)
    weight = torch.ones_like(keypoints[..., 2])
    if not has_depth:
        keypoints = _in_the_middle(keypoints, torch.from_numpy(share).to(keypoints))
        positions = torch.cat([keypoints[..., :2], torch.zeros_like(keypoints[..., 2:])], dim=-1)
        weight = keypoints[..., 2].clone()
    known = torch.full((len(keypoints),), has_depth)
    size = torch.from_numpy(clips.mm_per_unit) if has_size and clips.mm_per_unit is not None else None
    return LiftingBatch(torch.from_numpy(seeds.copy()), keypoints, positions, weight, known, size)


def _in_the_middle(keypoints: Tensor, share: Tensor) -> Tensor:
    """``[B, T, 17, 3]`` in the square around each clip's person, times ``share [B]``; unseen points are all 0."""
    framed, _ = normalise_clip(keypoints)
    scaled = torch.cat([framed[..., :2] * share[:, None, None, None], framed[..., 2:]], dim=-1)
    return torch.where(keypoints[..., 2:] > 0, scaled, 0)
