"""Recorded motion as a source of clips: a folder of ``.npz`` files in the layout of AMASS."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from diffhmr.errors import UserError
from diffhmr.motion.sequence import Motion, load_motion
from diffhmr.random import Floats, Seeds, Stream, uniforms

_SHARES = {"train": range(8), "val": range(8, 9), "test": range(9, 10)}
_MIN_FILES = 20

_log = logging.getLogger(__name__)


class MotionFolder:
    """Pieces of recorded motions, every second of which is equally likely.

    With at least 20 files the splits share none of them: four fifths are for training, a tenth each for validation and
    test, by the checksum of the name; each has one at least. With fewer all splits draw from all files.

    Args:
        folder: with files in the layout of AMASS, at any depth.
        split: ``train``, ``val`` or ``test``.
        fps: frames per second of the pieces; files have any rate.

    Raises:
        UserError: there is no such folder, it has no motion, or a file is damaged.
    """

    def __init__(self, folder: Path, split: str, fps: float) -> None:
        files = _read_folder(folder.resolve(), fps)
        shared = len(files) < _MIN_FILES
        splits = _splits([name for name, _ in files])
        self._motions = [motion for name, motion in files if shared or splits[name] == split]
        self._starts = np.cumsum([len(motion.position) for motion in self._motions])

    def __len__(self) -> int:
        """Number of frames in all files."""
        return int(self._starts[-1])

    def __call__(self, seeds: Seeds, frames: int) -> tuple[Floats, Floats]:
        """Rotations ``[B, T, 24, 3, 3]`` and pelvis positions ``[B, T, 3]`` (y up, at the origin in the first frame).

        Half of the pieces are mirrored. Where a file is too short, its last frame stays.
        """
        uniform = uniforms(seeds, Stream.CLIP_SOURCE, 2)
        rotations = np.empty((len(seeds), frames, 24, 3, 3))
        position = np.empty((len(seeds), frames, 3))
        for item, (where, mirrored) in enumerate(uniform):
            frame = int(where * self._starts[-1])
            number = int(np.searchsorted(self._starts, frame, side="right"))
            motion = self._motions[number]
            length = len(motion.position)
            first = frame - (int(self._starts[number]) - length)
            first = max(0, min(first, length - frames))
            rows = np.minimum(np.arange(first, first + frames), length - 1)
            piece = Motion(motion.matrices(rows), motion.position[rows].astype(np.float64), 1.0)
            piece = piece.mirror() if mirrored < 0.5 else piece
            rotations[item], position[item] = piece.rotations, piece.position
        position[..., [0, 2]] -= position[:, :1, [0, 2]]
        return rotations, position


class _Compact:
    """A motion as axis-angle in float32: a seventh of the memory of matrices."""

    def __init__(self, motion: Motion) -> None:
        vectors = Rotation.from_matrix(motion.rotations.reshape(-1, 3, 3)).as_rotvec()
        self.vectors = vectors.reshape(len(motion), 24, 3).astype(np.float32)
        self.position = motion.position.astype(np.float32)

    def matrices(self, rows: np.ndarray) -> Floats:
        """``[N, 24, 3, 3]`` of the frames ``rows [N]``."""
        vectors = self.vectors[rows].astype(np.float64).reshape(-1, 3)
        matrices: Floats = Rotation.from_rotvec(vectors).as_matrix().reshape(len(rows), 24, 3, 3)
        return matrices


def _splits(names: Sequence[str]) -> dict[str, str]:
    """The split of each file. Where chance leaves one empty, it gets a file of the largest: the first by checksum."""
    digests = {name: hashlib.sha256(name.encode()).digest() for name in names}
    of_share = {share: split for split, shares in _SHARES.items() for share in shares}
    splits = {name: of_share[digest[0] % 10] for name, digest in digests.items()}
    for split in _SHARES:
        counts = Counter(splits.values())
        if len(names) >= _MIN_FILES and not counts[split]:
            donor = counts.most_common(1)[0][0]
            splits[min((name for name in names if splits[name] == donor), key=lambda name: digests[name])] = split
    return splits


# Training builds its validation data again and again; the folder is read once.
@lru_cache(maxsize=2)
def _read_folder(folder: Path, fps: float) -> tuple[tuple[str, _Compact], ...]:
    if not folder.is_dir():
        raise UserError(f"folder of motions not found: {folder}; correct data.motions or leave it out")
    files = [file for file in sorted(folder.rglob("*.npz")) if file.name != "shape.npz"]
    if not files:
        raise UserError(f"no .npz file in the folder of motions {folder}; give a folder in the layout of AMASS")
    motions = tuple((str(file.relative_to(folder)), _Compact(load_motion(file).resample(fps))) for file in files)
    _log.info("motions %s: %d frames in %d files", folder, sum(len(m.position) for _, m in motions), len(motions))
    return motions
