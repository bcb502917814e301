"""Lines lie where the joints are, in the right colours."""

from __future__ import annotations

import pytest
import torch

from diffhmr.body.joints import COCO17
from diffhmr.render.skeleton import COCO17_EDGES, LEFT, MIDDLE, RIGHT, draw_skeleton, edge_colours


def test_edges_join_neighbouring_joints_of_coco() -> None:
    names = {tuple(COCO17.joint_names[joint] for joint in edge) for edge in COCO17_EDGES}
    assert ("left_elbow", "left_wrist") in names and ("right_hip", "right_knee") in names
    assert {joint for edge in COCO17_EDGES for joint in edge} == set(range(17))
    colours = dict(zip(COCO17_EDGES, edge_colours(), strict=True))
    index = COCO17.joint_names.index
    assert colours[(index("left_knee"), index("left_ankle"))] == LEFT
    assert colours[(index("nose"), index("right_eye"))] == RIGHT
    assert colours[(index("left_hip"), index("right_hip"))] == MIDDLE


def test_a_horizontal_line_covers_its_pixels() -> None:
    image = torch.zeros(3, 9, 12)
    red = (1.0, 0.0, 0.0)
    joints = torch.tensor([[2.0, 4.0], [8.0, 4.0]])
    drawn = draw_skeleton(image, joints, edges=[(0, 1)], colours=[red], width=1.0)
    assert torch.equal(image, torch.zeros_like(image))
    assert torch.equal(drawn[0, 4, 2:9], torch.ones(7))
    assert float(drawn[0, 2].sum()) == 0 and float(drawn[0, 6].sum()) == 0
    assert float(drawn[1:].sum()) == 0
    # All the ink is the line's length plus round caps, times its width of one pixel.
    assert float(drawn[0].sum()) == pytest.approx(6 + torch.pi / 4, abs=0.35)


def test_width_opacity_and_unseen_joints() -> None:
    image = torch.ones(3, 20, 20)
    joints = torch.tensor([[10.0, 3.0], [10.0, 16.0], [3.0, 10.0]])
    black = [(0.0, 0.0, 0.0)] * 2
    seen = torch.tensor([True, True, False])
    thin = draw_skeleton(image, joints, seen=seen, edges=[(0, 1), (1, 2)], colours=black, width=1.0)
    thick = draw_skeleton(image, joints, seen=seen, edges=[(0, 1), (1, 2)], colours=black, width=3.0)
    assert 2.5 < float((1 - thick).sum() / (1 - thin).sum()) < 3.5
    assert float((1 - thin)[:, :, :8].sum()) == 0
    faint = draw_skeleton(image, joints, seen=seen, edges=[(0, 1), (1, 2)], colours=black, width=1.0, opacity=0.5)
    torch.testing.assert_close(1 - faint, 0.5 * (1 - thin))
    nothing = draw_skeleton(image, joints, seen=torch.zeros(3, dtype=torch.bool), edges=[(0, 1)], colours=black[:1])
    assert torch.equal(nothing, image)


def test_joints_outside_or_in_one_place_are_harmless() -> None:
    joints = torch.full((17, 2), 5.0)
    dot = draw_skeleton(torch.zeros(3, 11, 11), joints)
    assert bool(dot.isfinite().all()) and float(dot[:, 5, 5].max()) > 0.5
    far = draw_skeleton(torch.zeros(3, 11, 11), joints + 1000)
    assert float(far.sum()) == 0
