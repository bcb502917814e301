"""BodyModel: equality with smplx, of the fast joints with the mesh, and the geometry a user relies on."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
import smplx
import torch
from smplx.utils import Struct
from smplx.vertex_ids import vertex_ids

from diffhmr.body.files import BODY_FOLDER, BodyData, read_body
from diffhmr.body.joints import (
    COCO17,
    H36M17,
    J14_J19,
    JOINT_SETS,
    SMPL24,
    SMPL_PARENTS,
    SPIN49,
    JointSet,
    joint_source,
)
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.errors import UserError
from diffhmr.geometry.rotation import axis_angle_to_matrix, random_rotations


@pytest.fixture(params=["toy_body", "free_body"])
def body(request: pytest.FixtureRequest) -> BodyModel:
    model: BodyModel = request.getfixturevalue(request.param)
    return model


def random_params(*lead: int, seed: int = 0, transl: bool = False) -> SmplParams:
    generator = torch.Generator().manual_seed(seed)
    return SmplParams.from_rotations(
        random_rotations((*lead, 24), generator),
        torch.randn(*lead, 10, generator=generator),
        torch.randn(*lead, 3, generator=generator) if transl else None,
    )


def rest_params() -> SmplParams:
    return SmplParams.from_rotations(torch.eye(3).expand(24, 3, 3), torch.zeros(10))


def smplx_model(data: BodyData, batch_size: int) -> smplx.SMPL:
    size = len(data.v_template)
    posedirs = np.zeros((size, 3, 207), np.float32) if data.posedirs is None else data.posedirs
    struct = Struct(
        v_template=data.v_template,
        shapedirs=data.shapedirs,
        posedirs=posedirs,
        f=data.faces,
        weights=data.weights,
        J_regressor=data.joint_regressor,
        kintree_table=np.array([(0, *SMPL_PARENTS[1:]), range(24)]),
    )
    ids = {name: index % size for name, index in vertex_ids["smplh"].items()}
    return smplx.SMPL("", data_struct=struct, vertex_ids=ids, batch_size=batch_size)


def regress(data: BodyData, vertices: torch.Tensor, tree_joints: torch.Tensor, joint_set: JointSet) -> torch.Tensor:
    """Joints the slow way, from the full mesh."""
    points = []
    for name in joint_set.joint_names:
        source = joint_source(name)
        if source.kind == "smpl":
            points.append(tree_joints[..., source.index, :])
        elif source.kind == "landmark":
            points.append(vertices[..., data.landmarks[name], :])
        else:
            regressor = getattr(data, f"{source.kind}_regressor")
            assert regressor is not None
            points.append(torch.from_numpy(regressor[source.index]).to(vertices.dtype) @ vertices)
    return torch.stack(points, dim=-2)


def test_mesh_equals_smplx(body: BodyModel) -> None:
    params = random_params(9, transl=True)
    reference = smplx_model(read_body(body.path), 9)(
        betas=params.betas,
        global_orient=params.global_orient.unsqueeze(1),
        body_pose=params.body_pose,
        transl=params.transl,
        pose2rot=False,
    )
    posed = body(params)
    torch.testing.assert_close(posed.vertices, reference.vertices, atol=1e-5, rtol=0)
    torch.testing.assert_close(posed.joints, reference.joints[:, :24], atol=1e-5, rtol=0)


@pytest.mark.smpl
def test_official_smpl_equals_smplx() -> None:
    """On whichever of the licensed files are in data/body/."""
    paths = [path for path in BODY_FOLDER.iterdir() if path.name.lower().startswith(("smpl_", "basicmodel_"))]
    if not paths:
        pytest.skip("no SMPL file in data/body/")
    params = random_params(4)
    for path in paths:
        data = read_body(path)
        assert data.is_smpl and data.posedirs is not None
        reference = smplx_model(data, 4)(
            betas=params.betas,
            global_orient=params.global_orient.unsqueeze(1),
            body_pose=params.body_pose,
            pose2rot=False,
        )
        torch.testing.assert_close(BodyModel(data)(params).vertices, reference.vertices, atol=1e-5, rtol=0)


def test_toy_body_exercises_every_term(toy_body: BodyModel) -> None:
    """The equality above would prove little on a body without pose directions or with rigid skinning."""
    data = read_body(toy_body.path)
    assert data.posedirs is not None and (data.weights > 0.05).sum(axis=1).max() >= 3 and data.shapedirs.any()


@pytest.mark.parametrize("joint_set", JOINT_SETS.values(), ids=JOINT_SETS.keys())
def test_fast_joints_equal_those_of_the_mesh(body: BodyModel, joint_set: JointSet) -> None:
    if "SMPL_to_J19" not in body.regressor_paths and joint_set is J14_J19:
        pytest.skip("only ProHMR's file for SMPL has these joints, and the toy body")
    params = random_params(5, transl=True)
    posed = body(params)
    expected = regress(read_body(body.path), posed.vertices, posed.joints, joint_set)
    torch.testing.assert_close(body.joints(params, joint_set), expected, atol=1e-5, rtol=0)


def test_fast_joints_have_the_gradients_of_the_mesh(toy_body: BodyModel) -> None:
    data = read_body(toy_body.path)
    weight = torch.randn(49, 3, generator=torch.Generator().manual_seed(5))
    gradients = []
    for fast in (True, False):
        base = random_params(2)
        leaves = [t.clone().requires_grad_() for t in (base.global_orient, base.body_pose, base.betas)]
        params = SmplParams(leaves[0], leaves[1], leaves[2])
        if fast:
            joints = toy_body.joints(params, SPIN49)
        else:
            posed = toy_body(params)
            joints = regress(data, posed.vertices, posed.joints, SPIN49)
        (joints * weight).sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for quick, slow in zip(*gradients, strict=True):
        assert quick is not None and slow is not None and quick.abs().max() > 0
        torch.testing.assert_close(quick, slow, atol=1e-3, rtol=1e-4)


def test_leading_dimensions_equal_single_bodies(body: BodyModel) -> None:
    params = random_params(2, 3, transl=True)
    posed, joints = body(params), body.joints(params, SPIN49)
    assert posed.vertices.shape == (2, 3, body.num_vertices, 3) and joints.shape == (2, 3, 49, 3)
    single = params.map(lambda t: t[1, 2])
    torch.testing.assert_close(posed.vertices[1, 2], body(single).vertices, atol=1e-6, rtol=0)
    torch.testing.assert_close(joints[1, 2], body.joints(single, SPIN49), atol=1e-6, rtol=0)
    none = params.map(lambda t: t[:0])
    assert body(none).vertices.shape == (0, 3, body.num_vertices, 3)
    assert body.joints(none, SPIN49).shape == (0, 3, 49, 3)


def test_rest_pose_stands_upright_facing_forward(body: BodyModel) -> None:
    joints = dict(zip(SPIN49.joint_names, body.joints(rest_params(), SPIN49), strict=True))
    assert joints["left_wrist"][0] > 0.3 and joints["right_wrist"][0] < -0.3
    assert joints["head_top_lsp"][1] > joints["pelvis"][1] > joints["left_ankle"][1]
    assert joints["left_big_toe"][2] > joints["left_ankle"][2]
    h36m = body.joints(rest_params(), H36M17)
    assert h36m[1, 0] < 0 < h36m[4, 0], "joint 1 is the right hip"


def test_elbow_moves_the_forearm_only(body: BodyModel) -> None:
    rotations = torch.eye(3).repeat(24, 1, 1)
    rotations[18] = axis_angle_to_matrix(torch.tensor([0.0, -1.5, 0.0]))
    bent = body.joints(SmplParams.from_rotations(rotations, torch.zeros(10)), SMPL24)
    rest = body.joints(rest_params(), SMPL24)
    moved = (bent - rest).norm(dim=-1) > 1e-5
    assert [SMPL24.joint_names[i] for i in moved.nonzero().flatten().tolist()] == ["left_wrist", "left_hand"]
    assert bent[20, 2] > rest[20, 2] + 0.15  # forward: the elbow flexes about -y
    length = (rest[20] - rest[18]).norm()
    torch.testing.assert_close((bent[20] - bent[18]).norm(), length)


def test_global_orientation_turns_about_the_pelvis_and_transl_shifts(body: BodyModel) -> None:
    params = random_params(4)
    turn = axis_angle_to_matrix(torch.tensor([0.3, -1.0, 2.0]))
    shift = torch.tensor([0.1, 0.2, 3.0])
    turned = SmplParams(turn @ params.global_orient, params.body_pose, params.betas, shift.expand(4, 3))
    before, after = body(params), body(turned)
    pelvis = before.joints[:, :1]
    expected = (before.vertices - pelvis) @ turn.T + pelvis + shift
    torch.testing.assert_close(after.vertices, expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(
        body.joints(turned, SPIN49), (body.joints(params, SPIN49) - pelvis) @ turn.T + pelvis + shift, atol=2e-5, rtol=0
    )


def test_mirrored_pose_gives_the_mirrored_joints(free_body: BodyModel) -> None:
    """The free body is symmetric to a few millimetres, and SPIN49's flip says which joint becomes which."""
    params = random_params(6)
    mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0]))
    rotations = mirror @ params.rotations[:, list(SMPL24.flip)] @ mirror
    mean = torch.zeros(6, 10)
    joints = free_body.joints(SmplParams.from_rotations(params.rotations, mean), SPIN49)
    mirrored = free_body.joints(SmplParams.from_rotations(rotations, mean), SPIN49)
    assert (mirrored - joints[:, list(SPIN49.flip)] @ mirror).norm(dim=-1).max() < 0.02


def test_module_has_no_state_of_its_own(toy_body: BodyModel) -> None:
    assert not toy_body.state_dict() and not list(toy_body.parameters())
    assert toy_body.v_template.dtype == torch.float32
    double = BodyModel.load(toy_body.path).double()
    params = random_params(3)
    exact = double.joints(params.map(lambda t: t.double()), SPIN49)
    torch.testing.assert_close(toy_body.joints(params, SPIN49).double(), exact, atol=1e-6, rtol=0)


def test_attributes(body: BodyModel, free_body: BodyModel) -> None:
    assert body.faces.dtype == torch.int64 and body.faces.shape[1] == 3 and body.parts.shape == (body.num_vertices,)
    assert len(body.sha256) == 64 and not body.is_smpl and "not SMPL" in body.name
    assert SMPL24.joint_names[int(free_body.parts[free_body.landmarks["nose"]])] == "head"
    assert SMPL24.joint_names[int(free_body.parts[free_body.landmarks["left_big_toe"]])] in ("left_foot", "left_ankle")


def test_missing_regressor_says_which_file_and_where(toy_body: BodyModel) -> None:
    nothing = {f"{kind}_regressor": None for kind in ("extra", "h36m", "j19")}
    bare = BodyModel(dataclasses.replace(read_body(toy_body.path), **nothing))
    with pytest.raises(UserError, match=r"SMPL_to_J19.pkl.*nkolot/ProHMR.*data/body/SMPL_to_J19.pkl"):
        bare.joints(rest_params(), J14_J19)
    for joint_set, name in ((SPIN49, "J_regressor_extra.npy"), (H36M17, "J_regressor_h36m.npy")):
        with pytest.raises(UserError, match=rf"{name}.*nkolot/SPIN.*data/body/{name}"):
            bare.joints(rest_params(), joint_set)
    assert bare.joints(rest_params(), COCO17).shape == (17, 3)
    no_points = BodyModel(dataclasses.replace(read_body(toy_body.path), landmarks={}))
    with pytest.raises(UserError, match="no surface point 'nose'"):
        no_points.joints(rest_params(), COCO17)


def test_wrong_number_of_betas_is_refused(toy_body: BodyModel) -> None:
    params = SmplParams.from_rotations(torch.eye(3).expand(24, 3, 3), torch.zeros(16))
    with pytest.raises(ValueError, match="16 betas"):
        toy_body(params)


def test_ten_thousand_bodies_per_second(free_body: BodyModel) -> None:
    params = random_params(4096)
    free_body.joints(params, SPIN49)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        start = time.perf_counter()
        with torch.no_grad():
            free_body.joints(params, SPIN49)
        assert 4096 / (time.perf_counter() - start) > 10_000
    finally:
        torch.set_num_threads(threads)
