"""A checkpoint of lifting or of actions on a data set under a named protocol, as one JSON file and a table."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import torch

from diffhmr.body.model import BodyModel
from diffhmr.checkpoint import load_body
from diffhmr.config_clips import ClipExperimentConfig
from diffhmr.errors import UserError
from diffhmr.evaluation.data import describe_body, describe_file, portable
from diffhmr.evaluation.tasks.actions import ActionSet, evaluate_action
from diffhmr.evaluation.tasks.data import (
    TaskSource,
    file_actions,
    file_sequences,
    synthetic_actions,
    synthetic_sequences,
)
from diffhmr.evaluation.tasks.lifting import evaluate_lifting
from diffhmr.files import ensure_writable, write_json
from diffhmr.task_checkpoint import LoadedTaskModel, load_action_model, load_lifting_model

_MOST_IN_TABLE = 30

_log = logging.getLogger(__name__)


def run_task(
    checkpoint: str | Path,
    source: TaskSource,
    limit: int | None = None,
    out: Path | None = None,
    device: torch.device | str = "cpu",
) -> dict[str, Any]:
    """Evaluate the model file ``checkpoint`` on ``source``.

    Args:
        limit: sequences or clips that are measured, from the first on; None for all.
        out: where the result is written as JSON; None for nowhere.

    Returns:
        The result.

    Raises:
        UserError: the checkpoint, the data, the body or the path cannot be used, or the model is of another task.
    """
    if out is not None:
        ensure_writable(out)
    started = time.monotonic()
    lifting = source.terms.task == "lifting"
    result = _lifting(checkpoint, source, limit, device) if lifting else _action(checkpoint, source, limit, device)
    _log.info("evaluated %d %s in %.0f s", result["num_items"], result["unit"], time.monotonic() - started)
    if out is not None:
        write_json(out, result)
    return result


def _lifting(
    checkpoint: str | Path, source: TaskSource, limit: int | None, device: torch.device | str
) -> dict[str, Any]:
    loaded = load_lifting_model(checkpoint, device)
    protocol = source.terms
    if protocol.files:
        path = source.find_file()
        sequences, about = file_sequences(path, protocol), {"labels": describe_file(path)}
    else:
        body = _body(loaded.config)
        sequences, about = synthetic_sequences(body), {"body": describe_body(body)}
    measured = evaluate_lifting(loaded.model, sequences, limit)
    window = loaded.model.window
    windows = {"frames": window.frames, "overlap": window.overlap, "input": window.input}
    model = {"windows": windows, "root_relative": loaded.model.root_relative}
    return _head(checkpoint, source, loaded, about | model, limit) | {"unit": "sequences", **measured}


def _action(
    checkpoint: str | Path, source: TaskSource, limit: int | None, device: torch.device | str
) -> dict[str, Any]:
    loaded = load_action_model(checkpoint, device)
    test: ActionSet
    exemplars: ActionSet | None
    if source.terms.files:
        path = source.find_file()
        frames = loaded.model.window.frames if loaded.config is None else loaded.config.data.frames
        in_coco_order = loaded.model.coco_scores
        test, exemplars = file_actions(path, source.terms, frames, in_coco_order)
        scores = "in COCO's order, as the official weights know them" if in_coco_order else "of the joints"
        about: dict[str, Any] = {"labels": describe_file(path), "frames": frames, "scores": scores}
    else:
        if loaded.config is None or loaded.config.data.kind != "synthetic":
            raise UserError(f"{checkpoint} was not trained with synthetic activities; give --dataset ntu60 or ntu120")
        data, body = loaded.config.data, _body(loaded.config)
        made, exemplars = synthetic_actions(body, source.terms, loaded.config)
        test = made
        about = {"body": describe_body(body), "frames": data.frames, "fps": data.fps, "classes": list(made.classes)}
    measured = evaluate_action(loaded.model, test, exemplars, limit)
    return _head(checkpoint, source, loaded, about, limit) | {"unit": "clips", **measured}


def _body(config: ClipExperimentConfig | None) -> BodyModel:
    return load_body((ClipExperimentConfig(name="imported", task="mesh") if config is None else config).body.path)


def _head(
    checkpoint: str | Path, source: TaskSource, loaded: LoadedTaskModel[Any], about: dict[str, Any], limit: int | None
) -> dict[str, Any]:
    protocol = source.terms.describe() | about
    if limit is not None:
        protocol["name"] += f"-first-{limit}"
    return {
        "dataset": source.dataset,
        "protocol": protocol,
        "checkpoint": {"path": portable(checkpoint), "sha256": loaded.sha256, "step": loaded.step},
        "model": source.terms.task,
    }


def format_task_table(result: dict[str, Any]) -> str:
    """The result for a terminal: all metrics, then every action, or the share of each class.

    Args:
        result: as :func:`run_task` returns it.
    """
    protocol, checkpoint = result["protocol"], result["checkpoint"]
    lines = [
        f"{checkpoint['path']} (step {checkpoint['step']}): {result['model']}",
        f"{result['dataset']}, {result['num_items']} {result['unit']}, protocol {protocol['name']}",
        "",
    ]
    lines += [f"{name:<28}{_number(name, value):>10}" for name, value in result["metrics"].items()]
    groups: dict[str, Any] = result["actions"] if "actions" in result else result["per_class"]
    if not groups or len(groups) > _MOST_IN_TABLE:
        return "\n".join(lines)
    names = protocol.get("classes")
    lines += ["", f"by {'action' if 'actions' in result else 'class'}"]
    for name, value in groups.items():
        metric, number = next(iter(value.items())) if isinstance(value, dict) else ("share", value)
        lines.append(f"{names[int(name)] if names else name:<28}{_number(metric, number):>10}")
    return "\n".join(lines)


def _number(name: str, value: float) -> str:
    return f"{value:.1f} mm" if "_mm" in name else f"{100 * value:.1f} %"
