from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffhmr.body.joints import COCO17, HALPE26, SMPL24
from diffhmr.body.model import BodyModel
from diffhmr.errors import UserError
from diffhmr.geometry.rotation import axis_angle_to_matrix
from diffhmr.inference.video.track_result import TrackResult, load_track, save_track
from tests.inference.video.scenes import walk
from tests.inference.video.test_placing import placed

FRAMES = [2, 3, 4, 7, 8, 9]


@pytest.fixture(scope="module", params=[1, 4])
def result(toy_body: BodyModel, request: pytest.FixtureRequest) -> TrackResult:
    return placed(toy_body, walk(toy_body, 10), FRAMES, samples=request.param)


def test_what_is_written_is_read(tmp_path: Path, result: TrackResult) -> None:
    paths = save_track(result, tmp_path / "track4.npz")
    assert [path.name for path in paths] == ["track4.npz", "track4.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["track4.json", "track4.npz"]
    for path in paths:
        again = load_track(path)
        assert again.num_hypotheses == result.num_hypotheses and len(again) == 8
        assert torch.allclose(again.params.rotations, result.params.rotations, atol=1e-5)
        assert again.params.transl is not None and result.params.transl is not None
        assert torch.equal(again.params.transl, result.params.transl)
        assert torch.equal(again.params.betas, result.params.betas)
        for name in ("intrinsic", "joints_smpl24", "joints_coco17", "keypoints", "joint_spread_mm"):
            assert torch.equal(getattr(again, name), getattr(result, name)), name
        assert torch.equal(torch.isnan(again.reprojection_px), torch.from_numpy(result.missing))
        assert np.array_equal(again.frames, result.frames) and np.array_equal(again.missing, result.missing)
        assert (again.fps, again.image_size, again.joint_set) == (result.fps, result.image_size, HALPE26.name)
        assert again.metadata == result.metadata


def test_the_arrays_stand_alone(tmp_path: Path, result: TrackResult, toy_body: BodyModel) -> None:
    save_track(result, tmp_path / "track4")
    with np.load(tmp_path / "track4.npz", allow_pickle=False) as arrays:
        assert arrays["poses"].shape == (8, 72) and arrays["betas"].shape == (10,) and arrays["transl"].shape == (8, 3)
        assert arrays["names_smpl24"].tolist() == list(SMPL24.joint_names)
        assert arrays["names_keypoints"].tolist() == list(HALPE26.joint_names)
        assert arrays["frames"].tolist() == [2, 3, 4, 5, 6, 7, 8, 9]
        assert arrays["missing"].tolist() == [frame in (5, 6) for frame in range(2, 10)]
        assert ("sample_poses" in arrays.files) == (result.num_hypotheses > 1)
        assert json.loads(str(arrays["metadata"]))["track"]["id"] == 4
        # Anybody with the body gets the joints from the parameters.
        rotations = axis_angle_to_matrix(torch.from_numpy(arrays["poses"]).unflatten(-1, (24, 3)))
        params = type(result.params).from_rotations(
            rotations, torch.from_numpy(arrays["betas"]).expand(8, -1), torch.from_numpy(arrays["transl"])
        )
        assert np.allclose(toy_body.joints(params, SMPL24).numpy(), arrays["joints_smpl24"], atol=1e-4)


def test_the_text_is_for_other_programs(tmp_path: Path, result: TrackResult) -> None:
    save_track(result, tmp_path / "track4")
    text = (tmp_path / "track4.json").read_text()
    content = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert content["arrays"] == "track4.npz" and content["video"]["fps"] == 25
    assert content["joint_names"]["coco17"] == list(COCO17.joint_names)
    assert [frame["frame"] for frame in content["frames"]] == list(range(2, 10))
    assert [frame["missing"] for frame in content["frames"]] == result.missing.tolist()
    first, gap = content["frames"][0], content["frames"][3]
    assert first["seconds"] == 0.08 and gap["reprojection_px"] is None
    assert np.allclose(first["transl"], result.answer.transl[0], atol=1e-4)  # type: ignore[index]
    assert np.allclose(first["joints_smpl24"], result.joints_smpl24[0], atol=1e-4)
    assert len(first["pose"]) == 72 and not math.isnan(sum(first["pose"]))
    assert len(text.splitlines()) < 150, "one line per frame"


def damaged(path: Path, kind: str) -> None:
    with np.load(path, allow_pickle=False) as archive:
        arrays: dict[str, Any] = {name: archive[name] for name in archive.files}
    metadata = json.loads(str(arrays["metadata"]))
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
        return
    if kind == "nan":
        arrays["transl"][3, 1] = np.nan
    elif kind == "lacking":
        del arrays["poses"]
    elif kind == "shape":
        arrays["poses"] = arrays["poses"][:, :71]
    elif kind == "newer":
        arrays["metadata"] = np.array(json.dumps(metadata | {"version": 99}))
    elif kind == "other":
        arrays["metadata"] = np.array(json.dumps({"format": "diffhmr-person", "version": 1}))
    elif kind == "list":
        arrays["metadata"] = np.array("[1, 2]")
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("truncated", "damaged or no result file"),
        ("nan", "transl holds values that are not finite"),
        ("lacking", "no result file"),
        ("shape", "no result file"),
        ("newer", "newer version"),
        ("other", "another format"),
        ("list", "no result file"),
    ],
)
def test_damaged_files(tmp_path: Path, toy_body: BodyModel, kind: str, reason: str) -> None:
    path, _ = save_track(placed(toy_body, walk(toy_body, 5), [0, 1, 2, 3, 4]), tmp_path / "t")
    damaged(path, kind)
    with pytest.raises(UserError, match=reason):
        load_track(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="result not found"):
        load_track(tmp_path / "none.json")
