"""The training loop: steps, data order, resuming bit for bit, several processes, and what stops a run."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from diffhmr.batch import ImageBatch, Prediction
from diffhmr.body.joints import SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.checkpoint import load_body, load_checkpoint, load_state, read_metadata, save_state
from diffhmr.config import ExperimentConfig, LossConfig, SamplerConfig, TrainConfig
from diffhmr.config_file import config_from_dict, dump_config
from diffhmr.datasets import build_dataset
from diffhmr.errors import UserError
from diffhmr.models.unet1d import UnetDenoiser
from diffhmr.training import loop
from diffhmr.training.data import StepSampler, StepSlice, people_for_statistics, step_batches
from diffhmr.training.dry_run import dry_run
from diffhmr.training.log import MeanOfTerms, format_duration
from diffhmr.training.loop import Trainer, run
from diffhmr.training.processes import Processes
from diffhmr.training.steps import build_optimizer, compute_gradients, learning_rate, step_seed, weighted_sum
from diffhmr.training.validation import Validation, hypotheses_picture, validate

ROOT = Path(__file__).parents[2]
ALONE = Processes(0, 1, torch.device("cpu"))


def make_config(folder: Path, **sections: dict[str, Any]) -> ExperimentConfig:
    """A run of a second: keypoints, tiny networks, six steps."""
    settings: dict[str, Any] = {
        "name": "run",
        "output": str(folder),
        "body": {"path": str(ROOT / "data/body/free_body.npz")},
        "model": {
            "encoder": {"kind": "keypoints", "width": 16, "layers": 1, "heads": 2},
            "regressor": {"width": 16, "dropout": 0.3},
            "denoiser": {"width": 16, "blocks": 1, "condition_dropout": 0.1},
        },
        "data": {"images": False, "val_items": 6},
        "sampler": {"steps": 2},
        "train": {
            "steps": 6,
            "batch_size": 4,
            "lr": 1e-3,
            "warmup_steps": 2,
            "amp": "off",
            "workers": 0,
            "log_every": 2,
            "checkpoint_every": 2,
            "validate_every": 6,
            "picture_every": 6,
            "statistics_items": 64,
        },
    }
    for name, changes in sections.items():
        settings[name] = {**settings.get(name, {}), **changes}
    return config_from_dict(settings)


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("data/body/free_body.npz")


class Killed(Exception):
    """Stands for the end of the process."""


def run_until(config: ExperimentConfig, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, but let the process end when ``step`` steps are done, before anything of that step is written."""
    update = Trainer.update

    def dying(self: Trainer) -> None:
        update(self)
        if self.step == step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", dying)
        with pytest.raises(Killed):
            run(config, resume=True)


def assert_same_weights(first: Path, second: Path) -> None:
    one, two = load_file(first), load_file(second)
    assert set(one) == set(two)
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


# The parts of a step


def test_learning_rate_warms_up_and_decays() -> None:
    train = TrainConfig(lr=1.0, warmup_steps=4, steps=104)
    rates = [learning_rate(step, train) for step in range(104)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[54] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0.00025, abs=1e-4)
    assert all(late < early for early, late in itertools.pairwise(rates[4:]))
    constant = TrainConfig(lr=1.0, warmup_steps=4, steps=104, decay="constant")
    assert [learning_rate(step, constant) for step in (4, 50, 103)] == [1.0, 1.0, 1.0]
    assert learning_rate(0, TrainConfig(lr=1.0, warmup_steps=0, steps=1)) == 1.0


def test_decay_spares_biases_and_norms() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Conv1d(3, 3, 1))
    model[2].weight.requires_grad_(False)
    decayed, spared = build_optimizer(model, TrainConfig(weight_decay=0.1)).param_groups
    assert decayed["weight_decay"] == 0.1 and spared["weight_decay"] == 0
    assert {id(value) for value in decayed["params"]} == {id(model[0].weight)}
    assert {id(value) for value in spared["params"]} == {
        id(value) for value in (model[0].bias, model[1].weight, model[1].bias, model[2].bias)
    }


def test_decay_spares_the_gains_of_the_unet() -> None:
    model = UnetDenoiser(state_dim=144, condition_dim=8, dim=8, mults=(1, 2))
    groups = build_optimizer(model, TrainConfig()).param_groups
    decayed, spared = ({id(value) for value in group["params"]} for group in groups)
    gains = {id(value) for name, value in model.named_parameters() if name.endswith("gain")}
    kernels = {id(value) for name, value in model.named_parameters() if name.endswith("weight")}
    assert gains and gains <= spared
    assert kernels == decayed


def test_total_is_the_weighted_sum() -> None:
    terms = {"diffusion": torch.tensor(2.0), "regressor_joints3d": torch.tensor(3.0)}
    assert float(weighted_sum(terms, LossConfig(diffusion=0.5, regressor_joints3d=4))) == 13
    unused = {**terms, "x0_joints3d": torch.tensor(float("nan"))}
    assert float(weighted_sum(unused, LossConfig(diffusion=0.5, regressor_joints3d=4))) == 13
    with pytest.raises(UserError, match="nothing to learn"):
        weighted_sum(terms, LossConfig(diffusion=0, regressor_joints3d=0))


def test_gradients_are_fresh_and_clipped() -> None:
    layer = nn.Linear(2, 1, bias=False)
    nn.init.ones_(layer.weight)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, _: ImageBatch, seed: int) -> dict[str, torch.Tensor]:
            return {"diffusion": seed * layer(torch.tensor([3.0, 4.0])).sum()}

    batch = ImageBatch(torch.zeros(1, dtype=torch.int64))
    for _ in range(2):  # gradients of an earlier step must not add up
        outcome = compute_gradients(Network(), batch, 2, LossConfig(), max_norm=1.0)
        assert float(outcome.total) == 14 and float(outcome.norm) == pytest.approx(10)
        assert layer.weight.grad is not None
        torch.testing.assert_close(layer.weight.grad, torch.tensor([[0.6, 0.8]]))
        assert outcome.finite()
    compute_gradients(Network(), batch, 2, LossConfig(), max_norm=100.0)
    torch.testing.assert_close(layer.weight.grad, torch.tensor([[6.0, 8.0]]))
    layer.weight.data.fill_(float("inf"))
    assert not compute_gradients(Network(), batch, 2, LossConfig(), max_norm=1.0).finite()


def test_step_seeds_differ() -> None:
    seeds = {step_seed(seed, step) for seed in range(3) for step in range(100)}
    assert len(seeds) == 300 and step_seed(1, 2) == step_seed(1, 2)


def test_means_of_terms() -> None:
    means = MeanOfTerms()
    for value in (1.0, 2.0, 6.0):
        means.add({"a": torch.tensor(value), "b": torch.tensor(-value)})
    assert {name: float(value) for name, value in means.take().items()} == {"a": 3, "b": -3}
    means.add({"a": torch.tensor(5.0)})
    assert float(means.take()["a"]) == 5


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0:00:00"), (61, "0:01:01"), (36000.4, "10:00:00")])
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


# The order of the data


def test_items_follow_from_the_step() -> None:
    assert list(StepSampler(StepSlice(0, 3, 4, 0, 4), 100)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    whole = list(StepSampler(StepSlice(0, 5, 4, 0, 4), 7))
    assert whole[1] == [4, 5, 6, 0]
    assert list(StepSampler(StepSlice(3, 5, 4, 0, 4), 7)) == whole[3:]
    halves = [list(StepSampler(StepSlice(0, 5, 4, first, 2), 7)) for first in (0, 2)]
    assert [left + right for left, right in zip(*halves, strict=True)] == whole
    assert len(StepSampler(StepSlice(3, 5, 4, 0, 4), 7)) == 2


def test_batches_must_divide_equally() -> None:
    assert Processes(1, 4, torch.device("cpu")).share(64) == 16
    with pytest.raises(UserError, match=r"train\.batch_size 6 cannot be divided by 4 processes"):
        Processes(0, 4, torch.device("cpu")).share(6)


def test_workers_change_no_number(tmp_path: Path, body: BodyModel) -> None:
    config = make_config(tmp_path)
    dataset = build_dataset(config.data, body, "train")
    threads = torch.get_num_threads()
    streams = [list(step_batches(dataset, StepSlice(2, 6, 8, 0, 8), workers)) for workers in (0, 1, 2)]
    assert torch.get_num_threads() == threads
    for batches in zip(*streams, strict=True):
        for other in batches[1:]:
            assert torch.equal(batches[0].item_seed, other.item_seed)
            assert torch.equal(batches[0].keypoints, other.keypoints)
            assert torch.equal(batches[0].targets.joints3d, other.targets.joints3d)
            assert torch.equal(batches[0].targets.params.body_pose, other.targets.params.body_pose)


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_for_the_user_stay_one_line(workers: int) -> None:
    class Damaged:
        def __len__(self) -> int:
            return 100

        def __getitems__(self, indices: Sequence[int]) -> ImageBatch:
            if 9 in indices:
                raise UserError("cannot read b.png; remove it")
            return ImageBatch(torch.tensor(indices))

    batches = step_batches(Damaged(), StepSlice(0, 5, 4, 0, 4), workers)
    assert [next(batches).item_seed.tolist() for _ in range(2)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(UserError) as caught:
        next(batches)
    assert str(caught.value) == "cannot read b.png; remove it"


def test_statistics_come_from_the_people_of_the_images(tmp_path: Path, body: BodyModel) -> None:
    config = make_config(tmp_path, data={"images": True})
    params, camera = people_for_statistics(config.data, body, 40)
    batch = build_dataset(config.data.model_copy(update={"images": False}), body, "train").__getitems__(range(40))
    assert batch.targets is not None
    assert tuple(params.shape) == (40,)
    assert torch.equal(camera, batch.targets.camera)
    assert torch.equal(params.body_pose, batch.targets.params.body_pose)
    few, _ = people_for_statistics(config.data.model_copy(update={"train_items": 10}), body, 40)
    assert tuple(few.shape) == (10,)


# Whole runs


def test_a_run_writes_model_state_config_and_events(tmp_path: Path, body: BodyModel) -> None:
    config = make_config(tmp_path)
    path = run(config)
    assert path == tmp_path / "run" / "model.safetensors"
    loaded = load_checkpoint(path, kind="diffhmr")
    assert loaded.config == config and loaded.step == 6 and loaded.metadata["finished"] == "true"
    state = load_state(tmp_path / "run" / "state.pt")
    assert state.step == 6 and state.body_sha256 == body.sha256
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
    trainer = Trainer(config, ALONE)
    trainer.start()
    totals = []
    for batch in trainer.batches():
        totals.append(float(trainer.gradients(batch).total))
        trainer.update()
    assert trainer.step == 60
    assert sum(totals[-10:]) < 0.7 * sum(totals[:10])


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
        with pytest.raises(UserError, match=r"other settings: data\.occluder, train\.lr;") as caught:
            run(changed, resume=True)
        assert "log_every" not in str(caught.value)
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

    monkeypatch.setattr(loop, "build_dataset", build)


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
    trainer = Trainer(make_config(tmp_path), ALONE)
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
    trainer = Trainer(config, ALONE)
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
    trainer = Trainer(make_config(tmp_path, **image, train={"amp": "bf16"}), ALONE)
    weight = trainer.model.state_dict()["encoder.resnet.conv1.weight"]
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert trainer.model.encoder_autocast == torch.bfloat16
    assert trainer._copy.encoder_autocast is None
    assert Trainer(make_config(tmp_path), ALONE).model.encoder_autocast is None


def test_dry_run_reports_and_writes_nothing(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    report = dry_run(config)
    assert report.startswith(dump_config(config))
    for part in ("parameters  ", "encoder ", "memory  ", "GiB peak", "one step  ", "for 6 steps"):
        assert part in report
    assert list(tmp_path.iterdir()) == []


# Validation


class Oracle:
    """A model that knows the answers, all hypotheses moved sideways by ``shift`` times their number."""

    def __init__(self, shift: float) -> None:
        self.shift = shift

    def sample(self, batch: ImageBatch, num_samples: int, _sampler: SamplerConfig, _seed: int) -> Prediction:
        assert batch.targets is not None
        params = batch.targets.params.map(lambda value: value[:, None].repeat_interleave(num_samples, dim=1))
        camera = batch.targets.camera[:, None].repeat_interleave(num_samples, dim=1).clone()
        camera[..., 1] += self.shift * torch.arange(num_samples)
        return Prediction(params, camera)


@pytest.fixture(scope="module")
def validation(body: BodyModel) -> Validation:
    config = make_config(Path("unused"), data={"val_items": 5})
    return Validation(build_dataset(config.data, body, "val"), body, config.sampler, 0)


def test_the_truth_has_no_error(validation: Validation) -> None:
    scores = validate(Oracle(0.1), validation)  # type: ignore[arg-type]  # cameras do not count
    assert set(scores) == {"mode_mpjpe_mm", "random_mpjpe_mm", "min_of_10_mpjpe_mm", "energy_score_mm"}
    assert all(abs(value) < 0.01 for value in scores.values())


def test_errors_are_relative_to_the_pelvis(validation: Validation, body: BodyModel) -> None:
    """A fake body whose joints are all lifted by 1 m, and whose head is lifted by 140 mm more."""

    def joints(params: Any, _: Any) -> torch.Tensor:
        result = body.joints(params, SPIN49) + 1.0
        result[..., 25 + 18, 1] += 0.14
        return result

    fake = SimpleNamespace(joints=joints, v_template=body.v_template)
    lifted = Validation(validation.dataset, fake, validation.sampler, 0)  # type: ignore[arg-type]
    scores = validate(Oracle(0.0), lifted)  # type: ignore[arg-type]
    assert all(value == pytest.approx(10, abs=0.01) for value in scores.values())


def test_pictures_show_truth_and_hypotheses(validation: Validation) -> None:
    sheet = hypotheses_picture(Oracle(0.0), validation)  # type: ignore[arg-type]
    cells = sheet.unflatten(1, (5, 128)).unflatten(3, (8, 128)).permute(1, 3, 0, 2, 4)
    assert float(sheet.min()) >= 0 and float(sheet.max()) <= 1
    for person in cells:
        assert not torch.equal(person[0], person[1])
        for hypothesis in person[2:7]:
            # The truth is projected with the true camera, hypotheses with the crop's, which approximates it.
            assert float((hypothesis - person[1]).abs().mean()) < 0.05
        assert float((person[7] - 1).abs().mean()) > 0.005
    moved = hypotheses_picture(Oracle(0.1), validation)  # type: ignore[arg-type]
    assert torch.equal(moved[:, :, 256:384], sheet[:, :, 256:384])
    assert not torch.equal(moved[:, :, 384:512], sheet[:, :, 384:512])


# Several processes


def gradients_alone(config: ExperimentConfig) -> dict[str, torch.Tensor]:
    trainer = Trainer(config, ALONE)
    trainer.start()
    trainer.gradients(next(trainer.batches()))
    return {name: value.grad for name, value in trainer.model.named_parameters() if value.grad is not None}


def gradients_of_two(config: ExperimentConfig, folder: Path) -> dict[str, torch.Tensor]:
    settings, out = folder / "config.yaml", folder / "gradients.pt"
    settings.write_text(dump_config(config))
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, "tests/training/gradients_of_a_step.py", str(settings), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert result.returncode == 0, result.stderr
    content = torch.load(out, weights_only=True)
    assert content["processes"] == 2
    gradients: dict[str, torch.Tensor] = content["gradients"]
    return gradients


IMAGE_FROZEN: dict[str, dict[str, Any]] = {
    "model": {"encoder": {"kind": "image", "norm": "frozen"}},
    "data": {"images": True, "image_size": 32},
}


@pytest.mark.parametrize(
    "sections", [{}, pytest.param(IMAGE_FROZEN, marks=pytest.mark.slow)], ids=["keypoints", "images"]
)
def test_two_processes_give_the_gradients_of_one(tmp_path: Path, sections: dict[str, dict[str, Any]]) -> None:
    """Dropout included. With trainable batch norm on a CPU it would not hold: each process sees its own statistics."""
    config = make_config(tmp_path, **sections)
    alone, together = gradients_alone(config), gradients_of_two(config, tmp_path)
    assert set(alone) == set(together)
    scale = max(float(value.abs().max()) for value in alone.values())
    assert scale > 1e-3
    for name, value in alone.items():
        assert float((value - together[name]).abs().max()) < 1e-5, name
