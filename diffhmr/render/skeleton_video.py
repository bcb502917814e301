"""A moving skeleton in 3D as a video: from the front and from the side, over a floor grid, with its other hypotheses.

The camera goes along smoothly with the person and does not turn; the lines on the floor are half a metre apart and
stand still in the world.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, minimum_filter1d

from diffhmr.body.joints import H36M17, SMPL24, SMPL_PARENTS, JointSet
from diffhmr.render.colors import BACKGROUND, PALETTE, blank, write_text
from diffhmr.render.video_file import even_size, video_writer

_DISTANCE = 4.5  # metres from the camera to what it looks at
_PITCH = np.deg2rad(12)  # the camera looks down by so much
_ROOM = 2.5  # metres that a view shows
_LOOK_AT = 0.95  # metres over the floor
_HIGH = 1.15  # of a pelvis that the camera follows upwards
_NEAREST = 0.3  # metres from the camera to what is drawn at least
_GRID, _REACH = 0.5, 1.5
_FOLLOWING = 0.4  # seconds, standard deviation of the smoothing of the camera's way
_FLOOR_WINDOW = 3.0  # seconds in which a foot touches the floor at least once
_SOLE = 0.03  # metres from the lowest joint of a standing person to the floor

_LEFT, _RIGHT, _MIDDLE = PALETTE[0], PALETTE[1], (110, 110, 110)
_GRID_LINE, _SHADOW = (205, 205, 205), (222, 222, 222)
_SEAM = 0.75  # of a bone
_FAINT = 0.5  # of the samples' colours
_SUBPIXEL = 4  # bits behind the point in OpenCV's coordinates

_EDGES = {
    SMPL24.name: tuple((parent, child) for child, parent in enumerate(SMPL_PARENTS) if parent >= 0),
    # Legs and arms from the trunk outwards, then the spine.
    H36M17.name: (
        (0, 1), (1, 2), (2, 3), (0, 4), (4, 5), (5, 6), (0, 7), (7, 8), (8, 9), (9, 10), (8, 11), (11, 12), (12, 13),
        (8, 14), (14, 15), (15, 16),
    ),
}  # fmt: skip
# The middle of the head: from a joint by a share of the way to another one.
_HEADS = {SMPL24.name: (12, 15, 1.8), H36M17.name: (8, 10, 0.8)}
_HEAD_RADIUS = 0.1


@dataclass(frozen=True)
class _View:
    """``points_in_camera = turn @ (points - target) + (0, 0, distance)``, x right, y down, z forward."""

    name: str
    turn: np.ndarray

    def project(self, points: np.ndarray, target: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Pixels ``[..., 2]`` and depths ``[...]``; what is too near has a depth but no meaning in pixels."""
        seen = (points - target) @ self.turn.T
        depth = seen[..., 2] + _DISTANCE
        pixels = seen[..., :2] / np.maximum(depth, _NEAREST)[..., None] * (size * _DISTANCE / _ROOM)
        return np.clip(pixels + (size - 1) / 2, -20 * size, 20 * size), depth


def _view(name: str, heading: float) -> _View:
    """A camera that stands where ``heading`` points to (0: at +z, 90 degrees: at +x), somewhat raised."""
    backwards = np.array([np.sin(heading) * np.cos(_PITCH), np.sin(_PITCH), np.cos(heading) * np.cos(_PITCH)])
    right = np.array([np.cos(heading), 0.0, -np.sin(heading)])
    return _View(name, np.stack([right, np.cross(-backwards, right), -backwards]))


_VIEWS = (_view("front", 0.0), _view("side", np.pi / 2))


def write_skeleton_video(
    path: str | Path,
    joints: np.ndarray,
    fps: float,
    *,
    joint_set: JointSet = SMPL24,
    frame_numbers: Sequence[int] | None = None,
    floor: float | None = None,
    size: int = 400,
) -> Path:
    """Write an ``.mp4`` of a skeleton, two views side by side; frames are drawn and written one by one.

    Args:
        path: of the file, ending in ``.mp4``.
        joints: ``[S, T, J, 3]`` metres, y up, x to the right of a viewer in front, z towards the viewer; of points in
            the camera frame :func:`diffhmr.render.mesh_files.to_y_up` makes such. Hypothesis 0 is drawn boldly, the
            others as thin lines. Hypotheses that are not finite in a frame are left out of it.
        fps: frames per second.
        joint_set: of the joints, ``SMPL24`` or ``H36M17``.
        frame_numbers: T numbers to write on the frames; counted from 0 if left out.
        floor: height y of the floor, as 0.0 of a :class:`~diffhmr.motion.sequence.Motion`; if left out it is where the
            lowest joints of the last and next seconds are.
        size: pixels of a view, which is square.

    Raises:
        UserError: the file cannot be written.
        ValueError: a shape does not fit.
    """
    size = even_size(size, size)[0]
    frames = skeleton_frames(joints, fps, joint_set=joint_set, frame_numbers=frame_numbers, floor=floor, size=size)
    with video_writer(path, (len(_VIEWS) * size, size), fps) as write:
        for frame in frames:
            write(frame)
    return Path(path)


def skeleton_frames(
    joints: np.ndarray,
    fps: float,
    *,
    joint_set: JointSet = SMPL24,
    frame_numbers: Sequence[int] | None = None,
    floor: float | None = None,
    size: int = 400,
) -> Iterator[NDArray[np.uint8]]:
    """The pictures ``[size, 2 * size, 3]`` of :func:`write_skeleton_video`, one after the other.

    Raises:
        ValueError: a shape does not fit.
    """
    if joint_set.name not in _EDGES:
        raise ValueError(f"no skeleton is known for {joint_set.name}, only for {', '.join(_EDGES)}")
    if joints.ndim != 4 or joints.shape[2:] != (len(joint_set), 3) or 0 in joints.shape:
        raise ValueError(f"joints of shape {joints.shape}, expected (hypotheses, frames, {len(joint_set)}, 3)")
    numbers = range(joints.shape[1]) if frame_numbers is None else frame_numbers
    if len(numbers) != joints.shape[1]:
        raise ValueError(f"{len(numbers)} frame numbers for {joints.shape[1]} frames")
    return _frames(joints, fps, _Skeleton.of(joint_set), numbers, floor, size)


def _frames(
    joints: np.ndarray, fps: float, skeleton: _Skeleton, numbers: Sequence[int], floor: float | None, size: int
) -> Iterator[NDArray[np.uint8]]:
    floors, targets = _floors_and_targets(joints[0], fps, floor)
    for index, number in enumerate(numbers):
        people = joints[:, index]
        cells = []
        for view in _VIEWS:
            cell = blank(size, size)
            _draw_floor(cell, view, targets[index], floors[index])
            _draw_people(cell, view, targets[index], floors[index], people, skeleton)
            write_text(cell, view.name, (6, 18), 0.45)
            cells.append(cell)
        cells[1][:, 0] = _GRID_LINE
        unseen = "" if np.isfinite(people[0]).all() else ": not seen"
        write_text(cells[0], f"frame {number}{unseen}", (6, size - 8), 0.45)
        yield np.concatenate(cells, axis=1)


@dataclass(frozen=True)
class _Skeleton:
    edges: np.ndarray  # [E, 2]
    head: tuple[int, int, float]
    colours: tuple[tuple[int, int, int], ...]
    faint: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, joint_set: JointSet) -> _Skeleton:
        edges = _EDGES[joint_set.name]
        colours = []
        for _, end in edges:
            name = joint_set.joint_names[end]
            colours.append(_LEFT if name.startswith("left_") else _RIGHT if name.startswith("right_") else _MIDDLE)
        faint = [tuple(round(_FAINT * part + (1 - _FAINT) * BACKGROUND) for part in colour) for colour in colours]
        return cls(np.array(edges), _HEADS[joint_set.name], tuple(colours), tuple((r, g, b) for r, g, b in faint))


def _floors_and_targets(answer: np.ndarray, fps: float, floor: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Height of the floor ``[T]`` and where the camera looks ``[T, 3]``, from the joints ``[T, J, 3]``."""
    lowest, pelvis = _filled(answer[..., 1].min(axis=1)[:, None])[:, 0], _filled(answer[:, 0])
    if floor is None:
        width = max(1, round(_FLOOR_WINDOW * fps))
        floors = minimum_filter1d(lowest, width, mode="nearest") - _SOLE
        floors = gaussian_filter1d(floors, _FOLLOWING * fps, mode="nearest")
    else:
        floors = np.full(len(answer), floor)
    height = floors + _LOOK_AT + np.maximum(pelvis[:, 1] - floors - _HIGH, 0)
    targets = np.stack([pelvis[:, 0], height, pelvis[:, 2]], axis=1)
    return floors, gaussian_filter1d(targets, _FOLLOWING * fps, axis=0, mode="nearest")


def _filled(values: np.ndarray) -> np.ndarray:
    """``[T, C]`` with lines drawn through what is not finite; all 0 if nothing is."""
    good = np.isfinite(values).all(axis=1)
    if not good.any():
        return np.zeros_like(values, dtype=np.float64)
    time = np.arange(len(values))
    return np.stack([np.interp(time, time[good], column[good]) for column in values.T.astype(np.float64)], axis=1)


def _draw_floor(picture: NDArray[np.uint8], view: _View, target: np.ndarray, floor: float) -> None:
    """Lines of the grid near what the camera looks at."""
    x, z = (np.round(target[axis] / _GRID) * _GRID for axis in (0, 2))
    steps = np.arange(-_REACH, _REACH + _GRID / 2, _GRID)
    ends = [((x - _REACH, z + step), (x + _REACH, z + step)) for step in steps]
    ends += [((x + step, z - _REACH), (x + step, z + _REACH)) for step in steps]
    points = np.insert(np.array(ends), 1, floor, axis=2)
    _draw_lines(picture, view.project(points, target, len(picture))[0], [_GRID_LINE] * len(points), 1)


def _draw_people(
    picture: NDArray[np.uint8],
    view: _View,
    target: np.ndarray,
    floor: float,
    people: np.ndarray,
    skeleton: _Skeleton,
) -> None:
    """Shadow, thin samples, then the answer, its farthest bone first."""
    size = len(picture)
    width = max(2, round(size / 110))
    drawn = np.isfinite(people).all(axis=(1, 2))
    if drawn[0]:
        shadow = people[0] * [1.0, 0.0, 1.0] + [0.0, floor, 0.0]
        flat, _ = view.project(shadow, target, size)
        _draw_lines(picture, flat[skeleton.edges], [_SHADOW] * len(skeleton.edges), width)
    for hypothesis in np.flatnonzero(drawn[1:]) + 1:
        pixels, depth = view.project(people[hypothesis], target, size)
        near = (depth[skeleton.edges] > _NEAREST).all(axis=1)
        colours = [colour for colour, fine in zip(skeleton.faint, near, strict=True) if fine]
        _draw_lines(picture, pixels[skeleton.edges[near]], colours, 1)
    if drawn[0]:
        _draw_answer(picture, view, target, people[0], skeleton, width)


def _draw_answer(
    picture: NDArray[np.uint8],
    view: _View,
    target: np.ndarray,
    joints: np.ndarray,
    skeleton: _Skeleton,
    width: int,
) -> None:
    """Bones from the farthest to the nearest, and a circle for the head."""
    size = len(picture)
    start, end, share = skeleton.head
    pixels, depth = view.project(joints, target, size)
    for edge in np.argsort(-depth[skeleton.edges].mean(axis=1)):
        line = pixels[skeleton.edges[edge]]
        # A light seam between the joints shows which of two limbs is in front.
        middle = line.mean(axis=0)
        _draw_lines(picture, (middle + _SEAM * (line - middle))[None], [(BACKGROUND,) * 3], width + 3)
        _draw_lines(picture, line[None], [skeleton.colours[edge]], width)
    middle, distance = view.project(joints[start] + share * (joints[end] - joints[start]), target, size)
    if distance > _NEAREST:
        x, y = np.round(middle * 2**_SUBPIXEL).astype(int).tolist()
        radius = round(_HEAD_RADIUS / distance * size * _DISTANCE / _ROOM * 2**_SUBPIXEL)
        cv2.circle(picture, (x, y), radius, _MIDDLE, max(1, width // 2), cv2.LINE_AA, _SUBPIXEL)


def _draw_lines(
    picture: NDArray[np.uint8], ends: np.ndarray, colours: Sequence[tuple[int, int, int]], width: int
) -> None:
    """Lines between the pixels ``ends [N, 2, 2]``, at fractions of pixels so that slow motions do not tremble."""
    fixed = np.round(ends * 2**_SUBPIXEL).astype(int)
    for (start, end), colour in zip(fixed.tolist(), colours, strict=True):
        cv2.line(picture, tuple(start), tuple(end), colour, width, cv2.LINE_AA, _SUBPIXEL)
