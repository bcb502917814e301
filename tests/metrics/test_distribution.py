"""Distribution metrics on Gaussians with known answers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from diffhmr.metrics import distribution
from diffhmr.metrics.distribution import (
    ECE_QUANTILES,
    apd_mm,
    calibration_error,
    calibration_hits,
    crps_mm,
    diversity_sums_mm,
    energy_score_mm,
    min_of_n,
    min_of_n_curve,
    pose_energy_score_mm,
    sample_ranks,
)
from diffhmr.metrics.joints import point_errors_mm

JOINTS = 6
STD_MM = 50.0


def _gaussian(items: int, samples: int, spread: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Truth and samples around the same random centres, 50 mm per coordinate, samples widened by ``spread``."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(items, JOINTS, 3, generator=generator)
    noise = STD_MM / 1000 * torch.randn(items, samples + 1, JOINTS, 3, generator=generator)
    return centre[:, None] + spread * noise[:, 1:], centre + noise[:, 0]


def _mean_radius(std: float) -> float:
    """E||x|| for a 3D isotropic Gaussian."""
    return std * 2 * math.sqrt(2 / math.pi)


def test_min_of_n_is_the_mean_over_all_subsets() -> None:
    errors = torch.rand(4, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    curve = min_of_n(errors, [1, 2, 3, 7, 25])
    assert list(curve) == [1, 2, 3, 7]
    for size, values in curve.items():
        subsets = [errors[:, list(chosen)].min(1).values for chosen in itertools.combinations(range(7), size)]
        torch.testing.assert_close(values, torch.stack(subsets).mean(0))


def test_min_of_n_of_uniform_errors_is_one_over_n_plus_one() -> None:
    errors = torch.rand(20000, 25, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for size, values in min_of_n(errors, [1, 5, 10, 25]).items():
        assert values.mean().item() == pytest.approx(1 / (size + 1), rel=0.03)


def test_the_curve_of_few_errors_is_the_mean_over_all_subsets() -> None:
    errors = torch.rand(3, 2, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    curve = min_of_n_curve(errors)
    assert curve.shape == (3, 2, 8)
    for size in range(1, 9):
        subsets = [errors[..., list(chosen)].amin(-1) for chosen in itertools.combinations(range(8), size)]
        torch.testing.assert_close(curve[..., size - 1], torch.stack(subsets).mean(0))


def test_the_curve_of_a_hundred_errors_agrees_with_brute_force() -> None:
    """Where all subsets can be listed: n = 1, 2, 3, 98, 99 and 100; in between by the formula, and by drawing."""
    generator = torch.Generator().manual_seed(2)
    errors = 100 * torch.rand(4, 100, generator=generator)
    curve = min_of_n_curve(errors)
    for size in (1, 2, 3):
        chosen = torch.tensor(list(itertools.combinations(range(100), size)))
        torch.testing.assert_close(curve[:, size - 1], errors[:, chosen].amin(-1).mean(-1), rtol=1e-5, atol=0)
    for left_out in (0, 1, 2):
        kept = [sorted(set(range(100)) - set(out)) for out in itertools.combinations(range(100), left_out)]
        expected = torch.stack([errors[:, some].amin(-1) for some in kept]).mean(0)
        torch.testing.assert_close(curve[:, 99 - left_out], expected, rtol=1e-5, atol=0)
    for size, values in min_of_n(errors, range(1, 101)).items():
        torch.testing.assert_close(curve[:, size - 1], values, rtol=1e-5, atol=0)
    for size in (5, 25):
        draws = torch.stack([torch.randperm(100, generator=generator)[:size] for _ in range(20000)])
        drawn = errors[:, draws].amin(-1)
        error = drawn.std(-1) / math.sqrt(20000)
        assert bool(((drawn.mean(-1) - curve[:, size - 1]).abs() < 5 * error).all())
    assert bool((curve.diff(dim=-1) <= 0).all())


def test_pairs_in_pieces_are_pairs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    samples, target = _gaussian(3, 31)
    whole = apd_mm(samples), pose_energy_score_mm(samples, target)
    monkeypatch.setattr(distribution, "_PAIRS_AT_ONCE", 3 * JOINTS * 31 * 4)
    torch.testing.assert_close((apd_mm(samples), pose_energy_score_mm(samples, target)), whole)


def test_min_of_n_needs_a_positive_n() -> None:
    with pytest.raises(ValueError, match="n >= 1"):
        min_of_n(torch.ones(3), [0])


def test_energy_score_of_identical_samples_is_the_joint_error() -> None:
    samples, target = _gaussian(5, 1)
    expected = point_errors_mm(samples[:, 0], target).mean(-1)
    torch.testing.assert_close(energy_score_mm(samples, target), expected)
    torch.testing.assert_close(energy_score_mm(samples.expand(-1, 4, -1, -1), target), expected)
    rms = point_errors_mm(samples[:, 0], target).square().mean(-1).sqrt()
    torch.testing.assert_close(pose_energy_score_mm(samples.expand(-1, 4, -1, -1), target), rms)


@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0])
def test_energy_score_of_a_gaussian_has_the_closed_form(spread: float) -> None:
    samples, target = _gaussian(4000, 10, spread)
    distance = _mean_radius(STD_MM * math.sqrt(1 + spread**2))
    pairs = _mean_radius(STD_MM * spread * math.sqrt(2))
    assert energy_score_mm(samples, target).mean().item() == pytest.approx(distance - pairs / 2, rel=0.01)
    assert apd_mm(samples).mean().item() == pytest.approx(pairs, rel=0.01)


def test_scores_are_the_formulas_written_out_in_loops() -> None:
    samples, target = (points.double() for points in _gaussian(3, 5))
    x, y = samples.numpy(), target.numpy()
    pairs = list(itertools.permutations(range(5), 2))
    for item in range(3):
        energy, apart = [], []
        for j in range(JOINTS):
            to_truth = [np.linalg.norm(x[item, s, j] - y[item, j]) for s in range(5)]
            between = [np.linalg.norm(x[item, s, j] - x[item, t, j]) for s, t in pairs]
            apart.append(1000 * np.mean(between))
            energy.append(1000 * (np.mean(to_truth) - sum(between) / (2 * 5 * 4)))
        assert energy_score_mm(samples, target)[item].item() == pytest.approx(np.mean(energy))
        assert apd_mm(samples)[item].item() == pytest.approx(np.mean(apart))
        to_truth = [np.linalg.norm(x[item, s] - y[item]) for s in range(5)]
        between = [np.linalg.norm(x[item, s] - x[item, t]) for s, t in pairs]
        pose = 1000 * (np.mean(to_truth) - sum(between) / (2 * 5 * 4)) / math.sqrt(JOINTS)
        assert pose_energy_score_mm(samples, target)[item].item() == pytest.approx(pose)


def test_proper_scores_prefer_the_true_spread_where_min_of_n_does_not() -> None:
    energy, pose, crps, smallest = {}, {}, {}, {}
    for spread in (0.5, 0.75, 1.0, 1.5):
        samples, target = _gaussian(3000, 10, spread)
        energy[spread] = energy_score_mm(samples, target).mean().item()
        pose[spread] = pose_energy_score_mm(samples, target).mean().item()
        crps[spread] = crps_mm(samples, target).mean().item()
        smallest[spread] = min_of_n(point_errors_mm(samples, target[:, None]).mean(-1), [5])[5].mean().item()
    for scores in (energy, pose, crps):
        assert min(scores, key=lambda spread: scores[spread]) == 1.0
    assert smallest[0.5] < smallest[1.0]


def test_only_the_pose_score_sees_a_wrong_correlation() -> None:
    generator = torch.Generator().manual_seed(0)
    together = torch.randn(4000, 11, 1, 3, generator=generator).expand(-1, -1, JOINTS, -1) * 0.05
    apart = torch.randn(4000, 10, JOINTS, 3, generator=generator) * 0.05
    target, right = together[:, 0], together[:, 1:]
    joint = [energy_score_mm(samples, target).mean().item() for samples in (right, apart)]
    pose = [pose_energy_score_mm(samples, target).mean().item() for samples in (right, apart)]
    assert joint[1] == pytest.approx(joint[0], rel=0.01)
    assert pose[1] > 1.03 * pose[0]


def test_crps_of_a_gaussian_has_the_closed_form_and_is_the_absolute_error_for_one_sample() -> None:
    samples, target = _gaussian(4000, 8)
    # E|X - y| = 2 std / sqrt(pi) for independent X, y of the same Gaussian, and CRPS is half of that.
    assert crps_mm(samples, target).mean().item() == pytest.approx(STD_MM / math.sqrt(math.pi), rel=0.01)
    torch.testing.assert_close(crps_mm(samples[:, :1], target), 1000 * (samples[:, 0] - target).abs())
    pairs = (samples[:3, :, None] - samples[:3, None]).abs().sum((1, 2)) / (8 * 7)
    expected = 1000 * ((samples[:3] - target[:3, None]).abs().mean(1) - 0.5 * pairs)
    torch.testing.assert_close(crps_mm(samples[:3], target[:3]), expected, rtol=1e-4, atol=1e-3)


def _calibration(spread: float, samples: int = 100) -> tuple[float, float]:
    drawn, target = _gaussian(3000, samples, spread)
    result = calibration_error(calibration_hits(drawn, target).double().mean(0))
    return result.ece, result.bias


def test_calibrated_samples_have_almost_no_calibration_error() -> None:
    ece, _ = _calibration(1.0)
    assert ece < 0.02


@pytest.mark.parametrize(("samples", "ece"), [(10, 0.083), (25, 0.033)])
def test_few_calibrated_samples_look_too_narrow(samples: int, ece: float) -> None:
    found, bias = _calibration(1.0, samples)
    assert found == pytest.approx(ece, abs=0.01) and bias < -0.8 * found


def test_calibration_error_names_over_confidence_and_over_dispersion() -> None:
    narrow, wide = _calibration(0.5), _calibration(2.0)
    assert narrow[0] > 0.2 and narrow[1] < -0.2
    assert wide[0] > 0.2 and wide[1] > 0.2


def test_a_single_answer_has_calibration_error_one_half() -> None:
    samples, target = _gaussian(50, 1)
    result = calibration_error(calibration_hits(samples.expand(-1, 10, -1, -1), target).double().mean(0))
    assert (result.ece, result.bias) == (pytest.approx(0.5), pytest.approx(-0.5))


def test_calibration_hits_follow_the_definition_by_hand() -> None:
    along = torch.tensor([0.0, 1.0, 2.0, 3.0, 10.0])
    samples = torch.stack([along, torch.zeros(5), torch.zeros(5)], dim=-1)[:, None]
    # Median 2, radii 2 1 0 1 8; the truth lies at radius 1.5: inside the 0.75 quantile (2), outside the 0.5 one (1).
    target = torch.tensor([[3.5, 0.0, 0.0]])
    assert calibration_hits(samples, target, [0.0, 0.5, 0.75, 1.0])[0].tolist() == [False, False, True, True]
    assert len(ECE_QUANTILES) == 21


def test_calibration_error_is_the_formula_written_out_in_loops() -> None:
    samples, target = (points.double() for points in _gaussian(40, 10, 0.7))
    x, y = samples.numpy(), target.numpy()
    share = np.zeros((JOINTS, 21))
    for item, j in itertools.product(range(40), range(JOINTS)):
        centre = np.median(x[item, :, j], axis=0)
        radii = np.linalg.norm(x[item, :, j] - centre, axis=1)
        for k in range(21):
            share[j, k] += (np.linalg.norm(y[item, j] - centre) < np.quantile(radii, k / 20)) / 40
    gap = np.median(share, axis=0) - np.arange(21) / 20
    found = calibration_error(calibration_hits(samples, target).double().mean(0))
    assert (found.ece, found.bias) == (pytest.approx(np.abs(gap).mean()), pytest.approx(gap.mean()))


def test_diversity_pools_over_weighted_joints() -> None:
    samples = torch.zeros(2, 2, 3, 3)
    samples[0, 0, 0, 0], samples[0, 1, 0, 0] = 0.02, -0.02
    samples[1, :, 2, 2] = torch.tensor([0.1, 0.3])
    visible = torch.tensor([[True, False, False], [True, True, False]])
    total, count = diversity_sums_mm(samples, visible)
    torch.testing.assert_close(total, torch.tensor([20.0, 0.0]))
    assert count.tolist() == [1.0, 2.0]
    total, count = diversity_sums_mm(samples, ~visible)
    torch.testing.assert_close(total, torch.tensor([0.0, 100.0]))
    assert count.tolist() == [2.0, 1.0]


def test_ranks_are_uniform_for_calibrated_and_extreme_for_narrow_samples() -> None:
    samples, target = _gaussian(3000, 4)
    shares = torch.bincount(sample_ranks(samples, target).flatten().long(), minlength=5) / target.numel()
    torch.testing.assert_close(shares, torch.full((5,), 0.2), atol=0.01, rtol=0)
    narrow, truth = _gaussian(3000, 4, spread=0.3)
    shares = torch.bincount(sample_ranks(narrow, truth).flatten().long(), minlength=5) / truth.numel()
    assert shares[0].item() > 0.3 and shares[4].item() > 0.3


def test_ties_count_half() -> None:
    assert sample_ranks(torch.ones(4, 1, 3), torch.ones(1, 3)).tolist() == [[2.0, 2.0, 2.0]]


def test_values_do_not_depend_on_the_batch_and_inputs_are_untouched() -> None:
    samples, target = _gaussian(4, 5)
    copies = samples.clone(), target.clone()
    for metric in (energy_score_mm, pose_energy_score_mm, crps_mm, calibration_hits, sample_ranks):
        torch.testing.assert_close(metric(samples, target)[2], metric(samples[2], target[2]))
    torch.testing.assert_close(apd_mm(samples)[2], apd_mm(samples[2]))
    assert torch.equal(samples, copies[0]) and torch.equal(target, copies[1])
