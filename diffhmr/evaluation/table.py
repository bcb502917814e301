"""The result of an evaluation as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ERRORS = {
    "mpjpe_mm": "MPJPE",
    "pa_mpjpe_mm": "PA-MPJPE",
    "pve_mm": "PVE",
    "pa_pve_mm": "PA-PVE",
    "mpjae_deg": "MPJAE",
    "pa_mpjae_deg": "PA-MPJAE",
}
_ESTIMATES = {"mode": "mode", "mean_of_samples": "mean", "random": "random"}
_SHARES = ("pck", "auc")
_DISTRIBUTION = {
    "energy_score_mm": "ES mm",
    "crps_depth_mm": "CRPS-z mm",
    "ece": "ECE",
    "ece_bias": "ECE bias",
    "diversity_visible_mm": "div vis mm",
    "diversity_invisible_mm": "div inv mm",
    "diversity_humaniflow_visible_mm": "HuM vis mm",
    "diversity_humaniflow_invisible_mm": "HuM inv mm",
    "diversity_mm": "div mm",
}
_LABEL, _CELL, _WIDE = 18, 9, 11

Groups = Mapping[str, Mapping[str, Any]]


def format_table(result: Mapping[str, Any]) -> str:
    """Up to three tables, for all people and for every slice: errors in mm, of angles in degrees, with what uses the
    ground truth to choose under a heading that says so; shares of correct points, where the protocol has them; and the
    quality of the distributions: joint energy score (ES), CRPS of the depth, calibration error and its sign, diversity
    of visible and invisible joints, the same as HuManiFlow counts (HuM), 2D error of the samples.

    Args:
        result: as :func:`diffhmr.evaluation.run.run` returns it.
    """
    groups = {"all": {"num_items": result["num_items"], **result["metrics"]}, **result["slices"]}
    groups = {name: group for name, group in groups.items() if group["num_items"] > 0}
    checkpoint, protocol = result["checkpoint"], result["protocol"]
    head = (
        f"{checkpoint['path']} (step {checkpoint['step']}), {result['dataset']} {protocol['people']['split']}, "
        f"{result['num_samples']} samples, protocol {protocol['name']}, body: {protocol['body']['name']}"
    )
    tables = [_error_lines(groups), _share_lines(groups), _distribution_lines(groups)]
    return "\n\n".join([head, *("\n".join(lines) for lines in tables if lines)])


def _error_lines(groups: Groups) -> list[str]:
    first = next(iter(groups.values()))
    if "mpjpe_mm" not in first:
        return []
    sizes = list(first["mpjpe_mm"]["min_of"])
    estimates = len(_ESTIMATES) * _CELL
    lines = [
        " " * (_LABEL + _CELL + 2) + "without ground truth".center(estimates) + " | uses ground truth: min of n",
        "people".ljust(_LABEL)
        + ("(mm, deg)" if "mpjae_deg" in first else "(mm)").rjust(_CELL)
        + "  "
        + "".join(title.rjust(_CELL) for title in _ESTIMATES.values())
        + " |"
        + "".join(f"n={size}".rjust(_CELL) for size in sizes),
    ]
    lines.append("-" * len(lines[1]))
    for name, group in groups.items():
        for key, title in _ERRORS.items():
            if key not in group:
                continue
            error = group[key]
            label = f"{name} ({group['num_items']})" if key == "mpjpe_mm" else ""
            line = label.ljust(_LABEL) + title.rjust(_CELL) + "  "
            line += "".join(_number(error[estimate]).rjust(_CELL) for estimate in _ESTIMATES)
            lines.append(line + " |" + "".join(_number(error["min_of"][size]).rjust(_CELL) for size in sizes))
        baseline = f"{'':{_LABEL}}{'constant mean pose':>{_CELL + 2 + _CELL}}"
        lines.append(f"{baseline}{_number(group['mean_pose']['mpjpe_mm']):>{_CELL}} MPJPE")
    return lines


def _share_lines(groups: Groups) -> list[str]:
    """More is better in this table only."""
    keys = [key for key in next(iter(groups.values())) if key.startswith(_SHARES)]
    if not keys:
        return []
    lines = ["correct points".ljust(_LABEL) + "".join(key.rjust(_WIDE) for key in keys)]
    lines.append("-" * len(lines[0]))
    for name, group in groups.items():
        for estimate in ("mode", "random"):
            label = f"{name} ({group['num_items']})" if estimate == "mode" else ""
            cells = "".join(_number(group[key][estimate], 3).rjust(_WIDE) for key in keys)
            lines.append(label.ljust(_LABEL) + cells + f"  {_ESTIMATES[estimate]}")
    return lines


def _distribution_lines(groups: Groups) -> list[str]:
    keys = [key for key in _DISTRIBUTION if key in next(iter(groups.values()))]
    titles = [*(_DISTRIBUTION[key] for key in keys), "2D px"]
    lines = ["people".ljust(_LABEL) + "".join(title.rjust(_WIDE) for title in titles)]
    lines.append("-" * len(lines[0]))
    for name, group in groups.items():
        values = [_number(group[key], 3 if key.startswith("ece") else 1) for key in keys]
        values.append(_number(group["reprojection_px"]["random"]))
        lines.append(f"{name} ({group['num_items']})".ljust(_LABEL) + "".join(value.rjust(_WIDE) for value in values))
    return lines


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
