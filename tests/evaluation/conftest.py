"""Bodies, and people drawn from a known distribution, for the tests of the evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffhmr.body.model import BodyModel
from diffhmr.evaluation.run import Evaluation
from tests.evaluation.calibrated_people import People, Spread, evaluate_on
from tests.evaluation.measured_people import write_bodies


@pytest.fixture(scope="session")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files of a toy body of each gender."""
    return write_bodies(tmp_path_factory.mktemp("bodies"))


@pytest.fixture(scope="session")
def neutral(paths: dict[str, Path]) -> BodyModel:
    """The neutral one."""
    return BodyModel.load(paths["neutral"])


@pytest.fixture(scope="session")
def gendered(paths: dict[str, Path]) -> dict[str, BodyModel]:
    """All three by name."""
    return {gender: BodyModel.load(path) for gender, path in paths.items()}


@pytest.fixture(scope="session")
def people(free_body: BodyModel) -> People:
    """People on the free body."""
    return People(free_body)


@pytest.fixture(scope="session")
def calibrated(people: People) -> Evaluation:
    """Samples of the right spread for them."""
    return evaluate_on(people, Spread(people))
