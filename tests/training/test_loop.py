"""The training loop: whole runs, resuming bit for bit, where a run starts from, and what stops it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from diffhmr.batch import ImageBatch
from diffhmr.body.model import BodyModel
from diffhmr.checkpoint import load_checkpoint, load_state, read_metadata, save_state
from diffhmr.datasets import build_dataset
from diffhmr.errors import UserError
from diffhmr.training import loop, people_task
from diffhmr.training.loop import run
from tests.training.runs import assert_same_weights, make_config, make_trainer, run_until

# Whole runs


def test_a_run_writes_model_state_config_and_events(tmp_path: Path, free_body: BodyModel) -> None:
    config = make_config(tmp_path)
    path = run(config)
    assert path == tmp_path / "run" / "model.safetensors"
    loaded = load_checkpoint(path, kind="diffhmr")
    assert loaded.config == config and loaded.step == 6 and loaded.metadata["finished"] == "true"
    state = load_state(tmp_path / "run" / "state.pt")
    assert state.step == 6 and state.body_sha256 == free_body.sha256
    name = "codec.mean"
    assert torch.equal(loaded.model.state_dict()[name], state.model[name])
    assert bool((state.model[name] != 0).any())
    assert not list((tmp_path / "run").glob(".*"))

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    scalars = events.Tags()["scalars"]
    for tag in ("loss/total", "loss/diffusion", "loss/regressor_pose", "optimiser/lr", "optimiser/gradient_norm"):
        assert [event.step for event in events.Scalars(tag)] == [2, 4, 6], tag
    for tag in ("mode_mpjpe_mm", "random_mpjpe_mm", "min_of_10_mpjpe_mm", "energy_score_mm"):
        assert f"val/{tag}" in scalars and f"val_raw/{tag}" in scalars
    assert "speed/items_per_second" in scalars
    assert events.Tags()["images"] == ["hypotheses"]
    total, parts = events.Scalars("loss/total")[0].value, config.loss.model_dump()
    terms = [tag.split("/")[1] for tag in scalars if tag.startswith("loss/") and tag != "loss/total"]
    assert total == pytest.approx(
        sum(parts[term] * events.Scalars(f"loss/{term}")[0].value for term in terms), rel=1e-4
    )


def test_the_file_holds_the_moving_average(tmp_path: Path) -> None:
    run(make_config(tmp_path, train={"ema_decay": 0.9}))
    state = load_state(tmp_path / "run" / "state.pt")
    stored = load_file(tmp_path / "run" / "model.safetensors")
    moved = [name for name, value in stored.items() if not torch.equal(value, state.model[name])]
    assert len(moved) > len(stored) / 2
    for name, value in stored.items():
        assert torch.equal(value, state.ema[f"weights.{name}"])


def test_same_settings_same_weights_other_seed_others(tmp_path: Path) -> None:
    paths = [run(make_config(tmp_path / name)) for name in "ab"]
    assert_same_weights(*paths)
    other = run(make_config(tmp_path / "c").model_copy(update={"seed": 1}))
    assert not torch.equal(load_file(paths[0])["codec.mean"], torch.zeros(1))
    assert any(not torch.equal(value, load_file(other)[name]) for name, value in load_file(paths[0]).items())


@pytest.mark.parametrize("steps", [(1,), (3, 5)])
def test_resumed_equals_uninterrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: Sequence[int]) -> None:
    """Killed before the first checkpoint, and killed twice in between: the same weights in the end, bit for bit."""
    straight = run(make_config(tmp_path / "straight"))
    config = make_config(tmp_path / "broken")
    for step in steps:
        run_until(config, step, monkeypatch)
    # Another number of workers and other reports change nothing.
    reports = {"workers": 1, "log_every": 1, "validate_every": 1, "picture_every": 1}
    again = config.model_copy(update={"train": config.train.model_copy(update=reports)})
    resumed = run(again, resume=True)
    assert_same_weights(straight, resumed)
    first, second = (load_state(path.with_name("state.pt")) for path in (straight, resumed))
    for index, entry in first.optimizer["state"].items():
        assert all(torch.equal(value, second.optimizer["state"][index][name]) for name, value in entry.items())


def test_resumed_image_run_equals_uninterrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch-norm statistics and the layout of convolutions survive too."""
    sections: dict[str, dict[str, Any]] = {
        "model": {"encoder": {"kind": "image"}},
        "data": {"images": True, "image_size": 32, "val_items": 2},
        "train": {"steps": 3, "batch_size": 2, "checkpoint_every": 1},
    }
    straight = run(make_config(tmp_path / "straight", **sections))
    config = make_config(tmp_path / "broken", **sections)
    run_until(config, 2, monkeypatch)
    assert read_metadata(tmp_path / "broken" / "run" / "model.safetensors")["step"] == "1"
    assert_same_weights(straight, run(config, resume=True))


def test_more_steps_go_on_from_a_finished_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = make_config(tmp_path)
    path = run(config)
    before = path.read_bytes()
    assert run(config, resume=True) == path
    assert path.read_bytes() == before
    longer = config.model_copy(update={"train": config.train.model_copy(update={"steps": 8})})
    assert "the learning rate follows the new number" not in caplog.text
    run(longer, resume=True)
    assert load_checkpoint(path).step == 8
    assert config.train.decay == "cosine" and "the learning rate follows the new number" in caplog.text


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    """Sixty steps on eight people: the network learns them."""
    config = make_config(
        tmp_path,
        model={"regressor": {"width": 64, "dropout": 0.0}, "denoiser": {"width": 64, "blocks": 1}},
        data={"train_items": 8},
        train={"steps": 60, "batch_size": 8, "lr": 3e-3, "validate_every": 100, "picture_every": 100},
    )
    trainer = make_trainer(config)
    trainer.start()
    totals = []
    for batch in trainer.batches():
        totals.append(float(trainer.gradients(batch).total))
        trainer.update()
    assert trainer.step == 60
    assert sum(totals[-10:]) < 0.7 * sum(totals[:10])


# What a run starts from


def test_resuming_fetches_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ImageNet weights are replaced by those of the run, so a machine without network can go on."""
    config = make_config(
        tmp_path,
        model={"kind": "spin", "encoder": {"kind": "image", "weights": "imagenet"}},
        data={"images": True, "image_size": 32, "val_items": 1},
        train={"steps": 1, "batch_size": 2},
    )

    def fetch(_: str) -> dict[str, torch.Tensor]:
        return torchvision.models.resnet18().state_dict()

    with monkeypatch.context() as patch:
        patch.setattr("diffhmr.models.encoders._imagenet_weights", fetch)
        run(config)
    monkeypatch.setattr("diffhmr.models.encoders._imagenet_weights", lambda _: pytest.fail("a download"))
    longer = config.model_copy(update={"train": config.train.model_copy(update={"steps": 2})})
    assert load_checkpoint(run(longer, resume=True)).step == 2


def test_start_from_other_weights(tmp_path: Path) -> None:
    first = run(make_config(tmp_path / "a"))
    config = make_config(tmp_path / "b").model_copy(update={"init": first})
    trainer = make_trainer(config)
    trainer.start()
    for name, value in load_file(first).items():
        assert torch.equal(trainer.model.state_dict()[name], value)
        assert torch.equal(trainer.averaged().state_dict()[name], value)
    wider = make_config(tmp_path / "c", model={"regressor": {"width": 24}}).model_copy(update={"init": first})
    with pytest.raises(UserError, match="holds the weights of another model"):
        run(wider)
    assert not list((tmp_path / "c" / "run").iterdir())
    images: dict[str, dict[str, Any]] = {"model": {"encoder": {"kind": "image"}}, "data": {"images": True}}
    other = make_config(tmp_path / "d", **images).model_copy(update={"init": first})
    with pytest.raises(UserError, match="holds the weights of another model"):
        run(other)


def test_a_missing_detector_says_what_to_do(tmp_path: Path) -> None:
    image: dict[str, dict[str, Any]] = {"model": {"encoder": {"kind": "image", "pooling": "joints", "network": "mlp"}}}
    config = make_config(tmp_path, **image, data={"images": True})
    config = config.model_copy(update={"init_detector": tmp_path / "nothing.safetensors"})
    with pytest.raises(UserError, match=r"init_detector not found: .*nothing.safetensors; train it first"):
        run(config)


def test_layout_and_precision_of_the_encoder(tmp_path: Path) -> None:
    image: dict[str, dict[str, Any]] = {"model": {"encoder": {"kind": "image"}}, "data": {"images": True}}
    trainer = make_trainer(make_config(tmp_path, **image, train={"amp": "bf16"}))
    weight = trainer.model.state_dict()["encoder.resnet.conv1.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert trainer.model.encoder_autocast == torch.bfloat16
    assert trainer._copy.encoder_autocast is None
    assert make_trainer(make_config(tmp_path)).model.encoder_autocast is None


# What stops a run


def test_folders_that_are_in_use(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("")
    with pytest.raises(UserError, match="is not empty; continue that run with --resume"):
        run(config)
    with pytest.raises(UserError, match="holds no run that could be resumed"):
        run(config, resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is not a folder"):
        run(config.model_copy(update={"name": "file"}))
    with pytest.raises(UserError, match="cannot write"):
        run(config.model_copy(update={"output": tmp_path / "file"}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "run"]


def test_resume_names_the_settings_that_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(tmp_path)
    run_until(config, 1, monkeypatch)  # no state yet: the settings are those of config.yaml
    changed = make_config(tmp_path, train={"lr": 0.5, "log_every": 5}, data={"occluder": 0.0})
    for _ in range(2):
        with pytest.raises(UserError, match=r"other settings: train\.lr, data\.occluder;") as caught:
            run(changed, resume=True)
        assert "log_every" not in str(caught.value)
        nothing_to_lose = not (tmp_path / "run" / "state.pt").exists()
        assert ("or delete the folder, whose run reached no checkpoint" in str(caught.value)) == nothing_to_lose
        run_until(config, 5, monkeypatch)


def test_resume_with_another_body(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    run(config)
    path = tmp_path / "run" / "state.pt"
    state = load_state(path)
    save_state(path, loop.TrainingState(**{**state.__dict__, "body_sha256": "0" * 64}))
    with pytest.raises(UserError, match="is not the body that this run began with"):
        run(config, resume=True)


def poison(monkeypatch: pytest.MonkeyPatch, item: int) -> None:
    """Give one training item a camera that is not a number."""

    def build(*arguments: Any) -> Any:
        dataset = build_dataset(*arguments)
        original: Callable[[Sequence[int]], ImageBatch] = dataset.__getitems__

        class Poisoned:
            def __len__(self) -> int:
                return len(dataset)

            def __getitems__(self, indices: Sequence[int]) -> ImageBatch:
                batch = original(indices)
                assert batch.targets is not None
                for place, index in enumerate(indices):
                    if index == item:
                        batch.targets.joints2d[place, :, 0] = float("nan")
                return batch

        return Poisoned()

    monkeypatch.setattr(people_task, "build_dataset", build)


def test_a_loss_that_is_not_finite_names_the_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(tmp_path)
    poison(monkeypatch, 14)
    with pytest.raises(
        UserError, match=r"step 3: regressor_joints2d is not finite; .*nonfinite_step_3\.json holds"
    ) as caught:
        run(config)
    assert "\n" not in str(caught.value)
    report = json.loads((tmp_path / "run" / "nonfinite_step_3.json").read_text())
    assert report["step"] == 3 and report["terms"]["regressor_joints2d"] == "nan"
    assert [item["index"] for item in report["items_with_averaged_weights"]] == [12, 13, 14, 15]
    assert [item["regressor_joints2d"] == "nan" for item in report["items_with_averaged_weights"]] == [
        False,
        False,
        True,
        False,
    ]
    assert len({item["item_seed"] for item in report["items_with_averaged_weights"]}) == 4
    assert report["parameters_with_such_gradients"]
    # What was saved before is from before it went wrong.
    assert load_checkpoint(tmp_path / "run" / "model.safetensors").step == 2


def test_weights_that_went_astray_are_told_from_bad_items(tmp_path: Path) -> None:
    trainer = make_trainer(make_config(tmp_path))
    trainer.start()
    batch = next(trainer.batches())
    next(trainer.model.parameters()).data.fill_(float("inf"))
    (tmp_path / "run").mkdir()
    with pytest.raises(UserError, match="else lower train"):
        trainer._stop(trainer.gradients(batch), batch, tmp_path / "run")
    report = json.loads((tmp_path / "run" / "nonfinite_step_0.json").read_text())
    assert report["total"] == "nan"
    items = report["items_with_averaged_weights"]
    assert len(items) == 4 and all(isinstance(item["diffusion"], float) for item in items)
