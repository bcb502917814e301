"""A motion at a glance: frames side by side as skinned meshes over a floor."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffhmr.body.joints import SMPL24
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.motion.sequence import Motion
from diffhmr.render.colors import PALETTE, as_rows, blank, shortened, write_text
from diffhmr.render.overlay import blend, render_mesh

_DISTANCE = 4.5  # metres from the camera to the person
_EYE_HEIGHT = 1.4
_LOOK_AT = 0.9
_SIDEWAYS = np.deg2rad(30)  # the camera stands to the left of where the person faces
_HIGH = 1.05
_ROOM = 2.4  # metres that a picture shows at the person's distance
_GRID = 0.5
_TRUNK, _LEFT, _RIGHT = (190, 190, 190), PALETTE[0], PALETTE[1]
_LINE = (205, 205, 205)
_LABEL_HEIGHT = 18


@dataclass(frozen=True)
class _View:
    """A camera that goes along with the person: ``points_in_camera = turn @ (points - eye)``."""

    turn: Tensor
    eye: Tensor
    intrinsic: Tensor

    def camera(self, points: Tensor) -> Tensor:
        return (points - self.eye) @ self.turn.T


def motion_strip(motion: Motion, body: BodyModel, count: int = 8, size: int = 180) -> NDArray[np.uint8]:
    """``count`` frames of ``motion``, evenly spaced, ``[H, W, 3]`` uint8.

    The person's left limbs are blue, the right ones orange. The camera stands in front of where the person faces in the
    first frame, somewhat to the left, and moves along without turning. Lines on the floor y = 0 are half a metre apart
    and stand still.

    Args:
        motion: to draw.
        body: the mesh, in its mean shape.
        count: number of pictures; fewer if the motion has fewer frames.
        size: pixels of each.
    """
    chosen = np.unique(np.linspace(0, len(motion) - 1, count).round().astype(int))
    rotations = torch.from_numpy(motion.rotations[chosen]).float()
    position = torch.from_numpy(motion.position[chosen]).float()
    rest_pelvis = body.rest_joints[:3].cpu()
    params = SmplParams.from_rotations(rotations, torch.zeros(len(chosen), body.num_betas), position - rest_pelvis)
    vertices = body(params).vertices
    colours = _side_colours(body)
    facing = motion.rotations[0, 0][:, 2]
    heading = float(np.arctan2(facing[0], facing[2])) + _SIDEWAYS
    cells = []
    for index, frame in enumerate(chosen):
        view = _view(position[index], heading, size)
        paper = blank(size, size)
        _draw_floor(paper, view, position[index])
        seen = view.camera(vertices[index]).unsqueeze(0)
        drawn, alpha = render_mesh(seen, body.faces, view.intrinsic, (size, size), colours.unsqueeze(0))
        picture = blend(paper, drawn[0], alpha[0])
        write_text(picture, f"{frame / motion.fps:.1f} s", (3, size - 4), 0.32)
        cells.append(picture)
    strip = as_rows([cells], 2)
    label = blank(_LABEL_HEIGHT, strip.shape[1])
    text = f"{motion.name}: {len(motion)} frames, {motion.fps:g} fps"
    write_text(label, shortened(text, label.shape[1] - 8, 0.42), (3, _LABEL_HEIGHT - 5), 0.42)
    return np.concatenate([label, strip])


def _side_colours(body: BodyModel) -> Tensor:
    """RGB ``[V, 3]`` in [0, 1] by the joint that carries a vertex."""
    table = [
        _LEFT if name.startswith("left_") else _RIGHT if name.startswith("right_") else _TRUNK
        for name in SMPL24.joint_names
    ]
    return torch.tensor(table, dtype=torch.float32)[body.parts.cpu()] / 255


def _view(pelvis: Tensor, heading: float, size: int) -> _View:
    towards = torch.tensor([np.sin(heading), 0.0, np.cos(heading)], dtype=torch.float32)
    # Up to the height of a standing person the camera stays on its level, so that the floor does.
    target = torch.stack([pelvis[0], (pelvis[1] - _HIGH).clamp_min(0) + _LOOK_AT, pelvis[2]])
    eye = target + _DISTANCE * towards
    eye[1] += _EYE_HEIGHT - _LOOK_AT
    forward = torch.nn.functional.normalize(target - eye, dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, torch.tensor([0.0, 1.0, 0.0])), dim=0)
    turn = torch.stack([right, torch.linalg.cross(forward, right), forward])
    focal = size * _DISTANCE / _ROOM
    centre = (size - 1) / 2
    return _View(turn, eye, torch.tensor([[focal, 0.0, centre], [0.0, focal, centre], [0.0, 0.0, 1.0]]))


def _draw_floor(picture: NDArray[np.uint8], view: _View, pelvis: Tensor) -> None:
    """Lines of the floor's grid near the person."""
    x, z = (np.round(float(pelvis[axis]) / _GRID) * _GRID for axis in (0, 2))
    reach = 2 * _GRID
    for step in np.arange(-reach, reach + _GRID / 2, _GRID):
        for start, end in (((-reach, step), (reach, step)), ((step, -reach), (step, reach))):
            points = torch.tensor([[x + start[0], 0.0, z + start[1]], [x + end[0], 0.0, z + end[1]]]).float()
            seen = view.camera(points) @ view.intrinsic.T
            ends = [(round(float(u / w)), round(float(v / w))) for u, v, w in seen]
            cv2.line(picture, ends[0], ends[1], _LINE, 1, cv2.LINE_AA)
