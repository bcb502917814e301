"""How good a set of hypotheses is as a distribution, per item: metres in, millimetres out.

``samples`` are ``[..., S, J, 3]`` random hypotheses of one pose (without the single answer), ``target`` is the truth
``[..., J, 3]``, both relative to the same root. Every function returns values per item, or sums that can be pooled, so
that an evaluation can run over any number of items in constant memory.

The energy score, CRPS and ECE judge the spread as well as the place. The minimum over n hypotheses does not: it uses
the truth to choose, and rewards distributions that are too narrow when n is small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffhmr.metrics.joints import MM_PER_M, point_errors_mm

ECE_QUANTILES = tuple(step / 20 for step in range(21))
"""0, 0.05 ... 1, as in Pierzchlewicz et al. 2022."""

_PAIRS_AT_ONCE = 600_000
"""Distances between samples that are in memory at the same time."""


def min_of_n(errors: Tensor, sizes: Sequence[int]) -> dict[int, Tensor]:
    """Expected minimum of n of the errors, for several n at once.

    With the errors sorted, ``E[min_n] = sum_k C(S - k, n - 1) / C(S, n) e_(k)``: the mean over all subsets of n, which
    is unbiased for every n <= S and has less variance than the first n.

    Args:
        errors: ``[..., S]``.
        sizes: values of n.

    Returns:
        ``{n: [...]}``; sizes above S are left out.

    Raises:
        ValueError: a size is below 1.
    """
    if any(size < 1 for size in sizes):
        raise ValueError(f"the minimum of n needs n >= 1, got {list(sizes)}")
    total = errors.shape[-1]
    ordered = errors.sort(dim=-1).values
    curve = {}
    for size in sizes:
        if size <= total:
            share = [math.comb(total - k, size - 1) / math.comb(total, size) for k in range(1, total + 1)]
            curve[size] = (ordered * torch.tensor(share, dtype=errors.dtype, device=errors.device)).sum(-1)
    return curve


def min_of_n_curve(errors: Tensor) -> Tensor:
    """:func:`min_of_n` for every n from 1 to S: ``[..., S]`` from ``errors [..., S]``.

    The weights of one n follow from each other, ``w_1 = n / S`` and ``w_(k+1) = w_k (S - k - n + 1) / (S - k)``; they
    are made for one n after the other, so that memory is that of the result.
    """
    total = errors.shape[-1]
    ordered = errors.sort(dim=-1).values.double()
    k = torch.arange(1, total, dtype=torch.float64, device=errors.device)
    curve = torch.empty_like(ordered)
    for size in range(1, total + 1):
        ratio = ((total - k - size + 1) / (total - k)).clamp_min(0)
        weight = torch.cat([k.new_ones(1), ratio]).cumprod(0) * (size / total)
        curve[..., size - 1] = ordered @ weight
    return curve.to(errors.dtype)


def energy_score_mm(samples: Tensor, target: Tensor) -> Tensor:
    """Joint energy score ``[...]``: ``mean_j (E||X_j - y_j|| - E||X_j - X'_j|| / 2)`` (Gneiting and Raftery 2007).

    A proper score: lowest, in expectation, for the true distribution of each joint. The second expectation is over
    distinct pairs, which makes the estimate unbiased. For identical samples, and for S = 1, it is the MPJPE.
    """
    distance = point_errors_mm(samples, target.unsqueeze(-3)).mean((-2, -1))
    return distance - 0.5 * apd_mm(samples)


def apd_mm(samples: Tensor) -> Tensor:
    """Average pairwise distance ``[...]`` of a joint between two different hypotheses; 0 for S = 1."""
    return _mean_pair_distance_mm(samples.transpose(-3, -2)).mean(-1)


def pose_energy_score_mm(samples: Tensor, target: Tensor) -> Tensor:
    """Energy score ``[...]`` of the whole pose: the norm is that of R^{3J} divided by sqrt(J).

    Unlike :func:`energy_score_mm` it sees how joints move together. For identical samples it is the root mean square
    joint error.
    """
    scale = math.sqrt(samples.shape[-2])
    distance = MM_PER_M * torch.linalg.vector_norm((samples - target.unsqueeze(-3)).flatten(-2), dim=-1).mean(-1)
    return (distance - 0.5 * _mean_pair_distance_mm(samples.flatten(-2))) / scale


def crps_mm(samples: Tensor, target: Tensor) -> Tensor:
    """Continuous ranked probability score of every coordinate, ``[..., J, 3]``; the absolute error for S = 1.

    ``E|X - y| - E|X - X'| / 2`` with the second expectation over distinct pairs.
    """
    count = samples.shape[-3]
    distance = (samples - target.unsqueeze(-3)).abs().mean(-3)
    if count == 1:
        return MM_PER_M * distance
    # For sorted values, sum_{s<t} |x_s - x_t| = sum_i (2 i - S + 1) x_(i) with i from 0.
    rank = torch.arange(count, dtype=samples.dtype, device=samples.device)
    factor = (2 * rank - count + 1) / (count * (count - 1))
    half_pairs = (samples.sort(dim=-3).values * factor[:, None, None]).sum(-3)
    return MM_PER_M * (distance - half_pairs)


def calibration_hits(samples: Tensor, target: Tensor, quantiles: Sequence[float] = ECE_QUANTILES) -> Tensor:
    """Whether the truth lies within each quantile of the samples' distances from their centre: bool ``[..., J, Q]``.

    Pierzchlewicz et al. 2022 ("Multi-hypothesis 3D human pose estimation metrics favor miscalibrated distributions"):
    the centre of a joint is the coordinate-wise median of its samples. Average over items and give the result to
    :func:`calibration_error`.

    The samples lie nearer to their own centre than the truth does, as if they were too narrow. Samples of the right
    distribution therefore have a calibration error above 0 and a negative bias: about 0.08, 0.03 and 0.01 for 10, 25
    and 100 samples of a Gaussian. Compare numbers of the same S only.
    """
    centre = _median(samples, dim=-3)
    radii = torch.linalg.vector_norm(samples - centre.unsqueeze(-3), dim=-1)
    radius = torch.linalg.vector_norm(target - centre, dim=-1)
    levels = torch.tensor(list(quantiles), dtype=radii.dtype, device=radii.device)
    bounds = torch.quantile(radii, levels, dim=-2).movedim(0, -1)
    return radius.unsqueeze(-1) < bounds


@dataclass(frozen=True)
class Calibration:
    """Attributes: ``ece`` in [0, 0.5]; ``bias``, below 0 for over-confident, above 0 for over-dispersed samples."""

    ece: float
    bias: float


def calibration_error(frequency: Tensor, quantiles: Sequence[float] = ECE_QUANTILES) -> Calibration:
    """Expected calibration error from ``frequency [J, Q]``, the share of items that were hits.

    ``mean_q |median_j frequency - q|``, and the same without the absolute value. A single answer has 0.5.
    """
    levels = torch.tensor(list(quantiles), dtype=frequency.dtype, device=frequency.device)
    gap = _median(frequency, dim=0) - levels
    return Calibration(gap.abs().mean().item(), gap.mean().item())


def diversity_sums_mm(samples: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Distance of the samples to their mean, summed over joints with ``weight [..., J]``, and the sum of the weights.

    HuManiFlow's diversity (Sengupta et al. 2023) is the pooled ratio of the two over all items, with weight 1 for
    visible (or for invisible) joints.
    """
    spread = point_errors_mm(samples, samples.mean(-3, keepdim=True)).mean(-2)
    weight = weight.to(spread)
    return (spread * weight).sum(-1), weight.sum(-1)


def sample_ranks(samples: Tensor, target: Tensor) -> Tensor:
    """Rank of the truth among the samples, 0 ... S, per coordinate: ``[..., J, 3]``; ties count half.

    For calibrated samples all S + 1 ranks are equally likely; a U-shaped histogram means over-confidence. The
    probability integral transform is ``(rank + 0.5) / (S + 1)``.
    """
    reference = target.unsqueeze(-3)
    return (samples < reference).to(samples.dtype).sum(-3) + 0.5 * (samples == reference).to(samples.dtype).sum(-3)


def _mean_pair_distance_mm(points: Tensor) -> Tensor:
    """Mean distance over distinct pairs of ``points [..., S, D]``; 0 for one point.

    The distances of many points are worked off in pieces, so that memory does not grow with S squared.
    """
    count = points.shape[-2]
    if count == 1:
        return points.new_zeros(points.shape[:-2])
    rows = max(1, _PAIRS_AT_ONCE // (points.shape[:-2].numel() * count))
    # The faster formula through a matrix product would lose the small distances.
    sums = [
        torch.cdist(some, points, compute_mode="donot_use_mm_for_euclid_dist").sum((-2, -1))
        for some in points.split(rows, dim=-2)
    ]
    total = sums[0] if len(sums) == 1 else torch.stack(sums).sum(0)
    return MM_PER_M * total / (count * (count - 1))


def _median(values: Tensor, dim: int) -> Tensor:
    """The median with the two middle values averaged; ``torch.median`` takes the lower one."""
    count = values.shape[dim]
    ordered = values.sort(dim=dim).values
    return 0.5 * (ordered.select(dim, (count - 1) // 2) + ordered.select(dim, count // 2))
