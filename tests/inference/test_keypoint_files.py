"""One known motion written in every format gives the same tracks."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffhmr.body.joints import COCO17, H36M17, H36M17_LEFT_FIRST, HALPE26, select
from diffhmr.errors import UserError
from diffhmr.inference.keypoint_files import read_tracks
from diffhmr.inference.tracks import Track
from tests.inference.keypoint_motion import (
    COUNT,
    H36M,
    SIZE,
    Floats,
    coco_annotations,
    flat,
    h36m17,
    mmpose,
    npy,
    npz,
    one,
    openpose_folder,
    two_people,
    walk,
    widened,
    write,
)

VIDEO: dict[str, Any] = {"frame_size": SIZE, "num_frames": COUNT, "fps": 30.0}
WRITERS: dict[str, Callable[[Path, Floats], Path]] = {
    "alphapose": lambda path, people: write(path, flat(people)),
    "alphapose with ids": lambda path, people: write(path, flat(people, ids=True)),
    "alphapose of pictures": lambda path, people: write(path, flat(people, "take7_{:05d}.png")),
    "alphapose 136": lambda path, people: write(path, flat(widened(people, 136))),
    "alphapose 68": lambda path, people: write(path, flat(widened(people, 68))),
    "alphapose 133": lambda path, people: write(path, flat(widened(people[:, :, :17], 133))),
    "alphapose 17": lambda path, people: write(path, flat(people[:, :, :17])),
    "alphapose by picture": lambda path, people: write(
        path, {f"{t}.jpg": flat(people[:, t : t + 1], ids=True) for t in range(COUNT)}
    ),
    "coco results": lambda path, people: write(
        path, [entry | {"image_id": int(entry["image_id"][:-4])} for entry in flat(people[:, :, :17])]
    ),
    "coco annotations": lambda path, people: write(path, coco_annotations(people)),
    "annotations without images": lambda path, people: write(
        path, {"annotations": [entry | {"frame_id": i // 2} for i, entry in enumerate(flat(people[:, :, :17], "x"))]}
    ),
    "mmpose 17": lambda path, people: write(path, mmpose(people[:, :, :17])),
    "mmpose 26": lambda path, people: write(path, mmpose(people)),
    "mmpose of the demo, from 1": lambda path, people: write(
        path, {"meta_info": {"dataset_name": "halpe26"}, "instance_info": mmpose(people, first=1)}
    ),
    "mmpose h36m": lambda path, _: write(
        path, {"meta_info": {"dataset_name": "h36m"}, "instance_info": mmpose(H36M)}
    ),
    "openpose": openpose_folder,
    "npy": lambda path, _: npy(path.with_suffix(".npy"), H36M),
    "npy, frames first": lambda path, _: npy(path.with_suffix(".npy"), H36M.swapaxes(0, 1).astype(np.float32)),
    "npz": lambda path, _: npz(path.with_suffix(".npz"), keypoints=H36M),
    "npz with scores": lambda path, _: npz(path.with_suffix(".npz"), points=H36M[..., :2], scores=H36M[..., 2]),
    "npy in coco's order": lambda path, people: npy(path.with_suffix(".npy"), people[:, :, :17]),
}  # fmt: skip


@pytest.mark.parametrize("form", WRITERS)
def test_every_format_gives_the_same_tracks(form: str, tmp_path: Path) -> None:
    people = two_people(COUNT)
    tracks = read_tracks(WRITERS[form](tmp_path / "keypoints", people), **VIDEO)
    assert len(tracks) == 2
    for track, person in zip(tracks, people, strict=True):
        assert track.frames.tolist() == list(range(COUNT))
        wanted = h36m17(person)
        if form == "coco annotations":
            wanted[..., 2] = 1
        np.testing.assert_allclose(track.h36m17().points, wanted, atol=1e-4)
    assert [track.track_id for track in tracks] == (
        [1, 2] if form in ("alphapose with ids", "alphapose by picture") else [0, 1]
    )


def test_pictures_of_mmpose_one_by_one(tmp_path: Path) -> None:
    for frame in mmpose(two_people(COUNT)):
        write(tmp_path / f"img{frame['frame_id']}.json", frame["instances"])
    tracks = read_tracks(tmp_path, **VIDEO)
    assert [track.joint_set for track in tracks] == [HALPE26.name] * 2
    np.testing.assert_allclose(tracks[0].points, two_people(COUNT)[0])


def test_points_without_confidences_are_certain_unless_they_are_at_the_origin(tmp_path: Path) -> None:
    xy = H36M[0, :, :, :2].copy()
    xy[3, 13] = 0
    (track,) = read_tracks(npy(tmp_path / "a.npy", xy), **VIDEO)
    assert track.points[3, 13].tolist() == [0, 0, 0] and track.points[4, 13, 2] == 1
    people = one()[0, :, :, :2].copy()
    people[3, 13] = 0
    entries = [{"image_id": f"{frame}.jpg", "keypoints": points.tolist()} for frame, points in enumerate(people)]
    (track,) = read_tracks(write(tmp_path / "a.json", entries), **VIDEO)
    assert track.points[3, 13].tolist() == [0, 0, 0] and track.points[4, 13, 2] == 1


def test_order_of_people_and_frames_does_not_matter(tmp_path: Path) -> None:
    entries = flat(two_people(COUNT))
    first = read_tracks(write(tmp_path / "a.json", entries))
    shuffled = [entries[i] for i in np.random.default_rng(1).permutation(len(entries))]
    second = read_tracks(write(tmp_path / "b.json", shuffled))
    for track, other in zip(first, second, strict=True):
        assert track.track_id == other.track_id
        assert np.array_equal(track.frames, other.frames) and np.array_equal(track.points, other.points)


# Values


def test_nan_becomes_unseen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    people = one()
    people[0, 4, 9, 0], people[0, 5, 9, 2] = np.nan, np.inf
    (track,) = read_tracks(write(tmp_path / "a.json", flat(people)), **VIDEO)
    assert track.points[4, 9].tolist() == track.points[5, 9].tolist() == [0, 0, 0]
    assert "2 of 1040 keypoints are NaN" in caplog.text
    entries = flat(one())
    entries[7]["keypoints"][30] = None
    (track,) = read_tracks(write(tmp_path / "b.json", entries), **VIDEO)
    assert track.points[7, 10].tolist() == [0, 0, 0]
    np.testing.assert_allclose(np.delete(track.points[7], 10, 0), np.delete(one()[0, 7], 10, 0))


def test_nothing_but_nan(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="all keypoints are NaN"):
        read_tracks(write(tmp_path / "a.json", flat(one() * np.nan)))
    with pytest.raises(UserError, match="nothing but NaN or 0"):
        read_tracks(npy(tmp_path / "a.npy", H36M * np.nan))


def test_all_confidences_zero(tmp_path: Path) -> None:
    people = one()
    people[..., 2] = 0
    with pytest.raises(UserError, match="all confidences are 0"):
        read_tracks(write(tmp_path / "a.json", flat(people)))


def test_people_of_whom_nothing_is_seen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    people = two_people(COUNT)
    people[1, 10:, :, 2] = 0
    tracks = read_tracks(write(tmp_path / "a.json", flat(people)), **VIDEO)
    assert [len(track) for track in tracks] == [COUNT, 10] and "30 people have no point" in caplog.text


def test_confidences_above_1(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    people = one()
    people[0, :, 3, 2], people[0, :, 4, 2] = 5.9, -0.2
    (track,) = read_tracks(write(tmp_path / "a.json", flat(people)))
    assert (track.points[:, 3, 2] == 1).all() and (track.points[:, 4, 2] == 0).all()
    assert "confidences go up to 5.9" in caplog.text


@pytest.mark.parametrize(("low", "text"), [(0, "between 0 and 1, not pixels"), (-1, "between -1 and 1, not pixels")])
def test_normalised_coordinates(low: float, text: str, tmp_path: Path) -> None:
    people = one()
    people[..., :2] = low + (1 - low) * people[..., :2] / SIZE
    with pytest.raises(UserError, match=text):
        read_tracks(write(tmp_path / "a.json", flat(people)))


def test_keypoints_of_a_larger_picture(tmp_path: Path) -> None:
    people = one()
    people[..., :2] *= 3
    with pytest.raises(UserError, match="most keypoints lie outside the picture of 640 x 480"):
        read_tracks(write(tmp_path / "a.json", flat(people)), frame_size=SIZE)


def test_single_points_far_outside_stay(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    people = one()
    people[0, 7, 10, 0] = 5000
    (track,) = read_tracks(write(tmp_path / "a.json", flat(people)), **VIDEO)
    assert track.points[7, 10, 0] == 5000 and "1 of 1040 keypoints lie far outside" in caplog.text


def test_exchanged_sides_are_told_and_not_swapped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    people = one()
    read_tracks(write(tmp_path / "a.json", flat(vary(people))))
    assert "exchanged" not in caplog.text
    swapped = vary(people)[:, :, list(HALPE26.flip)]
    (track,) = read_tracks(write(tmp_path / "b.json", flat(swapped)))
    assert "left and right look exchanged: 40 of 40 people who face the camera" in caplog.text
    np.testing.assert_allclose(track.points, swapped[0])


def vary(people: Floats) -> Floats:
    """People whose wrists are less certain than the rest: files with one confidence cannot tell who shows a face."""
    people = people.copy()
    people[:, :, 9:11, 2] = 0.7
    return people


def test_left_leg_first_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_tracks(npy(tmp_path / "a.npy", H36M[0][:, list(select(H36M17, H36M17_LEFT_FIRST))]))
    assert "the sides of the legs look exchanged: 40 of 40 people" in caplog.text


def test_array_in_another_order_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (track,) = read_tracks(npy(tmp_path / "a.npy", one()[0, :, :17]))
    assert track.joint_set == COCO17.name and "in the order of COCO17, not H36M17" in caplog.text


def test_a_mark_of_byte_order_is_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(flat(one())), encoding="utf-8-sig")
    assert len(read_tracks(path)) == 1


def test_a_good_file_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        read_tracks(write(tmp_path / "a.json", flat(vary(two_people(COUNT)))), **VIDEO)
    assert caplog.text == ""


READ_AND_MEASURE = """
import resource, sys
from diffhmr.inference.keypoint_files import read_tracks
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(track,) = read_tracks(sys.argv[1])
print(len(track), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted as Linux does")
def test_ten_minutes_take_little_memory(tmp_path: Path) -> None:
    """The numbers as Python objects would take ten times the file."""
    path = write(tmp_path / "a.json", flat(walk(np.arange(18_000), 50, 0.01)[None]))
    answer = subprocess.run(
        [sys.executable, "-c", READ_AND_MEASURE, str(path)], capture_output=True, text=True, check=True
    )
    count, memory = map(int, answer.stdout.split())
    assert count == 18_000 and memory < 4 * path.stat().st_size


def test_json_with_arrays_of_json_tricks(tmp_path: Path) -> None:
    """MMPose's demos write their settings as arrays of json_tricks; they are not looked at."""
    meta = {"dataset_name": "coco", "keypoint_colors": {"__ndarray__": [[1, 2, 3]], "dtype": "uint8", "shape": [1, 3]}}
    content = {"meta_info": meta, "instance_info": mmpose(one()[:, :, :17], first=1)}
    (track,) = read_tracks(write(tmp_path / "a.json", content), **VIDEO)
    assert isinstance(track, Track) and track.joint_set == COCO17.name and track.frames[0] == 0
    assert json.loads((tmp_path / "a.json").read_text())["instance_info"][0]["frame_id"] == 1
