"""Names of joints, as programs and data sets give them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from diffhmr.body.joints import SMPL24, SMPL_PARENTS
from diffhmr.errors import UserError
from diffhmr.motion.joint_names import ROLES, carriers, map_joints, read_mapping
from diffhmr.motion.skeleton import Recording

# hip, knee, ankle, toes, collar, shoulder, elbow, wrist: {s} l or r, {S} L or R, {side} left or right, {Side} Left ...
LIMBS = {
    "Mixamo": "mixamorig:{Side}UpLeg mixamorig:{Side}Leg mixamorig:{Side}Foot mixamorig:{Side}ToeBase "
    "mixamorig:{Side}Shoulder mixamorig:{Side}Arm mixamorig:{Side}ForeArm mixamorig:{Side}Hand",
    "MotionBuilder": "Character1_{Side}UpLeg Character1_{Side}Leg Character1_{Side}Foot Character1_{Side}ToeBase "
    "Character1_{Side}Shoulder Character1_{Side}Arm Character1_{Side}ForeArm Character1_{Side}Hand",
    "CMU as ASF": "{s}femur {s}tibia {s}foot {s}toes {s}clavicle {s}humerus {s}radius {s}hand",
    "CMU as BVH": "{Side}UpLeg {Side}Leg {Side}Foot {Side}ToeBase {Side}Shoulder {Side}Arm {Side}ForeArm {Side}Hand",
    "joints as points": "{Side}Hip {Side}Knee {Side}Ankle {Side}Toe {Side}Collar {Side}Shoulder {Side}Elbow "
    "{Side}Wrist",
    "Bandai-Namco": "UpperLeg_{S} LowerLeg_{S} Foot_{S} Toes_{S} Shoulder_{S} UpperArm_{S} LowerArm_{S} Hand_{S}",
    "Xsens": "{Side}UpperLeg {Side}LowerLeg {Side}Foot {Side}Toe {Side}Shoulder {Side}UpperArm {Side}ForeArm "
    "{Side}Hand",
    "Rokoko": "{Side}Thigh {Side}Shin {Side}Foot {Side}Toe {Side}Shoulder {Side}Arm {Side}ForeArm {Side}Hand",
    "Unreal": "thigh_{s} calf_{s} foot_{s} ball_{s} clavicle_{s} upperarm_{s} lowerarm_{s} hand_{s}",
    "VRM": "J_Bip_{S}_UpperLeg J_Bip_{S}_LowerLeg J_Bip_{S}_Foot J_Bip_{S}_ToeBase J_Bip_{S}_Shoulder "
    "J_Bip_{S}_UpperArm J_Bip_{S}_LowerArm J_Bip_{S}_Hand",
    "Blender": "thigh.{S} shin.{S} foot.{S} toe.{S} shoulder.{S} upper_arm.{S} forearm.{S} hand.{S}",
    "Poser": "{s}Thigh {s}Shin {s}Foot {s}Toe {s}Collar {s}Shldr {s}ForeArm {s}Hand",
    "capitals": "{SIDE}UPLEG {SIDE}LEG {SIDE}FOOT {SIDE}TOE {SIDE}SHOULDER {SIDE}ARM {SIDE}FOREARM {SIDE}HAND",
}
PARTS = ("hip", "knee", "ankle", "foot", "collar", "shoulder", "elbow", "wrist")


def skeleton(limbs: list[list[str]], extra: tuple[tuple[str, str], ...] = ()) -> Recording:
    """Hips, two spine joints, neck, head and the limbs (left, right); ``extra`` are (joint, parent)."""
    tree = [("Hips", ""), ("Spine", "Hips"), ("Chest", "Spine"), ("Neck", "Chest"), ("Head", "Neck")]
    for names in limbs:
        tree += list(zip(names, ["Hips", *names[:3], "Chest", *names[4:7]], strict=True))
    tree += list(extra)
    order = [name for name, _ in tree]
    parents = tuple(order.index(parent) if parent else -1 for _, parent in tree)
    still = np.zeros((1, len(order), 3))
    return Recording(tuple(order), parents, still[0], np.tile(np.eye(3), (1, len(order), 1, 1)), still, 30.0, "take")


def named(pattern: str) -> list[list[str]]:
    return [
        pattern.replace("_arm", "~").replace("{Side}", side.title()).replace("{SIDE}", side.upper())
        .replace("{side}", side).replace("{S}", side[0].upper()).replace("{s}", side[0]).replace("~", "_arm").split()
        for side in ("left", "right")
    ]  # fmt: skip


@pytest.mark.parametrize("convention", LIMBS)
def test_limbs_of_every_convention_are_found(convention: str) -> None:
    limbs = named(LIMBS[convention])
    recording = skeleton(limbs)
    found = map_joints(recording)
    for side, names in zip(("left", "right"), limbs, strict=True):
        for part, name in zip(PARTS, names, strict=True):
            assert recording.joint_names[found.joints[f"{side}_{part}"]] == name, f"{side}_{part}"
    assert [recording.joint_names[k] for k in found.spine] == ["Spine", "Chest"]
    assert [recording.joint_names[k] for k in found.neck] == ["Neck", "Head"]
    assert recording.joint_names[found.joints["pelvis"]] == "Hips" and not found.is_smpl


def test_biped_names_with_blanks() -> None:
    sides = [
        [f"Bip01 {s} {name}" for name in ("Thigh", "Calf", "Foot", "Toe0", "Clavicle", "UpperArm", "Forearm", "Hand")]
        for s in "LR"
    ]
    found = map_joints(skeleton(sides))
    assert skeleton(sides).joint_names[found.joints["left_foot"]] == "Bip01 L Toe0"


def test_fingers_twists_and_ends_are_nobody() -> None:
    limbs = named(LIMBS["Mixamo"])
    extra = (("mixamorig:LeftHandThumb1", "mixamorig:LeftHand"), ("mixamorig:LeftToe_End", "mixamorig:LeftToeBase"),
             ("LHipJoint", "Hips"), ("HeadTop_End", "Head"), ("LeftEye", "Head"))  # fmt: skip
    recording = skeleton(limbs, extra)
    taken = {recording.joint_names[k] for k in map_joints(recording).joints.values()}
    assert not taken & {name for name, _ in extra}


def test_what_lies_on_a_bone_carries_its_twist() -> None:
    names = [
        ["lfemur", "ltibia", "lfoot", "ltoes", "lclavicle", "lhumerus", "lradius", "lwrist"],
        named(LIMBS["CMU as ASF"])[1],
    ]
    recording = skeleton(names, (("lhand", "lwrist"),))
    found = map_joints(recording)
    assert recording.joint_names[found.joints["left_wrist"]] == "lhand"
    turns = [recording.joint_names[k] for k in carriers(recording, found, "left_elbow", "left_wrist")]
    assert turns == ["lradius", "lwrist"]
    assert len(carriers(recording, found, "right_elbow", "right_wrist")) == 1


def test_smpl_names_are_smpl() -> None:
    still = np.zeros((1, 24, 3))
    recording = Recording(
        SMPL24.joint_names, SMPL_PARENTS, still[0], np.tile(np.eye(3), (1, 24, 1, 1)), still, 30.0, "take"
    )
    found = map_joints(recording)
    assert found.is_smpl and found.joints == {name: k for k, name in enumerate(SMPL24.joint_names)}
    assert found.spine == (3, 6, 9) and found.neck == (12, 15)


def test_unknown_skeletons_get_one_line_with_their_joints_and_take_a_mapping(tmp_path: Path) -> None:
    limbs = [[f"bone_{side}{k}" for k in range(8)] for side in "ab"]
    recording = skeleton(limbs)
    with pytest.raises(UserError) as raised:
        map_joints(recording)
    message = str(raised.value)
    assert "left_knee" in message and "bone_a3" in message and "--mapping" in message and "\n" not in message
    lines = [f"{side}_{part}: {name}" for side, names in zip(("left", "right"), limbs, strict=True)
             for part, name in zip(PARTS, names, strict=True)]  # fmt: skip
    file = tmp_path / "mapping.yaml"
    file.write_text("\n".join(lines))
    found = map_joints(recording, read_mapping(file))
    assert recording.joint_names[found.joints["right_elbow"]] == "bone_b6"
    assert recording.joint_names[found.joints["pelvis"]] == "Hips"
    with pytest.raises(UserError, match="no joint nowhere"):
        map_joints(recording, {"left_knee": "nowhere"})


def test_joints_that_are_not_below_one_another_are_refused() -> None:
    recording = skeleton(named(LIMBS["Mixamo"]))
    with pytest.raises(UserError, match="not below"):
        map_joints(recording, {"left_knee": "mixamorig:RightLeg"})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"pelvis": "mixamorig:LeftUpLeg"}, "pelvis would be mixamorig:LeftUpLeg and spine3 Chest"),
        ({"pelvis": "Neck"}, "pelvis would be Neck"),
        ({"pelvis": "Spine"}, "pelvis would be Spine and left_hip mixamorig:LeftUpLeg"),
        ({"spine3": "Neck"}, "spine3 would be Neck and left_collar mixamorig:LeftShoulder"),
        ({"spine3": "mixamorig:LeftShoulder"}, "spine3 would be mixamorig:LeftShoulder and left_collar"),
        ({"head": "mixamorig:LeftLeg"}, "spine3 would be Chest and head mixamorig:LeftLeg"),
    ],
)
def test_trunks_of_mapping_files_are_checked(given: dict[str, str], message: str) -> None:
    recording = skeleton(named(LIMBS["Mixamo"]))
    with pytest.raises(UserError, match="not below") as raised:
        map_joints(recording, given)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_trunks_that_fit_are_taken() -> None:
    recording = skeleton(named(LIMBS["Mixamo"]))
    found = map_joints(recording, {"pelvis": "Hips", "spine3": "Spine", "head": "Neck"})
    assert [recording.joint_names[k] for k in found.spine] == ["Spine"]
    assert [recording.joint_names[k] for k in found.neck] == ["Chest", "Neck"]
    both = map_joints(recording, {"spine3": "Hips"})  # a trunk in one piece
    assert both.spine == () and both.joints["pelvis"] == both.joints["spine3"]
    # What is called a head and is no part of the trunk is none.
    prop = skeleton(named(LIMBS["Mixamo"]), (("DrumHead", "mixamorig:RightLeg"),))
    headless = replace(prop, joint_names=tuple("Top" if name == "Head" else name for name in prop.joint_names))
    assert "head" not in map_joints(headless).joints


@pytest.mark.parametrize(
    ("content", "message"),
    [("left_nee: a", "left_nee"), ("- a\n- b", "no mapping"), ("a: [", "no YAML"), ("", "empty")],
)
def test_mapping_files_are_checked(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "mapping.yaml"
    file.write_text(content)
    with pytest.raises(UserError, match=message) as raised:
        read_mapping(file)
    assert "\n" not in str(raised.value)
    assert set(ROLES) <= {*SMPL24.joint_names}
