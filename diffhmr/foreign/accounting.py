"""Every key of a foreign file is accounted for: taken, known to have no counterpart, or an error that names it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffhmr.errors import UserError, some_of
from diffhmr.foreign.files import StoredTensor, TorchFile

Layout = dict[str, tuple[int, ...]]
"""Names and shapes."""

_MOST_NAMES = 8


def find_weights(stored: TorchFile, keys: Sequence[str], project: str) -> dict[str, Any]:
    """The state dict in a file: under the first of ``keys`` that holds a dictionary, or the file itself.

    Args:
        project: that writes it so, for the message.

    Raises:
        UserError: there is none.
    """
    content = stored.content
    named = (content[key] for key in keys if isinstance(content.get(key), dict)) if isinstance(content, dict) else ()
    weights = next(iter(named), content)
    if is_state_dict(weights):
        return dict(weights)
    found = ", ".join(map(str, weights)) if isinstance(weights, dict) else type(weights).__name__
    wanted = f"under the key {' or '.join(map(repr, keys))}" if keys else "as they are"
    raise UserError(f"{stored.path} holds no weights {wanted} (it holds: {found or 'nothing'}); is it of {project}?")


def is_state_dict(content: Any) -> bool:
    """Whether ``content`` is a dictionary of names with tensors among its values."""
    names_only = isinstance(content, dict) and all(isinstance(name, str) for name in content)
    return names_only and any(isinstance(value, StoredTensor) for value in content.values())


def account(
    path: Path, project: str, weights: Mapping[str, Any], layout: Layout, without_counterpart: str
) -> tuple[str, ...]:
    """Check names and shapes of all weights; returns the names that are known and left out.

    Args:
        path: of the file, for the message, as is ``project``.
        layout: what must be there.
        without_counterpart: pattern of the whole names that may be there and are left out.

    Raises:
        UserError: a key is missing, unknown or of another shape.
    """
    left_out = tuple(name for name in weights if re.fullmatch(without_counterpart, name))
    problems = {
        # PyTorch before 0.4.1 did not count batches, and nothing here depends on the count.
        "missing": [name for name in layout if name not in weights and not name.endswith("num_batches_tracked")],
        "unknown": [name for name in weights if name not in layout and name not in left_out],
        "of another shape": [
            f"{name} {list(weights[name].size)} for {list(shape)}"
            for name, shape in layout.items()
            if isinstance(weights.get(name), StoredTensor) and tuple(weights[name].size) != shape
        ],
    }
    if any(problems.values()):
        text = "; ".join(
            f"{len(names)} {what}: {some_of(names, _MOST_NAMES)}" for what, names in problems.items() if names
        )
        hint = "" if set(weights) & set(layout) else "; is it of another project?"
        raise UserError(f"{path} does not hold the weights of {project}. {text}{hint}")
    return left_out
