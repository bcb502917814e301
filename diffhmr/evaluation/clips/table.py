"""The result of an evaluation over sequences as text for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_ERRORS = {
    "mpjpe_mm": "MPJPE mm",
    "pa_mpjpe_mm": "PA-MPJPE mm",
    "mpvpe_mm": "MPVPE mm",
    "mpjpe_14_mm": "MPJPE-14 mm",
    "pa_mpjpe_14_mm": "PA-MPJPE-14 mm",
}
_MOTION = {
    "accel_error_mm_per_frame2": "accel. error mm/frame^2",
    "accel_error_m_per_s2": "accel. error m/s^2",
    "accel_of_prediction_m_per_s2": "acceleration m/s^2",
    "jitter_of_prediction_m_per_s3": "jitter m/s^3",
}
_TRUTH = {"accel_of_prediction_m_per_s2": "accel_of_truth_m_per_s2",
          "jitter_of_prediction_m_per_s3": "jitter_of_truth_m_per_s3"}  # fmt: skip
_SCORES = {"energy_score_mm": "energy score mm", "apd_mm": "pair distance mm"}
_SPREAD = {"joints": ("joints", "visible_joints", "hidden_joints"), "limbs": ("limb joints", "visible_limbs",
           "hidden_limbs"), "humaniflow": ("HuManiFlow's count", "humaniflow_visible", "hidden_limbs"),
           "frames": ("frames", "clear_frames", "hidden_frames")}  # fmt: skip
_OF_SEQUENCE = {"mpjpe_mm": "MPJPE", "pa_mpjpe_mm": "PA-MPJPE", "mpvpe_mm": "MPVPE",
                "accel_error_mm_per_frame2": "mm/frame^2", "accel_error_m_per_s2": "m/s^2"}  # fmt: skip
_LABEL, _CELL = 26, 11
_MOST_SEQUENCES = 40
_WORST = 10


def format_clip_table(result: Mapping[str, Any]) -> str:
    """Tables of the errors and of the motion over all frames, of the distribution where there are several hypotheses,
    and of the sequences: all of them, or the worst if there are many.

    Args:
        result: as :func:`diffhmr.evaluation.clips.run.run_clips` returns it. If it says what the parameters were worth
            that a model refined, this stands beside, as ``initial``.
    """
    metrics, initial = result["metrics"], result.get("initial_metrics")
    several = result["num_samples"] > 1
    tables = [_heading(result), _errors(metrics, several, initial), _motion(metrics, several, initial)]
    if several:
        tables += [_distribution(metrics), _spread(metrics)]
    tables.append(_sequences(result["sequences"]))
    return "\n\n".join("\n".join(lines) for lines in tables if lines)


def _heading(result: Mapping[str, Any]) -> list[str]:
    checkpoint, protocol = result["checkpoint"], result["protocol"]
    model = result["model"]
    if result["flip"]:
        model += ", mean with the mirror image"
    for name, settings in (result["filter"] or {}).items():
        model += f", {name} filter ({', '.join(f'{key} {value:g}' for key, value in settings.items())})"
    measured_on = f", measured on {protocol['file']}" if "file" in protocol else ""
    return [
        f"{checkpoint['path']} (step {checkpoint['step']}): {model}",
        f"{result['dataset']}, {result['num_items']} sequences, {result['num_frames']} frames, protocol "
        f"{protocol['name']}",
        f"{result['num_samples']} samples, body: {protocol['body']['name']}{measured_on}",
    ]


def _errors(metrics: Mapping[str, Any], several: bool, initial: Mapping[str, Any] | None) -> list[str]:
    """Of one answer, and with several also those that choose by the truth."""
    titles = ["mode", "mean", "random"] if several else ["error", *(() if initial is None else ("initial",))]
    sizes = list(metrics["mpjpe_mm"]["min_of"]) if several else []
    chosen = [f"n={size}" for size in sizes]
    longest = [f"n={sizes[-1]} seq."] if sizes else []
    lines = []
    if several:
        lines.append(" " * (_LABEL + len(titles) * _CELL) + " | uses ground truth: min of n per frame, per sequence")
    lines.append("error".ljust(_LABEL) + _cells(titles) + (f" |{_cells([*chosen, *longest])}" if several else ""))
    lines.append("-" * len(lines[-1]))
    for key, title in _ERRORS.items():
        if key not in metrics:
            continue
        error = metrics[key]
        estimates = ("mode", "mean_of_samples", "random") if several else ("mode",)
        values = [error[name] for name in estimates] + ([] if initial is None else [initial[key]["mode"]])
        line = title.ljust(_LABEL) + _cells(_number(value) for value in values)
        if several:
            least = [_number(error["min_of"][size]) for size in sizes]
            line += f" |{_cells([*least, _number(error['min_of_sequence'][sizes[-1]])])}"
        lines.append(line)
    return lines


def _motion(metrics: Mapping[str, Any], several: bool, initial: Mapping[str, Any] | None) -> list[str]:
    given = [] if initial is None else ["initial"]
    titles = [*(("mode", "random") if several else ("value",)), *given, "truth"]
    lines = ["motion".ljust(_LABEL) + _cells(titles)]
    lines.append("-" * len(lines[0]))
    for key, title in _MOTION.items():
        values = [metrics[key][name] for name in (("mode", "random") if several else ("mode",))]
        values += [] if initial is None else [initial[key]["mode"]]
        truth = metrics[_TRUTH[key]] if key in _TRUTH else None
        cells = [_number(value, 2) for value in values] + [_number(truth, 2) if key in _TRUTH else ""]
        lines.append((title.ljust(_LABEL) + _cells(cells)).rstrip())
    return lines


def _distribution(metrics: Mapping[str, Any]) -> list[str]:
    return [f"{title.ljust(_LABEL)}{_number(metrics[key]):>{_CELL}}" for key, title in _SCORES.items()]


def _spread(metrics: Mapping[str, Any]) -> list[str]:
    if "spread_ratio" not in metrics:
        return []
    lines = ["spread of samples mm".ljust(_LABEL) + _cells(["visible", "hidden", "ratio"])]
    lines.append("-" * len(lines[0]))
    for key, (title, seen, hidden) in _SPREAD.items():
        spread = metrics["spread_mm"]
        cells = [_number(spread[seen]), _number(spread[hidden]), _number(metrics["spread_ratio"][key], 2)]
        lines.append(title.ljust(_LABEL) + _cells(cells))
    return lines


def _sequences(sequences: Sequence[Mapping[str, Any]]) -> list[str]:
    """In their order, or the worst by MPJPE, the worst first."""
    shown, title = [one for one in sequences if one["num_frames"]], "sequence"
    if len(shown) > _MOST_SEQUENCES:
        shown = sorted(shown, key=lambda one: -one["mpjpe_mm"]["mode"])[:_WORST]
        title = f"worst {_WORST} of {len(sequences)}"
    width = max(_LABEL, *(len(one["name"]) + 1 for one in shown))
    lines = [title.ljust(width) + _cells(["frames", *_OF_SEQUENCE.values()])]
    lines.append("-" * len(lines[0]))
    for one in shown:
        values = [_number(one[key]["mode"], 2 if key.startswith("accel") else 1) for key in _OF_SEQUENCE]
        lines.append(one["name"].ljust(width) + _cells([str(one["num_frames"]), *values]))
    return lines


def _cells(values: Any) -> str:
    return "".join(f"{value:>{_CELL}}" for value in values)


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
