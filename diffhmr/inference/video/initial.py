"""SMPL parameters of a person in a video that are to be refined: what ``demo.py --initial`` reads.

An ``.npz`` (read with ``allow_pickle=False``) with

* ``poses (N, 72)``: axis-angle, radians, SMPL's order, the pelvis in the camera frame (x right, y down, z forward);
* ``betas (10,)`` or ``(N, 10)``;
* ``frames (N,)``: numbers of the frames in the video from 0, ascending; without them, row k is frame k.

The ``trackID.npz`` that ``demo.py --video`` writes is such a file.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.body.params import NUM_BETAS, SmplParams
from diffhmr.errors import UserError
from diffhmr.files import require_file, sha256_file
from diffhmr.geometry.rotation import axis_angle_to_matrix, matrix_to_axis_angle
from diffhmr.inference.frame_numbers import SLACK
from diffhmr.inference.video.footage import Footage
from diffhmr.motion.amass_layout import FRAMERATE_KEYS, UNREADABLE

_WANTED = "poses (frames, 72) and betas (10) or (frames, 10)"
_REMEDY = f"give an .npz with {_WANTED}, such as a track that demo.py --video wrote"
_USED = ("poses", "betas", "frames", "metadata", *FRAMERATE_KEYS)
_MOST_RADIANS, _MOST_BETA = 100.0, 100.0  # larger numbers are damage

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class InitialMotion:
    """What a file says.

    Attributes:
        path: of the file.
        rotations: ``[N, 24, 3, 3]``.
        betas: ``[N, 10]``.
        frames: ``[N]`` numbers of the frames; None if the file does not number them.
        body_sha256: of the body that the betas belong to; None if the file does not say.
        track_id: of the track that the file is of; None if it does not say.
        video_frames: number of frames of the video that the file is of; None if it does not say.
    """

    path: Path
    rotations: Tensor
    betas: Tensor
    frames: NDArray[np.int64] | None
    body_sha256: str | None
    track_id: int | None = None
    video_frames: int | None = None

    def about(self) -> dict[str, Any]:
        """For the record."""
        return {"path": str(self.path), "sha256": sha256_file(self.path)}

    def of(self, footage: Footage, frames: NDArray[np.int64], who: int) -> SmplParams:
        """The parameters ``[T]`` of the successive ``frames [T]`` of track ``who``; all have the same betas.

        Frames that the file does not have lie on the shortest arcs between their neighbours.

        Raises:
            UserError: the file is of another track or video, or of frames in which the person is not.
        """
        if self.track_id not in (None, who):
            raise UserError(
                f"{self.path} is of track {self.track_id}, but track {who} is chosen: choose the other one with "
                "--track, or give the file of this one"
            )
        lengths = (footage.num_frames, footage.announced if footage.cut_off else footage.num_frames)
        if self.video_frames is not None and min(abs(self.video_frames - length) for length in lengths) > SLACK:
            raise UserError(
                f"{self.path} is of a video of {self.video_frames} frames, but this one has {footage.num_frames}: give "
                "the file of this video"
            )
        numbers = self._numbers(footage)
        inside = (numbers >= frames[0]) & (numbers <= frames[-1])
        if not inside.any():
            raise UserError(
                f"{self.path} has no frame of track {who}, which goes from {frames[0]} to {frames[-1]}: choose another "
                "track with --track"
            )
        missing = len(frames) - int(inside.sum())
        if missing:
            _log.warning("%s lacks %d of %d frames of track %d: they are bridged", self.path, missing, len(frames), who)
        rows = torch.from_numpy(numbers - frames[0])
        rotations = bridged(self.rotations.unsqueeze(0), rows, len(frames))[0]
        betas = self.betas[torch.from_numpy(inside)]
        betas = betas[:1] + (betas - betas[:1]).mean(dim=0, keepdim=True)
        return SmplParams.from_rotations(rotations, betas.expand(len(frames), -1))

    def _numbers(self, footage: Footage) -> NDArray[np.int64]:
        there = footage.announced if footage.cut_off else footage.num_frames
        if self.frames is None:
            if len(self.rotations) != there:
                raise UserError(
                    f"{self.path} has {len(self.rotations)} frames, but the video has {there}: give the file of this "
                    "video, or add frames (numbers from 0) to it"
                )
            return np.arange(there)
        if self.frames[-1] >= there:
            raise UserError(
                f"{self.path} has the frame {self.frames[-1]}, but the video has {there} frames (from 0): give the "
                "file of this video"
            )
        return self.frames


def read_initial(path: str | Path) -> InitialMotion:
    """Read a file of the layout above.

    Raises:
        UserError: it is missing, damaged, or holds something else.
    """
    path = require_file(path, "initial parameters", _REMEDY)
    arrays = _arrays(path)
    if any(key in arrays for key in FRAMERATE_KEYS):
        raise UserError(f"{path} is a motion in the world, as AMASS has them, not before the camera; {_REMEDY}")
    for name in ("poses", "betas"):
        if name not in arrays:
            raise UserError(f"{path} has no {name}; {_REMEDY}")
    poses = _numbers_in(arrays["poses"], f"{path}: poses", _MOST_RADIANS)
    betas = _numbers_in(arrays["betas"], f"{path}: betas", _MOST_BETA)
    if poses.ndim != 2 or poses.shape[1] != 72 or not len(poses):
        raise UserError(f"{path}: poses has shape {poses.shape}, expected (frames, 72): SMPL's axis-angle")
    if betas.shape not in ((NUM_BETAS,), (len(poses), NUM_BETAS)):
        raise UserError(
            f"{path}: betas has shape {betas.shape}, expected ({NUM_BETAS},) or ({len(poses)}, {NUM_BETAS})"
        )
    return InitialMotion(
        path=path,
        rotations=axis_angle_to_matrix(torch.from_numpy(poses).unflatten(-1, (24, 3))).float(),
        betas=torch.from_numpy(np.broadcast_to(betas, (len(poses), NUM_BETAS)).astype(np.float32)),
        frames=_frame_numbers(arrays, len(poses), path),
        body_sha256=None if (body := _told(arrays, "body", "sha256")) is None else str(body),
        track_id=track if isinstance(track := _told(arrays, "track", "id"), int) else None,
        video_frames=frames if isinstance(frames := _told(arrays, "video", "frames"), int) else None,
    )


def bridged(rotations: Tensor, rows: Tensor, count: int) -> Tensor:
    """Rotations of ``count`` frames from those of some, the rest along the shortest arcs between their neighbours.

    Args:
        rotations: ``[S, N, J, 3, 3]``.
        rows: ``[N]`` ascending, which frames they are of. Before the first and after the last nothing moves.
        count: T.

    Returns:
        ``[S, T, J, 3, 3]``.
    """
    times = torch.arange(count)
    after = torch.searchsorted(rows, times).clamp(max=len(rows) - 1)
    before = (torch.searchsorted(rows, times, right=True) - 1).clamp(min=0)
    gap = (rows[after] - rows[before]).clamp(min=1)
    share = ((times - rows[before]).float() / gap).clamp(0, 1)
    result = rotations[:, before]
    missing = (share > 0).nonzero().flatten()
    start, end = rotations[:, before[missing]], rotations[:, after[missing]]
    turn = matrix_to_axis_angle(start.transpose(-1, -2) @ end)
    result[:, missing] = start @ axis_angle_to_matrix(share[missing, None, None] * turn)
    return result


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.lib.npyio.NpzFile):
            with content:
                return {name: content[name] for name in _USED if name in content.files}
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"cannot read the initial parameters {path}: {reason}; {_REMEDY}") from error
    raise UserError(f"{path} is no .npz file; {_REMEDY}")


def _numbers_in(values: NDArray[Any], what: str, most: float) -> NDArray[np.float64]:
    if values.dtype.kind not in "fiu":
        raise UserError(f"{what} are no numbers; {_REMEDY}")
    numbers = values.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise UserError(f"{what} hold values that are not finite; leave out such frames and number the others (frames)")
    if numbers.size and np.abs(numbers).max() > most:
        raise UserError(f"{what} hold values beyond {most:g}; copy the file again")
    return numbers


def _frame_numbers(arrays: dict[str, NDArray[Any]], count: int, path: Path) -> NDArray[np.int64] | None:
    if "frames" not in arrays:
        return None
    frames = arrays["frames"]
    if frames.shape != (count,) or frames.dtype.kind not in "iu" or frames.min() < 0 or (np.diff(frames) <= 0).any():
        raise UserError(f"{path}: frames must be {count} ascending whole numbers from 0 on, one for each row of poses")
    return frames.astype(np.int64)


def _told(arrays: dict[str, NDArray[Any]], about: str, key: str) -> Any:
    """What the metadata of a track say about something; None if there are none."""
    try:
        return json.loads(str(arrays["metadata"]))[about][key]
    except (KeyError, TypeError, ValueError):
        return None
