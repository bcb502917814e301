"""Fit a body to the keypoints of one's own pictures: python -m scripts.fit_smpl --image PATH --keypoints FILE.json

SMPLify (Bogo et al., ECCV 2016). The results are files like those of demo.py, with one hypothesis per person.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from diffhmr.command_line import CommandParser, pick_device, run_command
from diffhmr.errors import UserError
from diffhmr.files import ensure_folder

if TYPE_CHECKING:
    from diffhmr.inference.people import PersonInput
    from diffhmr.inference.result import PersonResult


def parse_arguments() -> argparse.Namespace:
    """The options."""
    parser = CommandParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--image", required=True, type=Path, metavar="PATH", help="a picture or a folder of pictures")
    add("--keypoints", required=True, type=Path, metavar="FILE.json", help="COCO-17 keypoints: COCO or plain lists")
    add("--body", type=Path, default=Path("data/body/free_body.npz"), metavar="FILE", help="default: %(default)s")
    add("--init", choices=["model", "mean"], default="model", help="start: keypoint model or mean pose")
    add("--prior", type=Path, metavar="FILE", help="gmm_08.pkl of SMPLify or an .npz (default: the shipped one)")
    add("--iterations", type=int, metavar="N", help="of each of the two stages (default: 100)")
    add("--focal-px", type=float, metavar="F", help="focal length (default: the picture's diagonal, a guess)")
    add("--mesh", choices=["none", "obj", "glb", "ply"], default="none", help="write meshes too (default: none)")
    add("--renderer", choices=["software", "opengl"], default="software", help="of pictures (default: %(default)s)")
    add("--out", type=Path, default=Path("out"), metavar="FOLDER", help="for all results (default: %(default)s)")
    add("--device", help="cpu, cuda or cuda:N (default: cuda if there is one, else cpu)")
    return parser.parse_args()


def report(person: PersonInput, result: PersonResult) -> str:
    """One line about a person."""
    fit = result.metadata["reprojection"]
    share = 100 * fit["answer"]["share_of_box"]
    return f"person {person.index}: {share:.1f} % of the box off its {fit['points']} keypoints"


def main() -> int:
    """Read, fit, write."""
    arguments = parse_arguments()
    began = time.perf_counter()

    # Importing torch takes seconds: not before the options are known to be right.
    from diffhmr.checkpoint import load_body, load_checkpoint
    from diffhmr.fitting.prior import load_prior
    from diffhmr.fitting.smplify import ITERATIONS
    from diffhmr.inference.files import write_people
    from diffhmr.inference.fitting import FitOptions, fit_people, fittable
    from diffhmr.inference.people import PeopleSource, find_people
    from diffhmr.inference.predict import KEYPOINT_CHECKPOINT
    from diffhmr.render.opengl import choose_renderer

    iterations = ITERATIONS if arguments.iterations is None else arguments.iterations
    options = FitOptions(iterations, arguments.focal_px, prior_path=arguments.prior)
    device, renderer = pick_device(arguments.device), choose_renderer(arguments.renderer)
    body, prior = load_body(arguments.body).to(device), load_prior(arguments.prior).to(device)
    initial = load_checkpoint(KEYPOINT_CHECKPOINT, device) if arguments.init == "model" else None
    ensure_folder(arguments.out)
    count = 0
    for found in find_people(arguments.image, PeopleSource(keypoints=arguments.keypoints), device):
        people = fittable(found)
        if not people:
            continue
        results = fit_people(people, body, prior, initial, options)
        written = write_people(people, results, body, arguments.out, arguments.mesh, renderer, sheets=False)
        print(f"{people[0].photo.path}: body {body.name}")
        for person, result in zip(people, results, strict=True):
            print(f"  {report(person, result)}")
        print("\n".join(written.summary()))
        count += len(people)
    if not count:
        raise UserError(f"nobody in {arguments.keypoints} has enough keypoints for a fit; label more of them")
    print(f"people: {count}, in {time.perf_counter() - began:.1f} s, all in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
