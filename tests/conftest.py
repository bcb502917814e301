"""Bodies for all tests: a tiny procedural one and the free body that the project ships."""

from __future__ import annotations

import os
from pathlib import Path

# As the commands do; see run_command.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import pytest

from diffhmr.body.files import FREE_BODY
from diffhmr.body.model import BodyModel
from tests.toy_body import make_fields


@pytest.fixture(scope="session")
def toy_body_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ``.npz`` body of 192 vertices with non-zero pose directions."""
    path = tmp_path_factory.mktemp("body") / "toy_body.npz"
    np.savez(path, **make_fields())
    return path


@pytest.fixture(scope="session")
def toy_body(toy_body_path: Path) -> BodyModel:
    """The body of ``toy_body_path``."""
    return BodyModel.load(toy_body_path)


@pytest.fixture(scope="session")
def free_body() -> BodyModel:
    """The free body of ``data/body/``."""
    return BodyModel.load(FREE_BODY)
