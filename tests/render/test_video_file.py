from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from diffhmr.errors import UserError
from diffhmr.render.video_file import even_size, video_writer


def test_frames_come_back_in_their_colours(tmp_path: Path) -> None:
    colours = [(200, 30, 60), (30, 180, 40), (40, 60, 210)]
    with video_writer(tmp_path / "new/a.mp4", (64, 48), 12.5) as write:
        for colour in colours:
            write(np.full((48, 64, 3), colour, np.uint8))
        assert not (tmp_path / "new/a.mp4").exists(), "it appears when it is complete"
    video = cv2.VideoCapture(str(tmp_path / "new/a.mp4"))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
    for colour in colours:
        fine, frame = video.read()
        assert fine and np.abs(frame[..., ::-1].mean((0, 1)) - colour).max() < 12
    assert not video.read()[0]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.mp4"]


def test_nothing_remains_of_a_video_that_was_broken_off(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), video_writer(tmp_path / "a.mp4", (64, 48), 25) as write:
        write(np.zeros((48, 64, 3), np.uint8))
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lost:
        """An encoder whose last frames never reach the disk; it says nothing, as OpenCV's."""

        fourcc = staticmethod(cv2.VideoWriter.fourcc)

        def __init__(self, *_settings: object) -> None:
            pass

        def isOpened(self) -> bool:
            return True

        def write(self, _frame: object) -> None:
            pass

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoWriter", Lost)
    with pytest.raises(UserError, match="is the disk full"), video_writer(tmp_path / "a.mp4", (64, 48), 25) as write:
        write(np.zeros((48, 64, 3), np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("size", "expected"), [((641, 360), (640, 360)), ((2, 2), (2, 2)), ((33, 17), (32, 16))])
def test_sizes_are_even(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert even_size(*size) == expected


@pytest.mark.parametrize("fps", [1.0, 12.3456, 23.976023976, 29.97002997, 66.66667, 119.88012, 719.2468, 1000.0])
def test_frame_rates(tmp_path: Path, fps: float) -> None:
    with video_writer(tmp_path / "a.mp4", (32, 32), fps) as write:
        for _ in range(2):
            write(np.zeros((32, 32, 3), np.uint8))
    assert cv2.VideoCapture(str(tmp_path / "a.mp4")).get(cv2.CAP_PROP_FPS) == pytest.approx(fps, rel=2e-4)
