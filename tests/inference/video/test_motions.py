from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diffhmr.body.joints import HALPE26
from diffhmr.body.model import BodyModel
from diffhmr.checkpoint import LoadedModel, load_checkpoint
from diffhmr.errors import UserError
from diffhmr.geometry.camera import intrinsics
from diffhmr.geometry.rotation import axis_angle_to_matrix, geodesic_distance, random_rotations
from diffhmr.inference.annotations import keypoints_from_rows
from diffhmr.inference.people import PersonInput, box_from_keypoints
from diffhmr.inference.photo import Photo
from diffhmr.inference.predict import PredictOptions, sample_people, to_full_camera
from diffhmr.inference.tracks import Track
from diffhmr.inference.video.footage import Footage, open_footage
from diffhmr.inference.video.initial import bridged
from diffhmr.inference.video.motions import FilteredMotionModel, FrameMotionModel, track_span
from diffhmr.inference.video.placing import camera_of
from diffhmr.motion_filter import FilterOptions, filtered
from tests.inference.example_people import save_small_checkpoint, small_config
from tests.inference.video.scenes import FOCAL, SIZE, KnowingModel, film, knowing, walk

FOOTAGE = Footage(Path("walk.mp4"), "walk", SIZE, 25.0, 30)
CAMERA = camera_of(FOOTAGE, FOCAL)


@pytest.fixture(scope="module")
def keypoint_model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    path = tmp_path_factory.mktemp("model") / "keypoints.safetensors"
    return load_checkpoint(save_small_checkpoint(path, small_config()))


@pytest.fixture(scope="module")
def image_model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    path = tmp_path_factory.mktemp("model") / "image.safetensors"
    return load_checkpoint(save_small_checkpoint(path, small_config("image")))


def a_track(body: BodyModel, frames: list[int], track_id: int = 1) -> Track:
    points = walk(body, max(frames) + 1).halpe.double().numpy()[frames]
    return Track(track_id, np.array(frames), points, HALPE26.name)


def test_the_span_of_a_track(toy_body: BodyModel) -> None:
    frames, dense = track_span(a_track(toy_body, [4, 5, 9, 10]))
    assert frames.tolist() == [4, 5, 6, 7, 8, 9, 10]
    assert dense.present.tolist() == [True, True, False, False, False, True, True]
    assert (dense.points[2:5, :, 2] == 0).all() and len(dense.points) == 7


def test_what_a_model_of_clips_sees(toy_body: BodyModel) -> None:
    truth = walk(toy_body, 12)
    track = a_track(toy_body, [0, 1, 2, 3, 6, 7, 8, 9, 10, 11])
    source = knowing(truth.params, toy_body, PredictOptions(num_samples=3, seed=5))
    (motion,) = source.motions(FOOTAGE, [track], CAMERA)
    model = source.loaded.model
    assert isinstance(model, KnowingModel)
    batch = model.seen[0]
    assert batch.keypoints.shape == (1, 12, 17, 3) and batch.fps.tolist() == [25.0]
    assert (batch.keypoints[0, 4:6] == 0).all(), "frames without the person are unseen"
    # The pelvis is Halpe's own; from the middle of the picture in halves of the shorter side.
    pelvis = truth.halpe[0, HALPE26.joint_names.index("pelvis")]
    expected = torch.tensor([(pelvis[0] - 160) / 120, (pelvis[1] - 120) / 120, 0.9])
    assert torch.allclose(batch.keypoints[0, 0, 0], expected, atol=1e-5)
    assert motion.params.shape == (3, 12) and not motion.deterministic
    assert torch.equal(motion.params.rotations[0], truth.params.rotations)


@pytest.mark.parametrize(("absent", "kept"), [(32, True), (33, False)])
def test_gaps_longer_than_half_a_window_are_bridged(toy_body: BodyModel, absent: int, kept: bool) -> None:
    """The model's window has 64 frames. What it says of a long gap comes from nothing."""
    count = 20 + absent
    truth = walk(toy_body, count)
    track = a_track(toy_body, [*range(10), *range(10 + absent, count)])
    source = knowing(truth.params, toy_body, PredictOptions(num_samples=2))
    footage = replace(FOOTAGE, num_frames=count)
    (motion,) = source.motions(footage, [track], CAMERA)
    seen = [*range(10), *range(10 + absent, count)]
    rotations = motion.params.rotations[0]
    torch.testing.assert_close(rotations[seen], truth.params.rotations[seen])
    assert torch.equal(rotations, truth.params.rotations) == kept
    if not kept:
        angle = geodesic_distance(rotations[9:-10], rotations[10:-9])
        torch.testing.assert_close(angle, angle[:1].expand_as(angle), atol=2e-3, rtol=0)
    torch.testing.assert_close(motion.params.betas[0], truth.params.betas)


def test_a_person_keeps_its_seed_whoever_else_is_there(toy_body: BodyModel) -> None:
    truth = walk(toy_body, 12)
    source = knowing(truth.params, toy_body, PredictOptions(num_samples=1))
    tracks = [a_track(toy_body, list(range(12)), number) for number in (1, 2)]
    source.motions(FOOTAGE, tracks, CAMERA)
    source.motions(FOOTAGE, tracks[1:], CAMERA)
    model = source.loaded.model
    assert isinstance(model, KnowingModel)
    first, second, alone = (int(batch.item_seed) for batch in model.seen)
    assert second == alone != first


def test_frame_by_frame_is_photo_by_photo(free_body: BodyModel, keypoint_model: LoadedModel) -> None:
    options = PredictOptions(num_samples=2, seed=3)
    track = a_track(free_body, [0, 1, 2, 5])
    (motion,) = FrameMotionModel(keypoint_model, Path("small"), options).motions(FOOTAGE, [track], CAMERA)
    assert motion.params.shape == (2, 6)
    photo = Photo(Path("walk.mp4"), np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    shapes = []
    for row, frame in enumerate((0, 1, 2, 5)):
        points = track.coco17().points[row]
        keypoints = keypoints_from_rows(points[:, :2], points[:, 2])
        person = PersonInput(photo, 1, box_from_keypoints(keypoints), "test", keypoints)
        prediction = sample_people(keypoint_model, [person], options)
        params = prediction.params.map(lambda value: value[0])
        placed = to_full_camera(params, prediction.camera[0], person, intrinsics(FOCAL, *SIZE), free_body)
        assert torch.allclose(motion.params.rotations[:, frame], placed.rotations, atol=1e-4)
        shapes.append(params.betas)
    assert torch.allclose(motion.params.betas, torch.stack(shapes).mean(0)[:, None].expand(-1, 6, -1), atol=1e-5)
    between = geodesic_distance(motion.params.rotations[:, 3], motion.params.rotations[:, 2])
    whole = geodesic_distance(motion.params.rotations[:, 5], motion.params.rotations[:, 2])
    assert torch.allclose(between, whole / 3, atol=1e-3), "missing frames lie evenly between their neighbours"


def test_batches_and_other_people_change_nothing(free_body: BodyModel, keypoint_model: LoadedModel) -> None:
    tracks = [a_track(free_body, list(range(7)), number) for number in (1, 2)]
    many = FrameMotionModel(keypoint_model, Path("small"), PredictOptions(num_samples=2, max_batch=64))
    few = FrameMotionModel(keypoint_model, Path("small"), PredictOptions(num_samples=2, max_batch=3))
    both = many.motions(FOOTAGE, tracks, CAMERA)
    (alone,) = few.motions(FOOTAGE, tracks[1:], CAMERA)
    assert torch.allclose(both[1].params.rotations, alone.params.rotations, atol=1e-4)
    assert not torch.allclose(both[0].params.rotations[1], both[1].params.rotations[1], atol=1e-2)


def test_a_model_of_pictures_looks_at_the_crops_of_the_video(
    tmp_path: Path, free_body: BodyModel, image_model: LoadedModel
) -> None:
    truth = walk(free_body, 4)
    source = FrameMotionModel(image_model, Path("small"), PredictOptions(num_samples=1, guidance=0))
    assert source.needs_pictures
    track = a_track(free_body, [0, 1, 3])
    motions = []
    for drawn in (True, False):
        footage = open_footage(film(tmp_path / f"{drawn}.mp4", [truth], free_body, drawn)).counted(4)
        motions.append(source.motions(footage, [track], CAMERA)[0])
    assert motions[0].params.shape == (1, 4)
    assert not torch.allclose(motions[0].params.rotations, motions[1].params.rotations, atol=1e-4)
    with pytest.raises(UserError, match="needs --video"):
        source.motions(replace(FOOTAGE, path=None), [track], CAMERA)


def test_points_that_a_model_of_pictures_does_not_know(keypoint_model: LoadedModel, free_body: BodyModel) -> None:
    source = FrameMotionModel(keypoint_model, Path("small"), PredictOptions(num_samples=1))
    track = a_track(free_body, [0, 1, 3])
    feet = track.points.copy()
    feet[:, :20] = 0
    assert source.can_use(track) and not source.can_use(replace(track, points=feet))


def test_gaps_are_bridged_along_the_shortest_arcs() -> None:
    ends = random_rotations((2, 2, 24), torch.Generator().manual_seed(0))  # [S, N, J, 3, 3]
    whole = bridged(ends, torch.tensor([1, 5]), 8)
    assert torch.equal(whole[:, 0], ends[:, 0]) and torch.equal(whole[:, 1], ends[:, 0])
    assert torch.equal(whole[:, 5], ends[:, 1]) and torch.equal(whole[:, 7], ends[:, 1])
    step = geodesic_distance(whole[:, 1:5], whole[:, 2:6])
    assert torch.allclose(step, step[:, :1].expand_as(step), atol=2e-3)
    turned = axis_angle_to_matrix(torch.tensor([0.0, 0.0, 1.0])).expand(1, 1, 1, 3, 3)
    start = torch.eye(3).expand(1, 1, 1, 3, 3)
    middle = bridged(torch.cat([start, turned], dim=1), torch.tensor([0, 2]), 3)[0, 1, 0]
    assert torch.allclose(middle, axis_angle_to_matrix(torch.tensor([0.0, 0.0, 0.5])), atol=1e-6)


def test_a_filter_behind_a_model(free_body: BodyModel, keypoint_model: LoadedModel) -> None:
    raw = FrameMotionModel(keypoint_model, Path("model"), PredictOptions(num_samples=2, steps=3, guidance=0))
    smooth = FilteredMotionModel(raw, FilterOptions(0.5, 0.1))
    track = a_track(free_body, [2, 3, 4, 7, 8])  # with a gap
    footage = replace(FOOTAGE, fps=12.0)
    (before,), (after,) = (model.motions(footage, [track], CAMERA) for model in (raw, smooth))
    expected = filtered(before.params, 12.0, FilterOptions(0.5, 0.1))
    assert torch.equal(after.params.rotations, expected.rotations) and torch.equal(after.params.betas, expected.betas)
    assert (after.params.rotations - before.params.rotations).abs().max() > 0.01
    assert after.deterministic == before.deterministic
    assert smooth.about() == raw.about() | {"filter": {"one-euro": {"min_cutoff": 0.5, "beta": 0.1}}}
    assert smooth.body is raw.body and smooth.needs_pictures == raw.needs_pictures and smooth.can_use(track)


def test_output_that_is_not_finite(toy_body: BodyModel) -> None:
    truth = walk(toy_body, 5).params
    broken = replace(truth, betas=truth.betas * float("nan"))
    with pytest.raises(UserError, match="track 1: the model's output is not finite"):
        knowing(broken, toy_body, PredictOptions(num_samples=1)).motions(
            FOOTAGE, [a_track(toy_body, [0, 1, 2])], CAMERA
        )
