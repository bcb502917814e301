"""3DPW as label files: python -m scripts.prepare_3dpw --root RAW

RAW is the folder in which sequenceFiles.zip and imageFiles.zip were unpacked: ``sequenceFiles/{train,validation,test}/
NAME.pkl`` and ``imageFiles/NAME/image_00000.jpg`` ... (von Marcard et al., ECCV 2018). Writes train, validation and
test, and 3DPW-OCC, ``occ``, the sequences with much occlusion of all three (Zhang et al., CVPR 2020).

A row is a person in a frame whose camera pose is valid and who has a 2D pose. The box is that of the 2D pose's points
with confidence, 1.2 times larger, as in SPIN. ``pose`` is in the camera's frame; ``shape`` belongs to the body of the
row's gender.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffhmr.command_line import run_command
from diffhmr.errors import UserError
from diffhmr.evaluation.protocols import OCC_SEQUENCES
from scripts.preparation import job
from scripts.preparation.contract import COUNT, Finding, Piece
from scripts.preparation.sequences import (
    SequenceFile,
    SequenceState,
    box_rows,
    picture_size,
    pose_in_camera,
    sequence_findings,
    sequence_state,
)

SITE = "https://virtualhumans.mpi-inf.mpg.de/3DPW/"
SEQUENCES = {
    "train": (
        "courtyard_arguing_00", "courtyard_backpack_00", "courtyard_basketball_00", "courtyard_bodyScannerMotions_00",
        "courtyard_box_00", "courtyard_capoeira_00", "courtyard_captureSelfies_00", "courtyard_dancing_01",
        "courtyard_giveDirections_00", "courtyard_golf_00", "courtyard_goodNews_00", "courtyard_jacket_00",
        "courtyard_laceShoe_00", "courtyard_rangeOfMotions_00", "courtyard_relaxOnBench_00",
        "courtyard_relaxOnBench_01", "courtyard_shakeHands_00", "courtyard_warmWelcome_00", "outdoors_climbing_00",
        "outdoors_climbing_01", "outdoors_climbing_02", "outdoors_freestyle_00", "outdoors_slalom_00",
        "outdoors_slalom_01",
    ),
    "validation": (
        "courtyard_basketball_01", "courtyard_dancing_00", "courtyard_drinking_00", "courtyard_hug_00",
        "courtyard_jumpBench_01", "courtyard_rangeOfMotions_01", "downtown_walkDownhill_00",
        "outdoors_crosscountry_00", "outdoors_freestyle_01", "outdoors_golf_00", "outdoors_parcours_00",
        "outdoors_parcours_01",
    ),
    "test": (
        "downtown_arguing_00", "downtown_bar_00", "downtown_bus_00", "downtown_cafe_00", "downtown_car_00",
        "downtown_crossStreets_00", "downtown_downstairs_00", "downtown_enterShop_00", "downtown_rampAndStairs_00",
        "downtown_runForBus_00", "downtown_runForBus_01", "downtown_sitOnStairs_00", "downtown_stairs_00",
        "downtown_upstairs_00", "downtown_walkBridge_01", "downtown_walkUphill_00", "downtown_walking_00",
        "downtown_warmWelcome_00", "downtown_weeklyMarket_00", "downtown_windowShopping_00", "flat_guitar_01",
        "flat_packBags_00", "office_phoneCall_00", "outdoors_fencing_01",
    ),
}  # fmt: skip
"""The official split."""

OCC = "occ"

NUM_POINTS = 18
OPENPOSE_SLOTS = (*range(8), *range(9, 19))
"""Where the 18 points of ``poses2d`` go in BODY_25: it has a hip centre in between."""

_REMEDY = f"register at {SITE} and unpack sequenceFiles.zip and imageFiles.zip side by side"


@dataclass(frozen=True)
class ThreeDpw:
    """The preparation of 3DPW."""

    name = "3dpw"
    source = SITE
    licence = "non-commercial scientific research; pictures and labels may not be passed on"

    def check(self, root: Path) -> list[Finding]:
        """Sequence files and pictures of each split."""
        findings = []
        for split in (*SEQUENCES, OCC):
            states = [_state(root, *sequence) for sequence in sequences_of(split)]
            files = root / "sequenceFiles"
            folders = (files if split == OCC else files / split, root / "imageFiles")
            findings += sequence_findings(split, folders, states, _REMEDY, (split,))
        return findings

    def pieces(self, root: Path, splits: Sequence[str] | None) -> list[Piece]:
        """One per sequence that is complete."""
        found = []
        for split in (*SEQUENCES, OCC) if splits is None else splits:
            states = [_state(root, *sequence) for sequence in sequences_of(split)]
            found += [Piece(split, state.name, rows=state.rows) for state in states if state.complete]
        return found

    def convert(self, root: Path, piece: Piece) -> dict[str, np.ndarray]:
        """The people of a sequence, one after the other."""
        official = next(split for split, names in SEQUENCES.items() if piece.key in names)
        return read_people(root, official, piece.key)

    def image_root(self, root: Path) -> Path:
        """Names begin with ``imageFiles/``, as in SPIN's label files."""
        return root

    def extracted_images(self, root: Path, piece: Piece) -> None:  # noqa: ARG002 - of Preparation
        """The pictures are files."""
        return


def sequences_of(split: str) -> list[tuple[str, str]]:
    """Official split and name of each sequence of a split or, of all splits, of 3DPW-OCC."""
    everything = [(official, name) for official, names in SEQUENCES.items() for name in names]
    return [pair for pair in everything if split == pair[0] or (split == OCC and pair[1].startswith(OCC_SEQUENCES))]


def read_people(root: Path, split: str, name: str) -> dict[str, np.ndarray]:
    """Rows of a sequence, with the counts of what was left out.

    Raises:
        UserError: the file is missing, damaged or another one.
    """
    file = SequenceFile(_sequence_file(root, split, name), _REMEDY)
    if file.text("sequence") != name:
        raise UserError(f"{_sequence_file(root, split, name)} is the sequence {file.text('sequence')}; {_REMEDY}")
    people = [_read_person(file, person) for person in range(file.length("poses"))]
    if not people:
        raise UserError(f"{_sequence_file(root, split, name)} has no people; {_REMEDY}")
    rows = {key: np.concatenate([person[key] for person in people]) for key in people[0] if not key.startswith(COUNT)}
    counts = {key: np.array(sum(person[key] for person in people)) for key in people[0] if key.startswith(COUNT)}
    count = len(rows["frame"])
    size = picture_size(root / _picture_name(name, 0), _REMEDY)
    return {
        **rows,
        **counts,
        "imgname": np.array([_picture_name(name, frame) for frame in rows["frame"]], np.str_),
        "sequence": np.full(count, name),
        "image_size": np.tile(np.array(size), (count, 1)),
    }


def _read_person(file: SequenceFile, person: int) -> dict[str, np.ndarray]:
    pose = file.array("poses", person, shape=(None, 72))
    frames = len(pose)
    points = file.array("poses2d", person, shape=(frames, 3, NUM_POINTS)).transpose(0, 2, 1)
    extrinsics = file.array("cam_poses", shape=(frames, 4, 4))
    valid = file.array("campose_valid", person, shape=(frames,)).astype(bool)
    shape = file.array("betas", person, shape=None).ravel()[:10]
    if shape.shape != (10,):
        raise UserError(f"{file.text('sequence')}: betas has {len(shape)} numbers, expected at least 10; {_REMEDY}")
    gender = file.text("genders", person)
    if gender not in ("m", "f"):
        raise UserError(f"{file.text('sequence')}: the gender is {gender!r}, expected m or f; {_REMEDY}")
    known = points[..., 2:] > 0
    low = np.where(known, points[..., :2], np.inf).min(axis=1)
    high = np.where(known, points[..., :2], -np.inf).max(axis=1)
    boxed = np.isfinite(low).all(axis=1) & ((high - low).max(axis=1) > 0)
    taken = np.flatnonzero(valid & boxed)
    openpose = np.zeros((len(taken), 25, 3))
    openpose[:, list(OPENPOSE_SLOTS)] = np.where(known, points, 0)[taken]
    return {
        **box_rows(low[taken], high[taken]),
        "openpose": openpose,
        "pose": pose_in_camera(pose[taken], extrinsics[taken]),
        "shape": np.tile(shape, (len(taken), 1)),
        "has_smpl": np.ones(len(taken), np.uint8),
        "gender": np.full(len(taken), gender),
        "frame": taken,
        "subject": np.full(len(taken), str(person)),
        f"{COUNT}people without a valid camera pose": np.array((~valid).sum()),
        f"{COUNT}people without a 2D pose": np.array((valid & ~boxed).sum()),
    }


def _sequence_file(root: Path, split: str, name: str) -> Path:
    return root / "sequenceFiles" / split / f"{name}.pkl"


def _picture_name(name: str, frame: int) -> str:
    return f"imageFiles/{name}/image_{frame:05d}.jpg"


def _state(root: Path, split: str, name: str) -> SequenceState:
    pictures = (root / "imageFiles" / name, "image_{:05d}.jpg")
    return sequence_state(name, _sequence_file(root, split, name), _count_rows, pictures, _REMEDY)


def _count_rows(file: SequenceFile) -> tuple[int, int]:
    frames = len(file.array("cam_poses", shape=(None, 4, 4)))
    people = range(file.length("campose_valid"))
    return frames, sum(int(file.array("campose_valid", person, shape=(frames,)).sum()) for person in people)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    return job.main(ThreeDpw(), argv, description=__doc__)


if __name__ == "__main__":
    sys.exit(run_command(main))
