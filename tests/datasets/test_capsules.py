from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from diffhmr.body.anatomy import _rx, _ry, rotations_from_angles
from diffhmr.body.base_poses import Angles, Posture
from diffhmr.body.joints import COCO17_FROM_SPIN49, SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.config import DataConfig
from diffhmr.datasets.capsules import hidden_by_body
from diffhmr.datasets.painting.scene import render_people
from diffhmr.datasets.people import People
from diffhmr.datasets.poses import posture_angles
from diffhmr.datasets.synthetic import SyntheticPeople

FACE = ["nose", "left_eye", "right_eye"]
BACK_VIEW = 180.0


def seen_from(body: BodyModel, heading: float, angles: Angles | None = None) -> dict[str, bool]:
    """Whether each joint of a person 5 m away is hidden: faced by the camera at heading 0, seen from the left at 90."""
    rotations = rotations_from_angles(posture_angles(Posture("", 1, angles or {}))[None])
    view = _rx(np.array([np.pi])) @ _ry(np.array([np.deg2rad(-heading)]))
    rotations[:, 0] = view @ rotations[:, 0]
    params = SmplParams.from_rotations(torch.from_numpy(rotations).float(), torch.zeros(1, 10))
    joints = body.joints(params, SPIN49) + torch.tensor([0.0, 0.0, 5.0])
    hidden: Tensor = hidden_by_body(joints)[0]
    return dict(zip(SPIN49.joint_names, hidden.tolist(), strict=True))


def test_from_the_front_nothing_is_hidden(free_body: BodyModel) -> None:
    hidden = seen_from(free_body, 0)
    coco = [SPIN49.joint_names[i] for i in COCO17_FROM_SPIN49]
    assert not any(hidden[name] for name in coco)


def test_from_behind_the_face_is_hidden(free_body: BodyModel) -> None:
    hidden = seen_from(free_body, BACK_VIEW)
    assert all(hidden[name] for name in FACE)
    assert not any(hidden[name] for name in ("left_shoulder", "right_shoulder", "left_knee", "right_ankle", "left_ear"))


@pytest.mark.parametrize(("heading", "near", "far"), [(90, "left", "right"), (-90, "right", "left")])
def test_from_the_side_the_far_side_is_hidden(free_body: BodyModel, heading: float, near: str, far: str) -> None:
    hidden = seen_from(free_body, heading)
    assert not hidden["nose"]
    for name in ("ear", "shoulder", "hip", "eye"):
        assert hidden[f"{far}_{name}"], name
        assert not hidden[f"{near}_{name}"], name


def test_hands_behind_the_back_are_hidden_from_the_front_only(free_body: BodyModel) -> None:
    behind: Angles = {"elevation": 28, "plane": -45, "axial": 90, "elbow": 85}
    assert seen_from(free_body, 0, behind)["left_wrist"]
    assert not seen_from(free_body, BACK_VIEW, behind)["left_wrist"]


def test_agrees_with_the_renderer(free_body: BodyModel) -> None:
    """Not exact, but a fair stand-in for the picture."""
    settings = DataConfig(images=False, occluder=0.0, truncation=0.0)
    people: People = SyntheticPeople(free_body, settings, "train").people(range(48))
    rendered = render_people(people, free_body, 96).visible
    guessed = ~hidden_by_body(people.joints3d + people.transl[:, None])
    inside = (people.joints2d.abs() <= 1).all(-1)
    coco = list(COCO17_FROM_SPIN49)
    agreement = (rendered == guessed)[:, coco][inside[:, coco]].float().mean()
    assert agreement > 0.85
