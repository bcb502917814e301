from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor

from diffhmr.batch import ImageBatch, Targets
from diffhmr.body.joints import COCO17_FROM_SPIN49, SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.config import DataConfig
from diffhmr.datasets import build_dataset
from diffhmr.datasets.people import inside_border
from diffhmr.datasets.synthetic import SyntheticPeople
from diffhmr.geometry.camera import project_crop

COCO = list(COCO17_FROM_SPIN49)
KEYPOINTS_ONLY = DataConfig(images=False)
SMALL_IMAGES = DataConfig(image_size=48)


@pytest.fixture(scope="module")
def stream(free_body: BodyModel) -> SyntheticPeople:
    return build_dataset(KEYPOINTS_ONLY, free_body, "train")


@pytest.fixture(scope="module")
def batch(stream: SyntheticPeople) -> ImageBatch:
    return stream.__getitems__(range(400))


def targets_of(batch: ImageBatch) -> Targets:
    assert batch.targets is not None
    return batch.targets


def keypoints_of(batch: ImageBatch) -> Tensor:
    assert batch.keypoints is not None
    return batch.keypoints


def tensors(batch: ImageBatch) -> dict[str, Tensor]:
    targets = targets_of(batch)
    found = {
        "item_seed": batch.item_seed,
        "keypoints": keypoints_of(batch),
        "rotations": targets.params.rotations,
        "betas": targets.params.betas,
        "camera": targets.camera,
        "joints3d": targets.joints3d,
        "joints2d": targets.joints2d,
        "visible": targets.visible,
        "occluded": targets.occluded,
        "truncated": targets.truncated,
    }
    if batch.image is not None and targets.mask is not None:
        found |= {"image": batch.image, "mask": targets.mask}
    return found


def assert_same_items(part: ImageBatch, whole: ImageBatch, items: list[int]) -> None:
    for name, value in tensors(part).items():
        assert torch.equal(value, tensors(whole)[name][items]), name


def test_targets_are_complete_and_consistent(batch: ImageBatch, free_body: BodyModel) -> None:
    targets = targets_of(batch)
    assert batch.image is None and targets.mask is None
    assert targets.has_params.all() and targets.has_camera.all()
    assert (targets.joints3d[..., 3] == 1).all()
    assert torch.equal(targets.joints2d[..., 2] == 1, (targets.joints2d[..., :2].abs() <= 1.5).all(-1))
    joints = free_body.joints(targets.params, SPIN49)
    torch.testing.assert_close(joints, targets.joints3d[..., :3], atol=1e-5, rtol=0)
    projected = project_crop(joints, targets.camera)
    assert (projected - targets.joints2d[..., :2]).norm(dim=-1).median() < 0.03
    for name, value in tensors(batch).items():
        assert torch.isfinite(value.float()).all(), name


def test_visible_joints_lie_in_the_crop(batch: ImageBatch) -> None:
    targets = targets_of(batch)
    assert not (targets.visible & (targets.joints2d[..., :2].abs() > 1).any(-1)).any()
    share = targets.visible[:, COCO].float().mean()
    assert 0.5 < share < 0.85


def test_flags_say_what_they_mean(stream: SyntheticPeople, batch: ImageBatch) -> None:
    targets, people = targets_of(batch), stream.people(range(400))
    outside = ~inside_border(people.joints2d[:, COCO], people.border)
    assert torch.equal(targets.truncated, outside.any(1))
    assert not (targets.visible[:, COCO] & outside).any()
    assert 0.1 < targets.occluded.float().mean() < 0.5
    # Whoever has nothing in front is not occluded.
    assert not targets.occluded[people.occluders[:, 0, 5] == 0].any()


def test_keypoints_are_near_the_joints(batch: ImageBatch) -> None:
    targets, keypoints = targets_of(batch), keypoints_of(batch)
    reported = keypoints[..., 2] > 0
    assert (keypoints[~reported] == 0).all()
    error = (keypoints[..., :2] - targets.joints2d[:, COCO, :2]).norm(dim=-1)[reported] / 2
    assert error.median() < 0.02 and error.quantile(0.9) < 0.08
    assert 0.55 < reported.float().mean() < 0.9


def test_items_do_not_depend_on_the_batch(stream: SyntheticPeople, batch: ImageBatch) -> None:
    items = [399, 3, 250, 3]
    assert_same_items(stream.__getitems__(items), batch, items)
    assert_same_items(stream[77], batch, [77])


def test_splits_and_seeds_differ(free_body: BodyModel, batch: ImageBatch) -> None:
    known = set(batch.item_seed.tolist())
    reseeded = DataConfig(images=False, seed=1)
    for config, split in ((KEYPOINTS_ONLY, "val"), (KEYPOINTS_ONLY, "test"), (reseeded, "train")):
        other = build_dataset(config, free_body, split).__getitems__(range(100))
        assert not known & set(other.item_seed.tolist())
        assert not torch.equal(targets_of(other).camera, targets_of(batch).camera[:100])


def test_lengths_and_bounds(free_body: BodyModel) -> None:
    config = DataConfig(images=False, train_items=10, val_items=4, test_items=6)
    for split, size in (("train", 10), ("val", 4), ("test", 6)):
        data = build_dataset(config, free_body, split)
        assert len(data) == size
        assert len(data.__getitems__([size - 1])) == 1
        for index in (size, -1):
            with pytest.raises(IndexError):
                data[index]


def test_no_global_randomness(stream: SyntheticPeople, batch: ImageBatch) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    again = stream.__getitems__(range(400))
    assert torch.equal(torch.get_rng_state(), before)
    assert_same_items(again, batch, list(range(400)))


def test_a_copy_for_a_worker_gives_the_same_items(stream: SyntheticPeople, batch: ImageBatch) -> None:
    copied = pickle.loads(pickle.dumps(stream))
    assert_same_items(copied.__getitems__([5, 9]), batch, [5, 9])
    assert_same_items(copy.deepcopy(stream).__getitems__([5]), batch, [5])


def test_images_show_the_same_people(free_body: BodyModel, batch: ImageBatch) -> None:
    drawn = build_dataset(SMALL_IMAGES, free_body, "train").__getitems__(range(24))
    targets = targets_of(drawn)
    assert drawn.image is not None and targets.mask is not None
    assert tuple(drawn.image.shape) == (24, 3, 48, 48) and tuple(targets.mask.shape) == (24, 48, 48)
    assert drawn.image.min() >= 0 and drawn.image.max() <= 1
    for name in ("item_seed", "joints3d", "joints2d", "camera", "occluded", "truncated"):
        assert torch.equal(tensors(drawn)[name], tensors(batch)[name][:24]), name
    agreement = (targets.visible == targets_of(batch).visible[:24])[:, COCO].float().mean()
    assert agreement > 0.8
    assert not (targets.visible & (targets.joints2d[..., :2].abs() > 1).any(-1)).any()


def test_images_do_not_depend_on_the_batch(free_body: BodyModel) -> None:
    data = build_dataset(SMALL_IMAGES, free_body, "test")
    whole = data.__getitems__(range(8))
    assert_same_items(data.__getitems__([6, 1, 2]), whole, [6, 1, 2])
    assert_same_items(data[4], whole, [4])
