"""Filters by their words, and motions under them."""

from __future__ import annotations

import pytest
import torch

from diffhmr.body.params import SmplParams
from diffhmr.errors import UserError
from diffhmr.geometry.one_euro import OneEuro
from diffhmr.geometry.rotation import random_rotations
from diffhmr.motion_filter import FilterOptions, filtered, parse_filter


def test_filters_in_words() -> None:
    assert parse_filter("one-euro") == FilterOptions()
    assert parse_filter("one-euro:0.5,2") == FilterOptions(0.5, 2.0)
    for wrong in ("kalman", "one-euro:1", "one-euro:1,2,3", "one-euro:0,1", "one-euro:1,-1", "one-euro:a,b", ""):
        with pytest.raises(UserError, match="is no filter; give one-euro"):
            parse_filter(wrong)


def test_every_joint_is_filtered_over_its_own_time() -> None:
    generator = torch.Generator().manual_seed(0)
    rotations = random_rotations((2, 7, 24), generator)
    betas = torch.randn(2, 7, 10, generator=generator)
    options = FilterOptions(1.0, 0.05)
    smooth = filtered(SmplParams.from_rotations(rotations, betas), 25.0, options)
    for hypothesis in range(2):
        for joint in (0, 5, 23):
            alone = OneEuro(25.0, 1.0, 0.05).rotations(rotations[hypothesis, :, joint])
            torch.testing.assert_close(smooth.rotations[hypothesis, :, joint], alone)
    torch.testing.assert_close(smooth.betas, betas.mean(1, keepdim=True).expand(2, 7, 10))
