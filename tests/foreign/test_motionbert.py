"""Official MotionBERT and DiffMesh files become networks that answer as the formulas; every key is accounted for."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffhmr.body.params import SmplParams
from diffhmr.command_line import run_command
from diffhmr.errors import UserError
from diffhmr.foreign.checkpoints import Project, read_foreign
from diffhmr.foreign.motionbert import ForeignMotion, MotionProject, read_motion, write_motion
from diffhmr.geometry.rotation import random_rotations
from diffhmr.models.diffmesh import OFFICIAL, DiffMesh
from diffhmr.models.dstformer import FULL, LITE, DSTformer, DSTformerSize
from diffhmr.models.motion_heads import ActionEmbedding, MotionBertAction, MotionBertMesh
from diffhmr.models.motion_refine import DiffMeshRefine
from diffhmr.motion_checkpoint import MotionModel, load_motion_model, read_motion_metadata
from diffhmr.task_checkpoint import load_lifting_model
from scripts import import_checkpoint
from tests.foreign.test_files import Evil
from tests.foreign.weights import spin_layout
from tests.models import formulas
from tests.models.layouts import (
    Layout,
    classifier_layout,
    diffmesh_head_layout,
    dstformer_layout,
    embedding_layout,
    mesh_head_layout,
    refine_head_layout,
    whole_layout,
)

FULL_WIDTH, LITE_WIDTH = 512, 256
NETWORKS = ("lifting", "mesh", "classifier", "embedding", "diffmesh", "refine")
HEADS: dict[str, Layout] = {
    "mesh": mesh_head_layout(),
    "classifier": classifier_layout(7),
    "embedding": embedding_layout(256),
    "diffmesh": diffmesh_head_layout(),
    "refine": refine_head_layout(),
}
BODY_BUFFERS: Layout = {
    "head.smpl.v_template": (6890, 3),
    "head.smpl.J_regressor": (24, 6890),
    "head.smpl.faces_tensor": (13776, 3),
    "head.smpl.J_regressor_extra": (9, 6890),
}
ONLY_NUMBERS = r"the numbers of \S+ cannot be read \(1 numbers are too few\)"


def layout_of(network: str, width: int = LITE_WIDTH) -> Layout:
    return dstformer_layout(width) if network == "lifting" else whole_layout(width, HEADS[network])


def project_of(network: str) -> MotionProject:
    return "diffmesh" if network in ("diffmesh", "refine") else "motionbert"


def random_weights(layout: Layout, seed: int) -> dict[str, Tensor]:
    """Random numbers with which no part of a network is the identity or zero."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in layout.items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            value = torch.tensor(int(1000 * noise.abs()))
        elif name.endswith("running_var"):
            value = 0.5 + noise.abs()
        elif name.endswith("init_pose"):  # row-major 3x2, far from where orthonormalising is ill-conditioned
            value = torch.tensor([1.0, 0, 0, 1, 0, 0]).repeat(24)[None] + 0.2 * noise
        elif name.endswith(("_embed", "mesh_template", "init_shape")):
            value = 0.3 * noise
        elif "head_pose" in name:
            value = 0.2 * noise / max(noise[0].numel(), shape[-1]) ** 0.5
        elif len(shape) > 1:
            value = noise / noise[0].numel() ** 0.5
        else:
            value = (1.0 if name.endswith("weight") else 0.0) + 0.3 * noise
        weights[name] = value
    return weights


def small_weights(layout: Layout) -> dict[str, Tensor]:
    """Weights that take no room in a file, because each is one number that is repeated.

    A file that holds less numbers than it says is refused, but only after all names and shapes were found right: what
    is wrong with them is said before, and where nothing is, :data:`ONLY_NUMBERS`.
    """
    return {name: torch.zeros(()).expand(shape) for name, shape in layout.items()}


def with_module(weights: dict[str, Any]) -> dict[str, Any]:
    return {f"module.{name}": value for name, value in weights.items()}


def save(path: Path, weights: Any, key: str = "model", archive: bool = True) -> Path:
    """As the official training writes it."""
    optimizer = {"state": {0: {"step": 3, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 5e-4, "params": [0]}]}
    rest = {"epoch": 60, "lr": 2e-4, "optimizer": optimizer, "min_loss": np.float64(30.5)}
    torch.save({**rest, key: weights} if key else weights, path, _use_new_zipfile_serialization=archive)
    return path


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["import_checkpoint", *map(str, words)])
    return run_command(import_checkpoint.main)


def message_of(path: Path, project: MotionProject) -> str:
    with pytest.raises(UserError) as caught:
        read_motion(path, project)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


def clips(*shape: int) -> Tensor:
    return torch.rand(*shape, 17, 3, generator=torch.Generator().manual_seed(1)) * 2 - 1


# The answers


def close(answer: Tensor, expected: Tensor) -> None:
    assert expected.std() > 0.05, "the test sees something"
    torch.testing.assert_close(answer, expected, atol=1e-5, rtol=0)


def compare(model: MotionModel, weights: dict[str, Tensor], network: str, frames: int) -> None:
    """Hold a loaded network against the formulas on the weights of the official file."""
    if isinstance(model, DSTformer):
        x = clips(2, frames)
        features = formulas.dstformer_features(weights, x)
        close(model.get_representation(x), features)
        close(model(x), formulas.linear(weights, "head", features))
        return
    backbone, head = formulas.part(weights, "backbone."), formulas.part(weights, "head.")
    if isinstance(model, MotionBertAction):
        pairs = clips(2, 2, frames)
        features = formulas.dstformer_features(backbone, pairs.flatten(0, 1)).unflatten(0, (2, 2))
        formula = formulas.action_classifier if network == "classifier" else formulas.action_embedding
        expected = formula(head, features)
        scale = expected.std() if network == "embedding" else 1.0
        close(model(pairs) / scale, expected / scale)
        return
    x = clips(2, frames)
    features = formulas.dstformer_features(backbone, x)
    given = SmplParams.from_rotations(
        random_rotations((2, frames, 24), torch.Generator().manual_seed(2)), torch.rand(2, 1, 10).expand(-1, frames, -1)
    )
    estimate = model(x, given) if isinstance(model, DiffMeshRefine) else model(x)
    if isinstance(model, DiffMesh | DiffMeshRefine):
        reference = (
            formulas.diffmesh_head(head, features, OFFICIAL)
            if isinstance(model, DiffMesh)
            else formulas.refine_head(head, features, given, OFFICIAL)
        )
        close(estimate.predicted_condition, reference.predicted_condition)
        rotations, betas = reference.rotations, reference.betas
    else:
        rotations, betas = formulas.mesh_head(head, features)
    close(estimate.rotations, rotations)
    close(estimate.betas, betas)


def import_and_compare(
    folder: Path, monkeypatch: pytest.MonkeyPatch, network: str, width: int, frames: int
) -> tuple[Path, MotionModel]:
    """From the official file to the answers, all through the command."""
    weights = random_weights(layout_of(network, width), seed=0)
    stored = dict(weights)
    if network == "mesh":
        del stored["head.bn2.num_batches_tracked"]  # as before PyTorch 0.4.1
        weights["head.bn2.num_batches_tracked"] = torch.tensor(0)
    if network != "lifting":
        stored |= small_weights(BODY_BUFFERS)
    key = "model_pos" if network == "lifting" else "model"
    path, out = save(folder / "best_epoch.bin", with_module(stored), key), folder / "a.safetensors"
    assert call(monkeypatch, "--from", project_of(network), path, "--out", out) == 0
    model = load_motion_model(out)
    state = model.state_dict()
    assert set(state) == set(weights)
    assert all(torch.equal(state[name], value) for name, value in weights.items())
    with torch.no_grad():
        compare(model, weights, network, frames)
    return out, model


@pytest.mark.parametrize(
    "network", [pytest.param(name, marks=[pytest.mark.slow] if name == "classifier" else []) for name in NETWORKS]
)
def test_imported_networks_answer_as_the_formulas(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], network: str
) -> None:
    frames = 1 if network in ("diffmesh", "refine") else 2
    out, model = import_and_compare(tmp_path, monkeypatch, network, LITE_WIDTH, frames)
    text = capsys.readouterr().out
    assert f"{out}: {len(layout_of(network))} tensors" in text and ", lite; diffhmr.motion_checkpoint" in text
    metadata = read_motion_metadata(out)
    assert (metadata["imported_from"], metadata["imported_epoch"]) == (project_of(network), "60")
    assert len(metadata["imported_sha256"]) == 64
    assert metadata.get("root_relative") == ("true" if network == "lifting" else None)
    if network == "lifting":
        assert isinstance(model, DSTformer) and model.size == LITE and "left out" not in text
        assert "16.00 M numbers" in text and metadata["kind"] == "dstformer" and "relative to the root" in text
    else:
        assert "4 tensors\n  head.smpl.v_template\n  head.smpl.J_regressor\n" in text
    assert ("train it (init) before you use it" in text) == (network == "refine")
    body = "SMPL" if isinstance(model, (MotionBertMesh, DiffMesh, DiffMeshRefine)) else "none"
    assert (metadata["body_name"], metadata["body_sha256"]) == (body, "unknown")
    variants = {"classifier": "classifier", "embedding": "embedding", "diffmesh": "released", "refine": "released"}
    assert metadata["variant"] == variants.get(network, "")


@pytest.mark.slow
def test_the_full_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _, model = import_and_compare(tmp_path, monkeypatch, "diffmesh", FULL_WIDTH, frames=16)
    assert "DiffMesh, full; diffhmr.motion_checkpoint" in capsys.readouterr().out
    assert isinstance(model, DiffMesh) and model.backbone.size == FULL
    assert sum(value.numel() for value in model.backbone.parameters()) == 42_466_317


@pytest.fixture(scope="module")
def lifting() -> dict[str, Tensor]:
    return random_weights(layout_of("lifting"), seed=1)


def test_global_positions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lifting: dict[str, Tensor]) -> None:
    path, out = save(tmp_path / "a.bin", with_module(lifting), "model_pos"), tmp_path / "a.safetensors"
    for words, relative in (([], True), (["--global"], False)):
        assert call(monkeypatch, "--from", "motionbert", path, "--out", out, *words) == 0
        assert load_lifting_model(out).model.root_relative == relative
    action = MotionBertAction(DSTformer(DSTformerSize(8, 8, 1, 2, 8, 6)), ActionEmbedding(8, 5))
    weights = ForeignMotion("motionbert", path, action, "MotionBERT's action embedding, lite", (), None)
    with pytest.raises(UserError, match="action embedding, lite, which gives no positions: leave --global out"):
        write_motion(weights, out, root_relative=False)


# What a file may look like


@pytest.mark.parametrize(("key", "prefixed", "archive"), [("model", True, False), ("", True, True), ("", False, False)])
def test_where_the_weights_are(
    tmp_path: Path, lifting: dict[str, Tensor], key: str, prefixed: bool, archive: bool
) -> None:
    """Also: in which precision, and in which of the formats of ``torch.save``."""
    weights = lifting | {"norm.bias": lifting["norm.bias"].double(), "norm.weight": lifting["norm.weight"].half()}
    path = save(tmp_path / "a.bin", with_module(weights) if prefixed else weights, key, archive)
    imported = read_motion(path, "motionbert")
    assert imported.epoch == (60 if key else None)
    state = imported.model.state_dict()
    assert set(state) == set(weights)
    assert all(torch.equal(value, weights[name].float()) for name, value in state.items())
    assert {value.dtype for value in state.values()} == {torch.float32}


@pytest.mark.parametrize("width", [FULL_WIDTH, LITE_WIDTH])
@pytest.mark.parametrize(
    ("head", "project"),
    [
        (None, "motionbert"),
        (HEADS["mesh"], "motionbert"),
        (HEADS["diffmesh"], "diffmesh"),
        (HEADS["refine"], "diffmesh"),
        (classifier_layout(60), "motionbert"),
        (classifier_layout(120), "motionbert"),
        (embedding_layout(2048), "motionbert"),
    ],
    ids=["lifting", "mesh", "diffmesh", "refine", "60 classes", "120 classes", "embedding"],
)
def test_every_official_shape_is_taken(tmp_path: Path, width: int, head: Layout | None, project: MotionProject) -> None:
    layout = dstformer_layout(width) if head is None else whole_layout(width, head) | BODY_BUFFERS
    message = message_of(save(tmp_path / "a.bin", with_module(small_weights(layout))), project)
    assert re.search(ONLY_NUMBERS, message)


# Keys


@pytest.mark.parametrize("network", NETWORKS)
def test_every_key_counts(tmp_path: Path, network: str) -> None:
    """Each of some keys is missing, has a double, or another shape; all of that is named, and nothing else is."""
    layout, path = layout_of(network), tmp_path / "a.bin"
    backbone = [name for name in layout if network == "lifting" or name.startswith("backbone.")]
    heads = [name for name in layout if name not in backbone and not name.endswith("num_batches_tracked")]
    checked = [*backbone[:: 50 if network == "lifting" else 130], *heads[:: 1 + len(heads) // 6]]
    for lost, doubled, bent in zip(checked, checked[1:] + checked[:1], checked[2:] + checked[:2], strict=True):
        wrong = (*layout[bent][:-1], layout[bent][-1] + 1)
        weights = small_weights({**layout, f"{doubled}_2": (1,), bent: wrong})
        del weights[lost]
        assert message_of(save(path, with_module(weights)), project_of(network)).endswith(
            f". 1 missing: {lost}; 1 unknown: {doubled}_2; "
            f"1 of another shape: {bent} {list(wrong)} for {list(layout[bent])}"
        )


def test_sizes_that_do_not_exist(tmp_path: Path) -> None:
    message = message_of(save(tmp_path / "a.bin", small_weights(layout_of("lifting", 128))), "motionbert")
    assert "of another shape: temp_embed [1, 243, 1, 128] for [1, 243, 1, 512]" in message


def test_the_prefix_is_before_all_names_or_none(tmp_path: Path) -> None:
    weights = small_weights(layout_of("lifting"))
    weights["module.norm.bias"] = weights.pop("norm.bias")
    message = message_of(save(tmp_path / "a.bin", weights), "motionbert")
    assert "1 missing: norm.bias; 1 unknown: module.norm.bias" in message


def test_buffers_of_the_body_are_left_out_of_heads_only(tmp_path: Path) -> None:
    path = save(tmp_path / "a.bin", small_weights(layout_of("lifting") | BODY_BUFFERS))
    assert "4 unknown: head.smpl.v_template" in message_of(path, "motionbert")
    path = save(tmp_path / "a.bin", small_weights(layout_of("mesh") | {"head.smplx.betas": (1, 10)}))
    assert "1 unknown: head.smplx.betas" in message_of(path, "motionbert")


def test_a_head_alone_or_none(tmp_path: Path) -> None:
    head = {name: value for name, value in small_weights(layout_of("mesh")).items() if name.startswith("head.")}
    assert "missing: temp_embed" in message_of(save(tmp_path / "a.bin", head), "motionbert")
    for project, missing in (("motionbert", "head.head_pose.weight"), ("diffmesh", "head.mesh_template")):
        backbone = small_weights({f"backbone.{name}": shape for name, shape in dstformer_layout(LITE_WIDTH).items()})
        message = message_of(save(tmp_path / "a.bin", backbone), project)  # type: ignore[arg-type]
        assert "missing: head." in message and missing.split(".")[0] in message and "unknown" not in message


# Files of others


@pytest.mark.parametrize("network", NETWORKS)
def test_the_other_project(tmp_path: Path, network: str) -> None:
    path = save(tmp_path / "a.bin", with_module(small_weights(layout_of(network))))
    other: MotionProject = "motionbert" if project_of(network) == "diffmesh" else "diffmesh"
    assert message_of(path, other).endswith(f": import it with --from {project_of(network)}")


def test_spin_is_no_motionbert(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", small_weights(spin_layout()))
    message = message_of(path, "motionbert")
    assert "does not hold the weights of motionbert. 260 missing: temp_embed, " in message
    assert "331 unknown: conv1.weight, " in message and message.endswith("is it of another project?")
    message = message_of(path, "diffmesh")
    assert "missing: backbone.temp_embed, " in message and message.endswith("is it of another project?")


@pytest.mark.parametrize("project", ["spin", "prohmr", "torchvision"])
def test_motionbert_is_no_spin(tmp_path: Path, project: Project) -> None:
    for network, key in (("lifting", "model_pos"), ("mesh", "model"), ("lifting", "")):
        path = save(tmp_path / "a.bin", with_module(small_weights(layout_of(network))), key)
        with pytest.raises(UserError, match=rf"is it of (another project|{project})\?$") as caught:
            read_foreign(path, project)
        assert "\n" not in str(caught.value)


# Files that would run code, and what is no checkpoint


def test_nothing_in_a_file_is_run(tmp_path: Path, lifting: dict[str, Tensor]) -> None:
    mark, path = tmp_path / "mark", tmp_path / "a.bin"
    evil = Evil(os.system, f"touch {mark}")
    torch.save({"model_pos": lifting, "optimizer": evil, "epoch": evil}, path)
    assert read_motion(path, "motionbert").epoch is None
    weights = small_weights(layout_of("lifting"))
    save(path, {**weights, "temp_embed": evil})
    assert "temp_embed is no tensor but" in message_of(path, "motionbert")
    save(path, {**weights, "norm.more": evil})
    assert "1 unknown: norm.more" in message_of(path, "motionbert")
    torch.save({"model": evil, "model_pos": evil}, path)
    assert "holds no weights under the key 'model_pos' or 'model'" in message_of(path, "motionbert")
    torch.save(evil, path)
    assert "holds no weights under the key" in message_of(path, "motionbert")
    assert not mark.exists()
    torch.load(save(path, evil), weights_only=False)
    assert mark.exists(), "the attack works where files are trusted"


def test_bad_input_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, path = tmp_path / "a.safetensors", save(tmp_path / "a.bin", {"weight": torch.zeros(1)})
    (tmp_path / "b.bin").write_bytes(path.read_bytes()[:300])
    for words, text in (
        (["--from", "motionbert", tmp_path / "none.bin", "--out", out], "not found"),
        (["--from", "motionbert", path, "--out", tmp_path / "a.npz"], "should end in .safetensors"),
        (["--from", "motionbert", path, "--out", out, "--body", tmp_path], "--body belongs to --from spin"),
        (["--from", "diffmesh", path, "--out", out, "--global"], "--global belongs to --from motionbert"),
        (["--from", "motionbert", path, "--out", out], "1 unknown: weight"),
        (["--from", "diffmesh", tmp_path / "b.bin", "--out", out], "b.bin"),
    ):
        assert call(monkeypatch, *words) == 2
        message = capsys.readouterr().err
        assert text in message and message.count("\n") == 1
    assert not out.exists()
