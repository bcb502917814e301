"""The text of a result over sequences: what stands where, and what is left out."""

from __future__ import annotations

from typing import Any

from diffhmr.evaluation.clips.table import format_clip_table


def _error(value: float) -> dict[str, Any]:
    """A metric whose estimates can be told apart."""
    return {
        "mode": value, "mean_of_samples": value - 1, "random": value + 5,
        "min_of": {"1": value + 5, "10": value - 10}, "min_of_sequence": {"1": value + 5, "10": value - 2},
    }  # fmt: skip


def _result(sequences: int, num_samples: int = 10) -> dict[str, Any]:
    motion = {"mode": 1.234, "random": 2.345}
    metrics = {
        "mpjpe_mm": _error(60), "pa_mpjpe_mm": _error(40), "mpvpe_mm": _error(70),
        "accel_error_mm_per_frame2": motion, "accel_error_m_per_s2": motion,
        "accel_of_prediction_m_per_s2": motion, "accel_of_truth_m_per_s2": 3.456,
        "jitter_of_prediction_m_per_s3": motion, "jitter_of_truth_m_per_s3": 4.567,
        "energy_score_mm": 45.0, "apd_mm": 33.3,
        "spread_mm": {"all": 20.0, "visible_joints": 10.0, "hidden_joints": 30.0, "visible_limbs": 20.0,
                      "hidden_limbs": 35.0, "humaniflow_visible": 14.0, "clear_frames": None, "hidden_frames": 22.0},
        "spread_ratio": {"joints": 3.0, "limbs": 1.75, "humaniflow": 2.5, "frames": None},
    }  # fmt: skip
    own = {key: metrics[key] for key in ("pa_mpjpe_mm", "mpvpe_mm")}
    accelerations = {f"accel_error_{unit}": {"mode": None, "random": None} for unit in ("mm_per_frame2", "m_per_s2")}
    return {
        "dataset": "synthetic-motion",
        "protocol": {"name": "synthetic-motion-v1", "body": {"name": "toy"}},
        "checkpoint": {"path": "m.st", "step": 7},
        "model": "ours", "flip": True, "filter": {"one-euro": {"min_cutoff": 0.7, "beta": 0.3}},
        "num_items": sequences, "num_frames": 2 * sequences, "num_samples": num_samples,
        "metrics": metrics,
        "sequences": [
            {"name": f"clip {k:03d}", "num_frames": 2, "mpjpe_mm": _error(k), **own, **accelerations}
            for k in range(sequences)
        ],
    }  # fmt: skip


def _line(text: str, begin: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(begin)]
    return line[len(begin) :].split()


def test_errors_motion_and_spread() -> None:
    text = format_clip_table(_result(3))
    assert text.splitlines()[0] == (
        "m.st (step 7): ours, mean with the mirror image, one-euro filter (min_cutoff 0.7, beta 0.3)"
    )
    assert _line(text, "MPVPE mm") == ["70.0", "69.0", "75.0", "|", "75.0", "60.0", "68.0"]
    assert _line(text, "acceleration m/s^2") == ["1.23", "2.35", "3.46"]
    assert _line(text, "accel. error mm/frame^2") == ["1.23", "2.35"]
    assert _line(text, "joints") == ["10.0", "30.0", "3.00"] and _line(text, "frames") == ["-", "22.0", "-"]
    assert _line(text, "HuManiFlow's count") == ["14.0", "35.0", "2.50"]
    assert _line(text, "clip 002") == ["2", "2.0", "40.0", "70.0", "-", "-"]
    assert max(map(len, text.splitlines())) <= 120 and "MPJPE-14" not in text


def test_one_answer_has_one_column_and_no_spread() -> None:
    text = format_clip_table(_result(3, num_samples=1))
    assert _line(text, "MPVPE mm") == ["70.0"] and _line(text, "acceleration m/s^2") == ["1.23", "3.46"]
    assert "spread" not in text and "ground truth" not in text and "energy" not in text


def test_of_many_sequences_the_worst_are_shown() -> None:
    text = format_clip_table(_result(41))
    assert "worst 10 of 41" in text and "clip 040" in text and "clip 031" in text and "clip 030" not in text
    assert text.index("clip 040") < text.index("clip 031")


def test_sequences_without_measured_frames_have_no_line() -> None:
    result = _result(2)
    result["sequences"].append({"name": "clip 002", "num_frames": 0, "fps": 30.0})
    assert "clip 002" not in format_clip_table(result)
