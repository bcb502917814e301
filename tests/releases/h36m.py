"""A miniature Human3.6M: CDF files, videos and masks of a few frames of synthetic people."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cdflib.cdfwrite
import h5py
import numpy as np
import scipy.io
from scipy.spatial.transform import Rotation

from diffhmr.body.model import BodyModel
from tests.releases.captured_people import CapturedPeople, capture_people, write_video

SIZES = {"54138969": (1000, 1002), "55011271": (1000, 1000), "58860488": (1000, 1000), "60457274": (1000, 1002)}
RATE = 50
FOCAL = 1145.0
NUM_FRAMES = 12

# Place among the 32 joints of the captured skeleton of the 24 slots of label files that it has.
_PLACES = {14: 11, 3: 6, 4: 7, 5: 8, 2: 1, 1: 2, 0: 3, 16: 12, 12: 24, 17: 14, 18: 15, 9: 17, 10: 18, 11: 19, 8: 25,
           7: 26, 6: 27}  # fmt: skip
SLOTS = tuple(_PLACES)


@dataclass(frozen=True)
class H36mVideo:
    """What is in the release about one video.

    Attributes:
        subject, action, camera: as in the official names.
        people: one per frame.
        masks: ``[N, 4]`` first and last column and row (x0, y0, x1, y1) of the person's mask.
    """

    subject: str
    action: str
    camera: str
    people: CapturedPeople
    masks: np.ndarray

    def imgname(self, frame: int) -> str:
        """As in SPIN's files."""
        return f"{self.subject}_{self.action.replace(' ', '_')}.{self.camera}_{frame + 1:06d}.jpg"


def write_h36m(
    root: Path,
    body: BodyModel,
    people: int = NUM_FRAMES,
    seed: int = 0,
    scenes: Sequence[tuple[str, str]] = (("S1", "Directions 1"), ("S9", "Walking"), ("S11", "Directions")),
    cameras: Sequence[str] = ("54138969", "60457274"),
) -> list[H36mVideo]:
    """Write ``scenes`` (subject, action) as seen by ``cameras``, with ``people`` frames each.

    S11's Directions of camera 54138969 is damaged, as in the official release. Each subject has the scene ``_ALL``
    too, which is no action. Returns what is in the videos that are not damaged.
    """
    truths = []
    for number, (subject, action, camera) in enumerate((*scene, camera) for scene in scenes for camera in cameras):
        captured = capture_people(body, people, seed * 100 + number, SIZES[camera], FOCAL)
        truth = H36mVideo(subject, action, camera, captured, _mask_corners(captured))
        _write_scene(root, truth)
        if (subject, action, camera) == ("S11", "Directions", "54138969"):
            (root / subject / "Videos" / f"{action}.{camera}.mp4").write_bytes(b"\0\0\0\x20ftypisom damaged")
        else:
            truths.append(truth)
    for subject in dict.fromkeys(subject for subject, _ in scenes):
        folder = root / subject / "MyPoseFeatures" / "D3_Positions_mono"
        write_poses(folder / f"_ALL.{cameras[0]}.cdf", np.zeros((9, 96)))
    return truths


def _write_scene(root: Path, truth: H36mVideo) -> None:
    folder, stem = root / truth.subject, f"{truth.action}.{truth.camera}"
    poses = folder / "MyPoseFeatures"
    write_poses(poses / "D3_Positions_mono" / f"{stem}.cdf", _full_skeleton(truth.people.joints * 1000))
    write_poses(poses / "D2_Positions" / f"{stem}.cdf", _full_skeleton(truth.people.pixels))
    write_video(folder / "Videos" / f"{stem}.mp4", truth.people, "mp4v", RATE)
    write_masks(folder / "MySegmentsMat" / "ground_truth_bb" / f"{stem}.mat", truth)


def _full_skeleton(points: np.ndarray) -> np.ndarray:
    """``[N, 32 * W]`` from ``[N, 24, W]``; the joints that nobody reads are far away."""
    full = np.full((len(points), 32, points.shape[-1]), 99999.0)
    for slot, place in _PLACES.items():
        full[:, place] = points[:, slot]
    return full.reshape(len(points), -1)


def write_poses(path: Path, poses: np.ndarray, majority: str = "column_major") -> None:
    """A CDF file with ``Pose [N, 32 * W]`` in a single record, in the order of bytes of MATLAB or of C."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The library writes the bytes as they come, whatever the order that it is told to note down.
    ordered = poses.T.reshape(poses.shape) if majority == "column_major" else poses
    file = cdflib.cdfwrite.CDF(path, cdf_spec={"Majority": majority}, delete=True)
    file.write_var(
        {"Variable": "Pose", "Data_Type": 44, "Num_Elements": 1, "Rec_Vary": True, "Dim_Sizes": list(poses.shape)},
        var_data=np.ascontiguousarray(ordered[None], np.float32),
    )
    file.close()


def _mask_corners(people: CapturedPeople) -> np.ndarray:
    low, high = people.pixels.min(axis=1), people.pixels.max(axis=1)
    margin = 0.15 * (high - low)
    limit = np.array(people.size) - 1
    corners = [np.clip(np.round(low - margin), 0, limit), np.clip(np.round(high + 0.5 * margin), 0, limit)]
    return np.concatenate(corners, axis=1).astype(int)


def mask_of(truth: H36mVideo, frame: int) -> np.ndarray:
    """``[H, W]`` 0 and 1."""
    mask = np.zeros(truth.people.size[::-1], np.uint8)
    x0, y0, x1, y1 = truth.masks[frame]
    mask[y0 : y1 + 1, x0 : x1 + 1] = 1
    return mask


def write_masks(path: Path, truth: H36mVideo, version: str = "7.3", empty: Sequence[int] = ()) -> None:
    """``Masks``, a cell per frame, in a MATLAB file of version 7.3 (HDF5) or 5; those of ``empty`` frames are blank."""
    path.parent.mkdir(parents=True, exist_ok=True)
    masks = [mask_of(truth, frame) * (frame not in empty) for frame in range(len(truth.people))]
    if version == "5":
        cells = np.empty((1, len(masks)), object)
        cells[0] = masks
        scipy.io.savemat(path, {"Masks": cells}, do_compression=True)
        return
    with h5py.File(path, "w", userblock_size=512) as file:
        references = file.create_dataset("Masks", (len(masks), 1), dtype=h5py.ref_dtype)
        references.attrs["MATLAB_class"] = np.bytes_("cell")
        for frame, mask in enumerate(masks):
            cell = file.create_dataset(f"#refs#/{frame}", data=mask.T, compression="gzip")
            cell.attrs["MATLAB_class"] = np.bytes_("logical")
            references[frame, 0] = cell.ref
    stamp_matlab(path)


def stamp_matlab(path: Path) -> None:
    """Write what MATLAB puts in front of the HDF5 content."""
    with open(path, "r+b") as stream:
        stream.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


def write_mosh(folder: Path, truth: H36mVideo) -> None:
    """The parameters as HMR's authors had them: of every fifth frame, people standing on their heads."""
    path = folder / truth.subject / f"{truth.action}_cam{list(SIZES).index(truth.camera)}_aligned.pkl"
    path.parent.mkdir(parents=True, exist_ok=True)
    poses = truth.people.pose[::5].copy()
    poses[:, :3] = (Rotation.from_rotvec(poses[:, :3]) * Rotation.from_rotvec([np.pi, 0, 0])).as_rotvec()
    content = {"new_poses": poses, "betas": truth.people.betas[0], "trans": np.zeros((len(poses), 3))}
    path.write_bytes(pickle.dumps(content, protocol=2))
