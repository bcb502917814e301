"""What the doctor says about files of clips: there, half there, damaged or missing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from scripts.doctor_clips import wanted_clips
from scripts.doctor_wanted import Finding, examine
from scripts.prepare_motion3d import write_clips
from tests.releases.motionbert import CURVE, mesh_frames, tensors, write_instavariety, write_noise, write_splits
from tests.releases.posetrack18 import write_posetrack18


def findings(data: Path) -> dict[str, Finding]:
    return {wanted.name: examine(wanted) for wanted in wanted_clips(data)}


def test_with_nothing_there_each_file_has_a_page_and_a_use(tmp_path: Path) -> None:
    found = findings(tmp_path)
    assert len(found) == 13
    for finding in found.values():
        assert finding.status == "missing" and "task: " in finding.purpose
        assert re.search("https?://", str(finding.remedy)) and str(tmp_path) in str(finding.remedy)


def test_files_say_which_protocols_measure_on_them(tmp_path: Path) -> None:
    found = findings(tmp_path)
    for name, protocols in {
        "mesh/mesh_det_pw3d.pkl": "3dpw-video-neutral17, 3dpw-video-neutral17-clips16",
        "mesh/mesh_det_h36m.pkl": "h36m-video-neutral17, h36m-video-neutral17-clips16",
        "motion3d/h36m_sh_conf_cam_source_final.pkl": "h36m-lifting",
        "action/ntu60_hrnet.pkl": "ntu60-xsub, ntu60-xview",
        "action/ntu120_hrnet.pkl": "ntu120-oneshot",
    }.items():
        assert found[name].purpose.endswith(f"); evaluation: {protocols}"), name
    assert "evaluation:" not in found["mesh/mesh_det_coco.pkl"].purpose


def test_files_that_are_there(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = mesh_frames({"a": 4}, rng)
    write_splits(tmp_path / "mesh" / "mesh_det_pw3d.pkl", frames, frames)
    write_instavariety(tmp_path / "motion2d" / "InstaVariety", [30, 50], rng)
    points = rng.uniform(1, 2, (31, 17, 3))
    write_posetrack18(tmp_path / "motion2d" / "posetrack18_annotations" / "train", {"0": dict(enumerate(points))}, 1)
    write_noise(tmp_path / "motion2d", tensors(), CURVE)
    rows = {"positions": np.zeros((300, 17, 3), np.float32), "begins": np.arange(300) == 0}
    write_clips(tmp_path / "motion3d" / "AMASS" / "train.json", rows, {"counts": {}})
    found = {name: finding for name, finding in findings(tmp_path).items() if finding.status != "missing"}
    assert {name: finding.details for name, finding in found.items()} == {
        "mesh/mesh_det_pw3d.pkl": {"megabytes": 0},
        "motion2d/InstaVariety": {"frames": 80, "videos": 2},
        "motion2d/posetrack18_annotations": {"files": 1},
        "motion2d/synthetic_noise.pth": {"joints": 17},
        "motion2d/d2c_params.pkl": CURVE,
        "motion3d/AMASS/train.json": {"clips": 2},
    }
    assert all(finding.status == "found" and finding.remedy is None for finding in found.values())


def test_damaged_and_incomplete_files(tmp_path: Path) -> None:
    pickle = tmp_path / "mesh" / "mesh_det_h36m.pkl"
    frames = mesh_frames({"a": 4}, np.random.default_rng(0))
    write_splits(pickle, frames, frames)
    pickle.write_bytes(pickle.read_bytes()[:-1])
    clips = tmp_path / "motion3d" / "AMASS" / "train.json"
    rows = {"positions": np.zeros((300, 17, 3), np.float32), "begins": np.arange(300) == 0}
    write_clips(clips, rows, {"counts": {}})
    clips.with_suffix("").joinpath("00000001.pkl").unlink()
    part = clips.with_name("test.json")
    write_clips(part, rows, {"counts": {}, "partial": ["subsets"]})
    clips.with_name("validation.json").write_text(json.dumps({"clips": 3}))
    (tmp_path / "motion2d" / "InstaVariety").mkdir(parents=True)
    (tmp_path / "motion2d" / "posetrack18_annotations").mkdir()
    write_noise(tmp_path / "motion2d", tensors(mean=None), {})
    found = findings(tmp_path)
    for name, status, words in (
        ("mesh/mesh_det_h36m.pkl", "unusable", "cut off"),
        ("motion3d/AMASS/train.json", "incomplete", "has 1 clips instead of 2"),
        ("motion3d/AMASS/test.json", "incomplete", "a part of the release"),
        ("motion3d/AMASS/validation.json", "unusable", "not made by this command"),
        ("motion2d/InstaVariety", "unusable", "not found"),
        ("motion2d/posetrack18_annotations", "unusable", "no .json files"),
        ("motion2d/synthetic_noise.pth", "unusable", "mean is missing"),
        ("motion2d/d2c_params.pkl", "unusable", "no number a"),
    ):
        assert found[name].status == status and words in str(found[name].remedy)
