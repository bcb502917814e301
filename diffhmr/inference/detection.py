"""Finding people in a photo when nobody says where they are.

Three ways, each used when the one before cannot: torchvision's Keypoint R-CNN (boxes and COCO keypoints; its weights
are taken from torch's cache or fetched), OpenCV's HOG people detector (boxes of upright people), the whole image.
"""

from __future__ import annotations

import http.client
import logging
import pickle
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.models.detection import keypointrcnn_resnet50_fpn

from diffhmr.errors import UserError
from diffhmr.files import atomic_path, sha256_file
from diffhmr.inference.annotations import Annotation, Box, keypoints_from_rows
from diffhmr.inference.photo import Photo

log = logging.getLogger(__name__)

WEIGHTS_URL = "https://download.pytorch.org/models/keypointrcnn_resnet50_fpn_coco-fc266e95.pth"
CONNECT_SECONDS = 5.0

# What goes wrong with files and connections.
_UNUSABLE = (OSError, ValueError, RuntimeError, pickle.UnpicklingError, http.client.HTTPException)
_MIN_PERSON_SCORE = 0.8
# Keypoint R-CNN scores a point with a logit; below 2 Detectron does not draw it, and here it counts as unseen.
_MIN_KEYPOINT_LOGIT = 2.0
_HOG_MIN_HEIGHT = 640  # the HOG window is 128 px high: people in small pictures need enlarging
_HOG_MAX_SCALE = 8  # of less there is nothing to see, and flat pictures would become huge
_HOG_MIN_SCORE = 0.4
_HOG_MAX_OVERLAP = 0.5


@dataclass(frozen=True)
class Detector:
    """Keypoint R-CNN if there is one, else HOG.

    Attributes:
        network: torchvision's Keypoint R-CNN in evaluation mode, or None.
    """

    network: torch.nn.Module | None

    def find(self, photo: Photo) -> tuple[list[Annotation], str]:
        """People in ``photo`` from the left to the right, and the name of the method that found them.

        Nobody found leaves the whole image as one person.
        """
        if self.network is not None:
            method, people = "torchvision Keypoint R-CNN", find_with_network(self.network, photo)
        elif hasattr(cv2, "HOGDescriptor"):
            method, people = "OpenCV HOG people detector", find_with_hog(photo)
        else:
            method, people = "no detector (OpenCV 5 has none, opencv-python-headless<5 has HOG)", []
        if not people:
            log.warning("%s: nobody found with %s, taking the whole image as one person", photo.path.name, method)
            return [Annotation((0.0, 0.0, float(photo.width), float(photo.height)), None)], "whole image"
        people.sort(key=lambda person: person.box[0] if person.box else 0.0)
        return people, method


def load_detector(device: torch.device | str = "cpu") -> Detector:
    """Keypoint R-CNN when its weights are in torch's cache or can be fetched (about 230 MB), else HOG; logs which."""
    path = weights_path()
    try:
        network = load_network(path, device)
    except _UNUSABLE as error:
        log.warning("no torchvision person detector (%s; to use it, put its weights at %s): falling back", error, path)
        return Detector(None)
    log.info("finding people with torchvision's Keypoint R-CNN")
    return Detector(network)


def load_keypoint_network(device: torch.device | str = "cpu") -> torch.nn.Module:
    """Keypoint R-CNN, where nothing else will do.

    Raises:
        UserError: its weights are neither in torch's cache nor can they be fetched.
    """
    path = weights_path()
    try:
        return load_network(path, device)
    except _UNUSABLE as error:
        raise UserError(
            f"no keypoint file is given, and torchvision's keypoint detector cannot be had ({error}): give --keypoints "
            f"FILE, or put the detector's weights at {path}"
        ) from error


def weights_path() -> Path:
    """Where torch's cache has, or would have, the weights of Keypoint R-CNN."""
    return Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS_URL.rsplit("/", 1)[-1]


def load_network(path: Path, device: torch.device | str = "cpu") -> torch.nn.Module:
    """Keypoint R-CNN with the weights at ``path``, which are fetched first if they are missing.

    Raises:
        OSError: they cannot be fetched or written.
        ValueError: the file's SHA-256 does not begin as its name says.
    """
    if not path.is_file():
        fetch_weights(WEIGHTS_URL, path)
    expected = path.stem.rsplit("-", 1)[-1]
    if not sha256_file(path).startswith(expected):
        raise ValueError(f"{path} is damaged: delete it")
    network = keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    # The weights were trained with frozen normalisation whose epsilon is 0; without weights torchvision builds another.
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 0.0
    state = torch.load(path, map_location="cpu", weights_only=True)
    missing, unexpected = network.load_state_dict(state, strict=False)
    wrong = [name for name in missing if not name.endswith("num_batches_tracked")] + list(unexpected)
    if wrong:
        raise ValueError(f"{path} holds the weights of another network ({wrong[0]})")
    return network.to(device).eval()


def fetch_weights(url: str, path: Path) -> None:
    """Download ``url`` to ``path``; gives up when the server is silent for a few seconds.

    Raises:
        OSError: there is no connection or the file cannot be written.
        http.client.HTTPException: the transfer breaks off.
    """
    with urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as answer, atomic_path(path) as temporary:
        log.info("fetching the person detector: %s (%.0f MB)", url, int(answer.headers.get("Content-Length", 0)) / 1e6)
        with open(temporary, "wb") as stream:
            while block := answer.read(1 << 20):
                stream.write(block)


def find_with_network(network: torch.nn.Module, photo: Photo) -> list[Annotation]:
    """People with boxes and keypoints from Keypoint R-CNN."""
    device = next(network.parameters()).device
    image = torch.from_numpy(photo.rgb).to(device).permute(2, 0, 1).float() / 255
    with torch.inference_mode():
        output = network([image])[0]
    return annotations_from_output({name: value.cpu().numpy() for name, value in output.items()})


def annotations_from_output(output: dict[str, NDArray[Any]]) -> list[Annotation]:
    """People in the output of Keypoint R-CNN.

    The confidence of a keypoint is the logistic function of its score minus 2; points with a score under 2 are unseen.
    Its coordinates count from the image's edge, half a pixel more than ours.
    """
    people = []
    for box, score, rows, logits in zip(
        output["boxes"], output["scores"], output["keypoints"], output["keypoints_scores"], strict=True
    ):
        if score < _MIN_PERSON_SCORE:
            continue
        excess = logits.astype(np.float64) - _MIN_KEYPOINT_LOGIT
        confidence = np.where(excess >= 0, 1 / (1 + np.exp(-excess)), 0.0)
        keypoints = keypoints_from_rows(rows[:, :2].astype(np.float64) - 0.5, confidence)
        people.append(Annotation(_box(box), keypoints if keypoints.labelled.any() else None))
    return people


def find_with_hog(photo: Photo) -> list[Annotation]:
    """Boxes of upright people (Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005)."""
    detector = cv2.HOGDescriptor()  # type: ignore[attr-defined, unused-ignore]
    detector.setSVMDetector(cv2.HOGDescriptor_getDefaultPeopleDetector())  # type: ignore[attr-defined, unused-ignore]
    scale = min(_HOG_MIN_HEIGHT / min(photo.height, _HOG_MIN_HEIGHT), _HOG_MAX_SCALE)
    size = (round(photo.width * scale), round(photo.height * scale))
    if size[0] < detector.winSize[0] or size[1] < detector.winSize[1]:
        return []
    grey = cv2.cvtColor(cv2.resize(photo.rgb, size, interpolation=cv2.INTER_LINEAR), cv2.COLOR_RGB2GRAY)
    boxes, scores = detector.detectMultiScale(grey, winStride=(8, 8), padding=(16, 16), scale=1.05)
    found = [(float(score), _trim(box) / scale) for box, score in zip(boxes, np.ravel(scores), strict=True)]
    kept: list[NDArray[np.float64]] = []
    for score, box in sorted(found, key=lambda pair: -pair[0]):
        if score >= _HOG_MIN_SCORE and all(_overlap(box, other) < _HOG_MAX_OVERLAP for other in kept):
            kept.append(box)
    return [Annotation(_box(box), None) for box in kept]


def _trim(box: Iterable[float]) -> NDArray[np.float64]:
    """The person inside a HOG window (x, y, width, height): the window leaves a margin around it."""
    x, y, width, height = (float(value) for value in box)
    return np.array([x + 0.15 * width, y + 0.07 * height, x + 0.85 * width, y + 0.95 * height])


def _overlap(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Shared area as a part of the smaller box, so that a box inside another one counts as the same person."""
    size = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    areas = [float(np.prod(box[2:] - box[:2])) for box in (first, second)]
    return float(np.prod(size.clip(min=0))) / min(areas)


def _box(values: NDArray[Any]) -> Box:
    x0, y0, x1, y1 = (float(value) for value in values)
    return (x0, y0, x1, y1)
