"""Evaluation with models whose errors are known, on a small data set with known truth."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from diffhmr.batch import ImageBatch, Prediction, Targets
from diffhmr.body.joints import COCO17_FROM_SPIN49, J14_FROM_SPIN49, PELVIS_SPIN49, SPIN49
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
    SamplerConfig,
)
from diffhmr.errors import UserError
from diffhmr.evaluation import run as evaluation_run
from diffhmr.evaluation.data import synthetic_data, synthetic_people, synthetic_protocol
from diffhmr.evaluation.measures import Measurer, distribution_metrics
from diffhmr.evaluation.protocols import SYNTHETIC
from diffhmr.evaluation.run import Evaluation, EvaluationOptions, Output, Source, evaluate, mean_params
from diffhmr.evaluation.table import format_table
from diffhmr.evaluation.truth import Bodies
from diffhmr.files import sha256_file
from diffhmr.geometry.camera import project_crop
from diffhmr.geometry.rotation import axis_angle_to_matrix
from diffhmr.models import build_model
from diffhmr.training.data import people_for_statistics

ROOT = Path(__file__).parents[2]
SAMPLER = SamplerConfig()
COUNT = 40
ANGLE_STD = 0.15


@pytest.fixture(scope="module")
def body() -> BodyModel:
    return BodyModel.load(ROOT / "data/body/free_body.npz")


def _params(angles: Tensor) -> SmplParams:
    """Bodies from axis-angles ``[..., 24, 3]``, of mean shape."""
    return SmplParams.from_rotations(axis_angle_to_matrix(angles), torch.zeros(*angles.shape[:-2], 10))


class People:
    """Poses drawn around a centre pose of each item, so that the right conditional distribution is known."""

    def __init__(self, body: BodyModel, count: int = COUNT) -> None:
        generator = torch.Generator().manual_seed(0)
        self.body = body
        self.centres = 0.3 * torch.randn(count, 24, 3, generator=generator)
        self.angles = self.centres + ANGLE_STD * torch.randn(count, 24, 3, generator=generator)
        self.camera = torch.tensor([0.9, 0.1, 0.2]).expand(count, 3)
        self.occluded = torch.arange(count) % 4 == 0
        self.truncated = torch.arange(count) % 5 == 0
        self.hidden_joints = [COCO17_FROM_SPIN49[index] for index in (9, 10)]

    def __len__(self) -> int:
        return len(self.centres)

    def __getitems__(self, indices: Sequence[int]) -> ImageBatch:
        chosen = torch.tensor(list(indices))
        params = _params(self.angles[chosen])
        joints = self.body.joints(params, SPIN49)
        ones = torch.ones(len(chosen), 49, 1)
        points = project_crop(joints, self.camera[chosen])
        visible = torch.ones(len(chosen), 49, dtype=torch.bool)
        visible[:, self.hidden_joints] = False
        labelled = torch.ones(len(chosen), dtype=torch.bool)
        targets = Targets(
            params=params,
            camera=self.camera[chosen],
            joints3d=torch.cat([joints, ones], -1),
            joints2d=torch.cat([points, ones], -1),
            visible=visible,
            has_params=labelled,
            has_camera=labelled,
            occluded=self.occluded[chosen],
            truncated=self.truncated[chosen],
        )
        return ImageBatch(item_seed=chosen, keypoints=torch.zeros(len(chosen), 17, 3), targets=targets)


@dataclass
class Spread:
    """Samples around the centres with ``factor`` times the true spread; hypothesis 0 is the centre itself."""

    people: People
    factor: float = 1.0
    asked: int = 0

    def sample(self, batch: ImageBatch, num_samples: int, sampler: SamplerConfig, seed: int) -> Prediction:
        assert isinstance(sampler, SamplerConfig)
        self.asked = max(self.asked, num_samples)
        noise = torch.stack(
            [
                torch.randn(num_samples, 24, 3, generator=torch.Generator().manual_seed(seed * 1000 + int(item)))
                for item in batch.item_seed
            ]
        )
        noise[:, 0] = 0
        angles = self.people.centres[batch.item_seed][:, None] + self.factor * ANGLE_STD * noise
        return Prediction(_params(angles), self.people.camera[batch.item_seed][:, None].expand(-1, num_samples, -1))


@dataclass
class Answer:
    """One answer: the truth, with the camera moved to the right by ``shift``."""

    people: People
    shift: float = 0.0

    def sample(self, batch: ImageBatch, num_samples: int, sampler: SamplerConfig, seed: int) -> Prediction:
        assert isinstance(sampler, SamplerConfig) and seed >= 0
        angles = self.people.angles[batch.item_seed][:, None].expand(-1, num_samples, -1, -1)
        camera = self.people.camera[batch.item_seed] + torch.tensor([0.0, self.shift, 0.0])
        return Prediction(_params(angles), camera[:, None].expand(-1, num_samples, -1), deterministic=True)


def _evaluate(model: Any, people: People, **options: Any) -> Evaluation:
    return evaluate(model, people, _measurer(people.body), SAMPLER, EvaluationOptions(**options))


def _measurer(body: BodyModel) -> Measurer:
    return Measurer(SYNTHETIC, Bodies(body, {}), _params(torch.zeros(24, 3)))


@pytest.fixture(scope="module")
def people(body: BodyModel) -> People:
    return People(body)


@pytest.fixture(scope="module")
def calibrated(people: People) -> Evaluation:
    return _evaluate(Spread(people), people)


def test_a_perfect_answer_has_no_error_and_the_calibration_of_a_single_answer(people: People) -> None:
    metrics = _evaluate(Answer(people), people, num_samples=5).metrics
    for name in ("mpjpe_mm", "pa_mpjpe_mm", "pve_mm"):
        values = [metrics[name][key] for key in ("mode", "mean_of_samples", "random")]
        assert max(*values, *metrics[name]["min_of"].values()) < 0.01
    assert metrics["energy_score_mm"] < 0.01 and metrics["crps_depth_mm"] < 0.01
    assert metrics["diversity_visible_mm"] < 1e-3 and metrics["diversity_invisible_mm"] < 1e-3
    assert metrics["reprojection_px"]["mode"] < 0.01
    assert metrics["mean_pose"]["mpjpe_mm"] > metrics["mean_pose"]["pa_mpjpe_mm"] > 20


def test_reprojection_error_of_a_shifted_camera(people: People) -> None:
    metrics = _evaluate(Answer(people, shift=0.1), people, num_samples=2).metrics
    # s * shift of half the crop, but for the weak perspective of SPIN's long focal length.
    expected = 0.9 * 0.1 * 128
    assert metrics["reprojection_px"]["mode"] == pytest.approx(expected, rel=0.01)
    assert metrics["reprojection_px"]["random"] == pytest.approx(expected, rel=0.01)
    assert metrics["mpjpe_mm"]["mode"] < 0.01


def test_errors_equal_those_computed_person_by_person(people: People) -> None:
    metrics = _evaluate(Spread(people), people, num_samples=3).metrics
    joint_errors, vertex_errors, of_mean = [], [], []
    for index in range(COUNT):
        batch = people.__getitems__([index])
        assert batch.targets is not None
        prediction = Spread(people).sample(batch, 4, SAMPLER, 0)
        truth = people.body.joints(batch.targets.params, SPIN49)[0]
        truth_mesh = people.body(batch.targets.params).vertices[0] - truth[PELVIS_SPIN49]
        relative = []
        for k in range(4):
            one = prediction.params.map(lambda value, k=k: value[0, k])
            joints, mesh = people.body.joints(one, SPIN49), people.body(one).vertices
            picked = [joints[j] - joints[PELVIS_SPIN49] for j in J14_FROM_SPIN49]
            wanted = [truth[j] - truth[PELVIS_SPIN49] for j in J14_FROM_SPIN49]
            relative.append(torch.stack(picked))
            distances = [(a - b).norm() for a, b in zip(picked, wanted, strict=True)]
            joint_errors.append(1000 * torch.stack(distances).mean())
            vertex_errors.append(1000 * (mesh - joints[PELVIS_SPIN49] - truth_mesh).norm(dim=-1).mean())
        of_mean.append(1000 * (torch.stack(relative[1:]).mean(0) - torch.stack(wanted)).norm(dim=-1).mean())
    joints, vertices = torch.stack(joint_errors).reshape(-1, 4), torch.stack(vertex_errors).reshape(-1, 4)
    assert metrics["mpjpe_mm"]["mode"] == pytest.approx(joints[:, 0].mean().item(), rel=1e-4)
    assert metrics["mpjpe_mm"]["random"] == pytest.approx(joints[:, 1:].mean().item(), rel=1e-4)
    assert metrics["mpjpe_mm"]["mean_of_samples"] == pytest.approx(torch.stack(of_mean).mean().item(), rel=1e-4)
    assert metrics["pve_mm"]["mode"] == pytest.approx(vertices[:, 0].mean().item(), rel=1e-4)
    assert metrics["pve_mm"]["random"] == pytest.approx(vertices[:, 1:].mean().item(), rel=1e-4)


def test_the_single_answer_is_not_among_the_samples(people: People) -> None:
    """The mode is exact here while no random hypothesis is: the minimum over all of them must not find it."""
    exact = replace_centres(people)
    model = Spread(exact)
    metrics = _evaluate(model, exact, num_samples=10).metrics
    assert model.asked == 11
    assert metrics["mpjpe_mm"]["mode"] < 0.01
    assert metrics["mpjpe_mm"]["min_of"]["10"] > 5


def replace_centres(people: People) -> People:
    exact = People(people.body)
    exact.centres = exact.angles
    return exact


def test_a_calibrated_model_is_found_to_be_calibrated(calibrated: Evaluation) -> None:
    metrics = calibrated.metrics
    assert metrics["ece"] < 0.1
    assert len(metrics["depth_rank_histogram"]) == 26
    assert sum(metrics["depth_rank_histogram"]) == pytest.approx(1)
    assert max(metrics["depth_rank_histogram"]) < 0.12
    errors = metrics["mpjpe_mm"]
    assert errors["min_of"]["1"] == pytest.approx(errors["random"])
    assert errors["min_of"]["1"] > errors["min_of"]["5"] > errors["min_of"]["10"] > errors["min_of"]["25"]
    assert errors["mean_of_samples"] < errors["random"]
    # A calibrated Gaussian gains 1 - 1/sqrt(2) = 29 % in energy score over the error of its mean.
    assert metrics["energy_score_mm"] == pytest.approx(0.71 * errors["mean_of_samples"], rel=0.06)


def test_over_confidence_lowers_min_of_5_but_not_the_energy_score(people: People, calibrated: Evaluation) -> None:
    narrow = _evaluate(Spread(people, factor=0.5), people).metrics
    assert narrow["ece"] > 0.2 and narrow["ece_bias"] < -0.2
    assert narrow["energy_score_mm"] > calibrated.metrics["energy_score_mm"]
    assert narrow["mpjpe_mm"]["random"] < calibrated.metrics["mpjpe_mm"]["random"]


def test_diversity_is_split_by_visibility(people: People, calibrated: Evaluation) -> None:
    """Only the wrists, the ends of the longest chains, are hidden here."""
    assert calibrated.metrics["diversity_invisible_mm"] > 1.2 * calibrated.metrics["diversity_visible_mm"]
    still = _evaluate(Spread(people, factor=0.0), people, num_samples=5).metrics
    assert still["diversity_invisible_mm"] < 1e-3


def test_results_do_not_depend_on_the_chunks(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _evaluate(Spread(people), people, num_samples=4)
    monkeypatch.setattr(evaluation_run, "_ITEMS_AT_ONCE", 7)
    parts = _evaluate(Spread(people), people, num_samples=4)
    _compare(whole.metrics, parts.metrics)
    _compare(whole.slices, parts.slices)


def _compare(left: Any, right: Any) -> None:
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            _compare(left[key], right[key])
    else:
        assert left == pytest.approx(right, rel=1e-4, abs=1e-4)


def test_many_samples_are_worked_off_in_smaller_batches(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_run, "_HYPOTHESES_AT_ONCE", 60)
    sizes = []
    inner = Spread(people)

    class Watched:
        def sample(self, batch: ImageBatch, num_samples: int, sampler: SamplerConfig, seed: int) -> Prediction:
            sizes.append(len(batch))
            return inner.sample(batch, num_samples, sampler, seed)

    assert _evaluate(Watched(), people, num_samples=29, limit=5).num_items == 5
    assert sizes == [2, 2, 1]


def test_slices_hold_the_same_metrics_and_partition_the_people(people: People, calibrated: Evaluation) -> None:
    slices = calibrated.slices
    assert set(slices) == {"occluded", "truncated", "clean"}
    assert slices["occluded"]["num_items"] == int(people.occluded.sum())
    assert slices["truncated"]["num_items"] == int(people.truncated.sum())
    both = int((people.occluded & people.truncated).sum())
    assert sum(part["num_items"] for part in slices.values()) - both == COUNT == calibrated.num_items
    for part in slices.values():
        assert part.keys() == {"num_items", *calibrated.metrics}


def test_a_slice_equals_an_evaluation_of_its_people_alone(people: People, calibrated: Evaluation) -> None:
    clean = [index for index in range(COUNT) if not people.occluded[index] and not people.truncated[index]]

    class Clean:
        def __len__(self) -> int:
            return len(clean)

        def __getitems__(self, indices: Sequence[int]) -> ImageBatch:
            return people.__getitems__([clean[index] for index in indices])

    alone = evaluate(Spread(people), Clean(), _measurer(people.body), SAMPLER, EvaluationOptions())
    part = dict(calibrated.slices["clean"])
    assert part.pop("num_items") == alone.num_items
    _compare(part, alone.metrics)
    assert alone.slices["occluded"] == {"num_items": 0}


def test_one_sample_gives_errors_but_no_distribution(people: People) -> None:
    metrics = _evaluate(Spread(people), people, num_samples=1).metrics
    assert list(metrics["mpjpe_mm"]["min_of"]) == ["1"]
    assert metrics["mpjpe_mm"]["min_of"]["1"] == metrics["mpjpe_mm"]["random"]
    assert all(metrics[name] is None for name in distribution_metrics(SYNTHETIC))


def test_people_without_truth_are_refused(people: People) -> None:
    class Unlabelled(People):
        def __getitems__(self, indices: Sequence[int]) -> ImageBatch:
            batch = super().__getitems__(indices)
            assert batch.targets is not None
            return replace(batch, targets=replace(batch.targets, has_params=torch.zeros(len(batch), dtype=torch.bool)))

    with pytest.raises(UserError, match="without SMPL parameters"):
        _evaluate(Spread(people), Unlabelled(people.body))


def test_the_mean_person_is_upright_whatever_way_people_face(body: BodyModel) -> None:
    """Two people back to back, both leaning to their right by 0.1 radians."""
    half_turn = axis_angle_to_matrix(torch.tensor([math.pi, 0, 0]))
    lean = axis_angle_to_matrix(torch.tensor([0, 0, 0.1]))
    turn = axis_angle_to_matrix(torch.tensor([[0, 0, 0], [0, math.pi, 0]]))
    rotations = torch.eye(3).repeat(2, 24, 1, 1)
    rotations[:, 0] = half_turn @ turn @ lean
    betas = torch.tensor([[1.0] * 10, [0.0] * 10])
    for state, frame in itertools.product((("pose",), ("pose", "shape", "camera")), ("parent", "camera")):
        settings = _tiny_config("diffhmr").model.model_copy(update={"state": state, "rotations": frame})
        model = build_model(settings, body)
        model.set_statistics(SmplParams.from_rotations(rotations, betas), torch.tensor([0.9, 0.0, 0.0]).expand(2, 3))
        mean = mean_params(model.regressor)
        assert mean.global_orient[1, 1] < -0.99
        torch.testing.assert_close(mean.body_pose, torch.eye(3).expand(23, 3, 3))
        torch.testing.assert_close(mean.betas, torch.full((10,), 0.5))


def test_protocol_names_body_and_conventions_and_is_json(body: BodyModel) -> None:
    protocol = json.loads(json.dumps(synthetic_protocol(body, synthetic_people(DataConfig()))))
    assert protocol["name"] == "synthetic-v1"
    assert protocol["body"] == {
        "name": "free body, not SMPL", "path": "data/body/free_body.npz", "sha256": body.sha256,
    }  # fmt: skip
    assert protocol["joint_set"] == "J14" and "not counted" in protocol["mode"]
    assert "uses ground truth" in protocol["min_of"]


def _result(evaluated: Evaluation, body: BodyModel) -> dict[str, Any]:
    return {
        "dataset": "synthetic",
        "protocol": synthetic_protocol(body, synthetic_people(DataConfig())),
        "checkpoint": {"path": "model.safetensors", "sha256": "0" * 64, "step": 7},
        "num_items": evaluated.num_items,
        "num_samples": 25,
        "seed": 0,
        "metrics": evaluated.metrics,
        "slices": evaluated.slices,
    }


def test_table_shows_the_values_and_says_what_uses_ground_truth(calibrated: Evaluation, body: BodyModel) -> None:
    table = format_table(_result(calibrated, body))
    lines = table.splitlines()
    assert "uses ground truth" in table and "free body, not SMPL" in table
    heading = next(line for line in lines if "uses ground truth" in line)
    titles = next(line for line in lines if "n=25" in line)
    assert heading.index("|") == titles.index("|") < titles.index("n=1")
    row = next(line for line in lines if line.startswith(f"all ({COUNT})"))
    errors = calibrated.metrics["mpjpe_mm"]
    before, after = row.split("|")
    assert [float(value) for value in before.split()[-3:]] == [
        pytest.approx(errors[key], abs=0.051) for key in ("mode", "mean_of_samples", "random")
    ]
    assert [float(value) for value in after.split()] == [
        pytest.approx(value, abs=0.051) for value in errors["min_of"].values()
    ]
    assert max(len(line) for line in lines) <= 120


def test_table_of_one_sample_has_dashes(people: People, body: BodyModel) -> None:
    table = format_table(_result(_evaluate(Spread(people), people, num_samples=1), body))
    assert " -" in table


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
def test_a_checkpoint_is_evaluated_into_a_complete_json(kind: Any, body: BodyModel, tmp_path: Path) -> None:
    checkpoint, out = tmp_path / "model.safetensors", tmp_path / "new" / "result.json"
    _save_tiny_model(checkpoint, body, kind)
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


def test_the_same_seed_gives_the_same_file(body: BodyModel, tmp_path: Path) -> None:
    _save_tiny_model(tmp_path / "model.safetensors", body, "diffhmr")
    texts = []
    for seed in (1, 1, 2):
        options = EvaluationOptions(num_samples=3, steps=2, seed=seed, limit=10)
        evaluation_run.run(tmp_path / "model.safetensors", Source("synthetic"), options, Output(tmp_path / "r.json"))
        texts.append(json.loads((tmp_path / "r.json").read_text())["metrics"])
    assert texts[0] == texts[1] != texts[2]


def test_more_steps_than_the_model_has_are_refused(body: BodyModel, tmp_path: Path) -> None:
    _save_tiny_model(tmp_path / "model.safetensors", body, "diffhmr")
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
