"""The rule for visible joints on hand-made surfaces."""

from __future__ import annotations

import pytest
import torch

from diffhmr.body.joints import SMPL24, SPIN49, joint_source, mirrored_name
from diffhmr.datasets.painting.visibility import (
    INCIDENT_TOLERANCE,
    INNER_TOLERANCE,
    SURFACE_TOLERANCE,
    JointVisibility,
    incident_bones,
)


def look_up(bone: str | None, before: float) -> dict[str, bool]:
    """Visibility of all joints at depth 3 when a surface of ``bone`` lies ``before`` metres in front of each."""
    part = torch.full((1, 8, 8), -1 if bone is None else SMPL24.joint_names.index(bone), dtype=torch.int16)
    depth = torch.full((1, 8, 8), 3 - before) if bone else torch.full((1, 8, 8), torch.inf)
    joints = torch.zeros(1, 49, 2)
    visible = JointVisibility(torch.device("cpu")).seen_by_person(joints, torch.full((1, 49), 3.0), part, depth)
    return dict(zip(SPIN49.joint_names, visible[0].tolist(), strict=True))


def test_every_joint_has_bones_or_is_a_point_of_the_surface() -> None:
    for joint in SPIN49.joint_names:
        bones = incident_bones(joint)
        assert set(bones) <= set(SMPL24.joint_names)
        assert bool(bones) != (joint_source(joint).kind == "landmark")
        assert {mirrored_name(bone) for bone in bones} == set(incident_bones(mirrored_name(joint)))
    with pytest.raises(ValueError, match="no bones are known"):
        incident_bones("head_h36m17")


def test_bones_that_meet_at_the_joint_do_not_hide_it() -> None:
    seen = look_up("left_shoulder", 0.15)
    assert seen["left_elbow"] and seen["left_shoulder"]
    assert not seen["right_elbow"] and not seen["left_wrist"] and not seen["pelvis"] and not seen["left_eye"]
    far = look_up("left_shoulder", INCIDENT_TOLERANCE + 0.01)
    assert not any(far.values())


def test_thin_layers_hide_nothing() -> None:
    assert all(look_up("left_wrist", min(INNER_TOLERANCE, SURFACE_TOLERANCE) - 0.005).values())
    layer = look_up("left_wrist", (INNER_TOLERANCE + SURFACE_TOLERANCE) / 2)
    assert layer["pelvis"] and layer["right_knee"] and not layer["nose"] and not layer["left_heel"]


def test_nothing_in_front_and_surfaces_behind_hide_nothing() -> None:
    assert all(look_up(None, 0).values())
    assert all(look_up("spine3", -0.4).values())


def test_each_joint_looks_at_its_own_pixel() -> None:
    part = torch.full((1, 2, 2), -1, dtype=torch.int16)
    depth = torch.full((1, 2, 2), torch.inf)
    part[0, 0, 1], depth[0, 0, 1] = SMPL24.joint_names.index("left_hand"), 1.0
    joints = torch.tensor([-0.5, 0.5]).repeat(1, 49, 1)
    joints[0, 0] = torch.tensor([0.5, -0.5])
    joints[0, 1] = torch.tensor([7.0, -7.0])
    visible = JointVisibility(torch.device("cpu")).seen_by_person(joints, torch.full((1, 49), 3.0), part, depth)
    assert visible[0].tolist() == [False, False] + [True] * 47
