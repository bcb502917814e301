"""Files of models of meshes of clips: what is loaded answers as what was saved, and a bad file is one clear line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from diffhmr.body.model import BodyModel
from diffhmr.clip_batch import ClipBatch
from diffhmr.clip_checkpoint import config_of_clips, load_clip_model, save_clip_model, save_trained
from diffhmr.config import BodyConfig, SamplerConfig
from diffhmr.config_clips import ClipDataConfig, ClipExperimentConfig, ClipLossConfig, Head
from diffhmr.errors import UserError
from diffhmr.models.clip_models import ClipModel
from diffhmr.models.clip_windows import WindowOptions
from diffhmr.models.diffmesh import DiffMesh, DiffMeshHead, DiffMeshSize
from diffhmr.models.dstformer import DSTformer, DSTformerSize
from diffhmr.models.motion_diffusion import MotionDiffusion, MotionDiffusionSize
from diffhmr.models.motion_heads import ActionClassifier, MeshHead, MotionBertAction, MotionBertMesh
from diffhmr.models.motion_refine import DiffMeshRefine, RefineHead
from diffhmr.motion_checkpoint import MotionModel, read_motion_metadata, save_motion_model
from tests.models.formulas import randomised
from tests.models.small_clips import MESH_HEADS, clip_batch, clip_model, clip_settings

BACKBONE = DSTformerSize(width=16, hidden=24, depth=1, heads=2, features=6, max_frames=20)
SAMPLER = SamplerConfig(steps=3)


def _config(head: Head, body_path: Path, **model: Any) -> ClipExperimentConfig:
    return ClipExperimentConfig(
        name="small",
        task="mesh",
        model=clip_settings(head, **model),
        data=ClipDataConfig(initial=bool(model.get("refine"))),
        loss=ClipLossConfig(norm=0, x0_joints3d=0),
        body=BodyConfig(path=body_path),
    )


def _saved(path: Path, head: Head, body: BodyModel, body_path: Path, **model: Any) -> tuple[Path, ClipModel]:
    config = _config(head, body_path, **model)
    built = clip_model(body, head, config.loss, **model)
    save_clip_model(path / f"{head}.safetensors", built, config, body, 12, finished=True)
    return path / f"{head}.safetensors", built


@pytest.fixture
def file(tmp_path: Path, toy_body: BodyModel, toy_body_path: Path) -> Path:
    return _saved(tmp_path, "ours", toy_body, toy_body_path)[0]


def _rewrite(path: Path, **changes: str | None) -> None:
    """Write the same weights with another header."""
    header = read_motion_metadata(path) | changes
    save_file(load_file(path), path, metadata={name: value for name, value in header.items() if value is not None})


def _message(path: Path, body_path: Path | None = None) -> str:
    with pytest.raises(UserError) as caught:
        load_clip_model(path, body_path=body_path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    return str(caught.value)


def _clips() -> ClipBatch:
    return clip_batch(2, frames=19)


@pytest.mark.parametrize("head", MESH_HEADS)
def test_samples_and_losses_are_those_of_the_saved_model(
    head: Head, tmp_path: Path, toy_body: BodyModel, toy_body_path: Path
) -> None:
    by, frame = ("picture", "parent") if head == "released" else ("person", "camera")
    path, model = _saved(tmp_path, head, toy_body, toy_body_path, input=by, rotations=frame)
    random_state = torch.get_rng_state()
    loaded = load_clip_model(path)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert not loaded.model.training and loaded.model.deterministic == (head != "ours")
    params, expected = (one.sample(_clips(), 2, SAMPLER, 3).params for one in (loaded.model, model))
    assert torch.equal(params.rotations, expected.rotations) and torch.equal(params.betas, expected.betas)
    whole = clip_batch(2, frames=8)
    terms, again = (one.loss(whole, torch.Generator().manual_seed(0)) for one in (model, loaded.model))
    assert list(terms) == list(again) and all(torch.equal(value, again[name]) for name, value in terms.items())
    assert "norm" not in terms and "x0_joints3d" not in terms
    assert loaded.config == _config(head, toy_body_path, input=by, rotations=frame)
    assert loaded.model.windows == WindowOptions(8, 3, by)
    assert (loaded.step, loaded.metadata["finished"]) == (12, "true")
    assert loaded.body.sha256 == toy_body.sha256 == loaded.metadata["body_sha256"]
    assert len(loaded.sha256) == 64


def test_the_device_and_the_type(file: Path) -> None:
    loaded = load_clip_model(file, "cpu")
    assert all(value.dtype == torch.float32 for value in loaded.model.parameters())
    assert {value.device.type for value in loaded.model.state_dict().values()} == {"cpu"}
    assert loaded.body.v_template.device.type == "cpu"


@pytest.mark.parametrize(("kind", "frames"), [("mesh", 16), ("diffmesh", 12)])
def test_imported_weights_have_no_settings(kind: str, frames: int, tmp_path: Path, toy_body: BodyModel) -> None:
    process = DiffMeshSize(features=6, width=8, depth=1, heads=2, condition_width=16, condition_depth=1, frames=12)
    network: MotionModel = MotionBertMesh(DSTformer(BACKBONE), MeshHead(6, 20))
    if kind == "diffmesh":
        network = DiffMesh(DSTformer(BACKBONE), DiffMeshHead(torch.ones(23, 3), "released", process))
    randomised(network)
    path = tmp_path / "a.safetensors"
    save_motion_model(path, network, {"body_name": toy_body.name, "body_sha256": "unknown"})
    loaded = load_clip_model(path, body_path=toy_body.path)
    assert loaded.config is None and loaded.step == 0 and loaded.body.sha256 == toy_body.sha256
    assert loaded.model.windows == WindowOptions(frames, frames // 4, "picture") and loaded.model.deterministic
    batch = clip_batch(1, frames)
    answer = loaded.model.sample(batch, 2, SAMPLER, 0).params
    expected = network.eval()(batch.keypoints)
    torch.testing.assert_close(answer.rotations[0, 1], expected.rotations[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(answer.betas[0, 1, 3], expected.betas[0])
    assert loaded.model.sample(clip_batch(1, 40), 1, SAMPLER, 0).params.shape == (1, 1, 40)


def test_a_refinement_is_saved_and_loaded(tmp_path: Path, toy_body: BodyModel, toy_body_path: Path) -> None:
    path, model = _saved(tmp_path, "paper", toy_body, toy_body_path, refine=True)
    assert read_motion_metadata(path)["kind"] == "diffmesh_refine"
    loaded = load_clip_model(path)
    assert loaded.model.refines and loaded.model.deterministic
    clips = _clips()
    assert clips.targets is not None
    clips = replace(clips, initial=clips.targets.params)
    params, expected = (one.sample(clips, 1, SAMPLER, 0).params for one in (loaded.model, model))
    assert torch.equal(params.rotations, expected.rotations) and torch.equal(params.betas, expected.betas)


def test_imported_weights_of_the_refinement_come_with_a_warning(
    tmp_path: Path, toy_body: BodyModel, caplog: pytest.LogCaptureFixture
) -> None:
    process = DiffMeshSize(features=6, width=8, depth=1, heads=2, condition_width=16, condition_depth=1, frames=12)
    network = DiffMeshRefine(DSTformer(BACKBONE), RefineHead(torch.ones(23, 3), "released", process, hidden=6))
    path = tmp_path / "a.safetensors"
    save_motion_model(path, network, {"body_name": toy_body.name, "body_sha256": "unknown"})
    loaded = load_clip_model(path, body_path=toy_body.path)
    assert loaded.model.refines and loaded.model.windows == WindowOptions(12, 3, "picture")
    assert "do not refine before they are trained again" in caplog.text and str(path) in caplog.text


def test_official_weights_want_the_body_of_smpl(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    network = MotionBertMesh(DSTformer(BACKBONE), MeshHead(6, 20))
    save_motion_model(path, network, {"body_name": "SMPL", "body_sha256": "unknown"})
    message = _message(path)
    assert str(path) in message and "body 'SMPL'" in message and "free_body.npz" in message


@pytest.mark.parametrize("kind", ["dstformer", "action"])
def test_networks_that_give_no_meshes(kind: str, tmp_path: Path, toy_body: BodyModel, toy_body_path: Path) -> None:
    network: MotionModel = DSTformer(BACKBONE)
    if kind == "action":
        network = MotionBertAction(network, ActionClassifier(5, 6))
    path = tmp_path / "a.safetensors"
    save_trained(path, network, _config("ours", toy_body_path), toy_body, 3)
    message = _message(path)
    assert message.startswith(f"{path} holds a ") and "gives no meshes; give a file of the task mesh" in message


def test_files_of_something_else(tmp_path: Path, file: Path) -> None:
    assert "not found" in _message(tmp_path / "none.safetensors")
    shipped = Path(__file__).parents[1] / "data/checkpoints/diffhmr_keypoints.safetensors"
    assert "holds a model of people in pictures, but a network of clips of keypoints is needed" in _message(shipped)
    content = file.read_bytes()
    for length in (5, 200, len(content) - 1):
        file.write_bytes(content[:length])
        assert "is truncated or no safetensors file" in _message(file)
    file.write_text("hello")
    assert "is truncated or no safetensors file" in _message(file)


def test_another_body(file: Path, toy_body_path: Path, tmp_path: Path) -> None:
    message = _message(file, Path("data/body/free_body.npz"))
    assert str(file) in message and "was trained with the body 'toy body, not SMPL'" in message
    assert "not found" in _message(file, tmp_path / "none.npz")
    moved = tmp_path / "moved.npz"
    moved.write_bytes(toy_body_path.read_bytes())
    assert str(load_clip_model(file, body_path=moved).body.path) == str(moved)


def test_headers_that_are_damaged(file: Path) -> None:
    original = file.read_bytes()
    config = json.loads(read_motion_metadata(file)["config"])
    sizes = json.loads(read_motion_metadata(file)["sizes"])
    diffusion = sizes["diffusion"]

    def changed_sizes(**changes: Any) -> str:
        return json.dumps(sizes | {"diffusion": diffusion | changes})

    network = "damaged header (kind, variant, sizes)"
    for changes, expected in (
        ({"config": "{"}, "damaged header (config)"),
        ({"config": "[1]"}, "damaged header (config)"),
        ({"config": "[" * 10**5}, "damaged header (config)"),
        ({"config": json.dumps(config | {"wings": 2})}, "wings"),
        ({"config": json.dumps(config | {"task": "fly"})}, "task"),
        ({"config": json.dumps({"name": "a"})}, str(file)),
        ({"step": "many"}, "damaged header (step)"),
        ({"step": "-3"}, "damaged header (step)"),
        ({"body_sha256": None}, "damaged header (body_sha256)"),
        ({"sizes": changed_sizes(width=10**9)}, network),
        ({"sizes": changed_sizes(steps=10**12)}, network),
        ({"sizes": changed_sizes(steps=0)}, network),
        ({"sizes": changed_sizes(noise_frames=1e15)}, network),
        ({"sizes": changed_sizes(noise_frames="wide")}, network),
        ({"sizes": changed_sizes(noise_white=0)}, network),
        ({"sizes": changed_sizes(schedule="quick")}, network),
        ({"sizes": changed_sizes(target="v2")}, network),
        ({"sizes": changed_sizes(frame="world")}, network),
        ({"sizes": changed_sizes(wings=1)}, network),
        ({"sizes": changed_sizes(depth=diffusion["depth"] + 1)}, "missing"),
    ):
        _rewrite(file, **changes)
        message = _message(file)
        assert expected in message and str(file) in message, (changes, message)
        file.write_bytes(original)
    load_clip_model(file)


def test_settings_of_another_kind(file: Path, toy_body_path: Path) -> None:
    """The settings of a training on pictures in a file of clips."""
    _rewrite(file, config=json.dumps({"name": "a", "body": {"path": str(toy_body_path)}}))
    assert f"configuration inside {file}" in _message(file)
    assert config_of_clips({}, file) is None


def test_weights_that_are_not_finite(tmp_path: Path, toy_body: BodyModel, toy_body_path: Path) -> None:
    config = _config("ours", toy_body_path)
    model = clip_model(toy_body, "ours")
    with torch.no_grad():
        model.network.head.pose.bias[0] = torch.nan
    with pytest.raises(UserError, match=r"not all values are finite in head\.pose\.bias"):
        save_clip_model(tmp_path / "a.safetensors", model, config, toy_body, 1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("frame", ["parent", "camera"])
def test_all_settings_of_the_diffusion_are_in_its_file(frame: Any, tmp_path: Path, toy_body: BodyModel) -> None:
    size = MotionDiffusionSize(
        width=12, depth=1, heads=3, steps=17, schedule="linear", target="x0", noise_frames=1.5, noise_white=0.4,
        frame=frame,
    )  # fmt: skip
    network = MotionDiffusion(DSTformer(BACKBONE), size)
    path = tmp_path / "a.safetensors"
    save_motion_model(path, network, {"body_name": toy_body.name, "body_sha256": "unknown"})
    loaded = load_clip_model(path, body_path=toy_body.path).model.network
    assert isinstance(loaded, MotionDiffusion) and loaded.size == size
    assert torch.equal(loaded.process.schedule.alpha_bar, network.process.schedule.alpha_bar)
    assert loaded.process.target == "x0" and loaded.codec.frame == frame
    assert [loaded.noise.covariance(lag) for lag in range(4)] == [network.noise.covariance(lag) for lag in range(4)]
