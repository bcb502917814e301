"""Labelled people: labels in the frame of the crop, validity masks, keypoints, and items that stand alone."""

from __future__ import annotations

import copy
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from diffhmr.batch import ImageBatch
from diffhmr.body.joints import PELVIS_SPIN49, SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.config import AugmentConfig, KeypointNoiseConfig
from diffhmr.datasets.augment import draw_augmentation, no_augmentation
from diffhmr.datasets.labelled import BatchMaker, LabelledPeople, PeopleOptions, Rows, coco_points, exact_body
from diffhmr.datasets.labels import read_labels
from diffhmr.errors import UserError
from diffhmr.geometry.camera import project_crop
from diffhmr.random import item_seeds
from tests.datasets.labelled_samples import Sample, write_sample

COUNT, SIZE = 20, 64
EVERYTHING = AugmentConfig(rotate=1.0, occluder=0.5, extreme_crop=0.3)


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory, toy_body: BodyModel) -> Sample:
    return write_sample(tmp_path_factory.mktemp("labelled"), toy_body, COUNT)


@pytest.fixture(scope="module")
def people(sample: Sample, toy_body: BodyModel) -> LabelledPeople:
    return LabelledPeople(read_labels(sample.labels), sample.images, SIZE, toy_body, name="train.npz")


def batch_of(sample: Sample, options: PeopleOptions, augment: AugmentConfig | None, rows: np.ndarray) -> ImageBatch:
    labels = read_labels(sample.labels).rows(rows)
    seeds = item_seeds(0, "train", rows)
    pictures = [sample.images / name for name in labels.imgname]
    made = no_augmentation(len(rows)) if augment is None else draw_augmentation(seeds, augment)
    return BatchMaker(options).batch(Rows(labels, pictures, [f"row {k}" for k in rows], rows, seeds), made)


def assert_same(first: ImageBatch, second: ImageBatch) -> None:
    assert first.targets is not None and second.targets is not None
    for one, other in ((first, second), (first.targets, second.targets)):
        for field in fields(one):
            left, right = getattr(one, field.name), getattr(other, field.name)
            if isinstance(left, torch.Tensor):
                assert torch.equal(left, right), field.name
    assert torch.equal(first.targets.params.rotations, second.targets.params.rotations)


def test_labels_arrive_in_the_crop(sample: Sample, people: LabelledPeople) -> None:
    batch = people.__getitems__(range(COUNT))
    targets = batch.targets
    assert targets is not None and len(people) == COUNT and batch.image is not None
    assert batch.image.shape == (COUNT, 3, SIZE, SIZE) and batch.image.dtype == torch.float32
    assert batch.image.min() >= 0 and batch.image.max() <= 1 and batch.image.std() > 0.1
    known, seen = torch.arange(COUNT) % 4 > 0, torch.arange(COUNT) % 5 > 0
    assert torch.equal(targets.has_params, known)
    assert torch.equal(targets.has_camera, known & seen)
    assert targets.gender is not None and targets.gender.tolist() == [0, 1] * (COUNT // 2)
    assert targets.item is not None and targets.item.tolist() == list(range(COUNT))
    torch.testing.assert_close(targets.params.rotations[known], sample.params.rotations[known], atol=1e-5, rtol=0)
    torch.testing.assert_close(targets.params.betas[known], sample.params.betas[known])
    both = known & seen
    torch.testing.assert_close(targets.camera[both], sample.camera[both], atol=1e-4, rtol=1e-4)
    assert torch.equal(targets.joints2d[..., 2], seen[:, None].expand(-1, 49).float())
    assert not targets.joints2d[~seen].any() and not targets.visible[~seen].any()
    assert not batch.keypoints[~seen].any() and not targets.truncated[~seen].any()
    assert not targets.occluded.any()
    assert torch.equal(targets.joints3d[..., 3], torch.tensor([0.0] * 25 + [1.0] * 24).expand(COUNT, 49))


def test_2d_points_are_the_projection(sample: Sample, people: LabelledPeople, toy_body: BodyModel) -> None:
    targets = people.__getitems__(range(COUNT)).targets
    assert targets is not None
    seen = torch.arange(COUNT) % 5 > 0
    wanted = project_crop(toy_body.joints(sample.params, SPIN49), sample.camera)
    torch.testing.assert_close(targets.joints2d[seen][..., :2], wanted[seen], atol=2e-4, rtol=0)
    inside = (wanted.abs() <= 1).all(-1)
    assert torch.equal(targets.visible[seen], inside[seen])


@pytest.mark.parametrize(
    ("augment", "tolerance"),
    [
        (AugmentConfig(flip=0.0, rotate=1.0, scale=0.0), 2e-4),
        (AugmentConfig(flip=0.0, rotate=1.0), 5e-3),
        (AugmentConfig(flip=0.0, rotate=1.0, extreme_crop=0.5), 0.08),
    ],
)
def test_joints_follow_the_body(sample: Sample, toy_body: BodyModel, augment: AugmentConfig, tolerance: float) -> None:
    """Without mirroring, which the toy body's surface does not bear, all labels describe one person."""
    options = PeopleOptions(SIZE, images=False, body=exact_body(toy_body))
    rows = np.array([k for k in range(COUNT) if k % 4 and k % 5])
    targets = batch_of(sample, options, augment, rows).targets
    assert targets is not None and bool(targets.has_camera.all())
    joints = toy_body.joints(targets.params, SPIN49)
    relative = joints - joints[:, PELVIS_SPIN49, None]
    torch.testing.assert_close(targets.joints3d[:, 25:, :3], relative[:, 25:], atol=1e-5, rtol=0)
    # Every crop has a camera of the same focal length in crops: where the box changes, depth looks different.
    torch.testing.assert_close(project_crop(joints, targets.camera), targets.joints2d[..., :2], atol=tolerance, rtol=0)
    plain = batch_of(sample, options, None, rows).targets
    assert plain is not None
    assert (targets.joints2d[..., :2] - plain.joints2d[..., :2]).abs().max() > 0.3


def test_the_image_follows_the_points(sample: Sample, tmp_path: Path) -> None:
    """A bright dot drawn at a labelled joint is found at its 2D target after all augmentation."""
    labels = read_labels(sample.labels)
    rows = np.array([1, 2, 3, 6])
    joint = 25 + 8  # right shoulder
    (tmp_path / "pictures").mkdir()
    changed = labels.imgname.copy()
    for row in rows:
        y, x = np.mgrid[:240, :320]
        place = labels.keypoints[row, joint, :2]
        dot = 255 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * 5.0**2))
        changed[row] = f"pictures/{row}.png"
        cv2.imwrite(str(tmp_path / changed[row]), dot.round().astype(np.uint8))
    for seed in range(4):
        seeds = item_seeds(seed, "train", rows)
        augmentation = draw_augmentation(seeds, AugmentConfig(rotate=1.0, colour=0.0))
        some = labels.rows(rows)
        made = Rows(some, [tmp_path / changed[row] for row in rows], [""] * 4, rows, seeds)
        batch = BatchMaker(PeopleOptions(SIZE)).batch(made, augmentation)
        assert batch.image is not None and batch.targets is not None
        axis = (torch.arange(SIZE) + 0.5) * 2 / SIZE - 1
        grey = batch.image.mean(1)
        found = torch.stack([(grey.sum(1) * axis).sum(1), (grey.sum(2) * axis).sum(1)], -1) / grey.sum((1, 2))[:, None]
        # On a flip the right shoulder of the label is the left one of the target.
        places = [joint if not flip else SPIN49.flip[joint] for flip in augmentation.flip]
        target = batch.targets.joints2d[torch.arange(4), torch.tensor(places), :2]
        inside = (target.abs() < 0.6).all(-1)
        assert inside.any()
        torch.testing.assert_close(found[inside], target[inside], atol=0.02, rtol=0)


@pytest.mark.parametrize("augment", [None, EVERYTHING])
def test_an_item_is_the_same_in_any_batch(sample: Sample, toy_body: BodyModel, augment: AugmentConfig | None) -> None:
    share = 0.0 if augment is None else augment.occluder
    options = PeopleOptions(SIZE, body=exact_body(toy_body), noise=KeypointNoiseConfig(), occluder=share, reach=1.5)
    rows = np.arange(COUNT)
    whole = batch_of(sample, options, augment, rows)
    assert_same(whole, batch_of(sample, options, augment, rows))
    for k in (0, 7, 13):
        alone = batch_of(sample, options, augment, rows[k : k + 1])
        assert whole.image is not None and alone.image is not None
        assert torch.equal(alone.image[0], whole.image[k])
        assert whole.targets is not None and alone.targets is not None
        for name in ("joints2d", "joints3d", "camera", "visible", "occluded", "has_camera"):
            assert torch.equal(getattr(alone.targets, name)[0], getattr(whole.targets, name)[k]), name
        assert torch.equal(alone.targets.params.rotations[0], whole.targets.params.rotations[k])


def test_objects_hide_what_they_cover(sample: Sample) -> None:
    rows = np.array([k for k in range(COUNT) if k % 5])
    plain, covered = (batch_of(sample, PeopleOptions(SIZE, occluder=share), None, rows) for share in (0.0, 1.0))
    assert plain.image is not None and covered.image is not None
    assert plain.targets is not None and covered.targets is not None
    changed = (plain.image != covered.image).any(1).flatten(1).any(1)
    assert changed.float().mean() > 0.9
    assert covered.targets.occluded.float().mean() > 0.3
    assert (covered.targets.visible <= plain.targets.visible).all()
    assert torch.equal(covered.targets.joints2d, plain.targets.joints2d)
    lost = (plain.keypoints[..., 2] > 0) & (covered.keypoints[..., 2] == 0)
    assert lost.any() and covered.targets.occluded[lost.any(1)].all()


def test_without_images_no_picture_is_touched(sample: Sample) -> None:
    labels = read_labels(sample.labels)
    batch = LabelledPeople(labels, "/nowhere", SIZE, images=False).__getitems__([1, 2])
    assert batch.image is None and batch.keypoints is not None and batch.keypoints[..., 2].any()
    assert batch.targets is not None and not batch.targets.has_camera.any()


def test_confidences(sample: Sample) -> None:
    rows = np.array([1, 2, 3])
    light = batch_of(sample, PeopleOptions(SIZE, images=False, openpose_weight=0.25, reach=0.5), None, rows)
    assert light.targets is not None
    near = (light.targets.joints2d[..., :2].abs() <= 0.5).all(-1)
    assert near.any() and not near.all()
    weights = torch.tensor([0.25] * 25 + [1.0] * 24).expand(3, 49)
    assert torch.equal(light.targets.joints2d[..., 2], weights * near)


def test_keypoints_of_the_input() -> None:
    points = torch.zeros(1, 49, 3)
    points[0, :25] = torch.tensor([0.1, 0.2, 0.5])
    points[0, 25 + 3] = torch.tensor([-0.3, 0.4, 1.0])  # left hip of the annotators
    coco = coco_points(points)
    assert coco.shape == (1, 17, 3)
    torch.testing.assert_close(coco[0, 11], torch.tensor([-0.3, 0.4, 1.0]))
    torch.testing.assert_close(coco[0, 12], torch.tensor([0.1, 0.2, 0.5]))


def test_noise_reports_labelled_points_only(sample: Sample) -> None:
    noise = KeypointNoiseConfig(jitter=0.0, outlier=0.0, drop_point=0.0, drop_limb=0.0, drop_hidden=0.0, swap=0.0)
    rows = np.arange(COUNT)
    clean = batch_of(sample, PeopleOptions(SIZE, images=False), None, rows).keypoints
    noisy = batch_of(sample, PeopleOptions(SIZE, images=False, noise=noise), None, rows).keypoints
    assert clean is not None and noisy is not None
    assert torch.equal(clean[..., 2] > 0, noisy[..., 2] > 0) and not noisy[::5].any()
    torch.testing.assert_close(clean[..., :2], noisy[..., :2], atol=1e-6, rtol=0)


def test_chosen_rows(sample: Sample, people: LabelledPeople) -> None:
    some = LabelledPeople(people.labels, sample.images, SIZE, rows=np.array([4, 9]))
    batch = some.__getitems__([1])
    assert len(some) == 2 and batch.targets is not None and batch.targets.item is not None
    assert batch.targets.item.tolist() == [9] and batch.item_seed == people[9].item_seed
    with pytest.raises(IndexError):
        some.__getitems__([2])
    with pytest.raises(IndexError):
        people.__getitems__([-1])


def test_a_bad_picture_is_named_with_its_row(sample: Sample, tmp_path: Path) -> None:
    labels = read_labels(sample.labels)
    with pytest.raises(UserError, match=r"train\.npz, row 3: cannot read the image .*0_001\.jpg: No such file"):
        LabelledPeople(labels, tmp_path, SIZE, name="train.npz").__getitems__([3])
    path = tmp_path / str(labels.imgname[0])
    path.parent.mkdir()
    path.write_bytes((sample.images / str(labels.imgname[0])).read_bytes()[:2000])
    with pytest.raises(UserError, match=r"labels, row 0: image is cut off: .*0_000\.jpg"):
        LabelledPeople(labels, tmp_path, SIZE).__getitems__([0])


def test_the_body_of_the_caller_stays_as_it_is(toy_body: BodyModel) -> None:
    before = copy.deepcopy(toy_body.v_template)
    assert exact_body(toy_body).v_template.dtype == torch.float64
    assert torch.equal(toy_body.v_template, before) and toy_body.v_template.dtype == torch.float32
