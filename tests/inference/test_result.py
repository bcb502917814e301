from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from diffhmr.body.joints import COCO17, SMPL24
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.errors import UserError
from diffhmr.geometry.camera import intrinsics, project
from diffhmr.geometry.rotation import random_rotations
from diffhmr.inference.result import FORMAT, VERSION, PersonResult, load_result, save_result


@pytest.fixture
def result(free_body: BodyModel) -> PersonResult:
    """Five hypotheses with wild rotations, far away."""
    generator = torch.Generator().manual_seed(0)
    transl = torch.tensor([3.0, -1.0, 20.0]) + torch.randn(5, 3, generator=generator)
    rotations, betas = random_rotations((5, 24), generator), torch.randn(5, 10, generator=generator)
    params = SmplParams.from_rotations(rotations, betas, transl)
    vertices = free_body(params).vertices
    return PersonResult(
        params=params,
        intrinsic=intrinsics(800, 640, 480),
        image_size=(640, 480),
        box=(1.5, 2, 103.25, 204),
        crop=(51.875, 102.5, 242.4),
        joints_smpl24=free_body.joints(params, SMPL24),
        joints_coco17=free_body.joints(params, COCO17),
        keypoints=torch.rand(17, 4, generator=generator),
        joint_spread_mm=torch.arange(24.0),
        vertex_spread_mm=torch.arange(float(vertices.shape[1])),
        metadata={
            "format": FORMAT,
            "version": VERSION,
            "body": {"name": free_body.name, "sha256": free_body.sha256},
            "sampling": {"seed": 3},
        },
    )


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_vertices_come_back(tmp_path: Path, result: PersonResult, free_body: BodyModel, suffix: str) -> None:
    paths = save_result(result, tmp_path / "person0")
    assert [path.name for path in paths] == ["person0.npz", "person0.json"]
    loaded = load_result(tmp_path / f"person0{suffix}")
    assert (loaded.vertices(free_body) - result.vertices(free_body)).abs().max() < 1e-5
    assert torch.allclose(loaded.vertices(free_body, 2), loaded.vertices(free_body)[:2], atol=1e-5)
    for name in ("intrinsic", "joints_smpl24", "joints_coco17", "keypoints", "joint_spread_mm", "vertex_spread_mm"):
        assert torch.equal(getattr(loaded, name), getattr(result, name)), name
    assert loaded.box == result.box and loaded.image_size == result.image_size
    assert loaded.crop == pytest.approx(result.crop) and loaded.metadata == result.metadata and len(loaded) == 5


def test_the_files_are_as_documented(tmp_path: Path, result: PersonResult) -> None:
    save_result(dataclasses.replace(result, keypoints=None), tmp_path / "person0")
    with np.load(tmp_path / "person0.npz", allow_pickle=False) as archive:
        shapes = {name: archive[name].shape for name in archive.files}
        types = {archive[name].dtype for name in archive.files if archive[name].dtype.kind == "f"}
        pixels, names = archive["pixels_coco17"], archive["names_coco17"].tolist()
    vertices = len(result.vertex_spread_mm)
    assert shapes == {
        "global_orient": (5, 3), "body_pose": (5, 23, 3), "betas": (5, 10), "transl": (5, 3), "K": (3, 3),
        "image_size": (2,), "box": (4,), "crop": (3,), "joints_smpl24": (5, 24, 3), "names_smpl24": (24,),
        "joints_coco17": (5, 17, 3), "names_coco17": (17,), "pixels_smpl24": (5, 24, 2), "pixels_coco17": (5, 17, 2),
        "keypoints": (0, 4), "joint_spread_mm": (24,), "vertex_spread_mm": (vertices,), "metadata": (),
    }  # fmt: skip
    assert types == {np.dtype(np.float32)}
    assert names == list(COCO17.joint_names)
    assert np.allclose(pixels, project(result.joints_coco17, result.intrinsic).numpy())
    content = json.loads((tmp_path / "person0.json").read_text())
    assert content["arrays"] == "person0.npz" and content["body"]["name"] == "free body, not SMPL"
    assert content["joints"]["smpl24"]["names"] == list(SMPL24.joint_names)
    assert np.allclose(content["joints"]["coco17"]["answer_pixels"], pixels[0], atol=0.01)
    assert content["spread"]["joints_mm"]["right_hand"] == 23
    assert content["spread"]["vertices_mm"] == {"mean": (vertices - 1) / 2, "max": vertices - 1}
    assert load_result(tmp_path / "person0.json").keypoints is None


def test_another_body_is_refused(tmp_path: Path, result: PersonResult, toy_body: BodyModel) -> None:
    save_result(result, tmp_path / "person0")
    with pytest.raises(UserError, match="belongs to the body 'free body, not SMPL'"):
        load_result(tmp_path / "person0.npz").vertices(toy_body)


def test_values_that_are_not_finite(tmp_path: Path, result: PersonResult) -> None:
    broken = result.params.map(torch.clone)
    broken.betas[2, 3] = float("nan")
    save_result(dataclasses.replace(result, params=broken), tmp_path / "person0")
    with pytest.raises(UserError, match="betas holds values that are not finite"):
        load_result(tmp_path / "person0.npz")


def test_other_files_are_refused(tmp_path: Path, result: PersonResult) -> None:
    with pytest.raises(UserError, match="not found"):
        load_result(tmp_path / "missing.npz")
    save_result(result, tmp_path / "person0")
    whole = (tmp_path / "person0.npz").read_bytes()
    (tmp_path / "torn.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.npz").write_text("nothing")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.savez(tmp_path / "newer.npz", metadata=np.array(json.dumps({"format": FORMAT, "version": VERSION + 1})))
    np.savez(tmp_path / "partial.npz", metadata=np.array(json.dumps({"format": FORMAT, "version": VERSION})))
    np.savez(tmp_path / "objects.npz", metadata=np.array({"format": FORMAT}, dtype=object))
    for name in ("torn", "text", "other", "newer", "partial", "objects"):
        with pytest.raises(UserError, match=name) as caught:
            load_result(tmp_path / f"{name}.npz")
        assert "\n" not in str(caught.value)
