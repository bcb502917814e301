"""Models of lifting and of actions on disk: what comes back, imported weights, damaged files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from diffhmr.clip_checkpoint import save_trained
from diffhmr.config_clips import ClipExperimentConfig
from diffhmr.errors import UserError
from diffhmr.models.clip_tasks import build_action_model, build_lifting_model
from diffhmr.models.clip_windows import WindowOptions
from diffhmr.models.dstformer import DSTformer, DSTformerSize
from diffhmr.models.motion_heads import ActionClassifier, ActionEmbedding, MotionBertAction
from diffhmr.motion_checkpoint import save_motion_model
from diffhmr.task_checkpoint import load_action_model, load_lifting_model

TINY = {"width": 8, "hidden": 8, "depth": 1, "heads": 2, "features": 8, "max_frames": 120}
NONE = {"body_name": "none", "body_sha256": "unknown"}


def _config(task: str, **model: object) -> ClipExperimentConfig:
    settings = {"backbone": TINY, "window": 6, "overlap": 1, "classes": 3, "embedding": 5, **model}
    return ClipExperimentConfig.model_validate({"name": "x", "task": task, "model": settings})


def _keypoints(*lead: int) -> torch.Tensor:
    return torch.rand(*lead, 17, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("by", "relative"), [("picture", True), ("person", False)])
def test_a_lifting_model_comes_back(tmp_path: Path, by: str, relative: bool) -> None:
    config = _config("pose3d", head="lifting", input=by, root_relative=relative)
    model = build_lifting_model(config.model).eval()
    nn.init.normal_(model.network.head.weight)
    save_trained(tmp_path / "x", model.network, config, None, 7)
    loaded = load_lifting_model(tmp_path / "x")
    assert loaded.config == config and loaded.step == 7 and len(loaded.sha256) == 64
    assert (loaded.model.window, loaded.model.root_relative) == (WindowOptions(6, 1, by), relative)  # type: ignore[arg-type]
    keypoints = _keypoints(2, 11)
    assert torch.equal(loaded.model.lift(keypoints), model.lift(keypoints))


@pytest.mark.parametrize("head", ["classifier", "embedding"])
def test_an_action_model_comes_back(tmp_path: Path, head: str) -> None:
    config = _config("action", head=head)
    model = build_action_model(config.model).eval()
    save_trained(tmp_path / "x", model.network, config, None, 7)
    loaded = load_action_model(tmp_path / "x")
    assert loaded.config == config and loaded.model.contrastive == (head == "embedding")
    assert not loaded.model.coco_scores
    assert torch.equal(loaded.model.predict(_keypoints(2, 1, 5)), model.predict(_keypoints(2, 1, 5)))


def test_imported_weights_see_clips_as_in_their_training(tmp_path: Path) -> None:
    backbone = DSTformer(DSTformerSize(**TINY))
    save_motion_model(tmp_path / "lifting", backbone, NONE)
    lifting = load_lifting_model(tmp_path / "lifting")
    assert lifting.model.window == WindowOptions(120, 0, "picture") and lifting.model.root_relative
    assert lifting.config is None and lifting.step == 0
    heads = {"classifier": (ActionClassifier(3, 8), 120), "embedding": (ActionEmbedding(8, 5), 100)}
    for name, (head, frames) in heads.items():
        save_motion_model(tmp_path / name, MotionBertAction(backbone, head), NONE)
        action = load_action_model(tmp_path / name).model
        assert action.window == WindowOptions(frames, 0, "person") and action.coco_scores


def test_what_imported_positions_are_relative_to(tmp_path: Path) -> None:
    backbone = DSTformer(DSTformerSize(**TINY))
    for value in ("true", "false"):
        save_motion_model(tmp_path / value, backbone, NONE | {"root_relative": value})
        assert load_lifting_model(tmp_path / value).model.root_relative == (value == "true")
    save_motion_model(tmp_path / "x", backbone, NONE | {"root_relative": "no"})
    with pytest.raises(UserError, match=r"damaged header \(root_relative\)"):
        load_lifting_model(tmp_path / "x")
    # A file of a training has its settings.
    save_trained(tmp_path / "y", backbone, _config("pose3d", head="lifting"), None, 7)
    assert not load_lifting_model(tmp_path / "y").model.root_relative


def test_a_damaged_step_is_told(tmp_path: Path) -> None:
    backbone = DSTformer(DSTformerSize(**TINY))
    save_motion_model(tmp_path / "x", backbone, NONE | {"step": "many"})
    with pytest.raises(UserError, match=r"damaged header \(step\)"):
        load_lifting_model(tmp_path / "x")
    save_motion_model(tmp_path / "y", MotionBertAction(backbone, ActionEmbedding(8, 5)), NONE | {"step": "-1"})
    with pytest.raises(UserError, match=r"damaged header \(step\)"):
        load_action_model(tmp_path / "y")
