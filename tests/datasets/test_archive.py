from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diffhmr.body.joints import SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.config import DataConfig
from diffhmr.datasets import build_dataset
from diffhmr.datasets.archive import MotionArchive
from diffhmr.errors import UserError
from diffhmr.geometry.rotation import axis_angle_to_matrix, matrix_to_axis_angle
from diffhmr.random import item_seeds

SEEDS = item_seeds(0, "train", np.arange(400))


def recording(frames: int, seed: int) -> np.ndarray:
    """Poses of somebody upright in a world with z up, who turns about z."""
    rng = np.random.default_rng(seed)
    poses = rng.normal(0, 0.2, (frames, 156))
    upright = torch.tensor([np.pi / 2, 0.0, 0.0], dtype=torch.float64)
    turn = torch.zeros(frames, 3, dtype=torch.float64)
    turn[:, 2] = torch.linspace(0, 6, frames)
    root = axis_angle_to_matrix(turn) @ axis_angle_to_matrix(upright)
    poses[:, :3] = matrix_to_axis_angle(root).numpy()
    return poses


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "subject").mkdir()
    np.savez(tmp_path / "a.npz", poses=recording(240, 0), mocap_framerate=120.0, trans=np.zeros((240, 3)))
    np.savez(tmp_path / "subject" / "b.npz", poses=recording(60, 1)[:, :72].astype(np.float32), mocap_frame_rate=30)
    np.savez(tmp_path / "subject" / "shape.npz", betas=np.zeros(16))
    return tmp_path


def test_frames_are_thinned_to_ten_per_second(archive: Path) -> None:
    assert len(MotionArchive(archive)) == 240 // 12 + 60 // 3


def test_poses_come_from_the_files_and_stand_upright(archive: Path) -> None:
    source = MotionArchive(archive)
    rotations = source(SEEDS)
    assert rotations.shape == (400, 24, 3, 3)
    np.testing.assert_allclose(rotations[:, 22:], np.tile(np.eye(3), (400, 2, 1, 1)))
    np.testing.assert_allclose(rotations[:, 0] @ [0, 1, 0], np.tile([0, 1, 0], (400, 1)), atol=1e-6)
    known = np.concatenate([recording(240, 0)[::12, 3:66], recording(60, 1)[::3, 3:66]]).reshape(-1, 21, 3)
    matrices = axis_angle_to_matrix(torch.from_numpy(known)).numpy()
    difference = np.abs(rotations[:, None, 1:22] - matrices[None]).max((2, 3, 4))
    assert difference.min(1).max() < 1e-5
    assert len(set(difference.argmin(1).tolist())) > 35
    assert np.array_equal(source(SEEDS[[7, 300]]), rotations[[7, 300]])


def test_the_stream_uses_the_archive(archive: Path, free_body: BodyModel) -> None:
    batch = build_dataset(DataConfig(images=False, archive=archive), free_body, "val").__getitems__(range(64))
    assert batch.targets is not None
    joints = batch.targets.joints3d[..., :3]
    head, pelvis = (SPIN49.joint_names.index(name) for name in ("head_top_lsp", "pelvis"))
    assert ((joints[:, head, 1] - joints[:, pelvis, 1]) < 0).float().mean() > 0.95
    assert torch.equal(batch.targets.params.body_pose[:, 21:], torch.eye(3).expand(64, 2, 3, 3))


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="motion archive not found"):
        MotionArchive(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no \.npz file with poses"):
        MotionArchive(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"poses": np.zeros((5, 63))}, "at least 66"),
        ({"poses": np.zeros((5, 72), dtype=np.int64)}, "int64"),
        ({"poses": np.full((5, 72), np.nan)}, "not finite"),
        ({"poses": np.zeros((5, 72)), "mocap_framerate": 0.0}, "frame rate"),
        ({"poses": np.array([{"code": "no"}], dtype=object)}, "cannot read"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, content: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "bad.npz", **content)
    with pytest.raises(UserError, match=message) as caught:
        MotionArchive(tmp_path)
    assert "bad.npz" in str(caught.value)


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(b"not a zip file")
    with pytest.raises(UserError, match="cannot read the motion"):
        MotionArchive(tmp_path)
