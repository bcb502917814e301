from __future__ import annotations

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.models.detection import keypointrcnn_resnet50_fpn

from diffhmr.files import sha256_file
from diffhmr.inference import detection
from diffhmr.inference.detection import Detector, annotations_from_output, find_with_hog, load_detector, load_network
from diffhmr.inference.photo import Photo, read_photo
from tests.inference.example_people import striped_photo

SAMPLE = Path(__file__).parents[2] / "data/samples/photographer.jpg"


def test_output_of_keypoint_rcnn() -> None:
    rows = np.zeros((3, 17, 3), np.float32)
    rows[:, :, 0], rows[:, :, 1] = 30.5, 40.5
    logits = np.full((3, 17), 8.0, np.float32)
    logits[0, 0], logits[0, 1], logits[1] = 2.0, 1.9, -3.0
    output = {
        "boxes": np.array([[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 1, 1]], np.float32),
        "scores": np.array([0.99, 0.9, 0.5], np.float32),
        "keypoints": rows,
        "keypoints_scores": logits,
    }
    first, second = annotations_from_output(output)
    assert first.box == (1, 2, 3, 4) and first.keypoints is not None
    assert first.keypoints.points[0].tolist() == [30, 40, 0.5], "half a pixel less; a score of 2 is confidence 1/2"
    assert first.keypoints.points[1].tolist() == [0, 0, 0]
    assert first.keypoints.points[2, 2] == pytest.approx(1 / (1 + np.exp(-6)))
    assert second.keypoints is None


def test_without_connection_it_says_so_and_falls_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(detection, "WEIGHTS_URL", (tmp_path / "nowhere-fc266e95.pth").as_uri())
    with caplog.at_level(logging.INFO):
        detector = load_detector()
    assert detector.network is None
    assert "no torchvision person detector" in caplog.text and "nowhere-fc266e95.pth" in caplog.text
    photo = striped_photo(tmp_path / "a.png")
    people, method = detector.find(photo)
    assert method == "whole image" and people[0].box == (0, 0, 160, 120)
    assert "nobody found" in caplog.text


def test_damaged_weights_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "weights-00000000.pth"
    path.write_bytes(b"not these")
    with pytest.raises(ValueError, match="damaged"):
        load_network(path)


def test_weights_are_fetched_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "source.pth").write_bytes(b"\0" * 3_000_000)
    monkeypatch.setattr(detection, "WEIGHTS_URL", (tmp_path / "source.pth").as_uri())
    path = tmp_path / "cache" / "weights-00000000.pth"
    with pytest.raises(ValueError, match="damaged"):
        load_network(path)
    assert path.read_bytes() == (tmp_path / "source.pth").read_bytes()


class Found(torch.nn.Module):
    """Stands in for Keypoint R-CNN: one person on the right, one on the left."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        assert images[0].shape == (3, 120, 160) and float(images[0].detach().max()) <= 1
        boxes = torch.tensor([[90.0, 0, 150, 110], [10.0, 0, 60, 110]])
        return [
            {
                "boxes": boxes,
                "scores": torch.ones(2),
                "keypoints": boxes[:, None, [0, 1, 1]].repeat(1, 17, 1) + 20,
                "keypoints_scores": torch.full((2, 17), 9.0),
            }
        ]


def test_people_are_counted_from_the_left(tmp_path: Path) -> None:
    people, method = Detector(Found()).find(striped_photo(tmp_path / "a.png"))
    assert [person.box and person.box[0] for person in people] == [10, 90]
    assert method == "torchvision Keypoint R-CNN"


@pytest.mark.skipif(not hasattr(cv2, "HOGDescriptor"), reason="this OpenCV has no HOG people detector")
@pytest.mark.parametrize(("width", "height"), [(1, 500), (2, 3000), (500, 1), (3000, 2)])
def test_hog_sees_nobody_in_slivers(width: int, height: int) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (height, width, 3)).astype(np.uint8)
    assert find_with_hog(Photo(Path("a.png"), picture)) == []


def test_hog_finds_a_standing_figure_and_nobody_in_stripes(tmp_path: Path) -> None:
    assert find_with_hog(striped_photo(tmp_path / "a.png")) == []
    figure = standing_figure()
    (person,) = find_with_hog(figure)
    assert person.box is not None
    x0, y0, x1, y1 = person.box
    assert abs((x0 + x1) / 2 - 200) < 25 and abs(y0 - 100) < 50 and abs(y1 - 420) < 60


def standing_figure() -> Photo:
    """A dark silhouette, 320 px high, on a light ground."""
    picture = np.full((520, 400, 3), 220, np.uint8)
    ink = (40, 40, 40)
    cv2.circle(picture, (200, 125), 24, ink, -1)
    cv2.ellipse(picture, (200, 215), (42, 72), 0, 0, 360, ink, -1)
    for side in (-1, 1):
        cv2.line(picture, (200 + 18 * side, 270), (200 + 24 * side, 415), ink, 26)
        cv2.line(picture, (200 + 38 * side, 170), (200 + 52 * side, 275), ink, 16)
    return Photo(Path("figure.png"), np.asarray(cv2.GaussianBlur(picture, (0, 0), 1.5), dtype=np.uint8))


@pytest.mark.slow
def test_the_real_network_is_built_as_it_was_trained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    state = keypointrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    torch.save({name: value for name, value in state.items() if "num_batches" not in name}, tmp_path / "w.pth")
    path = tmp_path / f"w-{sha256_file(tmp_path / 'w.pth')[:8]}.pth"
    (tmp_path / "w.pth").rename(path)
    network = load_network(path)
    assert not network.training
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms and all(module.eps == 0 for module in norms)
    assert isinstance(detection.find_with_network(network, read_photo(SAMPLE)), list)
