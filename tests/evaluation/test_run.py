"""Checkpoints on the synthetic people: what the result says, and which options are refused."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.checkpoint import save_model
from diffhmr.config import (
    DataConfig,
    DenoiserConfig,
    DiffusionConfig,
    EncoderConfig,
    ExperimentConfig,
    ModelConfig,
    RegressorConfig,
)
from diffhmr.errors import UserError
from diffhmr.evaluation import run as evaluation_run
from diffhmr.evaluation.data import synthetic_data, synthetic_people, synthetic_protocol
from diffhmr.evaluation.run import EvaluationOptions, Output, Source, mean_params
from diffhmr.evaluation.table import format_table
from diffhmr.files import sha256_file
from diffhmr.geometry.rotation import axis_angle_to_matrix
from diffhmr.models import build_model
from diffhmr.training.people_task import people_for_statistics


def test_the_mean_person_is_upright_whatever_way_people_face(free_body: BodyModel) -> None:
    """Two people back to back, both leaning to their right by 0.1 radians."""
    half_turn = axis_angle_to_matrix(torch.tensor([math.pi, 0, 0]))
    lean = axis_angle_to_matrix(torch.tensor([0, 0, 0.1]))
    turn = axis_angle_to_matrix(torch.tensor([[0, 0, 0], [0, math.pi, 0]]))
    rotations = torch.eye(3).repeat(2, 24, 1, 1)
    rotations[:, 0] = half_turn @ turn @ lean
    betas = torch.tensor([[1.0] * 10, [0.0] * 10])
    for state, frame in itertools.product((("pose",), ("pose", "shape", "camera")), ("parent", "camera")):
        settings = _tiny_config("diffhmr").model.model_copy(update={"state": state, "rotations": frame})
        model = build_model(settings, free_body)
        model.set_statistics(SmplParams.from_rotations(rotations, betas), torch.tensor([0.9, 0.0, 0.0]).expand(2, 3))
        mean = mean_params(model.regressor)
        assert mean.global_orient[1, 1] < -0.99
        torch.testing.assert_close(mean.body_pose, torch.eye(3).expand(23, 3, 3))
        torch.testing.assert_close(mean.betas, torch.full((10,), 0.5))


def test_protocol_names_body_and_conventions_and_is_json(free_body: BodyModel) -> None:
    protocol = json.loads(json.dumps(synthetic_protocol(free_body, synthetic_people(DataConfig()))))
    assert protocol["name"] == "synthetic-v1"
    assert protocol["body"] == {
        "name": "free body, not SMPL", "path": "data/body/free_body.npz", "sha256": free_body.sha256,
    }  # fmt: skip
    assert protocol["joint_set"] == "J14" and "not counted" in protocol["mode"]
    assert "uses ground truth" in protocol["min_of"]


@pytest.mark.parametrize("change", [{"num_samples": 0}, {"steps": 0}, {"seed": -1}, {"limit": 0}])
def test_options_out_of_range_are_refused(change: dict[str, int]) -> None:
    name = next(iter(change)).replace("_", "-")
    with pytest.raises(UserError, match=f"--{name} must be at least"):
        EvaluationOptions(**change)


def _tiny_config(kind: Literal["diffhmr", "spin"]) -> ExperimentConfig:
    return ExperimentConfig(
        name="tiny",
        model=ModelConfig(
            kind=kind,
            encoder=EncoderConfig(kind="keypoints", width=16, layers=1, heads=1),
            regressor=RegressorConfig(width=16),
            denoiser=DenoiserConfig(width=16, blocks=1),
            diffusion=DiffusionConfig(steps=50),
        ),
        data=DataConfig(images=False, occluder=0.0),
    )


def _save_tiny_model(path: Path, body: BodyModel, kind: Literal["diffhmr", "spin"]) -> None:
    config = _tiny_config(kind)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(config.model, body)
    model.set_statistics(*people_for_statistics(config.data, body, 64))
    save_model(path, model, config, body, step=3)


@pytest.mark.parametrize("kind", ["diffhmr", "spin"])
def test_a_checkpoint_is_evaluated_into_a_complete_json(kind: Any, free_body: BodyModel, tmp_path: Path) -> None:
    checkpoint, out = tmp_path / "model.safetensors", tmp_path / "new" / "result.json"
    _save_tiny_model(checkpoint, free_body, kind)
    result = evaluation_run.run(
        checkpoint, Source("synthetic"), EvaluationOptions(num_samples=5, steps=2, limit=70), Output(out)
    )
    assert json.loads(out.read_text()) == result
    assert result["checkpoint"] == {"path": str(checkpoint), "sha256": sha256_file(checkpoint), "step": 3}
    assert (result["dataset"], result["num_items"], result["num_samples"], result["seed"]) == ("synthetic", 70, 5, 0)
    assert (result["model"], result["sampler"]["steps"]) == (kind, 2)
    assert result["protocol"]["people"]["occluder"] == 0.4
    assert result["protocol"]["name"] == "synthetic-v1 (first 70 of 2000)"
    errors = result["metrics"]["mpjpe_mm"]
    assert errors.keys() == {"mode", "mean_of_samples", "random", "min_of"}
    assert list(errors["min_of"]) == ["1", "5"]
    if kind == "spin":
        assert errors["mode"] == pytest.approx(errors["min_of"]["5"])
        assert result["metrics"]["energy_score_mm"] == pytest.approx(errors["mode"], rel=1e-4)
        assert result["metrics"]["ece"] == pytest.approx(0.5)
    else:
        assert errors["min_of"]["5"] < errors["random"]
        assert result["metrics"]["diversity_visible_mm"] > 1
    assert f"all ({result['num_items']})" in format_table(result)


def test_the_same_seed_gives_the_same_file(free_body: BodyModel, tmp_path: Path) -> None:
    _save_tiny_model(tmp_path / "model.safetensors", free_body, "diffhmr")
    texts = []
    for seed in (1, 1, 2):
        options = EvaluationOptions(num_samples=3, steps=2, seed=seed, limit=10)
        evaluation_run.run(tmp_path / "model.safetensors", Source("synthetic"), options, Output(tmp_path / "r.json"))
        texts.append(json.loads((tmp_path / "r.json").read_text())["metrics"])
    assert texts[0] == texts[1] != texts[2]


def test_more_steps_than_the_model_has_are_refused(free_body: BodyModel, tmp_path: Path) -> None:
    _save_tiny_model(tmp_path / "model.safetensors", free_body, "diffhmr")
    with pytest.raises(UserError, match="51 sampling steps"):
        evaluation_run.run(tmp_path / "model.safetensors", Source("synthetic"), EvaluationOptions(steps=51, limit=1))


def test_people_of_the_protocol_are_those_of_the_default_settings() -> None:
    """Whoever changes the defaults decides whether the protocol gets a new version."""
    assert synthetic_data(DataConfig(seed=5, occluder=0.0, image_size=64)) == DataConfig(image_size=64)
    assert not synthetic_data(DataConfig(images=False)).images


def test_unknown_dataset_and_missing_checkpoint_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose one of synthetic"):
        Source("agora")
    with pytest.raises(UserError, match="not found"):
        output = Output(tmp_path / "r.json")
        evaluation_run.run(tmp_path / "none.safetensors", Source("synthetic"), EvaluationOptions(), output)
    assert list(tmp_path.iterdir()) == []
