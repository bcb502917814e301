from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from diffhmr.errors import UserError
from diffhmr.inference import detection
from diffhmr.inference.tracks import Track
from diffhmr.inference.video import tracking
from diffhmr.inference.video.footage import open_footage, plain_footage
from diffhmr.inference.video.tracking import chosen_tracks, tracks_from_detector, tracks_from_file
from tests.inference.keypoint_motion import flat, mmpose, openpose_folder, two_people, write
from tests.inference.video.test_footage import numbered, torn


def small(people: np.ndarray) -> np.ndarray:
    """The people of 640 x 480 pixels in a picture of 64 x 48."""
    return people * np.array([0.1, 0.1, 1.0])


def track(track_id: int, frames: int, points: int = 17, size: float = 20.0) -> Track:
    rows = np.zeros((frames, 17, 3))
    rows[:, :points, :2] = 10 + size * np.random.default_rng(0).random((points, 2))
    rows[:, :points, 2] = 0.9
    return Track(track_id, np.arange(frames), rows, "COCO17")


def test_a_file_and_its_video(tmp_path: Path) -> None:
    video = open_footage(numbered(tmp_path / "a.mp4", 12))
    forms = {
        "alphapose": write(tmp_path / "alphapose.json", flat(small(two_people(12)), ids=True)),
        "mmpose": write(tmp_path / "mmpose.json", mmpose(small(two_people(12)))),
        "openpose": openpose_folder(tmp_path / "openpose", small(two_people(12))),
    }
    for form, path in forms.items():
        footage, tracks = tracks_from_file(path, video)
        assert footage.num_frames == 12 and len(tracks) == 2, form
        assert all(len(one) == 12 for one in tracks), form


@pytest.mark.parametrize("frames", [5, 19])
def test_a_file_of_another_length(tmp_path: Path, frames: int) -> None:
    video = open_footage(numbered(tmp_path / "a.mp4", 12))
    path = write(tmp_path / "k.json", mmpose(small(two_people(frames))))
    with pytest.raises(UserError, match=f"has {frames} frames, but the video has 12"):
        tracks_from_file(path, video)


def test_a_video_that_is_cut_off(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    video = open_footage(torn(tmp_path / "torn.avi"))
    whole = write(tmp_path / "whole.json", mmpose(small(two_people(20))))
    caplog.set_level(logging.WARNING)
    footage, tracks = tracks_from_file(whole, video)
    assert footage.num_frames < 18 and all(len(one) == footage.num_frames for one in tracks)
    assert f"keypoints behind frame {footage.num_frames - 1}, where the video is cut off" in caplog.text
    rest = write(tmp_path / "rest.json", mmpose(small(two_people(footage.num_frames))))
    assert all(len(one) == footage.num_frames for one in tracks_from_file(rest, video)[1]), "found on the torn video"
    late = [entry if entry["frame_id"] > 17 else entry | {"instances": []} for entry in json.loads(whole.read_text())]
    with pytest.raises(UserError, match="has nobody in the"):
        tracks_from_file(write(tmp_path / "late.json", late), video)
    with pytest.raises(UserError, match="has 40 frames, but the video has 20"):
        tracks_from_file(write(tmp_path / "long.json", mmpose(small(two_people(40)))), video)


def test_keypoints_alone_say_how_long_the_video_is(tmp_path: Path) -> None:
    path = write(tmp_path / "k.json", flat(two_people(15)))
    footage, tracks = tracks_from_file(path, plain_footage(path, (640, 480), 25.0))
    assert footage.num_frames == 15 and len(tracks) == 2


class FakeNetwork(torch.nn.Module):
    """Finds two people who walk; counts the pictures it is shown."""

    def __init__(self, found: np.ndarray) -> None:
        super().__init__()
        self.anchor = torch.nn.Parameter(torch.zeros(1))
        self.found, self.frame = found, 0

    def forward(self, _images: list[torch.Tensor]) -> list[dict[str, torch.Tensor]]:
        rows = torch.from_numpy(self.found[:, self.frame, :17]).float()
        self.frame += 1
        count = len(rows)
        boxes = torch.cat([rows[..., :2].amin(1), rows[..., :2].amax(1)], dim=1)
        scores = torch.full((count,), 0.95)
        return [{"boxes": boxes, "scores": scores, "keypoints": rows, "keypoints_scores": torch.full((count, 17), 6.0)}]


def test_a_detector_looks_at_every_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people = small(two_people(12))
    network = FakeNetwork(people)
    monkeypatch.setattr(tracking, "load_keypoint_network", lambda _device: network)
    footage, tracks = tracks_from_detector(open_footage(numbered(tmp_path / "a.mp4", 12)))
    assert footage.num_frames == network.frame == 12
    assert [one.track_id for one in tracks] == [0, 1] and all(len(one) == 12 for one in tracks)
    assert np.allclose(tracks[0].points[..., :2], people[0, :, :17, :2] - 0.5, atol=1e-4)
    assert tracks[0].joint_set == "COCO17"


def test_a_video_without_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "load_keypoint_network", lambda _device: FakeNetwork(np.zeros((0, 12, 26, 3))))
    with pytest.raises(UserError, match="nobody is found in the 12 frames"):
        tracks_from_detector(open_footage(numbered(tmp_path / "a.mp4", 12)))


def test_no_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(_url: str, _path: Path) -> None:
        raise OSError("no network")

    monkeypatch.setattr(detection, "weights_path", lambda: tmp_path / "weights-0.pth")
    monkeypatch.setattr(detection, "fetch_weights", unreachable)
    with pytest.raises(UserError, match=r"cannot be had \(no network\): give --keypoints FILE, or put .*weights-0.pth"):
        tracks_from_detector(open_footage(numbered(tmp_path / "a.mp4", 12)))


def test_tracks_that_tell_nothing_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    tracks = [track(1, 10), track(2, 12, size=40.0), track(3, 1)]
    assert [one.track_id for one in chosen_tracks(tracks, "all", lambda one: one.track_id == 1)] == [1]
    assert "the points of track 2 do not tell how a person stands, and where: left out" in caplog.text
    assert "1 of 3 tracks are too short" in caplog.text
    assert [one.track_id for one in chosen_tracks(tracks, "largest", lambda one: one.track_id == 1)] == [1]
    with pytest.raises(UserError, match=r"the points of track 2 do not tell .*: choose another one"):
        chosen_tracks(tracks, "2", lambda one: one.track_id == 1)
    for which in ("all", "largest"):
        with pytest.raises(UserError, match="nobody has points that tell how a person stands"):
            chosen_tracks(tracks, which, lambda _one: False)


def test_which_tracks_are_chosen(caplog: pytest.LogCaptureFixture) -> None:
    tracks = [track(1, 10), track(2, 12, size=40.0), track(3, 1, size=900.0), track(7, 9, points=1)]
    assert [one.track_id for one in chosen_tracks(tracks, "largest")] == [2], "one frame is no motion, however large"
    assert [one.track_id for one in chosen_tracks(tracks, "1")] == [1]
    caplog.set_level(logging.WARNING)
    assert [one.track_id for one in chosen_tracks(tracks, "all")] == [1, 2]
    assert "2 of 4 tracks are too short" in caplog.text
    for number in ("3", "7"):
        with pytest.raises(UserError, match=f"track {number} is too short"):
            chosen_tracks(tracks, number)
    with pytest.raises(UserError, match="there is no track 5: choose largest or one of 1, 2, 3, 7"):
        chosen_tracks(tracks, "5")
    with pytest.raises(UserError, match="nobody is seen in two frames"):
        chosen_tracks(tracks[2:], "largest")
