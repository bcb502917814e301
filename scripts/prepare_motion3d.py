"""AMASS as clips of 3D motion to pretrain on: python -m scripts.prepare_motion3d --root RAW

RAW is a folder as for ``scripts.prepare_amass``, with the same splits: --root data/raw/amass, if it is there already.
Writes ``AMASS/train/00000000.pkl`` and so on, clips of 243 frames that begin every 81, in MotionBERT's format
``{"data_input": None, "data_label": (243, 17, 3)}`` (Zhu et al., ICCV 2023): the 17 joints of Human3.6M, x right, y
down, z forward, 0.298 per metre. The last clip of a recording ends with it; one that is too short runs forwards and
backwards in turns.

With --smpl the joints are those of SMPL with the recording's gender and shape; else of the free body, in a shape that
follows from the recording's name. Left out are recordings that are short, slower than --fps, or in which a joint jumps.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import pickle
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from tqdm import tqdm

from diffhmr.command_line import run_command
from diffhmr.errors import UserError
from diffhmr.files import write_json
from scripts.preparation import job
from scripts.preparation.contract import COUNT, FileKind, Finding, Piece
from scripts.prepare_amass import LEFT_OUT, Amass, add_options, frame_indices

if TYPE_CHECKING:
    from diffhmr.body.model import BodyModel

FRAMES, STRIDE = 243, 81
UNITS_PER_METRE = 0.298
"""MotionBERT's, which makes people about as large as in Human3.6M's pictures."""

Y_UP_TO_CAMERA = np.array([1.0, -1.0, -1.0])

_CHUNK = 512  # frames
_BETAS = 10
_FORMAT = "diffhmr-motion3d"


@dataclass(frozen=True)
class MotionClips:
    """The preparation.

    Attributes:
        fps: frames per second to take.
        min_seconds: shorter recordings are left out.
        exclude: patterns such as ``CMU/86/*`` of recordings to leave out.
        smpl: folder of SMPL's bodies of all genders, or None for the free body.
    """

    fps: float = 60.0
    min_seconds: float = 1.0
    exclude: tuple[str, ...] = ()
    smpl: str | None = None

    name = "motion3d"
    source = Amass.source
    licence = Amass.licence

    @classmethod
    def of(cls, arguments: argparse.Namespace) -> MotionClips:
        """As the options say."""
        amass = Amass.of(arguments)
        return cls(amass.fps, amass.min_seconds, amass.exclude, arguments.smpl)

    @property
    def _amass(self) -> Amass:
        return Amass(self.fps, self.min_seconds, self.exclude)

    def check(self, root: Path) -> list[Finding]:
        """Number of recordings of each subset that is there, and the subsets that a split lacks."""
        return self._amass.check(root)

    def pieces(self, root: Path, splits: Sequence[str] | None) -> list[Piece]:
        """One per folder of recordings."""
        return self._amass.pieces(root, splits)

    def convert(self, root: Path, piece: Piece) -> dict[str, np.ndarray]:
        """The joints in all frames of all recordings of a folder."""
        counts = dict.fromkeys(LEFT_OUT, 0)
        positions, begins = [np.zeros((0, 17, 3), np.float32)], [np.zeros(0, bool)]
        for path, recorded, framerate in self._amass.recordings(root, piece, counts):
            chosen = frame_indices(len(recorded), framerate, self.fps)
            name = path.relative_to(root).as_posix()
            positions.append(camera_joints(path, name, self.smpl, chosen))
            begins.append(np.arange(len(chosen)) == 0)
        return {
            "positions": np.concatenate(positions),
            "begins": np.concatenate(begins),
            **{f"{COUNT}recordings {reason}": np.array(number) for reason, number in counts.items()},
        }

    def image_root(self, root: Path) -> Path:
        """There are no pictures."""
        return root

    def extracted_images(self, root: Path, piece: Piece) -> None:  # noqa: ARG002 - of Preparation
        """There are no pictures."""
        return


def camera_joints(path: Path, name: str, smpl: str | None, frames: np.ndarray) -> np.ndarray:
    """``(T, 17, 3)`` float32: the joints in ``frames [T]`` of a recording, in the units of the clips.

    Raises:
        UserError: the recording or the body cannot be used.
    """
    import torch

    from diffhmr.body.joints import H36M17, SMPL24, extended
    from diffhmr.body.params import SmplParams
    from diffhmr.motion.amass_layout import Z_UP_TO_Y_UP
    from diffhmr.motion.sequence import load_motion

    body, betas = _shaped_body(path, name, smpl)
    motion = load_motion(path)
    position = motion.position
    if smpl is not None:  # trans moves SMPL's origin, which is not its pelvis
        rest = SmplParams.from_rotations(torch.eye(3, dtype=torch.float64).expand(1, 24, 3, 3), betas)
        position = position + Z_UP_TO_Y_UP @ body.joints(rest, SMPL24)[0, 0].numpy()
    joint_set = extended(H36M17, ("pelvis",))
    parts = []
    for chosen in np.split(frames, range(_CHUNK, len(frames), _CHUNK)):
        rotations = torch.from_numpy(motion.rotations[chosen])
        joints = body.joints(SmplParams.from_rotations(rotations, betas.expand(len(chosen), -1)), joint_set).numpy()
        parts.append(joints[:, :17] - joints[:, 17:] + position[chosen][:, None])
    return (np.concatenate(parts) * Y_UP_TO_CAMERA * UNITS_PER_METRE).astype(np.float32)


def _shaped_body(path: Path, name: str, smpl: str | None) -> tuple[BodyModel, Any]:
    """The body in float64, and betas ``[1, 10]``."""
    import torch

    from diffhmr.body.files import FREE_BODY, find_smpl
    from diffhmr.motion.amass_layout import read_fields
    from diffhmr.random import Stream, item_seeds, normals

    if smpl is None:
        number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        betas = np.clip(1.1 * normals(item_seeds(0, "train", [number]), Stream.SHAPE, _BETAS), -3, 3)
        return _body(FREE_BODY), torch.from_numpy(betas)
    fields = read_fields(path, ("betas", "gender"))
    shape = np.asarray(fields.get("betas", np.zeros(_BETAS)))
    if shape.ndim != 1 or len(shape) < _BETAS or shape.dtype.kind != "f" or not np.isfinite(shape).all():
        raise UserError(f"{path} has betas of shape {shape.shape}, expected at least {_BETAS} numbers; unpack it again")
    given = fields.get("gender", np.array("neutral"))
    text = given.item().decode() if isinstance(given.item(), bytes) else str(given.item())
    gender: Literal["male", "female", "neutral"] = "male" if text == "male" else "neutral"
    gender = "female" if text == "female" else gender
    return _body(find_smpl(gender, Path(smpl))), torch.from_numpy(shape[None, :_BETAS].astype(np.float64))


@lru_cache(maxsize=3)
def _body(path: Path) -> BodyModel:
    from diffhmr.body.model import BodyModel

    return BodyModel.load(path).double()


def _place(split: str) -> Path:
    return Path("AMASS", f"{split}.json")


def write_clips(path: Path, rows: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    """Write the clips into the folder named as ``path`` without suffix, and at last what they are to ``path``."""
    from diffhmr.datasets.clip_files.videos import Windows, videos_of_lengths

    starts = np.flatnonzero(rows["begins"])
    lengths = np.diff(np.append(starts, len(rows["begins"]))).tolist()
    windows = Windows(videos_of_lengths([""] * len(lengths), lengths), FRAMES, STRIDE)
    folder = path.with_suffix("")
    temporary = folder.with_name(f".{folder.name}-clips")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    for number in tqdm(range(len(windows)), desc=folder.name, unit="clip", disable=None):
        label = rows["positions"][windows(np.array([number]))[0]]
        with open(temporary / f"{number:08d}.pkl", "wb") as stream:
            pickle.dump({"data_input": None, "data_label": label}, stream, protocol=4)
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    write_json(path, {**meta, "format": _FORMAT, "frames": FRAMES, "stride": STRIDE, "clips": len(windows)})


def read_meta(path: Path) -> tuple[int, dict[str, Any]]:
    """Number of clips and meta data.

    Raises:
        UserError: it is no file of ours.
    """
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        if meta["format"] != _FORMAT:
            raise ValueError(f"its format is {meta['format']}")
        return int(meta["clips"]), meta
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} was not made by this command ({error}); move it away") from error


CLIPS = FileKind(_place, write_clips, read_meta, row_bytes=410, pictures=False)


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_options(parser, fps=60.0)
    parser.add_argument(
        "--smpl", metavar="DIR",
        help="folder of SMPL's bodies of all genders and of J_regressor_h36m.npy, such as data/body "
        "(default: the free body)",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    return job.main(MotionClips.of, argv, description=__doc__, add_options=_add_options, kind=CLIPS)


if __name__ == "__main__":
    sys.exit(run_command(main))
