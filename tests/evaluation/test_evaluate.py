"""Evaluation with models whose errors or distributions are known, on a small data set with known truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from diffhmr.batch import ImageBatch, Prediction
from diffhmr.body.joints import COCO17_FROM_SPIN49, J14_FROM_SPIN49, PELVIS_SPIN49, SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.config import SamplerConfig
from diffhmr.errors import UserError
from diffhmr.evaluation import run as evaluation_run
from diffhmr.evaluation.measures import distribution_metrics
from diffhmr.evaluation.protocols import SYNTHETIC
from diffhmr.evaluation.run import Evaluation, EvaluationOptions, evaluate
from tests.evaluation.calibrated_people import COUNT, SAMPLER, Answer, People, Spread, evaluate_on, measurer_on
from tests.evaluation.measured_people import assert_alike


def test_a_perfect_answer_has_no_error_and_the_calibration_of_a_single_answer(people: People) -> None:
    metrics = evaluate_on(people, Answer(people), num_samples=5).metrics
    for name in ("mpjpe_mm", "pa_mpjpe_mm", "pve_mm"):
        values = [metrics[name][key] for key in ("mode", "mean_of_samples", "random")]
        assert max(*values, *metrics[name]["min_of"].values()) < 0.01
    assert metrics["energy_score_mm"] < 0.01 and metrics["crps_depth_mm"] < 0.01
    assert metrics["diversity_visible_mm"] < 1e-3 and metrics["diversity_invisible_mm"] < 1e-3
    assert metrics["reprojection_px"]["mode"] < 0.01
    assert metrics["mean_pose"]["mpjpe_mm"] > metrics["mean_pose"]["pa_mpjpe_mm"] > 20


def test_reprojection_error_of_a_shifted_camera(people: People) -> None:
    metrics = evaluate_on(people, Answer(people, shift=0.1), num_samples=2).metrics
    # s * shift of half the crop, but for the weak perspective of SPIN's long focal length.
    expected = 0.9 * 0.1 * 128
    assert metrics["reprojection_px"]["mode"] == pytest.approx(expected, rel=0.01)
    assert metrics["reprojection_px"]["random"] == pytest.approx(expected, rel=0.01)
    assert metrics["mpjpe_mm"]["mode"] < 0.01


def test_errors_equal_those_computed_person_by_person(people: People) -> None:
    metrics = evaluate_on(people, Spread(people), num_samples=3).metrics
    joint_errors, vertex_errors, of_mean = [], [], []
    for index in range(COUNT):
        batch = people.__getitems__([index])
        assert batch.targets is not None
        prediction = Spread(people).sample(batch, 4, SAMPLER, 0)
        truth = people.body.joints(batch.targets.params, SPIN49)[0]
        truth_mesh = people.body(batch.targets.params).vertices[0] - truth[PELVIS_SPIN49]
        relative = []
        for k in range(4):
            one = prediction.params.map(lambda value, k=k: value[0, k])  # type: ignore[misc]
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
    metrics = evaluate_on(exact, model, num_samples=10).metrics
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
    narrow = evaluate_on(people, Spread(people, factor=0.5)).metrics
    assert narrow["ece"] > 0.2 and narrow["ece_bias"] < -0.2
    assert narrow["energy_score_mm"] > calibrated.metrics["energy_score_mm"]
    assert narrow["mpjpe_mm"]["random"] < calibrated.metrics["mpjpe_mm"]["random"]


def test_diversity_is_split_by_visibility(people: People, calibrated: Evaluation) -> None:
    """Only the wrists, the ends of the longest chains, are hidden here."""
    assert calibrated.metrics["diversity_invisible_mm"] > 1.2 * calibrated.metrics["diversity_visible_mm"]
    still = evaluate_on(people, Spread(people, factor=0.0), num_samples=5).metrics
    assert still["diversity_invisible_mm"] < 1e-3


def test_humaniflow_counts_only_hidden_limbs_as_hidden(free_body: BodyModel) -> None:
    """With wrists and nose hidden, its invisible joints are the wrists; the nose counts as visible."""
    people = People(free_body)
    people.hidden_joints = [COCO17_FROM_SPIN49[index] for index in (0, 9, 10)]
    metrics = evaluate_on(people, Spread(people), num_samples=20).metrics
    chosen = list(range(len(people)))
    samples = Spread(people).sample(people.__getitems__(chosen), 21, SAMPLER, 0)
    joints = free_body.joints(samples.params, SPIN49)[:, 1:]
    joints = (joints - joints[:, :, PELVIS_SPIN49, None])[:, :, list(COCO17_FROM_SPIN49)]
    spread = (joints - joints.mean(1, keepdim=True)).norm(dim=-1).mean((0, 1)) * 1000
    groups = {
        "diversity_visible_mm": [1, 2, 3, 4, 5, 6, 7, 8, *range(11, 17)],
        "diversity_invisible_mm": [0, 9, 10],
        "diversity_visible_limbs_mm": [7, 8, 13, 14, 15, 16],
        "diversity_humaniflow_visible_mm": [0, 1, 2, 3, 4, 5, 6, 7, 8, *range(11, 17)],
        "diversity_humaniflow_invisible_mm": [9, 10],
    }
    for name, members in groups.items():
        assert metrics[name] == pytest.approx(float(spread[members].mean()), rel=1e-4), name


def test_results_do_not_depend_on_the_chunks(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate_on(people, Spread(people), num_samples=4)
    monkeypatch.setattr(evaluation_run, "_ITEMS_AT_ONCE", 7)
    parts = evaluate_on(people, Spread(people), num_samples=4)
    assert_alike(whole.metrics, parts.metrics)
    assert_alike(whole.slices, parts.slices)


def test_many_samples_are_worked_off_in_smaller_batches(people: People, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation_run, "_HYPOTHESES_AT_ONCE", 60)
    sizes = []
    inner = Spread(people)

    class Watched:
        def sample(self, batch: ImageBatch, num_samples: int, sampler: SamplerConfig, seed: int) -> Prediction:
            sizes.append(len(batch))
            return inner.sample(batch, num_samples, sampler, seed)

    assert evaluate_on(people, Watched(), num_samples=29, limit=5).num_items == 5
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

    alone = evaluate(Spread(people), Clean(), measurer_on(people.body), SAMPLER, EvaluationOptions())
    part = dict(calibrated.slices["clean"])
    assert part.pop("num_items") == alone.num_items
    assert_alike(part, alone.metrics)
    assert alone.slices["occluded"] == {"num_items": 0}


def test_one_sample_gives_errors_but_no_distribution(people: People) -> None:
    metrics = evaluate_on(people, Spread(people), num_samples=1).metrics
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
        evaluate_on(Unlabelled(people.body), Spread(people))
