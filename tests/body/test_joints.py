"""Joint sets: sizes, known places, flips against the published permutations, selections by name."""

from __future__ import annotations

import pytest

from diffhmr.body.joints import (
    COCO17,
    COCO17_FROM_SPIN49,
    EXTRA_ROWS,
    H36M17,
    H36M17_LEFT_FIRST,
    H36M_ROWS,
    HALPE26,
    J14,
    J14_FROM_SPIN49,
    J14_H36M,
    J14_J19,
    J17,
    J17_H36M,
    J19_ROWS,
    JOINT_SETS,
    LSP14,
    LSP14_FROM_SPIN49,
    OPENPOSE25,
    PELVIS_SPIN49,
    SMPL24,
    SMPL_PARENTS,
    SPIN49,
    JointSet,
    joint_source,
    mirrored_name,
    select,
)

SMPL24_FLIP = (0, 2, 1, 3, 5, 4, 6, 8, 7, 9, 11, 10, 12, 14, 13, 15, 17, 16, 19, 18, 21, 20, 23, 22)
OPENPOSE25_FLIP = (0, 1, 5, 6, 7, 2, 3, 4, 8, 12, 13, 14, 9, 10, 11, 16, 15, 18, 17, 22, 23, 24, 19, 20, 21)
GT24_FLIP = (5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6, 12, 13, 14, 15, 16, 17, 18, 19, 21, 20, 23, 22)
H36M17_FLIP = (0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 11, 12, 13)

# Index of each joint among 45 SMPL-X style joints (24 tree joints, then surface points) and 9 extra rows.
SURFACE = (
    "nose right_eye left_eye right_ear left_ear left_big_toe left_small_toe left_heel right_big_toe right_small_toe "
    "right_heel"
)
SPIN54 = (*SMPL24.joint_names, *SURFACE.split(), *["fingertip"] * 10, *EXTRA_ROWS)
SPIN49_FROM_SPIN54 = (
    24, 12, 17, 19, 21, 16, 18, 20, 0, 2, 5, 8, 1, 4, 7, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34,
    8, 5, 45, 46, 4, 7, 21, 19, 17, 16, 18, 20, 47, 48, 49, 50, 51, 52, 53, 24, 26, 25, 28, 27,
)  # fmt: skip


@pytest.mark.parametrize("joint_set", JOINT_SETS.values(), ids=JOINT_SETS.keys())
def test_flip_is_an_involution_that_mirrors_names(joint_set: JointSet) -> None:
    assert sorted(joint_set.flip) == list(range(len(joint_set)))
    assert [joint_set.flip[i] for i in joint_set.flip] == list(range(len(joint_set)))
    for index, name in enumerate(joint_set.joint_names):
        assert joint_set.joint_names[joint_set.flip[index]] == mirrored_name(name)


@pytest.mark.parametrize("joint_set", JOINT_SETS.values(), ids=JOINT_SETS.keys())
def test_name_and_size_agree(joint_set: JointSet) -> None:
    digits = {"H36M17_LEFT_FIRST": 17, "J14_H36M": 14, "J17_H36M": 17, "J14_J19": 14}
    expected = digits.get(joint_set.name) or int("".join(c for c in joint_set.name[-2:] if c.isdigit()))
    assert len(joint_set) == expected
    assert JOINT_SETS[joint_set.name] is joint_set


def test_published_flips() -> None:
    assert SMPL24.flip == SMPL24_FLIP
    assert OPENPOSE25.flip == OPENPOSE25_FLIP
    assert SPIN49.flip == OPENPOSE25_FLIP + tuple(25 + i for i in GT24_FLIP)
    assert H36M17.flip == H36M17_FLIP


def test_spin49_is_the_published_selection() -> None:
    assert tuple(SPIN54[i] for i in SPIN49_FROM_SPIN54) == SPIN49.joint_names
    assert SPIN49.joint_names[PELVIS_SPIN49] == "pelvis_mpii"
    assert SPIN49.joint_names[:25] == OPENPOSE25.joint_names


@pytest.mark.parametrize(
    ("target", "indices"),
    [(COCO17, COCO17_FROM_SPIN49), (LSP14, LSP14_FROM_SPIN49), (J14, J14_FROM_SPIN49)],
    ids=["COCO17", "LSP14", "J14"],
)
def test_selections_of_spin49_name_the_same_points(target: JointSet, indices: tuple[int, ...]) -> None:
    assert tuple(SPIN49.joint_names[i] for i in indices) == target.joint_names
    assert tuple(SPIN49.joint_names[i] for i in select(SPIN49, target)) == target.joint_names


def test_coco_to_openpose_slots() -> None:
    assert COCO17_FROM_SPIN49 == (0, 16, 15, 18, 17, 5, 2, 6, 3, 7, 4, 12, 9, 13, 10, 14, 11)
    assert HALPE26.joint_names[:17] == COCO17.joint_names


def test_h36m_orders() -> None:
    assert H36M17_LEFT_FIRST.joint_names == H36M_ROWS
    assert H36M17_LEFT_FIRST.joint_names[1] == "left_hip_h36m17"
    assert select(H36M17_LEFT_FIRST, H36M17) == (0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
    assert H36M17.joint_names[1] == "right_hip_h36m17" and H36M17.joint_names[11] == "left_shoulder_h36m17"


def _part(name: str) -> str:
    for suffix in ("_h36m17", "_j19", "_lsp", "_mpii", "_h36m"):
        name = name.removesuffix(suffix)
    return {"nose": "jaw"}.get(name, name)


def test_sets_of_the_same_size_list_the_same_body_parts() -> None:
    for first, others in ((J14, (J14_H36M, J14_J19)), (J17, (J17_H36M,))):
        for other in others:
            assert [_part(name) for name in first.joint_names] == [_part(name) for name in other.joint_names]


def test_published_places_of_the_evaluation_joints() -> None:
    """SPIN's H36M_TO_J17 and J24_TO_J17, and ProHMR's selection of its 44 joints."""
    h36m = tuple(H36M_ROWS.index(name) for name in J17_H36M.joint_names)
    assert h36m == (6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10, 0, 7, 9)
    assert J14_H36M.joint_names == J17_H36M.joint_names[:14]
    assert J17.joint_names == tuple(SPIN49.joint_names[25 + slot] for slot in (*range(13), 18, 14, 16, 17))
    assert len(J19_ROWS) == 19 and [name.removesuffix("_j19") for name in J19_ROWS] == list(SPIN49.joint_names[25:44])
    assert [25 + J19_ROWS.index(name) for name in J14_J19.joint_names] == [*range(25, 38), 43]


def test_select_names_what_is_missing() -> None:
    with pytest.raises(ValueError, match=r"COCO17 lacks .*spine1.* of SMPL24"):
        select(COCO17, SMPL24)


def test_sources() -> None:
    assert joint_source("left_foot").kind == "smpl" and joint_source("left_foot").index == 10
    assert joint_source("head_top_lsp").kind == "extra" and joint_source("head_top_lsp").index == 3
    assert joint_source("right_hip_h36m17").kind == "h36m" and joint_source("right_hip_h36m17").index == 4
    assert joint_source("pelvis_mpii_j19").kind == "j19" and joint_source("pelvis_mpii_j19").index == 14
    assert joint_source("left_heel").kind == "landmark"


def test_tree() -> None:
    names = SMPL24.joint_names
    parent = {name: names[SMPL_PARENTS[i]] for i, name in enumerate(names) if i}
    assert parent["left_wrist"] == "left_elbow" and parent["right_ankle"] == "right_knee" and parent["head"] == "neck"
    assert all(p < i for i, p in enumerate(SMPL_PARENTS))
    # The tree is its own mirror image.
    for name in names[1:]:
        assert mirrored_name(parent[name]) == parent[mirrored_name(name)]
