"""Validation during training: the truth has no error, known errors have theirs, and the sheet shows both."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from diffhmr.body.joints import SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.datasets import build_dataset
from diffhmr.training.validation import Validation, hypotheses_picture, validate
from tests.training.runs import Oracle, make_config


@pytest.fixture(scope="module")
def validation(free_body: BodyModel) -> Validation:
    config = make_config(Path("unused"), data={"val_items": 5})
    return Validation(build_dataset(config.data, free_body, "val"), free_body, config.sampler, 0)


def test_the_truth_has_no_error(validation: Validation) -> None:
    scores = validate(Oracle(0.1), validation)  # type: ignore[arg-type]  # cameras do not count
    assert set(scores) == {"mode_mpjpe_mm", "random_mpjpe_mm", "min_of_10_mpjpe_mm", "energy_score_mm"}
    assert all(abs(value) < 0.01 for value in scores.values())


def test_errors_are_relative_to_the_pelvis(validation: Validation, free_body: BodyModel) -> None:
    """A fake body whose joints are all lifted by 1 m, and whose head is lifted by 140 mm more."""

    def joints(params: Any, _: Any) -> torch.Tensor:
        result = free_body.joints(params, SPIN49) + 1.0
        result[..., 25 + 18, 1] += 0.14
        return result

    fake = SimpleNamespace(joints=joints, v_template=free_body.v_template)
    lifted = Validation(validation.dataset, fake, validation.sampler, 0)  # type: ignore[arg-type]
    scores = validate(Oracle(0.0), lifted)  # type: ignore[arg-type]
    assert all(value == pytest.approx(10, abs=0.01) for value in scores.values())


def test_pictures_show_truth_and_hypotheses(validation: Validation) -> None:
    sheet = hypotheses_picture(Oracle(0.0), validation)  # type: ignore[arg-type]
    cells = sheet.unflatten(1, (5, 128)).unflatten(3, (8, 128)).permute(1, 3, 0, 2, 4)
    assert float(sheet.min()) >= 0 and float(sheet.max()) <= 1
    for person in cells:
        assert not torch.equal(person[0], person[1])
        for hypothesis in person[2:7]:
            # The truth is projected with the true camera, hypotheses with the crop's, which approximates it.
            assert float((hypothesis - person[1]).abs().mean()) < 0.05
        assert float((person[7] - 1).abs().mean()) > 0.005
    moved = hypotheses_picture(Oracle(0.1), validation)  # type: ignore[arg-type]
    assert torch.equal(moved[:, :, 256:384], sheet[:, :, 256:384])
    assert not torch.equal(moved[:, :, 384:512], sheet[:, :, 384:512])
