"""Which joint of a foreign skeleton is which of SMPL's, by the names that programs and data sets give them.

Known are the conventions of CMU (ASF, and the BVH conversions of it), Mixamo, MotionBuilder, 3ds Max Biped, Unreal,
VRM, Blender, Poser, Xsens, Rokoko, Bandai-Namco, Kinect and SMPL itself; trunk and neck are found from how the limbs
hang together. For everything else there is a mapping file: YAML with lines such as ``left_knee: NAME``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from diffhmr.body.joints import SMPL24, SMPL_PARENTS
from diffhmr.errors import UserError
from diffhmr.files import require_file
from diffhmr.motion.skeleton import Recording

# Names of a limb's joints: those in the second tuple mean it only if none of the first is there.
_LIMBS = {
    "hip": (("upperleg", "upleg", "legupper", "uprleg", "thigh", "femur"), ("hip",)),
    "knee": (("lowerleg", "lowleg", "leglower", "lwrleg", "knee", "shin", "calf", "tibia"), ("leg",)),
    "ankle": (("ankle",), ("foot",)),
    "foot": (("toebase", "toes", "toe", "ball"), ("foot",)),
    "collar": (("collar", "clavicle", "clav"), ("shoulder",)),
    "shoulder": (("upperarm", "uparm", "armupper", "humerus", "shldr"), ("arm", "shoulder")),
    "elbow": (("lowerarm", "lowarm", "armlower", "forearm", "elbow", "radius"), ()),
    "wrist": (("wrist",), ("hand",)),
}
SIDES = ("left", "right")
_REQUIRED = ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
_SIDES = {"left": "left", "l": "left", "lft": "left", "right": "right", "r": "right", "rgt": "right"}
_ALL_LIMB_NAMES = sorted({name for names in _LIMBS.values() for kind in names for name in kind}, key=len, reverse=True)
_CHAINS = (("hip", "knee", "ankle", "foot"), ("collar", "shoulder", "elbow", "wrist"))

ROLES = ("pelvis", "spine3", "head", *(f"{side}_{part}" for part in _LIMBS for side in SIDES))
"""The joints that a mapping file may name; the ones between follow from them."""


@dataclass(frozen=True)
class BodyMap:
    """Where SMPL's joints are in a recording.

    Attributes:
        joints: index by SMPL's name: pelvis, limbs, and what else was found. Without a trunk of its own, ``spine3`` is
            the pelvis; collars, feet and the head can be missing.
        spine: joints after the pelvis, down to and with ``spine3``.
        neck: joints after ``spine3``, up to and with the head.
        is_smpl: the recording has SMPL's 24 joints by their names and in their tree.
    """

    joints: dict[str, int]
    spine: tuple[int, ...]
    neck: tuple[int, ...]
    is_smpl: bool = False


def read_mapping(path: str | Path) -> dict[str, str]:
    """Read a mapping file: names of the recording's joints by those of SMPL.

    Raises:
        UserError: the file is missing, no YAML of that form, or names a joint that is none of ``ROLES``.
    """
    path = require_file(path, "mapping file", "write lines such as 'left_knee: NAME'")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).replace("\n", " ")
        raise UserError(f"{path} is no YAML: {reason}; write lines such as 'left_knee: NAME'") from error
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path} holds no mapping; write lines such as 'left_knee: NAME'")
    unknown = [str(key) for key in content if key not in ROLES]
    if unknown:
        raise UserError(f"{path} names {', '.join(unknown)}; known are {', '.join(ROLES)}")
    return {str(key): str(value) for key, value in content.items()}


def map_joints(recording: Recording, given: Mapping[str, str] | None = None) -> BodyMap:
    """Find SMPL's joints among those of ``recording``.

    Args:
        recording: any skeleton.
        given: names that are known, as of :func:`read_mapping`; they come before what the names suggest.

    Raises:
        UserError: joints are missing, not in the recording, or not below one another; the message lists the joints.
    """
    names = {name: index for index, name in reversed(list(enumerate(recording.joint_names)))}
    absent = [name for name in (given or {}).values() if name not in names]
    if absent:
        raise UserError(f"{recording.name} has no joint {', '.join(absent)}; {_joint_list(recording)}")
    if not given and _is_smpl(recording):
        joints = {name: names[name] for name in SMPL24.joint_names}
        return BodyMap(joints, *_trunk(recording, joints), is_smpl=True)
    joints = {**_limbs(recording), **{role: names[name] for role, name in (given or {}).items()}}
    missing = [f"{side}_{part}" for part in _REQUIRED for side in SIDES if f"{side}_{part}" not in joints]
    if missing:
        raise UserError(
            f"{recording.name}: cannot tell which joints are {', '.join(missing)}; {_joint_list(recording)}; "
            "write a mapping file (lines such as 'left_knee: NAME') and give it with --mapping"
        )
    joints.setdefault("pelvis", _common(recording, joints["left_hip"], joints["right_hip"]))
    joints.setdefault("spine3", _common(recording, joints["left_shoulder"], joints["right_shoulder"]))
    if "head" not in joints:
        named = [k for k, name in enumerate(recording.joint_names) if "".join(_words(name)).endswith("head")]
        heads = [k for k in named if recording.path(joints["spine3"], k)]
        joints.update({"head": heads[0]} if heads else {})
    _check_tree(recording, joints)
    return BodyMap(joints, *_trunk(recording, joints))


def carriers(recording: Recording, body_map: BodyMap, near: str, far: str) -> list[int]:
    """The joints that turn the bone from ``near`` to ``far`` (as SMPL names them): its own, the last twist joint."""
    own = body_map.joints[near]
    if far not in body_map.joints:
        return [own]
    twist = recording.path(own, body_map.joints[far])[:-1]
    return [own, *twist[-1:]]


def _trunk(recording: Recording, joints: dict[str, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    spine = tuple(recording.path(joints["pelvis"], joints["spine3"]))
    return spine, tuple(recording.path(joints["spine3"], joints["head"])) if "head" in joints else ()


def _is_smpl(recording: Recording) -> bool:
    if not set(SMPL24.joint_names) <= set(recording.joint_names):
        return False
    index = [recording.joint_names.index(name) for name in SMPL24.joint_names]
    return all(recording.parents[index[k]] == index[parent] for k, parent in enumerate(SMPL_PARENTS) if parent >= 0)


def _limbs(recording: Recording) -> dict[str, int]:
    """Joints of the limbs by their names, the first of each kind."""
    sided: dict[tuple[str, str], int] = {}
    for index, name in enumerate(recording.joint_names):
        side, base = _split(name)
        if side:
            sided.setdefault((side, base), index)
    found: dict[str, int] = {}
    for side in SIDES:
        for part, (first, second) in _LIMBS.items():
            place = next((sided[side, base] for base in (*first, *second) if (side, base) in sided), None)
            if place is not None:
                found[f"{side}_{part}"] = place
        # What served as a stand-in for one joint is not another one too.
        for near, far in (("ankle", "foot"), ("shoulder", "collar")):
            if found.get(f"{side}_{near}") == found.get(f"{side}_{far}"):
                found.pop(f"{side}_{far}", None)
        # CMU's "wrist" is the lower third of the forearm, and its "hand" starts at the wrist.
        if (side, "radius") in sided and (side, "hand") in sided:
            found[f"{side}_wrist"] = sided[side, "hand"]
    return found


def _split(name: str) -> tuple[str, str]:
    """Side ("left", "right" or "") and which name of a limb's joint this is ("" if none)."""
    words = _words(name)
    side = next((_SIDES[word] for word in words if word in _SIDES), "")
    rest = "".join(word for word in words if word not in _SIDES)
    if not side:
        match = re.fullmatch(r"(left|right|l|r)(.+)", rest)
        if match is None or match[2] not in _ALL_LIMB_NAMES:
            return "", ""
        side, rest = _SIDES[match[1]], match[2]
    rest = re.sub(r"\d+$", "", rest)
    return side, next((base for base in _ALL_LIMB_NAMES if rest.endswith(base)), "")


def _words(name: str) -> list[str]:
    """Lower-case words of ``mixamorig:LeftUpLeg``, ``Shoulder_L``, ``Bip01 L Thigh`` or ``lShldr``, without numbers."""
    plain = name.rpartition(":")[2]
    pieces = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", plain)
    return [piece.lower() for piece in pieces]


def _common(recording: Recording, first: int, second: int) -> int:
    """The deepest joint above both."""
    above = set(recording.ancestors(first))
    return next((joint for joint in recording.ancestors(second) if joint in above), 0)


def _check_tree(recording: Recording, joints: dict[str, int]) -> None:
    lines = [["spine3", "head"] if "head" in joints else []]
    if joints["spine3"] != joints["pelvis"]:  # of a rig without a trunk they are one
        lines.append(["pelvis", "spine3"])
    for side in SIDES:
        for chain, start in zip(_CHAINS, ("pelvis", "spine3"), strict=True):
            lines.append([start, *(name for part in chain if (name := f"{side}_{part}") in joints)])
    for above, below in itertools.chain.from_iterable(map(itertools.pairwise, lines)):
        if not recording.path(joints[above], joints[below]):
            names = recording.joint_names[joints[above]], recording.joint_names[joints[below]]
            raise UserError(
                f"{recording.name}: {above} would be {names[0]} and {below} {names[1]}, which is not below it; "
                f"{_joint_list(recording)}; give the right ones in a mapping file with --mapping"
            )


def _joint_list(recording: Recording) -> str:
    return f"its joints are {', '.join(recording.joint_names)}"
