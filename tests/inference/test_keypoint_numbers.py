"""Which frames and which people a keypoint file means by its numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffhmr.errors import UserError
from diffhmr.inference.keypoint_files import read_tracks
from tests.inference.keypoint_motion import (
    COUNT,
    H36M,
    flat,
    kept,
    mmpose,
    npy,
    npz,
    one,
    openpose_folder,
    two_people,
    write,
)
from tests.inference.test_keypoint_files import VIDEO, WRITERS

# Numbers of people


@pytest.mark.parametrize("value", [3, 3.0, "3", [3.0], [[3.0], [9.0]]])
def test_numbers_of_people_in_all_their_spellings(value: Any, tmp_path: Path) -> None:
    entries = [entry | {"idx": value} for entry in flat(two_people(COUNT)[:1])]
    assert [track.track_id for track in read_tracks(write(tmp_path / "a.json", entries))] == [3]


def test_a_number_that_everybody_has_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entries = [entry | {"idx": [0.0]} for entry in flat(two_people(COUNT))]
    tracks = read_tracks(write(tmp_path / "a.json", entries))
    assert [len(track) for track in tracks] == [COUNT, COUNT] and "repeat within frames" in caplog.text


@pytest.mark.parametrize(
    ("name", "number", "people"), [("idx", [0.0], 2), ("idx", 0, 2), ("idx", 1, 1), ("track_id", 0, 1)]
)
def test_people_one_after_the_other_without_tracking(
    name: str, number: Any, people: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """AlphaPose writes idx 0 for everybody when it does not track; any other number says that it is one person."""
    first, second = two_people(100)
    entries = [*kept(flat(first[None]), range(30)), *kept(flat(second[None]), range(40, 100))]
    tracks = read_tracks(write(tmp_path / "a.json", [entry | {name: number} for entry in entries]), fps=30.0)
    assert [len(track) for track in tracks] == ([30, 60] if people == 2 else [90])
    assert ("everybody has the number 0, as without tracking" in caplog.text) == (people == 2)
    caplog.clear()
    (track,) = read_tracks(write(tmp_path / "b.json", [one | {name: number} for one in flat(first[None])]), fps=30.0)
    assert len(track) == 100 and "tracking" not in caplog.text, "one person is one track"


def test_one_number_given_twice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    people = two_people(COUNT)
    people[1, ..., 2] = 0.5
    entries = flat(people, ids=True)
    assert entries[11]["idx"] == 2
    entries[11]["idx"] = 1
    entries[10:12] = entries[11:9:-1]  # the surer one keeps the number, wherever it stands
    tracks = read_tracks(write(tmp_path / "a.json", entries))
    assert [(track.track_id, len(track)) for track in tracks] == [(1, COUNT), (2, COUNT - 1), (3, 1)]
    assert tracks[2].frames.tolist() == [5] and "1 people have the number of another one" in caplog.text
    np.testing.assert_allclose(tracks[0].points, people[0])


def test_people_without_numbers_among_numbered_ones(tmp_path: Path) -> None:
    entries = flat(two_people(COUNT), ids=True)
    for entry in entries:
        if entry["idx"] == 2:
            del entry["idx"]
    assert [(track.track_id, len(track)) for track in read_tracks(write(tmp_path / "a.json", entries))] == [
        (1, COUNT),
        (2, COUNT),
    ]


def test_a_person_that_is_no_number(tmp_path: Path) -> None:
    entries = [entry | {"idx": "Anna"} for entry in flat(two_people(COUNT)[:1])]
    with pytest.raises(UserError, match="person Anna is not a number"):
        read_tracks(write(tmp_path / "a.json", entries))


# Frames


def test_whole_numbers_may_be_written_as_decimals(tmp_path: Path) -> None:
    entries = flat(two_people(COUNT))
    numbered = [entry | {"image_id": float(entry["image_id"].removesuffix(".jpg"))} for entry in entries]
    first, second = (read_tracks(write(tmp_path / f"{k}.json", some)) for k, some in enumerate((entries, numbered)))
    assert [track.frames.tolist() for track in first] == [track.frames.tolist() for track in second]
    with pytest.raises(UserError, match=r"the frame 0\.5 is neither a number nor a file name"):
        read_tracks(write(tmp_path / "half.json", [entries[0] | {"image_id": 0.5}]))


def test_gaps_are_marked_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frames = [*range(10), *range(15, 20), *range(23, COUNT)]
    (track,) = read_tracks(write(tmp_path / "a.json", kept(flat(one()), frames)), **VIDEO)
    assert track.frames.tolist() == frames
    assert "people are missing in 8 frames" in caplog.text and "at most 5 in a row (track 0)" in caplog.text


def test_frames_without_people(tmp_path: Path) -> None:
    frames = mmpose(one()[:, :, :17])
    for frame in (0, 1, 20, COUNT - 1):
        frames[frame]["instances"] = []
    (track,) = read_tracks(write(tmp_path / "a.json", frames), **VIDEO)
    assert track.frames.tolist() == [t for t in range(COUNT) if t not in (0, 1, 20, COUNT - 1)]


@pytest.mark.parametrize(("fps", "people"), [(60.0, 1), (None, 1), (10.0, 2)])
def test_how_long_somebody_may_be_missing(fps: float | None, people: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", kept(flat(one(100)), [*range(30), *range(70, 100)]))
    assert len(read_tracks(path, fps=fps)) == people


@pytest.mark.parametrize(("num_frames", "first"), [(COUNT, 0), (COUNT + 1, 1), (None, 0)])
def test_numbers_from_1(num_frames: int | None, first: int, tmp_path: Path) -> None:
    """Frame 1 is the first one if the last number is that of the frames in the video, or there is no video."""
    entries = [entry | {"image_id": int(entry["image_id"][:-4]) + 1} for entry in flat(one())]
    (track,) = read_tracks(write(tmp_path / "a.json", entries), num_frames=num_frames)
    assert track.frames.tolist() == list(range(first, first + COUNT))


def test_somebody_who_comes_late(tmp_path: Path) -> None:
    (track,) = read_tracks(write(tmp_path / "a.json", kept(flat(one()), range(5, 30))), **VIDEO)
    assert track.frames.tolist() == list(range(5, 30))


def test_numbers_that_begin_far_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entries = [entry | {"image_id": int(entry["image_id"][:-4]) + 10_000_000} for entry in flat(one())]
    path = write(tmp_path / "a.json", entries)
    assert read_tracks(path)[0].frames.tolist() == list(range(COUNT)) and "begin at 10000000" in caplog.text
    with pytest.raises(UserError, match="from 10000000 to 10000039, but the video has 40 frames: number them from 0"):
        read_tracks(path, **VIDEO)


@pytest.mark.parametrize("form", ["alphapose", "mmpose 17", "openpose", "npy"])
def test_another_video_that_is_shorter(form: str, tmp_path: Path) -> None:
    path = WRITERS[form](tmp_path / "keypoints", two_people(COUNT))
    with pytest.raises(UserError, match="has 40 frames, but the video has 30: give the keypoints of this video"):
        read_tracks(path, num_frames=30)


@pytest.mark.parametrize("form", ["mmpose 17", "openpose", "npy"])
def test_another_video_that_is_longer(form: str, tmp_path: Path) -> None:
    path = WRITERS[form](tmp_path / "keypoints", two_people(COUNT))
    with pytest.raises(UserError, match="has 40 frames, but the video has 60"):
        read_tracks(path, num_frames=60)


@pytest.mark.parametrize("form", ["coco annotations", "alphapose by picture"])
def test_files_that_list_all_pictures(form: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At half the frame rate they are refused, not stretched; where pictures are left out nobody can tell."""
    path = WRITERS[form](tmp_path / "keypoints", two_people(COUNT))
    content = json.loads(path.read_text())
    if form == "coco annotations":
        content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] != 720]
        some = content | {"images": [image for image in content["images"] if image["id"] != 720]}
    else:
        some = {name: people for name, people in content.items() if name != "20.jpg"}
        content["20.jpg"] = []
    whole, partly = write(tmp_path / "whole.json", content), write(tmp_path / "partly.json", some)
    with pytest.raises(UserError, match=r"has 40 frames, but the video has 80: .* at its full frame rate"):
        read_tracks(whole, num_frames=80)
    assert "nobody is found after" not in caplog.text
    assert all(20 not in track.frames for track in read_tracks(whole, num_frames=COUNT))
    assert len(read_tracks(partly, num_frames=80)) == 2 and "nobody is found after frame 39" in caplog.text


def test_a_first_frame_without_anybody_shifts_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Formats that count from 0 do so when frame 0 is missing in the file."""
    entries = kept(flat(one()), range(1, COUNT))
    by_picture = {entry["image_id"]: [entry] for entry in entries}
    folder = openpose_folder(tmp_path / "openpose", one())
    min(folder.iterdir()).unlink()
    paths = [write(tmp_path / "a.json", entries), write(tmp_path / "b.json", by_picture), folder]
    for path in paths:
        for num_frames in (None, COUNT):
            (track,) = read_tracks(path, num_frames=num_frames)
            assert track.frames.tolist() == list(range(1, COUNT)) and "assumed" not in caplog.text
    padded = [entry | {"image_id": f"{int(entry['image_id'][:-4]):06d}.jpg"} for entry in entries]
    (track,) = read_tracks(write(tmp_path / "c.json", padded))
    assert track.frames[0] == 0 and "c.json: numbering from 1 is assumed" in caplog.text


def test_a_list_of_people_that_ends_early(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody may be there any more, so it is a warning."""
    (track,) = read_tracks(write(tmp_path / "a.json", flat(one())), num_frames=100)
    assert len(track) == COUNT and "nobody is found after frame 39 of the video's 100" in caplog.text


@pytest.mark.parametrize(("num_frames", "length"), [(38, 38), (39, 39), (40, 40), (42, 40)])
def test_two_frames_more_or_less(
    num_frames: int, length: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (track,) = read_tracks(npy(tmp_path / "a.npy", H36M[0]), num_frames=num_frames)
    assert track.frames.tolist() == list(range(length))
    assert ("has 40 frames, the video" in caplog.text) == (num_frames != COUNT)


def test_numbered_arrays(tmp_path: Path) -> None:
    frames = np.arange(COUNT) * 2
    (track,) = read_tracks(npz(tmp_path / "a.npz", keypoints=H36M[0], frames=frames), num_frames=100)
    assert track.frames.tolist() == frames.tolist()
    with pytest.raises(UserError, match="frames must be 40 different whole numbers"):
        read_tracks(npz(tmp_path / "b.npz", keypoints=H36M[0], frames=frames // 4))


@pytest.mark.parametrize("swapped", [False, True])
def test_more_people_than_frames_in_an_array(swapped: bool, tmp_path: Path) -> None:
    """The length of the video says which axis is time, or that of the list of frames; else there are fewer people."""
    three = np.concatenate([H36M, H36M[:1] + np.array([50, 0, 0])])[:, :2]  # [3, 2, 17, 3]
    array = three.swapaxes(0, 1) if swapped else three
    plain, listed = npy(tmp_path / "a.npy", array), npz(tmp_path / "b.npz", keypoints=array, frames=np.array([4, 9]))
    for tracks in (read_tracks(plain, num_frames=2), read_tracks(listed), read_tracks(listed, num_frames=20)):
        assert [len(track) for track in tracks] == [2, 2, 2]
        np.testing.assert_allclose(tracks[2].points, three[2])
    assert [len(track) for track in read_tracks(plain)] == [3, 3]


def test_names_without_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = {f"{t}.jpg": f"{chr(97 + t // 26)}{chr(97 + t % 26)}.jpg" for t in range(COUNT)}
    entries = [entry | {"image_id": names[entry["image_id"]]} for entry in reversed(flat(one()))]
    (track,) = read_tracks(write(tmp_path / "a.json", entries))
    np.testing.assert_allclose(track.points, one()[0])
    assert "alphabetical order" in caplog.text


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_frames(count: int, tmp_path: Path) -> None:
    if count:
        with pytest.raises(UserError, match="people in 1 frame of the video, but a motion needs two or more"):
            read_tracks(write(tmp_path / "a.json", flat(two_people(1))))
    else:
        with pytest.raises(UserError, match="names no people"):
            read_tracks(write(tmp_path / "a.json", []))
