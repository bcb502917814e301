"""A tiny procedural body in SMPL's format: one box per joint, 192 vertices, with everything a real body file has."""

from __future__ import annotations

import numpy as np

from diffhmr.body.joints import EXTRA_ROWS, H36M_ROWS, J19_ROWS, SMPL24, SMPL_PARENTS

JOINTS = np.array(
    [
        [0, 0, 0], [0.1, -0.1, 0], [-0.1, -0.1, 0], [0, 0.1, 0], [0.1, -0.5, 0], [-0.1, -0.5, 0], [0, 0.25, 0],
        [0.1, -0.9, 0], [-0.1, -0.9, 0], [0, 0.35, 0], [0.1, -0.95, 0.1], [-0.1, -0.95, 0.1], [0, 0.5, 0],
        [0.08, 0.45, 0], [-0.08, 0.45, 0], [0, 0.6, 0], [0.2, 0.45, 0], [-0.2, 0.45, 0], [0.45, 0.45, 0],
        [-0.45, 0.45, 0], [0.7, 0.45, 0], [-0.7, 0.45, 0], [0.8, 0.45, 0], [-0.8, 0.45, 0],
    ]
)  # fmt: skip

_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
_BOX_FACES = np.array(
    [
        [0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1],
        [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3],
    ]
)  # fmt: skip

# Joint whose box carries the point, corner of the box.
_LANDMARKS = {
    "nose": (15, 1), "left_eye": (15, 7), "right_eye": (15, 3), "left_ear": (15, 6), "right_ear": (15, 2),
    "head_top": (15, 3), "left_big_toe": (10, 1), "left_small_toe": (10, 5), "left_heel": (7, 0),
    "right_big_toe": (11, 5), "right_small_toe": (11, 1), "right_heel": (8, 0),
    "left_thumb_tip": (22, 5), "left_index_tip": (22, 7), "left_middle_tip": (22, 6), "left_ring_tip": (22, 4),
    "left_pinky_tip": (22, 4), "right_thumb_tip": (23, 1), "right_index_tip": (23, 3), "right_middle_tip": (23, 2),
    "right_ring_tip": (23, 0), "right_pinky_tip": (23, 0),
}  # fmt: skip

_EXTRA_JOINTS = (2, 1, 12, 15, 0, 12, 6, 15, 15)
_H36M_JOINTS = (0, 1, 4, 7, 2, 5, 8, 6, 12, 15, 15, 16, 18, 20, 17, 19, 21)
_J19_JOINTS = (8, 5, 2, 1, 4, 7, 21, 19, 17, 16, 18, 20, 12, 15, 0, 12, 6, 15, 15)


def _box_regressor(joints: tuple[int, ...], size: int, generator: np.random.Generator) -> np.ndarray:
    """Rows that average, with uneven weights, the corners of one box each."""
    regressor = np.zeros((len(joints), size), np.float32)
    for row, joint in enumerate(joints):
        regressor[row, 8 * joint : 8 * joint + 8] = generator.dirichlet(np.full(8, 3.0))
    return regressor


def make_fields(num_shapes: int = 10, seed: int = 0) -> dict[str, np.ndarray]:
    """Fields of a body file, dense, as in data/README.md."""
    generator = np.random.default_rng(seed)
    count = len(SMPL_PARENTS)
    half = np.full((count, 3), 0.05)
    half[[15, 0]] = [0.09, 0.12, 0.1]
    vertices = (JOINTS[:, None] + half[:, None] * _CORNERS).reshape(-1, 3)
    size = len(vertices)
    distance = np.linalg.norm(vertices[:, None] - JOINTS, axis=-1)
    weights = np.exp(-((distance / 0.1) ** 2))
    weights[weights < np.sort(weights, axis=1)[:, -4:-3]] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    joint_regressor = np.kron(np.eye(count), np.full((1, 8), 1 / 8))
    kintree = np.array([SMPL_PARENTS, range(count)])
    return {
        "v_template": vertices.astype(np.float32),
        "shapedirs": generator.normal(0, 0.01, (size, 3, num_shapes)).astype(np.float32),
        "posedirs": generator.normal(0, 0.002, (size, 3, 9 * (count - 1))).astype(np.float32),
        "f": np.concatenate([_BOX_FACES + 8 * joint for joint in range(count)]).astype(np.int32),
        "weights": weights.astype(np.float32),
        "J_regressor": joint_regressor.astype(np.float32),
        "J_regressor_extra": _box_regressor(_EXTRA_JOINTS, size, generator),
        "J_regressor_h36m": _box_regressor(_H36M_JOINTS, size, generator),
        "SMPL_to_J19": _box_regressor(_J19_JOINTS, size, generator),
        "kintree_table": kintree,
        "landmark_names": np.array(list(_LANDMARKS)),
        "landmark_index": np.array([8 * joint + corner for joint, corner in _LANDMARKS.values()]),
        "name": np.array("toy body, not SMPL"),
        "licence": np.array("CC0-1.0"),
        "source": np.array("procedural"),
    }


assert len(SMPL24) == len(JOINTS) and len(EXTRA_ROWS) == len(_EXTRA_JOINTS) and len(H36M_ROWS) == len(_H36M_JOINTS)
assert len(J19_ROWS) == len(_J19_JOINTS)
