"""Recordings of actions: places in the picture, identities, resampling, splits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffhmr.body.joints import H36M17
from diffhmr.config_clips import ClipDataConfig
from diffhmr.datasets.clip_files.action_clips import ActionClips, follow, resampled, two_people
from diffhmr.datasets.clip_files.pyskl import read_pyskl
from diffhmr.errors import UserError
from tests.datasets.clip_files.samples import settings, source
from tests.releases.motionbert import dump
from tests.releases.pyskl import ntu60, recording


@pytest.fixture(scope="module")
def ntu(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    content = ntu60(np.random.default_rng(0))
    path = tmp_path_factory.mktemp("ntu") / "ntu60_hrnet.pkl"
    dump(content, path)
    return path, content


def data(path: Path, split: str = "xsub_train", **changes: Any) -> ClipDataConfig:
    return settings(source(path, "pyskl", split), validation=source(path, "pyskl", "xview_val", name="v"), **changes)


def test_every_split_has_its_recordings(ntu: tuple[Path, dict[str, Any]]) -> None:
    path, content = ntu
    of_name = {one["frame_dir"]: one for one in content["annotations"]}
    for split, names in content["split"].items():
        clips = read_pyskl(path, split)
        assert sorted(clip.name for clip in clips) == sorted(names)
        assert [clip.label for clip in clips] == [of_name[clip.name]["label"] for clip in clips]
        assert [clip.frames for clip in clips] == [of_name[clip.name]["total_frames"] for clip in clips]
    assert clips[0].size == (1920, 1080)


def test_a_point_at_a_known_pixel_gets_the_known_coordinate(tmp_path: Path) -> None:
    one = recording("S001C001P001R001A001", 4, 9, np.random.default_rng(0))
    one["keypoint"][0, :, 9] = (960, 540)
    one["keypoint"][0, :, 10] = (1920, 0)
    one["keypoint"][0, :, 11], one["keypoint"][0, :, 12] = (1000, 600), (1100, 700)
    one["keypoint_score"][0, :, 11], one["keypoint_score"][0, :, 12] = 0.25, 0.5
    one["keypoint_score"][0, :, 15] = 0
    dump({"split": {"all": [one["frame_dir"]]}, "annotations": [one]}, tmp_path / "f.pkl")
    points = two_people(read_pyskl(tmp_path / "f.pkl", "all")[0])
    assert points.shape == (2, 9, 17, 3) and points.dtype == np.float32 and not points[1].any()
    np.testing.assert_allclose(points[0, 0, 13, :2], (0, 0), atol=1e-6)  # left wrist
    np.testing.assert_allclose(points[0, 0, 16, :2], (16 / 9, -1), atol=1e-6)  # right wrist
    np.testing.assert_allclose(points[0, 0, 0], (90 / 540, 110 / 540, 0.25), atol=1e-6)  # between the hips
    assert not points[0, :, 6].any()  # the left ankle is not seen


def test_scores_in_the_order_of_coco(tmp_path: Path) -> None:
    """As MotionBERT's official weights know them: score k is that of COCO's point k, wherever the points go."""
    one = recording("S001C001P001R001A001", 4, 9, np.random.default_rng(0), people=2)
    one["keypoint"][:] = one["keypoint"][:, :1]  # both stand still, and stay who they are
    one["keypoint_score"][0, 2, 3] = 0  # the left ear; point 3 of Human3.6M is the right ankle
    one["keypoint"][1, 5:], one["keypoint_score"][1, 5:] = 0, 0  # the second has left
    dump({"split": {"all": [one["frame_dir"]]}, "annotations": [one]}, tmp_path / "f.pkl")
    clip = read_pyskl(tmp_path / "f.pkl", "all")[0]
    points, own = two_people(clip, coco_scores=True), two_people(clip)
    np.testing.assert_array_equal(points[..., :2], own[..., :2])
    np.testing.assert_allclose(points[..., 2], one["keypoint_score"], atol=1e-5)
    assert 0 < points[0, 2, 3, 2] < 1e-5, "a point that is there stays there"
    assert not points[1, 5:].any()
    np.testing.assert_allclose(own[0, 2, 3, 2], one["keypoint_score"][0, 2, 16])
    # A recording alone brings nobody else.
    alone = replace(clip, points=clip.points[:1], scores=clip.scores[:1])
    assert not two_people(alone, coco_scores=True)[1].any()


def test_two_people_keep_their_identity() -> None:
    rng = np.random.default_rng(0)
    walk = np.linspace(0, 0.3, 40)[:, None, None]
    left, right = (rng.normal(place, 0.05, (1, 17, 3)) + walk for place in (-0.5, 0.5))
    truth = np.stack([left, right]).astype(np.float32)
    truth[..., 2] = 0.9
    shuffled = truth.copy()
    for begin, end in ((7, 12), (20, 21), (33, 40)):
        shuffled[:, begin:end] = truth[::-1, begin:end]
    np.testing.assert_array_equal(follow(shuffled), truth)
    np.testing.assert_array_equal(follow(follow(shuffled)), truth)
    # Somebody who is missing decides nothing.
    alone = truth.copy()
    alone[1, 10:15] = 0
    np.testing.assert_array_equal(follow(alone), alone)


def test_resampling() -> None:
    np.testing.assert_array_equal(resampled(10, 5), [0, 2, 4, 6, 8])
    np.testing.assert_array_equal(resampled(3, 6), [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(resampled(1, 4), [0, 0, 0, 0])
    rng = np.random.default_rng(0)
    for length in (1, 7, 30, 31, 200):
        drawn = np.stack([resampled(length, 30, rng.uniform(size=30)) for _ in range(300)])
        assert drawn.min() == 0 and drawn.max() == length - 1 and (np.diff(drawn, axis=1) >= 0).all()
        if length >= 30:  # one frame of each of 30 equal parts
            assert (np.floor(drawn * 30 / length + 1e-9).astype(int) >= np.arange(30) - 1).all()
            assert (drawn <= np.ceil((np.arange(30) + 1) * length / 30)).all()
            assert len(np.unique(drawn)) == length


def test_a_batch_is_its_items_one_by_one(ntu: tuple[Path, dict[str, Any]]) -> None:
    config = data(ntu[0], flip=0.5, frames=24)
    clips = ActionClips(config, "train")
    indices = [5, 0, 17, 3, 1, 2]
    whole = clips.__getitems__(indices)
    assert whole.keypoints.shape == (6, 2, 24, 17, 3) and clips.num_classes == 2
    for place, index in enumerate(indices):
        one = ActionClips(config, "train")[index]
        assert torch.equal(one.keypoints[0], whole.keypoints[place]) and one.label[0] == whole.label[place]
        assert one.item_seed[0] == whole.item_seed[place]
    plain = ActionClips(data(ntu[0], flip=0.0, frames=24), "train").__getitems__(indices)
    mirrored = ActionClips(data(ntu[0], flip=1.0, frames=24), "train").__getitems__(indices)
    expected = plain.keypoints[..., list(H36M17.flip), :] * torch.tensor([-1.0, 1, 1])
    torch.testing.assert_close(mirrored.keypoints, expected)


def test_training_in_pairs_of_a_class(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [tmp_path / "a.pkl", tmp_path / "b.pkl"]
    for path, labels in zip(paths, ([0, 0, 0, 4, 7], [4, 7, 7, 7, 7]), strict=True):
        names = [f"{path.stem}{k}" for k in range(len(labels))]
        annotations = [recording(*one, 5, rng) for one in zip(names, labels, strict=True)]
        dump({"split": {"all": names}, "annotations": annotations}, path)
    config = settings(*(source(path, "pyskl", "all", name=path.stem) for path in paths), frames=6, flip=0.5)
    clips = ActionClips(config, "train", in_pairs=True)
    assert len(clips) == config.train_items and clips.num_classes == 8
    whole = clips.__getitems__(range(48))
    pairs = whole.label.reshape(-1, 2)
    assert torch.equal(pairs[:, 0], pairs[:, 1])
    assert torch.equal(pairs[:, 0].reshape(-1, 3).sort(dim=1).values, torch.tensor([[0, 4, 7]]).expand(8, 3))
    for indices in ([7, 2], range(10, 20), [47, 46, 0]):
        part = ActionClips(config, "train", in_pairs=True).__getitems__(indices)
        assert torch.equal(part.keypoints, whole.keypoints[list(indices)])
        assert torch.equal(part.label, whole.label[list(indices)])


def test_validation_is_evenly_sampled_and_each_recording_comes_once(ntu: tuple[Path, dict[str, Any]]) -> None:
    path, _ = ntu
    clips = ActionClips(data(path, flip=1.0, frames=12), "val")
    assert len(clips) == 2
    batch = clips.__getitems__([0, 1])
    recorded = read_pyskl(path, "xview_val")
    for clip, points, label in zip(recorded, batch.keypoints, batch.label, strict=True):
        np.testing.assert_array_equal(points, two_people(clip)[:, resampled(clip.frames, 12)])
        assert int(label) == clip.label


def test_splits_of_the_one_shot_protocol(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    new = {0: 1, 6: 1, 60: 18, 114: 18}
    names = [f"S{setup:03d}C003P008R001A{label + 1:03d}" for label, setup in new.items()]
    names += [f"S002C001P003R002A{label + 1:03d}" for label in (0, 1, 5, 60, 61, 119)]
    annotations = [recording(name, int(name[-3:]) - 1, 3, rng) for name in names]
    dump({"split": {"xset_val": names[:2]}, "annotations": annotations}, tmp_path / "ntu120.pkl")
    base, anchors, queries = (
        {clip.name[:4] + clip.name[-4:]: clip.label for clip in read_pyskl(tmp_path / "ntu120.pkl", split)}
        for split in ("oneshot_base", "oneshot_train", "oneshot_val")
    )
    assert base == {"S002A002": 0, "S002A006": 4, "S002A062": 50, "S002A120": 99}
    assert anchors == {"S001A001": 0, "S001A007": 6, "S018A061": 60, "S018A115": 114}
    assert queries == {"S002A001": 0, "S002A061": 60}
    # A split of the file comes first.
    dump({"split": {"oneshot_val": names[:3]}, "annotations": annotations}, tmp_path / "ntu120.pkl")
    assert len(read_pyskl(tmp_path / "ntu120.pkl", "oneshot_val")) == 3


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("keypoint", None, "has no keypoint"),
        ("keypoint_score", None, "has no keypoint_score"),
        ("label", "x", "cannot be read"),
        ("label", -1, "label -1"),
        ("img_shape", (0, 1920), "pictures of 1920 x 0"),
        ("img_shape", (1080,), "cannot be read"),
        ("keypoint", np.zeros((1, 20, 25, 3)), "2D keypoints of COCO"),
        ("keypoint_score", np.zeros((1, 19, 17)), "expected"),
        ("keypoint", np.zeros((1, 0, 17, 2)), "expected"),
    ],
)
def test_wrong_annotations_get_a_line(tmp_path: Path, key: str, value: Any, words: str) -> None:
    content = ntu60(np.random.default_rng(0))
    content["annotations"][1][key] = value
    content["annotations"][1] = {k: v for k, v in content["annotations"][1].items() if v is not None}
    dump(content, tmp_path / "bad.pkl")
    with pytest.raises(UserError, match=words) as caught:
        ActionClips(data(tmp_path / "bad.pkl"), "train")
    assert "\n" not in str(caught.value) and "annotation 1" in str(caught.value)


def test_wrong_files_get_a_line(ntu: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    def fails(words: str, content: Any = None, split: str = "xsub_train") -> None:
        path = ntu[0]
        if content is not None:
            path = tmp_path / "bad.pkl"
            dump(content, path)
        with pytest.raises(UserError, match=words) as caught:
            ActionClips(data(path, split, frames=4), "train").__getitems__(range(8))
        assert "\n" not in str(caught.value)

    fails(r"no split 'xset_val' \(there is xsub_train, xsub_val", split="xset_val")
    fails("takes the file of NTU RGB[+]D 120", split="oneshot_val")
    fails("no split and annotations", {"annotations": []})
    fails(
        "no annotation belongs",
        {"split": {"xsub_train": ["x"]}, "annotations": ntu60(np.random.default_rng(0))["annotations"]},
    )
    content = ntu60(np.random.default_rng(0))
    content["annotations"][0]["keypoint"][0, 3] = np.nan
    fails("not finite", content)
