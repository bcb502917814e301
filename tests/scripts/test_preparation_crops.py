"""Crops: the picture and the labels move together, exactly."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from diffhmr.errors import UserError
from scripts.preparation.crops import BOX_PIXELS, CropSettings, picture_files, plan_cut, write_crops

WIDTH, HEIGHT = 1920, 1080


def ramps(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A picture ``(H, W, 2)`` whose pixel at (x, y) is (x, y): averages over areas are positions of their centres."""
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([across, down], axis=-1).astype(np.float32)


@pytest.mark.parametrize("side", [40.0, 320.0, 479.9, 480.0, 641.0, 1000.0, 1500.0, 4000.0])
@pytest.mark.parametrize("center", [(960.3, 540.7), (30.0, 20.0), (1900.2, 1060.9), (-10.0, 500.0)], ids=str)
def test_what_is_cut_out_is_where_the_points_say(side: float, center: tuple[float, float]) -> None:
    cut = plan_cut(np.array(center), side, (WIDTH, HEIGHT), CropSettings(1.75))
    assert cut is not None
    result = cut.apply(ramps())
    assert (result.shape[1], result.shape[0]) == cut.size
    # Pixel (u, v) of the result shows the place of the picture that `points` sends to (u, v).
    across, down = np.meshgrid(np.arange(cut.size[0]), np.arange(cut.size[1]))
    np.testing.assert_allclose(cut.points(result.astype(np.float64)), np.stack([across, down], axis=-1), atol=2e-3)
    # It has all of the enlarged box that is in the picture, but for less than a pixel of the result at the border.
    slack = cut.reduction
    low = np.maximum(np.array(center) - 1.75 * side / 2, -0.5)
    high = np.minimum(np.array(center) + 1.75 * side / 2, np.array([WIDTH, HEIGHT]) - 0.5)
    assert (np.array([cut.left, cut.top]) - 0.5 <= low + slack).all()
    assert (np.array([cut.left + cut.width, cut.top + cut.height]) - 0.5 >= high - slack).all()


@pytest.mark.parametrize(
    ("side", "reduction"), [(100.0, 1), (639.0, 1), (640.0, 2), (959.0, 2), (960.0, 3), (1600.0, 5), (9000.0, 16)]
)
def test_boxes_are_reduced_to_no_less_than_is_needed(side: float, reduction: int) -> None:
    cut = plan_cut(np.array([500.0, 500.0]), side, (10_000, 10_000), CropSettings(1.0))
    assert cut is not None and cut.reduction == reduction
    assert reduction == 1 or side / reduction >= BOX_PIXELS


def test_boxes_outside_are_left_out_and_slivers_are_kept() -> None:
    assert plan_cut(np.array([-60.0, 50.0]), 100.0, (200, 100), CropSettings()) is None
    cut = plan_cut(np.array([-500.0, 500.0]), 1000.0, (1000, 1000), CropSettings(1.0))
    assert cut is not None and cut.size == (1, 333)
    cut = plan_cut(np.array([0.0, 500.0]), 1000.0, (2, 1000), CropSettings(1.0))
    assert cut is not None and cut.size == (1, 500)


def rows(count: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    center = rng.uniform((300, 300), (1500, 800), (count, 2))
    part = np.concatenate([center[:, None] + rng.uniform(-90, 90, (count, 24, 2)), np.ones((count, 24, 1))], axis=-1)
    part[:, 5] = 0
    return {
        "imgname": np.array([f"some/{row // 2}.png" for row in range(count)]),
        "center": center,
        "scale": rng.uniform(200, 1300, count) / 200,
        "part": part,
        "S": rng.normal(0, 1, (count, 24, 4)),
        "bbox": np.concatenate([center - 70, np.full((count, 2), 140.0)], axis=1),
        "area": np.full(count, 15_000.0),
    }


def test_labels_move_with_their_pictures(tmp_path: Path) -> None:
    labels = rows(6, np.random.default_rng(0))
    labels["center"][3] = (-5000, 0)
    # Colours encode the place: each step of 8 pixels is one grey level.
    image = np.concatenate([ramps() / 8, np.zeros((HEIGHT, WIDTH, 1))], axis=-1).round().astype(np.uint8)
    pictures = [(f"some/{number}.png", image) for number in range(3)]
    moved, outside = write_crops(labels, pictures, tmp_path, Path("train", "k"), CropSettings(1.5))
    kept = [0, 1, 2, 4, 5]
    assert outside == 1 and len(moved["imgname"]) == 5
    assert [str(name) for name in moved["imgname"]] == [
        f"train/k/some/{name}.jpg" for name in ("0_0", "0_1", "1_0", "2_0", "2_1")
    ]
    np.testing.assert_array_equal(moved["S"], labels["S"][kept])
    for row, old in enumerate(kept):
        crop = cv2.imread(str(tmp_path / str(moved["imgname"][row])))
        assert crop is not None and (crop.shape[1], crop.shape[0]) == tuple(moved["image_size"][row])
        factor = moved["scale"][row] / labels["scale"][old]
        assert 0 < factor <= 1
        x, y = moved["center"][row].round().astype(int)
        np.testing.assert_allclose(crop[y, x, :2] * 8.0, labels["center"][old], atol=17)
        for joint in range(24):
            u, v, confidence = moved["part"][row, joint]
            if joint == 5:
                assert (u, v, confidence) == (0, 0, 0)
            else:
                x, y = round(u), round(v)
                np.testing.assert_allclose(crop[y, x, :2] * 8.0, labels["part"][old, joint, :2], atol=17)
        offset = (labels["part"][old, 0, :2] - labels["center"][old]) * factor
        np.testing.assert_allclose(moved["part"][row, 0, :2] - moved["center"][row], offset, atol=1e-9)
        np.testing.assert_allclose(moved["bbox"][row, :2] - moved["center"][row], [-70 * factor] * 2, atol=1e-9)
        np.testing.assert_allclose(moved["bbox"][row, 2:], 140 * factor)
        np.testing.assert_allclose(moved["area"][row], 15_000 * factor**2)


def test_rows_that_are_all_outside_leave_arrays_of_the_same_names(tmp_path: Path) -> None:
    some = rows(2, np.random.default_rng(0))
    none = some | {"center": np.full((2, 2), -5000.0)}
    pictures = [("some/0.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))]
    (whole, _), (empty, outside) = (
        write_crops(labels, pictures, tmp_path, Path(), CropSettings()) for labels in (some, none)
    )
    assert outside == 2
    assert {name: array.shape[1:] for name, array in empty.items()} == {
        name: array.shape[1:] for name, array in whole.items()
    }
    assert all(len(array) == 0 for array in empty.values())


def test_pictures_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    labels = rows(2, np.random.default_rng(0))
    labels["image_size"] = np.tile([100, 100], (2, 1))
    with pytest.raises(UserError, match=r"has \(1920, 1080\) pixels"):
        write_crops(labels, [("some/0.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))], tmp_path, Path(), CropSettings())
    with pytest.raises(UserError, match=r"1 labelled frames .* some/0.png"):
        write_crops(labels, [], tmp_path, Path(), CropSettings())
    with pytest.raises(UserError, match="picture missing"):
        list(picture_files(tmp_path, labels["imgname"]))


def test_exif_orientation_is_not_applied(tmp_path: Path) -> None:
    done, content = cv2.imencode(".jpg", np.zeros((40, 60, 3), np.uint8))
    assert done
    jpeg = content.tobytes()
    # An EXIF block that says "turn by 90 degrees", after the start of the image.
    tiff = b"II*\x00\x08\x00\x00\x00\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00\x06\x00\x00\x00\x00\x00\x00\x00"
    block = b"Exif\x00\x00" + tiff
    (tmp_path / "a.jpg").write_bytes(jpeg[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + jpeg[2:])
    turned = cv2.imread(str(tmp_path / "a.jpg"))
    assert turned is not None and turned.shape[:2] == (60, 40)
    ((name, image),) = picture_files(tmp_path, np.array(["a.jpg", "a.jpg"]))
    assert name == "a.jpg" and image.shape[:2] == (40, 60)
