"""Joint sets by name, and how each joint is obtained from a body.

A joint name means one point on the body, whatever the set it appears in: ``left_hip`` is SMPL's joint,
``left_hip_lsp`` the hip of the LSP annotators, ``left_hip_h36m17`` the row of the Human3.6M regressor. Sets that share
a name share the point, and selections between sets go by name.

The order of the sets follows the projects that defined them: SMPL (Loper et al. 2015), OpenPose BODY_25, COCO, SPIN's
49 supervision joints (Kolotouros et al., ICCV 2019), Halpe-26 of AlphaPose, and the 17 joints of Human3.6M.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SMPL_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
"""Parent of each of SMPL's 24 joints; every parent comes before its children."""

_SMPL = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip

_OPENPOSE = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye",
    "left_eye", "right_ear", "left_ear", "left_big_toe", "left_small_toe", "left_heel", "right_big_toe",
    "right_small_toe", "right_heel",
)  # fmt: skip

_LSP = (
    "right_ankle", "right_knee", "right_hip_lsp", "left_hip_lsp", "left_knee", "left_ankle", "right_wrist",
    "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck_lsp", "head_top_lsp",
)  # fmt: skip

_GT24 = (
    *_LSP, "pelvis_mpii", "thorax_mpii", "spine_h36m", "jaw_h36m", "head_h36m", "nose", "left_eye", "right_eye",
    "left_ear", "right_ear",
)  # fmt: skip

_COCO = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip

_HALPE = (
    *_COCO, "head_top_lsp", "neck", "pelvis", "left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe",
    "left_heel", "right_heel",
)  # fmt: skip

EXTRA_ROWS = (
    "right_hip_lsp", "left_hip_lsp", "neck_lsp", "head_top_lsp", "pelvis_mpii", "thorax_mpii", "spine_h36m",
    "jaw_h36m", "head_h36m",
)  # fmt: skip
"""Joints of the rows of ``J_regressor_extra.npy`` (9, V)."""

H36M_ROWS = (
    "pelvis_h36m17", "left_hip_h36m17", "left_knee_h36m17", "left_ankle_h36m17", "right_hip_h36m17",
    "right_knee_h36m17", "right_ankle_h36m17", "spine_h36m17", "neck_h36m17", "nose_h36m17", "head_h36m17",
    "left_shoulder_h36m17", "left_elbow_h36m17", "left_wrist_h36m17", "right_shoulder_h36m17", "right_elbow_h36m17",
    "right_wrist_h36m17",
)  # fmt: skip
"""Joints of the rows of ``J_regressor_h36m.npy`` (17, V): the LEFT leg comes first in that file."""

J19_ROWS = tuple(f"{name}_j19" for name in _GT24[:19])
"""Joints of the rows of ``SMPL_to_J19.pkl`` (19, V), the regressor of ProHMR and HMR 2.0: the first 19 of the 24."""

_H36M = tuple(H36M_ROWS[row] for row in (0, 4, 5, 6, 1, 2, 3, *range(7, 17)))
_J17_H36M = tuple(H36M_ROWS[row] for row in (6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10, 0, 7, 9))


EXTRA_REGRESSOR = "J_regressor_extra"
H36M_REGRESSOR = "J_regressor_h36m"
J19_REGRESSOR = "SMPL_to_J19"
REGRESSOR_FILES = {
    EXTRA_REGRESSOR: "J_regressor_extra.npy",
    H36M_REGRESSOR: "J_regressor_h36m.npy",
    J19_REGRESSOR: "SMPL_to_J19.pkl",
}
"""Names of the files of regressors that a body file does not hold."""


@dataclass(frozen=True)
class JointSource:
    """Where a joint comes from.

    ``smpl``: joint ``index`` of the kinematic tree; ``landmark``: the surface vertex named ``name``; ``extra``,
    ``h36m`` and ``j19``: row ``index`` of ``J_regressor_extra.npy``, ``J_regressor_h36m.npy`` or ``SMPL_to_J19.pkl``.
    """

    kind: Literal["smpl", "landmark", "extra", "h36m", "j19"]
    name: str
    index: int = 0


@dataclass(frozen=True)
class JointSet:
    """An ordered list of joints.

    Attributes:
        name: of the set, as in results and protocols.
        joint_names: one per joint. A name can occur twice (SPIN's 49 repeat some), and then is the same point twice.
        flip: ``mirrored[i] = joints[flip[i]]`` gives the joints of the mirrored person in the order of the set.
    """

    name: str
    joint_names: tuple[str, ...]
    flip: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.joint_names)


def mirrored_name(name: str) -> str:
    """``left_hip`` for ``right_hip`` and the other way round; names without a side stay."""
    if name.startswith("left_"):
        return name.replace("left_", "right_", 1)
    return name.replace("right_", "left_", 1) if name.startswith("right_") else name


def joint_source(name: str) -> JointSource:
    """How to obtain the joint ``name`` from a body."""
    if name in _SMPL:
        return JointSource("smpl", name, _SMPL.index(name))
    if name in EXTRA_ROWS:
        return JointSource("extra", name, EXTRA_ROWS.index(name))
    if name in H36M_ROWS:
        return JointSource("h36m", name, H36M_ROWS.index(name))
    if name in J19_ROWS:
        return JointSource("j19", name, J19_ROWS.index(name))
    return JointSource("landmark", name)


def select(source: JointSet, target: JointSet) -> tuple[int, ...]:
    """Indices into ``source`` that give the joints of ``target`` in its order.

    Raises:
        ValueError: ``source`` lacks a joint of ``target``.
    """
    missing = [name for name in target.joint_names if name not in source.joint_names]
    if missing:
        raise ValueError(f"{source.name} lacks {', '.join(missing)} of {target.name}")
    return tuple(source.joint_names.index(name) for name in target.joint_names)


def extended(joint_set: JointSet | None, names: tuple[str, ...]) -> JointSet:
    """``joint_set`` (None: an empty one) with the joints ``names`` at its end; both sides of a pair or none."""
    first = () if joint_set is None else joint_set.joint_names
    label = " and ".join(filter(None, ["" if joint_set is None else joint_set.name, ", ".join(names)]))
    return _joint_set(label, (*first, *names))


def _joint_set(name: str, joint_names: tuple[str, ...]) -> JointSet:
    """A set with the flip that its names imply: the k-th place of a name goes with the k-th of its mirror image."""
    places: dict[str, list[int]] = {}
    for index, joint in enumerate(joint_names):
        places.setdefault(joint, []).append(index)
    flip = [places[mirrored_name(joint)][places[joint].index(index)] for index, joint in enumerate(joint_names)]
    return JointSet(name, joint_names, tuple(flip))


SMPL24 = _joint_set("SMPL24", _SMPL)
OPENPOSE25 = _joint_set("OPENPOSE25", _OPENPOSE)
SPIN49 = _joint_set("SPIN49", (*_OPENPOSE, *_GT24))
COCO17 = _joint_set("COCO17", _COCO)
HALPE26 = _joint_set("HALPE26", _HALPE)
LSP14 = _joint_set("LSP14", _LSP)
J14 = _joint_set("J14", (*_LSP[:13], "head_h36m"))
H36M17 = _joint_set("H36M17", _H36M)
H36M17_LEFT_FIRST = _joint_set("H36M17_LEFT_FIRST", H36M_ROWS)
J17 = _joint_set("J17", (*_LSP[:13], "head_h36m", "pelvis_mpii", "spine_h36m", "jaw_h36m"))
J14_H36M = _joint_set("J14_H36M", _J17_H36M[:14])
"""The joints of SPIN's 3DPW and Human3.6M evaluation: rows of ``J_regressor_h36m.npy`` in the order of J14."""
J17_H36M = _joint_set("J17_H36M", _J17_H36M)
"""Those of SPIN's MPI-INF-3DHP evaluation, in the order of J17."""
J14_J19 = _joint_set("J14_J19", (*J19_ROWS[:13], J19_ROWS[18]))
"""The joints of ProHMR's evaluation: rows of ``SMPL_to_J19.pkl`` in the order of J14."""

JOINT_SETS = {
    joint_set.name: joint_set
    for joint_set in (
        SMPL24, OPENPOSE25, SPIN49, COCO17, HALPE26, LSP14, J14, H36M17, H36M17_LEFT_FIRST, J17, J14_H36M,
        J17_H36M, J14_J19,
    )
}  # fmt: skip

COCO17_FROM_SPIN49 = select(SPIN49, COCO17)
LSP14_FROM_SPIN49 = tuple(range(25, 39))
J14_FROM_SPIN49 = (*range(25, 38), 25 + 18)
PELVIS_SPIN49 = 25 + 14
"""The MPII pelvis, the root of SPIN's and ProHMR's joint errors."""
