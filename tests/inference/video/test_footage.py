from __future__ import annotations

import logging
import weakref
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from diffhmr.errors import UserError
from diffhmr.inference.video import footage as footage_module
from diffhmr.inference.video.footage import Footage, count_frames, open_footage, parse_size, plain_footage
from diffhmr.render.video_file import video_writer

SIZE = (64, 48)


def numbered(path: Path, frames: int, fps: float = 25.0) -> Path:
    """A video whose frames get brighter."""
    with video_writer(path, SIZE, fps) as write:
        for index in range(frames):
            write(np.full((SIZE[1], SIZE[0], 3), 10 + 10 * index, np.uint8))
    return path


def torn(path: Path, frames: int = 20, share: float = 0.6) -> Path:
    """An AVI whose end is missing; its header still tells of all frames."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25.0, SIZE)
    noise = np.random.default_rng(0)
    for _ in range(frames):
        writer.write(noise.integers(0, 255, (SIZE[1], SIZE[0], 3)).astype(np.uint8))
    writer.release()
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    return path


class FakeCapture:
    """Stands for a video: knows how many of its frames are alive and asked for."""

    shapes: list[tuple[int, int]]
    announced = 0.0
    fps = 25.0
    times: tuple[float, ...] = ()

    def __init__(self, _path: str) -> None:
        self.position = 0
        type(self).most_alive = 0
        self.alive: list[weakref.ref[Any]] = []

    def isOpened(self) -> bool:
        return True

    def get(self, what: int) -> float:
        if what == cv2.CAP_PROP_POS_MSEC:
            return 1000 * self.times[self.position - 1] if self.times else 0.0
        return {cv2.CAP_PROP_FRAME_COUNT: self.announced, cv2.CAP_PROP_FPS: self.fps}[what]

    def grab(self) -> bool:
        self.position += 1
        return self.position <= len(self.shapes)

    def read(self) -> tuple[bool, Any]:
        if not self.grab():
            return False, None
        frame = np.full((*self.shapes[self.position - 1][::-1], 3), self.position, np.uint8)
        self.alive = [other for other in self.alive if other() is not None] + [weakref.ref(frame)]
        type(self).most_alive = max(type(self).most_alive, len(self.alive))
        return True, frame

    def release(self) -> None:
        pass


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[FakeCapture]:
    """A video of 50 frames behind the path ``fake.mp4``."""

    class Capture(FakeCapture):
        shapes = [SIZE] * 50
        most_alive = 0

    monkeypatch.setattr(footage_module.cv2, "VideoCapture", Capture)
    (tmp_path / "fake.mp4").write_bytes(b"x")
    return Capture


def test_frames_one_after_the_other(tmp_path: Path) -> None:
    footage = open_footage(numbered(tmp_path / "a.mp4", 12))
    assert (footage.size, footage.fps, footage.announced, footage.num_frames) == (SIZE, 25.0, 12, 0)
    assert footage.name == "a"
    footage = count_frames(footage)
    assert footage.num_frames == 12 and not footage.cut_off
    brightness = [float(frame.mean()) for frame in footage.frames()]
    assert np.allclose(brightness, 10 + 10 * np.arange(12), atol=4)


def test_colours_are_rgb(tmp_path: Path) -> None:
    with video_writer(tmp_path / "a.mp4", SIZE, 25) as write:
        for _ in range(2):
            write(np.full((SIZE[1], SIZE[0], 3), (200, 40, 60), np.uint8))
    (first, _) = open_footage(tmp_path / "a.mp4").frames()
    assert first.shape == (48, 64, 3) and np.abs(first.mean((0, 1)) - (200, 40, 60)).max() < 10


def test_only_one_frame_is_in_memory(tmp_path: Path, fake: type[FakeCapture]) -> None:
    footage = count_frames(open_footage(tmp_path / "fake.mp4"))
    assert footage.num_frames == 50 and fake.most_alive == 0, "frames that are only counted are not even unpacked"
    for index, frame in enumerate(footage.frames()):
        assert frame[0, 0, 0] == index + 1
    assert fake.most_alive <= 2


def test_the_container_is_not_believed(tmp_path: Path, fake: type[FakeCapture]) -> None:
    for announced, expected, cut_off in (
        (-9.2e18, 0, False),
        (float("nan"), 0, False),
        (30, 30, False),
        (99, 99, True),
    ):
        fake.announced = announced
        footage = count_frames(open_footage(tmp_path / "fake.mp4"))
        assert (footage.announced, footage.num_frames, footage.cut_off) == (expected, 50, cut_off)


def test_frames_that_are_not_evenly_spaced_are_told(
    tmp_path: Path, fake: type[FakeCapture], caplog: pytest.LogCaptureFixture
) -> None:
    even = np.arange(50) / 25
    rounded = np.round(even, 2)  # as containers with a coarse clock have them
    pause = even + 0.25 * (np.arange(50) >= 25)
    changing = np.concatenate([even[:25], even[25] + np.arange(25) / 12.5])
    for times, shift in ((even, ""), (rounded + 3, ""), (pause, "0.1 s"), (changing, "0.5 s"), (0 * even, "")):
        fake.times = tuple(times.tolist())
        caplog.clear()
        assert count_frames(open_footage(tmp_path / "fake.mp4")).num_frames == 50
        assert (("not evenly spaced" in caplog.text) == bool(shift) and f"up to {shift}" in caplog.text) or not shift


def test_frame_rates(tmp_path: Path, fake: type[FakeCapture], caplog: pytest.LogCaptureFixture) -> None:
    assert open_footage(tmp_path / "fake.mp4", 12.0).fps == 12
    for rate, told in ((0.0, "does not say its frame rate"), (90000.0, "says 90000 frames per second")):
        fake.fps = rate
        caplog.clear()
        assert open_footage(tmp_path / "fake.mp4").fps == 30 and told in caplog.text
    fake.fps = float("nan")
    assert open_footage(tmp_path / "fake.mp4").fps == 30
    for wrong in (0.0, -5.0, float("inf"), float("nan"), 1e6):
        with pytest.raises(UserError, match="--fps is"):
            open_footage(tmp_path / "fake.mp4", wrong)


def test_a_picture_that_changes_its_size(tmp_path: Path, fake: type[FakeCapture]) -> None:
    fake.shapes = [SIZE] * 5 + [(32, 48)]
    footage = open_footage(tmp_path / "fake.mp4")
    with pytest.raises(UserError, match="changes from 64 x 48 to 32 x 48"):
        list(footage.frames())


def test_what_can_be_read_of_a_torn_video_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    footage = count_frames(open_footage(torn(tmp_path / "torn.avi")))
    assert 2 <= footage.num_frames < 18 and footage.cut_off and footage.announced == 20
    assert f"announces 20 frames, but only {footage.num_frames} can be read" in caplog.text
    assert len(list(footage.frames())) == footage.num_frames


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("missing.mp4", None, "video not found"),
        ("empty.mp4", b"", "video is empty"),
        ("text.mp4", b"hello\n" * 500, "cannot be read as a video"),
        ("cut.mp4", "half", "cannot be read as a video"),
        ("folder.mp4", "folder", "video is not a file"),
    ],
)
def test_no_video(
    tmp_path: Path, name: str, content: bytes | str | None, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if content == "half":
        whole = numbered(tmp_path / "whole.mp4", 10).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif content == "folder":
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    with pytest.raises(UserError, match=reason):
        open_footage(path)
    assert capfd.readouterr().err == "", "FFmpeg keeps quiet"


def test_one_frame_is_no_motion(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has 1 frame, but .* demo.py --image"):
        count_frames(open_footage(numbered(tmp_path / "one.mp4", 1)))


def test_keypoints_without_a_video() -> None:
    footage = plain_footage("some/walk.json", (40, 30)).counted(3)
    assert (footage.path, footage.name, footage.fps) == (None, "walk", 30.0)
    frames = list(footage.frames())
    assert len(frames) == 3 and all(frame.shape == (30, 40, 3) and frame.std() == 0 for frame in frames)
    for wrong in ((0, 40), (40, 1), (40, 99_999)):
        with pytest.raises(UserError, match="--size is"):
            plain_footage("walk.json", wrong)


def test_names_of_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two videos never share a folder, and no folder lies outside that of the results."""
    folder = tmp_path / "take.1"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("clip.mp4", "clip.AVI", "clip.json", "other.mp4", "other.json", "other.txt", "...mp4", ".mp4"):
        numbered(tmp_path / "a.mp4", 2).rename(folder / name)

    def video(path: str | Path) -> str:
        return open_footage(path).name

    def keypoints(path: str | Path) -> str:
        return plain_footage(path, (40, 30)).name

    assert [video(name) for name in ("clip.mp4", "clip.AVI", "other.mp4")] == ["clip_mp4", "clip_AVI", "other"]
    assert [video(name) for name in ("...mp4", ".mp4")] == ["___mp4", ".mp4"]
    assert [keypoints(name) for name in ("clip.json", "other.json", ".", folder)] == ["clip", "other", *["take.1"] * 2]
    assert keypoints("..") == tmp_path.name and keypoints("../take.1/..") == tmp_path.name and keypoints("/") == "root"


@pytest.mark.parametrize("name", ["12:30.mp4", "2024-05-01T10:30:00.mp4", "file:a.mp4"])
def test_names_with_colons(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    footage = open_footage(numbered(Path(name), 3))
    assert (tmp_path / name).is_file() and len(list(footage.frames())) == 3
    assert numbered(Path(footage.name) / "overlay.mp4", 2) == Path(footage.name) / "overlay.mp4"
    assert (tmp_path / footage.name / "overlay.mp4").is_file()


def test_sizes_in_words() -> None:
    assert parse_size("1280x720") == (1280, 720) and parse_size("64X48") == (64, 48)
    for wrong in ("1280", "1280x", "ax7", "-3x5", "12.5x8", "1x2x3"):
        with pytest.raises(UserError, match="--size is"):
            parse_size(wrong)


def test_few_frames_too_many_announced_are_normal() -> None:
    assert not Footage(Path("a.mp4"), "a", SIZE, 25.0, 50, 52).cut_off
    assert Footage(Path("a.mp4"), "a", SIZE, 25.0, 50, 53).cut_off
