from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch

from diffhmr.body.anatomy import rotations_from_angles
from diffhmr.body.base_poses import Posture
from diffhmr.body.files import FREE_BODY
from diffhmr.body.joints import COCO17_FROM_SPIN49, SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.config import DataConfig
from diffhmr.datasets.people import BOX_MARGIN, People, covered, inside_border, sample_people
from diffhmr.datasets.poses import posture_angles, sample_poses
from diffhmr.geometry.camera import project_crop
from diffhmr.geometry.rotation import geodesic_distance
from diffhmr.random import Floats, Seeds, item_seeds

SEEDS = item_seeds(0, "train", np.arange(1500))
WHOLE = DataConfig(truncation=0.0, occluder=0.0)
COCO = list(COCO17_FROM_SPIN49)
NOSE, HEAD_TOP, PELVIS, LEFT_SHOULDER, RIGHT_SHOULDER = (
    SPIN49.joint_names.index(name) for name in ("nose", "head_top_lsp", "pelvis", "left_shoulder", "right_shoulder")
)


@pytest.fixture(scope="module")
def exact_body() -> BodyModel:
    return BodyModel.load(FREE_BODY).double()


@pytest.fixture(scope="module")
def people(exact_body: BodyModel) -> People:
    return sample_people(exact_body, SEEDS, DataConfig())


def standing(seeds: Seeds) -> Floats:
    """Everybody stands at ease."""
    return np.repeat(rotations_from_angles(posture_angles(Posture("", 1, {}))[None]), len(seeds), axis=0)


def test_shapes_and_types(people: People) -> None:
    size = len(SEEDS)
    shapes = {
        "transl": (size, 3),
        "focal": (size,),
        "camera": (size, 3),
        "joints3d": (size, 49, 3),
        "joints2d": (size, 49, 2),
        "occluders": (size, 2, 6),
        "item_seed": (size,),
        "truncated": (size,),
        "border": (size, 4),
    }
    for name, shape in shapes.items():
        assert tuple(getattr(people, name).shape) == shape
    assert people.params.transl is None and tuple(people.params.shape) == (size,)
    assert people.joints2d.dtype == people.camera.dtype == people.params.betas.dtype == torch.float32
    assert people.item_seed.tolist() == SEEDS.tolist()


def test_projection_is_consistent(people: People, free_body: BodyModel) -> None:
    joints = free_body.joints(people.params, SPIN49)
    torch.testing.assert_close(joints, people.joints3d, atol=1e-5, rtol=0)
    points = people.joints3d + people.transl[:, None]
    assert points[..., 2].min() > 0.5
    projected = people.focal[:, None, None] * points[..., :2] / points[..., 2:]
    torch.testing.assert_close(projected, people.joints2d, atol=1e-4, rtol=1e-4)


def test_the_camera_is_the_best_weak_perspective_fit(people: People) -> None:
    def error(camera: torch.Tensor) -> torch.Tensor:
        return (project_crop(people.joints3d, camera) - people.joints2d).square().mean((1, 2))

    best = error(people.camera)
    assert best.sqrt().median() < 0.03
    for change in ([1e-2, 0, 0], [-1e-2, 0, 0], [0, 1e-2, 0], [0, 0, -1e-2]):
        assert (error(people.camera + torch.tensor(change)) > best).float().mean() > 0.99


def test_an_upright_person_is_upright_in_every_view(exact_body: BodyModel) -> None:
    people = sample_people(exact_body, SEEDS, WHOLE, standing)
    up = people.joints2d[:, PELVIS] - people.joints2d[:, HEAD_TOP]
    assert (up[:, 1] > 0).float().mean() > 0.99
    assert (up[:, 1] > 0.9 * up.norm(dim=-1)).float().mean() > 0.9


def test_headings_are_uniform_and_facing_means_left_is_right(exact_body: BodyModel) -> None:
    people = sample_people(exact_body, SEEDS, WHOLE, standing)
    forward = people.params.global_orient[:, :, 2]
    heading = torch.atan2(forward[:, 0], -forward[:, 2])
    counts = torch.histc(heading, 8, -np.pi, np.pi)
    assert (counts - len(SEEDS) / 8).abs().max() < 6 * np.sqrt(len(SEEDS) / 8)
    facing = heading.abs() < 0.5
    side = people.joints2d[:, LEFT_SHOULDER, 0] - people.joints2d[:, RIGHT_SHOULDER, 0]
    assert (side[facing] > 0).all() and (side[heading.abs() > np.pi - 0.5] < 0).all()
    depth = people.joints3d[:, NOSE, 2] - people.joints3d[:, PELVIS, 2]
    assert depth[facing].mean() < depth[~facing].mean() - 0.05
    # Mostly from slightly above: the camera's pitch tips the body's axis towards it.
    pitch = torch.rad2deg(torch.asin(-people.params.global_orient[:, 2, 1]))
    assert 2 < pitch.median() < 12
    assert (pitch > 35).float().mean() > 0.01 and (pitch < -15).float().mean() > 0.005


def test_boxes_fit_like_those_of_the_protocols(exact_body: BodyModel) -> None:
    people = sample_people(exact_body, SEEDS, WHOLE)
    inside = inside_border(people.joints2d, people.border)
    assert inside.float().mean() > 0.97
    low, high = people.joints2d[:, COCO].amin(1), people.joints2d[:, COCO].amax(1)
    longer = (high - low).amax(-1)
    # COCO points span a little less than the person, which spans 2 / margin.
    assert 0.78 * 2 / BOX_MARGIN < longer.median() < 2 / BOX_MARGIN
    assert ((high + low) / 2).abs().median() < 0.1
    assert (longer.max() - longer.min()) > 0.8


def test_truncation_cuts_its_share_of_people(exact_body: BodyModel, people: People) -> None:
    all_cut = sample_people(exact_body, SEEDS, DataConfig(truncation=1.0))
    none_cut = sample_people(exact_body, SEEDS, DataConfig(truncation=0.0))
    assert all_cut.truncated.float().mean() > 0.8
    assert none_cut.truncated.float().mean() < 0.12
    assert 0.1 < people.truncated.float().mean() < 0.35
    outside = ~inside_border(all_cut.joints2d[:, COCO], all_cut.border)
    torch.testing.assert_close(all_cut.truncated, outside.any(1))
    assert (outside[:, -2:].float().mean() > 0.4) and (outside[:, :5].float().mean() < 0.25)
    assert ((~outside).sum(1) >= 3).float().mean() > 0.97
    narrowed = (all_cut.border != torch.tensor([-1.0, -1, 1, 1])).any(1).float().mean()
    assert 0.3 < narrowed < 0.7
    assert (none_cut.border == torch.tensor([-1.0, -1, 1, 1])).all()


def test_occluders_follow_their_share(exact_body: BodyModel) -> None:
    present = sample_people(exact_body, SEEDS, DataConfig(occluder=0.5)).occluders[..., 5] > 0
    assert abs(present[:, 0].float().mean() - 0.5) < 0.06
    assert 0.1 < present[:, 1].float().mean() < 0.3
    none = sample_people(exact_body, SEEDS, WHOLE)
    assert (none.occluders == 0).all()
    every = sample_people(exact_body, SEEDS, DataConfig(occluder=1.0, truncation=0.0))
    hit = covered(every.joints2d[:, COCO], every.occluders)
    assert hit.any(1).float().mean() > 0.8 and hit.float().mean() < 0.5


def test_people_do_not_depend_on_the_batch(exact_body: BodyModel, people: People) -> None:
    chosen = [3, 1002, 77]
    part = sample_people(exact_body, SEEDS[chosen], DataConfig())
    alone = sample_people(exact_body, SEEDS[77:78], DataConfig())
    for field in fields(People):
        if field.name != "params":
            whole = getattr(people, field.name)
            assert torch.equal(getattr(part, field.name), whole[chosen]), field.name
            assert torch.equal(getattr(alone, field.name)[0], whole[77]), field.name
    assert torch.equal(part.params.rotations, people.params.rotations[chosen])


def test_views_leave_the_body_pose_alone(people: People) -> None:
    expected = torch.from_numpy(sample_poses(SEEDS)).float()
    assert torch.equal(people.params.body_pose, expected[:, 1:])
    assert geodesic_distance(people.params.global_orient, expected[:, 0]).mean() > 1


def test_covered_by_a_turned_rectangle_and_an_ellipse() -> None:
    nothing = [0.0] * 6
    rectangle = [0.2, 0.0, 0.5, 0.1, np.pi / 2, 1.0]
    ellipse = [0.0, 0.0, 0.6, 0.2, 0.0, 2.0]
    points = torch.tensor([[[0.2, 0.45], [0.65, 0.0], [0.55, 0.0], [0.5, 0.19], [0.2, -0.55]]])
    expected = {
        "rectangle": [True, False, False, False, False],
        "ellipse": [False, False, True, False, False],
    }
    assert covered(points, torch.tensor([[rectangle, nothing]])).tolist() == [expected["rectangle"]]
    assert covered(points, torch.tensor([[nothing, ellipse]])).tolist() == [expected["ellipse"]]
    both = [a or b for a, b in zip(*expected.values(), strict=True)]
    assert covered(points, torch.tensor([[rectangle, ellipse]])).tolist() == [both]
