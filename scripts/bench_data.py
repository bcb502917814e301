"""How fast people are cut out of photographs: the data part of `python -m scripts.bench --data`.

Files of 1920 x 1080 pixels, boxes of about 600 pixels, crops of 224. The plain way is what most training code does:
`cv2.imread`, `cv2.warpAffine`, normalise. Both ways give normalised crops and take turns on the same files, so that
other load on the machine hits both; times are those of the processor, on one thread: crops per second and core.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from diffhmr.datasets.crops import one_opencv_thread, read_crops, write_planes
from diffhmr.datasets.jpeg import encode_jpeg
from diffhmr.geometry.camera import crop_matrix

PICTURE_SIZE = (1920, 1080)
CROP_SIZE = 224
BOX_SIDES = (540.0, 660.0)
QUALITY = 90
_DISTINCT = 8
_TURN = 20
_ROUGHNESS = 0.6  # RMS of an octave over that of the next finer one, as a power of two
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)

Crop = Callable[[Path, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Sample:
    """Files and the matrix ``(2, 3)`` of one crop of each."""

    paths: list[Path]
    matrices: np.ndarray


def picture(seed: int) -> np.ndarray:
    """``[H, W, 3]`` uint8 with structure at all scales; as JPEG of quality 90 it takes as much as a photograph."""
    generator = np.random.default_rng(seed)
    width, height = PICTURE_SIZE
    total = np.zeros((height, width, 3), np.float32)
    for level in range(9):
        shape = (max(height >> level, 2), max(width >> level, 2))
        light, colour = generator.normal(size=(*shape, 1)), generator.normal(size=(*shape, 3))
        octave = (light + 0.4 * colour).astype(np.float32)
        total += 2 ** (_ROUGHNESS * level) * cv2.resize(octave, PICTURE_SIZE, interpolation=cv2.INTER_CUBIC)
    return np.asarray((127 + 55 * total / total.std()).clip(0, 255).astype(np.uint8))


def plain_crop(path: Path, matrix: np.ndarray) -> np.ndarray:
    """The plain way."""
    image = cv2.imread(str(path))
    assert image is not None
    crop = cv2.warpAffine(image, matrix, (CROP_SIZE, CROP_SIZE))
    normalised = (crop[..., ::-1].astype(np.float32) / 255 - _MEAN) / _STD
    return np.ascontiguousarray(normalised.transpose(2, 0, 1))


def our_crop(path: Path, matrix: np.ndarray) -> np.ndarray:
    """The way of the data sets, with the normalisation that an encoder does to a whole batch."""
    planes = np.empty((3, CROP_SIZE, CROP_SIZE), np.float32)
    write_planes(read_crops(path, [matrix], CROP_SIZE)[0], planes)
    planes -= _MEAN[:, None, None]
    planes /= _STD[:, None, None]
    return planes


def write_sample(folder: Path, count: int, restart_markers: bool) -> Sample:
    """``count`` files of a few distinct pictures, with boxes anywhere inside."""
    encoded = []
    for seed in range(min(_DISTINCT, count)):
        image = picture(seed)
        plain = bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1])
        encoded.append(encode_jpeg(image, QUALITY) if restart_markers else plain)
    folder.mkdir()
    paths = [folder / f"{k:06d}.jpg" for k in range(count)]
    for k, path in enumerate(paths):
        path.write_bytes(encoded[k % len(encoded)])
    generator = np.random.default_rng(0)
    side = generator.uniform(*BOX_SIDES, count)
    centre = side[:, None] / 2 + generator.uniform(size=(count, 2)) * (np.array(PICTURE_SIZE) - side[:, None])
    return Sample(paths, crop_matrix(torch.from_numpy(centre), torch.from_numpy(side), CROP_SIZE).numpy())


def measure(sample: Sample) -> dict[str, float]:
    """Crops per second and core of both ways in turns, their ratio, and how far the crops are from each other."""
    ways: list[Crop] = [plain_crop, our_crop]
    spent = dict.fromkeys(ways, 0.0)
    difference = 0.0
    for way in ways:
        way(sample.paths[0], sample.matrices[0])
    with one_opencv_thread():
        for first in range(0, len(sample.paths), _TURN):
            turn = range(first, min(first + _TURN, len(sample.paths)))
            for way in ways:
                start = time.process_time()
                for k in turn:
                    way(sample.paths[k], sample.matrices[k])
                spent[way] += time.process_time() - start
            ways.reverse()
            path, matrix = sample.paths[first], sample.matrices[first]
            apart = np.abs(plain_crop(path, matrix) - our_crop(path, matrix)) * 255 * _STD[:, None, None]
            difference += len(turn) * float(apart.mean())
    count = len(sample.paths)
    return {
        "bytes_per_file": float(np.mean([path.stat().st_size for path in sample.paths])),
        "plain_crops_per_second": count / spent[plain_crop],
        "crops_per_second": count / spent[our_crop],
        "ratio": spent[plain_crop] / spent[our_crop],
        "mean_difference_grey_levels": difference / count,
    }


def bench_data(count: int) -> dict[str, Any]:
    """Both kinds of files, ready for JSON."""
    report: dict[str, Any] = {"files": count, "opencv": cv2.__version__, "torch": torch.__version__}
    for name, markers in (("with_restart_markers", True), ("without_restart_markers", False)):
        with tempfile.TemporaryDirectory() as folder:
            report[name] = measure(write_sample(Path(folder) / "pictures", count, markers))
    return report


def print_data_report(report: dict[str, Any]) -> None:
    """A table of :func:`bench_data`."""
    width, height = PICTURE_SIZE
    print(
        f"{report['files']} JPEG files of {width} x {height}, boxes of {BOX_SIDES[0]:.0f} to {BOX_SIDES[1]:.0f} px, "
        f"crops of {CROP_SIZE} px; crops per second of one core's time; OpenCV {report['opencv']}"
    )
    print(f"{'':36}{'kB/file':>9}{'plain':>9}{'ours':>9}{'ratio':>8}{'difference':>12}")
    for name, words in (
        ("with_restart_markers", "as the preparation writes pictures"),
        ("without_restart_markers", "as cameras write pictures"),
    ):
        row = report[name]
        print(
            f"{words:36}{row['bytes_per_file'] / 1000:>9.0f}{row['plain_crops_per_second']:>9.0f}"
            f"{row['crops_per_second']:>9.0f}{row['ratio']:>8.2f}{row['mean_difference_grey_levels']:>12.2f}"
        )
    print("plain: cv2.imread, cv2.warpAffine, normalise; difference: mean over pixels, in grey levels of 255")
