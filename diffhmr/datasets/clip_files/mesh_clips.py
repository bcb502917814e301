"""Clips of keypoints with SMPL parameters, of the files of MotionBERT and DiffMesh."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.body.params import SmplParams
from diffhmr.clip_batch import ClipBatch, ClipTargets
from diffhmr.config_clips import ClipDataConfig, ClipSourceConfig
from diffhmr.datasets.augment import mirror_rotations
from diffhmr.datasets.clip_files.mesh_det import Floats32, MeshFrames, read_mesh_det
from diffhmr.datasets.clip_files.mirror import mirror_where
from diffhmr.datasets.clip_files.order import ClipOrder, draw_flips, join, sources_of
from diffhmr.datasets.clip_files.videos import Indices, Windows
from diffhmr.datasets.synthetic import Split
from diffhmr.errors import UserError
from diffhmr.geometry.rotation import axis_angle_to_matrix
from diffhmr.random import Seeds, item_seeds


@dataclass(frozen=True)
class MeshSequence:
    """A whole video.

    Attributes:
        name: of the video.
        batch: one clip with all frames, and its targets.
    """

    name: str
    batch: ClipBatch


class MeshClips:
    """Clips of ``config.frames`` frames as batches; give indices to ``__getitems__`` many at a time.

    Training clips begin every ``config.stride`` frames and are mirrored at random; those of the other splits follow
    each other. The parameters to be refined (``ClipBatch.initial``) are there if all files have them.

    Raises:
        UserError: a file cannot be used or lacks the parameters that ``config.initial`` wants, or the weights do not
            add up.
    """

    def __init__(self, config: ClipDataConfig, split: Split) -> None:
        self._flip = config.augment.flip if split == "train" else 0.0
        self._sources = [read_source(source, config.fps) for source in sources_of(config, split)]
        if config.initial:
            _require_initial(sources_of(config, split), self._sources)
        self._refine = all(source.initial is not None for source in self._sources)
        self.num_frames = config.frames
        stride = (config.stride if split == "train" else None) or config.frames
        self._windows = [Windows(source.videos, config.frames, stride) for source in self._sources]
        self._order = ClipOrder(config, split, [len(windows) for windows in self._windows])

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> ClipBatch:
        """The batch of the one clip ``index``."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> ClipBatch:
        """The clips ``indices`` as one batch on the CPU, with targets.

        Raises:
            IndexError: an index is negative or not smaller than the length.
        """
        batches, places = [], []
        for part in self._order.parts(indices):
            frames = self._windows[part.source](part.rows)
            flips = draw_flips(part.seeds, self._flip)
            batches.append(mesh_batch(self._sources[part.source], frames, part.seeds, flips, refine=self._refine))
            places.append(part.places)
        return join(batches, places)


def _require_initial(sources: Sequence[ClipSourceConfig], contents: Sequence[MeshFrames]) -> None:
    for source, frames in zip(sources, contents, strict=True):
        if frames.initial is None:
            raise UserError(
                f"{source.name}: {source.path} has no parameters to be refined (pred_smpl_pose, pred_smpl_shape), "
                "which data.initial wants; give a file that has them"
            )


def read_source(source: ClipSourceConfig, fps: float) -> MeshFrames:
    """Read the file of a source of the format ``mesh_det``.

    Raises:
        UserError: it cannot be used.
    """
    try:
        return read_mesh_det(source.path, source.split, source.resolution, fps)
    except UserError as error:
        raise UserError(f"{source.name}: {error}") from error


def mesh_sequences(source: ClipSourceConfig, fps: float = 30.0) -> Iterator[MeshSequence]:
    """The whole videos of a source of the format ``mesh_det``, one after the other.

    Args:
        source: the file and its split.
        fps: frames per second, but of Human3.6M, whose cameras have 50.

    Raises:
        UserError: the file cannot be used.
    """
    frames = read_source(source, fps)
    refine = frames.initial is not None
    for number, name in enumerate(frames.videos.names):
        chosen = frames.videos.frames(number)[None]
        batch = mesh_batch(frames, chosen, item_seeds(0, "test", [number]), np.zeros(1, bool), refine=refine)
        yield MeshSequence(name, batch)


def mesh_batch(
    source: MeshFrames, frames: Indices, seeds: Seeds, flips: NDArray[np.bool_], *, refine: bool
) -> ClipBatch:
    """The clips with ``frames [B, T]`` as one batch.

    A clip has one shape, the mean of its frames; files give the same one to all frames of a person.

    Args:
        source: the file.
        frames: of the file.
        seeds: ``[B]`` of the items.
        flips: ``[B]`` which of them are mirrored.
        refine: give the parameters that are to be refined; the file has them.
    """
    flip = torch.from_numpy(flips)
    initial = None
    if refine:
        assert source.initial is not None
        pose, shape = source.initial
        initial = SmplParams.from_rotations(_rotations(pose[frames], flip), torch.from_numpy(shape[frames]))
    betas = source.betas[frames].mean(axis=1, dtype=np.float64).astype(np.float32)
    targets = ClipTargets(_rotations(source.pose[frames], flip), torch.from_numpy(betas))
    keypoints = mirror_where(torch.from_numpy(source.keypoints[frames]), flip)
    fps = torch.full((len(seeds),), source.fps)
    return ClipBatch(torch.from_numpy(seeds.copy()), keypoints, fps, initial, targets)


def _rotations(pose: Floats32, flip: Tensor) -> Tensor:
    """``[B, T, 24, 3, 3]`` float32 of ``pose [B, T, 72]`` axis-angle."""
    rotations = axis_angle_to_matrix(torch.from_numpy(pose).double().unflatten(-1, (24, 3))).float()
    return torch.where(flip[:, None, None, None, None], mirror_rotations(rotations), rotations)
