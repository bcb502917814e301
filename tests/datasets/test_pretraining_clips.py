from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffhmr.body.model import BodyModel
from diffhmr.clip_batch import LiftingBatch
from diffhmr.config_clips import ClipExperimentConfig
from diffhmr.datasets import build_lifting_dataset
from diffhmr.datasets.clip_files.lifting_clips import LiftingClips
from diffhmr.datasets.pretraining_clips import PretrainingClips
from diffhmr.datasets.synthetic_lifting import SyntheticLifting
from diffhmr.errors import UserError
from tests.releases.motionbert import write_instavariety, write_motion3d
from tests.releases.posetrack18 import write_posetrack18

FRAMES = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Miniatures of all formats of pretraining."""
    path, rng = tmp_path_factory.mktemp("pretraining"), np.random.default_rng(0)
    write_motion3d(path / "amass" / "train", 4, FRAMES, rng, detected=False)
    write_motion3d(path / "amass" / "test", 2, FRAMES, rng, detected=True)
    points = np.concatenate([rng.uniform(0, 500, (40, 17, 2)), np.ones((40, 17, 1))], axis=-1)
    write_posetrack18(path / "posetrack" / "train", {"1": dict(enumerate(points))}, 1)
    write_instavariety(path / "insta", [30], rng)
    return path


def _config(folder: Path, *names: str, **data: Any) -> ClipExperimentConfig:
    sources = {
        "amass": {"name": "amass", "format": "motion3d", "path": str(folder / "amass")},
        "posetrack": {"name": "posetrack", "format": "posetrack18", "path": str(folder / "posetrack")},
        "insta": {"name": "insta", "format": "instavariety", "path": str(folder / "insta")},
    }
    settings = {"kind": "files", "frames": FRAMES, "stride": 4, "sources": [sources[name] for name in names], **data}
    train = {"steps": 6, "batch_size": 4}
    return ClipExperimentConfig.model_validate(
        {"name": "x", "task": "pretrain", "model": {"head": "lifting"}, "data": settings, "train": train}
    )


def _clean(folder: Path, *names: str) -> LiftingClips:
    return LiftingClips(_config(folder, *names).data, "train", "pretrain")


def test_clips_without_depths_come_later(folder: Path, toy_body: BodyModel) -> None:
    clips = build_lifting_dataset(_config(folder, "amass", "posetrack", "insta"), toy_body, "train")
    assert isinstance(clips, PretrainingClips) and len(clips) == 2**31
    for step in range(6):  # a third of the six steps
        known = clips.__getitems__(range(4 * step, 4 * step + 4)).has_depth
        assert known.all() or step >= 2
    assert not all(clips.__getitems__([index]).has_depth.all() for index in range(8, 24))
    for names in (("amass",), ("posetrack", "insta")):
        same = build_lifting_dataset(_config(folder, *names), toy_body, "train")
        assert same.__getitems__(range(4)).has_depth.all() == (names == ("amass",))


def test_clips_one_by_one_or_in_a_batch(folder: Path) -> None:
    clips = PretrainingClips(_config(folder, "amass", "posetrack", "insta").data, 0)
    batch = clips.__getitems__(range(12))
    for index in range(12):
        one = clips.__getitems__([index])
        for field in fields(LiftingBatch):
            if getattr(batch, field.name) is not None:
                assert torch.equal(getattr(one, field.name)[0], getattr(batch, field.name)[index]), field.name
    assert batch.mm_per_unit is None


@pytest.mark.parametrize(("name", "moved"), [("amass", True), ("posetrack", True), ("insta", False)])
def test_annotated_points_are_moved_and_all_are_hidden(folder: Path, name: str, moved: bool) -> None:
    batch = PretrainingClips(_config(folder, name).data, 0).__getitems__(range(8))
    clean = _clean(folder, name).__getitems__(range(8))
    hidden = (batch.keypoints == 0).all(-1) & (clean.keypoints[..., 2] > 0)
    assert 0.05 < hidden.float().mean() < 0.3
    seen = (batch.keypoints[..., 2] > 0) & (clean.keypoints[..., 2] > 0)
    change = (batch.keypoints - clean.keypoints)[seen].abs().amax(-1)
    assert (change > 0).float().mean() > 0.99 if moved else not change.any()
    assert torch.equal(batch.positions, clean.positions) and torch.equal(batch.weight, clean.weight)
    without = {"augment": {"noise": False, "mask_joint": 0.0, "mask_frame": 0.0}}
    same = PretrainingClips(_config(folder, name, **without).data, 0).__getitems__(range(8))
    assert torch.equal(same.keypoints, clean.keypoints)


def test_what_is_validated_on(folder: Path, toy_body: BodyModel) -> None:
    assert isinstance(build_lifting_dataset(_config(folder, "amass"), toy_body, "val"), SyntheticLifting)
    source = {"name": "test", "format": "motion3d", "path": str(folder / "amass"), "split": "test"}
    clips = build_lifting_dataset(_config(folder, "amass", validation=source), toy_body, "val")
    assert isinstance(clips, LiftingClips)
    assert (clips.__getitems__([0]).keypoints[..., 2] == 0.5).all()  # as it was detected


def test_too_few_items_for_the_run_are_refused(folder: Path, toy_body: BodyModel) -> None:
    with pytest.raises(UserError, match="train_items is fewer"):
        build_lifting_dataset(_config(folder, "amass", train_items=23), toy_body, "train")
