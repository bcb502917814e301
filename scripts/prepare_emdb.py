"""EMDB 1 as a label file: python -m scripts.prepare_emdb --root RAW

RAW is the folder in which the archives of the participants were unpacked: ``P0/09_outdoor_walk/`` with ``images/
00000.jpg`` ... and ``P0_09_outdoor_walk_data.pkl`` (Kaufmann et al., ICCV 2023). EMDB 1 is the part of the data set on
which methods that look at the person alone are compared: 17 sequences.

A row is a good frame with a valid box, 1.2 times larger. ``pose`` is in the camera's frame; ``shape`` belongs to the
body of the row's gender. Of the projected SMPL joints, those that SPIN49 has go to ``openpose``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffhmr.body.joints import OPENPOSE25, SMPL24
from diffhmr.command_line import run_command
from diffhmr.errors import UserError
from scripts.preparation import job
from scripts.preparation.contract import COUNT, Finding, Piece
from scripts.preparation.sequences import (
    SequenceFile,
    SequenceState,
    box_rows,
    pose_in_camera,
    sequence_findings,
    sequence_state,
)

SITE = "https://eth-ait.github.io/emdb"
SPLIT = "emdb1"
SEQUENCES = (
    "P1/14_outdoor_climb", "P2/23_outdoor_hug_tree", "P3/31_outdoor_workout", "P3/32_outdoor_soccer_warmup_a",
    "P3/33_outdoor_soccer_warmup_b", "P5/42_indoor_dancing", "P5/44_indoor_rom", "P6/49_outdoor_big_stairs_down",
    "P6/50_outdoor_workout", "P6/51_outdoor_dancing", "P7/57_outdoor_rock_chair", "P7/59_outdoor_rom",
    "P7/60_outdoor_workout", "P8/64_outdoor_skateboard", "P8/68_outdoor_handstand", "P8/69_outdoor_cartwheel",
    "P9/76_outdoor_sitting",
)  # fmt: skip
"""Of EMDB 1."""

_GENDERS = {"female": "f", "male": "m", "neutral": ""}
_JOINTS = tuple(name for name in SMPL24.joint_names if name in OPENPOSE25.joint_names)
_FROM = [SMPL24.joint_names.index(name) for name in _JOINTS]
_TO = [OPENPOSE25.joint_names.index(name) for name in _JOINTS]
_REMEDY = f"register at {SITE} and unpack the downloads so that P1, P2, P3 and P5 to P9 lie side by side"


@dataclass(frozen=True)
class Emdb:
    """The preparation of EMDB 1."""

    name = "emdb"
    source = SITE
    licence = "non-commercial scientific research; pictures and labels may not be passed on"

    def check(self, root: Path) -> list[Finding]:
        """Data files and pictures of the sequences."""
        states = [_state(root, sequence) for sequence in SEQUENCES]
        return sequence_findings("EMDB 1", (root, root), states, _REMEDY)

    def pieces(self, root: Path, splits: Sequence[str] | None) -> list[Piece]:
        """One per sequence that is complete."""
        if splits is not None and SPLIT not in splits:
            return []
        states = [_state(root, sequence) for sequence in SEQUENCES]
        return [Piece(SPLIT, state.name.replace("/", "_"), rows=state.rows) for state in states if state.complete]

    def convert(self, root: Path, piece: Piece) -> dict[str, np.ndarray]:
        """The good frames of a sequence."""
        return read_person(root, piece.key.replace("_", "/", 1))

    def image_root(self, root: Path) -> Path:
        """Names begin with the participant."""
        return root

    def extracted_images(self, root: Path, piece: Piece) -> None:  # noqa: ARG002 - of Preparation
        """The pictures are files."""
        return


def data_file(root: Path, sequence: str) -> Path:
    """Of a sequence such as P0/09_outdoor_walk."""
    return root / sequence / f"{sequence.replace('/', '_')}_data.pkl"


def read_person(root: Path, sequence: str) -> dict[str, np.ndarray]:
    """Rows of a sequence, with the counts of what was left out.

    Raises:
        UserError: the file is missing, damaged or another one.
    """
    path = data_file(root, sequence)
    file = SequenceFile(path, _REMEDY)
    if not file.array("emdb1", shape=()):
        raise UserError(f"{path} does not belong to EMDB 1, as {sequence} should; {_REMEDY}")
    frames = int(file.array("n_frames", shape=()))
    good = file.array("good_frames_mask", shape=(frames,)).astype(bool)
    boxes = file.array("bboxes", "bboxes", shape=(frames, 4)).astype(np.float64)
    invalid = file.array("bboxes", "invalid_idxs", shape=(None,))
    boxed = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    boxed = boxed & ~np.isin(np.arange(frames), invalid)
    taken = np.flatnonzero(good & boxed)
    count = len(taken)
    gender = file.text("gender")
    if gender not in _GENDERS:
        raise UserError(f"{path}: the gender is {gender!r}, expected one of {', '.join(_GENDERS)}; {_REMEDY}")
    poses = [file.array("smpl", name, shape=(frames, width)) for name, width in (("poses_root", 3), ("poses_body", 69))]
    size = [int(file.array("camera", name, shape=())) for name in ("width", "height")]
    openpose = np.zeros((count, len(OPENPOSE25), 3))
    points = file.array("kp2d", shape=(frames, 24, 2))[taken][:, _FROM]
    known = np.isfinite(points).all(axis=2)
    openpose[:, _TO, :2] = np.where(known[..., None], points, 0)
    openpose[:, _TO, 2] = known
    return {
        **box_rows(boxes[taken, :2], boxes[taken, 2:]),
        "imgname": np.array([f"{sequence}/images/{frame:05d}.jpg" for frame in taken], np.str_),
        "openpose": openpose,
        "pose": pose_in_camera(
            np.concatenate(poses, axis=1)[taken], file.array("camera", "extrinsics", shape=(frames, 4, 4))[taken]
        ),
        "shape": np.tile(file.array("smpl", "betas", shape=(10,)), (count, 1)),
        "has_smpl": np.ones(count, np.uint8),
        "gender": np.full(count, _GENDERS[gender]),
        "sequence": np.full(count, sequence.replace("/", "_")),
        "frame": taken,
        "subject": np.full(count, sequence.partition("/")[0]),
        "image_size": np.tile(np.array(size), (count, 1)),
        f"{COUNT}frames that are not good": np.array((~good).sum()),
        f"{COUNT}good frames without a valid box": np.array((good & ~boxed).sum()),
    }


def _state(root: Path, sequence: str) -> SequenceState:
    pictures = (root / sequence / "images", "{:05d}.jpg")
    return sequence_state(sequence, data_file(root, sequence), _count_rows, pictures, _REMEDY)


def _count_rows(file: SequenceFile) -> tuple[int, int]:
    frames = int(file.array("n_frames", shape=()))
    return frames, int(file.array("good_frames_mask", shape=(frames,)).sum())


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    return job.main(Emdb(), argv, description=__doc__)


if __name__ == "__main__":
    sys.exit(run_command(main))
