"""High-resolution LSP Extended as a label file: python -m scripts.prepare_hr_lspet --root RAW

RAW is the unpacked official archive ``hr-lspet.zip``: ``joints.mat`` with (14, 3, 9428) numbers and the pictures
``im00001.png`` ... beside it (Johnson and Everingham, CVPR 2011; pictures and labels of Pishchulin et al., CVPR 2016).
The numbers of the pictures have gaps: person k belongs to the k-th picture in order. The box is that of the joints, 1.2
times larger, as in SPIN.
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
from scripts.preparation.contract import Finding
from scripts.preparation.lsp import read_joints, rows_of
from scripts.preparation.people2d import (
    LabelOptions,
    Parts,
    People2D,
    Rows,
    State,
    count_pictures,
    existing_folder,
    sorted_pictures,
)

NUM_PICTURES = 9_428


@dataclass
class HrLspet(People2D):
    """One split, for training."""

    splits: ClassVar[tuple[str, ...]] = ("train",)
    name: ClassVar[str] = "hr_lspet"
    source: ClassVar[str] = "http://sam.johnson.io/research/lspet.html"
    licence: ClassVar[str] = "none stated; cite Johnson and Everingham 2011; the pictures are Flickr's"

    def parts(self, root: Path, split: str) -> Parts:  # noqa: ARG002
        """``joints.mat`` and the pictures beside it, or in ``images/``."""
        folder = existing_folder([root, root / "hr-lspet"], "joints.mat")
        pictures = next((place for place in (folder, folder / "images") if count_pictures(place, ".png")), folder)
        remedy = f"download http://datasets.d2.mpi-inf.mpg.de/hr-lspet/hr-lspet.zip and unpack it into {root}"
        return Parts(folder / "joints.mat", pictures, ".png", NUM_PICTURES, remedy)

    def picture_finding(self, root: Path, split: str) -> Finding:
        """As many pictures as people are needed to know whose is whose."""
        parts = self.parts(root, split)
        people = len(read_joints(parts.annotations, 0, parts.remedy))
        count = count_pictures(parts.pictures, parts.suffix)
        state: State = "found" if count == people else "incomplete" if count else "missing"
        detail = f"{count} of {people} people's, {parts.num_pictures} in the archive"
        return Finding(f"{split} pictures", parts.pictures, state, detail, remedy=parts.remedy, splits=(split,))

    def read(self, root: Path, split: str) -> Rows:
        """All people."""
        parts = self.parts(root, split)
        return read_people(parts.annotations.parent, parts.pictures, root, self.options)


def read_people(folder: Path, pictures: Path, root: Path, options: LabelOptions) -> Rows:
    """The rows, without OpenPose's detections.

    Args:
        folder: holds ``joints.mat``.
        pictures: folder of the pictures.
        root: folder that ``imgname`` shall be relative to.
        options: the user's.

    Raises:
        UserError: ``joints.mat`` is missing or is another file, or there is not one picture per person, so that nobody
            can say which is whose.
    """
    joints = read_joints(folder / "joints.mat", 0, "unpack hr-lspet.zip again")
    files = sorted_pictures(pictures, ".png")
    if len(files) != len(joints):
        raise UserError(
            f"{folder / 'joints.mat'} has {len(joints)} people but {pictures} {len(files)} pictures: they are matched "
            "by their order, so all have to be there; unpack hr-lspet.zip again into an empty folder"
        )
    names = [(pictures / name).relative_to(root).as_posix() for name in files]
    return rows_of(joints[..., :2], joints[..., 2] > 0.5, names, options)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""

    def make(arguments: argparse.Namespace) -> HrLspet:
        return HrLspet(LabelOptions.of(arguments))

    return job.main(make, argv, description=__doc__, add_options=lambda parser: LabelOptions.add_to(parser, None))


if __name__ == "__main__":
    sys.exit(run_command(main))
