"""MPI-INF-3DHP (Mehta et al., 3DV 2017): the files of the official release and the label rows of its sequences.

Training: per subject and sequence ``annot.mat`` with the joints of all frames as 14 cameras see them, and a video per
camera. Test: per sequence ``annot_data.mat``, which is HDF5, and pictures. Joints and pictures of a frame have the same
number; in the names of pictures it is counted from 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from diffhmr.datasets.labels import read_labels
from diffhmr.errors import UserError
from scripts.preparation.contract import COUNT
from scripts.preparation.matlab import open_mat
from scripts.preparation.mocap import inside, joint_boxes, joints_of, part_of, require_finite
from scripts.preparation.videos import count_frames

CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)
"""Those at the height of the chest that look straight ahead, which the authors of VNect and SPIN use."""

STRIDE = 10
NUM_FRAMES = {
    ("S1", "Seq1"): 6416, ("S1", "Seq2"): 12430, ("S2", "Seq1"): 6502, ("S2", "Seq2"): 6081,
    ("S3", "Seq1"): 12488, ("S3", "Seq2"): 12283, ("S4", "Seq1"): 6171, ("S4", "Seq2"): 6675,
    ("S5", "Seq1"): 12820, ("S5", "Seq2"): 12312, ("S6", "Seq1"): 6188, ("S6", "Seq2"): 6145,
    ("S7", "Seq1"): 6239, ("S7", "Seq2"): 6320, ("S8", "Seq1"): 6468, ("S8", "Seq2"): 6054,
}  # fmt: skip
"""Labelled frames of each training sequence."""

VALID_FRAMES = {"TS1": 603, "TS2": 540, "TS3": 505, "TS4": 553, "TS5": 276, "TS6": 452}
"""Frames of each test sequence that count: 2,929."""

SIZE = (2048, 2048)
ACTIVITIES = ("Standing/Walking", "Exercising", "Sitting", "Reaching/Crouching", "On The Floor", "Sports",
              "Miscellaneous")  # fmt: skip

_TRAIN17 = (4, 18, 19, 20, 23, 24, 25, 3, 5, 6, 7, 9, 10, 11, 14, 15, 16)
_TEST17 = (14, 11, 12, 13, 8, 9, 10, 15, 1, 16, 0, 5, 6, 7, 2, 3, 4)
_TEST_FOLDER = "mpi_inf_3dhp_test_set"
_REMEDY = "download it again from https://vcai.mpi-inf.mpg.de/3dhp-dataset"


@dataclass(frozen=True)
class View:
    """A training sequence as a camera sees it.

    Attributes:
        root: folder of the release.
        subject: "S1" to "S8".
        sequence: "Seq1" or "Seq2".
        camera: its number.
    """

    root: Path
    subject: str
    sequence: str
    camera: int

    @property
    def folder(self) -> Path:
        """Of the sequence."""
        return self.root / self.subject / self.sequence

    @property
    def video_path(self) -> Path:
        """The pictures as they are downloaded."""
        return self.folder / "imageSequence" / f"video_{self.camera}.avi"

    @property
    def frames_folder(self) -> Path:
        """Folder of the pictures, where somebody has taken them out of the video already."""
        return self.folder / "imageFrames" / f"video_{self.camera}"

    @property
    def key(self) -> str:
        """Name in file names."""
        return f"{self.subject}_{self.sequence}_{self.camera}"

    def imgname(self, number: int) -> str:
        """Name of picture ``number``."""
        return f"{self.subject}/{self.sequence}/imageFrames/video_{self.camera}/frame_{number:06d}.jpg"


def all_views(root: Path) -> list[View]:
    """All training videos of the official release."""
    return [View(root, *names, camera) for names in NUM_FRAMES for camera in CAMERAS]


def frame_files(view: View) -> tuple[np.ndarray, int]:
    """Frames (from 0) that lie in the folder of pictures, sorted, and the number that frame 0 has in their names.

    The names count from 1, as ffmpeg and SPIN do, unless there is a frame_000000.jpg.
    """
    folder = view.frames_folder
    names = [path.stem for path in folder.iterdir() if path.suffix == ".jpg"] if folder.is_dir() else []
    numbers = sorted(int(name[6:]) for name in names if name.startswith("frame_") and name[6:].isdecimal())
    first = 0 if numbers[:1] == [0] else 1
    return np.array(numbers, np.int64) - first, first


@lru_cache(maxsize=1)
def read_train(path: Path) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Per camera the 17 joints of all frames: pixels ``(N, 17, 2)`` and millimetres ``(N, 17, 3)``.

    The latter are those of a skeleton of everybody's size ("universal"), as in the test set.

    Raises:
        UserError: it is no ``annot.mat`` of the training set.
    """
    found: list[list[np.ndarray]] = []
    with open_mat(path, "annotations", _REMEDY, ("annot2", "univ_annot3")) as file:
        for name, width in (("annot2", 2), ("univ_annot3", 3)):
            count = file.num_cells(name)
            if count <= max(CAMERAS):
                raise UserError(f"{path}: {name} has {count} cameras, expected 14; {_REMEDY}")
            cells = [file.cell(name, camera) for camera in range(max(CAMERAS) + 1)]
            if any(cell.ndim != 2 or cell.shape[1] != 28 * width or len(cell) != len(cells[0]) for cell in cells):
                raise UserError(f"{path}: {name} has cells of shape {cells[0].shape}, expected (N, {28 * width})")
            joints = [cell.reshape(-1, 28, width)[:, _TRAIN17].astype(np.float64) for cell in cells]
            require_finite(path, *(joints[camera] for camera in CAMERAS))
            found.append(joints)
    if len(found[0][0]) != len(found[1][0]):
        raise UserError(f"{path}: annot2 has {len(found[0][0])} frames, univ_annot3 {len(found[1][0])}; {_REMEDY}")
    return found[0], found[1]


@dataclass(frozen=True)
class Selection:
    """The frames of a view that become rows.

    Attributes:
        frames: ``(N,)`` from 0.
        first: number of frame 0 in the names of pictures.
        labelled: number of all labelled frames.
        outside: labelled frames left out because a joint lies outside the picture.
        lacking: labelled frames without picture.
    """

    frames: np.ndarray
    first: int
    labelled: int
    outside: int
    lacking: int


def select(view: View, extracted: bool, fits: Fits | None = None) -> Selection:
    """Every tenth of the frames whose 17 joints are all in the picture, or of these the frames that ``fits`` names.

    Args:
        view: the video.
        extracted: whether the pictures are files.
        fits: SMPL parameters.
    """
    points = read_train(view.folder / "annot.mat")[0][view.camera]
    whole = inside(points, SIZE)
    if extracted:
        pictured, first = frame_files(view)
    else:
        pictured, first = np.arange(count_frames(view.video_path)), 1
    there = np.isin(np.arange(len(points)), pictured)
    frames = np.flatnonzero(whole & there)
    if fits is None:
        frames = frames[::STRIDE]
    else:
        frames = np.array([frame for frame in frames if view.imgname(int(frame) + 1) in fits.places], np.int64)
    return Selection(frames, first, len(points), int((~whole).sum()), int((~there).sum()))


def train_rows(view: View, chosen: Selection, fits: Fits | None = None) -> dict[str, np.ndarray]:
    """The label rows of a view, and counts."""
    pixels, millimetres = (joints[view.camera][chosen.frames] for joints in read_train(view.folder / "annot.mat"))
    count = len(chosen.frames)
    rows = _rows(pixels, millimetres) | {
        "imgname": np.array([view.imgname(int(frame) + chosen.first) for frame in chosen.frames], np.str_),
        "sequence": np.array([f"{view.subject}_{view.sequence}"] * count, np.str_),
        "frame": chosen.frames,
        "camera": np.array([str(view.camera)] * count, np.str_),
        "subject": np.array([view.subject] * count, np.str_),
        "image_size": np.tile(SIZE, (count, 1)),
        f"{COUNT}labelled frames with joints outside the picture": np.array(chosen.outside),
        f"{COUNT}labelled frames without picture": np.array(chosen.lacking),
    }
    return rows if fits is None else rows | fits.rows([view.imgname(int(frame) + 1) for frame in chosen.frames])


def _rows(pixels: np.ndarray, millimetres: np.ndarray) -> dict[str, np.ndarray]:
    center, side = joint_boxes(pixels) if len(pixels) else (np.zeros((0, 2)), np.zeros(0))
    return {"center": center, "scale": side / 200, "part": part_of(pixels), "S": joints_of(millimetres)}


@dataclass(frozen=True, eq=False)
class Fits:
    """SMPL parameters by the names of pictures.

    Attributes:
        places: row of each name.
        pose: ``(N, 72)``.
        shape: ``(N, 10)``.
        has_smpl: ``(N,)`` bool.
    """

    places: dict[str, int]
    pose: np.ndarray
    shape: np.ndarray
    has_smpl: np.ndarray

    def rows(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """``pose``, ``shape`` and ``has_smpl`` of pictures."""
        index = np.array([self.places[name] for name in names], np.int64)
        return {"pose": self.pose[index], "shape": self.shape[index], "has_smpl": self.has_smpl[index]}


@lru_cache(maxsize=1)
def read_fits(path: Path, names_path: Path | None) -> Fits:
    """Parameters of a label file; or of SPIN's ``mpi-inf-3dhp_mview_fits.npz``, whose rows are those of another file.

    Raises:
        UserError: a file is damaged or another one, or the two do not go together.
    """
    labels = read_labels(names_path or path)
    places = {str(name): row for row, name in enumerate(labels.imgname)}
    if not any("/imageFrames/video_" in name for name in places):
        raise UserError(f"{names_path or path} names no pictures like {View(Path(), 'S1', 'Seq1', 0).imgname(1)}")
    if names_path is None:
        return Fits(places, labels.pose, labels.betas, labels.has_smpl)
    try:
        with np.load(path, allow_pickle=False) as archive:
            pose, shape = archive["pose"], archive["shape"]
            known = archive["has_smpl"] if "has_smpl" in archive.files else np.ones(len(pose))
    except Exception as error:  # whatever numpy makes of a damaged file
        raise UserError(f"{path} holds no arrays pose and shape ({error}); download it again") from error
    shapes = pose.shape, shape.shape, known.shape
    if shapes != ((len(labels), 72), (len(labels), 10), (len(labels),)):
        raise UserError(f"{path} has {len(pose)} rows, {names_path} {len(labels)}: they do not belong together")
    return Fits(places, pose, shape, known.astype(bool))


@dataclass(frozen=True)
class ValidSequence:
    """A test sequence as ``annot_data.mat`` describes it.

    Attributes:
        folder: with ``imageSequence``.
        frames: ``(N,)`` those that count, from 0.
        pixels: ``(N, 17, 2)``.
        millimetres: ``(N, 17, 3)``.
        activity: ``(N,)`` from 1, 0 where there is none.
    """

    folder: Path
    frames: np.ndarray
    pixels: np.ndarray
    millimetres: np.ndarray
    activity: np.ndarray

    def picture(self, frame: int) -> Path:
        """The picture of a frame."""
        return self.folder / "imageSequence" / f"img_{frame + 1:06d}.jpg"


def valid_folder(root: Path, sequence: str) -> Path:
    """Folder of a test sequence; the archive has a folder of its own name, which unpacking may double."""
    doubled = root / _TEST_FOLDER / _TEST_FOLDER / sequence
    return doubled if doubled.is_dir() else root / _TEST_FOLDER / sequence


def read_valid(root: Path, name: str) -> ValidSequence:
    """A test sequence.

    Raises:
        UserError: it is no ``annot_data.mat`` of the test set.
    """
    folder = valid_folder(root, name)
    path = folder / "annot_data.mat"
    variables = ("valid_frame", "annot2", "univ_annot3", "activity_annotation")
    with open_mat(path, "annotations", _REMEDY, variables) as file:
        valid = file.array("valid_frame").ravel() != 0
        arrays = []
        for variable, width in (("annot2", 2), ("univ_annot3", 3)):
            array = file.array(variable).astype(np.float64)  # width, joints, 1, frames
            if array.shape not in ((width, 17, 1, len(valid)), (width, 17, len(valid))):
                raise UserError(
                    f"{path}: {variable} has shape {array.shape}, expected ({width}, 17, 1, {len(valid)}); {_REMEDY}"
                )
            arrays.append(array.reshape(width, 17, len(valid)).transpose(2, 1, 0)[valid][:, _TEST17])
        activity = file.optional_array("activity_annotation")
    require_finite(path, *arrays)
    activity = np.zeros(len(valid)) if activity is None or activity.size != len(valid) else activity.ravel()
    frames = np.flatnonzero(valid)
    return ValidSequence(folder, frames, arrays[0], arrays[1], activity[valid].astype(np.int64))


def valid_rows(root: Path, name: str) -> dict[str, np.ndarray]:
    """The label rows of the frames of a test sequence that count; ``valid`` are those with all joints in the picture.

    Raises:
        UserError: the file or a picture is damaged.
    """
    sequence = read_valid(root, name)
    files = [sequence.picture(int(frame)) for frame in sequence.frames]
    there = np.array([file.is_file() for file in files], bool)
    count = int(there.sum())
    pictures = [file for file, is_there in zip(files, there, strict=True) if is_there]
    pixels = sequence.pixels[there]
    size = _picture_size(pictures[0]) if pictures else SIZE
    words = ["", *ACTIVITIES]
    known = np.where((sequence.activity > 0) & (sequence.activity < len(words)), sequence.activity, 0)
    return _rows(pixels, sequence.millimetres[there]) | {
        "imgname": np.array([picture.relative_to(root).as_posix() for picture in pictures], np.str_),
        "sequence": np.array([name] * count, np.str_),
        "frame": sequence.frames[there],
        "subject": np.array([name] * count, np.str_),
        "action": np.array(words)[known[there]],
        "valid": inside(pixels, size),
        "image_size": np.tile(size, (count, 1)),
        f"{COUNT}frames with joints outside the picture": np.array(int((~inside(pixels, size)).sum())),
        f"{COUNT}frames without picture": np.array(len(files) - count),
    }


def _picture_size(path: Path) -> tuple[int, int]:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise UserError(f"picture missing or damaged: {path}; unpack the test set again")
    return image.shape[1], image.shape[0]
