"""MotionBERT's own files of how a detector errs: ``params/synthetic_noise.pth`` and ``params/d2c_params.pkl``.

The first says how far points are moved: ``mean (17, 2)`` and ``std (17, 2)`` of a normal distribution and ``weight
(17,)``, its share of the displacements, for the joints of Human3.6M, right leg first; perhaps ``uniform_range``, the
width of the others, 0.06 else. The second says how sure a detector is of a point that was moved by d: ``a / (d + a) +
b d`` with an error of mean ``m`` and standard deviation ``s``, limited to [0, 1].

Lengths are in the unit of the keypoints, in which the official code adds them: halves of the width of Human3.6M's
pictures, or what clips of AMASS and people without depths are scaled to. So nothing is converted and they do not grow
with the person. What that code adds in every frame, 0.002 in this unit, is in neither file. The formulas and units are
read from the official code; the files themselves are not part of this project.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diffhmr.body.safe_pickle import load_pickle, to_array
from diffhmr.datasets.corruption import PointNoise
from diffhmr.errors import UserError
from diffhmr.files import require_file
from diffhmr.random import Floats

TREMBLE = 0.002
UNIFORM_RANGE = 0.06

_SHAPES = {"mean": (17, 2), "std": (17, 2), "weight": (17,)}
_NOISE, _CONFIDENCE = "MotionBERT's noise of keypoints", "MotionBERT's confidences of keypoints"
_AGAIN = "get it again from the folder params of MotionBERT"


def read_official_noise(noise: Path, confidence: Path) -> PointNoise:
    """What both files say.

    Args:
        noise: ``synthetic_noise.pth``.
        confidence: ``d2c_params.pkl``.

    Raises:
        UserError: a file is missing or damaged, or something else.
    """
    moved, width = read_displacements(noise)
    curve = read_confidences(confidence)
    return PointNoise(
        normal=moved["weight"],
        mean=moved["mean"],
        deviation=moved["std"],
        width=width,
        tremble=TREMBLE,
        half_distance=curve["a"],
        slope=curve["b"],
        confidence_mean=curve["m"],
        confidence_deviation=curve["s"],
        unit="picture",
    )


def read_displacements(path: Path) -> tuple[dict[str, Floats], float]:
    """``mean``, ``std`` and ``weight`` as float64, and the uniform range, of ``synthetic_noise.pth``.

    Raises:
        UserError: the file is missing or damaged, or something else.
    """
    content = _load_tensors(require_file(path, _NOISE, _AGAIN))
    found = {name: _tensor(content.get(name), shape, f"{path}: {name}") for name, shape in _SHAPES.items()}
    width = content.get("uniform_range", UNIFORM_RANGE)
    width = torch.tensor(width, dtype=torch.float64) if isinstance(width, (int, float)) else width
    width = float(_tensor(width, (), f"{path}: uniform_range"))
    if not ((found["weight"] >= 0) & (found["weight"] <= 1)).all():
        raise UserError(f"{path}: weight is no share between 0 and 1; {_AGAIN}")
    lengths = (np.abs(found["mean"]), found["std"], np.array(width))
    if not all(((one >= 0) & (one <= 1)).all() for one in lengths):
        raise UserError(f"{path}: mean, std or uniform_range are no lengths in halves of a picture; {_AGAIN}")
    return found, width


def read_confidences(path: Path) -> dict[str, float]:
    """``a``, ``b``, ``m`` and ``s`` of ``d2c_params.pkl``.

    Raises:
        UserError: the file is missing or damaged, or something else.
    """
    content = load_pickle(require_file(path, _CONFIDENCE, _AGAIN), _CONFIDENCE)
    found = {}
    for name in ("a", "b", "m", "s"):
        try:
            value = to_array(content[name]).astype(np.float64)
        except (KeyError, UserError, ValueError, TypeError) as error:
            raise UserError(f"{path} has no number {name}; {_AGAIN}") from error
        if value.size != 1 or not np.isfinite(value).all():
            raise UserError(f"{path}: {name} is not one finite number; {_AGAIN}")
        found[name] = float(value.reshape(()))
    if found["a"] <= 0 or found["s"] < 0:
        raise UserError(f"{path}: a is {found['a']} and s {found['s']}, but a is above 0 and s not below; {_AGAIN}")
    return found


def _load_tensors(path: Path) -> dict[Any, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about files that are refused anyway
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged file makes of torch's reader, which advises to load it all the same
        raise UserError(f"{path} is damaged, or holds more than tensors and is not loaded; {_AGAIN}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not the dictionary of {_NOISE}; {_AGAIN}")
    return content


def _tensor(value: Any, shape: tuple[int, ...], what: str) -> Floats:
    if not isinstance(value, Tensor):
        raise UserError(f"{what} is missing or no tensor; {_AGAIN}")
    if (value.squeeze() if not shape else value).shape != shape:
        raise UserError(f"{what} has shape {tuple(value.shape)}, expected {shape or 'one number'}; {_AGAIN}")
    array: Floats = value.detach().double().numpy().reshape(shape)
    if not np.isfinite(array).all():
        raise UserError(f"{what} is not finite; {_AGAIN}")
    return array
