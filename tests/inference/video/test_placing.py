from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffhmr.body.joints import H36M17, HALPE26, SMPL24
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.errors import UserError
from diffhmr.geometry.camera import project
from diffhmr.inference.tracks import Track
from diffhmr.inference.video.footage import Footage
from diffhmr.inference.video.motions import Motion3D
from diffhmr.inference.video.placing import camera_metadata, camera_of, place_track, reprojection_summary, runs
from diffhmr.inference.video.track_result import TrackResult
from tests.inference.video.scenes import FOCAL, FPS, SIZE, Walk, walk

FOOTAGE = Footage(Path("walk.mp4"), "walk", SIZE, FPS, 60)
CAMERA = camera_of(FOOTAGE, FOCAL)
ABOUT: dict[str, Any] = {"sampling": {"hypotheses": 1}, "camera": camera_metadata(CAMERA, given=True)}


def placed(
    body: BodyModel, truth: Walk, frames: list[int], samples: int = 1, deterministic: bool = False
) -> TrackResult:
    track = Track(4, np.array(frames), truth.halpe.double().numpy()[frames], HALPE26.name)
    span = slice(frames[0], frames[-1] + 1)
    params = SmplParams.from_rotations(truth.params.rotations[span], truth.params.betas[span])
    several = params.map(lambda value: value.expand(samples, *value.shape).clone())
    if not deterministic:
        several.betas[1:, :, 0] += 0.5 * torch.arange(1, samples)[:, None]
    return place_track(FOOTAGE, track, Motion3D(several, deterministic), CAMERA, body, ABOUT)


def test_the_truth_is_found_again(free_body: BodyModel) -> None:
    truth = walk(free_body, 30)
    result = placed(free_body, truth, [*range(3, 12), *range(18, 30)])
    assert result.answer.transl is not None and truth.params.transl is not None
    assert (result.answer.transl - truth.params.transl[3:]).norm(dim=-1).max() < 2e-3, "metres"
    assert np.array_equal(result.frames, np.arange(3, 30)) and result.missing.sum() == 6
    assert result.missing[9:15].all()
    about = result.metadata["track"]
    assert about["missing_frames"] == [[12, 17]] and (about["first_frame"], about["last_frame"]) == (3, 29)
    expected = free_body.joints(truth.params, SMPL24)[3:]
    assert torch.allclose(result.joints_smpl24, expected, atol=3e-3)
    assert torch.isnan(result.reprojection_px[9:15]).all() and result.reprojection_px.nan_to_num().max() < 0.05
    assert result.metadata["reprojection"]["frames"] == 21 and result.metadata["reprojection"]["mean"]["pixels"] < 0.02


def test_every_hypothesis_has_a_place_of_its_own(free_body: BodyModel) -> None:
    result = placed(free_body, walk(free_body, 8), list(range(8)), samples=4)
    assert result.num_hypotheses == 4 and result.params.transl is not None
    for index in range(1, 4):
        pixels = project(free_body.joints(result.params.map(lambda v, k=index: v[k]), HALPE26), result.intrinsic)
        shift = pixels.mean(dim=(0, 1)) - result.keypoints[..., :2].mean(dim=(0, 1))
        assert shift.norm() < 1.5, "pixels"
    assert not torch.allclose(result.params.transl[0], result.params.transl[3], atol=1e-3)
    assert result.joint_spread_mm.shape == (8, 24) and (result.joint_spread_mm[:, 0] < 1e-3).all()
    assert (result.joint_spread_mm[:, 15] > 1).all(), "taller and smaller people have their heads elsewhere"


def test_one_answer_is_placed_once(toy_body: BodyModel) -> None:
    result = placed(toy_body, walk(toy_body, 6), list(range(6)), samples=3, deterministic=True)
    assert result.params.transl is not None and torch.equal(result.params.transl[0], result.params.transl[2])
    assert (result.joint_spread_mm == 0).all() and result.metadata["sampling"]["deterministic"]


@pytest.mark.parametrize("regressor", [True, False])
def test_points_of_human36m(tmp_path: Path, regressor: bool, toy_body_path: Path) -> None:
    with np.load(toy_body_path) as content:
        fields = {name: content[name] for name in content.files if regressor or name != "J_regressor_h36m"}
    np.savez(tmp_path / "body.npz", **fields)
    body = BodyModel.load(tmp_path / "body.npz")
    truth = walk(body, 10)
    halpe = Track(1, np.arange(10), truth.halpe.double().numpy(), HALPE26.name)
    params = SmplParams.from_rotations(truth.params.rotations[None], truth.params.betas[None])
    motion = Motion3D(params, False)
    result = place_track(FOOTAGE, halpe.h36m17(), motion, CAMERA, body, ABOUT)
    assert result.joint_set == (H36M17.name if regressor else "COCO17")
    assert result.answer.transl is not None and truth.params.transl is not None
    assert (result.answer.transl - truth.params.transl).norm(dim=-1).max() < 0.2


def test_single_points_cannot_be_placed(toy_body: BodyModel) -> None:
    truth = walk(toy_body, 6)
    truth.halpe[:, 1:] = 0
    with pytest.raises(UserError, match="track 4 cannot be placed before the camera: no frame has two"):
        placed(toy_body, truth, list(range(6)))


def test_errors_are_summed_up_by_hand() -> None:
    keypoints = np.zeros((4, 17, 3))
    keypoints[:, :4] = [[10, 10, 0.9], [10, 110, 0.9], [60, 20, 0.9], [50, 20, 0.9]]
    keypoints[:, 5] = [500, 500, 0.1]
    keypoints[2, :, 2] = 0
    summary = reprojection_summary(np.array([1.0, 2.0, np.nan, 6.0]), keypoints, np.array([7, 8, 9, 10]))
    assert summary["box_longer_side_px"] == 100 and summary["frames"] == 3 and summary["points"] == 15
    assert summary["mean"] == {"pixels": 3.0, "share_of_box": 0.03}
    assert summary["median"] == {"pixels": 2.0, "share_of_box": 0.02}
    assert summary["worst"] == {"frame": 10, "pixels": 6.0, "share_of_box": 0.06}
    keypoints[:, 5] = 0
    keypoints[..., 2] *= 0.2  # nothing is certain: then all that is seen says how large the person is
    assert reprojection_summary(np.array([1.0, 2.0, np.nan, 6.0]), keypoints, np.array([7, 8, 9, 10]))["mean"] == {
        "pixels": 3.0, "share_of_box": 0.03,
    }  # fmt: skip


def test_the_camera() -> None:
    assert camera_of(FOOTAGE, None).focal == 400 and camera_of(FOOTAGE, 900.0).focal == 900
    assert CAMERA.centre == (159.5, 119.5)
    assert camera_metadata(camera_of(FOOTAGE, None), given=False)["focal_source"].startswith("default")


def test_runs() -> None:
    assert runs(np.array([True, False, True, True, False, True])) == [(0, 1), (2, 4), (5, 6)]
    assert runs(np.zeros(3, bool)) == [] and runs(np.ones(3, bool)) == [(0, 3)]
