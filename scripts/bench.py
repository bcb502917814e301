"""How long every stage takes, from the file to the picture: `python -m scripts.bench [--device D]`.

One person, 1, 25 and 100 hypotheses. Without --checkpoint or --config the network is Diff-HMR with a ResNet-50 at
224 px, random weights and the default sampler: time does not depend on what the weights are.

With --data: how fast people are cut out of photographs for training, compared with the plain way; see
scripts/bench_data.py. With --video: clips of keypoints, all frames denoised together against the chain of DiffMesh;
with --video-memory: peak memory of the demo on ten minutes of keypoints; see scripts/bench_video.py.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import torch
from torch import nn

from diffhmr.batch import ImageBatch
from diffhmr.body.model import BodyModel
from diffhmr.checkpoint import load_body, load_checkpoint, without_downloads
from diffhmr.command_line import CommandParser, pick_device, run_command
from diffhmr.config import DataConfig, EncoderConfig, ExperimentConfig, ModelConfig
from diffhmr.config_file import load_config, require_kind
from diffhmr.errors import UserError
from diffhmr.files import ensure_writable, write_json
from diffhmr.geometry.camera import intrinsics
from diffhmr.inference.annotations import keypoints_from_rows
from diffhmr.inference.people import PersonInput, make_batch
from diffhmr.inference.photo import Photo, read_photo
from diffhmr.inference.predict import default_focal, to_full_camera
from diffhmr.models import HmrModel, build_model
from diffhmr.render.colors import person_colour
from diffhmr.render.overlay import overlay
from scripts.bench_data import bench_data, print_data_report
from scripts.bench_video import MEMORY_FRAMES, Sizes, bench_memory, bench_video, print_memory_report, print_video_report

COUNTS = (1, 25, 100)
RATIO_COUNT = 25
DATA_FILES = 2000
WARM_UP = 2
PHOTO_SIZE = (640, 480)

Times = dict[str, list[float]]


@dataclass
class Clock:
    """Collects milliseconds by stage and waits for the device before every look at the time."""

    device: torch.device
    times: Times = field(default_factory=dict)

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter() * 1000

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = self.now()
        yield
        self.add(name, self.now() - start)

    def add(self, name: str, milliseconds: float) -> None:
        self.times.setdefault(name, []).append(milliseconds)


class PartClock:
    """Time spent inside parts of a network while it runs: the sum over all their calls."""

    def __init__(self, clock: Clock, parts: dict[str, nn.Module]) -> None:
        self._clock = clock
        self.spent = dict.fromkeys(parts, 0.0)
        self._handles = []
        for name, part in parts.items():
            start, stop = self._hooks(name)
            self._handles += [part.register_forward_pre_hook(start), part.register_forward_hook(stop)]

    def remove(self) -> None:
        """Leave the network as it was."""
        for handle in self._handles:
            handle.remove()

    def _hooks(self, name: str) -> tuple[Callable[..., None], Callable[..., None]]:
        started = [0.0]

        def start(*_: Any) -> None:
            started[0] = self._clock.now()

        def stop(*_: Any) -> None:
            self.spent[name] += self._clock.now() - started[0]

        return start, stop


@dataclass(frozen=True)
class Subject:
    """What is measured."""

    model: HmrModel
    config: ExperimentConfig
    body: BodyModel
    device: torch.device


def default_config() -> ExperimentConfig:
    """ResNet-50 at 224 px, everything else as the settings say by default."""
    return ExperimentConfig(
        name="bench", model=ModelConfig(encoder=EncoderConfig(backbone="resnet50")), data=DataConfig(image_size=224)
    )


def load_subject(checkpoint: Path | None, config_path: Path | None, device: torch.device) -> Subject:
    if checkpoint is not None:
        loaded = load_checkpoint(checkpoint, device)
        return Subject(loaded.model, loaded.config, loaded.body.to(device), device)
    config = default_config()
    if config_path is not None:
        config = require_kind(load_config(config_path), ExperimentConfig, config_path)
    body = load_body(config.body.path)
    torch.manual_seed(0)
    model = build_model(without_downloads(config.model), body).to(device).eval()
    return Subject(model, config, body.to(device), device)


def write_photo(path: Path) -> None:
    """A picture with structure at all scales, as a photo has, so that reading it takes as long."""
    generator = np.random.default_rng(0)
    width, height = PHOTO_SIZE
    picture = np.zeros((height, width, 3))
    for level in range(8):
        noise = generator.normal(size=(max(height >> level, 2), max(width >> level, 2), 3))
        picture += 2**level * cv2.resize(noise, PHOTO_SIZE, interpolation=cv2.INTER_CUBIC)
    scaled = 127 + 60 * picture / picture.std()
    cv2.imwrite(str(path), scaled.clip(0, 255).astype(np.uint8))


def example_person(photo: Photo) -> PersonInput:
    width, height = photo.width, photo.height
    rows = np.random.default_rng(0).uniform((0.35 * width, 0.1 * height), (0.65 * width, 0.9 * height), (17, 2))
    box = (0.3 * width, 0.05 * height, 0.7 * width, 0.95 * height)
    return PersonInput(photo, 0, box, "benchmark", keypoints_from_rows(rows, np.ones(17)))


def measure_once(subject: Subject, path: Path, count: int, clock: Clock) -> None:
    """One person from the file to the picture with ``count`` hypotheses."""
    config, model, body = subject.config, subject.model, subject.body
    images = config.model.encoder.kind == "image"
    with clock.stage("load photo"):
        photo = read_photo(path)
    person = example_person(photo)
    with clock.stage("crop" if images else "keypoints in the box"):
        batch = make_batch([person], config.data.image_size, images).to(subject.device)
    parts: dict[str, nn.Module] = {"encoder": model.encoder, "regressor": model.regressor}
    denoiser = getattr(model, "denoiser", None)
    denoiser_stage = f"denoiser x {config.sampler.steps} steps"
    if denoiser is not None:
        parts[denoiser_stage] = denoiser
    inside = PartClock(clock, parts)
    start = clock.now()
    prediction = model.sample(batch, count, config.sampler, 0)
    total = clock.now() - start
    inside.remove()
    for name, spent in inside.spent.items():
        clock.add(name, spent)
    clock.add("noise, sampler, decoding", total - sum(inside.spent.values()))
    clock.add("= model", total)
    with clock.stage("body"):
        intrinsic = intrinsics(default_focal(photo.width, photo.height), photo.width, photo.height).to(subject.device)
        local = prediction.params.map(lambda value: value[0])
        vertices = body(to_full_camera(local, prediction.camera[0], person, intrinsic, body)).vertices
    with clock.stage("render one overlay"):
        overlay(photo.rgb, vertices[:1].cpu(), body.faces.cpu(), intrinsic.cpu(), person_colour(0).unsqueeze(0))


def measure_ratio(subject: Subject, batch: ImageBatch, repeats: int) -> tuple[list[float], list[float]]:
    """Milliseconds of the whole model with 25 hypotheses and of its encoder and regressor alone, in turns."""
    clock, model = Clock(subject.device), subject.model
    for index in range(WARM_UP + repeats):
        if index == WARM_UP:
            clock.times.clear()
        with clock.stage("estimate"):
            model.regressor(model.encode(batch))
        with clock.stage("sample"):
            model.sample(batch, RATIO_COUNT, subject.config.sampler, index)
    return clock.times["sample"], clock.times["estimate"]


def summarise(times: Times) -> dict[str, dict[str, float]]:
    return {
        name: {"median_ms": float(np.median(values)), "p95_ms": float(np.percentile(values, 95))}
        for name, values in times.items()
    }


@torch.no_grad()
def bench(subject: Subject, repeats: int) -> dict[str, Any]:
    """Everything that is measured, ready for JSON."""
    stages = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.jpg"
        write_photo(path)
        for count in COUNTS:
            clock = Clock(subject.device)
            for index in range(WARM_UP + repeats):
                if index == WARM_UP:
                    clock.times.clear()
                measure_once(subject, path, count, clock)
            stages[str(count)] = summarise(clock.times)
        person = example_person(read_photo(path))
    config = subject.config
    batch = make_batch([person], config.data.image_size, config.model.encoder.kind == "image").to(subject.device)
    sample, estimate = measure_ratio(subject, batch, repeats)
    device = subject.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "config": config.name,
        "model": config.model.model_dump(mode="json"),
        "image_size": config.data.image_size,
        "sampler": config.sampler.model_dump(mode="json"),
        "body": subject.body.name,
        "parameters": sum(parameter.numel() for parameter in subject.model.parameters()),
        "repeats": repeats,
        "stages": stages,
        "ratio": {
            "hypotheses": RATIO_COUNT,
            "model_median_ms": float(np.median(sample)),
            "encoder_regressor_median_ms": float(np.median(estimate)),
            "median_of_ratios": float(np.median(np.array(sample) / np.array(estimate))),
        },
    }


def print_report(report: dict[str, Any]) -> None:
    encoder = report["model"]["encoder"]
    what = f"{encoder['backbone']} at {report['image_size']} px" if encoder["kind"] == "image" else "keypoints"
    print(
        f"{report['config']}: {what}, {report['parameters'] / 1e6:.1f} M parameters, {report['sampler']['name']} with "
        f"{report['sampler']['steps']} steps; {report['device']}, {report['threads']} threads, torch {report['torch']}"
    )
    print(f"one person, {report['repeats']} runs; median (95th percentile) in ms")
    print(f"{'hypotheses':26}" + "".join(f"{count:>20}" for count in report["stages"]))
    for name in next(iter(report["stages"].values())):
        cells = (values[name] for values in report["stages"].values())
        print(f"{name:26}" + "".join(f"{cell['median_ms']:>11.1f} ({cell['p95_ms']:6.1f})" for cell in cells))
    ratio = report["ratio"]
    print(
        f"encoder, regressor and sampling of {ratio['hypotheses']}: {ratio['model_median_ms']:.1f} ms; encoder and "
        f"regressor alone: {ratio['encoder_regressor_median_ms']:.1f} ms; ratio {ratio['median_of_ratios']:.2f}"
    )


def parse_arguments() -> argparse.Namespace:
    parser = CommandParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", metavar="D", help="cpu, cuda or cuda:N (default: cuda if there is one, else cpu)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--checkpoint", type=Path, metavar="FILE", help="measure this model")
    which.add_argument("--config", type=Path, metavar="FILE", help="measure its model, with random weights")
    data_help = "measure reading and cropping N pictures instead of a model (default: %(const)s)"
    which.add_argument("--data", type=int, nargs="?", const=DATA_FILES, metavar="N", help=data_help)
    video_help = "measure models of clips: small (default), the sizes of configs/mesh_synthetic.yaml; chain, those of "
    video_help += "configs/diffmesh_synthetic.yaml, official for DiffMesh's chain; official, those for everything"
    which.add_argument("--video", choices=get_args(Sizes), nargs="?", const="small", help=video_help)
    memory_help = "measure the demo's memory on the keypoints of T frames (default: %(const)s)"
    which.add_argument("--video-memory", type=int, nargs="?", const=MEMORY_FRAMES, metavar="T", help=memory_help)
    parser.add_argument("--repeats", type=int, default=20, metavar="N", help="runs per line (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers to this file")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    if arguments.repeats < 1:
        raise UserError(f"--repeats is {arguments.repeats}: it has to be at least 1")
    if arguments.data is not None and arguments.data < 1:
        raise UserError(f"--data is {arguments.data}: it has to be at least 1")
    if arguments.video_memory is not None and arguments.video_memory < 2:
        raise UserError(f"--video-memory is {arguments.video_memory}: it has to be at least 2")
    device = pick_device(arguments.device)
    if arguments.json is not None:
        ensure_writable(arguments.json)
    if arguments.data is not None:
        report = bench_data(arguments.data)
        print_data_report(report)
    elif arguments.video is not None:
        report = bench_video(arguments.video, device, arguments.repeats)
        print_video_report(report)
    elif arguments.video_memory is not None:
        report = bench_memory(arguments.video_memory)
        print_memory_report(report)
    else:
        report = bench(load_subject(arguments.checkpoint, arguments.config, device), arguments.repeats)
        print_report(report)
    if arguments.json is not None:
        write_json(arguments.json, report)
        print(f"written: {arguments.json}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
