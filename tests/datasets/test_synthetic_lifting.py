from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from diffhmr.body.joints import H36M17, SMPL24
from diffhmr.body.model import BodyModel
from diffhmr.clip_batch import LiftingBatch
from diffhmr.config_clips import ClipAugmentConfig, ClipDataConfig, ClipNoiseConfig
from diffhmr.datasets.clips import SyntheticClips
from diffhmr.datasets.corruption import Corruption, corrupt
from diffhmr.datasets.synthetic_lifting import SyntheticLifting, corruption_of

CLEAN = ClipNoiseConfig(jitter=0, outlier=0, drop_point=0, drop_limb=0, drop_frame=0, drop_hidden=0, swap=0)
DATA = ClipDataConfig(frames=12, test_frames=20, keypoint_noise=CLEAN, occluder=0, truncation=0)


@pytest.mark.parametrize("task", ["pretrain", "pose3d"])
def test_clips_one_by_one_or_in_a_batch(task: str, toy_body: BodyModel) -> None:
    clips = SyntheticLifting(toy_body, DATA, "train", task)
    batch = clips.__getitems__([5, 0, 3])
    for place, index in enumerate([5, 0, 3]):
        one = clips.__getitems__([index])
        for field in fields(LiftingBatch):
            assert torch.equal(getattr(one, field.name)[0], getattr(batch, field.name)[place]), field.name
    assert len(clips) == DATA.train_items
    assert clips.__getitems__([1]).positions.shape == (1, 12, 17, 3)
    assert SyntheticLifting(toy_body, DATA, "test", task).__getitems__([1]).positions.shape == (1, 20, 17, 3)


def test_positions_are_those_of_the_body(toy_body: BodyModel) -> None:
    lifting = SyntheticLifting(toy_body, DATA, "test", "pose3d").__getitems__(range(4))
    clips, focal = SyntheticClips(toy_body, DATA, "test").with_focal(range(4))
    assert clips.targets is not None and clips.targets.position is not None
    params = clips.targets.params
    joints = toy_body.joints(params, H36M17) - toy_body.joints(params, SMPL24)[..., :1, :]
    joints = joints + clips.targets.position.unsqueeze(-2)
    assert lifting.mm_per_unit is not None
    relative = (lifting.positions - lifting.positions[..., :1, :]) * lifting.mm_per_unit[..., None, None] / 1000
    torch.testing.assert_close(relative, joints - joints[..., :1, :], atol=2e-5, rtol=0)
    root = lifting.positions[..., 0, :]
    torch.testing.assert_close(root[..., :2], focal[:, None, None] * joints[..., 0, :2] / joints[..., 0, 2:])
    # Over a short time, the depth of the root changes in the scale of the root.
    step = root[..., 2].diff(dim=1) * (lifting.mm_per_unit[:, 1:] + lifting.mm_per_unit[:, :-1]) / 2000
    torch.testing.assert_close(step, joints[..., 0, 2].diff(dim=1), atol=1e-4, rtol=1e-3)
    assert (root[:, 0, 2] == 0).all() and (step.abs().amax() > 1e-3)
    assert lifting.has_depth.all() and (lifting.weight == 1).all()
    assert torch.equal(lifting.keypoints, clips.keypoints) and torch.equal(lifting.item_seed, clips.item_seed)


def test_far_people_are_seen_as_in_the_positions(free_body: BodyModel) -> None:
    """What is left between detections without errors and positions is perspective, and how the joints are defined."""
    lifting = SyntheticLifting(free_body, DATA, "train", "pose3d").__getitems__(range(16))
    assert lifting.mm_per_unit is not None
    error = (lifting.keypoints - lifting.positions)[..., :2].norm(dim=-1) * lifting.mm_per_unit[..., None]
    seen = lifting.keypoints[..., 2] > 0
    limbs = [2, 3, 5, 6, 11, 12, 13, 14, 15, 16]
    assert seen.float().mean() > 0.8
    assert error[..., limbs][seen[..., limbs]].median() < 60


def test_pretraining_sees_corrupted_positions(toy_body: BodyModel) -> None:
    without = ClipAugmentConfig(noise=False, mask_joint=0, mask_frame=0)
    clean = SyntheticLifting(toy_body, DATA.model_copy(update={"augment": without}), "train", "pretrain")
    batch = clean.__getitems__(range(8))
    assert torch.equal(batch.keypoints[..., :2], batch.positions[..., :2])
    assert (batch.keypoints[..., 2] == 1).all()
    seen = SyntheticLifting(toy_body, DATA, "train", "pretrain").__getitems__(range(8))
    assert torch.equal(seen.positions, batch.positions)
    hidden = (seen.keypoints == 0).all(-1)
    assert 0.03 < hidden.float().mean() < 0.35
    assert not torch.isclose(seen.keypoints, batch.keypoints)[~hidden].all(-1).any()
    again = corrupt(batch.keypoints.double().numpy(), batch.item_seed.numpy(), corruption_of(DATA.augment))
    torch.testing.assert_close(torch.from_numpy(again).float(), seen.keypoints, atol=1e-5, rtol=0)
    assert corruption_of(without) == Corruption(None, 0.0, 0.0)
    # What is validated on is detected.
    test = SyntheticLifting(toy_body, DATA, "val", "pretrain").__getitems__(range(2))
    detected = SyntheticLifting(toy_body, DATA, "val", "pose3d").__getitems__(range(2))
    assert torch.equal(test.keypoints, detected.keypoints)
