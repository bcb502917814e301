"""Photos in, distributions of bodies out: `python demo.py --image FILE_OR_FOLDER`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from diffhmr.checkpoint import load_checkpoint
from diffhmr.errors import UserError, run_command
from diffhmr.files import ensure_folder
from diffhmr.inference.files import write_people
from diffhmr.inference.people import PeopleSource, find_people, parse_box
from diffhmr.inference.predict import PredictOptions, choose_checkpoint, predict


class Parser(argparse.ArgumentParser):
    """One clear line for a wrong option, like every other error."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{message}; see --help")


def parse_arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--image", required=True, type=Path, help="a picture or a folder of pictures")
    parser.add_argument("--box", help="x0,y0,x1,y1 in pixels: one person in one picture")
    parser.add_argument("--boxes", type=Path, help="JSON with boxes and perhaps keypoints: COCO or plain lists")
    parser.add_argument("--whole-image", action="store_true", help="each picture is one person")
    parser.add_argument("--keypoints", type=Path, help="JSON with COCO-17 keypoints: COCO or plain lists")
    parser.add_argument("--checkpoint", type=Path, help="model file; default: the keypoint model if it has keypoints")
    parser.add_argument("--num-samples", type=int, default=25, help="bodies per person, the single answer included")
    parser.add_argument("--steps", type=int, help="steps of the sampler; default: as the checkpoint says")
    parser.add_argument("--seed", type=int, default=0, help="of the random samples")
    parser.add_argument("--focal-px", type=float, help="focal length in pixels; default: the diagonal of the picture")
    parser.add_argument("--mesh", choices=["none", "obj", "glb", "ply"], default="none", help="write meshes too")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for everything that is written")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    start = time.perf_counter()
    options = PredictOptions(arguments.num_samples, arguments.steps, arguments.seed, arguments.focal_px)
    box = None if arguments.box is None else parse_box(arguments.box)
    source = PeopleSource(box, arguments.boxes, arguments.keypoints, arguments.whole_image)
    ensure_folder(arguments.out)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    people = find_people(arguments.image, source, device)
    checkpoint = arguments.checkpoint or choose_checkpoint(people)
    loaded = load_checkpoint(checkpoint, device)
    print(
        f"{len(people)} people; model {checkpoint} ({loaded.config.model.encoder.kind} input), body: {loaded.body.name}"
    )
    results = predict(loaded, people, options, checkpoint)
    files = write_people(people, results, loaded.body.to("cpu"), arguments.out, arguments.mesh)
    for person, result in zip(people, results, strict=True):
        camera, fit = result.metadata["camera"], result.metadata["reprojection"]
        error = "" if fit is None else f", {100 * fit['answer']['share_of_box']:.1f} % of the box off the keypoints"
        print(
            f"{person.photo.path.name} person {person.index}: box from {person.box_source}, focal length "
            f"{camera['focal_px']:.0f} px ({camera['focal_source']}){error}"
        )
    pictures = [path for path in files if path.suffix == ".png"]
    print("\n".join(str(path) for path in pictures))
    print(f"and {len(files) - len(pictures)} result and mesh files beside them, in {time.perf_counter() - start:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
