"""Photos in, distributions of bodies out: python demo.py --image FILE_OR_FOLDER [--boxes FILE.json]

Videos in, motions out: python demo.py --video FILE [--keypoints FILE] [--initial FILE]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from diffhmr.command_line import pick_device, run_command
from diffhmr.files import ensure_folder
from diffhmr.inference.demo_options import parse_demo_options

if TYPE_CHECKING:
    from diffhmr.checkpoint import LoadedModel
    from diffhmr.inference.people import PersonInput
    from diffhmr.inference.result import PersonResult


def report(person: PersonInput, result: PersonResult) -> str:
    camera, fit = result.metadata["camera"], result.metadata["reprojection"]
    line = f"person {person.index}: box from {person.box_source}, focal length {camera['focal_px']:.0f} px "
    line += f"({camera['focal_source']})"
    return line if fit is None else f"{line}, {100 * fit['answer']['share_of_box']:.1f} % of the box off its keypoints"


def photos(arguments: argparse.Namespace) -> str:
    """Writes what belongs to each photo; returns what was done."""
    from diffhmr.checkpoint import load_checkpoint
    from diffhmr.inference.files import write_people
    from diffhmr.inference.people import PeopleSource, find_people, parse_box
    from diffhmr.inference.predict import PredictOptions, choose_checkpoints, predict
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
        groups = {arguments.checkpoint: people} if arguments.checkpoint else choose_checkpoints(people)
        found: dict[int, PersonResult] = {}
        for checkpoint, some in groups.items():
            if checkpoint not in models:
                models[checkpoint] = load_checkpoint(checkpoint, device)
            loaded = models[checkpoint]
            results = predict(loaded, some, options, checkpoint)
            found |= {person.index: result for person, result in zip(some, results, strict=True)}
            encoder = loaded.config.model.encoder.kind
            print(f"{people[0].photo.path}: {checkpoint} ({encoder} model), body: {loaded.body.name}")
            print("\n".join(f"  {report(person, found[person.index])}" for person in some))
        results = [found[person.index] for person in people]
        written = write_people(people, results, loaded.body, arguments.out, arguments.mesh, renderer)
        print("\n".join(written.summary()))
        count += len(people)
    return f"people: {count}"


def videos(arguments: argparse.Namespace) -> str:
    """Writes the motions of a video; returns what was done."""
    from diffhmr.inference.video.pipeline import options_of, process_video
    from diffhmr.render.opengl import choose_renderer

    device, renderer = pick_device(arguments.device), choose_renderer(arguments.renderer)
    run = process_video(options_of(arguments), arguments.out, device, renderer)
    print("\n".join(run.summary()))
    return f"motions: {len(run.results)}"


def main() -> int:
    arguments = parse_demo_options()
    start = time.perf_counter()
    # Importing torch takes seconds: not before the options are known to be right.
    done = videos(arguments) if arguments.image is None else photos(arguments)
    print(f"{done}, in {time.perf_counter() - start:.1f} s, all in {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
