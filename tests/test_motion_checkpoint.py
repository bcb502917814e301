"""Files of the networks of clips: what is loaded is what was saved, and a bad file is one clear line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from diffhmr.body.params import SmplParams
from diffhmr.checkpoint import load_body, load_checkpoint, load_weights, save_model
from diffhmr.config import ExperimentConfig
from diffhmr.config_file import config_from_dict, require_kind
from diffhmr.errors import UserError
from diffhmr.geometry.rotation import random_rotations
from diffhmr.models import build_model
from diffhmr.models.diffmesh import DiffMesh, DiffMeshHead, DiffMeshSize
from diffhmr.models.dstformer import DSTformer, DSTformerSize
from diffhmr.models.motion_heads import (
    ActionClassifier,
    ActionEmbedding,
    ClipEstimate,
    MeshHead,
    MotionBertAction,
    MotionBertMesh,
)
from diffhmr.models.motion_refine import DiffMeshRefine, RefineHead
from diffhmr.motion_checkpoint import MotionModel, load_motion_model, read_motion_metadata, save_motion_model
from tests.models.formulas import randomised

BACKBONE = DSTformerSize(width=16, hidden=24, depth=1, heads=2, features=6, max_frames=20)
PROCESS = DiffMeshSize(features=6, width=8, depth=2, heads=2, condition_width=16, condition_depth=1, frames=5)
HEADER = {"body_name": "a body", "body_sha256": "unknown", "note": "made by a test"}

MODELS: dict[str, Callable[[], MotionModel]] = {
    "dstformer": lambda: DSTformer(BACKBONE),
    "motionbert_mesh": lambda: MotionBertMesh(DSTformer(BACKBONE), MeshHead(6, hidden=20)),
    "motionbert_action classifier": lambda: MotionBertAction(DSTformer(BACKBONE), ActionClassifier(5, 6)),
    "motionbert_action embedding": lambda: MotionBertAction(DSTformer(BACKBONE), ActionEmbedding(6, dim=30)),
    "diffmesh released": lambda: DiffMesh(DSTformer(BACKBONE), DiffMeshHead(torch.ones(23, 3), "released", PROCESS)),
    "diffmesh paper": lambda: DiffMesh(DSTformer(BACKBONE), DiffMeshHead(torch.ones(23, 3), "paper", PROCESS)),
    "diffmesh_refine released": lambda: DiffMeshRefine(
        DSTformer(BACKBONE), RefineHead(torch.ones(23, 3), "released", PROCESS, hidden=9)
    ),
    "diffmesh_refine paper": lambda: DiffMeshRefine(
        DSTformer(BACKBONE), RefineHead(torch.ones(23, 3), "paper", PROCESS, hidden=20)
    ),
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_motion_model(tmp_path / "a.safetensors", MODELS["diffmesh paper"](), HEADER)
    return tmp_path / "a.safetensors"


def rewrite(path: Path, **changes: str) -> None:
    """Write the same weights with another header."""
    save_file(load_file(path), path, metadata=read_motion_metadata(path) | changes)


def message_of(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_motion_model(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def output_of(model: MotionModel) -> Tensor:
    shape = (2, 2, 5, 17, 3) if isinstance(model, MotionBertAction) else (2, 5, 17, 3)
    generator = torch.Generator().manual_seed(1)
    clips = torch.rand(shape, generator=generator) * 2 - 1
    given = SmplParams.from_rotations(random_rotations((2, 5, 24), generator), torch.ones(2, 5, 10))
    output: Any = model.eval()(clips, given) if isinstance(model, DiffMeshRefine) else model.eval()(clips)
    return torch.cat([output.rotations.flatten(1), output.betas], 1) if isinstance(output, ClipEstimate) else output


@pytest.mark.parametrize("name", MODELS)
def test_round_trip_is_exact(tmp_path: Path, name: str) -> None:
    model = MODELS[name]()
    randomised(model)
    save_motion_model(tmp_path / "a.safetensors", model, HEADER)
    random_state = torch.get_rng_state()
    loaded = load_motion_model(tmp_path / "a.safetensors")
    assert torch.equal(torch.get_rng_state(), random_state), "loading draws no random numbers"
    assert type(loaded) is type(model) and not loaded.training
    expected = model.state_dict()
    assert list(loaded.state_dict()) == list(expected)
    for key, value in loaded.state_dict().items():
        assert value.dtype == expected[key].dtype and torch.equal(value, expected[key]), key
    trainable = {key for key, value in model.named_parameters() if value.requires_grad}
    assert {key for key, value in loaded.named_parameters() if value.requires_grad} == trainable
    assert torch.equal(output_of(loaded), output_of(model))
    metadata = read_motion_metadata(tmp_path / "a.safetensors")
    assert f"{metadata['kind']} {metadata['variant']}".strip() == name
    assert metadata.items() >= HEADER.items()


def test_a_loaded_network_is_its_own(saved: Path) -> None:
    first, second = load_motion_model(saved), load_motion_model(saved)
    with torch.no_grad():
        for value in first.parameters():
            value.add_(1)
    for given in (second.state_dict(), load_motion_model(saved).state_dict()):
        assert all(torch.equal(given[name], value) for name, value in load_file(saved).items())


def test_half_precision_becomes_float32(saved: Path) -> None:
    halves = {name: value.half() if value.is_floating_point() else value for name, value in load_file(saved).items()}
    save_file(halves, saved, metadata=read_motion_metadata(saved))
    loaded = load_motion_model(saved).state_dict()
    assert all(torch.equal(loaded[name], value.float()) for name, value in halves.items() if value.is_floating_point())
    assert all(value.dtype == torch.float32 for value in loaded.values())


def test_headers_that_describe_no_network(saved: Path) -> None:
    sizes = json.loads(read_motion_metadata(saved)["sizes"])
    for changes in (
        {"kind": "resnet"},
        {"variant": "ours"},
        {"kind": "motionbert_action", "variant": "classifier"},  # the number of classes is not there
        {"kind": "motionbert_action", "variant": ""},
        {"kind": "diffmesh_refine"},  # the width of the layers before the correction is not there
        {"sizes": json.dumps(sizes | {"backbone": sizes["backbone"] | {"depth": 10**30}})},
        {"sizes": "{"},
        {"sizes": "[]"},
        {"sizes": "{}"},
        {"sizes": json.dumps(sizes | {"vertices": -1})},
        {"sizes": json.dumps(sizes | {"vertices": "many"})},
        {"sizes": json.dumps(sizes | {"backbone": sizes["backbone"] | {"width": 17}})},
        {"sizes": json.dumps(sizes | {"backbone": sizes["backbone"] | {"heads": 0}})},
        {"sizes": json.dumps(sizes | {"backbone": sizes["backbone"] | {"wings": 2}})},
        {"sizes": json.dumps(sizes | {"process": sizes["process"] | {"features": 7}})},
        {"sizes": json.dumps(sizes | {"process": sizes["process"] | {"frames": 1}})},
    ):
        before = saved.read_bytes()
        rewrite(saved, **changes)
        assert "damaged header (kind, variant, sizes)" in message_of(saved), changes
        saved.write_bytes(before)
    load_motion_model(saved)


def test_weights_that_do_not_fit_the_header(saved: Path) -> None:
    sizes = json.loads(read_motion_metadata(saved)["sizes"])
    rewrite(saved, sizes=json.dumps(sizes | {"vertices": 40}))
    message = message_of(saved)
    assert "2 of another shape (head.mesh_template, head.fc_mesh_temp.0.weight)" in message


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    model = DSTformer(BACKBONE)
    with torch.no_grad():
        model.temp_embed[0, 0, 0, 0] = torch.nan
    with pytest.raises(UserError, match="not all values are finite in temp_embed"):
        save_motion_model(tmp_path / "a.safetensors", model, HEADER)
    assert not list(tmp_path.iterdir())


def test_files_that_are_cut_off(saved: Path) -> None:
    content = saved.read_bytes()
    for length in (4, 100, len(content) // 2, len(content) - 1):
        saved.write_bytes(content[:length])
        assert "is truncated or no safetensors file" in message_of(saved)


def test_models_of_pictures_and_of_clips_are_not_confused(saved: Path, tmp_path: Path) -> None:
    body = load_body("data/body/free_body.npz")
    small = {"encoder": {"kind": "keypoints", "width": 8, "layers": 1, "heads": 2}, "regressor": {"width": 8}}
    settings = {"name": "a", "model": small | {"denoiser": {"width": 8, "blocks": 1}}}
    config = require_kind(config_from_dict(settings), ExperimentConfig, "test")
    model = build_model(config.model, body)
    for load in (load_checkpoint, lambda path: load_weights(path, model, config.model)):
        with pytest.raises(UserError) as caught:
            load(saved)
        assert str(caught.value) == (
            f"{saved} holds a network of clips of keypoints, but a model of people in pictures is needed; "
            "give a file written by train.py or one of data/checkpoints"
        )
    save_model(tmp_path / "image.safetensors", model, config, body, step=1)
    assert message_of(tmp_path / "image.safetensors") == (
        f"{tmp_path / 'image.safetensors'} holds a model of people in pictures, but a network of clips of keypoints is "
        "needed; give one written by train.py for a task on clips, or by scripts.import_checkpoint --from motionbert "
        "or diffmesh"
    )
