from __future__ import annotations

import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest

from diffhmr.body.model import BodyModel
from diffhmr.config import DataConfig
from diffhmr.datasets import build_dataset
from diffhmr.errors import UserError
from diffhmr.inference.photo import Photo, crop_square, list_images, read_photo
from tests.inference.example_people import striped_photo


def exif_jpeg(rgb: np.ndarray, orientation: int) -> bytes:
    """A JPEG whose EXIF header says how the camera was held."""
    done, encoded = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
    assert done
    tiff = b"II*\x00" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    segment = b"Exif\x00\x00" + tiff
    return encoded.tobytes()[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + encoded.tobytes()[2:]


def half_and_half() -> np.ndarray:
    """Red above blue, 16 wide and 32 high."""
    rgb = np.zeros((32, 16, 3), np.uint8)
    rgb[:16, :, 0] = 255
    rgb[16:, :, 2] = 255
    return rgb


def test_colours_are_rgb_and_exact(tmp_path: Path) -> None:
    photo = striped_photo(tmp_path / "a.png")
    again = read_photo(tmp_path / "a.png")
    assert np.array_equal(again.rgb, photo.rgb)
    assert (again.width, again.height) == (160, 120)


def test_the_exif_orientation_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "held.jpg"
    path.write_bytes(exif_jpeg(half_and_half(), 6))  # turn by 90 degrees clockwise to see it upright
    photo = read_photo(path)
    assert (photo.width, photo.height) == (32, 16)
    assert photo.rgb[8, 4, 2] > 200 and photo.rgb[8, 28, 0] > 200, "blue on the left, red on the right"


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_and_grey(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"deep{suffix}"
    cv2.imwrite(str(path), np.full((4, 6), 40000, np.uint16))
    photo = read_photo(path)
    assert photo.rgb.shape == (4, 6, 3) and photo.rgb.dtype == np.uint8
    assert np.abs(photo.rgb.astype(int) - 40000 / 257).max() <= 1


def test_transparent_parts_become_grey(tmp_path: Path) -> None:
    bgra = np.full((4, 6, 4), 255, np.uint8)
    bgra[:, 3:, 3] = 0
    cv2.imwrite(str(tmp_path / "a.png"), bgra)
    rgb = read_photo(tmp_path / "a.png").rgb
    assert (rgb[:, :3] == 255).all() and (rgb[:, 3:] == 128).all()


def test_bad_files_are_named(tmp_path: Path) -> None:
    whole = exif_jpeg(half_and_half(), 1)
    contents = {
        "empty.jpg": (b"", "is empty"),
        "text.png": (b"no picture", "cannot be read"),
        "torn.jpg": (whole[:-40], "cut off"),
        "header.jpg": (whole[:30], "cut off"),
    }
    for name, (content, reason) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=reason) as caught:
            read_photo(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="not found"):
        read_photo(tmp_path / "missing.jpg")


def test_decoders_do_not_talk_for_themselves(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """libpng and libjpeg write to the standard error of the process, around Python."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    (tmp_path / "cut.png").write_bytes(cv2.imencode(".png", noise)[1].tobytes()[:9000])
    with pytest.raises(UserError, match="cannot be read"):
        read_photo(tmp_path / "cut.png")
    content = bytearray(cv2.imencode(".jpg", noise)[1].tobytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    (tmp_path / "scratched.jpg").write_bytes(content)
    assert read_photo(tmp_path / "scratched.jpg").height == 64
    assert "scratched.jpg: the picture may be damaged (Corrupt JPEG data" in caplog.text
    assert capfd.readouterr().err == ""
    os.write(2, b"still there")
    assert capfd.readouterr().err == "still there"


def test_data_behind_the_picture_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "motion.jpg"
    path.write_bytes(exif_jpeg(half_and_half(), 1) + b"\xff\xda" + b"a film" * 20)
    assert read_photo(path).height == 32


def test_folders_are_listed_in_order(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in list_images(tmp_path)] == ["a.png", "b.JPG"]
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match="no picture in the folder"):
        list_images(tmp_path / "none")


def test_a_crop_of_the_same_size_is_a_cut(tmp_path: Path) -> None:
    photo = striped_photo(tmp_path / "a.png")
    crop = crop_square(photo, (31.5, 47.5), 32, 32)
    assert np.array_equal(crop, photo.rgb[32:64, 16:48])


def test_crops_have_sub_pixel_position() -> None:
    ramp = np.repeat(np.arange(0, 200, 2, dtype=np.uint8)[None, :, None], 100, axis=0).repeat(3, axis=2)
    crop = crop_square(Photo(Path("ramp"), ramp), (50.25, 50.0), 20, 40)
    # Output column c lies at 50.25 + (c + 0.5) / 2 - 10 pixels, and the ramp rises by 2 per pixel.
    expected = 2 * (50.25 + (np.arange(40) + 0.5) / 2 - 10)
    assert np.abs(crop[20, :, 0] - expected).max() <= 1


def test_shrinking_does_not_alias() -> None:
    stripes = np.zeros((300, 300, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = crop_square(Photo(Path("stripes"), stripes), (149.5, 149.5), 290, 41)
    inner = crop[2:-2, 2:-2].astype(float)
    assert inner.std() < 4 and abs(inner.mean() - 127.5) < 3


def test_outside_the_photo_is_black_as_in_training() -> None:
    photo = Photo(Path("flat"), np.full((50, 50, 3), (10, 90, 200), np.uint8))
    crop = crop_square(photo, (0.0, 24.5), 60, 30)
    # The photo begins at column 14.75 of the crop and takes up rows 2.5 to 27.5.
    assert np.array_equal(np.unique(crop[3:27, 16:].reshape(-1, 3), axis=0), [(10, 90, 200)])
    assert not crop[:, :14].any() and not crop[:2].any() and not crop[28:].any()
    assert not crop_square(photo, (-300.0, -300.0), 60, 30).any()


def test_the_border_of_a_photo_looks_as_in_the_training_images(free_body: BodyModel) -> None:
    """A cut person's rendered image, taken as a photo without its black part and cut out again, comes back."""
    people = build_dataset(DataConfig(truncation=1.0, occluder=0.0), free_body, "val")
    indices = np.arange(40)
    border = people.people(indices).border
    index = int((border[:, 3] < 0.8).nonzero()[0])
    image = people[index].image
    assert image is not None
    rows = (image[0].flatten(1).sum(0).reshape(128, 128) > 0).any(1)
    end = int(rows.nonzero().max()) + 1
    assert end < 120
    rgb = image[0].permute(1, 2, 0).mul(255).round().byte().numpy()
    crop = crop_square(Photo(Path("cut"), rgb[:end]), (63.5, 63.5), 128, 128)
    assert np.array_equal(crop, rgb)
