"""Human3.6M (Ionescu et al., TPAMI 2014): the files of the official release and the label rows of a video.

Per subject, video and camera there are a CDF file with the joints in the frame of the camera, one with their
projections, an mp4 file and a MATLAB file with a mask of the person's box for each frame. All begin with the same frame
and have 50 frames per second; joints and pictures of a frame have the same number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffhmr.errors import UserError
from diffhmr.files import require_file
from scripts.preparation.contract import COUNT
from scripts.preparation.matlab import open_mat
from scripts.preparation.mocap import joint_boxes, joints_of, lacking_library, part_of, require_finite, warn_if_short
from scripts.preparation.videos import count_frames, frame_size

SUBJECTS = {
    "train": ("S1", "S5", "S6", "S7", "S8"),
    "valid_protocol1": ("S9", "S11"),
    "valid_protocol2": ("S9", "S11"),
}
CAMERAS = ("54138969", "55011271", "58860488", "60457274")
PROTOCOL2_CAMERA = "60457274"
STRIDE = 5
NUM_VIDEOS = 120  # of a subject: 15 actions, twice, 4 cameras
MASK_BOX = 0.9
"""Side of the box over the longer side of the person's mask (SPIN; Kolotouros et al., ICCV 2019)."""

_NUM_JOINTS = 32
_JOINTS17 = (11, 6, 7, 8, 1, 2, 3, 12, 24, 14, 15, 17, 18, 19, 25, 26, 27)
_NAME = re.compile(r"(?P<action>[A-Za-z]+(?: \d+)?)\.(?P<camera>\d{8})\.(?:cdf|mp4|mat)")
_REMEDY = "download it again from http://vision.imar.ro/human3.6m"


@dataclass(frozen=True)
class Video:
    """One of the videos.

    Attributes:
        root: folder of the release.
        subject: such as "S9".
        action: as in the names of the files, such as "Directions 1".
        camera: its number.
    """

    root: Path
    subject: str
    action: str
    camera: str

    @property
    def _stem(self) -> str:
        return f"{self.action}.{self.camera}"

    @property
    def joints_path(self) -> Path:
        """CDF of the joints in the frame of the camera, millimetres."""
        return self.root / self.subject / "MyPoseFeatures" / "D3_Positions_mono" / f"{self._stem}.cdf"

    @property
    def projections_path(self) -> Path:
        """CDF of their projections, pixels."""
        return self.root / self.subject / "MyPoseFeatures" / "D2_Positions" / f"{self._stem}.cdf"

    @property
    def video_path(self) -> Path:
        """The pictures."""
        return self.root / self.subject / "Videos" / f"{self._stem}.mp4"

    @property
    def masks_path(self) -> Path:
        """MATLAB file of the masks."""
        return self.root / self.subject / "MySegmentsMat" / "ground_truth_bb" / f"{self._stem}.mat"

    @property
    def paths(self) -> dict[str, Path]:
        """All of these."""
        return {
            "3D poses": self.joints_path,
            "videos": self.video_path,
            "boxes": self.masks_path,
            "2D poses": self.projections_path,
        }

    @property
    def key(self) -> str:
        """Name in file names."""
        return f"{self.subject}_{self.action.replace(' ', '_')}.{self.camera}"

    @property
    def broken(self) -> bool:
        """Whether it is the one whose video is damaged in the release itself."""
        return (self.subject, self.action, self.camera) == ("S11", "Directions", "54138969")

    def imgname(self, frame: int) -> str:
        """Name of the picture of a frame (from 0): as in SPIN's files, counted from 1."""
        return f"{self.key}_{frame + 1:06d}.jpg"


def find_videos(root: Path, subject: str) -> list[Video]:
    """The videos that joints are there for, by name, without the broken one and the scenes without actions (_ALL)."""
    found = [Video(root, subject, *names) for names in _names(Video(root, subject, "", "").joints_path.parent)]
    return [video for video in found if not video.broken]


def known_videos(root: Path, subject: str) -> list[Video]:
    """The videos of all cameras and all actions of which any file is there, without the broken one."""
    folders = [path.parent for path in Video(root, subject, "", "").paths.values()]
    actions = sorted({action for folder in folders for action, _ in _names(folder)})
    found = [Video(root, subject, action, camera) for action in actions for camera in CAMERAS]
    return [video for video in found if not video.broken]


def _names(folder: Path) -> list[tuple[str, str]]:
    """Action and camera of the files in a folder."""
    matches = [_NAME.fullmatch(path.name) for path in sorted(folder.iterdir())] if folder.is_dir() else []
    return [(match["action"], match["camera"]) for match in matches if match is not None]


def split_videos(root: Path, split: str) -> list[Video]:
    """The videos of a split whose pictures are there."""
    cameras = (PROTOCOL2_CAMERA,) if split == "valid_protocol2" else CAMERAS
    videos = [video for subject in SUBJECTS[split] for video in find_videos(root, subject)]
    return [video for video in videos if video.camera in cameras and video.video_path.is_file()]


def read_cdf(path: Path, width: int) -> np.ndarray:
    """``(N, 32, width)`` float64: the variable ``Pose`` of a CDF file.

    Raises:
        UserError: the file is missing, damaged or another one.
    """
    require_file(path, "poses", _REMEDY)
    try:
        import cdflib  # takes long; --help should not
    except ImportError as error:
        raise lacking_library(error) from error

    try:
        poses = np.asarray(cdflib.CDF(path).varget("Pose"))
    except Exception as error:  # whatever cdflib makes of a damaged file
        reason = str(error)[:80] or type(error).__name__
        raise UserError(f"{path} is no readable CDF file of poses ({reason}); {_REMEDY}") from error
    columns = width * _NUM_JOINTS
    if poses.shape[-1:] != (columns,) or poses.dtype.kind not in "biuf" or poses.size % columns:
        raise UserError(f"{path}: Pose has shape {poses.shape}, expected (1, N, {columns}); {_REMEDY}")
    poses = poses.reshape(-1, _NUM_JOINTS, width).astype(np.float64)
    require_finite(path, poses)
    return poses


def mask_boxes(path: Path, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centre ``(N, 2)`` and longer side ``(N,)`` in pixels of the masks of ``frames``; NaN where there is none.

    Raises:
        UserError: the file is damaged or another one.
    """
    center = np.full((len(frames), 2), np.nan)
    side = np.full(len(frames), np.nan)
    with open_mat(path, "boxes", _REMEDY, ("Masks",)) as file:
        count = file.num_cells("Masks")
        for row, frame in enumerate(frames):
            mask = file.cell("Masks", int(frame)) if frame < count else np.zeros((0, 0))
            if mask.ndim != 2 or not mask.any():
                continue
            ys, xs = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
            center[row] = (xs[0] + xs[-1]) / 2, (ys[0] + ys[-1]) / 2
            side[row] = max(xs[-1] - xs[0], ys[-1] - ys[0]) + 1
    return center, side


def chosen_frames(video: Video, num_poses: int | None = None) -> np.ndarray:
    """Numbers of every fifth frame that has both a pose and a picture."""
    if num_poses is None:
        num_poses = len(read_cdf(video.joints_path, 3))
    return np.arange(0, min(num_poses, count_frames(video.video_path)), STRIDE)


def convert_video(video: Video) -> tuple[dict[str, np.ndarray], int]:
    """The label rows of every fifth frame of a video, with counts; and how many frames have poses.

    The box is that of the mask, or of the projected joints where there is no mask.

    Raises:
        UserError: a file is damaged, or there are neither masks nor projections.
    """
    joints = read_cdf(video.joints_path, 3)[:, _JOINTS17]
    projections = None
    if video.projections_path.is_file():
        projections = read_cdf(video.projections_path, 2)[:, _JOINTS17]
        if len(projections) != len(joints):
            raise UserError(
                f"{video.projections_path} has {len(projections)} frames, the 3D poses {len(joints)}; {_REMEDY}"
            )
    frames, wanted = chosen_frames(video, len(joints)), -(-len(joints) // STRIDE)
    warn_if_short(video.video_path, len(frames), wanted)
    center, side = np.full((len(frames), 2), np.nan), np.full(len(frames), np.nan)
    if video.masks_path.is_file():
        center, side = mask_boxes(video.masks_path, frames)
        side = MASK_BOX * side
    unmasked = np.isnan(side)
    if unmasked.any():
        if projections is None:
            raise UserError(f"no mask of frame {frames[unmasked][0]} in {video.masks_path}, and no D2_Positions either")
        center[unmasked], side[unmasked] = (values[unmasked] for values in joint_boxes(projections[frames]))
    part = np.zeros((len(frames), 24, 3)) if projections is None else part_of(projections[frames])
    rows = {
        "imgname": np.array([video.imgname(int(frame)) for frame in frames], np.str_),
        "center": center,
        "scale": side / 200,
        "part": part,
        "S": joints_of(joints[frames]),
        "sequence": _repeat(video.key.rpartition(".")[0], len(frames)),
        "frame": frames,
        "camera": _repeat(video.camera, len(frames)),
        "subject": _repeat(video.subject, len(frames)),
        "action": _repeat(video.action.partition(" ")[0], len(frames)),
        "image_size": np.tile(frame_size(video.video_path), (len(frames), 1)),
        f"{COUNT}boxes of joints for want of masks": np.array(int(unmasked.sum())),
        f"{COUNT}labelled frames that the videos lack": np.array(wanted - len(frames)),
    }
    return rows, len(joints)


def _repeat(word: str, count: int) -> np.ndarray:
    return np.array([word] * count, np.str_)
