"""Miniatures of the files of MotionBERT's tasks beside the mesh, and runs of a second on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diffhmr.config_clips import ClipExperimentConfig
from tests.releases.motionbert import dump, h36m_sh_frames, write_instavariety, write_motion3d, write_splits
from tests.releases.posetrack18 import write_posetrack18
from tests.releases.pyskl import ntu60, recording
from tests.training.runs import make_clip_config

H36M_TRAIN = {"s_01_act_02_subact_01_ca_01": 20, "s_05_act_03_subact_02_ca_03": 9}
H36M_TEST = {
    "s_09_act_02_subact_01_ca_02": 14,
    "s_09_act_05_subact_02_ca_04": 12,
    "s_11_act_02_subact_01_ca_02": 13,
    "s_11_act_03_subact_02_ca_01": 17,
}
"""The second is one of the three that nobody measures."""


def write_h36m_sh(folder: Path) -> Path:
    """Human3.6M of two actions."""
    rng, path = np.random.default_rng(0), folder / "h36m_sh_conf_cam_source_final.pkl"
    train, test = h36m_sh_frames(H36M_TRAIN, rng, test=False), h36m_sh_frames(H36M_TEST, rng, test=True)
    write_splits(path, train, test)
    return path


def write_ntu60(folder: Path) -> Path:
    """Five recordings of three classes."""
    path = folder / "ntu60_hrnet.pkl"
    dump(ntu60(np.random.default_rng(0)), path)
    return path


def write_ntu120(folder: Path) -> Path:
    """Recordings of the classes 0, 1, 6, 7 and 119: of the new classes 0 and 6 the exemplar and two others each."""
    rng, path = np.random.default_rng(0), folder / "ntu120_hrnet.pkl"
    names = [("S001C003P008R001A001", 0), ("S001C003P008R001A007", 6)]
    names += [(f"S00{k}C001P001R001A{label + 1:03d}", label) for label in (0, 1, 6, 7, 119) for k in (2, 3)]
    annotations = [recording(name, label, 15, rng) for name, label in names]
    dump({"split": {"xsub_train": [name for name, _ in names]}, "annotations": annotations}, path)
    return path


def task_config(folder: Path, task: str, head: str, /, **sections: dict[str, Any]) -> ClipExperimentConfig:
    """A run of a second of a task beside the mesh; clips of six frames, as long as its window."""
    model = {"head": head, "embedding": 8, "classes": 3, "dropout": 0.1, **sections.pop("model", {})}
    data = {"frames": 6, "test_frames": 9, "val_items": 3, **sections.pop("data", {})}
    return make_clip_config(folder, task, model=model, data=data, **sections)


def pretraining(folder: Path) -> ClipExperimentConfig:
    """Clips with and without depths, of all formats."""
    rng = np.random.default_rng(0)
    write_motion3d(folder / "motion3d" / "train", 3, 10, rng, detected=False)
    write_motion3d(folder / "motion3d" / "test", 2, 10, rng, detected=True)
    points = np.concatenate([rng.uniform(0, 500, (40, 17, 2)), np.ones((40, 17, 1))], axis=-1)
    write_posetrack18(folder / "posetrack" / "train", {"1": dict(enumerate(points))}, 1)
    write_instavariety(folder / "insta", [30], rng)
    data = {
        "kind": "files",
        "sources": [
            {"name": "amass", "format": "motion3d", "path": str(folder / "motion3d")},
            {"name": "posetrack", "format": "posetrack18", "path": str(folder / "posetrack"), "weight": 0.4},
            {"name": "insta", "format": "instavariety", "path": str(folder / "insta"), "weight": 0.4},
        ],
        "validation": {"name": "test", "format": "motion3d", "path": str(folder / "motion3d"), "split": "test"},
    }
    return task_config(folder, "pretrain", "lifting", data=data)


def poses(folder: Path) -> ClipExperimentConfig:
    """Human3.6M, in positions relative to the root."""
    path = str(write_h36m_sh(folder))
    data = {
        "kind": "files",
        "sources": [{"name": "h36m", "format": "h36m_sh", "path": path}],
        "validation": {"name": "test", "format": "h36m_sh", "path": path, "split": "test"},
    }
    return task_config(folder, "pose3d", "lifting", data=data, model={"root_relative": True, "input": "picture"})


def actions(folder: Path) -> ClipExperimentConfig:
    """NTU RGB+D 60."""
    path = str(write_ntu60(folder))
    data = {
        "kind": "files",
        "sources": [{"name": "ntu", "format": "pyskl", "path": path, "split": "xsub_train"}],
        "validation": {"name": "ntu", "format": "pyskl", "path": path, "split": "xsub_val"},
    }
    return task_config(folder, "action", "classifier", data=data)


def one_shot(folder: Path) -> ClipExperimentConfig:
    """NTU RGB+D 120 without the new classes."""
    path = str(write_ntu120(folder))
    data = {
        "kind": "files",
        "sources": [{"name": "ntu", "format": "pyskl", "path": path, "split": "oneshot_base"}],
        "validation": {"name": "ntu", "format": "pyskl", "path": path, "split": "oneshot_val"},
    }
    return task_config(folder, "action", "embedding", data=data, train={"batch_size": 4})
