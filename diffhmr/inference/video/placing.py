"""From a motion at no place to a motion before the camera of the video, with everything that a result says of it."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.body.joints import COCO17, H36M17, JOINT_SETS, SMPL24, JointSet
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.errors import UserError
from diffhmr.inference.clear_points import clear_points
from diffhmr.inference.predict import default_focal
from diffhmr.inference.tracks import Track
from diffhmr.inference.video.camera import Floats, Pinhole, fit_translations, reprojection_errors, tells_size
from diffhmr.inference.video.footage import Footage
from diffhmr.inference.video.motions import Motion3D, track_span
from diffhmr.inference.video.track_result import FORMAT, VERSION, TrackResult

_FRAMES_AT_ONCE = 1024


def camera_of(footage: Footage, focal_px: float | None) -> Pinhole:
    """The camera of a video: its principal point is the middle of the picture, its focal length given or a guess."""
    width, height = footage.size
    return Pinhole(focal_px or default_focal(width, height), ((width - 1) / 2, (height - 1) / 2))


@torch.no_grad()
def can_be_placed(track: Track, body: BodyModel) -> bool:
    """Whether the points of a track that ``body`` has say where the person is."""
    return tells_size(_for_body(track, body)[0].points)


@torch.no_grad()
def place_track(
    footage: Footage, track: Track, motion: Motion3D, camera: Pinhole, body: BodyModel, about: dict[str, Any]
) -> TrackResult:
    """A motion with the translations that put it onto the keypoints, hypothesis by hypothesis.

    Args:
        footage: the video.
        track: the keypoints.
        motion: of the frames from the first to the last of ``track``.
        camera: of the picture.
        body: to which the parameters belong.
        about: metadata that say where motion and camera come from.

    Raises:
        UserError: the keypoints do not say where the person is.
    """
    assert motion.params.transl is None, "a motion at no place"
    track, joint_set = _for_body(track, body)
    frames, dense = track_span(track)
    count = int(motion.params.shape[0])
    # Hypotheses of a model with one answer are one.
    different = 1 if motion.deterministic else count
    found, errors = [], np.zeros(0)
    for index in range(different):
        joints = body_joints(body, _hypothesis(motion.params, index), joint_set).double().numpy()
        try:
            found.append(fit_translations(joints, dense.points, camera, footage.fps))
        except ValueError as error:
            raise UserError(f"track {track.track_id} cannot be placed before the camera: {error}") from error
        if index == 0:
            errors = reprojection_errors(joints, found[0], dense.points, camera)
    transl = torch.from_numpy(np.stack(found)).float().expand(count, -1, -1)
    params = SmplParams(motion.params.global_orient, motion.params.body_pose, motion.params.betas, transl)
    missing = ~dense.present
    about = about | _about(footage, track, frames, missing, body)
    about["sampling"] = about["sampling"] | {"deterministic": motion.deterministic}
    return TrackResult(
        params=params,
        frames=frames,
        missing=missing,
        fps=footage.fps,
        intrinsic=torch.from_numpy(_matrix(camera)).float(),
        image_size=footage.size,
        joints_smpl24=body_joints(body, _hypothesis(params, 0), SMPL24),
        joints_coco17=body_joints(body, _hypothesis(params, 0), COCO17),
        keypoints=torch.from_numpy(dense.points).float(),
        joint_set=track.joint_set,
        reprojection_px=torch.from_numpy(errors).float(),
        joint_spread_mm=_joint_spread_mm(body, params, different),
        metadata=about | {"reprojection": reprojection_summary(errors, dense.points, frames)},
    )


def _about(
    footage: Footage, track: Track, frames: NDArray[np.int64], missing: NDArray[np.bool_], body: BodyModel
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "video": {
            "path": None if footage.path is None else str(footage.path),
            "width": footage.size[0],
            "height": footage.size[1],
            "fps": footage.fps,
            "frames": footage.num_frames,
        },
        "track": {
            "id": track.track_id,
            "joint_set": track.joint_set,
            "first_frame": int(frames[0]),
            "last_frame": int(frames[-1]),
            "missing": int(missing.sum()),
            "missing_frames": [[int(frames[start]), int(frames[stop - 1])] for start, stop in runs(missing)],
        },
        "body": {"name": body.name, "file": str(body.path), "sha256": body.sha256},
    }


def camera_metadata(camera: Pinhole, *, given: bool) -> dict[str, Any]:
    """What results say of the camera; ``given``: its focal length is no guess."""
    return {
        "focal_px": round(camera.focal, 3),
        "focal_source": "given" if given else "default: diagonal of the picture",
        "K": _matrix(camera).tolist(),
    }


@torch.no_grad()
def body_joints(body: BodyModel, params: SmplParams, joint_set: JointSet) -> Tensor:
    """Joints ``[T, J, 3]`` on the CPU of parameters ``[T]``, some frames at a time."""
    device = body.faces.device
    return torch.cat([body.joints(part.to(device), joint_set).cpu() for part in in_pieces(params, _FRAMES_AT_ONCE)])


def in_pieces(params: SmplParams, size: int) -> Iterator[SmplParams]:
    """Parameters ``[T]`` in pieces of up to ``size`` frames."""
    for start in range(0, int(params.shape[0]), size):
        yield params.map(itemgetter(slice(start, start + size)))


def reprojection_summary(errors: Floats, keypoints: Floats, frames: NDArray[np.int64]) -> dict[str, Any]:
    """Distances between body and keypoints over a track, in pixels and as shares of the longer side of the box.

    Args:
        errors: ``[T]`` pixels, NaN in frames without keypoints.
        keypoints: ``[T, K, 3]``.
        frames: ``[T]`` their numbers.
    """
    seen = np.isfinite(errors)
    use = clear_points(keypoints[seen, :, 2])
    places = keypoints[seen, :, :2]
    high = np.where(use[..., None], places, -np.inf).max(axis=1)
    low = np.where(use[..., None], places, np.inf).min(axis=1)
    side = np.maximum((high - low).max(axis=-1), 1.0)
    pixels, shares = errors[seen], errors[seen] / side
    worst = int(np.argmax(shares))

    def entry(in_pixels: float, share: float) -> dict[str, float]:
        return {"pixels": round(float(in_pixels), 3), "share_of_box": round(float(share), 5)}

    return {
        "frames": int(seen.sum()),
        "points": int((keypoints[..., 2] > 0).sum()),
        "box_longer_side_px": round(float(side.mean()), 2),
        "mean": entry(pixels.mean(), shares.mean()),
        "median": entry(np.median(pixels), np.median(shares)),
        "worst": {"frame": int(frames[seen][worst])} | entry(pixels[worst], shares[worst]),
    }


def runs(marked: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First place and place after the last of every run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def _for_body(track: Track, body: BodyModel) -> tuple[Track, JointSet]:
    """The track in a joint set that the body has: not every body file comes with the regressor of Human3.6M."""
    joint_set, device = JOINT_SETS[track.joint_set], body.faces.device
    if joint_set is not H36M17:
        return track, joint_set
    try:
        body.joints(SmplParams.from_rotations(torch.eye(3).expand(24, 3, 3), torch.zeros(10)).to(device), H36M17)
    except UserError:
        return track.coco17(), COCO17
    return track, joint_set


def _hypothesis(params: SmplParams, index: int) -> SmplParams:
    return params.map(itemgetter(index))


def _joint_spread_mm(body: BodyModel, params: SmplParams, different: int) -> Tensor:
    """``[T, 24]`` mean distance in mm of the joints from their mean over the random samples, pelvis on pelvis."""
    if different < 3:
        return torch.zeros(params.shape[1], len(SMPL24))
    samples = []
    for index in range(1, different):
        joints = body_joints(body, _hypothesis(params, index), SMPL24)
        samples.append(joints - joints[:, :1])
    stacked = torch.stack(samples)
    return 1000 * torch.linalg.vector_norm(stacked - stacked.mean(0), dim=-1).mean(0)


def _matrix(camera: Pinhole) -> Floats:
    (x, y), focal = camera.centre, camera.focal
    return np.array([[focal, 0.0, x], [0.0, focal, y], [0.0, 0.0, 1.0]])
