"""AMASS as clips of 3D motion, against the motions from which a miniature release was made."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffhmr.body.joints import H36M17
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.command_line import run_command
from diffhmr.datasets.clip_files.lifting_clips import LiftingClips, lifting_sequences
from diffhmr.geometry.rotation import axis_angle_to_matrix
from scripts.prepare_motion3d import FRAMES, UNITS_PER_METRE, main
from tests.datasets.clip_files.samples import settings, source
from tests.releases.amass import write_amass
from tests.toy_body import make_fields


def run(root: Path, out: Path, *words: str) -> int:
    return run_command(lambda: main(["--root", str(root), "--out", str(out), *words]))


def clip(path: Path) -> np.ndarray:
    content = pickle.loads(path.read_bytes())
    assert content["data_input"] is None and content["data_label"].dtype == np.float32
    label: np.ndarray = content["data_label"]
    return label


def write_recording(path: Path, fields: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **fields)


def standing(frames: int, framerate: float, **changes: Any) -> dict[str, Any]:
    """Somebody who stands in a T-pose in a world with z up, facing -y (AMASS's way of standing), and walks along x."""
    poses = np.zeros((frames, 156))
    poses[:, 0] = np.pi / 2
    trans = np.stack([np.arange(frames) / framerate, np.zeros(frames), np.ones(frames)], axis=1)
    fields = {"poses": poses, "trans": trans, "betas": np.zeros(16), "gender": "male", "mocap_framerate": framerate}
    return fields | changes


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bodies")
    for number, gender in enumerate(("male", "female", "neutral")):
        write_recording(folder / f"SMPL_{gender.upper()}.npz", dict(make_fields(seed=number)))
    return folder


def test_the_axes_and_the_scale(tmp_path: Path) -> None:
    write_recording(tmp_path / "raw" / "CMU" / "01" / "01_01_poses.npz", standing(600, 120.0))
    assert run(tmp_path / "raw", tmp_path / "out", "--splits", "train", "--partial") == 0
    files = sorted((tmp_path / "out" / "AMASS" / "train").iterdir())
    assert [file.name for file in files] == ["00000000.pkl", "00000001.pkl"]  # of 300 frames: 0 ... 242, 57 ... 299
    first, second = (clip(file) for file in files)
    np.testing.assert_array_equal(first[57:], second[:-57])
    assert first.shape == (FRAMES, 17, 3)
    names = [name.removesuffix("_h36m17") for name in H36M17.joint_names]
    metres = dict(zip(names, (first[0] / UNITS_PER_METRE), strict=True))
    assert metres["head"][1] < metres["neck"][1] < metres["pelvis"][1] < metres["left_ankle"][1]  # y points down
    assert metres["left_wrist"][0] > metres["left_shoulder"][0] > metres["right_wrist"][0]  # x points right
    assert metres["nose"][2] < metres["neck"][2]  # who faces -y of the world faces the camera
    np.testing.assert_allclose(first[60, 0] - first[0, 0], [UNITS_PER_METRE, 0, 0], atol=1e-6)
    assert abs(metres["pelvis"][1] + 1) < 0.15  # the origin is on the floor, one metre below


def test_joints_of_smpl_with_the_recordings_gender_and_shape(tmp_path: Path, bodies: Path) -> None:
    rng = np.random.default_rng(0)
    poses = np.concatenate([rng.normal(0, 0.1, (1, 66)) * np.ones((250, 1)), np.zeros((250, 90))], axis=1)
    betas = rng.normal(0, 1, 16)
    for name, gender in (("a", "female"), ("b", "male"), ("c", np.bytes_(b"male"))):
        fields = standing(250, 60.0, poses=poses, betas=betas, gender=gender)
        write_recording(tmp_path / "raw" / "CMU" / name / "x_poses.npz", fields)
    assert run(tmp_path / "raw", tmp_path / "out", "--splits", "train", "--partial", "--smpl", str(bodies)) == 0
    found = [clip(file) for file in sorted((tmp_path / "out" / "AMASS" / "train").iterdir())]
    assert len(found) == 6
    turn = np.zeros((24, 3))
    turn[:22] = poses[0, :66].reshape(22, 3)
    rotations = axis_angle_to_matrix(torch.from_numpy(turn)[None])
    for gender, positions in (("FEMALE", found[0]), ("MALE", found[2]), ("MALE", found[4])):
        # The official order: SMPL in the world of the file, moved by trans, then (x, y, z) -> (x, -z, y).
        body = BodyModel.load(bodies / f"SMPL_{gender}.npz").double()
        params = SmplParams.from_rotations(rotations, torch.from_numpy(betas[None, :10]))
        world = body.joints(params, H36M17)[0].numpy() + np.array([0, 0, 1])
        expected = np.stack([world[:, 0], -world[:, 2], world[:, 1]], axis=1) * UNITS_PER_METRE
        np.testing.assert_allclose(positions[0], expected, atol=1e-5)


def test_clips_can_be_pretrained_on(tmp_path: Path) -> None:
    write_amass(tmp_path / "raw")
    assert run(tmp_path / "raw", tmp_path / "out", "--partial") == 0
    meta = json.loads((tmp_path / "out" / "AMASS" / "train.json").read_text())
    assert meta["clips"] == 3 and meta["counts"] == {
        "recordings excluded": 0, "recordings too short": 1, "recordings slower than --fps": 1,
        "recordings with jumps": 1,
    }  # fmt: skip
    path = source(tmp_path / "out" / "AMASS", "motion3d")
    batch = LiftingClips(settings(path, frames=81), "train", "pretrain").__getitems__(range(10))
    assert bool(batch.has_depth.all()) and bool(torch.isfinite(batch.positions).all())
    assert len(list(lifting_sequences(path.model_copy(update={"ground_truth_2d": True})))) == 3
    # Again: nothing is done. With other settings: refused.
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*")}
    assert run(tmp_path / "raw", tmp_path / "out", "--partial") == 0
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("*")} == before
    assert run(tmp_path / "raw", tmp_path / "out", "--partial", "--fps", "30") == 2
    # Clips without the file that says they are whole are made again.
    (tmp_path / "out" / "AMASS" / "train.json").unlink()
    (tmp_path / "out" / "AMASS" / "train" / "00000002.pkl").unlink()
    assert run(tmp_path / "raw", tmp_path / "out", "--partial") == 0
    assert len(list((tmp_path / "out" / "AMASS" / "train").iterdir())) == 3


def test_wrong_input_gets_a_line(tmp_path: Path, bodies: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = tmp_path / "raw" / "CMU" / "01" / "01_01_poses.npz"

    def fails(words: str, fields: dict[str, Any], smpl: Path | None) -> None:
        write_recording(raw, fields)
        options = [] if smpl is None else ["--smpl", str(smpl)]
        assert run(tmp_path / "raw", tmp_path / "out", "--partial", *options) == 2
        told = capsys.readouterr().err
        assert words in told and "Traceback" not in told

    fails("SMPL's male body is missing", standing(100, 60.0), tmp_path / "nowhere")
    fails("has betas of shape (3,)", standing(100, 60.0, betas=np.zeros(3)), bodies)
    fails("trans", standing(100, 60.0, trans=np.zeros((99, 3))), None)
    fails("no row is left", standing(10, 60.0), None)
    lacking = tmp_path / "lacking"
    fields = {key: value for key, value in make_fields().items() if key != "J_regressor_h36m"}
    write_recording(lacking / "SMPL_MALE.npz", fields)
    fails("J_regressor_h36m", standing(100, 60.0), lacking)
