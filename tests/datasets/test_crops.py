"""Crops: image and points move alike to a fraction of a pixel, at every reduction, from every kind of file."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from diffhmr.datasets.crops import one_opencv_thread, plan_crop, read_crops, write_planes
from diffhmr.datasets.jpeg import encode_jpeg
from diffhmr.errors import UserError
from diffhmr.geometry.camera import crop_matrix
from tests.datasets.pictures import plain_jpeg, ramp, rough, with_orientation

SIZE = 64


def matrix(centre: tuple[float, float], side: float, rotation: float = 0.0, flip: bool = False) -> np.ndarray:
    place, length = torch.tensor(centre, dtype=torch.float64), torch.tensor(side, dtype=torch.float64)
    return crop_matrix(place, length, SIZE, rotation, flip).numpy()


def save(path: Path, picture: np.ndarray, kind: str) -> Path:
    data = {"png": lambda: bytes(cv2.imencode(".png", picture)[1]), "plain": lambda: plain_jpeg(picture),
            "marked": lambda: encode_jpeg(picture, 98)}[kind]()  # fmt: skip
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["png", "plain", "marked"])
@pytest.mark.parametrize("side", [40.0, 64.0, 100.0, 130.7, 300.3, 560.0])
@pytest.mark.parametrize(("rotation", "flip"), [(0.0, False), (0.0, True), (0.6, False), (-2.0, True)])
def test_pixels_lie_where_the_matrix_says(tmp_path: Path, kind: str, side: float, rotation: float, flip: bool) -> None:
    width, height = 1001, 703
    path = save(tmp_path / "a", ramp(width, height), kind)
    affine = matrix((487.3, 351.8), side * 0.7, rotation, flip)
    crop = read_crops(path, [affine], SIZE)[0].astype(float)
    y, x = np.mgrid[:SIZE, :SIZE]
    places = np.linalg.solve(affine[:, :2], np.stack([x.ravel(), y.ravel()]) - affine[:, 2:])
    green = 20 + 210 * places[1] / (height - 1)
    blue = 20 + 210 * places[0] / (width - 1)
    # The ramp climbs 0.2 to 0.3 grey levels per pixel; JPEG moves the mean of a few blocks by as much.
    bound = 0.15 if kind == "png" else 0.3
    for channel, wanted in ((2, blue), (1, green)):
        error = crop[..., channel].ravel() - wanted
        assert abs(error.mean()) < bound and np.abs(error).max() < 3


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_reduced_pictures_are_not_shifted(tmp_path: Path, reduction: int) -> None:
    """A disc's centre of mass lies where the matrix maps its centre, to 1/50 of a pixel of the crop."""
    centre = (501.25, 387.75)
    y, x = np.mgrid[:800, :1000]
    beyond = (np.hypot(x - centre[0], y - centre[1]) - 12 * reduction) / (0.8 * reduction)
    disc = 255 / (1 + np.exp(beyond.clip(-50, 50)))
    path = save(tmp_path / "a", disc[..., None].repeat(3, 2).round().astype(np.uint8), "marked")
    affine = matrix((505.0, 380.5), 1.2 * reduction * SIZE)
    assert plan_crop(affine, SIZE, True).reduction == reduction
    crop = read_crops(path, [affine], SIZE)[0][..., 1].astype(float)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    found = np.array([(crop * columns).sum(), (crop * rows).sum()]) / crop.sum()
    np.testing.assert_allclose(found, affine[:, :2] @ centre + affine[:, 2], atol=0.02)


@pytest.mark.parametrize("side", [70.0, 150.0, 300.0])
def test_all_ways_of_reading_agree(tmp_path: Path, side: float) -> None:
    picture = rough(640, 480)
    affine = matrix((300.4, 222.2), side, 0.3)
    crops = [read_crops(save(tmp_path / kind, picture, kind), [affine], SIZE)[0] for kind in ("png", "plain", "marked")]
    for crop in crops[1:]:
        assert np.abs(crop.astype(float) - crops[0]).mean() < 2.5


def test_a_window_gives_the_pixels_of_the_whole(tmp_path: Path) -> None:
    picture = rough(640, 480)
    marked = encode_jpeg(picture, 95)
    (tmp_path / "marked.jpg").write_bytes(marked)
    (tmp_path / "plain.jpg").write_bytes(plain_jpeg(picture))
    generator = np.random.default_rng(0)
    for _ in range(30):
        place, side = generator.uniform(0, (640, 480)), generator.uniform(30, 500)
        affine = matrix(tuple(place), side, generator.uniform(-1, 1))
        first, second = (read_crops(tmp_path / name, [affine], SIZE)[0] for name in ("marked.jpg", "plain.jpg"))
        np.testing.assert_array_equal(first, second)


def test_crops_of_one_picture_do_not_depend_on_each_other(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", rough(640, 480), "marked")
    affines = [matrix((200.0 + 30 * k, 200.0), 40.0 * (k + 1)) for k in range(6)]
    together = read_crops(path, affines, SIZE)
    for affine, crop in zip(affines, together, strict=True):
        np.testing.assert_array_equal(read_crops(path, [affine], SIZE)[0], crop)


def test_fine_texture_does_not_alias(tmp_path: Path) -> None:
    checks = (255 * (np.indices((480, 640)).sum(0) % 2))[..., None].repeat(3, 2).astype(np.uint8)
    crop = read_crops(save(tmp_path / "a.png", checks, "png"), [matrix((320, 240), 300.0)], SIZE)[0]
    assert np.abs(crop.astype(float) - 127.5).max() < 8


def test_outside_the_picture_it_is_black(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", np.full((100, 120, 3), 200, np.uint8), "marked")
    far = read_crops(path, [matrix((500.0, 500.0), 50.0), matrix((0.0, 50.0), 60.0)], SIZE)
    assert not far[0].any()
    assert not far[1][:, : SIZE // 2 - 2].any() and (far[1][10:-10, SIZE // 2 + 3 :] > 190).all()


def test_exif_orientation_is_ignored(tmp_path: Path) -> None:
    data = plain_jpeg(ramp(200, 100))
    (tmp_path / "plain.jpg").write_bytes(data)
    (tmp_path / "turned.jpg").write_bytes(with_orientation(data, 6))
    turned = cv2.imread(str(tmp_path / "turned.jpg"))
    assert turned.shape[:2] == (200, 100)
    affine = matrix((100.0, 50.0), 90.0)
    first, second = (read_crops(tmp_path / name, [affine], SIZE)[0] for name in ("plain.jpg", "turned.jpg"))
    np.testing.assert_array_equal(first, second)


def test_grey_and_transparent_pictures(tmp_path: Path) -> None:
    grey = rough(100, 80)[..., 0]
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([grey, grey, grey, np.full_like(grey, 255)]))
    crops = [read_crops(tmp_path / f"{name}.png", [matrix((50, 40), 64.0)], SIZE)[0] for name in ("grey", "alpha")]
    np.testing.assert_array_equal(crops[0], crops[1])
    assert crops[0].shape == (SIZE, SIZE, 3)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    affine = [matrix((5.0, 5.0), 9.0)]
    with pytest.raises(UserError, match=r"cannot read the image .*none\.jpg: No such file"):
        read_crops(tmp_path / "none.jpg", affine, SIZE)
    for name, content, words in (
        ("torn.jpg", plain_jpeg(rough(100, 80))[:-900], "cut off"),
        ("text.jpg", b"hello", "damaged or of an unknown format"),
        ("empty.jpg", b"", "damaged or of an unknown format"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=words) as caught:
            read_crops(tmp_path / name, affine, SIZE)
        assert name in str(caught.value)


def test_planes() -> None:
    picture = rough(32, 32)
    out = np.full((3, 32, 32), np.nan, np.float32)
    write_planes(picture, out)
    np.testing.assert_allclose(out, picture.transpose(2, 0, 1) / 255, atol=1e-7)
    write_planes(picture, out, (1.4, 1.0, 0.6))
    wanted = np.clip(picture / 255 * (1.4, 1.0, 0.6), 0, 1).transpose(2, 0, 1)
    np.testing.assert_allclose(out, wanted, atol=1e-6)
    assert (out[0] == 1).any()


def test_the_number_of_threads_is_put_back() -> None:
    before = cv2.getNumThreads()
    with one_opencv_thread():
        assert cv2.getNumThreads() == 1
    assert cv2.getNumThreads() == before
