"""Parts of JPEG pictures: what a window decodes to is what the whole picture shows there, bit for bit."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from diffhmr.datasets.jpeg import Window, cut_window, encode_jpeg, read_header
from diffhmr.errors import UserError
from tests.datasets.pictures import plain_jpeg, rough, with_orientation


def decode(data: bytes, flags: int) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags)


@pytest.mark.parametrize(("width", "height"), [(640, 368), (1000, 301), (333, 517), (97, 33)])
@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_window_shows_what_the_whole_shows(width: int, height: int, reduction: int) -> None:
    data = encode_jpeg(rough(width, height), 90)
    header = read_header(data)
    assert header is not None and (header.width, header.height) == (width, height) and header.interval
    flags = {1: 1, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
    whole = decode(data, flags[reduction])
    generator = np.random.default_rng(0)
    for _ in range(20):
        left, right = np.sort(generator.choice(width + 1, 2, replace=False))
        top, bottom = np.sort(generator.choice(height + 1, 2, replace=False))
        cut = cut_window(data, header, Window(int(left), int(top), int(right), int(bottom)))
        assert cut is not None
        part, x0, y0 = cut
        assert x0 % 16 == 0 and y0 % 16 == 0 and x0 <= left and y0 <= top and len(part) <= len(data)
        small = decode(part, flags[reduction])
        x1, y1 = x0 // reduction, y0 // reduction
        assert (x1 + small.shape[1]) * reduction >= right and (y1 + small.shape[0]) * reduction >= bottom
        # At a seam the colours of one block are not smoothed with those of the next, which is missing.
        margin = 2 if reduction == 1 else 0
        inner = np.s_[margin : small.shape[0] - margin, margin : small.shape[1] - margin]
        there = whole[y1 : y1 + small.shape[0], x1 : x1 + small.shape[1]]
        np.testing.assert_array_equal(small[inner], there[inner])


def test_a_window_is_cheaper() -> None:
    data = encode_jpeg(rough(1920, 1080), 90)
    header = read_header(data)
    assert header is not None
    cut = cut_window(data, header, Window(700, 300, 1300, 900))
    assert cut is not None and len(cut[0]) < 0.3 * len(data)


def test_markers_cost_little_and_change_no_pixel() -> None:
    picture = rough(1920, 1080)
    plain, marked = plain_jpeg(picture), encode_jpeg(picture, 95)
    assert len(marked) < 1.05 * len(plain)
    np.testing.assert_array_equal(decode(marked, 1), decode(plain, 1))


def test_pictures_that_have_to_be_decoded_as_a_whole() -> None:
    picture, window = rough(320, 200), Window(0, 0, 9, 9)
    interval = (cv2.IMWRITE_JPEG_RST_INTERVAL, 7)  # 20 blocks in a row
    for data in (
        plain_jpeg(picture),
        plain_jpeg(picture, *interval),
        plain_jpeg(picture, cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 5),
    ):
        header = read_header(data)
        assert header is not None and (header.width, header.height) == (320, 200)
        assert cut_window(data, header, window) is None


@pytest.mark.parametrize("sampling", ["444", "422", "420"])
def test_sampling_and_grey(sampling: str) -> None:
    picture = rough(320, 200)
    factor = getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{sampling}")
    units = 320 // (8 if sampling == "444" else 16)
    options = (cv2.IMWRITE_JPEG_RST_INTERVAL, units // 4, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor)
    for data in (plain_jpeg(picture, *options), plain_jpeg(picture[..., 0], cv2.IMWRITE_JPEG_RST_INTERVAL, 10)):
        header = read_header(data)
        assert header is not None
        cut = cut_window(data, header, Window(100, 50, 150, 90))
        assert cut is not None
        part, left, top = cut
        whole, small = decode(data, 1), decode(part, 1)
        np.testing.assert_array_equal(small[50 - top : 90 - top, 100 - left : 150 - left], whole[50:90, 100:150])


def test_header_of_other_and_torn_files() -> None:
    data = encode_jpeg(rough(160, 96))
    assert read_header(data[: len(data) // 2]) is None
    assert read_header(data[:-2]) is None
    assert read_header(data[:30]) is None
    assert read_header(b"") is None
    assert read_header(bytes(cv2.imencode(".png", rough(16, 16))[1])) is None
    turned = read_header(with_orientation(data, 6))
    assert turned is not None and (turned.width, turned.height) == (160, 96)


@pytest.mark.parametrize("rubbish", [b"\0\0", b"\xff\xff", b"abc\xff\0de"])
def test_bytes_between_the_parts_of_a_header(rubbish: bytes) -> None:
    """Some cameras and programs leave them; decoders warn and go on."""
    data = encode_jpeg(rough(160, 96))
    second = 4 + int.from_bytes(data[4:6], "big")
    odd = data[:second] + rubbish + data[second:]
    header = read_header(odd)
    assert header is not None and (header.width, header.height) == (160, 96)
    cut = cut_window(odd, header, Window(40, 30, 90, 60))
    assert cut is not None
    part, left, top = cut
    np.testing.assert_array_equal(
        decode(part, 1)[30 - top : 60 - top, 40 - left : 90 - left], decode(data, 1)[30:60, 40:90]
    )
    assert read_header(odd[:-2]) is None


def test_a_lost_marker_is_noticed() -> None:
    data = bytearray(encode_jpeg(rough(320, 200)))
    header = read_header(bytes(data))
    assert header is not None
    first = next(k for k in range(header.scan_at, len(data)) if data[k] == 0xFF and 0xD0 <= data[k + 1] <= 0xD7)
    data[first + 1] = 0
    assert cut_window(bytes(data), header, Window(0, 0, 9, 9)) is None


def test_what_jpeg_cannot_hold() -> None:
    with pytest.raises((UserError, cv2.error)):
        encode_jpeg(np.zeros((1, 70000, 3), np.uint8))
