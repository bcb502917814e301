"""Files in the layouts of AMASS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from diffhmr.errors import UserError
from diffhmr.motion.amass import holds_motion, read_amass
from diffhmr.motion.rest_body import RestBody
from tests.motion.rigs import squats

LAYOUTS = {"SMPL-H": (156, "mocap_framerate"), "SMPL-X": (165, "mocap_frame_rate"), "SMPL": (72, "mocap_framerate")}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_layouts_give_the_same_body(tmp_path: Path, rest: RestBody, layout: str) -> None:
    """A file as AMASS writes it: z up, trans of a body whose pelvis is not at the origin, fingers that move."""
    truth = squats(rest)
    columns, key = LAYOUTS[layout]
    z_up = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    rotations = truth.rotations.copy()
    rotations[:, 0] = z_up @ rotations[:, 0]
    poses = np.full((len(truth), columns), 0.3)
    body = Rotation.from_matrix(rotations[:, :22].reshape(-1, 3, 3)).as_rotvec().reshape(len(truth), -1)
    poses[:, :66] = body
    if layout == "SMPL":
        poses[:, 66:] = 0
    trans = truth.position @ z_up.T - [0.002, -0.223, 0.028]
    path = tmp_path / "01_01_poses.npz"
    np.savez(path, poses=poses, trans=trans, betas=np.ones(16), gender=np.array("male"), **{key: np.array(30.0)})
    motion = read_amass(path, rest)
    assert motion.name == "01_01_poses" and motion.fps == 30
    np.testing.assert_allclose(motion.rotations[:, :22], truth.rotations[:, :22], atol=1e-9)
    np.testing.assert_allclose(motion.rotations[:, 22:], np.tile(np.eye(3), (len(truth), 2, 1, 1)), atol=1e-9)
    np.testing.assert_allclose(motion.position[:, 1], truth.position[:, 1], atol=1e-6)
    np.testing.assert_allclose(np.diff(motion.position, axis=0), np.diff(truth.position, axis=0), atol=1e-9)


def test_body_shapes_are_no_motions(tmp_path: Path, rest: RestBody) -> None:
    assert holds_motion(Path("CMU/01/01_01_poses.npz")) and holds_motion(Path("CMU/01/01_01_stageii.npz"))
    assert not holds_motion(Path("CMU/01/shape.npz")) and not holds_motion(Path("CMU/01/neutral_stagei.npz"))
    np.savez(tmp_path / "shape.npz", betas=np.ones(16))
    with pytest.raises(UserError, match="no motion"):
        read_amass(tmp_path / "shape.npz", rest)
