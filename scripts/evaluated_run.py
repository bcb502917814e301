"""A file of ``eval.py`` as it is compared, and whether two were measured alike."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffhmr.errors import UserError
from diffhmr.files import require_file

_PART = re.compile(r"(.*) \(first \d+ of (\d+)(?:, (.*))?\)")


@dataclass(frozen=True)
class Run:
    """One evaluation.

    Attributes:
        path: of the file.
        content: of the file; the name of the protocol does not say any more that only part of the people was measured.
        metrics: numbers by name, such as ``mpjpe_mm min_of 25``; lists are left out.
        num_items: people that were measured.
        num_people: in the whole test set, None if the file does not say.
    """

    path: Path
    content: dict[str, Any]
    metrics: dict[str, float]
    num_items: int
    num_people: int | None

    @property
    def people(self) -> str:
        """How many, and whether these are all."""
        if self.num_people is not None and self.num_items < self.num_people:
            return f"only {self.num_items} of {self.num_people} people"
        return f"{self.num_items} people"


def read_run(path: Path) -> Run:
    """Read a file of ``eval.py``.

    Raises:
        UserError: the file is missing or is none.
    """
    require_file(path, "evaluation", "write it with python eval.py --out FILE.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a JSON file ({error}); write it with python eval.py --out FILE.json") from error
    parts = {"protocol": dict, "metrics": dict, "num_items": int}
    for name, kind in parts.items():
        if not isinstance(content, dict) or not isinstance(content.get(name), kind):
            raise UserError(f"{path} has no {name}: it is no result of eval.py; write it with eval.py --out FILE.json")
    name = str(content["protocol"].get("name", "without name"))
    part = _PART.fullmatch(name)
    people = content["protocol"].get("people")
    total = people.get("test_items") if isinstance(people, dict) else None
    if part is not None:
        name, total = f"{part[1]} ({part[3]})" if part[3] else part[1], int(part[2])
    content["protocol"]["name"] = name
    metrics = dict(_numbers(content["metrics"]))
    return Run(path, content, metrics, content["num_items"], total if isinstance(total, int) else None)


def _numbers(group: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in group.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name} ")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{name}", float(value)


def require_same_protocol(runs: Sequence[Run]) -> None:
    """Raises: UserError: two runs differ in the data set or in what was measured how."""
    for run in runs[1:]:
        for name in ("dataset", "protocol"):
            one, other = (_terms(content.get(name)) for content in (runs[0].content, run.content))
            difference = _first_difference(one, other, name)
            if difference is not None:
                where, here, there = difference
                raise UserError(
                    f"the numbers of {runs[0].path} and {run.path} cannot be compared: {where} is {here} in the first "
                    f"and {there} in the second; compare runs of the same protocol"
                )


def _terms(protocol: Any) -> Any:
    """What two runs must have in common.

    People of label files are the same if their rows are, whatever file holds them, and the size of the pictures is the
    model's choice.
    """
    people = protocol.get("people") if isinstance(protocol, Mapping) else None
    if not isinstance(people, Mapping):
        return protocol
    rows = people.get("rows")
    if isinstance(rows, Mapping) and "sha256" in rows:
        people = {"rows": {"sha256": rows["sha256"]}, "input": people.get("input")}
    return {**protocol, "people": {key: value for key, value in people.items() if key != "image_size"}}


def _first_difference(one: Any, other: Any, where: str) -> tuple[str, str, str] | None:
    """Where two JSON values differ first, and both values there. Of files the SHA-256 counts, not the path."""
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return None if one == other else (where, _brief(one), _brief(other))
    for key in [*one, *(key for key in other if key not in one)]:
        if key == "path" and "sha256" in one and "sha256" in other:
            continue
        inner = f"{where}.{key}"
        if key not in one or key not in other:
            here, there = (_brief(side[key]) if key in side else "absent" for side in (one, other))
            return inner, here, there
        difference = _first_difference(one[key], other[key], inner)
        if difference is not None:
            return difference
    return None


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
