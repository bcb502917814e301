"""Frame numbers out of names, and which of them a video has."""

from __future__ import annotations

import numpy as np
import pytest

from diffhmr.errors import UserError
from diffhmr.inference.frame_numbers import FrameNumbers, align_frames, numbers_from_keys


@pytest.mark.parametrize(
    ("pattern", "start"),
    [
        ("{}.jpg", 0),
        ("{:05d}.png", 1),
        ("frame.{:04d}.png", 3),
        ("frame.{:04d}", 3),
        ("clip2_{:012d}_keypoints.json", 0),
        ("cam55011271/{:06d}.jpg", 7),
        ("v1_{}_keypoints_25.json", 2),
        ("000012_{}_v3.jpg", 98),
    ],
)
def test_names(pattern: str, start: int) -> None:
    numbers = numbers_from_keys([pattern.format(start + k) for k in range(5)], "file")
    assert numbers.tolist() == list(range(start, start + 5))


def test_numbers_and_names_of_numbers() -> None:
    assert numbers_from_keys([5, 3, 3], "file").tolist() == [5, 3, 3]
    assert numbers_from_keys(["000000000785", 786], "file").tolist() == [785, 786]
    assert numbers_from_keys(["b", "a", "b"], "file").tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "pattern",
    ["{}1234567890.jpg", "cam1_{}000000000000000000.png", "{}" + "7" * 30 + ".jpg", "{}" + "7" * 5000, "{}2147483648"],
    ids=["a time", "zeros", "long", "longer than Python reads", "behind"],
)
def test_numbers_that_no_video_has(pattern: str) -> None:
    names = [pattern.format(3 + k) for k in range(5)]
    with pytest.raises(UserError, match=r"file: .* is no frame number: number the frames from 0 or 1") as raised:
        numbers_from_keys(names, "file")
    assert len(str(raised.value)) < 140
    with pytest.raises(UserError, match="is no frame number"):
        numbers_from_keys([0, 1, 2**31], "file")
    assert numbers_from_keys([0, 2**31 - 1], "file").tolist() == [0, 2**31 - 1]


def test_long_numbers_that_all_names_share_do_no_harm() -> None:
    names = [f"20240131123059123456789_{k:030d}.jpg" for k in range(4)]
    assert numbers_from_keys(names, "file").tolist() == [0, 1, 2, 3]


def test_dropped_frames() -> None:
    frames, keep = align_frames(FrameNumbers(np.array([0, 8, 9, 10, 11])), 10, "file")
    assert frames[keep].tolist() == [0, 8, 9]


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize(
    ("low", "high", "num_frames", "first", "offset"),
    [
        (1, 9, 10, 0, 0),
        (1, 9, 10, 1, 1),
        (1, 9, 10, None, 0),
        (1, 10, 10, 0, 1),
        (1, 10, 10, None, 1),
        (1, 9, None, 0, 0),
        (1, 9, None, 1, 1),
        (1, 9, None, None, 1),
        (0, 9, 10, 1, 0),
        (2, 9, 10, None, 0),
        (2, 10, 10, 1, 1),
    ],
)
def test_from_0_or_1(
    low: int, high: int, num_frames: int | None, first: int | None, offset: int, complete: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """The video decides, then the format; nothing is shifted without a word if neither does."""
    numbers = np.arange(low, high + 1)
    frames, keep = align_frames(FrameNumbers(numbers, numbers if complete else None, first), num_frames, "file")
    assert frames.tolist() == (numbers - offset).tolist() and keep.all()
    assert ("numbering from 1 is assumed" in caplog.text) == (num_frames is None and first is None)


def test_a_list_from_1_that_fits_no_length_is_told(caplog: pytest.LogCaptureFixture) -> None:
    numbers = np.arange(1, 9)
    assert align_frames(FrameNumbers(numbers, numbers), 10, "file")[0].tolist() == list(range(8))
    assert "file: numbering from 1 is assumed" in caplog.text
    caplog.clear()
    assert align_frames(FrameNumbers(numbers), 10, "file")[0].tolist() == list(range(1, 9))
    assert "file: nobody is found in a frame 0, and frame 1 is taken as the second" in caplog.text
    caplog.clear()
    align_frames(FrameNumbers(np.append(numbers, 9)), 10, "file")  # the last of ten frames is number 9
    align_frames(FrameNumbers(numbers, first=0), 10, "file")
    assert not caplog.text


@pytest.mark.parametrize(
    ("last", "num_frames", "told"), [(47, 96, True), (48, 97, True), (48, 96, True), (52, 96, False), (1, 2, False)]
)
def test_half_the_frame_rate_is_told(last: int, num_frames: int, told: bool, caplog: pytest.LogCaptureFixture) -> None:
    align_frames(FrameNumbers(np.arange(last + 1)), num_frames, "file")
    assert (f"nobody is found after frame {last} of the video's {num_frames}" in caplog.text) == told


def test_numbering_from_1_shows_in_frames_without_people() -> None:
    frames, keep = align_frames(FrameNumbers(np.array([4, 5]), np.arange(1, 8)), None, "file")
    assert frames.tolist() == [3, 4] and keep.all()
    frames, _ = align_frames(FrameNumbers(np.array([4, 5]), np.arange(7)), 7, "file")
    assert frames.tolist() == [4, 5]
