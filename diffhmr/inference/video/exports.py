"""Motions for Blender and its like: skeleton videos, animated meshes and skeletons, a mesh per frame."""

from __future__ import annotations

from operator import itemgetter
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from diffhmr.body.joints import SMPL24
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.inference.video.placing import body_joints
from diffhmr.inference.video.track_result import TrackResult
from diffhmr.motion.bvh import write_bvh
from diffhmr.motion.sequence import Motion
from diffhmr.render.animated_glb import write_animated_glb
from diffhmr.render.mesh_files import to_y_up
from diffhmr.render.mesh_sequence import write_obj_sequence
from diffhmr.render.skeleton_video import write_skeleton_video

Export = Literal["glb", "bvh", "obj"]
SHOWN_HYPOTHESES = 9
"""The single answer and up to eight samples are drawn in skeleton videos."""


def motion_of(result: TrackResult) -> Motion:
    """The single answer in a world with y up, metres; its origin is the camera, which looks along -z.

    People of one video keep their places relative to each other.
    """
    flip = np.diag([1.0, -1.0, -1.0])
    rotations = result.answer.rotations.double().numpy()
    rotations[:, 0] = flip @ rotations[:, 0]
    position = to_y_up(result.joints_smpl24[:, 0]).double().numpy()
    return Motion(rotations, position, result.fps, f"track{result.metadata['track']['id']}")


def write_export(kind: Export, stem: Path, result: TrackResult, body: BodyModel) -> Path:
    """Write ``STEM.glb``, ``STEM.bvh`` or the folder ``STEM_obj``; returns its path.

    All keep to the time of the video, so that its people stay in step: who comes into it later has key frames from
    then on only, and stands still in the lines of the BVH before, whose line k is frame k.

    Raises:
        UserError: it cannot be written.
    """
    if kind == "glb":
        path, first = stem.with_name(f"{stem.name}.glb"), int(result.frames[0])
        return write_animated_glb(path, body, motion_of(result), result.answer.betas[0], first)
    if kind == "bvh":
        rest = rest_joints(body, result).double().numpy()
        return write_bvh(stem.with_name(f"{stem.name}.bvh"), _from_frame_0(motion_of(result), result), rest)
    folder = stem.with_name(f"{stem.name}_obj")
    write_obj_sequence(folder, body, result.answer.to(body.faces.device), result.frames.tolist())
    return folder


def write_skeleton(stem: Path, result: TrackResult, body: BodyModel) -> Path:
    """Write ``STEM_skeleton.mp4``: the joints from the front and from the side, the other hypotheses as thin lines."""
    joints = [result.joints_smpl24]
    for index in range(1, min(result.num_hypotheses, SHOWN_HYPOTHESES)):
        joints.append(body_joints(body, result.params.map(itemgetter(index)), SMPL24))
    path = stem.with_name(f"{stem.name}_skeleton.mp4")
    shown = to_y_up(torch.stack(joints)).double().numpy()
    return write_skeleton_video(path, shown, result.fps, frame_numbers=result.frames.tolist())


def _from_frame_0(motion: Motion, result: TrackResult) -> Motion:
    """A motion that holds its first pose from the beginning of the video until it starts."""
    rows = (np.arange(int(result.frames[-1]) + 1) - int(result.frames[0])).clip(min=0)
    return Motion(motion.rotations[rows], motion.position[rows], motion.fps, motion.name)


def rest_joints(body: BodyModel, result: TrackResult) -> torch.Tensor:
    """``[24, 3]`` joints of the person's body in its rest pose, metres."""
    identity = torch.eye(3).expand(1, 24, 3, 3)
    return body_joints(body, SmplParams.from_rotations(identity, result.answer.betas[:1]), SMPL24)[0]
