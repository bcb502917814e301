"""Photos in, distributions of bodies out: `python demo.py --image FILE_OR_FOLDER`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from diffhmr.checkpoint import LoadedModel, load_checkpoint
from diffhmr.errors import UserError, run_command
from diffhmr.files import ensure_folder
from diffhmr.inference.files import write_people
from diffhmr.inference.people import PeopleSource, PersonInput, find_people, parse_box
from diffhmr.inference.predict import PredictOptions, choose_checkpoint, predict
from diffhmr.inference.result import PersonResult


class Parser(argparse.ArgumentParser):
    """One clear line for a wrong option, like every other error."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise UserError(f"{message}; see --help")


def parse_arguments() -> argparse.Namespace:
    parser = Parser(description=__doc__)
    parser.add_argument("--image", required=True, type=Path, help="a picture or a folder of pictures")
    parser.add_argument("--box", help="x0,y0,x1,y1 in pixels: one person in one picture")
    parser.add_argument("--boxes", type=Path, help="JSON with boxes and perhaps keypoints: COCO or plain lists")
    parser.add_argument("--whole-image", action="store_true", help="each picture is one person")
    parser.add_argument("--keypoints", type=Path, help="JSON with COCO-17 keypoints: COCO or plain lists")
    parser.add_argument(
        "--checkpoint", type=Path, help="default: the keypoint model if all in a picture have keypoints"
    )
    parser.add_argument("--num-samples", type=int, default=25, help="bodies per person (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="steps of the sampler (default: what the checkpoint says)")
    parser.add_argument("--seed", type=int, default=0, help="of the random samples (default: %(default)s)")
    parser.add_argument("--focal-px", type=float, help="focal length (default: the diagonal of the picture, a guess)")
    parser.add_argument("--mesh", choices=["none", "obj", "glb", "ply"], default="none", help="write meshes too")
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for all results (default: %(default)s)")
    return parser.parse_args()


def report(person: PersonInput, result: PersonResult) -> str:
    camera, fit = result.metadata["camera"], result.metadata["reprojection"]
    line = f"person {person.index}: box from {person.box_source}, focal length {camera['focal_px']:.0f} px "
    line += f"({camera['focal_source']})"
    return line if fit is None else f"{line}, {100 * fit['answer']['share_of_box']:.1f} % of the box off its keypoints"


def main() -> int:
    arguments = parse_arguments()
    start = time.perf_counter()
    options = PredictOptions(arguments.num_samples, arguments.steps, arguments.seed, arguments.focal_px)
    box = None if arguments.box is None else parse_box(arguments.box)
    source = PeopleSource(box, arguments.boxes, arguments.keypoints, arguments.whole_image)
    ensure_folder(arguments.out)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    models: dict[Path, LoadedModel] = {}
    count = 0
    for people in find_people(arguments.image, source, device):
        checkpoint = arguments.checkpoint or choose_checkpoint(people)
        if checkpoint not in models:
            models[checkpoint] = load_checkpoint(checkpoint, device)
        loaded = models[checkpoint]
        results = predict(loaded, people, options, checkpoint)
        files = write_people(people, results, loaded.body, arguments.out, arguments.mesh)
        encoder = loaded.config.model.encoder.kind
        print(f"{people[0].photo.path}: {checkpoint} ({encoder} model), body: {loaded.body.name}")
        for person, result in zip(people, results, strict=True):
            print(f"  {report(person, result)}")
        pictures = [path for path in files if path.suffix == ".png"]
        print("\n".join(f"  {path}" for path in pictures))
        print(f"  and {len(files) - len(pictures)} result and mesh files beside them")
        count += len(people)
    print(
        f"{count} {'person' if count == 1 else 'people'} in {time.perf_counter() - start:.1f} s, all in {arguments.out}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
