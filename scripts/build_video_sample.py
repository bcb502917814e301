"""Make the free sample of the demo on videos: python -m scripts.build_video_sample [--out FOLDER] [--sheet FILE.png]

Somebody walks up to the camera, stops and waves; somebody else runs past behind. Both are the free body with procedural
motion, in clothes, light and before a background of the synthetic people, and all of it is CC0. It writes

    walker.mp4         the clip
    walker.json        AlphaPose's Halpe-26 points of it, as a detector would give them: with errors, lost points, and a
                       few frames in which it finds nobody
    walker_truth.npz   how the walker really moved: SMPL parameters of the free body in the camera's frame, and K

The same files come out every time; the bytes of the clip depend on the FFmpeg inside OpenCV.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from diffhmr.body.files import FREE_BODY
from diffhmr.body.joints import HALPE26, SPIN49, select
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.command_line import CommandParser, run_command
from diffhmr.config_clips import ClipNoiseConfig
from diffhmr.errors import UserError
from diffhmr.files import atomic_path, ensure_folder, ensure_writable
from diffhmr.geometry.camera import project
from diffhmr.geometry.rotation import matrix_to_axis_angle
from diffhmr.motion.acting.score import Activity
from diffhmr.random import Floats
from diffhmr.render.video_file import video_writer
from scripts.video_sample.detector import alphapose_entries, detected_points
from scripts.video_sample.film import Film
from scripts.video_sample.stage import Camera, Part, before_camera, joints_of

FRAMES, FPS = 96, 30.0
CAMERA = Camera(size=(480, 270), focal=570.0, height=1.35, distance=4.6, pitch=np.deg2rad(4.0))
GAP = range(44, 50)
"""Frames in which the detector finds nobody."""
NOISE = ClipNoiseConfig(jitter=0.008, outlier=0.002, drop_point=0.05, drop_limb=0.0, drop_frame=0.0, swap=0.0)
_BACKGROUND = 158
_HALPE = list(select(SPIN49, HALPE26))
_BEHIND = 0.15  # metres by which a point that somebody hides is farther away than their surface
_SHEET_FRAMES = 12


@dataclass(frozen=True)
class Actor:
    """Somebody in the clip.

    Attributes:
        number: in the keypoint file.
        part: what they do.
        betas: their shape.
        look: seed of what they wear.
        errors: seed of the detector's errors.
    """

    number: int
    part: Part
    betas: tuple[float, ...]
    look: int
    errors: int


ACTORS = (
    Actor(
        number=1,
        part=Part(2691, (Activity.WALK, Activity.TURN, Activity.WAVE), np.deg2rad(-35), (0.45, -1.2), skip=22),
        betas=(0.0, 0.3, -0.4, 0, 0, 0, 0, 0, 0, 0),
        look=105,
        errors=3,
    ),
    Actor(
        number=2,
        part=Part(8, (Activity.RUN,), 0.0, (5.6, -2.6)),
        betas=(0.0,) * 10,
        look=114,
        errors=4,
    ),
)


@dataclass(frozen=True)
class Sample:
    """What is made.

    Attributes:
        pictures: T of ``[H, W, 3]`` uint8 RGB.
        keypoints: ``[T, 26, 3]`` by the numbers of the actors.
        params: ``[T]`` by the same.
    """

    pictures: list[NDArray[np.uint8]]
    keypoints: dict[int, Floats]
    params: dict[int, SmplParams]


def make_sample(body: BodyModel, frames: int = FRAMES) -> Sample:
    """The first ``frames`` frames of the clip and what is known of it."""
    params = {
        actor.number: before_camera(
            actor.part.motion(frames, FPS), np.array(actor.betas), body, CAMERA.rotation, CAMERA.eye
        )
        for actor in ACTORS
    }
    film = Film(body, CAMERA, _BACKGROUND)
    pictures, depths = [], []
    for frame in range(frames):
        picture, depth = film.draw([(_at(params[actor.number], frame), actor.look) for actor in ACTORS])
        pictures.append(picture)
        depths.append(torch.stack(depth).numpy())
    keypoints = {}
    for index, actor in enumerate(ACTORS):
        joints = joints_of(params[actor.number], body)
        others = np.stack([np.delete(depth, index, axis=0).min(axis=0) for depth in depths])
        points = detected_points(
            joints, CAMERA.intrinsic, CAMERA.size, NOISE, actor.errors, _covered(joints[:, _HALPE], others)
        )
        points[[frame for frame in GAP if frame < frames]] = 0
        keypoints[actor.number] = points
    return Sample(pictures, keypoints, params)


def _at(params: SmplParams, frame: int) -> SmplParams:
    return params.map(lambda value: value[frame])


def _covered(joints: Floats, depths: NDArray[np.float32]) -> NDArray[np.bool_]:
    """``[T, K]``: which of ``joints [T, K, 3]`` lie behind the surfaces of ``depths [T, H, W]``."""
    pixels = project(torch.from_numpy(joints), CAMERA.intrinsic.double()).round().long().numpy()
    columns = pixels[..., 0].clip(0, CAMERA.size[0] - 1)
    rows = pixels[..., 1].clip(0, CAMERA.size[1] - 1)
    return np.asarray(depths[np.arange(len(joints))[:, None], rows, columns] < joints[..., 2] - _BEHIND)


def write_sample(sample: Sample, folder: Path) -> list[Path]:
    """Write the three files."""
    video, keypoints, truth = (folder / f"walker{end}" for end in (".mp4", ".json", "_truth.npz"))
    with video_writer(video, CAMERA.size, FPS) as write:
        for picture in sample.pictures:
            write(picture)
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in alphapose_entries(sample.keypoints))
    with atomic_path(keypoints) as temporary:
        temporary.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    params = sample.params[ACTORS[0].number]
    assert params.transl is not None
    with atomic_path(truth) as temporary:
        np.savez_compressed(
            temporary,
            poses=matrix_to_axis_angle(params.rotations).flatten(1).numpy(),
            betas=params.betas[0].numpy(),
            transl=params.transl.numpy(),
            K=CAMERA.intrinsic.numpy(),
            fps=np.array(FPS),
        )
    return [video, keypoints, truth]


def sheet(sample: Sample) -> NDArray[np.uint8]:
    """Some of the pictures with the keypoints drawn on them, to judge both by eye."""
    chosen = np.linspace(0, len(sample.pictures) - 1, _SHEET_FRAMES).round().astype(int)
    cells = []
    for frame in chosen:
        large = cv2.resize(sample.pictures[frame], None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
        for colour, points in zip(((255, 230, 0), (0, 255, 255)), sample.keypoints.values(), strict=True):
            for x, y, confidence in points[frame]:
                if confidence > 0:
                    cv2.circle(large, (round(2 * x + 0.5), round(2 * y + 0.5)), 3, colour, -1, cv2.LINE_AA)
        cv2.putText(large, str(frame), (8, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2, cv2.LINE_AA)
        cells.append(large)
    return np.vstack([np.hstack(cells[k : k + 3]) for k in range(0, len(cells), 3)])


def parse_arguments() -> argparse.Namespace:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--out", type=Path, default=Path("data/samples"), metavar="FOLDER", help="default: %(default)s")
    add("--frames", type=int, default=FRAMES, metavar="T", help="frames of the clip (default: %(default)s)")
    add("--sheet", type=Path, metavar="FILE.png", help="also a sheet of frames with keypoints, to look at")
    return parser.parse_args()


def main() -> int:
    """Command line."""
    arguments = parse_arguments()
    if not 2 <= arguments.frames <= 10_000:
        raise UserError(f"--frames is {arguments.frames}: give 2 to 10000")
    folder = ensure_folder(arguments.out)
    if arguments.sheet is not None:
        ensure_writable(arguments.sheet)
    sample = make_sample(BodyModel.load(FREE_BODY), arguments.frames)
    for path in write_sample(sample, folder):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    if arguments.sheet is not None:
        with atomic_path(arguments.sheet) as temporary:
            if not cv2.imwrite(str(temporary), np.ascontiguousarray(sheet(sample)[..., ::-1])):
                raise UserError(f"cannot write {arguments.sheet}: give a name that ends in .png")
        print(arguments.sheet)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
