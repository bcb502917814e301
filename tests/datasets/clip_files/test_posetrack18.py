"""Tracks of PoseTrack18: runs of frames, made-up joints, wrong files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diffhmr.datasets.clip_files.posetrack18 import MIN_FRAMES, read_posetrack18, to_h36m
from diffhmr.errors import UserError
from tests.releases.posetrack18 import write_posetrack18


def points(count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(0, 900, (count, 17, 2)), np.ones((count, 17, 1))], axis=-1)


def test_human36ms_points_of_posetracks() -> None:
    one = points(1)[0].astype(np.float32)
    made = to_h36m(one)
    xy = one[:, :2]
    np.testing.assert_allclose(made[0, :2], (xy[11] + xy[12]) / 2)  # root
    np.testing.assert_allclose(made[7, :2], (made[0, :2] + xy[1]) / 2, rtol=1e-6)  # belly, between root and neck
    np.testing.assert_array_equal(made[[1, 4, 8, 9, 10, 11, 16], :2], xy[[12, 11, 1, 0, 2, 5, 10]])
    assert (made[:, 2] == 1).all()
    one[11, 2] = 0
    made = to_h36m(one)
    assert np.flatnonzero(made[:, 2] == 0).tolist() == [0, 4, 7] and not made[[0, 4, 7]].any()


def test_a_gap_or_an_unseen_root_ends_a_run(tmp_path: Path) -> None:
    whole = points(120)
    away = {k: whole[k] for k in range(100) if k != 40}  # 0 ... 39 and 41 ... 99
    hidden = {k: whole[k].copy() for k in range(70)}
    hidden[31][12, 2] = 0  # 0 ... 30 and 32 ... 69
    boxes = {k: whole[k] if k < 35 else np.zeros(0) for k in range(60)}
    short = {k: whole[k] for k in range(MIN_FRAMES - 1)}
    faint = {k: whole[k] * (np.arange(17) % 2 == 0)[:, None] for k in range(50)}
    people = {"0": away, "3": hidden, "4": boxes, "5": short, "6": faint}
    write_posetrack18(tmp_path / "train", people, 7)
    write_posetrack18(tmp_path / "train", {"0": dict(enumerate(whole[:31]))}, 9, ids=False)
    write_posetrack18(tmp_path / "val", {"0": dict(enumerate(whole))}, 8)
    frames = read_posetrack18(tmp_path, "train")
    assert dict(zip(frames.videos.names, frames.videos.lengths.tolist(), strict=True)) == {
        "000007/0": 40, "000007/0#2": 59, "000007/3": 31, "000007/3#2": 38, "000007/4": 35, "000009_mpii_train/0": 31,
    }  # fmt: skip
    np.testing.assert_array_equal(frames.keypoints[:40], to_h36m(whole[:40].astype(np.float32)))
    assert not frames.has_depth and not frames.detected
    assert read_posetrack18(tmp_path, "val").videos.lengths.tolist() == [120]
    # A folder of files, and one file with all videos.
    assert len(read_posetrack18(tmp_path / "train", "train").videos) == 6
    parts = [json.loads(file.read_text()) for file in sorted((tmp_path / "train").glob("*.json"))][:1]
    parts.append(json.loads(next((tmp_path / "val").glob("*.json")).read_text()))
    merged = {key: [item for part in parts for item in part[key]] for key in ("images", "annotations")}
    (tmp_path / "all.json").write_text(json.dumps(merged))
    assert sorted(read_posetrack18(tmp_path / "all.json", "train").videos.lengths.tolist()) == [31, 35, 38, 40, 59, 120]


def test_joints_count_as_they_are_annotated(tmp_path: Path) -> None:
    """MotionBERT's threshold, more than 306 in 30 frames; root, neck and belly are seen in all cases."""
    whole = points(30)
    order = [11, 12, 1, 0, 2, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16]  # both hips first
    people = {}
    for number, extra in (("9", 0), ("10", 0), ("10", 6), ("10", 7), ("11", 0)):
        one = whole.copy()
        one[:, [joint for joint in range(17) if joint not in order[: int(number)]], 2] = 0
        one[:extra, order[int(number)], 2] = 1  # in so many frames one more
        people[str(len(people))] = dict(enumerate(one))
        assert to_h36m(one)[:, [0, 7], 2].all()
    ears = whole.copy()
    ears[:, order[9:], 2] = 0
    people["5"] = dict(enumerate(ears))  # 9, and the ears
    write_posetrack18(tmp_path / "train", people, 1)
    assert list(read_posetrack18(tmp_path, "train").videos.names) == ["000001/3", "000001/4"]


def test_wrong_annotations_get_a_line(tmp_path: Path) -> None:
    def fails(words: str, split: str = "train") -> None:
        with pytest.raises(UserError, match=words) as caught:
            read_posetrack18(tmp_path, split)
        assert "\n" not in str(caught.value)

    fails("not found")
    path = write_posetrack18(tmp_path / "train", {"0": dict(enumerate(points(31)))}, 1)
    fails("not found", "test")
    good = json.loads(path.read_text())
    for key, value, words in (
        ("keypoints", [1.0, 2.0], "no annotations of PoseTrack18"),
        ("keypoints", [float("nan")] * 51, "not finite"),
        ("image_id", 5, "no 5"),
        ("track_id", None, "no annotations of PoseTrack18"),
    ):
        bad = json.loads(json.dumps(good))
        bad["annotations"][3][key] = value
        path.write_text(json.dumps(bad))
        fails(words)
    del good["annotations"][4]["track_id"]
    path.write_text(json.dumps(good))
    fails("no 'track_id'")
    for text in ("[]", "{}", "{", ""):
        path.write_text(text)
        fails("annotations of PoseTrack18")
    write_posetrack18(tmp_path / "train", {"0": dict(enumerate(points(12)))}, 1)
    fails("nobody is seen in 30 frames")
