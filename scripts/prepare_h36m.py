"""Human3.6M as label files: python -m scripts.prepare_h36m --root RAW

RAW holds the subjects S1, S5, S6, S7, S8, S9, S11 as the official archives unpack: S1/MyPoseFeatures/D3_Positions_mono,
S1/MyPoseFeatures/D2_Positions, S1/MySegmentsMat/ground_truth_bb and S1/Videos. Every fifth frame is taken and written
to OUT/images. train has S1, S5, S6, S7 and S8; valid_protocol1 has S9 and S11, valid_protocol2 of these the frontal
camera 60457274 (Kanazawa et al., CVPR 2018; Kolotouros et al., ICCV 2019). The video S11/Directions.54138969 is damaged
in the release and left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from diffhmr.command_line import run_command
from diffhmr.errors import UserError
from scripts.preparation import job
from scripts.preparation.contract import Finding, Piece
from scripts.preparation.h36m import (
    NUM_VIDEOS,
    SUBJECTS,
    Video,
    chosen_frames,
    convert_video,
    find_videos,
    known_videos,
    split_videos,
)
from scripts.preparation.h36m_mosh import mosh_path, mosh_rows
from scripts.preparation.mocap import Group, count_finding
from scripts.preparation.videos import PICTURE_BYTES_PER_PIXEL, read_frames

_PIXELS = 1000 * 1000
_ROWS = 500  # of a video, on average
_DOWNLOADS = {
    "3D poses": "'Poses D3 Positions mono'",
    "videos": "'Videos'",
    "boxes": "'Segments mat, ground truth bounding boxes'",
    "2D poses": "'Poses D2 Positions'",
}


@dataclass(frozen=True)
class Human36M:
    """Human3.6M.

    Attributes:
        mosh: SMPL parameters that the user has: a folder of pickles or a label file.
    """

    mosh: Path | None = None
    name: ClassVar[str] = "h36m"
    source: ClassVar[str] = "http://vision.imar.ro/human3.6m"
    licence: ClassVar[str] = "academic use only, by registration; neither data nor labels may be passed on"

    def check(self, root: Path) -> list[Finding]:
        """The poses, videos and boxes of the subjects for training and for testing, and MoSh's parameters if wanted."""
        findings = []
        for subjects in dict.fromkeys(SUBJECTS.values()):
            findings += self._check_subjects(root, subjects)
        return findings

    def _check_subjects(self, root: Path, subjects: Sequence[str]) -> list[Finding]:
        splits = tuple(split for split in SUBJECTS if SUBJECTS[split] == subjects)
        videos = {subject: known_videos(root, subject) for subject in subjects}
        posed = [video for subject in subjects for video in find_videos(root, subject)]
        boxed = all(video.masks_path.is_file() or video.projections_path.is_file() for video in posed)
        needed = {"3D poses": True, "videos": True, "boxes": False, "2D poses": not (posed and boxed)}
        # Even where no poses are, their folder is known.
        folders = {kind: path.parent for kind, path in Video(root, subjects[0], "", "").paths.items()}
        found = []
        for kind, folder in folders.items():
            groups = {
                subject: Group([video.paths[kind] for video in videos[subject]], _expected(subject))
                for subject in subjects
            }
            remedy = f"register at {self.source}, get {_DOWNLOADS[kind]} of each subject, unpack into {root}"
            like = Finding("", folder, "found", needed=needed[kind], splits=splits, remedy=remedy)
            found.append(count_finding(f"{splits[0].partition('_')[0]} {kind}", folder, groups, like))
        if self.mosh is not None and self.mosh.is_dir():
            mosh = self.mosh
            groups = {
                subject: Group([mosh_path(mosh, video) for video in videos[subject]], _expected(subject))
                for subject in subjects
            }
            like = Finding("", mosh, "found", needed=False, splits=splits)
            found.append(count_finding(f"{splits[0].partition('_')[0]} MoSh", mosh, groups, like))
        return found

    def pieces(self, root: Path, splits: Sequence[str] | None) -> list[Piece]:
        """One per video."""
        return [
            Piece(split, video.key, rows=_ROWS, picture_bytes=int(_ROWS * _PIXELS * PICTURE_BYTES_PER_PIXEL))
            for split in SUBJECTS
            if splits is None or split in splits
            for video in split_videos(root, split)
        ]

    def convert(self, root: Path, piece: Piece) -> dict[str, np.ndarray]:
        """Every fifth frame of a video."""
        video = _video(root, piece)
        rows, num_frames = convert_video(video)
        return rows if self.mosh is None else rows | mosh_rows(self.mosh, video, rows, num_frames)

    def image_root(self, root: Path) -> Path:
        """Not used: the pictures are frames of videos."""
        return root

    def extracted_images(self, root: Path, piece: Piece) -> Iterator[tuple[str, np.ndarray]]:
        """The frames that the rows name."""
        video = _video(root, piece)
        for frame, image in read_frames(video.video_path, chosen_frames(video).tolist()):
            yield video.imgname(frame), image


def _expected(subject: str) -> int:
    return NUM_VIDEOS - (subject == "S11")  # without the damaged one


def _video(root: Path, piece: Piece) -> Video:
    return next(video for video in split_videos(root, piece.split) if video.key == piece.key)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mosh", type=Path, metavar="PATH",
        help="SMPL parameters by MoSh, if you have them: the folder with S1/Directions 1_cam0_aligned.pkl ..., or "
        "SPIN's h36m_train.npz (default: none)",
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""

    def make(arguments: argparse.Namespace) -> Human36M:
        if arguments.mosh is not None and not arguments.mosh.exists():
            raise UserError(f"--mosh {arguments.mosh} does not exist; leave the option out if you have no such files")
        return Human36M(arguments.mosh)

    return job.main(make, argv, description=__doc__, add_options=_add_options)


if __name__ == "__main__":
    sys.exit(run_command(main))
