"""A sheet of training pictures, to judge them by eye: python -m scripts.preview_data --out sheet.png [--joints]

With --motion it is a sheet of procedural motions instead, one to a row: of people who do one thing after the other
(everything), or only what is named (walk, sit, wave ...).

With --joints the 49 joints are drawn on the pictures: green ones are visible, red ones are not; the limbs between them
are cyan on the person's left side and magenta on the right.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from diffhmr.body.files import FREE_BODY
from diffhmr.body.joints import SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.command_line import CommandParser, run_command
from diffhmr.config import DataConfig
from diffhmr.datasets.painting.scene import RenderedPeople, SceneRenderer
from diffhmr.datasets.people import People, sample_people
from diffhmr.errors import UserError
from diffhmr.files import atomic_path, ensure_writable
from diffhmr.motion.acting.score import Activity
from diffhmr.motion.procedural import sample_motions
from diffhmr.random import Seeds, item_seeds
from diffhmr.render.motion_strip import motion_strip

_SUFFIXES = (".png", ".jpg", ".jpeg")
_ZOOM = 4
_SIDES = {"left": (255, 200, 0), "right": (220, 0, 220)}
_LIMBS = (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"), ("ankle", "big_toe"))
_MOTION_FPS, _MOTION_SECONDS, _MOTION_PICTURES = 30.0, 4.0, 10
_VISIBLE, _HIDDEN = (0, 220, 0), (0, 0, 255)


def main() -> int:
    """Command line."""
    parser = CommandParser(description="Write a sheet of training pictures, to judge them by eye.")
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="FILE", help="picture to write (.png or .jpg)")
    add("--count", type=int, metavar="N", help="number of pictures (default: 64) or motions (default: 8)")
    add("--seed", type=int, default=0, metavar="S", help="of the stream of people (default: %(default)s)")
    add("--start", type=int, default=0, metavar="K", help="index of the first person (default: %(default)s)")
    add("--size", type=int, default=128, metavar="PX", help="pixels per picture (default: %(default)s)")
    names = [activity.name.lower() for activity in Activity]
    add("--motion", choices=("everything", *names), metavar="WHAT", help=f"motions: everything, {', '.join(names)}")
    add("--joints", action="store_true", help="draw joints and their visibility, pictures enlarged")
    add("--body", type=Path, default=FREE_BODY, metavar="FILE", help="body model (default: the free body)")
    add("--backgrounds", type=Path, metavar="FOLDER", help="pictures without people (default: drawn scenes)")
    args = parser.parse_args()
    if args.count is None:
        args.count = 64 if args.motion is None else 8
    for option, value, least in (("--count", args.count, 1), ("--size", args.size, 32),
                                 ("--seed", args.seed, 0), ("--start", args.start, 0)):  # fmt: skip
        if not least <= value < 2**31:
            raise UserError(f"{option} is {value}: it has to be at least {least} and less than 2**31")
    if args.out.suffix.lower() not in _SUFFIXES:
        raise UserError(f"--out {args.out} should end in {' or '.join(_SUFFIXES)}")
    ensure_writable(args.out)
    if args.motion is not None and (args.joints or args.backgrounds is not None):
        raise UserError("--motion shows bodies only: leave out --joints and --backgrounds")
    body = BodyModel.load(args.body)
    seeds = item_seeds(args.seed, "train", range(args.start, args.start + args.count))
    if args.motion is not None:
        write(args.out, motion_sheet(body, seeds, args.motion, args.size))
        print(f"{args.out}: {args.count} motions of {_MOTION_SECONDS:g} s")
        return 0
    people = sample_people(body, seeds, DataConfig(image_size=args.size))
    rendered = SceneRenderer(body, args.size, args.backgrounds).render(people)
    pictures = [to_bgr(image) for image in rendered.image]
    if args.joints:
        pictures = [draw_joints(picture, people, rendered, k) for k, picture in enumerate(pictures)]
    write(args.out, sheet(pictures))
    print(f"{args.out}: {args.count} pictures, {100 * float(rendered.visible.float().mean()):.0f} % of joints visible")
    return 0


def write(path: Path, picture: np.ndarray) -> None:
    """Write a picture (blue, green, red)."""
    with atomic_path(path) as temporary:
        if not cv2.imwrite(str(temporary), picture):
            raise UserError(f"cannot write {path}: is the disk full?")


def motion_sheet(body: BodyModel, seeds: Seeds, what: str, size: int) -> np.ndarray:
    """Procedural motions of ``seeds``, one to a row, named by what the people do."""
    activities = None if what == "everything" else (Activity[what.upper()],)
    batch = sample_motions(seeds, round(_MOTION_SECONDS * _MOTION_FPS) + 1, _MOTION_FPS, activities)
    rows = []
    for index in range(len(seeds)):
        doing = dict.fromkeys(Activity(value).name.lower() for value in batch.activity[index])
        motion = replace(batch.motion(index), name=", ".join(doing))
        rows.append(motion_strip(motion, body, _MOTION_PICTURES, size)[..., ::-1])
    return np.vstack(rows)


def to_bgr(image: Tensor) -> np.ndarray:
    """Picture for OpenCV from ``image [3, H, W]`` in [0, 1]."""
    planes = (image.clamp(0, 1) * 255).round().byte().cpu().numpy()
    return np.ascontiguousarray(planes[::-1].transpose(1, 2, 0))


def sheet(pictures: list[np.ndarray]) -> np.ndarray:
    """Pictures of one size in rows, as square as possible."""
    columns = int(np.ceil(np.sqrt(len(pictures))))
    filler = [np.zeros_like(pictures[0])] * (-len(pictures) % columns)
    tiles = pictures + filler
    return np.vstack([np.hstack(tiles[k : k + columns]) for k in range(0, len(tiles), columns)])


def draw_joints(picture: np.ndarray, people: People, rendered: RenderedPeople, index: int) -> np.ndarray:
    """Picture ``index`` enlarged, with limbs and joints."""
    large = cv2.resize(picture, None, fx=_ZOOM, fy=_ZOOM, interpolation=cv2.INTER_NEAREST)
    points = (people.joints2d[index] + 1) * (large.shape[0] / 2) - 0.5
    where = {
        name: tuple(torch.round(point).int().tolist()) for name, point in zip(SPIN49.joint_names, points, strict=True)
    }
    for side, colour in _SIDES.items():
        for start, end in _LIMBS:
            cv2.line(large, where[f"{side}_{start}"], where[f"{side}_{end}"], colour, 1, cv2.LINE_AA)
    for name, visible in zip(SPIN49.joint_names, rendered.visible[index], strict=True):
        cv2.circle(large, where[name], 3, _VISIBLE if visible else _HIDDEN, -1, cv2.LINE_AA)
    return large


if __name__ == "__main__":
    sys.exit(run_command(main))
