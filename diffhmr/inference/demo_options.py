"""The options of demo.py, and which of them belong to photos and which to videos. Imports nothing that takes time."""

from __future__ import annotations

import argparse
from pathlib import Path

from diffhmr.command_line import CommandParser
from diffhmr.errors import UserError

_PHOTOS_ONLY = {"box": "--box", "boxes": "--boxes", "whole_image": "--whole-image"}
_VIDEOS_ONLY = {
    "track": "--track", "model": "--model", "fps": "--fps", "data_only": "--data-only", "initial": "--initial",
    "filter": "--filter",
}  # fmt: skip
_PHOTO_MESHES = ("none", "obj", "glb", "ply")
_VIDEO_MESHES = ("none", "glb", "bvh", "obj")
_PHOTO_SAMPLES, _VIDEO_SAMPLES = 25, 1


def parse_demo_options() -> argparse.Namespace:
    """The options of the command line, complete and checked against each other.

    ``mesh`` becomes a format or ``none`` for photos, a tuple of formats for videos; ``num_samples`` and ``guidance``
    get the defaults of photos or videos; ``guided`` says whether a guidance was asked for.

    Raises:
        UserError: they do not go together.
    """
    arguments = _parser().parse_args()
    photos = arguments.image is not None
    wrong, here, there = (_VIDEOS_ONLY, "--image", "--video") if photos else (_PHOTOS_ONLY, "--video", "--image")
    for name, option in wrong.items():
        if getattr(arguments, name):
            raise UserError(f"{option} does not go with {here}, only with {there}: leave it out")
    known = _PHOTO_MESHES if photos else _VIDEO_MESHES
    for mesh in arguments.mesh:
        if mesh not in known:
            raise UserError(f"--mesh {mesh} does not go with {here}: choose from {', '.join(known)}")
    if photos and len(arguments.mesh) > 1:
        raise UserError("--mesh takes one format with --image: give one")
    several = tuple(dict.fromkeys(mesh for mesh in arguments.mesh if mesh != "none"))
    arguments.mesh = several if not photos else several[0] if several else "none"
    if arguments.num_samples is None:
        arguments.num_samples = _PHOTO_SAMPLES if photos else _VIDEO_SAMPLES
    arguments.guided = arguments.guidance is not None
    arguments.guidance = arguments.guidance if arguments.guided else 1.0
    return arguments


def _parser() -> CommandParser:
    parser = CommandParser(
        description="Photos in, distributions of bodies out; videos in, motions out: overlays, result files, meshes.",
        epilog="Without --box, --boxes, --keypoints or --whole-image a detector looks for people.",
    )
    source = parser.add_argument_group("what is looked at (one of the three)").add_mutually_exclusive_group(
        required=True
    )
    source.add_argument("--image", type=Path, metavar="PATH", help="a picture or a folder of pictures")
    source.add_argument("--video", type=Path, metavar="FILE", help="a video")
    source.add_argument("--size", metavar="WxH", help="size of the video of --keypoints, when it is not at hand")
    add = parser.add_argument_group("photos").add_argument
    add("--box", metavar="x0,y0,x1,y1", help="one person in one picture, in pixels")
    add("--boxes", type=Path, metavar="FILE.json", help="boxes, perhaps with keypoints: COCO or plain lists")
    add("--whole-image", action="store_true", help="each picture is one person")
    add = parser.add_argument_group("videos").add_argument
    add("--track", metavar="WHO", help="largest (default), all, or the number of a track")
    add("--model", choices=["diffmesh", "diffhmr"], help="motions (default), or bodies frame by frame")
    add(
        "--initial", type=Path, metavar="FILE.npz", help="SMPL parameters per frame, for a checkpoint that refines them"
    )
    add("--filter", metavar="one-euro[:MIN_CUTOFF,BETA]", help="smooth the rotations, as of bodies frame by frame")
    add("--fps", type=float, metavar="F", help="frames per second (default: what the video says)")
    add("--data-only", action="store_true", help="no overlay and no skeleton videos")
    _add_common(parser)
    return parser


def _add_common(parser: CommandParser) -> None:
    add = parser.add_argument_group("both").add_argument
    add("--keypoints", type=Path, metavar="FILE", help="COCO-17 of photos; AlphaPose, MMPose, OpenPose ... of videos")
    add("--checkpoint", type=Path, metavar="FILE", help="default: the shipped model for what is given")
    samples = f"hypotheses per person (default: {_PHOTO_SAMPLES}, of videos {_VIDEO_SAMPLES})"
    add("--num-samples", type=int, metavar="N", help=samples)
    steps_help = "of the sampler (default: what the checkpoint says); the single answer for a clip takes one"
    add("--steps", type=int, metavar="K", help=steps_help)
    add("--seed", type=int, default=0, metavar="S", help="of the random samples (default: %(default)s)")
    add("--guidance", type=float, metavar="W", help="pull to the keypoints (default: 1; not of diffmesh)")
    add("--focal-px", type=float, metavar="F", help="focal length (default: the picture's diagonal, a guess)")
    add(
        "--mesh",
        choices=tuple(dict.fromkeys((*_PHOTO_MESHES, *_VIDEO_MESHES))),
        metavar="FORMAT",
        nargs="+",
        default=[],
        help="photos: obj, glb or ply; videos: glb and bvh (animated), obj (per frame); several of them for videos",
    )
    add("--renderer", choices=["software", "opengl"], default="software", help="of pictures (default: %(default)s)")
    add("--out", type=Path, default=Path("out"), metavar="FOLDER", help="for all results (default: %(default)s)")
    add("--device", help="cpu, cuda or cuda:N (default: cuda if there is one, else cpu)")
