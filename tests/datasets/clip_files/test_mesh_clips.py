"""Clips with SMPL parameters: known pixels, batches, mirrors, mixtures, whole videos."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffhmr.body.joints import H36M17, SMPL24
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.clip_batch import ClipBatch
from diffhmr.datasets import build_clip_dataset
from diffhmr.datasets.clip_files.mesh_clips import MeshClips, mesh_sequences
from diffhmr.datasets.clip_files.mesh_det import read_mesh_det
from diffhmr.datasets.clips import SyntheticClips
from diffhmr.errors import UserError
from diffhmr.geometry.rotation import axis_angle_to_matrix
from tests.datasets.clip_files.samples import settings, source
from tests.releases.motionbert import HEIGHTS, TrueFrames, mesh_frames, write_splits

H36M = {"s_01_act_02_ca_01": 21, "s_01_act_02_ca_02": 9, "s_01_act_03_ca_04": 40}
PW3D = {"courtyard_golf_00_0": 33, "courtyard_golf_00_1": 16, "downtown_walk_01_0": 5}
COCO = {f"{k:012d}": 1 for k in range(11)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, TrueFrames]]:
    folder = tmp_path_factory.mktemp("mesh")
    rng = np.random.default_rng(0)
    truth = {
        "h36m": mesh_frames(H36M, rng, cameras=True),
        "pw3d": mesh_frames(PW3D, rng),
        "coco": mesh_frames(COCO, rng, sizes=True),
        "refine": mesh_frames(PW3D, rng, refine=True),
    }
    for name, frames in truth.items():
        write_splits(folder / f"mesh_det_{name}.pkl", frames, frames, protocol=2 if name == "pw3d" else 4)
    return folder, truth


def tensors(value: Any, name: str = "") -> dict[str, Tensor]:
    """All tensors of a batch by their names."""
    if isinstance(value, Tensor):
        return {name: value}
    if isinstance(value, SmplParams):
        return {f"{name}.rotations": value.rotations, f"{name}.betas": value.betas}
    if value is None:
        return {}
    found: dict[str, Tensor] = {}
    for field in fields(value):
        found |= tensors(getattr(value, field.name), f"{name}.{field.name}")
    return found


def test_a_point_at_a_known_pixel_gets_the_known_coordinate(tmp_path: Path) -> None:
    frames = mesh_frames({"v_ca_01": 4}, np.random.default_rng(0))
    frames.arrays["joint_2d"][:, :4] = [(960, 540), (0, 0), (1920, 1080), (1500, 300)]
    path = tmp_path / "x.pkl"
    # Landscape and portrait, from img_hw: the middle of the picture is 0, its shorter side is 2.
    frames.arrays["img_hw"] = np.array([(1080, 1920), (1080, 1920), (1920, 1080), (1000, 1000)])
    write_splits(path, frames, frames)
    points = read_mesh_det(path, "test").keypoints[..., :2]
    np.testing.assert_allclose(points[0, :4], [(0, 0), (-16 / 9, -1), (16 / 9, 1), (1, -240 / 540)], atol=1e-6)
    np.testing.assert_allclose(points[2, 0], [(960 - 540) / 540, (540 - 960) / 540], atol=1e-6)
    np.testing.assert_allclose(points[3, 1], [-1, -1], atol=1e-6)
    # MotionBERT's x / 1920 * 2 - 1 and y / 1920 * 2 - 1, whatever the shape.
    points = read_mesh_det(path, "test", resolution=1920).keypoints[..., :2]
    np.testing.assert_allclose(points, frames.arrays["joint_2d"] / 1920 * 2 - 1, atol=1e-6)
    # Human3.6M: y / 1000 * 2 - height / 1000.
    del frames.arrays["img_hw"]
    cameras = list(HEIGHTS)
    frames.arrays["camera_name"] = np.array(cameras)
    write_splits(path, frames, frames)
    read = read_mesh_det(path, "test")
    heights = np.array([HEIGHTS[name] for name in cameras])
    expected = frames.arrays["joint_2d"] / 1000 * 2 - np.stack([np.ones(4), heights / 1000], axis=-1)[:, None]
    np.testing.assert_allclose(read.keypoints[..., :2], expected, atol=1e-6)
    assert read.fps == 50
    np.testing.assert_array_equal(
        read.keypoints[..., 2], frames.arrays["confidence"][..., 0].clip(0, 1).astype(np.float32)
    )


def test_clips_hold_what_the_file_says(files: tuple[Path, dict[str, TrueFrames]]) -> None:
    folder, truth = files
    arrays = truth["pw3d"].arrays
    clips = MeshClips(
        settings(
            source(folder / "mesh_det_h36m.pkl", "mesh_det"),
            validation=source(folder / "mesh_det_pw3d.pkl", "mesh_det", "test", resolution=1920),
            frames=16, val_items=4,
        ),
        "val",
    )  # fmt: skip
    assert len(clips) == 4  # of 3 + 1 + 1
    batch = clips.__getitems__([0, 1, 2, 3])
    assert len(batch) == 4 and batch.num_frames == 16
    np.testing.assert_array_equal(batch.fps, [30.0] * 4)
    expected = axis_angle_to_matrix(torch.from_numpy(arrays["smpl_pose"][16:32]).double().unflatten(-1, (24, 3)))
    assert batch.targets is not None and batch.targets.gender is None and batch.initial is None
    torch.testing.assert_close(batch.targets.rotations[1], expected.float())
    np.testing.assert_allclose(batch.targets.betas[1], arrays["smpl_shape"][16], atol=1e-6)
    np.testing.assert_allclose(batch.keypoints[1, ..., :2], arrays["joint_2d"][16:32] / 1920 * 2 - 1, atol=1e-6)
    with pytest.raises(IndexError):
        clips.__getitems__([4])


def test_a_batch_is_its_items_one_by_one_whatever_the_order(files: tuple[Path, dict[str, TrueFrames]]) -> None:
    folder, _ = files
    config = settings(
        source(folder / "mesh_det_h36m.pkl", "mesh_det", weight=0.3),
        source(folder / "mesh_det_pw3d.pkl", "mesh_det", name="b", resolution=1920),
        source(folder / "mesh_det_coco.pkl", "mesh_det", name="c"),
        flip=0.5, frames=16, stride=8, seed=5,
    )  # fmt: skip
    clips = MeshClips(config, "train")
    assert len(clips) == config.train_items
    indices = [3, 2**31 - 1, 0, 77, 12_345, 8]
    whole = tensors(clips.__getitems__(indices))
    for place, index in enumerate(indices):
        for name, value in tensors(MeshClips(config, "train")[index]).items():
            assert torch.equal(value[0], whole[name][place]), name
    assert torch.equal(whole[".fps"].unique(), torch.tensor([30.0, 50.0]))
    other = tensors(MeshClips(config.model_copy(update={"seed": 6}), "train").__getitems__(indices))
    assert not torch.equal(other[".keypoints"], whole[".keypoints"])


def test_shares_and_single_pictures(files: tuple[Path, dict[str, TrueFrames]]) -> None:
    folder, _ = files
    config = settings(
        source(folder / "mesh_det_h36m.pkl", "mesh_det", weight=0.25),
        source(folder / "mesh_det_coco.pkl", "mesh_det", name="c", weight=0.75),
        frames=8, flip=0.0,
    )  # fmt: skip
    batch = MeshClips(config, "train").__getitems__(range(2000))
    of_coco = batch.fps == 30
    assert abs(float(of_coco.float().mean()) - 0.75) < 0.03
    still = batch.keypoints[of_coco]
    assert torch.equal(still, still[:, :1].expand_as(still))
    assert len(torch.unique(still[:, 0].flatten(1), dim=0)) == len(COCO)


def test_mirrored_clips_are_what_a_mirror_shows(files: tuple[Path, dict[str, TrueFrames]], toy_body: BodyModel) -> None:
    folder, _ = files
    path = source(folder / "mesh_det_refine.pkl", "mesh_det", resolution=1920)
    plain, flipped = (MeshClips(settings(path, flip=share, frames=8), "train") for share in (0.0, 1.0))
    a, b = plain.__getitems__([0, 1]), flipped.__getitems__([0, 1])
    assert a.targets and b.targets and a.initial and b.initial
    sign = torch.tensor([-1.0, 1, 1])
    torch.testing.assert_close(b.keypoints, a.keypoints[:, :, list(H36M17.flip)] * sign)
    # On a body without shape the joints of the mirrored pose are the mirrored joints, up to the body's own asymmetry.
    for first, second in ((a.targets.rotations, b.targets.rotations), (a.initial.rotations, b.initial.rotations)):
        twice = second[..., list(SMPL24.flip), :, :] * sign[:, None] * sign
        torch.testing.assert_close(twice, first)
        betas = torch.zeros(*first.shape[:2], 10)
        joints = toy_body.joints(SmplParams.from_rotations(first, betas), SMPL24)
        mirrored = toy_body.joints(SmplParams.from_rotations(second, betas), SMPL24)
        torch.testing.assert_close(mirrored, joints[..., list(SMPL24.flip), :] * sign, atol=2e-3, rtol=0)
    shares = MeshClips(settings(path, flip=0.3, frames=8), "train").__getitems__(range(1000))
    same = (shares.keypoints == plain.__getitems__(range(1000)).keypoints).all(-1).all(-1).all(-1)
    assert abs(float(same.float().mean()) - 0.7) < 0.05


def test_parameters_to_refine_are_given_if_all_files_have_them(files: tuple[Path, dict[str, TrueFrames]]) -> None:
    folder, truth = files
    refine = source(folder / "mesh_det_refine.pkl", "mesh_det", resolution=1920)
    batch = MeshClips(settings(refine, frames=16), "train").__getitems__([0, 1])
    assert batch.initial is not None and batch.initial.shape == (2, 16)
    plain = source(folder / "mesh_det_pw3d.pkl", "mesh_det", name="b", resolution=1920)
    assert MeshClips(settings(refine, plain, frames=16), "train").__getitems__([0, 1]).initial is None
    assert MeshClips(settings(refine, frames=16, initial=True), "train").__getitems__([0]).initial is not None
    with pytest.raises(UserError, match=r"^b: .*mesh_det_pw3d.pkl has no parameters to be refined \(pred_smpl_pose"):
        MeshClips(settings(refine, plain, frames=16, initial=True), "train")
    arrays = truth["refine"].arrays
    first = next(mesh_sequences(refine)).batch
    assert first.initial is not None
    np.testing.assert_array_equal(first.initial.betas[0], arrays["pred_smpl_shape"][:33])
    pose = torch.from_numpy(arrays["pred_smpl_pose"][:33]).unflatten(-1, (24, 3))
    torch.testing.assert_close(first.initial.rotations[0], axis_angle_to_matrix(pose))


def test_sequences_are_whole_videos(files: tuple[Path, dict[str, TrueFrames]]) -> None:
    folder, truth = files
    found = list(mesh_sequences(source(folder / "mesh_det_h36m.pkl", "mesh_det", "test")))
    assert [one.name for one in found] == list(H36M)
    assert [one.batch.num_frames for one in found] == list(H36M.values())
    assert len({int(one.batch.item_seed) for one in found}) == 3
    assert all(float(one.batch.fps) == 50 for one in found)
    whole = torch.cat([one.batch.keypoints[0] for one in found])[..., 0]
    np.testing.assert_allclose(whole, truth["h36m"].arrays["joint_2d"][..., 0] / 500 - 1, atol=1e-6)


def test_the_settings_lead_here(files: tuple[Path, dict[str, TrueFrames]], toy_body: BodyModel) -> None:
    folder, _ = files
    path = source(folder / "mesh_det_h36m.pkl", "mesh_det")
    assert isinstance(build_clip_dataset(settings(path), toy_body, "train"), MeshClips)
    assert isinstance(build_clip_dataset(settings(path), toy_body, "val"), SyntheticClips)
    batch = build_clip_dataset(settings(path, validation=path, frames=8), toy_body, "val").__getitems__([0])
    assert isinstance(batch, ClipBatch) and batch.num_frames == 8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"joint_2d": None}, "has no joint_2d"),
        ({"joint_2d": np.zeros((70, 16, 2))}, r"joint_2d has shape \(70, 16, 2\), expected \(frames, 17, at least 2\)"),
        ({"joint_2d": np.full((70, 17, 2), np.nan)}, "joint_2d of frame 0 is not finite"),
        ({"joint_2d": np.full((70, 17, 2), "a")}, "not numbers"),
        ({"confidence": None}, "has no confidence"),
        ({"confidence": np.zeros((70, 3))}, "confidence has shape"),
        ({"source": None}, "has no source"),
        ({"source": np.zeros((70, 2))}, "source has shape"),
        ({"source": np.array(["a"] * 69)}, "source has 69 frames, others have 70"),
        ({"source": [{}] * 70}, "source cannot be read"),
        ({"smpl_pose": np.zeros((70, 24, 3))}, "smpl_pose has shape"),
        ({"smpl_shape": np.zeros((71, 10))}, "smpl_shape has 71 frames"),
        ({"camera_name": np.array(["1"] * 70)}, "none of Human3.6M's"),
        ({"camera_name": None}, "set resolution"),
        ({"camera_name": None, "img_hw": np.zeros((70, 2))}, "not positive"),
        ({"pred_smpl_pose": np.zeros((70, 72))}, "has no pred_smpl_shape"),
        ({"joint_2d": np.zeros((0, 17, 2))}, "no frames"),
    ],
)
def test_wrong_files_get_a_line(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    frames = mesh_frames(H36M, np.random.default_rng(0), cameras=True)
    frames.arrays = {k: v for k, v in (frames.arrays | change).items() if v is not None}
    write_splits(tmp_path / "bad.pkl", frames, frames)
    with pytest.raises(UserError, match=words) as caught:
        MeshClips(settings(source(tmp_path / "bad.pkl", "mesh_det")), "train")
    assert "\n" not in str(caught.value) and str(caught.value).startswith("a: ") and "bad.pkl" in str(caught.value)


def test_wrong_pickles_get_a_line(tmp_path: Path) -> None:
    frames = mesh_frames(H36M, np.random.default_rng(0), cameras=True)
    path = tmp_path / "file.pkl"
    write_splits(path, frames, frames)
    for split, words in (("val", r"no split 'val' \(there is train, test\)"), ("train", "readable pickle")):
        with pytest.raises(UserError, match=words):
            MeshClips(settings(source(path, "mesh_det", split)), "train")
        path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(UserError, match="not found"):
        MeshClips(settings(source(tmp_path / "none.pkl", "mesh_det")), "train")
    path.write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
    with pytest.raises(UserError, match="could run code"):
        MeshClips(settings(source(path, "mesh_det")), "train")


def test_only_mesh_pickles_take_a_resolution(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only the format mesh_det takes one"):
        source(tmp_path, "motion3d", resolution=1000)
