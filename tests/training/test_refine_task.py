"""Runs of the refinement of given parameters: they train, resume, start each other, and say what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from diffhmr.clip_checkpoint import load_clip_model
from diffhmr.errors import UserError
from diffhmr.training.dry_run import dry_run
from diffhmr.training.loop import run
from tests.releases.motionbert import mesh_frames, write_splits
from tests.training.runs import assert_same_weights, make_clip_config, make_trainer, run_until

REFINE: dict[str, Any] = {"head": "paper", "refine": True}
SYNTHETIC: dict[str, Any] = {"initial": True}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = make_clip_config(tmp_path_factory.mktemp("refine"), model=REFINE, data=SYNTHETIC)
    return run(config)


def test_a_run_refines(trained: Path) -> None:
    loaded = load_clip_model(trained)
    assert loaded.model.refines and loaded.metadata["kind"] == "diffmesh_refine" and loaded.step == 4
    events = EventAccumulator(str(trained.parent / "tensorboard"))
    events.Reload()
    (given,) = {event.value for event in events.Scalars("val/initial_mpjpe_mm")}
    assert 30 < given < 250
    # The correction begins near zero: after four steps the result is still about as good as what was given.
    assert abs(events.Scalars("val/mode_mpjpe_mm")[-1].value - given) < 0.2 * given


@pytest.mark.slow
def test_resumed_equals_uninterrupted(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_clip_config(tmp_path, model=REFINE, data=SYNTHETIC)
    run_until(config, 3, monkeypatch)
    assert_same_weights(trained, run(config, resume=True))


def test_where_a_refinement_starts(trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    plain = make_clip_config(tmp_path / "a", model={"head": "paper"}).model_copy(update={"init": trained})
    make_trainer(plain).start()
    assert "its head is of another kind or size" in caplog.text
    caplog.clear()
    again = make_clip_config(tmp_path / "b", model=REFINE, data=SYNTHETIC).model_copy(update={"init": trained})
    trainer = make_trainer(again)
    trainer.start()
    assert "starting with backbone and head of" in caplog.text
    caplog.clear()
    other = make_clip_config(tmp_path / "c", model={**REFINE, "window": 8}, data=SYNTHETIC)
    make_trainer(other.model_copy(update={"init": trained})).start()
    assert "its head is of another kind or size" in caplog.text


def _files(path: Path, *, refine: bool) -> dict[str, Any]:
    frames = mesh_frames({"a": 30, "b": 20}, np.random.default_rng(0), sizes=True, refine=refine)
    write_splits(path, frames, frames)
    source = {"name": "a", "format": "mesh_det", "path": str(path)}
    validation = {**source, "split": "test"}
    return {"kind": "files", "initial": True, "sources": [source], "validation": validation, "test_items": 4}


def test_files_with_predictions_are_refined(tmp_path: Path) -> None:
    model = {**REFINE, "head": "released"}
    config = make_clip_config(tmp_path, model=model, data=_files(tmp_path / "good.pkl", refine=True))
    assert "for 2 clips" in dry_run(config)
    config = make_clip_config(tmp_path, model=model, data=_files(tmp_path / "bad.pkl", refine=False))
    with pytest.raises(UserError, match=r"bad\.pkl has no parameters to be refined"):
        dry_run(config)


@pytest.mark.parametrize(("model", "data"), [(REFINE, {}), ({"head": "paper"}, SYNTHETIC)])
def test_model_and_data_agree(tmp_path: Path, model: dict[str, Any], data: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"model\.refine refines what data\.initial brings: set both"):
        make_clip_config(tmp_path, model=model, data=data)
    with pytest.raises(UserError, match="refine belongs to the heads released and paper, not to motionbert"):
        make_clip_config(tmp_path, model={"head": "motionbert", "refine": True}, data=SYNTHETIC)
