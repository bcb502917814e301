"""The result for one person: two files that hold everything needed to rebuild every hypothesis.

``NAME.npz`` (read with ``allow_pickle=False``; float32 unless said otherwise; S hypotheses, V vertices):

=====================  ============  ==================================================================================
``global_orient``      [S, 3]        axis-angle, radians: the pelvis in the camera frame of the full image
``body_pose``          [S, 23, 3]    axis-angle, radians: joints 1 to 23 relative to their parents, SMPL's order
``betas``              [S, 10]       shape coefficients of the body named in the metadata
``transl``             [S, 3]        metres, as SMPL's ``transl``: added to the posed body
``K``                  [3, 3]        pinhole matrix of the full image, pixels
``image_size``         [2]           int64, width and height in pixels
``box``                [4]           x0, y0, x1, y1 of the person in pixels from the image's edges
``crop``               [3]           centre x, y (pixel coordinates) and side of the square that the model saw
``joints_smpl24``      [S, 24, 3]    metres, camera frame; ``names_smpl24`` [24] has their names
``joints_coco17``      [S, 17, 3]    metres, camera frame; ``names_coco17`` [17] has their names
``pixels_smpl24``      [S, 24, 2]    where they are in the image
``pixels_coco17``      [S, 17, 2]    where they are in the image
``keypoints``          [17, 4]       input keypoints: pixels x, y, confidence, 1 if labelled; [0, 4] without keypoints
``joint_spread_mm``    [24]          mean distance of a joint of SMPL24 from its mean over the samples
``vertex_spread_mm``   [V]           the same for every vertex; both relative to the pelvis
``metadata``           scalar        the JSON text below, so that the file stands alone
=====================  ============  ==================================================================================

``NAME.json`` is for people and other programs: image, camera, box, body (file, name, SHA-256), checkpoint (path,
SHA-256, step), sampling (seed, sampler, steps), guidance (0: not pulled to the keypoints), the joints of
the single answer with their names, spread, reprojection.

Hypothesis 0 is the single answer; the others are random samples. The camera frame is OpenCV's: x right, y down, z
forward, metres; pixel (0, 0) is the CENTRE of the top-left pixel. The distance to the camera is as good as ``K``.
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

from diffhmr.body.joints import COCO17, SMPL24
from diffhmr.body.model import BodyModel
from diffhmr.body.params import NUM_BODY_JOINTS, SmplParams
from diffhmr.errors import UserError
from diffhmr.files import atomic_path, require_file, write_json
from diffhmr.geometry.camera import project
from diffhmr.geometry.rotation import axis_angle_to_matrix, matrix_to_axis_angle

FORMAT = "diffhmr-person"
VERSION = 1

_REMEDY = "give the .npz or .json file that demo.py wrote"


@dataclass(frozen=True)
class PersonResult:
    """S hypotheses for one person in the camera frame of the full image.

    Attributes:
        params: ``[S]`` with ``transl``; hypothesis 0 is the single answer.
        intrinsic: K ``[3, 3]``.
        image_size: width and height in pixels.
        box: x0, y0, x1, y1 in pixels from the image's edges.
        crop: centre x, y in pixel coordinates and side of the square that the model saw.
        joints_smpl24: ``[S, 24, 3]`` metres.
        joints_coco17: ``[S, 17, 3]`` metres.
        keypoints: ``[17, 4]`` input keypoints (pixels x, y, confidence, 1 if labelled) or None.
        joint_spread_mm: ``[24]`` mean distance from the mean over the random samples, relative to the pelvis.
        vertex_spread_mm: ``[V]`` the same for every vertex.
        metadata: everything else, as in the JSON file.
    """

    params: SmplParams
    intrinsic: Tensor
    image_size: tuple[int, int]
    box: tuple[float, float, float, float]
    crop: tuple[float, float, float]
    joints_smpl24: Tensor
    joints_coco17: Tensor
    keypoints: Tensor | None
    joint_spread_mm: Tensor
    vertex_spread_mm: Tensor
    metadata: dict[str, Any]

    def __len__(self) -> int:
        return int(self.params.shape[0])

    def vertices(self, body: BodyModel, count: int | None = None) -> Tensor:
        """``[S, V, 3]`` metres in the camera frame, of the first ``count`` hypotheses or of all, on the CPU.

        Raises:
            UserError: ``body`` is not the one the parameters belong to.
        """
        expected = self.metadata["body"]
        if body.sha256 != expected["sha256"]:
            raise UserError(
                f"the result belongs to the body '{expected['name']}' ({expected['sha256'][:12]}...), "
                f"but {body.path} is '{body.name}' ({body.sha256[:12]}...); load the body the result names"
            )
        chosen = self.params.map(lambda value: value[:count]).to(body.faces.device)
        vertices: Tensor = body(chosen).vertices.cpu()
        return vertices


def save_result(result: PersonResult, path: str | Path) -> tuple[Path, Path]:
    """Write ``path`` with the suffixes .npz and .json; returns both paths. The format is described above.

    Raises:
        UserError: the folder cannot be written.
        ValueError: a number that belongs into the JSON file is not finite.
    """
    arrays_path, text_path = Path(path).with_suffix(".npz"), Path(path).with_suffix(".json")
    arrays = _arrays(result) | {"metadata": np.array(json.dumps(result.metadata, allow_nan=False))}
    with atomic_path(arrays_path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays)
    write_json(text_path, result.metadata | {"arrays": arrays_path.name} | _readable(result))
    return arrays_path, text_path


def load_result(path: str | Path) -> PersonResult:
    """Read what :func:`save_result` wrote; ``path`` is the .npz file or the .json file beside it.

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
        return _from_arrays(arrays, metadata, path)
    except (KeyError, TypeError, IndexError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is no result file ({error!r}); {_REMEDY}") from error


def _arrays(result: PersonResult) -> dict[str, NDArray[Any]]:
    params = result.params
    assert params.transl is not None, "a result is placed in the full image"
    keypoints = torch.zeros(0, 4) if result.keypoints is None else result.keypoints
    tensors = {
        "global_orient": matrix_to_axis_angle(params.global_orient),
        "body_pose": matrix_to_axis_angle(params.body_pose),
        "betas": params.betas,
        "transl": params.transl,
        "K": result.intrinsic,
        "box": torch.tensor(result.box),
        "crop": torch.tensor(result.crop),
        "joints_smpl24": result.joints_smpl24,
        "joints_coco17": result.joints_coco17,
        "pixels_smpl24": project(result.joints_smpl24, result.intrinsic),
        "pixels_coco17": project(result.joints_coco17, result.intrinsic),
        "keypoints": keypoints,
        "joint_spread_mm": result.joint_spread_mm,
        "vertex_spread_mm": result.vertex_spread_mm,
    }
    arrays: dict[str, NDArray[Any]] = {name: value.detach().cpu().float().numpy() for name, value in tensors.items()}
    arrays["image_size"] = np.array(result.image_size, dtype=np.int64)
    arrays["names_smpl24"] = np.array(SMPL24.joint_names)
    arrays["names_coco17"] = np.array(COCO17.joint_names)
    return arrays


def _from_arrays(arrays: dict[str, NDArray[Any]], metadata: dict[str, Any], path: Path) -> PersonResult:
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items() if value.dtype.kind == "f"}
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise UserError(f"{path}: {name} holds values that are not finite; predict the person again")
    count = tensors["global_orient"].shape[0]
    params = SmplParams(
        axis_angle_to_matrix(tensors["global_orient"]),
        axis_angle_to_matrix(tensors["body_pose"].reshape(count, NUM_BODY_JOINTS, 3)),
        tensors["betas"],
        tensors["transl"],
    )
    x0, y0, x1, y1 = (float(value) for value in arrays["box"])
    x, y, side = (float(value) for value in arrays["crop"])
    return PersonResult(
        params=params,
        intrinsic=tensors["K"],
        image_size=(int(arrays["image_size"][0]), int(arrays["image_size"][1])),
        box=(x0, y0, x1, y1),
        crop=(x, y, side),
        joints_smpl24=tensors["joints_smpl24"],
        joints_coco17=tensors["joints_coco17"],
        keypoints=tensors["keypoints"] if len(tensors["keypoints"]) else None,
        joint_spread_mm=tensors["joint_spread_mm"],
        vertex_spread_mm=tensors["vertex_spread_mm"],
        metadata=metadata,
    )


def _readable(result: PersonResult) -> dict[str, Any]:
    """What only the JSON file has: the arrays that a person may want to see, with names."""
    joints = {}
    for joint_set, points in ((SMPL24, result.joints_smpl24), (COCO17, result.joints_coco17)):
        pixels = project(points[0], result.intrinsic)
        joints[joint_set.name.lower()] = {
            "names": list(joint_set.joint_names),
            "answer_metres": _rounded(points[0], 4),
            "answer_pixels": _rounded(pixels, 2),
        }
    spread = result.vertex_spread_mm
    joint_spread_mm = _rounded(result.joint_spread_mm, 1)
    return {
        "joints": joints,
        "spread": {
            "vertices_mm": {"mean": _rounded(spread.mean(), 1), "max": _rounded(spread.max(), 1)},
            "joints_mm": dict(zip(SMPL24.joint_names, joint_spread_mm, strict=True)),
        },
    }


def _rounded(values: Tensor, digits: int) -> Any:
    return np.round(values.detach().cpu().double().numpy(), digits).tolist()
