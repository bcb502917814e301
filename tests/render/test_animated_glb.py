"""Animated bodies, read back: the skeleton's kinematics, the skinned mesh, upright."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial.transform import Rotation

from diffhmr.body.joints import SMPL24
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.errors import UserError
from diffhmr.motion.procedural import sample_motion
from diffhmr.motion.sequence import Motion
from diffhmr.render.animated_glb import MAX_INFLUENCES, skinned_body, vertex_error, write_animated_glb
from tests.motion.test_sequence import random_motion
from tests.render.glb_reader import Glb, read_glb

SHAPE = torch.tensor([1.5, -1.0, 0.5, 0.0, 1.0, -0.5, 0.3, 0.0, -1.0, 0.7])


def posed(body: BodyModel, motion: Motion, betas: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Joints and vertices of ``body`` in the motion's world, per frame."""
    params = SmplParams.from_rotations(
        torch.from_numpy(motion.rotations).float(), betas.expand(len(motion), -1), torch.zeros(len(motion), 3)
    )
    result = body(params)
    joints, vertices = result.joints.double().numpy(), result.vertices.double().numpy()
    shift = motion.position[:, None] - joints[:, :1]
    return joints + shift, vertices + shift


def joints_of(glb: Glb, frame: int) -> np.ndarray:
    """Places of the nodes with SMPL's names, in SMPL's order."""
    names = [node["name"] for node in glb.document["nodes"]]
    world = glb.world(frame)
    return np.stack([world[names.index(name)][:3, 3] for name in SMPL24.joint_names])


@pytest.mark.parametrize("kind", ["walking", "wild"])
def test_a_written_motion_is_the_bodys_own(tmp_path: Path, free_body: BodyModel, kind: str) -> None:
    motion = sample_motion(5, 40, 30.0) if kind == "walking" else random_motion(frames=12, fps=25.0)
    path = write_animated_glb(tmp_path / "motion.glb", free_body, motion, SHAPE)
    glb = read_glb(path)
    joints, vertices = posed(free_body, motion, SHAPE)
    times, _ = glb.key_frames()
    np.testing.assert_allclose(times, np.arange(len(motion)) / motion.fps, rtol=1e-6)
    assert (np.diff(times) > 0).all()
    assert max(np.abs(joints_of(glb, frame) - joints[frame]).max() for frame in range(len(motion))) < 1e-4
    checked = range(0, len(motion), 3)
    assert max(np.abs(glb.skinned(frame) - vertices[frame]).max() for frame in checked) < 1e-4
    assert glb.document["asset"]["extras"]["max_vertex_error_m"] < 1e-4
    assert [item.name for item in tmp_path.iterdir()] == ["motion.glb"]


def test_a_motion_that_starts_later_in_its_video(tmp_path: Path, free_body: BodyModel) -> None:
    motion = random_motion(frames=3, fps=25.0)
    times, _ = read_glb(write_animated_glb(tmp_path / "a.glb", free_body, motion, SHAPE, first_frame=50)).key_frames()
    np.testing.assert_allclose(times, [2.0, 2.04, 2.08], rtol=1e-6)


def test_people_stand_upright_and_face_forward(tmp_path: Path, free_body: BodyModel) -> None:
    standing = Motion(np.tile(np.eye(3), (3, 24, 1, 1)), np.tile([0.0, 0.9, 0.0], (3, 1)), 30.0)
    glb = read_glb(write_animated_glb(tmp_path / "standing.glb", free_body, standing, torch.zeros(10)))
    for points in (glb.skinned(1), glb.array(0)):  # animated, and the mesh as it stands in the file
        marks = {name: points[index] for name, index in free_body.landmarks.items()}
        assert marks["head_top"][1] - marks["left_heel"][1] > 1.4
        assert marks["nose"][2] > marks["left_ear"][2] + 0.05 and marks["left_ear"][0] > marks["right_ear"][0]
    assert abs(glb.skinned(0)[:, 1].min()) < 0.1


def test_other_programs_read_the_mesh(tmp_path: Path, free_body: BodyModel) -> None:
    path = write_animated_glb(tmp_path / "body.glb", free_body, random_motion(), SHAPE)
    scene = trimesh.load(path, process=False)
    (mesh,) = scene.geometry.values()
    expected = skinned_body(free_body, SHAPE)
    np.testing.assert_allclose(mesh.vertices, expected.vertices, atol=1e-6)
    np.testing.assert_array_equal(mesh.faces, expected.faces)
    assert mesh.volume > 0.04, "faces point outward"
    glb = read_glb(path)
    normals = glb.array(glb.document["meshes"][0]["primitives"][0]["attributes"]["NORMAL"])
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    assert (normals * mesh.vertex_normals).sum(-1).min() > 0.5


def test_the_file_keeps_the_rules_of_skins(tmp_path: Path, free_body: BodyModel) -> None:
    document = (glb := read_glb(write_animated_glb(tmp_path / "a.glb", free_body, random_motion(), SHAPE))).document
    skin, primitive = document["skins"][0], document["meshes"][0]["primitives"][0]
    names = [document["nodes"][node]["name"] for node in skin["joints"]]
    assert tuple(names) == SMPL24.joint_names and skin["skeleton"] == skin["joints"][0]
    weights, joints = (glb.array(primitive["attributes"][key]) for key in ("WEIGHTS_0", "JOINTS_0"))
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    assert joints.dtype == np.uint8 and joints.max() < 24 and not joints[weights == 0].any()
    assert {view["target"] for view in document["bufferViews"][:4]} == {34962}
    assert document["bufferViews"][document["accessors"][primitive["indices"]]["bufferView"]]["target"] == 34963
    assert glb.array(primitive["indices"]).dtype == np.uint16
    for accessor in (primitive["attributes"]["POSITION"], document["animations"][0]["samplers"][0]["input"]):
        assert {"min", "max"} <= set(document["accessors"][accessor])
    inverse = glb.array(skin["inverseBindMatrices"]).reshape(-1, 4, 4)
    np.testing.assert_array_equal(inverse[:, :, 3], np.tile([0, 0, 0, 1], (24, 1)))  # last row of each matrix


def test_quaternions_do_not_jump(tmp_path: Path, free_body: BodyModel) -> None:
    """Viewers interpolate: a joint that turns round and round must not take the long way back."""
    turns = Rotation.from_rotvec(np.linspace(0, 6 * np.pi, 90)[:, None] * [0.6, 0.0, 0.8]).as_matrix()
    motion = Motion(np.repeat(turns[:, None], 24, axis=1), np.zeros((90, 3)), 30.0)
    values = read_glb(write_animated_glb(tmp_path / "turn.glb", free_body, motion, SHAPE)).key_frames()[1]
    rotations = [value for (_, path), value in values.items() if path == "rotation"]
    assert len(rotations) == 24
    for value in rotations:
        assert (value[1:] * value[:-1]).sum(-1).min() > 0.9


def test_more_than_four_joints_per_vertex_cost_what_is_said(tmp_path: Path, free_body: BodyModel) -> None:
    body = BodyModel(free_body._data)
    spread = 0.9 * free_body.skinning + 0.1 * torch.roll(free_body.skinning, 3, dims=0)
    body.skinning = spread / spread.sum(0)
    assert int((body.skinning > 0).sum(0).max()) > MAX_INFLUENCES
    motion = random_motion()
    glb = read_glb(write_animated_glb(tmp_path / "five.glb", body, motion, SHAPE))
    vertices = posed(body, motion, SHAPE)[1]
    measured = max(
        float(np.linalg.norm(glb.skinned(frame) - vertices[frame], axis=-1).max()) for frame in range(len(motion))
    )
    assert measured > 1e-3
    assert glb.document["asset"]["extras"]["max_vertex_error_m"] == pytest.approx(measured, rel=1e-3)


def test_pose_dependent_shape_is_left_out_and_measured(toy_body: BodyModel) -> None:
    motion, betas = random_motion(), torch.zeros(10)
    skinned = skinned_body(toy_body, betas)
    expected = np.linalg.norm(skinned.posed(motion, np.arange(7)) - posed(toy_body, motion, betas)[1], axis=-1).max()
    assert vertex_error(skinned, toy_body, motion, betas) == pytest.approx(expected, rel=1e-3)
    rest = replace(motion, rotations=np.tile(np.eye(3), (7, 24, 1, 1)))
    assert vertex_error(skinned, toy_body, rest, betas) < 1e-5 < expected


def test_other_names_and_places_are_refused(tmp_path: Path, free_body: BodyModel) -> None:
    with pytest.raises(UserError, match=r"\.glb"):
        write_animated_glb(tmp_path / "motion.gltf", free_body, random_motion(), SHAPE)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write"):
        write_animated_glb(tmp_path / "file" / "motion.glb", free_body, random_motion(), SHAPE)
