"""The result for one person in a video: two files with everything that is needed to show, measure or edit the motion.

``NAME.npz`` (read with ``allow_pickle=False``; float32 unless said otherwise; T successive frames, K input keypoints):

======================  ================  ==============================================================================
``frames``              [T]               int64, numbers of the frames in the video, from 0, without a gap
``missing``             [T]               bool, nobody was found in the frame: the motion is made up from its neighbours
``fps``                 scalar            frames per second
``poses``               [T, 72]           axis-angle, radians: the pelvis in the camera frame, then joints 1 to 23
                                          relative to their parents, SMPL's order
``betas``               [10]              shape coefficients of the body named in the metadata
``transl``              [T, 3]            metres, as SMPL's ``transl``: added to the posed body
``K``                   [3, 3]            pinhole matrix of the picture, pixels
``image_size``          [2]               int64, width and height in pixels
``joints_smpl24``       [T, 24, 3]        metres, camera frame; ``names_smpl24`` [24] has their names
``joints_coco17``       [T, 17, 3]        metres, camera frame; ``names_coco17`` [17] has their names
``pixels_coco17``       [T, 17, 2]        where they are in the picture
``keypoints``           [T, K, 3]         input keypoints: pixels x, y, confidence; ``names_keypoints`` [K]
``reprojection_px``     [T]               mean distance of the body's joints from the keypoints; NaN without keypoints
``joint_spread_mm``     [T, 24]           mean distance of a joint from its mean over the samples, from the pelvis
``sample_poses``        [S-1, T, 72]      the random hypotheses, if there are any, as ``poses``
``sample_betas``        [S-1, 10]         as ``betas``
``sample_transl``       [S-1, T, 3]       as ``transl``
``metadata``            scalar            the text of the JSON file without its frames
======================  ================  ==============================================================================

``NAME.json`` is for people and other programs: video, track, camera, body and checkpoint with their SHA-256, sampling,
reprojection, names of the joints, and per frame number, time, whether it is missing, pose, translation and joints.

The camera frame is OpenCV's: x right, y down, z forward, metres; pixel (0, 0) is the CENTRE of the top-left pixel.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.body.joints import COCO17, JOINT_SETS, SMPL24
from diffhmr.body.params import SmplParams
from diffhmr.errors import UserError
from diffhmr.files import atomic_path, require_file
from diffhmr.geometry.camera import project
from diffhmr.geometry.rotation import axis_angle_to_matrix, matrix_to_axis_angle

FORMAT = "diffhmr-track"
VERSION = 1

_REMEDY = "give the .npz or .json file that demo.py --video wrote"
_MAY_BE_NAN = "reprojection_px"


@dataclass(frozen=True, eq=False)
class TrackResult:
    """The motion of one person in the camera frame of the video, with S hypotheses.

    Attributes:
        params: ``[S, T]`` with ``transl``, on the CPU; hypothesis 0 is the single answer. All frames of a hypothesis
            have the same betas.
        frames: ``[T]`` numbers of the frames in the video, without a gap.
        missing: ``[T]`` bool, nobody was found in the frame.
        fps: frames per second.
        intrinsic: K ``[3, 3]``.
        image_size: width and height in pixels.
        joints_smpl24: ``[T, 24, 3]`` metres, of the single answer.
        joints_coco17: ``[T, 17, 3]`` metres, of the single answer.
        keypoints: ``[T, K, 3]`` pixels and confidence.
        joint_set: name of the K points.
        reprojection_px: ``[T]``, NaN in frames without keypoints.
        joint_spread_mm: ``[T, 24]``.
        metadata: everything else, as in the JSON file.
    """

    params: SmplParams
    frames: NDArray[np.int64]
    missing: NDArray[np.bool_]
    fps: float
    intrinsic: Tensor
    image_size: tuple[int, int]
    joints_smpl24: Tensor
    joints_coco17: Tensor
    keypoints: Tensor
    joint_set: str
    reprojection_px: Tensor
    joint_spread_mm: Tensor
    metadata: dict[str, Any]

    def __len__(self) -> int:
        """T, the number of frames."""
        return len(self.frames)

    @property
    def num_hypotheses(self) -> int:
        """S."""
        return int(self.params.shape[0])

    @property
    def answer(self) -> SmplParams:
        """``[T]``: hypothesis 0."""
        return self.params.map(lambda value: value[0])


def save_track(result: TrackResult, path: str | Path) -> tuple[Path, Path]:
    """Write ``path`` with the suffixes .npz and .json; returns both paths. The format is described above.

    Raises:
        UserError: the folder cannot be written.
        ValueError: a number that belongs into the JSON file is not finite.
    """
    arrays_path, text_path = Path(path).with_suffix(".npz"), Path(path).with_suffix(".json")
    arrays = _arrays(result)
    with atomic_path(arrays_path) as temporary:
        np.savez_compressed(
            temporary, allow_pickle=False, metadata=np.array(json.dumps(result.metadata, allow_nan=False)), **arrays
        )
    _write_text(text_path, result, arrays, arrays_path.name)
    return arrays_path, text_path


def load_track(path: str | Path) -> TrackResult:
    """Read what :func:`save_track` wrote; ``path`` is the .npz file or the .json file beside it.

    Raises:
        UserError: the file is missing, damaged, of another kind, or holds values that are not finite.
    """
    path = require_file(Path(path).with_suffix(".npz"), "result", _REMEDY)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged or no result file ({error}); {_REMEDY}") from error
    try:
        metadata = json.loads(str(arrays.pop("metadata")))
        if metadata.get("format") != FORMAT or metadata["version"] > VERSION:
            raise UserError(f"{path} is of another format or a newer version; {_REMEDY}")
        for name, values in arrays.items():
            if values.dtype.kind == "f" and name != _MAY_BE_NAN and not np.isfinite(values).all():
                raise UserError(f"{path}: {name} holds values that are not finite; recover the motion again")
        return _from_arrays(arrays, metadata)
    except (KeyError, TypeError, IndexError, ValueError, RuntimeError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is no result file ({error!r}); {_REMEDY}") from error


def _arrays(result: TrackResult) -> dict[str, NDArray[Any]]:
    params = result.params
    assert params.transl is not None, "a result is placed before the camera"
    poses = matrix_to_axis_angle(params.rotations).flatten(-2)
    tensors = {
        "poses": poses[0],
        "betas": params.betas[0, 0],
        "transl": params.transl[0],
        "K": result.intrinsic,
        "joints_smpl24": result.joints_smpl24,
        "joints_coco17": result.joints_coco17,
        "pixels_coco17": project(result.joints_coco17, result.intrinsic),
        "keypoints": result.keypoints,
        "reprojection_px": result.reprojection_px,
        "joint_spread_mm": result.joint_spread_mm,
    }
    if result.num_hypotheses > 1:
        tensors |= {
            "sample_poses": poses[1:], "sample_betas": params.betas[1:, 0], "sample_transl": params.transl[1:]
        }  # fmt: skip
    arrays: dict[str, NDArray[Any]] = {name: value.float().numpy() for name, value in tensors.items()}
    arrays["frames"], arrays["missing"] = result.frames, result.missing
    arrays["fps"] = np.array(result.fps)
    arrays["image_size"] = np.array(result.image_size, dtype=np.int64)
    for name, joint_set in (("smpl24", SMPL24), ("coco17", COCO17), ("keypoints", JOINT_SETS[result.joint_set])):
        arrays[f"names_{name}"] = np.array(joint_set.joint_names)
    return arrays


def _from_arrays(arrays: dict[str, NDArray[Any]], metadata: dict[str, Any]) -> TrackResult:
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items() if value.dtype.kind == "f"}
    parts = [
        torch.cat([tensors[name].unsqueeze(0), *([tensors[f"sample_{name}"]] if "sample_poses" in tensors else [])])
        for name in ("poses", "betas", "transl")
    ]
    count = len(arrays["frames"])
    rotations = axis_angle_to_matrix(parts[0].unflatten(-1, (24, 3)))
    return TrackResult(
        params=SmplParams.from_rotations(rotations, parts[1].unsqueeze(1).expand(-1, count, -1), parts[2]),
        frames=arrays["frames"],
        missing=arrays["missing"],
        fps=float(arrays["fps"]),
        intrinsic=tensors["K"],
        image_size=(int(arrays["image_size"][0]), int(arrays["image_size"][1])),
        joints_smpl24=tensors["joints_smpl24"],
        joints_coco17=tensors["joints_coco17"],
        keypoints=tensors["keypoints"],
        joint_set=metadata["track"]["joint_set"],
        reprojection_px=tensors["reprojection_px"],
        joint_spread_mm=tensors["joint_spread_mm"],
        metadata=metadata,
    )


def _write_text(path: Path, result: TrackResult, arrays: dict[str, NDArray[Any]], arrays_name: str) -> None:
    """The JSON file; one line per frame, written one by one."""
    head = result.metadata | {
        "arrays": arrays_name,
        "joint_names": {"smpl24": list(SMPL24.joint_names), "coco17": list(COCO17.joint_names)},
        "betas": _rounded(arrays["betas"], 5),
    }
    beginning = json.dumps(head, indent=2, allow_nan=False).removesuffix("\n}")
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as stream:
        stream.write(f'{beginning},\n  "frames": [\n')
        for row, frame in enumerate(result.frames.tolist()):
            error = float(arrays["reprojection_px"][row])
            content = {
                "frame": frame,
                "seconds": round(frame / result.fps, 4),
                "missing": bool(result.missing[row]),
                "reprojection_px": None if np.isnan(error) else round(error, 2),
                "transl": _rounded(arrays["transl"][row], 4),
                "pose": _rounded(arrays["poses"][row], 4),
                "joints_smpl24": _rounded(arrays["joints_smpl24"][row], 4),
                "joints_coco17": _rounded(arrays["joints_coco17"][row], 4),
            }
            stream.write(("    " if row == 0 else ",\n    ") + json.dumps(content, allow_nan=False))
        stream.write("\n  ]\n}\n")


def _rounded(values: NDArray[Any], digits: int) -> Any:
    return np.round(values.astype(np.float64), digits).tolist()
