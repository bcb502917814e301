from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from diffhmr.body.joints import COCO17, SMPL24
from diffhmr.body.model import BodyModel
from diffhmr.checkpoint import LoadedModel, load_checkpoint
from diffhmr.errors import UserError
from diffhmr.geometry.camera import FOCAL_HALF_CROP, crop_translation, intrinsics, project
from diffhmr.inference import predict as predict_module
from diffhmr.inference.annotations import keypoints_from_rows
from diffhmr.inference.people import PersonInput
from diffhmr.inference.photo import Photo
from diffhmr.inference.predict import (
    KEYPOINT_CHECKPOINT,
    PredictOptions,
    choose_checkpoints,
    default_focal,
    predict,
    reprojection,
    spread_mm,
    to_full_camera,
)
from diffhmr.render.overlay import render_mesh
from tests.inference.example_people import perfect, save_small_checkpoint, small_config, striped_photo, true_body

PHOTO = Photo(Path("photo.png"), np.zeros((480, 640, 3), np.uint8))


@pytest.fixture(scope="module")
def keypoint_model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    path = tmp_path_factory.mktemp("model") / "keypoints.safetensors"
    return load_checkpoint(save_small_checkpoint(path, small_config()))


def some_people(count: int) -> list[PersonInput]:
    generator = np.random.default_rng(0)
    people = []
    for index in range(count):
        x, y, size = generator.uniform((50, 50, 100), (300, 200, 250))
        rows = generator.uniform((x, y), (x + size / 2, y + size), (17, 2))
        keypoints = keypoints_from_rows(rows, generator.uniform(0.2, 1, 17))
        people.append(PersonInput(PHOTO, index, (x, y, x + size / 2, y + size), "test", keypoints))
    return people


@pytest.mark.parametrize("seed", range(4))
def test_the_truth_lands_exactly_on_the_photo(free_body: BodyModel, seed: int) -> None:
    truth = true_body(free_body, PHOTO, focal=800, seed=seed)
    options = PredictOptions(num_samples=2, focal_px=800)
    (result,) = predict(perfect(free_body, [truth]), [truth.person], options, "perfect")
    joints = free_body.joints(truth.params, SMPL24)
    pixels = project(result.joints_smpl24[0], result.intrinsic) - project(joints, truth.intrinsic)
    assert torch.linalg.vector_norm(pixels, dim=-1).max() < 0.005 * truth.person.longer_side
    assert torch.linalg.vector_norm(result.joints_smpl24[0] - joints, dim=-1).max() < 0.04, "metres, at 4 m"
    assert result.metadata["reprojection"]["answer"]["share_of_box"] < 0.003

    meshes = torch.stack([result.vertices(free_body)[0], free_body(truth.params).vertices])
    _, alpha = render_mesh(meshes, free_body.faces, truth.intrinsic, (480, 640), torch.ones(3))
    mine, true = alpha > 0.5
    assert (mine & true).sum() / (mine | true).sum() > 0.97


def test_a_camera_like_the_networks_own_is_undone_exactly(free_body: BodyModel) -> None:
    truth = true_body(free_body, PHOTO, focal=900, seed=1)
    centre = ((PHOTO.width - 1) / 2, (PHOTO.height - 1) / 2)
    box = (centre[0] + 0.5 - 100, centre[1] + 0.5 - 100, centre[0] + 0.5 + 100, centre[1] + 0.5 + 100)
    person = PersonInput(PHOTO, 0, box, "middle")
    camera = torch.tensor([[0.9, 0.1, -0.2]])
    local = truth.crop_params.map(lambda value: value.unsqueeze(0))
    intrinsic = intrinsics(FOCAL_HALF_CROP * person.side / 2, PHOTO.width, PHOTO.height)
    params = to_full_camera(local, camera, person, intrinsic, free_body)
    expected = free_body.joints(local, SMPL24) + crop_translation(camera).unsqueeze(1)
    assert torch.allclose(free_body.joints(params, SMPL24), expected, atol=2e-3)


def test_a_camera_that_shows_nothing_still_gives_a_body_in_front(free_body: BodyModel) -> None:
    truth = true_body(free_body, PHOTO, focal=900, seed=1)
    local = truth.crop_params.map(lambda value: value.unsqueeze(0).expand(3, *value.shape))
    camera = torch.tensor([[-1.0, 0, 0], [0.0, 5, 5], [1e-9, 0, 0]])
    params = to_full_camera(local, camera, truth.person, truth.intrinsic, free_body)
    assert params.transl is not None and bool(params.transl.isfinite().all())
    assert (params.transl[:, 2] > 0).all()


def test_batched_equals_one_by_one(keypoint_model: LoadedModel) -> None:
    people = some_people(5)
    together = predict(keypoint_model, people, PredictOptions(num_samples=4, max_batch=3), "x")
    for person, result in zip(people, together, strict=True):
        (alone,) = predict(keypoint_model, [person], PredictOptions(num_samples=4), "x")
        assert torch.allclose(alone.joints_smpl24, result.joints_smpl24, atol=1e-5)
        assert torch.allclose(alone.params.betas, result.params.betas, atol=1e-5)
        assert alone.metadata["person"] == result.metadata["person"]


def test_more_samples_and_other_seeds(keypoint_model: LoadedModel) -> None:
    (person,) = some_people(1)
    (few,) = predict(keypoint_model, [person], PredictOptions(num_samples=3), "x")
    (many,) = predict(keypoint_model, [person], PredictOptions(num_samples=6), "x")
    (other,) = predict(keypoint_model, [person], PredictOptions(num_samples=3, seed=1), "x")
    assert torch.allclose(few.joints_smpl24, many.joints_smpl24[:3], atol=1e-5)
    assert torch.allclose(few.joints_smpl24[0], other.joints_smpl24[0], atol=1e-5), "the single answer has no noise"
    assert not torch.allclose(few.joints_smpl24[1:], other.joints_smpl24[1:], atol=1e-2)
    assert few.metadata["sampling"]["steps"] == 2
    (longer,) = predict(keypoint_model, [person], PredictOptions(num_samples=3, steps=5), "x")
    assert longer.metadata["sampling"]["steps"] == 5
    assert not torch.allclose(few.joints_smpl24, longer.joints_smpl24, atol=1e-5)


def test_an_image_model_needs_no_keypoints(tmp_path: Path) -> None:
    loaded = load_checkpoint(save_small_checkpoint(tmp_path / "image.safetensors", small_config("image")))
    person = PersonInput(striped_photo(tmp_path / "a.png"), 0, (10, 10, 60, 110), "test")
    (result,) = predict(loaded, [person], PredictOptions(num_samples=2), tmp_path / "image.safetensors")
    assert len(result) == 2 and result.metadata["reprojection"] is None and result.keypoints is None
    assert result.metadata["checkpoint"]["input"] == "image"


def test_a_keypoint_model_needs_keypoints(keypoint_model: LoadedModel) -> None:
    person = dataclasses.replace(some_people(1)[0], keypoints=None)
    with pytest.raises(UserError, match="needs COCO keypoints"):
        predict(keypoint_model, [person], PredictOptions(), "x")


def test_output_that_is_not_finite_is_an_error(free_body: BodyModel) -> None:
    truth = true_body(free_body, PHOTO, focal=800, seed=0)
    broken = dataclasses.replace(truth, crop_camera=torch.full((3,), float("nan")))
    with pytest.raises(UserError, match="not finite"):
        predict(perfect(free_body, [broken]), [truth.person], PredictOptions(), "x")


def test_the_camera_is_given_or_the_diagonal(keypoint_model: LoadedModel) -> None:
    assert default_focal(640, 480) == 800
    (person,) = some_people(1)
    (default,) = predict(keypoint_model, [person], PredictOptions(num_samples=1), "x")
    (given,) = predict(keypoint_model, [person], PredictOptions(num_samples=1, focal_px=1600), "x")
    assert default.intrinsic.tolist() == [[800, 0, 319.5], [0, 800, 239.5], [0, 0, 1]]
    assert default.metadata["camera"]["focal_source"].startswith("default")
    assert given.metadata["camera"] == {
        "focal_px": 1600,
        "focal_source": "given",
        "K": [[1600, 0, 319.5], [0, 1600, 239.5], [0, 0, 1]],
    }
    assert default.params.transl is not None and given.params.transl is not None
    ratio = float(given.params.transl[0, 2] / default.params.transl[0, 2])
    assert ratio == pytest.approx(2, rel=0.1), "the same picture from twice as far"


def test_options_out_of_range() -> None:
    for changes, name in (
        ({"num_samples": 0}, "--num-samples"),
        ({"steps": 0}, "--steps"),
        ({"seed": -1}, "--seed"),
        ({"num_samples": 10**20}, "--num-samples"),
        ({"focal_px": 1e20}, "--focal-px"),
        ({"focal_px": 0.0}, "--focal-px"),
        ({"focal_px": float("nan")}, "--focal-px"),
        ({"guidance": -1.0}, "--guidance"),
        ({"guidance": float("inf")}, "--guidance"),
        ({"max_batch": 0}, "max_batch"),
    ):
        with pytest.raises(UserError, match=name):
            PredictOptions(**changes)


def test_the_default_checkpoint_follows_the_input_of_each_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    people = some_people(2)
    assert choose_checkpoints(people) == {KEYPOINT_CHECKPOINT: people}
    mixed = [people[0], dataclasses.replace(people[1], keypoints=None)]
    image_model = tmp_path / "image.safetensors"
    monkeypatch.setattr(predict_module, "IMAGE_CHECKPOINT", image_model)
    with pytest.raises(UserError, match="person 1 has no keypoints, and there is no image model"):
        choose_checkpoints(mixed)
    image_model.touch()
    assert choose_checkpoints(mixed) == {KEYPOINT_CHECKPOINT: mixed[:1], image_model: mixed[1:]}
    assert "of person 1 there are no keypoints: the image model is used" in caplog.text
    caplog.clear()
    assert choose_checkpoints(mixed[1:]) == {image_model: mixed[1:]} and not caplog.text


def test_guidance_pulls_the_hypotheses_to_the_keypoints(keypoint_model: LoadedModel) -> None:
    people = some_people(2)
    errors = []
    for guidance in (0.0, 1.0):
        options = PredictOptions(num_samples=5, guidance=guidance)
        results = predict(keypoint_model, people, options, "x")
        assert all(result.metadata["guidance"] == guidance for result in results)
        errors.append([result.metadata["reprojection"]["samples"]["mean"]["share_of_box"] for result in results])
    assert all(guided < 0.9 * free for free, guided in zip(*errors, strict=True))


def test_guidance_needs_no_keypoints(tmp_path: Path) -> None:
    path = save_small_checkpoint(tmp_path / "image.safetensors", small_config("image"))
    loaded = load_checkpoint(path)
    with_points, without = some_people(1)[0], dataclasses.replace(some_people(1)[0], keypoints=None)
    (plain,) = predict(loaded, [without], PredictOptions(num_samples=2, guidance=1.0), "x")
    (free,) = predict(loaded, [with_points], PredictOptions(num_samples=2, guidance=0.0), "x")
    (guided,) = predict(loaded, [with_points], PredictOptions(num_samples=2, guidance=1.0), "x")
    assert [result.metadata["guidance"] for result in (plain, free, guided)] == [0.0, 0.0, 1.0]
    assert torch.equal(plain.params.body_pose, free.params.body_pose)
    assert not torch.allclose(guided.params.body_pose, free.params.body_pose, atol=1e-4)


def test_spread_is_the_mean_distance_from_the_mean_of_the_samples() -> None:
    points = torch.zeros(4, 2, 3)
    points[0] = 100.0  # the single answer is no sample
    points[1:, 1, 2] = torch.tensor([-0.3, 0.0, 0.3])
    root = torch.zeros(4, 3)
    assert spread_mm(points, root, False).tolist() == pytest.approx([0, 200])
    moving = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    shifted = spread_mm(points + moving.unsqueeze(1), root + moving, False)
    assert shifted.tolist() == pytest.approx([0, 200], abs=1e-3), "relative to the root"
    assert spread_mm(points, root, True).tolist() == [0, 0]
    assert spread_mm(points[:2], root[:2], False).tolist() == [0, 0]


def test_reprojection_counts_labelled_points_only() -> None:
    keypoints = torch.zeros(17, 4)
    keypoints[3] = torch.tensor([10.0, 20, 1, 1])
    keypoints[5] = torch.tensor([30.0, 20, 0, 1])
    pixels = torch.full((3, 17, 2), 1000.0)
    pixels[:, 3], pixels[:, 5] = torch.tensor([10.0, 24]), torch.tensor([30.0, 20])
    pixels[1, 5, 0] += 6
    assert reprojection(pixels, keypoints, 100) == {
        "points": 2,
        "box_longer_side_px": 100,
        "answer": {"pixels": 2, "share_of_box": 0.02},
        "samples": {"mean": {"pixels": 3.5, "share_of_box": 0.035}, "best": {"pixels": 2, "share_of_box": 0.02}},
    }
    assert reprojection(pixels[:1], keypoints, 100)["samples"] is None


def test_pixels_of_the_result_are_those_of_its_joints(keypoint_model: LoadedModel) -> None:
    (person,) = some_people(1)
    (result,) = predict(keypoint_model, [person], PredictOptions(num_samples=2), "x")
    assert torch.allclose(keypoint_model.body.joints(result.params, COCO17), result.joints_coco17, atol=1e-5)
    assert result.joint_spread_mm.shape == (24,) and result.joint_spread_mm[0] == 0, "the pelvis is the root"
