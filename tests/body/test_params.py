"""SmplParams: shapes are checked, parts go together."""

from __future__ import annotations

import pytest
import torch

from diffhmr.body.params import SmplParams


def make(*lead: int, transl: bool = True) -> SmplParams:
    rotations = torch.eye(3).repeat(*lead, 24, 1, 1) * torch.arange(1.0, 25.0)[:, None, None]
    return SmplParams.from_rotations(rotations, torch.zeros(*lead, 10), torch.ones(*lead, 3) if transl else None)


def test_rotations_put_the_root_first() -> None:
    params = make(2, 5)
    assert params.shape == (2, 5)
    torch.testing.assert_close(params.rotations[..., 0, :, :], params.global_orient)
    torch.testing.assert_close(params.rotations[0, 0, :, 0, 0], torch.arange(1.0, 25.0))
    torch.testing.assert_close(SmplParams.from_rotations(params.rotations, params.betas).body_pose, params.body_pose)


@pytest.mark.parametrize("field", ["global_orient", "body_pose", "betas", "transl"])
def test_a_wrong_shape_is_named(field: str) -> None:
    fields = {
        "global_orient": torch.zeros(4, 3, 3),
        "body_pose": torch.zeros(4, 23, 3, 3),
        "betas": torch.zeros(4, 10),
        "transl": torch.zeros(4, 3),
    }
    SmplParams(**fields)
    wrong = {**fields, field: torch.zeros(4, 2, 2) if field != "betas" else torch.zeros(3, 10)}
    with pytest.raises(ValueError, match=r"SmplParams\.\w+ has shape"):
        SmplParams(**wrong)


def test_map_and_to_reach_every_field() -> None:
    params = make(4)
    picked = params.map(lambda tensor: tensor[2:])
    assert picked.shape == (2,) and picked.transl is not None and picked.transl.shape == (2, 3)
    assert make(4, transl=False).map(lambda tensor: tensor[0]).transl is None
    assert params.to("meta").betas.device.type == "meta"
