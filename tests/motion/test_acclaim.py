"""ASF/AMC against chains computed by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffhmr.errors import UserError
from diffhmr.motion.acclaim import read_acclaim
from diffhmr.motion.rest_body import RestBody
from tests.motion.rigs import write_acclaim

METRES = 0.0254 / 0.45

ASF = """# made by hand
:version 1.10
:name TEST
:units
  mass 1.0
  length 0.45
  angle deg
:documentation
   any text
:root
   order TX TY TZ RX RY RZ
   axis XYZ
   position 0 0 0
   orientation 0 0 0
:bonedata
  begin
     id 1
     name upper
     direction 0 -2 0
     length 4
     axis 0 0 90   XYZ
    dof rx ry rz
    limits (-160.0 20.0)
           (-70.0 70.0)
           (-60.0 70.0)
  end
  begin
     id 2
     name lower
     direction 0 -1 0
     length 3
     axis 0 0 0   XYZ
    dof rx
  end
:hierarchy
  begin
    root upper
    upper lower
  end
"""
AMC = """#!OML:ASF made by hand
:FULLY-SPECIFIED
:DEGREES
1
root 1 2 3 0 0 0
upper 0 0 0
lower 90
2
root 0 0 0 90 0 90
upper 90 0 0
lower 0
"""


def read(folder: Path, asf: str = ASF, amc: str = AMC) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the joints and the end of the last bone, in units of the file."""
    (folder / "09.asf").write_text(asf)
    (folder / "09_02.amc").write_text(amc)
    recording = read_acclaim(folder / "09_02.amc")
    assert recording.joint_names == ("root", "upper", "lower") and recording.fps == 120
    turns, points = recording.world()
    return points / METRES, (points[:, 2] + turns[:, 2] @ recording.ends[2]) / METRES


def test_a_chain_is_where_the_hand_computed_one_is(tmp_path: Path) -> None:
    points, end = read(tmp_path)
    # Frame 1: the first bone hangs down from the root, the second turns about x: (0, -3, 0) to (0, 0, -3).
    np.testing.assert_allclose(points[0], [[1, 2, 3], [1, 2, 3], [1, -2, 3]], atol=1e-9)
    np.testing.assert_allclose(end[0], [1, -2, 0], atol=1e-9)
    # Frame 2: the bone's own x axis is y of the world (axis 0 0 90), and Ry(90) leaves (0, -4, 0) as it is. The root
    # turns by Rx(90), then Rz(90): to (0, 0, -4). The second bone: Ry leaves (0, -3, 0); to (0, 0, -3).
    np.testing.assert_allclose(points[1], [[0, 0, 0], [0, 0, 0], [0, 0, -4]], atol=1e-9)
    np.testing.assert_allclose(end[1], [0, 0, -7], atol=1e-9)


def test_the_axis_listed_first_turns_first(tmp_path: Path) -> None:
    # Own axes as the world's; rx 90 takes (0, -4, 0) to (0, 0, -4), then ry 90 takes it to (-4, 0, 0), rz 90 to
    # (0, -4, 0). In the order z, y, x: rz to (4, 0, 0), ry to (0, 0, -4), rx to (0, 4, 0).
    plain = ASF.replace("axis 0 0 90 ", "axis 0 0 0 ")
    amc = AMC.replace("upper 0 0 0", "upper 90 90 90").replace("root 1 2 3", "root 0 0 0")
    np.testing.assert_allclose(read(tmp_path, plain, amc)[0][0, 2], [0, -4, 0], atol=1e-9)
    other = plain.replace("dof rx ry rz", "dof rz ry rx")
    np.testing.assert_allclose(read(tmp_path, other, amc)[0][0, 2], [0, 4, 0], atol=1e-9)


def test_units_radians_and_crlf(tmp_path: Path) -> None:
    radians = AMC.replace(":DEGREES", ":RADIANS").replace("90", f"{np.pi / 2:.12f}")
    np.testing.assert_allclose(read(tmp_path, amc=radians)[1], read(tmp_path)[1], atol=1e-9)
    np.testing.assert_allclose(read(tmp_path, ASF.replace("\n", "\r\n"), AMC.replace("\n", "\r\n"))[1][1], [0, 0, -7],
                               atol=1e-9)  # fmt: skip
    inches = read(tmp_path, ASF.replace("length 0.45", "length 1.0"))[1]
    np.testing.assert_allclose(inches, read(tmp_path)[1] * 0.45, atol=1e-9)


def test_the_skeleton_is_found_by_its_name(tmp_path: Path) -> None:
    read(tmp_path)
    (tmp_path / "10.asf").write_text(ASF)
    assert read_acclaim(tmp_path / "09_02.amc").name == "09_02"
    (tmp_path / "other.amc").write_text(AMC)
    with pytest.raises(UserError, match=r"09\.asf, 10\.asf"):
        read_acclaim(tmp_path / "other.amc")
    assert read_acclaim(tmp_path / "other.amc", tmp_path / "10.asf", fps=60.0).fps == 60


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("lower 90", "lower", "expected 1 numbers"),
        ("lower 90", "lower ninety", "expected 1 numbers"),
        ("lower 90", "lower nan", "expected 1 numbers"),
        ("lower 90", "lower 1e300", "expected 1 numbers"),
        ("lower 90", "knee 90", "'knee' is no bone"),
        ("lower 0\n", "", "cut off"),
        ("lower 90\n", "", "lacks lower"),
        (":DEGREES\n1\nroot 1 2 3 0 0 0", ":DEGREES\n1", "lacks root"),
        (AMC, "\n", "no root"),
    ],
)
def test_damaged_motions_get_one_clear_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in AMC
    with pytest.raises(UserError) as raised:
        read(tmp_path, amc=AMC.replace(old, new))
    assert message in str(raised.value) and "09_02.amc" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (":hierarchy", ":other", "lacks :hierarchy"),
        ("direction 0 -1 0", "direction 0 -1", "three numbers"),
        ("length 3", "length long", "cannot be read"),
        ("length 0.45", "length 0", "unit length"),
        ("axis 0 0 90   XYZ", "axis 0 0 90   XXZ", "order of axes"),
        ("    upper lower", "    upper lower arm", "'arm'"),
        ("    upper lower", "    upper lower\n    stray lower", "no bone 'stray'"),
        ("    upper lower", "    upper lower\n    lower upper", "twice"),
        ("    upper lower", "", "leaves out lower"),
        ("length 3", "length nan", "lower has a length of nan"),
        ("length 3", "length inf", "lower has a length of inf"),
        ("length 3", "length -3", "lower has a length of -3"),
        ("direction 0 -1 0", "direction 0 1e300 0", "three numbers"),
        ("length 0.45", "length 1e-300", "unit length of 1e-300"),
        ("length 0.45", "length nan", "unit length of nan"),
        ("dof rx ry rz", "dof rx ry rw", "degrees of freedom 'rx ry rw'"),
        ("dof rx ry rz", "dof rx ry ry", "degrees of freedom 'rx ry ry'"),
        ("order TX TY TZ RX RY RZ", "order TX TY TZ RX RY QZ", "degrees of freedom"),
    ],
)
def test_damaged_skeletons_get_one_clear_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in ASF
    with pytest.raises(UserError) as raised:
        read(tmp_path, asf=ASF.replace(old, new))
    assert message in str(raised.value) and "09.asf" in str(raised.value) and "\n" not in str(raised.value)


def test_hierarchies_may_spread_over_lines(tmp_path: Path) -> None:
    spread = ASF.replace("    root upper\n    upper lower\n", "    upper lower\n    lower\n    root upper\n")
    assert spread != ASF
    np.testing.assert_allclose(read(tmp_path, spread)[1], read(tmp_path)[1], atol=1e-12)
    # Two children of one bone, each in a line of its own.
    third = "  begin\n id 3\n name side\n direction 1 0 0\n length 2\n axis 0 0 0 XYZ\n  end\n"
    both = ASF.replace(":hierarchy", f"{third}:hierarchy").replace("upper lower", "upper lower\n    upper side")
    (tmp_path / "09.asf").write_text(both)
    (tmp_path / "09_02.amc").write_text(AMC)
    recording = read_acclaim(tmp_path / "09_02.amc")
    assert recording.joint_names == ("root", "upper", "lower", "side") and recording.parents == (-1, 0, 1, 1)


def test_bones_that_change_their_length_are_refused_unless_they_stay(tmp_path: Path) -> None:
    growing = ASF.replace("dof rx\n", "dof rx l\n")
    still = AMC.replace("lower 90", "lower 90 0").replace("lower 0", "lower 0 0")
    np.testing.assert_allclose(read(tmp_path, growing, still)[1], read(tmp_path)[1], atol=1e-12)
    with pytest.raises(UserError, match="lower moves along l"):
        read(tmp_path, growing, still.replace("lower 90 0", "lower 90 0.5"))


def test_a_whole_body_stands_where_it_should(tmp_path: Path, rest: RestBody) -> None:
    recording = read_acclaim(write_acclaim(tmp_path, rest, [0.0, 90.0], [0.0, 90.0]))
    points = recording.world()[1]
    at = {name: points[:, index] for index, name in enumerate(recording.joint_names)}
    thigh, shin = rest.between("left_hip", "left_knee"), rest.between("left_knee", "left_ankle")
    hip = rest.between("pelvis", "left_hip") + np.array([METRES, 1, 0])
    np.testing.assert_allclose(at["lfoot"][0], hip + thigh + shin, atol=1e-9)
    # The knee takes the shin's (x, y, z) to (x, -z, y); then the root, by 90 degrees about y, (x, y, z) to (z, y, -x).
    bent = rest.between("pelvis", "left_hip") + thigh + [shin[0], -shin[2], shin[1]]
    np.testing.assert_allclose(at["lfoot"][1], [METRES + bent[2], 1 + bent[1], -bent[0]], atol=1e-9)
