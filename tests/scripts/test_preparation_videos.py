"""Frames of videos keep their numbers, whatever is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffhmr.body.model import BodyModel
from diffhmr.errors import UserError
from scripts.preparation.videos import _until_gap, announced_frames, count_frames, frame_size, read_frames
from tests.releases.captured_people import CapturedPeople, capture_people, number_in, write_video


@pytest.fixture(scope="module")
def people(free_body: BodyModel) -> CapturedPeople:
    return capture_people(free_body, 40, 3, (480, 400), 400.0)


@pytest.mark.parametrize(
    ("name", "code", "rate"),
    [
        ("a.mp4", "mp4v", 50), ("a.avi", "MJPG", 25), ("b.avi", "XVID", 30),
        # The encoder of MPEG-2 stores frames in another order than that of their times, as most of H.264 do.
        ("b.mp4", "MPG2", 50), ("a.mkv", "MPG2", 25), ("c.avi", "MPG2", 25),
    ],
)  # fmt: skip
def test_every_frame_shows_its_own_number(
    people: CapturedPeople, tmp_path: Path, name: str, code: str, rate: float
) -> None:
    path = tmp_path / name
    write_video(path, people, code, rate)
    assert count_frames(path) == 40
    assert frame_size(path) == (480, 400)
    wanted = [0, 1, 7, 20, 38, 39]
    read = list(read_frames(path, wanted))
    assert [number for number, _ in read] == wanted
    assert [number_in(image) for _, image in read] == wanted


def test_frames_after_the_end_are_an_error(people: CapturedPeople, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, people, "mp4v", 50)
    frames = read_frames(path, [39, 40])
    assert next(frames)[0] == 39
    with pytest.raises(UserError, match=r"a\.mp4: frame 40 cannot be decoded"):
        next(frames)


def test_a_download_that_broke_off_is_counted_and_not_believed(people: CapturedPeople, tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    write_video(path, people, "MJPG", 25)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert announced_frames(path) == 40
    count = count_frames(path)
    assert 5 < count < 30
    assert [number_in(image) for _, image in read_frames(path, range(count - 1))] == list(range(count - 1))


def test_what_is_no_video_has_no_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\0\0\0\x20ftypisom damaged")
    assert count_frames(path) == count_frames(tmp_path / "absent.mp4") == 0
    assert announced_frames(path) == announced_frames(tmp_path / "absent.mp4") == 0
    assert frame_size(path) == (0, 0)
    assert list(read_frames(path, [])) == []


@pytest.mark.parametrize(
    ("milliseconds", "count"),
    [
        ([0, 20, 40, 60], 4),
        ([40, 60, 80], 3),  # some begin later
        ([0, 20, 41.5, 59, 80], 5),
        ([0, 20, 60, 80], 2),  # the third did not come
        ([0, 0, 0, 0], 4),  # containers without times
    ],
)
def test_a_jump_in_time_ends_the_video(milliseconds: list[float], count: int) -> None:
    assert list(_until_gap(milliseconds, 30, Path("a.mp4"))) == list(range(count))


def test_damage_in_the_middle_moves_no_frame(people: CapturedPeople, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, people, "mp4v", 50)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    path.write_bytes(content)
    read = []
    try:
        for number, image in read_frames(path, range(count_frames(path))):
            read.append(number)
            if number < 18 or number >= 33:  # between, decoders repeat and patch pictures until the next whole one
                assert number_in(image) == number
    except UserError as error:
        assert "cannot be decoded" in str(error)
    assert read[:18] == list(range(18))
