from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from diffhmr.config import KeypointNoiseConfig
from diffhmr.datasets.keypoints import ANNOTATED_SHARE, CLEAN_SHARE, corrupt_keypoints
from diffhmr.random import item_seeds

SILENT = KeypointNoiseConfig(jitter=0, outlier=0, drop_point=0, drop_limb=0, drop_hidden=0, swap=0)
SIZE = 4000
SEEDS = item_seeds(0, "train", np.arange(SIZE))
HIPS, EYES = [11, 12], [1, 2]
SWAPPED = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]


@pytest.fixture(scope="module")
def points() -> Tensor:
    """One figure, slightly different for each person."""
    figure = torch.tensor(
        [[0, -0.7], [0.03, -0.75], [-0.03, -0.75], [0.08, -0.73], [-0.08, -0.73], [0.2, -0.5], [-0.2, -0.5],
         [0.3, -0.2], [-0.3, -0.2], [0.35, 0.05], [-0.35, 0.05], [0.12, 0], [-0.12, 0], [0.15, 0.4], [-0.15, 0.4],
         [0.15, 0.8], [-0.15, 0.8]]
    )  # fmt: skip
    shift = torch.from_numpy(np.random.default_rng(0).uniform(-0.1, 0.1, (SIZE, 1, 2))).float()
    return figure + shift


def all_seen() -> Tensor:
    return torch.ones(SIZE, 17, dtype=torch.bool)


def changed(**changes: float) -> KeypointNoiseConfig:
    return SILENT.model_copy(update=changes)


def test_without_noise_the_points_are_exact(points: Tensor) -> None:
    keypoints = corrupt_keypoints(points, all_seen(), SEEDS, SILENT)
    assert keypoints.dtype == torch.float32
    torch.testing.assert_close(keypoints[..., :2], points, atol=1e-6, rtol=0)
    assert (keypoints[..., 2] > 0.05).all() and (keypoints[..., 2] <= 1).all()


def test_unseen_points_are_zero(points: Tensor) -> None:
    seen = torch.rand(SIZE, 17, generator=torch.Generator().manual_seed(1)) < 0.5
    keypoints = corrupt_keypoints(points, seen, SEEDS, changed(drop_hidden=1.0))
    torch.testing.assert_close(keypoints[..., 2] > 0, seen)
    assert (keypoints[~seen] == 0).all()


def test_points_outside_the_crop_or_the_photo_are_unseen(points: Tensor) -> None:
    far = points.clone()
    far[:, 15] = torch.tensor([0.5, 1.2])
    inside = all_seen()
    inside[:, 13] = False
    keypoints = corrupt_keypoints(far, all_seen(), SEEDS, KeypointNoiseConfig(), inside)
    assert (keypoints[:, [13, 15]] == 0).all() or _only_swaps(keypoints)
    assert keypoints[..., :2].abs().max() <= 1
    assert (corrupt_keypoints(far, all_seen(), SEEDS, SILENT, inside)[:, [13, 15]] == 0).all()


def _only_swaps(keypoints: Tensor) -> bool:
    """Exchanging left and right puts a few seen points in the places of unseen ones."""
    return float((keypoints[:, [13, 15], 2] > 0).float().mean()) < 0.02


def test_jitter_has_the_configured_size_and_grows_towards_the_hips(points: Tensor) -> None:
    keypoints = corrupt_keypoints(points, all_seen(), SEEDS, changed(jitter=0.01))
    # Eyes are not moved to where annotators click, so what is left is jitter. COCO's deviations say that theirs is 0.36
    # times that of the average point.
    error = (keypoints[:, EYES, :2] - points[:, EYES]) / 2
    exact = (error == 0).all(-1).all(-1)
    assert abs(exact.float().mean() - CLEAN_SHARE) < 0.03
    per_axis = error[~exact].abs().median() / 0.6745
    assert 0.0025 < per_axis < 0.0055
    hips = (keypoints[:, HIPS, :2] - points[:, HIPS])[~exact].norm(dim=-1).mean()
    eyes = (keypoints[:, EYES, :2] - points[:, EYES])[~exact].norm(dim=-1).mean()
    assert hips > 3 * eyes


def test_hips_are_clicked_outwards_and_up_in_the_mean(points: Tensor) -> None:
    keypoints = corrupt_keypoints(points, all_seen(), SEEDS, changed(jitter=1e-6))
    moved = (keypoints[..., :2] - points)[:, HIPS].mean(0) / (1 - CLEAN_SHARE)
    # Half the distance of the hips is 0.12, the trunk 0.5 long.
    assert moved[0, 0] == pytest.approx(0.12 * 0.12, abs=0.004)
    assert moved[1, 0] == pytest.approx(-0.12 * 0.12, abs=0.004)
    assert moved[0, 1] == pytest.approx(-0.05 * 0.5, abs=0.005)


def test_hidden_points_are_lost_as_configured(points: Tensor) -> None:
    seen = all_seen()
    seen[:, [7, 9, 13]] = False
    for share in (0.0, 0.3, 1.0):
        keypoints = corrupt_keypoints(points, seen, SEEDS, changed(drop_hidden=share))
        reported = keypoints[..., 2] > 0
        assert reported[:, [0, 5, 16]].all()
        # People whose seen points are exact never have hidden ones.
        expected = (1 - share) * (1 - CLEAN_SHARE)
        assert reported[:, [7, 9, 13]].float().mean() == pytest.approx(expected, abs=0.03)


def test_shares_of_lost_points_and_limbs(points: Tensor) -> None:
    single = corrupt_keypoints(points, all_seen(), SEEDS, changed(drop_point=0.1))[..., 2] == 0
    assert single.float().mean() == pytest.approx(0.1 * (1 - CLEAN_SHARE), abs=0.015)
    assert 0.4 < (~single.any(1)).float().mean() < 0.75
    limbs = corrupt_keypoints(points, all_seen(), SEEDS, changed(drop_limb=0.5))[..., 2] == 0
    assert limbs.any(1).float().mean() == pytest.approx(0.5 * (1 - CLEAN_SHARE), abs=0.03)
    assert (limbs.sum(1)[limbs.any(1)] >= 2).all()


def test_swaps_exchange_sides(points: Tensor) -> None:
    keypoints = corrupt_keypoints(points, all_seen(), SEEDS, changed(swap=0.4))
    wrong = ((keypoints[..., :2] - points).norm(dim=-1) > 1e-4).any(1)
    assert wrong.float().mean() == pytest.approx(0.4 * (1 - CLEAN_SHARE), abs=0.03)
    back = keypoints[wrong][..., :2]
    correct = points[wrong]
    distance = torch.minimum((back - correct).norm(dim=-1), (back - correct[:, SWAPPED]).norm(dim=-1))
    assert distance.max() < 1e-5


def test_outliers_have_the_configured_share(points: Tensor) -> None:
    keypoints = corrupt_keypoints(points, all_seen(), SEEDS, changed(outlier=0.2))
    far = (keypoints[..., :2] - points).norm(dim=-1) > 0.05
    assert far.float().mean() == pytest.approx(0.2 * (1 - CLEAN_SHARE), abs=0.04)


def test_confidence_tells_of_errors_unless_annotated(points: Tensor) -> None:
    seen = all_seen()
    seen[:, 9] = False
    keypoints = corrupt_keypoints(points, seen, SEEDS, changed(jitter=0.02, outlier=0.05))
    confidence = keypoints[..., 2]
    reported = confidence > 0
    annotated = ((confidence == 1) | ~reported).all(1)
    assert annotated.float().mean() == pytest.approx(ANNOTATED_SHARE, abs=0.04)
    error = (keypoints[..., :2] - points).norm(dim=-1)
    use = reported & ~annotated[:, None] & seen
    rank = torch.corrcoef(torch.stack([confidence[use], error[use].clamp_max(0.3)]))[0, 1]
    assert rank < -0.3
    hidden = reported[:, 9] & ~annotated
    assert confidence[hidden, 9].mean() < confidence[~annotated, 10].mean() - 0.15


def test_keypoints_do_not_depend_on_the_batch(points: Tensor) -> None:
    seen = torch.rand(SIZE, 17, generator=torch.Generator().manual_seed(2)) < 0.7
    whole = corrupt_keypoints(points, seen, SEEDS, KeypointNoiseConfig())
    chosen = [5, 3000, 17]
    part = corrupt_keypoints(points[chosen], seen[chosen], SEEDS[chosen], KeypointNoiseConfig())
    assert torch.equal(part, whole[chosen])
    assert torch.equal(corrupt_keypoints(points[5:6], seen[5:6], SEEDS[5:6], KeypointNoiseConfig())[0], whole[5])
