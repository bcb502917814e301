"""Model files and training states: exact round trips, and one clear line for every file that cannot be used."""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from diffhmr.body.model import BodyModel
from diffhmr.checkpoint import (
    DETECTOR_PARTS,
    TrainingState,
    load_body,
    load_checkpoint,
    load_state,
    load_weights,
    read_metadata,
    save_model,
    save_state,
)
from diffhmr.config import ExperimentConfig
from diffhmr.config_file import config_from_dict, require_kind
from diffhmr.errors import UserError
from diffhmr.files import sha256_file
from diffhmr.models import build_model

TINY: dict[str, Any] = {
    "name": "tiny",
    "model": {
        "encoder": {"kind": "keypoints", "width": 8, "layers": 1, "heads": 2},
        "regressor": {"width": 8},
        "denoiser": {"width": 8, "blocks": 1},
    },
}


def make_config(**model: Any) -> ExperimentConfig:
    settings = {**TINY, "model": {**TINY["model"], **model}}
    return require_kind(config_from_dict(settings), ExperimentConfig, "test")


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return load_body("data/body/free_body.npz")


@pytest.fixture
def saved(tmp_path: Path, body: BodyModel) -> tuple[Path, torch.nn.Module]:
    torch.manual_seed(0)
    config = make_config()
    model = build_model(config.model, body)
    model.codec.mean.normal_()
    path = tmp_path / "model.safetensors"
    save_model(path, model, config, body, step=7, finished=True, extra={"note": "made by a test"})
    return path, model


def rewrite(path: Path, **changes: str) -> None:
    """Write the same weights with other metadata."""
    with safe_open(path, framework="pt") as stream:
        metadata = stream.metadata()
    save_file(load_file(path), path, metadata=metadata | changes)


def message_of(path: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        load_checkpoint(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_round_trip_is_exact(saved: tuple[Path, torch.nn.Module], body: BodyModel) -> None:
    path, model = saved
    loaded = load_checkpoint(path, kind="diffhmr")
    assert loaded.config == make_config()
    assert (loaded.step, loaded.sha256) == (7, sha256_file(path))
    assert (loaded.body.name, loaded.body.sha256) == (body.name, body.sha256)
    assert loaded.metadata["note"] == "made by a test"
    assert loaded.metadata["finished"] == "true"
    assert not loaded.model.training
    expected = model.state_dict()
    assert list(loaded.model.state_dict()) == list(expected)
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert read_metadata(path) == loaded.metadata


def test_half_precision_rounds_parameters_and_keeps_buffers(
    saved: tuple[Path, torch.nn.Module], tmp_path: Path, body: BodyModel
) -> None:
    _, model = saved
    path = tmp_path / "half.safetensors"
    save_model(path, model, make_config(), body, step=1, dtype="float16")
    parameters = dict(model.named_parameters())
    stored = load_file(path)
    loaded = load_checkpoint(path)
    assert loaded.metadata["weights_dtype"] == "float16"
    for name, value in loaded.model.state_dict().items():
        original = model.state_dict()[name]
        assert value.dtype == original.dtype
        if name in parameters:
            assert stored[name].dtype == torch.float16
            assert torch.equal(value, original.half().float())
        else:
            assert torch.equal(value, original), name
    assert "codec.mean" in stored and stored["codec.mean"].dtype == torch.float32
    assert path.stat().st_size < 0.7 * saved[0].stat().st_size


def test_half_precision_refuses_what_it_cannot_hold(
    saved: tuple[Path, torch.nn.Module], tmp_path: Path, body: BodyModel
) -> None:
    _, model = saved
    next(model.parameters()).data.view(-1)[0] = 1e6
    with pytest.raises(UserError, match="not all values are finite"):
        save_model(tmp_path / "half.safetensors", model, make_config(), body, step=1, dtype="float16")
    assert not (tmp_path / "half.safetensors").exists()


def test_truncated_files(saved: tuple[Path, torch.nn.Module]) -> None:
    path, _ = saved
    content = path.read_bytes()
    for length in (4, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert "is truncated or no safetensors file" in message_of(path)


def test_files_of_other_formats(tmp_path: Path, saved: tuple[Path, torch.nn.Module]) -> None:
    path = tmp_path / "other.safetensors"
    assert "checkpoint not found" in message_of(path)
    path.write_bytes(b"")
    assert "checkpoint is empty" in message_of(path)
    assert "checkpoint is not a file" in message_of(tmp_path)
    torch.save({"a": torch.zeros(3)}, path)
    assert "no safetensors file" in message_of(path)
    save_file({"a": torch.zeros(3)}, path)
    assert "not one of this project" in message_of(path)
    rewrite(saved[0], format_version="99")
    assert "format version 99" in message_of(saved[0])


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"config": "{"}, "damaged header (config)"),
        ({"config": "5"}, "damaged header (config)"),
        ({"config": "[" * 100_000}, "damaged header (config)"),
        ({"step": "many"}, "damaged header (step)"),
        ({"step": "²"}, "damaged header (step)"),
        ({"format_version": "²"}, "format version ²"),
        ({"config": json.dumps({"name": "a", "modle": {}})}, "modle: unknown key, did you mean model?"),
    ],
)
def test_damaged_headers(saved: tuple[Path, torch.nn.Module], changes: dict[str, str], part: str) -> None:
    rewrite(saved[0], **changes)
    assert part in message_of(saved[0])


def test_header_without_a_body(saved: tuple[Path, torch.nn.Module]) -> None:
    path = saved[0]
    metadata = read_metadata(path)
    del metadata["body_sha256"]
    save_file(load_file(path), path, metadata=metadata)
    assert "damaged header (body_sha256)" in message_of(path)


def test_weights_of_another_model(saved: tuple[Path, torch.nn.Module], body: BodyModel) -> None:
    path, model = saved
    assert "holds a diffhmr model, but a spin model is needed" in message_of(path, kind="spin")
    other = make_config(denoiser={"width": 16, "blocks": 2})
    with pytest.raises(UserError) as caught:
        load_weights(path, build_model(other.model, body), other.model)
    message = str(caught.value)
    assert "missing (denoiser." in message and "of another shape (denoiser." in message
    images = make_config(kind="spin", encoder={"kind": "image", "backbone": "resnet18"})
    with pytest.raises(UserError, match=r"missing \(encoder.resnet"):
        load_weights(path, build_model(images.model, body), images.model)
    tensors = load_file(path)
    tensors["extra.weight"] = torch.zeros(1)
    save_file(tensors, path, metadata=read_metadata(path))
    assert "1 unexpected (extra.weight)" in message_of(path)
    with pytest.raises(UserError, match=re.escape("1 unexpected (extra.weight)")):
        load_weights(path, model, make_config().model)


def test_load_weights_copies_all(saved: tuple[Path, torch.nn.Module], body: BodyModel) -> None:
    path, model = saved
    config = make_config().model
    fresh = build_model(config, body)
    load_weights(path, fresh, config)
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


@pytest.mark.parametrize(("first", "second"), [("spin", "diffhmr"), ("diffhmr", "spin")])
def test_spin_and_diffhmr_start_each_others_encoder_and_regressor(
    tmp_path: Path, body: BodyModel, first: str, second: str
) -> None:
    given_config, config = make_config(kind=first), make_config(kind=second)
    given = build_model(given_config.model, body)
    save_model(tmp_path / "given.safetensors", given, given_config, body, step=0)
    model = build_model(config.model, body)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load_weights(tmp_path / "given.safetensors", model, config.model)
    for name, value in model.state_dict().items():
        taken = name.startswith(("encoder.", "regressor."))
        assert torch.equal(value, given.state_dict()[name] if taken else before[name])


def test_keypoints_give_images_everything_behind_the_detector(tmp_path: Path, body: BodyModel) -> None:
    keypoints = make_config(encoder={"kind": "keypoints", "network": "mlp", "width": 16, "layers": 1})
    images = make_config(encoder={"kind": "image", "pooling": "joints", "network": "mlp", "width": 16, "layers": 1})
    given, other, model = (build_model(config.model, body) for config in (keypoints, images, images))
    save_model(tmp_path / "keypoints.safetensors", given, keypoints, body, step=0)
    save_model(tmp_path / "images.safetensors", other, images, body, step=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load_weights(tmp_path / "keypoints.safetensors", model, images.model)
    load_weights(tmp_path / "images.safetensors", model, images.model, only=DETECTOR_PARTS)
    for name, value in model.state_dict().items():
        if name.startswith(("encoder.resnet.", "encoder.detector.")):
            assert torch.equal(value, other.state_dict()[name])
        elif name.startswith("encoder.appearance."):
            assert torch.equal(value, before[name])
        else:
            assert torch.equal(value, given.state_dict()[name.replace("encoder.lifter.", "encoder.")])


def test_weights_for_rotations_of_another_frame(tmp_path: Path, body: BodyModel) -> None:
    given, config = make_config(), make_config(rotations="camera")
    save_model(tmp_path / "given.safetensors", build_model(given.model, body), given, body, step=0)
    with pytest.raises(UserError, match=r"relative to the parent, this run wants model.rotations=camera; set it to"):
        load_weights(tmp_path / "given.safetensors", build_model(config.model, body), config.model)


def test_spin_of_another_size_cannot_start_diffhmr(tmp_path: Path, body: BodyModel) -> None:
    spin_config, config = make_config(kind="spin", regressor={"width": 24}), make_config()
    save_model(tmp_path / "spin.safetensors", build_model(spin_config.model, body), spin_config, body, step=0)
    with pytest.raises(UserError, match="of another shape \\(regressor"):
        load_weights(tmp_path / "spin.safetensors", build_model(config.model, body), config.model)


def test_frozen_norm_can_start_from_a_trained_norm(tmp_path: Path, body: BodyModel) -> None:
    trained = make_config(encoder={"kind": "image", "backbone": "resnet18"})
    frozen = make_config(encoder={"kind": "image", "backbone": "resnet18", "norm": "frozen"})
    model = build_model(trained.model, body)
    save_model(tmp_path / "a.safetensors", model, trained, body, step=0)
    start = build_model(frozen.model, body)
    load_weights(tmp_path / "a.safetensors", start, frozen.model)
    name = "encoder.resnet.bn1.running_var"
    assert torch.equal(start.state_dict()[name], model.state_dict()[name])


def test_nan_in_the_parameters(saved: tuple[Path, torch.nn.Module]) -> None:
    path, _ = saved
    tensors = load_file(path)
    name = next(iter(tensors))
    tensors[name].view(-1)[0] = float("nan")
    save_file(tensors, path, metadata=read_metadata(path))
    assert f"not all values are finite in {name}" in message_of(path)


@pytest.mark.parametrize("dtype", [torch.int32, torch.complex64, torch.float8_e4m3fn])
def test_weights_of_another_type(saved: tuple[Path, torch.nn.Module], dtype: torch.dtype) -> None:
    path, _ = saved
    tensors = load_file(path)
    tensors["codec.mean"] = tensors["codec.mean"].to(dtype)
    save_file(tensors, path, metadata=read_metadata(path))
    assert "1 of another type (codec.mean)" in message_of(path)


def test_embedded_config_downloads_nothing(tmp_path: Path, body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(encoder={"kind": "image", "backbone": "resnet18"})
    model = build_model(config.model, body)
    pretrained = make_config(encoder={"kind": "image", "backbone": "resnet18", "weights": "imagenet"})
    save_model(tmp_path / "a.safetensors", model, pretrained, body, step=0)
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_, **__: pytest.fail("a download"))
    assert load_checkpoint(tmp_path / "a.safetensors").config.model.encoder.weights == "imagenet"


def test_another_body(saved: tuple[Path, torch.nn.Module], caplog: pytest.LogCaptureFixture) -> None:
    path, _ = saved
    rewrite(path, body_sha256="0" * 64)
    with caplog.at_level(logging.WARNING):
        load_checkpoint(path)
    assert "results may differ" in caplog.text
    rewrite(path, body_name="SMPL neutral")
    assert "was trained with the body 'SMPL neutral'" in message_of(path)


def test_body_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: BodyModel) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_body("data/body/free_body.npz").sha256 == body.sha256
    with pytest.raises(UserError, match="none\\.npz"):
        load_body("data/body/none.npz")
    np.savez(tmp_path / "nobody.npz", a=np.zeros(3))
    with pytest.raises(UserError, match="nobody\\.npz"):
        load_body("nobody.npz")


def test_folder_that_cannot_be_written(saved: tuple[Path, torch.nn.Module], body: BodyModel) -> None:
    path, model = saved
    with pytest.raises(UserError, match="cannot write"):
        save_model(path / "below" / "a.safetensors", model, make_config(), body, step=0)


# Training states


def make_state(body: BodyModel) -> TrainingState:
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    ema = {"a": torch.arange(3.0), "num_updates": torch.tensor(4)}
    return TrainingState(5, make_config(), body.sha256, model.state_dict(), ema, optimizer.state_dict())


def test_state_round_trip(tmp_path: Path, body: BodyModel) -> None:
    state = make_state(body)
    save_state(tmp_path / "state.pt", state)
    back = load_state(tmp_path / "state.pt")
    assert (back.step, back.config, back.body_sha256) == (5, state.config, body.sha256)
    assert torch.equal(back.model["weight"], state.model["weight"])
    assert torch.equal(back.ema["a"], state.ema["a"])
    assert back.optimizer["param_groups"] == state.optimizer["param_groups"]
    for first, second in zip(back.optimizer["state"].values(), state.optimizer["state"].values(), strict=True):
        assert all(torch.equal(first[name], second[name]) for name in second)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch evil",)


def test_states_that_cannot_be_used(tmp_path: Path, body: BodyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "state.pt"

    def message() -> str:
        with pytest.raises(UserError) as caught:
            load_state(path)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "training state not found" in message()
    save_state(path, make_state(body))
    content = path.read_bytes()
    for length in (10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert "truncated or no training state" in message()
    path.write_bytes(pickle.dumps({"model": _Evil()}, protocol=2))
    assert "holds what no training state needs" in message()
    torch.save({"format": "diffhmr-training-state", "model": _Evil()}, path)
    assert "holds what no training state needs" in message()
    assert not (tmp_path / "evil").exists()
    torch.save({"weights": torch.zeros(2)}, path)
    assert "no training state of this project" in message()
    torch.save({"format": "diffhmr-training-state", "version": 99}, path)
    assert "has version 99" in message()
    save_state(path, make_state(body))
    content = torch.load(path, weights_only=True)
    for changes in ({"step": "5"}, {"step": -1}, {"config": None}, {"model": torch.zeros(1)}, {"optimizer": []}):
        torch.save(content | changes, path)
        assert f"is damaged ({next(iter(changes))}); start anew under another name" in message()
