"""Synthetic clips: pure functions of (seed, split, index), true to their targets."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from diffhmr.body.joints import COCO17_FROM_SPIN49, H36M17, SMPL24, SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.clip_batch import ClipBatch, ClipTargets
from diffhmr.config_clips import ClipDataConfig, ClipNoiseConfig
from diffhmr.datasets.clips import SyntheticClips, parse_activities
from diffhmr.errors import UserError
from diffhmr.motion.acting.score import Activity
from diffhmr.motion.procedural import sample_motions

CLEAN = ClipNoiseConfig(jitter=0, outlier=0, drop_point=0, drop_limb=0, drop_frame=0, drop_hidden=0, swap=0)
DATA = ClipDataConfig(frames=10, test_frames=14)
EXACT = ClipDataConfig(frames=10, keypoint_noise=CLEAN, occluder=0, truncation=0)
# In H36M-17 and in COCO-17: what both have.
LIMBS, COCO_LIMBS = [1, 2, 3, 4, 5, 6, 9, 11, 12, 13, 14, 15, 16], [12, 14, 16, 11, 13, 15, 0, 5, 7, 9, 6, 8, 10]


@pytest.fixture(scope="module")
def exact(toy_body: BodyModel) -> tuple[SyntheticClips, ClipBatch, Tensor]:
    """Clips without any noise, and the focal lengths."""
    clips = SyntheticClips(toy_body, EXACT, "train")
    return clips, *clips.with_focal(range(24))


def _targets(batch: ClipBatch) -> ClipTargets:
    assert batch.targets is not None
    return batch.targets


def _projected(body: BodyModel, batch: ClipBatch, focal: Tensor, which: str) -> Tensor:
    """Joints of the truth at its place in the camera frame, in the unit of the keypoints ``[B, T, N, 2]``."""
    targets = _targets(batch)
    assert targets.position is not None
    params = targets.params
    joints = body.joints(params, H36M17 if which == "h36m" else SPIN49)
    joints = joints - body.joints(params, SMPL24)[..., :1, :] + targets.position.unsqueeze(-2)
    joints = joints if which == "h36m" else joints[..., list(COCO17_FROM_SPIN49), :]
    return focal[:, None, None, None] * joints[..., :2] / joints[..., 2:]


def _assert_same(first: ClipBatch, second: ClipBatch) -> None:
    for field in fields(ClipBatch):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, Tensor):
            assert one.dtype == other.dtype and torch.equal(one, other), field.name
    for field in fields(ClipTargets):
        one, other = getattr(_targets(first), field.name), getattr(_targets(second), field.name)
        assert one is other is None or torch.equal(one, other), field.name


def _part(batch: ClipBatch, place: int) -> ClipBatch:
    one, old = slice(place, place + 1), _targets(batch)
    assert old.position is not None and old.visible is not None
    targets = replace(
        old, rotations=old.rotations[one], betas=old.betas[one], position=old.position[one], visible=old.visible[one]
    )
    return replace(
        batch, item_seed=batch.item_seed[one], keypoints=batch.keypoints[one], fps=batch.fps[one], targets=targets
    )


# Items


def test_clips_one_by_one_or_in_a_batch(toy_body: BodyModel) -> None:
    clips = SyntheticClips(toy_body, DATA, "train")
    batch = clips.__getitems__([5, 0, 3])
    for place, index in enumerate([5, 0, 3]):
        alone = SyntheticClips(toy_body, DATA, "train")[index]
        _assert_same(alone, _part(batch, place))
    assert batch.keypoints.shape == (3, 10, 17, 3) and batch.keypoints.dtype == torch.float32
    assert torch.equal(batch.fps, torch.full((3,), 30.0)) and batch.initial is None
    assert _targets(batch).rotations.dtype == torch.float32 and len(batch.item_seed.unique()) == 3


def test_splits_share_nothing(toy_body: BodyModel) -> None:
    sets = {split: SyntheticClips(toy_body, DATA, split) for split in ("train", "val", "test")}
    assert [len(clips) for clips in sets.values()] == [DATA.train_items, DATA.val_items, DATA.test_items]
    assert [clips.num_frames for clips in sets.values()] == [10, 14, 14]
    batches = {split: clips.__getitems__(range(4)) for split, clips in sets.items()}
    seeds = torch.cat([batch.item_seed for batch in batches.values()])
    assert len(seeds.unique()) == 12
    first = [_targets(batch).rotations[:, 0] for batch in batches.values()]
    assert not torch.isclose(first[0], first[1]).all((1, 2, 3)).any()
    assert not torch.isclose(first[1], first[2]).all((1, 2, 3)).any()
    assert batches["test"].keypoints.shape == (4, 14, 17, 3)


def test_another_seed_makes_other_clips(toy_body: BodyModel) -> None:
    first, second = (SyntheticClips(toy_body, DATA.model_copy(update={"seed": seed}), "test")[1] for seed in (0, 1))
    assert first.item_seed != second.item_seed
    assert (_targets(first).betas - _targets(second).betas).abs().min() > 1e-6
    assert not torch.isclose(_targets(first).rotations, _targets(second).rotations, atol=1e-3).all()


def test_indices_outside_the_split(toy_body: BodyModel) -> None:
    clips = SyntheticClips(toy_body, DATA, "val")
    for index in (-1, DATA.val_items):
        with pytest.raises(IndexError, match="outside the 32 items of the split val"):
            clips.__getitems__([0, index])


def test_no_global_random_numbers_are_used(toy_body: BodyModel) -> None:
    torch_state = torch.get_rng_state()
    np.random.seed(3)  # noqa: NPY002
    before = toy_body.v_template.clone()
    SyntheticClips(toy_body, DATA, "train")[0]
    assert torch.equal(torch.get_rng_state(), torch_state)
    after = np.random.uniform()  # noqa: NPY002
    assert after == np.random.RandomState(3).uniform()
    assert toy_body.v_template.dtype == torch.float32 and torch.equal(toy_body.v_template, before)


# Truth


def test_targets_are_a_motion_before_a_camera(exact: tuple[SyntheticClips, ClipBatch, Tensor]) -> None:
    _, batch, focal = exact
    targets = _targets(batch)
    assert targets.position is not None
    rotations = targets.rotations.double()
    identity = torch.eye(3, dtype=torch.float64).expand_as(rotations)
    torch.testing.assert_close(rotations @ rotations.transpose(-1, -2), identity, atol=1e-5, rtol=0)
    assert (torch.linalg.det(rotations) > 0).all()
    assert targets.betas.abs().max() <= 3 and targets.betas.std() == pytest.approx(1.1, abs=0.15)
    assert targets.position[..., 2].min() > 1.0 and (focal > 1).all()
    # The joints other than the root move as the motion of the item says.
    motion = sample_motions(batch.item_seed.numpy(), 10, 30.0)
    torch.testing.assert_close(targets.rotations[:, :, 1:], torch.from_numpy(motion.rotations[:, :, 1:]).float())
    # So does the root, but for a camera: what a turn of the world cannot change is the same.
    root, world = rotations[:, :, 0], torch.from_numpy(motion.rotations[:, :, 0])
    camera = root @ world.transpose(-1, -2)
    still = (camera - camera[:, :1]).abs().amax((1, 2, 3)) < 1e-5
    assert 0.25 < still.float().mean() < 0.85, "about half of the cameras stand still"
    moved = targets.position - targets.position[:, :1]
    expected = torch.einsum("bij,btj->bti", camera[:, 0].float(), torch.from_numpy(motion.position).float())
    torch.testing.assert_close(moved[still], (expected - expected[:, :1])[still], atol=1e-4, rtol=0)


def test_keypoints_without_noise_lie_on_the_projected_truth(
    exact: tuple[SyntheticClips, ClipBatch, Tensor], toy_body: BodyModel
) -> None:
    clips, batch, focal = exact
    coco = clips.coco_keypoints(range(24))
    assert coco.shape == (24, 10, 17, 3)
    seen = coco[..., 2] > 0
    truth = _projected(toy_body, batch, focal, "coco")
    torch.testing.assert_close(coco[..., :2][seen], truth[seen], atol=2e-5, rtol=1e-5)
    assert (coco[~seen] == 0).all() and 0.7 < seen.float().mean() < 1
    # In H36M-17: the limbs are those of COCO, the trunk lies between them or is detected itself.
    keypoints = batch.keypoints
    assert torch.equal(keypoints[:, :, LIMBS], coco[:, :, COCO_LIMBS])
    both = seen[..., 11] & seen[..., 12]
    middle = (coco[..., 11, :2] + coco[..., 12, :2]) / 2
    between = torch.isclose(keypoints[..., 0, :2], middle, atol=1e-6).all(-1) & both
    made_up = torch.stack([between[k][both[k]].all() for k in range(24) if both[k].any()])
    assert 0.4 < made_up.float().mean() < 0.9, "of about two thirds of the people"
    assert (keypoints[..., 0, 2] > 0)[both].all()


def test_what_is_missing_is_outside_the_picture_or_hidden(exact: tuple[SyntheticClips, ClipBatch, Tensor]) -> None:
    """With errors off: people whose detections are clean lose what is hidden, all others only what is outside."""
    _, batch, _ = exact
    seen, visible = batch.keypoints[..., 2] > 0, _targets(batch).visible
    assert visible is not None and visible.dtype == torch.bool
    assert (seen | ~visible)[..., LIMBS].all(), "everything visible is reported"
    hidden = (seen & ~visible)[..., LIMBS]
    assert 0.02 < hidden.float().mean() < 0.4
    confidence = batch.keypoints[:, :, LIMBS, 2]
    not_annotated = (confidence < 1).any(-1).any(-1)
    low, high = (
        confidence[not_annotated][hidden[not_annotated]],
        confidence[not_annotated][(seen & visible)[..., LIMBS][not_annotated]],
    )
    assert low.mean() < high.mean() - 0.15


def test_visible_joints_are_those_that_careful_detectors_report(toy_body: BodyModel) -> None:
    strict = EXACT.model_copy(update={
        "keypoint_noise": CLEAN.model_copy(update={"drop_hidden": 1.0}), "occluder": 0.8, "truncation": 0.3
    })  # fmt: skip
    batch = SyntheticClips(toy_body, strict, "train").__getitems__(range(16))
    seen, visible = batch.keypoints[..., 2] > 0, _targets(batch).visible
    assert visible is not None
    torch.testing.assert_close(seen[..., LIMBS], visible[..., LIMBS])
    assert 0.2 < visible.float().mean() < 0.9
    # Of the trunk, one side is enough to see it.
    hips, shoulders = visible[..., 1] | visible[..., 4], visible[..., 11] | visible[..., 14]
    for joint, expected in ((0, hips), (7, hips | shoulders), (8, shoulders)):
        assert torch.equal(visible[..., joint], expected)
    assert (visible[..., 10] | ~visible[..., 9]).all(), "who shows the nose shows the head"


def test_objects_and_borders_hide_points(toy_body: BodyModel) -> None:
    def visible(**changes: float) -> Tensor:
        batch = SyntheticClips(toy_body, EXACT.model_copy(update=changes), "train").__getitems__(range(16))
        seen = _targets(batch).visible
        assert seen is not None
        return seen

    free = visible()
    for some in (visible(occluder=1.0), visible(truncation=1.0)):
        assert not (some & ~free).any() and some.float().mean() < free.float().mean() - 0.02


def test_detections_with_errors(toy_body: BodyModel, exact: tuple[SyntheticClips, ClipBatch, Tensor]) -> None:
    """The truth stays, the points are off by some per cent of the person, and more are missing."""
    _, batch, focal = exact
    noise = ClipNoiseConfig()
    noisy = SyntheticClips(toy_body, EXACT.model_copy(update={"keypoint_noise": noise}), "train").__getitems__(
        range(24)
    )
    assert torch.equal(_targets(noisy).rotations, _targets(batch).rotations)
    assert torch.equal(noisy.item_seed, batch.item_seed)
    seen = noisy.keypoints[..., 2] > 0
    assert seen.float().mean() < (batch.keypoints[..., 2] > 0).float().mean() - 0.05
    truth = _projected(toy_body, batch, focal, "h36m")
    height = (truth.amax(2) - truth.amin(2)).amax(-1)
    off = ((noisy.keypoints[..., :2] - truth).norm(dim=-1) / height[..., None])[..., 11:][seen[..., 11:]]
    assert 0.002 < off.median() < 0.05


# Activities and files


def test_activities_are_chosen_by_name(toy_body: BodyModel) -> None:
    assert parse_activities(["walk", "Sit", "PICK_UP"]) == (Activity.WALK, Activity.SIT, Activity.PICK_UP)
    assert parse_activities([]) == ()
    data = DATA.model_copy(update={"activities": ("jump",)})
    batch = SyntheticClips(toy_body, data, "train").__getitems__(range(3))
    motion = sample_motions(batch.item_seed.numpy(), 10, 30.0, (Activity.JUMP,))
    expected = torch.from_numpy(motion.rotations[:, :, 1:]).float()
    torch.testing.assert_close(_targets(batch).rotations[:, :, 1:], expected)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["walk", "fly"], r"there is no activity fly; choose from stand, walk, .*gesture"),
        (["walk", "WALK"], "names an activity twice"),
    ],
)
def test_activities_that_are_not_possible(names: list[str], message: str, toy_body: BodyModel) -> None:
    with pytest.raises(UserError, match=message) as caught:
        SyntheticClips(toy_body, DATA.model_copy(update={"activities": tuple(names)}), "train")
    assert "\n" not in str(caught.value)


def test_recorded_motion_takes_the_place_of_the_procedural_one(tmp_path: Path, toy_body: BodyModel) -> None:
    recorded = sample_motions(np.array([77], np.int64), 60, 30.0).motion(0)
    recorded.save(tmp_path / "a.npz")
    data = EXACT.model_copy(update={"motions": tmp_path})
    clips = SyntheticClips(toy_body, data, "train")
    batch, focal = clips.with_focal(range(6))
    both = [torch.from_numpy(motion.rotations[:, 1:]).float() for motion in (recorded, recorded.mirror())]
    for item in range(6):
        piece = _targets(batch).rotations[item, :, 1:]
        errors = [
            (part.unfold(0, 10, 1).permute(0, 4, 1, 2, 3) - piece).abs().amax((1, 2, 3, 4)).min() for part in both
        ]
        assert min(errors) < 1e-4
    coco = clips.coco_keypoints(range(6))
    seen = coco[..., 2] > 0
    torch.testing.assert_close(
        coco[..., :2][seen], _projected(toy_body, batch, focal, "coco")[seen], atol=2e-5, rtol=1e-5
    )
    with pytest.raises(UserError, match="folder of motions not found"):
        SyntheticClips(toy_body, data.model_copy(update={"motions": tmp_path / "none"}), "train")
