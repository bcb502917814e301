from __future__ import annotations

import pytest

from diffhmr.batch import ImageBatch
from diffhmr.body.model import BodyModel
from tests.models.people import BODY_FILE, random_batch


@pytest.fixture(scope="session")
def body() -> BodyModel:
    return BodyModel.load(BODY_FILE)


@pytest.fixture(scope="session")
def batch(body: BodyModel) -> ImageBatch:
    return random_batch(body, image_size=64)
