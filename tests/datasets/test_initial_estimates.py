"""Initial estimates of synthetic clips: reproducible, off by what is said, and no part of anything else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from diffhmr.body.joints import SMPL24
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.config_clips import ClipDataConfig
from diffhmr.datasets.clips import SyntheticClips
from diffhmr.datasets.initial_estimates import initial_estimates
from diffhmr.geometry.rotation import geodesic_distance
from diffhmr.random import item_seeds

DATA = ClipDataConfig(frames=20, test_frames=30, initial=True)
PLAIN = DATA.model_copy(update={"initial": False})
SEEDS = item_seeds(0, "train", range(200))


def _initial(body: BodyModel, indices: list[int], data: ClipDataConfig = DATA) -> SmplParams:
    initial = SyntheticClips(body, data, "train").__getitems__(indices).initial
    assert initial is not None
    return initial


def _off(frames: int = 60) -> tuple[Tensor, np.ndarray]:
    """Angles ``[B, T, 24]`` and errors of the betas ``[B, 10]`` for people in the rest pose."""
    rest = np.broadcast_to(np.eye(3), (len(SEEDS), frames, 24, 3, 3))
    rotations, betas = initial_estimates(rest, np.zeros((len(SEEDS), 10)), SEEDS)
    return geodesic_distance(torch.eye(3, dtype=torch.float64), torch.from_numpy(rotations)), betas


def test_clips_one_by_one_or_in_a_batch(toy_body: BodyModel) -> None:
    together = _initial(toy_body, [5, 0, 3])
    for place, index in enumerate([5, 0, 3]):
        alone = _initial(toy_body, [index])
        assert torch.equal(alone.rotations[0], together.rotations[place])
        assert torch.equal(alone.betas[0], together.betas[place])
    other = _initial(toy_body, [5, 0, 3], DATA.model_copy(update={"seed": 1}))
    assert not torch.equal(other.rotations, together.rotations)


def test_they_change_nothing_else(toy_body: BodyModel) -> None:
    with_them, without = (SyntheticClips(toy_body, data, "test").__getitems__([0, 1]) for data in (DATA, PLAIN))
    assert without.initial is None and with_them.initial is not None and with_them.initial.shape == (2, 30)
    assert torch.equal(with_them.keypoints, without.keypoints)
    assert with_them.targets is not None and without.targets is not None
    assert torch.equal(with_them.targets.rotations, without.targets.rotations)


def test_more_frames_continue_what_fewer_began() -> None:
    rest = np.broadcast_to(np.eye(3), (200, 50, 24, 3, 3))
    betas = np.zeros((200, 10))
    long, short = (initial_estimates(rest[:, :frames], betas, SEEDS)[0] for frames in (50, 20))
    np.testing.assert_allclose(long[:, :20], short, atol=1e-12)


def test_they_are_rotations_with_one_shape_per_clip(toy_body: BodyModel) -> None:
    initial = _initial(toy_body, list(range(8)))
    rotations = initial.rotations.double()
    identity = torch.eye(3, dtype=torch.float64).expand_as(rotations)
    torch.testing.assert_close(rotations @ rotations.mT, identity, atol=1e-5, rtol=0)
    assert (torch.linalg.det(rotations) > 0).all()
    assert torch.equal(initial.betas, initial.betas[:, :1].expand(-1, 20, -1))


def test_errors_are_those_that_are_said() -> None:
    """A slow part and a quick one, more in the limbs, people that differ, and the betas off by 0.7."""
    angles, betas = _off()
    names = SMPL24.joint_names
    middle = {name: float(angles[..., names.index(name)].median()) for name in ("spine2", "left_elbow", "left_knee")}
    assert middle["left_elbow"] > middle["left_knee"] > 2 * middle["spine2"] > 0.05
    people = angles[..., names.index("left_elbow")].median(1).values
    assert people.quantile(0.9) > 1.5 * people.quantile(0.1)
    assert abs(betas.std() - 0.7) < 0.05 and abs(betas.mean()) < 0.05
    rest = np.broadcast_to(np.eye(3), (200, 60, 24, 3, 3))
    turns = torch.from_numpy(initial_estimates(rest, np.zeros((200, 10)), SEEDS)[0])[:, :, names.index("spine2")]
    after, later = (geodesic_distance(turns[:, :-gap], turns[:, gap:]).median() for gap in (1, 30))
    assert 0.05 < float(after / later) < 0.5, "it drifts"
    second = turns[:, :-2, 2, 1] - 2 * turns[:, 1:-1, 2, 1] + turns[:, 2:, 2, 1]
    assert float(second.std() / turns[..., 2, 1].std()) > 0.2, "and trembles: smooth noise alone would have 0.02"


@pytest.mark.parametrize(("joint", "angle", "share"), [("pelvis", 2.5, 0.004), ("left_elbow", 1.0, 0.02)])
def test_some_frames_are_far_off(joint: str, angle: float, share: float) -> None:
    angles, _ = _off()
    far = angles[..., SMPL24.joint_names.index(joint)] > angle
    assert 0.2 * share < float(far.float().mean()) < 1.5 * share
    # In runs: most neighbours of such frames are such frames.
    assert float((far[:, 1:] & far[:, :-1]).sum() / far.sum()) > 0.5
