"""How long motions take, and how much memory: `python -m scripts.bench --video` and `--video-memory`.

Time: a clip of 243 frames through the head `ours` as it is used (windows that overlap, all of them at once, some steps
of its sampler, the single answer), and through the head `paper`, whose chain takes 30 steps one after the other for 16
frames: window after window, as the official demo does, and all windows at once. Both have the same backbone, and the
backbone's share is measured too. Random weights: time does not depend on what they are. The ways take turns, so that
other load on the machine hits all; without a GPU, times are those of the processor, on one thread.

Memory: `demo.py` in a process of its own on the keypoints of a long video, with everything but pictures (those are made
frame by frame; --data-only leaves them out, since drawing takes longer than all else). The peak is what the operating
system says of that process.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from diffhmr.checkpoint import REPOSITORY, load_body
from diffhmr.clip_batch import ClipBatch
from diffhmr.clip_checkpoint import save_clip_model
from diffhmr.config import SamplerConfig
from diffhmr.config_clips import (
    BackboneConfig,
    ChainConfig,
    ClipDenoiserConfig,
    ClipExperimentConfig,
    ClipNoiseConfig,
)
from diffhmr.config_file import load_config, require_kind
from diffhmr.datasets.clips import SyntheticClips
from diffhmr.datasets.painting.scene import one_thread
from diffhmr.errors import UserError
from diffhmr.geometry.camera import intrinsics
from diffhmr.models.clip_models import ANSWER_STEPS, ClipModel, build_clip_model
from diffhmr.motion.procedural import sample_motion
from scripts.video_sample.detector import alphapose_entries, detected_points
from scripts.video_sample.stage import before_camera, joints_of

Sizes = Literal["small", "chain", "official"]
"""Those of the comparison of heads; those of the shipped model, with DiffMesh's chain in its own size; MotionBERT's and
DiffMesh's with the windows of the shipped model."""
CONFIGS: dict[Sizes, Path] = {
    "small": REPOSITORY / "configs/mesh_synthetic.yaml",
    "chain": REPOSITORY / "configs/diffmesh_synthetic.yaml",
    "official": REPOSITORY / "configs/diffmesh_synthetic.yaml",
}
CLIP_FRAMES = 243
MEMORY_FRAMES = 18_000  # ten minutes
PAPER_WINDOW = 16
_WARM_UP = 1
_SIZE, _FPS, _FOCAL = (1920, 1080), 30.0, 1200.0
_EYE = (0.0, 1.35, 4.5)  # metres from the person's place on the floor
_FOLLOW_FRAMES = 20
OURS, PAPER, PAPER_AT_ONCE = "ours", "paper", "paper, all windows at once"


@dataclass(frozen=True)
class Contest:
    """Two models of the same backbone, and a clip.

    Attributes:
        ours, paper: the models.
        sampler: of ours.
        clip: one of :data:`CLIP_FRAMES` frames.
    """

    ours: ClipModel
    paper: ClipModel
    sampler: SamplerConfig
    clip: ClipBatch


@dataclass
class Spent:
    """Milliseconds of one way, one number per run.

    Attributes:
        total: from keypoints to parameters.
        backbone: the part of it inside the backbone.
    """

    total: list[float] = field(default_factory=list)
    backbone: list[float] = field(default_factory=list)


def make_contest(sizes: Sizes, device: torch.device, frames: int = CLIP_FRAMES) -> Contest:
    """Untrained models with ``sizes``, see :data:`Sizes`."""
    config = require_kind(load_config(CONFIGS[sizes]), ClipExperimentConfig, CONFIGS[sizes])
    settings = config.model
    if sizes != "small":
        settings = settings.model_copy(update={"chain": ChainConfig()})
    if sizes == "official":
        settings = settings.model_copy(update={"backbone": BackboneConfig(), "denoiser": ClipDenoiserConfig()})
    body = load_body(config.body.path)
    chain = settings.model_copy(update={"head": "paper", "window": PAPER_WINDOW, "overlap": 0})
    torch.manual_seed(0)
    ours, paper = (build_clip_model(one, body).to(device).eval() for one in (settings, chain))
    data = config.data.model_copy(update={"test_frames": frames})
    clip = SyntheticClips(body, data, "test")[0]
    return Contest(ours, paper, config.sampler, clip.to(device))


def measure(contest: Contest, repeats: int) -> dict[str, Spent]:
    """All ways in turns."""
    windows = _windows(contest.clip)
    ways: dict[str, Callable[[int], Any]] = {
        OURS: lambda seed: contest.ours.sample(contest.clip, 1, contest.sampler, seed),
        PAPER: lambda seed: [contest.paper.sample(window, 1, contest.sampler, seed) for window in windows],
        PAPER_AT_ONCE: lambda seed: contest.paper.sample(contest.clip, 1, contest.sampler, seed),
    }
    spent = {name: Spent() for name in ways}
    with one_thread():
        for index in range(_WARM_UP + repeats):
            for name, way in ways.items():
                with _backbone_time(contest.ours if name == OURS else contest.paper) as inside:
                    start = _now(contest.clip.keypoints)
                    way(index)
                    total = _now(contest.clip.keypoints) - start
                if index >= _WARM_UP:
                    spent[name].total.append(total)
                    spent[name].backbone.append(sum(inside))
    return spent


def _windows(clip: ClipBatch) -> list[ClipBatch]:
    """The clip cut into windows that follow each other; the model fills up the last one."""
    return [
        replace(clip, keypoints=part, targets=None) for part in clip.keypoints.split(PAPER_WINDOW, dim=1)
    ]  # fmt: skip


@contextmanager
def _backbone_time(model: ClipModel) -> Any:
    """Yield a list that collects the milliseconds of every call of the model's backbone."""
    backbone = model.network.backbone
    plain = backbone.get_representation
    spent: list[float] = []

    def timed(x: Tensor) -> Tensor:
        start = _now(x)
        features: Tensor = plain(x)
        spent.append(_now(x) - start)
        return features

    backbone.get_representation = timed  # type: ignore[method-assign]
    try:
        yield spent
    finally:
        del backbone.get_representation


def _now(like: Tensor) -> float:
    """Milliseconds of the clock, once the device of ``like`` has done everything; of the processor if it is that."""
    if like.device.type == "cpu":
        return time.process_time() * 1000
    torch.cuda.synchronize(like.device)
    return time.perf_counter() * 1000


def bench_video(sizes: Sizes, device: torch.device, repeats: int) -> dict[str, Any]:
    """Everything about time, ready for JSON."""
    contest = make_contest(sizes, device)
    spent = measure(contest, repeats)
    ours = spent[OURS]
    rows = {}
    for name, way in spent.items():
        rest, least = np.subtract(way.total, way.backbone), np.subtract(ours.total, ours.backbone)
        rows[name] = {
            "total_median_ms": float(np.median(way.total)),
            "backbone_median_ms": float(np.median(way.backbone)),
            "head_median_ms": float(np.median(rest)),
            "ratio": float(np.median(np.divide(way.total, ours.total))),
            "head_ratio": float(np.median(rest / least)),
        }
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "torch": torch.__version__,
        "sizes": sizes,
        "frames": CLIP_FRAMES,
        "repeats": repeats,
        "sampler": contest.sampler.name,
        "steps": min(contest.sampler.steps, ANSWER_STEPS),
        "window": contest.ours.windows.frames,
        "overlap": contest.ours.windows.overlap,
        "parameters": {
            "backbone": _count(contest.ours.network.backbone),
            "ours": _count(contest.ours),
            "paper": _count(contest.paper),
        },
        "ways": rows,
    }


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def print_video_report(report: dict[str, Any]) -> None:
    """A table of :func:`bench_video`."""
    count = {name: f"{value / 1e6:.1f} M" for name, value in report["parameters"].items()}
    print(
        f"a clip of {report['frames']} frames, {report['sizes']} sizes: backbone {count['backbone']} parameters, with "
        f"ours {count['ours']}, with paper {count['paper']}; {report['device']}, torch {report['torch']}"
    )
    print(
        f"ours: {report['sampler']}, steps to the single answer: {report['steps']}, windows of {report['window']} "
        f"frames of which {report['overlap']} are shared; paper: 30 steps one after the other for {PAPER_WINDOW} frames"
    )
    print(f"median of {report['repeats']} runs in ms, and of the ratios to ours in the same run")
    print(f"{'':28}{'all':>10}{'backbone':>10}{'head':>10}{'all / ours':>12}{'head / ours':>13}")
    for name, row in report["ways"].items():
        print(
            f"{name:28}{row['total_median_ms']:>10.1f}{row['backbone_median_ms']:>10.1f}{row['head_median_ms']:>10.1f}"
            f"{row['ratio']:>12.2f}{row['head_ratio']:>13.2f}"
        )


def write_keypoints(path: Path, frames: int) -> None:
    """AlphaPose's file of somebody whom a camera follows for ``frames`` frames, with all of a detector's faults."""
    body = load_body(ClipExperimentConfig(name="bench", task="mesh").body.path)
    motion = sample_motion(0, frames, _FPS)
    followed = gaussian_filter1d(motion.position, _FOLLOW_FRAMES, axis=0, mode="nearest") * np.array([1.0, 0.0, 1.0])
    level = np.diag([1.0, -1.0, -1.0])
    params = before_camera(motion, np.zeros(10), body, level, followed + np.array(_EYE))
    points = detected_points(joints_of(params, body), intrinsics(_FOCAL, *_SIZE), _SIZE, ClipNoiseConfig(), 0)
    path.write_text(json.dumps(alphapose_entries({1: points})), encoding="utf-8")


def write_model(path: Path) -> None:
    """An untrained model of ``configs/diffmesh_synthetic.yaml``: memory does not depend on what the weights are."""
    config = require_kind(load_config(CONFIGS["chain"]), ClipExperimentConfig, CONFIGS["chain"])
    body = load_body(config.body.path)
    torch.manual_seed(0)
    save_clip_model(path, build_clip_model(config.model, body, config.loss), config, body, 0)


def bench_memory(frames: int) -> dict[str, Any]:
    """Peak memory and time of the demo on keypoints of ``frames`` frames, ready for JSON.

    Raises:
        UserError: the demo fails.
    """
    if not hasattr(os, "wait4"):
        raise UserError("the memory of another process can be measured on Linux and macOS only")
    with tempfile.TemporaryDirectory() as folder:
        keypoints, model = Path(folder) / "keypoints.json", Path(folder) / "model.safetensors"
        # In processes of their own: a child's peak counts from the memory of the process that starts it.
        for task in ((write_keypoints, keypoints, frames), (write_model, model)):
            _in_a_process(*task)
        width, height = _SIZE
        command = [
            sys.executable, REPOSITORY / "demo.py", "--keypoints", keypoints, "--size", f"{width}x{height}",
            "--fps", f"{_FPS:g}", "--checkpoint", model, "--data-only", "--mesh", "glb", "bvh",
            "--device", "cpu", "--out", Path(folder) / "out",
        ]  # fmt: skip
        start = time.perf_counter()
        with subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            text = process.stdout.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise UserError(f"the demo ended with exit code {process.returncode}; what it said is above")
        results = sum(file.stat().st_size for file in (Path(folder) / "out").rglob("*") if file.is_file())
        unit = 1 if sys.platform == "darwin" else 1024
        return {
            "frames": frames,
            "keypoint_file_bytes": keypoints.stat().st_size,
            "result_bytes": results,
            "peak_bytes": usage.ru_maxrss * unit,
            "seconds": time.perf_counter() - start,
            "output": text,
        }


def _in_a_process(function: Callable[..., None], *arguments: Any) -> None:
    """Run a function in a fresh process.

    Raises:
        UserError: it fails.
    """
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise UserError(f"preparing the measurement failed with exit code {process.exitcode}; see above")


def print_memory_report(report: dict[str, Any]) -> None:
    """Lines about :func:`bench_memory`."""
    print(report["output"], end="")
    print(
        f"{report['frames']} frames of keypoints ({report['keypoint_file_bytes'] / 1e6:.1f} MB) to results "
        f"({report['result_bytes'] / 1e6:.1f} MB) without pictures: peak {report['peak_bytes'] / 2**20:.0f} MiB, "
        f"{report['seconds']:.1f} s"
    )
