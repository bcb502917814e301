"""The free body as a rest body."""

from __future__ import annotations

import pytest

from diffhmr.body.model import BodyModel
from diffhmr.motion.rest_body import RestBody, rest_body


@pytest.fixture(scope="session")
def rest(free_body: BodyModel) -> RestBody:
    """Joints and soles of the free body."""
    return rest_body(free_body)
