"""Clips for pretraining and 3D poses: units, kinds of files, whole videos."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffhmr.body.joints import H36M17
from diffhmr.clip_batch import LiftingBatch
from diffhmr.config_clips import ClipSourceConfig
from diffhmr.datasets.clip_files.lifting_clips import LiftingClips, lifting_sequences
from diffhmr.errors import UserError
from tests.datasets.clip_files.samples import settings, source
from tests.releases.motionbert import (
    CAMERAS,
    HEIGHTS,
    TrueFrames,
    dump,
    h36m_sh_frames,
    write_instavariety,
    write_motion3d,
    write_splits,
)
from tests.releases.posetrack18 import write_posetrack18

TRAIN = {"s_01_act_02_subact_01_ca_01": 30, "s_01_act_02_subact_01_ca_03": 12}
TEST = {"s_09_act_02_subact_01_ca_02": 25, "s_09_act_03_subact_01_ca_04": 40, "s_11_act_02_subact_02_ca_01": 7}


@pytest.fixture(scope="module")
def h36m(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrueFrames, TrueFrames]:
    rng = np.random.default_rng(0)
    train, test = h36m_sh_frames(TRAIN, rng, test=False), h36m_sh_frames(TEST, rng, test=True)
    path = tmp_path_factory.mktemp("h36m") / "h36m_sh_conf_cam_source_final.pkl"
    write_splits(path, train, test)
    return path, train, test


def fields_of(batch: LiftingBatch) -> dict[str, torch.Tensor]:
    return {name: value for name, value in vars(batch).items() if value is not None}


def test_human36m_in_motionbert_units(h36m: tuple[Path, TrueFrames, TrueFrames]) -> None:
    path, _, test = h36m
    found = list(lifting_sequences(source(path, "h36m_sh", "test")))
    assert [one.name for one in found] == list(TEST)
    assert [one.action for one in found] == ["act_02", "act_03", "act_02"]
    assert [one.camera for one in found] == [CAMERAS[name[-2:]] for name in TEST]
    assert [one.batch.keypoints.shape[1] for one in found] == list(TEST.values())
    start = 0
    for one in found:
        rows = slice(start, start := start + one.batch.keypoints.shape[1])
        height = HEIGHTS[str(one.camera)]
        image = test.arrays["joint3d_image"][rows]
        x = image[..., 0] / 1000 * 2 - 1
        y = image[..., 1] / 1000 * 2 - height / 1000
        expected = np.stack([x, y, image[..., 2] / 1000 * 2], axis=-1)
        np.testing.assert_allclose(one.batch.positions[0], expected, atol=1e-5)
        np.testing.assert_allclose(
            one.batch.keypoints[0, ..., 0], test.arrays["joint_2d"][rows, :, 0] / 500 - 1, atol=1e-5
        )
        np.testing.assert_allclose(one.batch.keypoints[0, ..., 2], test.arrays["confidence"][rows], atol=1e-6)
        # MotionBERT's error: pixels times the factor against joints_2.5d_image.
        assert one.batch.mm_per_unit is not None and bool(one.batch.has_depth.all())
        mm = one.batch.positions[0].double() * one.batch.mm_per_unit[0, :, None, None].double()
        truth = test.arrays["joints_2.5d_image"][rows]
        np.testing.assert_allclose(mm - mm[:, :1], truth - truth[:, :1], atol=1e-2)


def test_the_truth_in_millimetres_comes_first(tmp_path: Path) -> None:
    frames = h36m_sh_frames(TEST, np.random.default_rng(1), test=True)
    frames.arrays["joints_2.5d_image"] = frames.arrays["joints_2.5d_image"] * 1.1 + 7
    write_splits(tmp_path / "f.pkl", frames, frames)
    one = next(lifting_sequences(source(tmp_path / "f.pkl", "h36m_sh", "test"))).batch
    assert one.mm_per_unit is not None
    mm = one.positions[0] * one.mm_per_unit[0, :, None, None]
    truth = frames.arrays["joints_2.5d_image"][:25]
    np.testing.assert_allclose(mm - mm[:, :1], truth - truth[:, :1], atol=1e-2)
    np.testing.assert_allclose(
        one.positions[0, :, 0, 0], frames.arrays["joint3d_image"][:25, 0, 0] / 500 - 1, atol=1e-5
    )


@pytest.fixture(scope="module")
def mixed(
    tmp_path_factory: pytest.TempPathFactory, h36m: tuple[Path, TrueFrames, TrueFrames]
) -> dict[str, ClipSourceConfig]:
    folder = tmp_path_factory.mktemp("mixed")
    rng = np.random.default_rng(3)
    write_motion3d(folder / "AMASS" / "train", 3, 30, rng, detected=False)
    write_motion3d(folder / "H36M-SH" / "train", 2, 30, rng, detected=True)
    write_instavariety(folder / "InstaVariety", [40, 22], rng)
    points = np.concatenate([rng.uniform(0, 500, (33, 17, 2)), np.ones((33, 17, 1))], axis=-1)
    write_posetrack18(folder / "posetrack" / "train", {"0": dict(enumerate(points))}, 1)
    return {
        "amass": source(folder / "AMASS", "motion3d", name="amass", ground_truth_2d=True),
        "clips": source(folder / "H36M-SH", "motion3d", name="clips"),
        "insta": source(folder / "InstaVariety", "instavariety", name="insta"),
        "posetrack": source(folder / "posetrack", "posetrack18", name="posetrack"),
        "h36m": source(h36m[0], "h36m_sh", name="h36m"),
    }


def test_a_batch_is_its_items_one_by_one(mixed: dict[str, ClipSourceConfig]) -> None:
    config = settings(*mixed.values(), flip=0.5, frames=20, stride=7)
    indices = [0, 9, 8, 123_456, 3, 4, 5, 17, 90]
    clips = LiftingClips(config, "train", "pretrain")
    whole = clips.__getitems__(indices)
    assert len(set(whole.has_depth.tolist())) == 2 and whole.mm_per_unit is None
    for place, index in enumerate(indices):
        for name, value in fields_of(LiftingClips(config, "train", "pretrain")[index]).items():
            assert torch.equal(value[0], fields_of(whole)[name][place]), name
    detected = clips.detected(indices)
    assert [bool(clips.detected([index])[0]) for index in indices] == detected.tolist()


def test_what_pretraining_sees(mixed: dict[str, ClipSourceConfig]) -> None:
    config = settings(*mixed.values(), flip=0.5, frames=20, seed=2)
    clips = LiftingClips(config, "train", "pretrain")
    assert clips.flat == (False, False, True, True, False)
    batch, detected = clips.__getitems__(range(200)), clips.detected(range(200))
    deep = batch.has_depth
    assert torch.equal(batch.keypoints[deep][..., :2], batch.positions[deep][..., :2])
    assert bool((batch.keypoints[deep][..., 2] == 1).all()) and bool((batch.weight[deep] == 1).all())
    assert not detected[deep.numpy()].any()
    flat = ~deep
    assert torch.equal(batch.weight[flat], batch.keypoints[flat][..., 2])
    assert bool((batch.positions[flat][..., 2] == 0).all())
    unseen = batch.weight == 0
    assert bool((batch.keypoints[unseen] == 0).all()) and int(unseen.sum()) > 0
    # InstaVariety has no belly and no head; its points are a detector's.
    insta = torch.from_numpy(detected)
    assert bool((batch.weight[insta][..., [7, 10]] == 0).all()) and bool((batch.weight[flat & ~insta] == 1).all())
    # The longer side of the square around a person is a random share of the picture, from a quarter on.
    shares = torch.cat([one[one[..., 2] > 0][:, :2].abs().amax()[None] for one in batch.keypoints[flat]])
    assert 0.25 <= float(shares.min()) < 0.4 and 0.85 < float(shares.max()) <= 1
    # As evaluated: of 3D clips what a detector saw, without mirrors.
    same = LiftingClips(config, "train", "pose3d", only="depth").__getitems__(range(50))
    assert not torch.equal(same.keypoints[..., :2], same.positions[..., :2])


def test_3d_poses_are_estimated_from_detections_unless_the_source_says_otherwise(
    mixed: dict[str, ClipSourceConfig],
) -> None:
    """MotionBERT stops at clips without detections; with gt_2d it takes the truth's x and y, whatever was detected."""
    plain = mixed["amass"].model_copy(update={"ground_truth_2d": False})
    config = settings(plain, validation=plain, frames=20)
    for split in ("train", "val", "test"):
        with pytest.raises(UserError, match=r"amass: \S*0.pkl has no detections .*set ground_truth_2d: true") as caught:
            LiftingClips(config, split, "pose3d")  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
        LiftingClips(config, split, "pretrain").__getitems__([0])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="has no detections"):
        next(lifting_sequences(plain))
    for name in ("amass", "clips"):
        given = mixed[name].model_copy(update={"ground_truth_2d": True})
        for split in ("train", "val"):
            clips = LiftingClips(settings(given, validation=given, frames=20), split, "pose3d")  # type: ignore[arg-type]
            batch = clips.__getitems__(range(4))
            assert torch.equal(batch.keypoints[..., :2], batch.positions[..., :2])
            assert bool((batch.keypoints[..., 2] == 1).all())
    seen = LiftingClips(settings(mixed["clips"], frames=20), "train", "pose3d").__getitems__(range(4))
    torch.testing.assert_close(seen.keypoints[..., :2], seen.positions[..., :2] + 0.01)
    assert bool((seen.keypoints[..., 2] == 0.5).all())


def test_a_later_clip_without_detections_is_named_too(tmp_path: Path) -> None:
    write_motion3d(tmp_path / "train", 3, 20, np.random.default_rng(0), detected=True)
    dump({"data_input": None, "data_label": np.zeros((20, 17, 3))}, tmp_path / "train" / "00000002.pkl")
    clips = LiftingClips(settings(source(tmp_path, "motion3d"), frames=20), "train", "pose3d")
    with pytest.raises(UserError, match=r"00000002\.pkl has no detections"):
        clips.__getitems__(range(20))


def test_only_some_kinds_of_files(mixed: dict[str, ClipSourceConfig]) -> None:
    weighted = [
        one.model_copy(update={"weight": weight})
        for one, weight in zip(mixed.values(), (0.3, 0.1, 0.2, 0.3, 0.1), strict=True)
    ]
    config = settings(*weighted, frames=20)
    flat = LiftingClips(config, "train", "pretrain", only="flat")
    assert not bool(flat.__getitems__(range(300)).has_depth.any())
    assert abs(float(flat.detected(range(3000)).mean()) - 0.4) < 0.03
    assert bool(LiftingClips(config, "train", "pretrain", only="depth").__getitems__(range(300)).has_depth.all())
    for only, left, words in (("flat", "h36m", "without depths"), ("depth", "insta", "with depths")):
        with pytest.raises(UserError, match=f"no file {words} among {left}"):
            LiftingClips(settings(mixed[left], frames=20), "train", "pretrain", only=only)  # type: ignore[arg-type]


def test_mirrored_clips(mixed: dict[str, ClipSourceConfig]) -> None:
    plain, flipped = (
        LiftingClips(settings(*mixed.values(), flip=share, frames=20), "train", "pose3d").__getitems__(range(60))
        for share in (0.0, 1.0)
    )
    sign = torch.tensor([-1.0, 1, 1])
    for name in ("keypoints", "positions"):
        expected = getattr(plain, name)[..., list(H36M17.flip), :] * sign
        torch.testing.assert_close(getattr(flipped, name), expected)
    torch.testing.assert_close(flipped.weight, plain.weight[..., list(H36M17.flip)])


def test_clips_of_files_are_cut_within_each(mixed: dict[str, ClipSourceConfig]) -> None:
    whole = [one.batch.positions[0] for one in lifting_sequences(mixed["amass"])]
    assert [len(one) for one in whole] == [30, 30, 30]
    config = settings(mixed["amass"], validation=mixed["amass"], frames=20, val_items=100)
    clips = LiftingClips(config, "val", "pretrain")
    assert len(clips) == 6  # 0 ... 19 and 10 ... 29 of each file
    batch = clips.__getitems__(range(6))
    for number in range(6):
        start = 10 * (number % 2)
        torch.testing.assert_close(batch.positions[number], whole[number // 2][start : start + 20])
    assert len(LiftingClips(config.model_copy(update={"val_items": 4}), "val", "pretrain")) == 4


def test_clips_of_instavariety_begin_with_a_root(tmp_path: Path) -> None:
    points = write_instavariety(tmp_path, [60], np.random.default_rng(0))
    points[20, 0] = 0
    np.save(tmp_path / "motion_all.npy", points)
    config = settings(source(tmp_path, "instavariety"), frames=20, stride=10)
    batch = LiftingClips(config, "train", "pretrain").__getitems__(range(40))
    firsts = {round(float(value), 4) for value in batch.weight[:, 0, 0]}
    assert firsts == {round(float(np.float32(points[k, 0, 2])), 4) for k in (0, 10, 30, 40)}


def changed(path: Path, split: str, **changes: Any) -> Path:
    content = pickle.loads(path.read_bytes())
    content[split] = {k: v for k, v in (content[split] | changes).items() if v is not None}
    dump(content, path.parent / "bad" / "file.pkl")
    return path.parent / "bad" / "file.pkl"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"joint_2d": None}, "has no joint_2d"),
        ({"joint3d_image": np.zeros((72, 17, 2))}, "joint3d_image has shape"),
        ({"camera_name": None}, "has no camera_name"),
        ({"camera_name": ["5"] * 72}, "is '5', which is none"),
        ({"2.5d_factor": np.zeros(72)}, "not positive"),
        ({"2.5d_factor": np.full(72, np.inf)}, "not finite"),
        ({"action": ["a"]}, "action has 1 frames, others have 72"),
        ({"confidence": np.zeros((72, 16))}, "confidence has shape"),
    ],
)
def test_wrong_files_of_human36m(
    h36m: tuple[Path, TrueFrames, TrueFrames], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(UserError, match=words) as caught:
        next(lifting_sequences(source(changed(h36m[0], "test", **changes), "h36m_sh", "test")))
    assert "\n" not in str(caught.value)


def test_a_file_without_confidences_is_sure(h36m: tuple[Path, TrueFrames, TrueFrames]) -> None:
    one = next(lifting_sequences(source(changed(h36m[0], "test", confidence=None), "h36m_sh", "test")))
    assert bool((one.batch.keypoints[..., 2] == 1).all())


def test_wrong_folders_of_clips(tmp_path: Path) -> None:
    def fails(words: str, split: str = "train") -> None:
        with pytest.raises(UserError, match=words) as caught:
            config = settings(source(tmp_path, "motion3d", split), frames=20)
            LiftingClips(config, "train", "pretrain").__getitems__(range(20))
        assert "\n" not in str(caught.value)

    fails("not found")
    (tmp_path / "train").mkdir()
    fails(r"there is train\)", "test")
    fails("has no clips")
    write_motion3d(tmp_path / "train", 2, 30, np.random.default_rng(0), detected=False)
    dump({"data_input": None, "data_label": np.zeros((29, 17, 3))}, tmp_path / "train" / "00000002.pkl")
    fails("00000002.pkl has 29 frames, but 00000000.pkl beside it 30")
    dump(
        {"data_input": np.zeros((30, 17, 2)), "data_label": np.zeros((30, 17, 3))}, tmp_path / "train" / "00000002.pkl"
    )
    fails("data_input has shape")
    dump({"data_input": None}, tmp_path / "train" / "00000002.pkl")
    fails("has no data_label")
    (tmp_path / "train" / "00000000.pkl").write_bytes(b"")
    fails("is empty")


def test_wrong_arrays_of_instavariety(tmp_path: Path) -> None:
    def fails(words: str, split: str = "train") -> None:
        with pytest.raises(UserError, match=words) as caught:
            LiftingClips(settings(source(tmp_path, "instavariety", split), frames=20), "train", "pretrain")
        assert "\n" not in str(caught.value)

    fails("not found")
    points = write_instavariety(tmp_path, [30], np.random.default_rng(0))
    fails("the split train only", "test")
    np.save(tmp_path / "id_all.npy", np.zeros(29))
    fails("id_all has 29 frames, others have 30")
    np.save(tmp_path / "id_all.npy", np.zeros(30))
    np.save(tmp_path / "motion_all.npy", np.full_like(points, np.nan))
    fails("not finite")
    np.save(tmp_path / "motion_all.npy", points * 0)
    fails("has no usable clip")
    np.save(tmp_path / "motion_all.npy", np.array([{}] * 30), allow_pickle=True)
    fails("no readable array")
