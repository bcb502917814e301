"""Photos in, distributions of bodies out: python demo.py --image FILE_OR_FOLDER [--boxes FILE.json]"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from diffhmr.command_line import CommandParser, pick_device, run_command
from diffhmr.files import ensure_folder

if TYPE_CHECKING:
    from diffhmr.checkpoint import LoadedModel
    from diffhmr.inference.people import PersonInput
    from diffhmr.inference.result import PersonResult


def parse_arguments() -> argparse.Namespace:
    parser = CommandParser(
        description="Photos in, distributions of bodies out: overlays, sheets, result files and meshes.",
        epilog="Without --box, --boxes, --keypoints or --whole-image a detector looks for people.",
    )
    add = parser.add_argument
    add("--image", required=True, type=Path, metavar="PATH", help="a picture or a folder of pictures")
    add("--box", metavar="x0,y0,x1,y1", help="one person in one picture, in pixels")
    add("--boxes", type=Path, metavar="FILE.json", help="boxes, perhaps with keypoints: COCO or plain lists")
    add("--whole-image", action="store_true", help="each picture is one person")
    add("--keypoints", type=Path, metavar="FILE.json", help="COCO-17 keypoints: COCO or plain lists")
    add("--checkpoint", type=Path, metavar="FILE", help="default: the keypoint model if all people have keypoints")
    add("--num-samples", type=int, default=25, metavar="N", help="bodies per person (default: %(default)s)")
    add("--steps", type=int, metavar="K", help="of the sampler (default: what the checkpoint says)")
    add("--seed", type=int, default=0, metavar="S", help="of the random samples (default: %(default)s)")
    add("--guidance", type=float, default=1.0, metavar="W", help="pull to the keypoints (default: %(default)s)")
    add("--focal-px", type=float, metavar="F", help="focal length (default: the picture's diagonal, a guess)")
    add("--mesh", choices=["none", "obj", "glb", "ply"], default="none", help="write meshes too (default: none)")
    add("--renderer", choices=["software", "opengl"], default="software", help="of pictures (default: %(default)s)")
    add("--out", type=Path, default=Path("out"), metavar="FOLDER", help="for all results (default: %(default)s)")
    add("--device", help="cpu, cuda or cuda:N (default: cuda if there is one, else cpu)")
    return parser.parse_args()


def report(person: PersonInput, result: PersonResult) -> str:
    camera, fit = result.metadata["camera"], result.metadata["reprojection"]
    line = f"person {person.index}: box from {person.box_source}, focal length {camera['focal_px']:.0f} px "
    line += f"({camera['focal_source']})"
    return line if fit is None else f"{line}, {100 * fit['answer']['share_of_box']:.1f} % of the box off its keypoints"


def main() -> int:
    arguments = parse_arguments()
    start = time.perf_counter()

    # Importing torch takes seconds: not before the options are known to be right.
    from diffhmr.checkpoint import load_checkpoint
    from diffhmr.inference.files import write_people
    from diffhmr.inference.people import PeopleSource, find_people, parse_box
    from diffhmr.inference.predict import PredictOptions, choose_checkpoint, predict
    from diffhmr.render.opengl import choose_renderer

    numbers = (arguments.num_samples, arguments.steps, arguments.seed, arguments.focal_px)
    options = PredictOptions(*numbers, guidance=arguments.guidance)
    box = None if arguments.box is None else parse_box(arguments.box)
    source = PeopleSource(box, arguments.boxes, arguments.keypoints, arguments.whole_image)
    device, renderer = pick_device(arguments.device), choose_renderer(arguments.renderer)
    ensure_folder(arguments.out)
    models: dict[Path, LoadedModel] = {}
    count = 0
    for people in find_people(arguments.image, source, device):
        checkpoint = arguments.checkpoint or choose_checkpoint(people)
        if checkpoint not in models:
            models[checkpoint] = load_checkpoint(checkpoint, device)
        loaded = models[checkpoint]
        results = predict(loaded, people, options, checkpoint)
        files = write_people(people, results, loaded.body, arguments.out, arguments.mesh, renderer)
        encoder = loaded.config.model.encoder.kind
        print(f"{people[0].photo.path}: {checkpoint} ({encoder} model), body: {loaded.body.name}")
        for person, result in zip(people, results, strict=True):
            print(f"  {report(person, result)}")
        pictures = [path for path in files if path.suffix == ".png"]
        print("\n".join(f"  {path}" for path in pictures))
        print(f"  and {len(files) - len(pictures)} result and mesh files beside them")
        count += len(people)
    print(f"people: {count}, in {time.perf_counter() - start:.1f} s, all in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
