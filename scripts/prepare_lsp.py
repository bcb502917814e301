"""Leeds Sports Pose as label files: python -m scripts.prepare_lsp --root RAW

RAW holds the two official archives, each unpacked into a folder of its own: ``lsp_dataset_original`` (pictures in full
size, of which the first 1000 are for training) and ``lsp_dataset`` (reduced pictures, of which the last 1000 are the
test set). Both have ``joints.mat`` with (3, 14, 2000) numbers and ``images/im0001.jpg`` ... (Johnson and Everingham,
BMVC 2010). The box is that of the joints, 1.2 times larger, as in SPIN.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from diffhmr.command_line import run_command
from diffhmr.errors import UserError
from scripts.preparation import job
from scripts.preparation.lsp import read_joints, rows_of
from scripts.preparation.people2d import LabelOptions, Parts, People2D, Rows, existing_folder

NUM_PICTURES = 2000
FOLDERS = {"train": "lsp_dataset_original", "test": "lsp_dataset"}
PEOPLE = {"train": slice(0, 1000), "test": slice(1000, 2000)}


@dataclass
class Lsp(People2D):
    """Training pictures in full size, test pictures reduced."""

    splits: ClassVar[tuple[str, ...]] = ("train", "test")
    name: ClassVar[str] = "lsp"
    source: ClassVar[str] = "http://sam.johnson.io/research/lsp.html"
    licence: ClassVar[str] = "none stated; cite Johnson and Everingham 2010; the pictures are Flickr's"

    def parts(self, root: Path, split: str) -> Parts:
        """``joints.mat`` and ``images/`` in the folder of the split."""
        name = FOLDERS[split]
        folder = _folder(root, split)
        remedy = f"download http://sam.johnson.io/research/{name}.zip and unpack it into {root / name}"
        return Parts(folder / "joints.mat", folder / "images", ".jpg", NUM_PICTURES, remedy)

    def read(self, root: Path, split: str) -> Rows:
        """All people of a split."""
        return read_people(_folder(root, split), root, split, self.options)


def _folder(root: Path, split: str) -> Path:
    name = FOLDERS[split]
    return existing_folder([root / name, root / name / name], "joints.mat")


def read_people(folder: Path, root: Path, split: str, options: LabelOptions) -> Rows:
    """The rows of a split, without OpenPose's detections.

    Args:
        folder: holds ``joints.mat`` and ``images``.
        root: folder that ``imgname`` shall be relative to.
        split: train or test.
        options: the user's.

    Raises:
        UserError: ``joints.mat`` is missing or is another file.
    """
    joints = read_joints(folder / "joints.mat", 1, f"unpack {FOLDERS[split]}.zip again")
    if len(joints) < NUM_PICTURES:
        raise UserError(f"{folder / 'joints.mat'} has {len(joints)} people, expected {NUM_PICTURES}; unpack it again")
    numbers = range(NUM_PICTURES)[PEOPLE[split]]
    names = [(folder / "images" / f"im{number + 1:04d}.jpg").relative_to(root).as_posix() for number in numbers]
    chosen = joints[PEOPLE[split]]
    return rows_of(chosen[..., :2], chosen[..., 2] < 0.5, names, options)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""

    def make(arguments: argparse.Namespace) -> Lsp:
        return Lsp(LabelOptions.of(arguments))

    return job.main(make, argv, description=__doc__, add_options=lambda parser: LabelOptions.add_to(parser, None))


if __name__ == "__main__":
    sys.exit(run_command(main))
