"""MPI-INF-3DHP as label files: python -m scripts.prepare_mpi_inf_3dhp --root RAW

RAW holds what the official scripts download: S1/Seq1/annot.mat and S1/Seq1/imageSequence/video_0.avi to S8/Seq2 (the
cameras 0, 1, 2, 4, 5, 6, 7 and 8), and mpi_inf_3dhp_test_set/TS1 to TS6. train has, of the frames with all 17 joints
in the picture, every tenth of each video, and its pictures are written to OUT/images; where they have been taken out of
the videos already, as S1/Seq1/imageFrames/video_0/frame_000001.jpg, they are used as they are. valid has the 2,929
frames of the test set that count; its rows with all joints in the picture are marked as valid (SPIN takes only those).
The 3D joints are those of the universal skeleton.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from diffhmr.command_line import run_command
from diffhmr.errors import UserError
from scripts.preparation import job
from scripts.preparation.contract import Finding, Piece
from scripts.preparation.mocap import COMPLETE, Group, State, count_finding, warn_if_short
from scripts.preparation.mpi_inf import (
    CAMERAS,
    NUM_FRAMES,
    SIZE,
    STRIDE,
    VALID_FRAMES,
    Fits,
    View,
    all_views,
    frame_files,
    read_fits,
    read_valid,
    select,
    train_rows,
    valid_folder,
    valid_rows,
)
from scripts.preparation.videos import PICTURE_BYTES_PER_PIXEL, announced_frames, read_frames

_SHORT = {("S6", "Seq2", 2)}  # this video of the release ends early
_NAMED = 6


@dataclass(frozen=True)
class MpiInf3dhp:
    """MPI-INF-3DHP.

    Attributes:
        fits: SMPL parameters of training pictures.
        fits_names: label file whose rows are those of ``fits``, if that has no names itself.
    """

    fits: Path | None = None
    fits_names: Path | None = None
    name: ClassVar[str] = "mpi_inf_3dhp"
    source: ClassVar[str] = "https://vcai.mpi-inf.mpg.de/3dhp-dataset"
    licence: ClassVar[str] = "research only, not commercial; see the licence in the download"

    def check(self, root: Path) -> list[Finding]:
        """The labels and the pictures for training and for testing."""
        return [*self._check_train(root), *self._check_valid(root)]

    def _check_train(self, root: Path) -> list[Finding]:
        settings = f"subjects, destination={root} and ready_to_download=1"
        remedy = f"download {self.source}, set {settings} in its conf.ig, run get_dataset.sh"
        like = Finding("", root, "found", remedy=remedy, splits=("train",))
        views = {names: [View(root, *names, camera) for camera in CAMERAS] for names in NUM_FRAMES}
        labels = {" ".join(names): Group([some[0].folder / "annot.mat"], 1) for names, some in views.items()}
        found = [count_finding("train labels", root / "S1" / "Seq1" / "annot.mat", labels, like)]
        if pictures_are_files(root):
            return [*found, _count_frames(views, replace(like, what="train pictures", path=root))]
        paths = {" ".join(names): [view.video_path for view in some] for names, some in views.items()}
        videos = {name: Group(some, len(CAMERAS)) for name, some in paths.items()}
        folder = paths["S1 Seq1"][0].parent
        return [*found, count_finding("train videos", folder, videos, like)]

    def _check_valid(self, root: Path) -> list[Finding]:
        remedy = f"run get_testset.sh of {self.source} and unpack what it downloads into {root}"
        folder = valid_folder(root, "TS1").parent
        like = Finding("", folder, "found", remedy=remedy, splits=("valid",))
        labels, pictures = {}, {}
        for name, expected in VALID_FRAMES.items():
            path = valid_folder(root, name) / "annot_data.mat"
            labels[name] = Group([path], 1)
            files: list[Path] = []
            if path.is_file():
                sequence = read_valid(root, name)
                files = [sequence.picture(int(frame)) for frame in sequence.frames]
            pictures[name] = Group(files, expected)
        return [
            count_finding("valid labels", folder, labels, like),
            count_finding("valid pictures", folder, pictures, like),
        ]

    def pieces(self, root: Path, splits: Sequence[str] | None) -> list[Piece]:
        """One per training video and one per test sequence."""
        found = []
        if splits is None or "train" in splits:
            files = pictures_are_files(root)
            for view in all_views(root):
                there = view.frames_folder.is_dir() if files else view.video_path.is_file()
                if there and (view.folder / "annot.mat").is_file():
                    frames = NUM_FRAMES[view.subject, view.sequence]
                    if not files:  # a shortened release must not ask for the space of the whole one
                        frames = min(frames, announced_frames(view.video_path) or frames)
                    rows = -(-frames // STRIDE)
                    size = 0 if files else int(rows * SIZE[0] * SIZE[1] * PICTURE_BYTES_PER_PIXEL)
                    found.append(Piece("train", view.key, rows, size))
        if splits is None or "valid" in splits:
            for name, rows in VALID_FRAMES.items():
                if (valid_folder(root, name) / "annot_data.mat").is_file():
                    found.append(Piece("valid", name, rows))
        return found

    def convert(self, root: Path, piece: Piece) -> dict[str, np.ndarray]:
        """The rows of a video or of a test sequence."""
        if piece.split == "valid":
            return valid_rows(root, piece.key)
        view = _view(root, piece)
        fits, files = self._fits(), pictures_are_files(root)
        chosen = select(view, files, fits)
        pictures = view.frames_folder if files else view.video_path
        warn_if_short(pictures, chosen.labelled - chosen.lacking, chosen.labelled)
        return train_rows(view, chosen, fits)

    def image_root(self, root: Path) -> Path:
        """``root``: names begin with the folders of the release."""
        return root

    def extracted_images(self, root: Path, piece: Piece) -> Iterator[tuple[str, np.ndarray]] | None:
        """The frames of a training video that the rows name; None where the pictures are files."""
        if piece.split == "valid" or pictures_are_files(root):
            return None
        return self._frames(_view(root, piece))

    def _frames(self, view: View) -> Iterator[tuple[str, np.ndarray]]:
        chosen = select(view, False, self._fits())
        for frame, image in read_frames(view.video_path, chosen.frames.tolist()):
            yield view.imgname(frame + chosen.first), image

    def _fits(self) -> Fits | None:
        return None if self.fits is None else read_fits(self.fits, self.fits_names)


def pictures_are_files(root: Path) -> bool:
    """Whether the training pictures are taken from folders and not from videos: there are at least as many of them."""
    views = all_views(root)
    folders = sum(view.frames_folder.is_dir() for view in views)
    return folders > 0 and folders >= sum(view.video_path.is_file() for view in views)


def _count_frames(views: Mapping[tuple[str, str], Sequence[View]], like: Finding) -> Finding:
    """What a check says about folders of pictures."""
    short, total, anything = [], 0, False
    for names, some in views.items():
        for view in some:
            count = len(frame_files(view)[0])
            total, anything = total + 1, anything or count > 0
            least = 1 if (*names, view.camera) in _SHORT else COMPLETE * NUM_FRAMES[names]
            if count < least:
                short.append(f"{' '.join(names)} video_{view.camera} {count} of {NUM_FRAMES[names]}")
    state: State = "found" if not short else "incomplete" if anything else "missing"
    detail = f"{total - len(short)} of {total} folders of frames"
    more = "; ..." if len(short) > _NAMED else ""
    detail += f" ({'; '.join(short[:_NAMED])}{more})" if short and anything else ""
    return replace(like, state=state, detail=detail)


def _view(root: Path, piece: Piece) -> View:
    return next(view for view in all_views(root) if view.key == piece.key)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fits", type=Path, metavar="FILE",
        help="SMPL parameters of training pictures: a label file with pose and shape; then train has the frames that "
        "it names (default: none)",
    )  # fmt: skip
    parser.add_argument(
        "--fits-names", type=Path, metavar="FILE",
        help="label file with the rows of --fits, such as SPIN's mpi_inf_3dhp_train.npz for its "
        "mpi-inf-3dhp_mview_fits.npz, which has no names",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""

    def make(arguments: argparse.Namespace) -> MpiInf3dhp:
        if arguments.fits is None and arguments.fits_names is not None:
            raise UserError("--fits-names goes with --fits, which is not given")
        if arguments.fits is not None:
            read_fits(arguments.fits, arguments.fits_names)  # now, not after hours
        return MpiInf3dhp(arguments.fits, arguments.fits_names)

    return job.main(make, argv, description=__doc__, add_options=_add_options)


if __name__ == "__main__":
    sys.exit(run_command(main))
