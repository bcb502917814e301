"""Imported weights give the answers of the network they come from; every key is accounted for."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffhmr.batch import ImageBatch
from diffhmr.body.model import BodyModel
from diffhmr.checkpoint import UNKNOWN_SHA256, load_checkpoint, load_weights, read_metadata
from diffhmr.config import ExperimentConfig, SamplerConfig
from diffhmr.config_file import config_from_dict, require_kind
from diffhmr.errors import UserError
from diffhmr.foreign import checkpoints
from diffhmr.foreign.checkpoints import Project, read_foreign, write_foreign
from diffhmr.geometry.camera import project_crop
from diffhmr.models import build_model
from tests.body.test_files import smpl_sized_fields
from tests.foreign.test_files import Evil
from tests.foreign.weights import prohmr_layout, random_weights, resnet50_layout, spin_forward, spin_layout

RESNET50 = {"kind": "image", "backbone": "resnet50"}


@pytest.fixture(scope="module")
def spin_weights() -> dict[str, Tensor]:
    return random_weights(spin_layout(), seed=0)


@pytest.fixture(scope="module")
def imported_spin(
    tmp_path_factory: pytest.TempPathFactory, spin_weights: dict[str, Tensor], toy_body_path: Path
) -> Path:
    """What becomes of a checkpoint in the format and with the extras of SPIN's release."""
    folder = tmp_path_factory.mktemp("spin")
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 5e-5}]}
    content = {"model": spin_weights, "optimizer": optimizer, "epoch": 4, "dataset_perm": [1, 0], "batch_idx": 2,
               "batch_size": 64, "total_step_count": 345000}  # fmt: skip
    torch.save(content, folder / "model_checkpoint.pt", _use_new_zipfile_serialization=False)
    write_foreign(read_foreign(folder / "model_checkpoint.pt", "spin"), folder / "spin.safetensors", toy_body_path)
    return folder / "spin.safetensors"


def save(path: Path, weights: Any, key: str = "model") -> Path:
    torch.save({key: weights} if key else weights, path)
    return path


def message_of(path: Path, project: Project) -> str:
    with pytest.raises(UserError) as caught:
        read_foreign(path, project)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def make_config(**model: Any) -> ExperimentConfig:
    settings = {"name": "test", "model": {"encoder": RESNET50, **model}}
    return require_kind(config_from_dict(settings), ExperimentConfig, "test")


def small_file(layout: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Weights that take no room in a file, because each is one number that is repeated."""
    return {name: torch.zeros(()).expand(shape) for name, shape in layout.items()}


# SPIN


def test_the_layout_is_that_of_the_release(spin_weights: dict[str, Tensor]) -> None:
    assert len(spin_weights) == 331
    buffers = ("running_mean", "running_var", "num_batches_tracked", "init_pose", "init_shape", "init_cam")
    assert sum(value.numel() for name, value in spin_weights.items() if not name.endswith(buffers)) == 26_977_501


def test_imported_spin_answers_as_spin(imported_spin: Path, spin_weights: dict[str, Tensor]) -> None:
    loaded = load_checkpoint(imported_spin, kind="spin")
    image = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (image - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        rotations, betas, camera = spin_forward(spin_weights, normalised)
    assert rotations[0].std() > 0.1 and (rotations[0] - rotations[1]).abs().max() > 1e-3, "the test sees something"
    answer = loaded.model.sample(ImageBatch(torch.arange(2), image), 1, SamplerConfig(), seed=0)
    assert (answer.params.rotations[:, 0] - rotations).abs().max() < 1e-5
    assert (answer.params.betas[:, 0] - betas).abs().max() < 1e-5
    assert (answer.camera[:, 0] - camera).abs().max() < 1e-5


def test_the_cameras_are_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(5, 49, 3, generator=generator)
    s, tx, ty = 0.5 + torch.rand(5, generator=generator), *torch.randn(2, 5, generator=generator)
    moved = points + torch.stack([tx, ty, 2 * 5000 / (224 * s + 1e-9)], dim=-1)[:, None]
    pixels = 5000 * moved[..., :2] / moved[..., 2:]  # from the centre of the crop
    ours = project_crop(points, torch.stack([s, tx, ty], dim=-1))
    assert (ours - pixels / (224 / 2)).abs().max() < 1e-4


def test_what_the_file_says(imported_spin: Path, toy_body: BodyModel) -> None:
    loaded = load_checkpoint(imported_spin)
    assert loaded.step == 345000 and loaded.config.data.image_size == 224
    assert loaded.metadata["body_sha256"] == toy_body.sha256
    assert loaded.metadata["imported_from"] == "spin" and len(loaded.metadata["imported_sha256"]) == 64
    assert loaded.model.regressor.dropout == 0.5


def test_spin_starts_diffhmr_and_spin(imported_spin: Path, toy_body: BodyModel) -> None:
    given = load_file(imported_spin)
    for kind in ("diffhmr", "spin"):
        config = make_config(kind=kind, state=["pose"], denoiser={"width": 16, "blocks": 1}).model
        model = build_model(config, toy_body)
        model.codec.mean.fill_(0.5)  # statistics of the run's own data
        before = {name: value.clone() for name, value in model.state_dict().items()}
        load_weights(imported_spin, model, config)
        for name, value in model.state_dict().items():
            taken = name.startswith(("encoder.", "regressor."))
            assert torch.equal(value, given[name] if taken else before[name]), name


def test_without_smpl_at_hand(
    tmp_path: Path, imported_spin: Path, monkeypatch: pytest.MonkeyPatch, toy_body_path: Path
) -> None:
    later = tmp_path / "SMPL_NEUTRAL.npz"
    monkeypatch.setattr(checkpoints, "SMPL_PATH", later)
    weights = read_foreign(imported_spin.with_name("model_checkpoint.pt"), "spin")
    write_foreign(weights, tmp_path / "a.safetensors")
    metadata = read_metadata(tmp_path / "a.safetensors")
    assert (metadata["body_name"], metadata["body_sha256"]) == ("SMPL", UNKNOWN_SHA256)
    with pytest.raises(UserError, match="body file not found"):
        load_checkpoint(tmp_path / "a.safetensors")
    later.write_bytes(toy_body_path.read_bytes())
    with pytest.raises(UserError, match="trained with the body 'SMPL'"):
        load_checkpoint(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="body file not found"):
        write_foreign(weights, tmp_path / "b.safetensors", tmp_path / "none.npz")


def test_any_smpl_will_do_when_its_checksum_is_unknown(
    imported_spin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    later = tmp_path / "SMPL_NEUTRAL.npz"
    monkeypatch.setattr(checkpoints, "SMPL_PATH", later)
    write_foreign(read_foreign(imported_spin.with_name("model_checkpoint.pt"), "spin"), tmp_path / "a.safetensors")
    np.savez(later, **smpl_sized_fields())
    assert load_checkpoint(tmp_path / "a.safetensors").body.is_smpl
    assert not caplog.records


# Keys


def test_keys_that_are_missing_or_unknown(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    weights = small_file(spin_layout())
    del weights["layer3.4.bn2.running_var"], weights["deccam.bias"]
    weights["layer3.4.extra"] = torch.zeros(1)
    message = message_of(save(path, weights), "spin")
    assert "2 missing: layer3.4.bn2.running_var, deccam.bias;" in message
    assert "1 unknown: layer3.4.extra" in message
    weights = small_file(spin_layout() | {"fc1.weight": (1024, 2202)})
    assert "1 of another shape: fc1.weight [1024, 2202] for [1024, 2205]" in message_of(save(path, weights), "spin")
    weights = small_file({f"module.{name}": shape for name, shape in spin_layout().items()})
    message = message_of(save(path, weights), "spin")
    assert "331 unknown: module.conv1.weight, " in message and "and 323 more" in message


@pytest.mark.parametrize("name", [*list(spin_layout())[::40], "init_pose", "init_shape", "init_cam", "fc2.bias"])
def test_every_key_counts(tmp_path: Path, name: str) -> None:
    weights = small_file(spin_layout())
    del weights[name]
    assert f"1 missing: {name}" in message_of(save(tmp_path / "a.pt", weights), "spin")
    weights = small_file(spin_layout()) | {f"{name}_2": torch.zeros(1)}
    assert f"1 unknown: {name}_2" in message_of(save(tmp_path / "a.pt", weights), "spin")


def test_things_that_are_no_weights(tmp_path: Path, spin_weights: dict[str, Tensor]) -> None:
    path = tmp_path / "a.pt"
    weights = small_file(spin_layout())
    assert "it holds: list" in message_of(save(path, [1, 2], ""), "spin")
    assert "it holds: state_dict" in message_of(save(path, weights, "state_dict"), "spin")
    assert "conv1.weight is no tensor but list" in message_of(save(path, weights | {"conv1.weight": [1]}), "spin")
    spin_with_nan = {**spin_weights, "fc1.bias": torch.full((1024,), float("nan"))}
    with pytest.raises(UserError, match=r"not all values are finite in regressor\.fc1\.bias"):
        write_foreign(read_foreign(save(path, spin_with_nan), "spin"), tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def test_weights_alone_without_counters(tmp_path: Path, spin_weights: dict[str, Tensor], toy_body_path: Path) -> None:
    """Code of SPIN's time saved state dicts as they are; PyTorch before 0.4.1 had no counters of batches."""
    weights = {name: value for name, value in spin_weights.items() if not name.endswith("num_batches_tracked")}
    write_foreign(read_foreign(save(tmp_path / "a.pt", weights, ""), "spin"), tmp_path / "a.safetensors", toy_body_path)
    loaded = load_checkpoint(tmp_path / "a.safetensors")
    assert loaded.step == 0
    assert torch.equal(loaded.model.state_dict()["encoder.resnet.bn1.running_var"], spin_weights["bn1.running_var"])


def test_a_checkpoint_that_would_run_code(tmp_path: Path, spin_weights: dict[str, Tensor]) -> None:
    mark = tmp_path / "mark"
    evil = Evil(os.system, f"touch {mark}")
    torch.save({"model": spin_weights, "optimizer": evil}, tmp_path / "a.pt")
    read_foreign(tmp_path / "a.pt", "spin")
    message = message_of(save(tmp_path / "a.pt", {**spin_weights, "fc1.bias": evil}), "spin")
    assert "fc1.bias is no tensor" in message
    assert not mark.exists()


# Encoders


def test_the_encoder_of_prohmr(tmp_path: Path) -> None:
    weights = random_weights(prohmr_layout(), seed=1)
    path = save(tmp_path / "a.ckpt", weights, "state_dict")
    imported = read_foreign(path, "prohmr")
    assert set(imported.left_out) == {name for name in weights if not name.startswith("backbone.")}
    write_foreign(imported, tmp_path / "a.safetensors")
    tensors = load_file(tmp_path / "a.safetensors")
    assert set(tensors) == {f"encoder.resnet.{name}" for name in resnet50_layout()}
    assert all(
        torch.equal(tensors[f"encoder.resnet.{name}"], weights[f"backbone.{name}"]) for name in resnet50_layout()
    )
    assert json.loads(read_metadata(tmp_path / "a.safetensors")["parts"]) == ["encoder.resnet."]
    weights = small_file(prohmr_layout()) | {"flow.flow._transform._transforms.2.mask": torch.zeros(1)}
    weights["head.weight"] = weights.pop("backbone.conv1.weight")
    message = message_of(save(path, weights, "state_dict"), "prohmr")
    assert "1 missing: backbone.conv1.weight" in message
    assert "2 unknown: flow.flow._transform._transforms.2.mask, head.weight" in message


@pytest.mark.parametrize("backbone", ["resnet18", "resnet34", "resnet50"])
def test_a_torchvision_network(tmp_path: Path, toy_body: BodyModel, backbone: str) -> None:
    network = getattr(torchvision.models, backbone)()
    imported = read_foreign(save(tmp_path / "a.pth", network.state_dict(), ""), "torchvision")
    assert imported.backbone == backbone and imported.left_out == ("fc.weight", "fc.bias")
    write_foreign(imported, tmp_path / "a.safetensors")
    encoder = {"kind": "image", "backbone": backbone, "network": "mlp"}
    encoder["pooling"] = "joints" if backbone == "resnet18" else "average"
    config = make_config(encoder=encoder, denoiser={"width": 16, "blocks": 1}).model
    model = build_model(config, toy_body)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    load_weights(tmp_path / "a.safetensors", model, config)
    given = {f"encoder.resnet.{name}": value for name, value in network.state_dict().items()}
    for name, value in model.state_dict().items():
        assert torch.equal(value, given.get(name, before[name])), name


def test_an_encoder_is_no_model(tmp_path: Path, toy_body: BodyModel) -> None:
    network = torchvision.models.resnet18()
    path = tmp_path / "a.safetensors"
    write_foreign(read_foreign(save(tmp_path / "a.pth", network.state_dict(), ""), "torchvision"), path)
    with pytest.raises(UserError, match=r"holds no whole model but encoder.resnet.\*: use it as the start"):
        load_checkpoint(path)
    config = make_config(denoiser={"width": 16, "blocks": 1}).model
    with pytest.raises(UserError, match="missing"):
        load_weights(path, build_model(config, toy_body), config)


@pytest.mark.parametrize("parts", ["encoder", "[1]", "{", '[""]'])
def test_a_damaged_header(tmp_path: Path, toy_body: BodyModel, parts: str) -> None:
    network = torchvision.models.resnet18()
    path = tmp_path / "a.safetensors"
    write_foreign(read_foreign(save(tmp_path / "a.pth", network.state_dict(), ""), "torchvision"), path)
    save_file(load_file(path), path, metadata=read_metadata(path) | {"parts": parts})
    config = make_config(encoder={"kind": "image"}, denoiser={"width": 16, "blocks": 1}).model
    for load in (load_checkpoint, lambda path: load_weights(path, build_model(config, toy_body), config)):
        with pytest.raises(UserError, match=r"damaged header \(parts\)"):
            load(path)


def test_a_network_that_is_not_supported(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pth", torchvision.models.resnet101().state_dict(), "")
    assert "unknown: layer3.6.conv1.weight" in message_of(path, "torchvision")
