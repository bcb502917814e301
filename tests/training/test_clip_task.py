"""Runs on clips: what they write, resuming bit for bit, statistics, where they start."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from diffhmr.body.model import BodyModel
from diffhmr.checkpoint import load_checkpoint, load_state
from diffhmr.clip_batch import ClipBatch
from diffhmr.clip_checkpoint import load_clip_model
from diffhmr.config_clips import ClipExperimentConfig
from diffhmr.datasets import build_clip_dataset
from diffhmr.errors import UserError
from diffhmr.models.dstformer import DSTformer, DSTformerSize
from diffhmr.models.motion_heads import MeshHead, MotionBertMesh
from diffhmr.motion_checkpoint import save_motion_model
from diffhmr.training import clip_task
from diffhmr.training.clip_task import frames_for_statistics
from diffhmr.training.dry_run import dry_run
from diffhmr.training.loop import run
from tests.releases.motionbert import mesh_frames, write_splits
from tests.training.runs import assert_same_weights, make_clip_config, make_trainer, run_until

TINY = DSTformerSize(8, 8, 1, 2, 8, 8)
UNKNOWN = {"body_name": "none", "body_sha256": "unknown"}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model file of a run with the default head."""
    return run(make_clip_config(tmp_path_factory.mktemp("ours")))


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(make_clip_config(tmp_path_factory.mktemp("released"), model={"head": "released"}, train={"steps": 1}))


def test_a_run_writes_model_state_config_and_events(ours: Path, free_body: BodyModel) -> None:
    path, config = ours, make_clip_config(ours.parents[1])
    loaded = load_clip_model(path)
    assert loaded.config == config and loaded.step == 4 and loaded.metadata["finished"] == "true"
    assert not loaded.model.deterministic and loaded.body.sha256 == free_body.sha256
    state = load_state(path.with_name("state.pt"))
    assert state.config == config and (state.step, state.body_sha256) == (4, free_body.sha256)
    files = {path.name, "best.safetensors", "state.pt", "config.yaml", "tensorboard"}
    assert {item.name for item in path.parent.iterdir()} == files
    events = EventAccumulator(str(path.parent / "tensorboard"))
    events.Reload()
    scalars = events.Tags()["scalars"]
    for tag in ("loss/total", "loss/diffusion", "loss/joints3d", "loss/velocity", "optimiser/lr"):
        assert [event.step for event in events.Scalars(tag)] == [2, 4], tag
    for tag in ("mode_mpjpe_mm", "mode_pa_mpjpe_mm", "mode_mpvpe_mm", "mode_accel_error_mm_per_frame2",
                "random_mpjpe_mm", "min_of_10_mpjpe_mm", "random_mpvpe_mm", "min_of_10_mpvpe_mm"):  # fmt: skip
        assert f"val/{tag}" in scalars and f"val_raw/{tag}" in scalars
    assert events.Tags()["images"] == ["hypotheses"]


@pytest.mark.parametrize("head", ["motionbert", pytest.param("paper", marks=pytest.mark.slow), "ours"])
def test_resumed_equals_uninterrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str) -> None:
    """Killed before the first checkpoint, and killed once more behind it: the same weights in the end, bit for bit."""
    sections: dict[str, dict[str, Any]] = {"model": {"head": head}, "train": {"picture_every": 9, "backbone_lr": 1e-4}}
    straight = run(make_clip_config(tmp_path / "straight", **sections))
    config = make_clip_config(tmp_path / "broken", **sections)
    for step in (1, 3):
        run_until(config, step, monkeypatch)
    again = config.model_copy(update={"train": config.train.model_copy(update={"workers": 1, "validate_every": 9})})
    assert_same_weights(straight, run(again, resume=True))
    assert load_clip_model(straight).model.deterministic == (head != "ours")


def scalars_of(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("speed/")]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def test_what_is_interrupted_by_validation_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while step 4 is validated: the run that goes on says, keeps and draws what one says that never stopped."""
    sections: dict[str, dict[str, Any]] = {"train": {"validate_every": 2, "log_every": 1}}
    straight = run(make_clip_config(tmp_path / "straight", **sections)).parent
    config = make_clip_config(tmp_path / "broken", **sections)
    validate = clip_task.ClipTask.validate
    calls = []

    def interrupted(self: Any, model: Any) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 4:  # step 4, the averaged weights
            raise KeyboardInterrupt
        return validate(self, model)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(clip_task.ClipTask, "validate", interrupted)
        run(config)
    broken = run(config, resume=True).parent
    assert scalars_of(broken) == scalars_of(straight) and "val/mode_mpvpe_mm" in scalars_of(broken)
    for name in ("model.safetensors", "best.safetensors"):
        assert_same_weights(straight / name, broken / name)


def on_files(folder: Path, validation: str, split: str = "test") -> ClipExperimentConfig:
    source = {"name": "a", "format": "mesh_det", "resolution": 1920}
    data = {
        "kind": "files",
        "sources": [source | {"path": str(folder / "mesh.pkl"), "split": "train"}],
        "validation": source | {"path": str(folder / validation), "split": split},
    }
    return make_clip_config(folder, data=data)


def test_validation_data_are_looked_at_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = mesh_frames({"a": 14}, np.random.default_rng(0))
    write_splits(tmp_path / "mesh.pkl", frames, frames)
    config = on_files(tmp_path, "none.pkl")
    for attempt in (run, dry_run):
        with pytest.raises(UserError, match=r"none\.pkl"):
            attempt(config)
    assert list((tmp_path / "run").iterdir()) == []
    # What was wrong may be mended also later, as long as nothing has been chosen by it.
    shutil.copy(tmp_path / "mesh.pkl", tmp_path / "other.pkl")
    run_until(on_files(tmp_path, "other.pkl"), 3, monkeypatch)
    assert load_state(run(on_files(tmp_path, "mesh.pkl"), resume=True).parent / "state.pt").step == 4


def test_validation_data_stay_when_they_have_chosen_a_model(tmp_path: Path) -> None:
    frames = mesh_frames({"a": 14}, np.random.default_rng(0))
    write_splits(tmp_path / "mesh.pkl", frames, frames)
    shutil.copy(tmp_path / "mesh.pkl", tmp_path / "other.pkl")
    folder = run(on_files(tmp_path, "mesh.pkl", split="train")).parent
    assert (folder / "best.safetensors").is_file()
    with pytest.raises(UserError, match=r"other settings: data\.validation"):
        run(on_files(tmp_path, "other.pkl", split="train"), resume=True)


def test_a_run_does_not_go_back(tmp_path: Path) -> None:
    folder = run(make_clip_config(tmp_path)).parent
    before = (folder / "config.yaml").read_text()
    with pytest.raises(UserError, match=r"is at step 4 already: set train\.steps to more than that"):
        run(make_clip_config(tmp_path, train={"steps": 3}), resume=True)
    assert (folder / "config.yaml").read_text() == before


@pytest.mark.parametrize(
    ("head", "frames", "fine"), [("motionbert", 12, False), ("ours", 1, False), ("ours", 12, True)]
)
def test_batch_norm_needs_two(tmp_path: Path, head: str, frames: int, fine: bool) -> None:
    config = make_clip_config(tmp_path, model={"head": head}, data={"frames": frames}, train={"batch_size": 1})
    if fine:
        make_trainer(config)
    else:
        with pytest.raises(UserError, match=f"the head {head} normalises over the batch: choose at least 2"):
            make_trainer(config)


def test_the_backbone_alone_is_in_half_precision(tmp_path: Path) -> None:
    trainer = make_trainer(make_clip_config(tmp_path))
    assert trainer.model.backbone_autocast == torch.bfloat16 and trainer._copy.backbone_autocast is None
    trainer = make_trainer(make_clip_config(tmp_path, train={"amp": "off"}))
    assert trainer.model.backbone_autocast is None


def test_the_backbone_learns_at_its_own_rate(tmp_path: Path) -> None:
    """AdamW's steps are as long as the rate: with one of almost nothing the backbone stays where it was."""
    trainer = make_trainer(make_clip_config(tmp_path, train={"backbone_lr": 1e-9, "amp": "off"}))
    trainer.start()
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters() if value.requires_grad}
    trainer.gradients(next(trainer.batches()))
    trainer.update()
    moved = {
        name: float((trainer.model.get_parameter(name).detach() - value).abs().max()) for name, value in before.items()
    }
    backbone = {name for name in moved if name.startswith("network.backbone.")}
    assert len(backbone) > 20 and max(moved[name] for name in backbone) < 1e-7
    assert len(moved) > len(backbone) and min(moved[name] for name in set(moved) - backbone) > 1e-4


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    """Forty steps on two clips: the network learns them."""
    train = {"steps": 40, "lr": 1e-2, "amp": "off", "decay": "constant"}
    config = make_clip_config(tmp_path, model={"head": "motionbert", "dropout": 0.0}, data={"train_items": 2},
                              train=train)  # fmt: skip
    trainer = make_trainer(config)
    trainer.start()
    totals = []
    for batch in trainer.batches():
        totals.append(float(trainer.gradients(batch).total))
        trainer.update()
    assert sum(totals[-5:]) < 0.7 * sum(totals[:5])


def test_the_dry_run_speaks_of_clips(tmp_path: Path) -> None:
    report = dry_run(make_clip_config(tmp_path))
    assert "for 2 clips, without data" in report and "(backbone " in report
    assert list(tmp_path.iterdir()) == []


# Statistics


@pytest.mark.parametrize(("count", "clips"), [(5, 1), (12, 1), (13, 2), (50, 5), (10**6, 7)])
def test_frames_for_statistics_are_the_first_ones(tmp_path: Path, free_body: BodyModel, count: int, clips: int) -> None:
    config = make_clip_config(tmp_path, data={"train_items": 7})
    dataset = build_clip_dataset(config.data, free_body, "train")
    rotations, betas = frames_for_statistics(dataset, count)
    targets = dataset.__getitems__(range(clips)).targets
    assert targets is not None
    frames = min(count, 12 * clips)
    assert torch.equal(rotations, targets.rotations.flatten(0, 1)[:frames])
    assert torch.equal(betas, targets.betas.repeat_interleave(12, 0)[:frames])


def test_too_few_frames_for_statistics() -> None:
    class Empty:
        def __len__(self) -> int:
            return 0

        def __getitems__(self, _: Sequence[int]) -> ClipBatch:
            raise AssertionError

    with pytest.raises(UserError, match="hold 0 frames, too few for statistics"):
        frames_for_statistics(Empty(), 100)


def test_a_run_starts_from_the_statistics(tmp_path: Path) -> None:
    trainer = make_trainer(make_clip_config(tmp_path, model={"head": "motionbert"}))
    trainer.start()
    _, betas = frames_for_statistics(trainer.task.dataset, 30)
    torch.testing.assert_close(trainer.model.network.head.init_shape[0], betas.mean(0))
    torch.testing.assert_close(trainer.averaged().network.head.init_shape[0], betas.mean(0))


# Where a run starts


def started(config: ClipExperimentConfig, path: Path) -> Any:
    trainer = make_trainer(config.model_copy(update={"init": path}))
    trainer.start()
    for name, value in trainer.averaged().state_dict().items():
        assert torch.equal(value, trainer.model.state_dict()[name])
    return trainer.model.network


def test_start_from_a_backbone_or_from_everything(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    torch.manual_seed(5)
    backbone, whole = DSTformer(TINY), MotionBertMesh(DSTformer(TINY), MeshHead(8, 8))
    save_motion_model(tmp_path / "backbone.safetensors", backbone, UNKNOWN)
    save_motion_model(tmp_path / "mesh.safetensors", whole, UNKNOWN)
    caplog.set_level("INFO")
    config = make_clip_config(tmp_path, model={"head": "motionbert"})
    untouched = make_trainer(config)
    untouched.start()

    network = started(config, tmp_path / "backbone.safetensors")
    assert_equal(network.backbone, backbone)
    assert_equal(network.head, untouched.model.network.head)
    assert "starting with the backbone of" in caplog.text and "head" not in caplog.messages[-1]

    assert_equal(started(config, tmp_path / "mesh.safetensors"), whole)
    assert "starting with backbone and head of" in caplog.text

    network = started(config.model_copy(update={"init_head": False}), tmp_path / "mesh.safetensors")
    assert_equal(network.backbone, whole.backbone)
    assert_equal(network.head, untouched.model.network.head)

    for sections in ({"head": "motionbert", "hidden": 16}, {"head": "paper"}, {"head": "ours"}):
        network = started(make_clip_config(tmp_path, model=sections), tmp_path / "mesh.safetensors")
        assert_equal(network.backbone, whole.backbone)
        assert caplog.messages[-1].endswith("its head is of another kind or size and is not used")


def assert_equal(network: torch.nn.Module, other: torch.nn.Module) -> None:
    one, two = network.state_dict(), other.state_dict()
    assert list(one) == list(two) and all(torch.equal(value, two[name]) for name, value in one.items())


def test_runs_start_each_other(tmp_path: Path, ours: Path, released: Path) -> None:
    """From a run's file comes everything; paper and released are one network."""
    for path, head in ((ours, "ours"), (released, "paper")):
        network = started(make_clip_config(tmp_path, model={"head": head}), path)
        assert_equal(network, load_clip_model(path).model.network)


def test_a_head_that_means_something_else_is_not_taken(
    tmp_path: Path, ours: Path, released: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Numbers of attention heads, and what rotations are relative to, are not in the shapes of the weights."""
    caplog.set_level("INFO")
    chain = {"width": 8, "depth": 1, "heads": 1, "condition_width": 8, "condition_depth": 1, "warm_up": 1}
    for path, head, change in ((ours, "ours", {"rotations": "camera"}), (released, "paper", {"chain": chain})):
        network = started(make_clip_config(tmp_path, model={"head": head, **change}), path)
        stored = load_clip_model(path).model.network
        assert_equal(network.backbone, stored.backbone)
        assert any(not torch.equal(v, stored.state_dict()[name]) for name, v in network.state_dict().items())
        assert caplog.messages[-1].endswith("and is not used")


def test_files_that_are_no_start(tmp_path: Path) -> None:
    config = make_clip_config(tmp_path)
    save_motion_model(tmp_path / "wide.safetensors", DSTformer(DSTformerSize(16, 8, 1, 2, 8, 8)), UNKNOWN)
    with pytest.raises(UserError, match=r"has width 16, this run wants model\.backbone\.width=8: set it to 16 or give"):
        started(config, tmp_path / "wide.safetensors")
    with pytest.raises(UserError, match="not found"):
        started(config, tmp_path / "none.safetensors")
    shipped = Path(__file__).parents[2] / "data/checkpoints/diffhmr_keypoints.safetensors"
    with pytest.raises(UserError) as caught:
        started(config, shipped)
    assert "\n" not in str(caught.value)


def test_a_file_of_clips_is_no_model_of_people(ours: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_checkpoint(ours)
    assert str(ours) in str(caught.value) and "\n" not in str(caught.value)


def test_a_loss_that_is_not_finite_names_the_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*arguments: Any) -> Any:
        dataset = build_clip_dataset(*arguments)
        original = dataset.__getitems__

        class Poisoned:
            def __len__(self) -> int:
                return len(dataset)

            def __getitems__(self, indices: Sequence[int]) -> ClipBatch:
                batch = original(indices)
                assert batch.targets is not None
                if 5 in indices:
                    batch.targets.betas[list(indices).index(5)] = float("nan")
                return batch

        return Poisoned()

    monkeypatch.setattr(clip_task, "build_clip_dataset", build)
    with pytest.raises(UserError, match=r"step 2: .*shape.* is not finite"):
        run(make_clip_config(tmp_path, train={"statistics_items": 12}))
    assert (tmp_path / "run" / "nonfinite_step_2.json").is_file()
