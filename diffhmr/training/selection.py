"""Which of a run's models is kept as its best: the one with the best score on the validation data so far."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from diffhmr.errors import UserError
from diffhmr.model_file import damaged_header, read_header

BEST_FILE = "best.safetensors"
_FIELD = "validation"


@dataclass(frozen=True)
class Criterion:
    """The validation score that chooses.

    Attributes:
        names: of scores, in order of preference: the first that validation gives counts, as what can be measured
            depends on the data.
        higher: whether more is better.
    """

    names: tuple[str, ...]
    higher: bool = False


@dataclass(frozen=True)
class Score:
    """A validation score by its name."""

    name: str
    value: float

    def __str__(self) -> str:
        return f"{self.name} {self.value:.4g}"


class BestSoFar:
    """The best score of a run, which is stored in the header of the model that had it.

    Args:
        path: of that model; it is there if the run goes on after it was written.
        criterion: chooses.

    Raises:
        UserError: the file is damaged.
    """

    def __init__(self, path: Path, criterion: Criterion) -> None:
        self.path = path
        self._criterion = criterion
        self.score = _stored(path) if path.exists() else None

    def improved_by(self, scores: Mapping[str, float]) -> bool:
        """Whether ``scores`` are better than all before, which they then replace. Such as are not finite never are."""
        name = next((name for name in self._criterion.names if name in scores), None)
        if name is None or not math.isfinite(scores[name]):
            return False
        value = scores[name]
        if self.score is not None and self.score.name == name:
            gain = value - self.score.value if self._criterion.higher else self.score.value - value
            if gain <= 0:
                return False
        self.score = Score(name, value)
        return True

    def header(self) -> dict[str, str]:
        """What the model with the present score has in its header."""
        assert self.score is not None
        return {_FIELD: json.dumps({self.score.name: self.score.value})}


def _stored(path: Path) -> Score:
    header = read_header(path)
    try:
        ((name, value),) = dict(json.loads(header[_FIELD])).items()
        return Score(str(name), float(value))
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        message = f"{damaged_header(path, [_FIELD])}; or delete it: the run goes on without"
        raise UserError(message) from error
