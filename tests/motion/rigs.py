"""Foreign rigs that perform a known motion: SMPL's skeleton with other names, joint axes and another zero pose."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from diffhmr.body.joints import SMPL24, SMPL_PARENTS
from diffhmr.motion.rest_body import RestBody
from diffhmr.motion.sequence import Motion
from diffhmr.motion.skeleton import Recording

INDEX = {name: index for index, name in enumerate(SMPL24.joint_names)}

_SIDED = {
    "hip": "UpLeg", "knee": "Leg", "ankle": "Foot", "foot": "ToeBase", "collar": "Shoulder", "shoulder": "Arm",
    "elbow": "ForeArm", "wrist": "Hand",
}  # fmt: skip
MIXAMO = {
    "pelvis": "mixamorig:Hips", "spine1": "mixamorig:Spine", "spine2": "mixamorig:Spine1", "spine3": "mixamorig:Spine2",
    "neck": "mixamorig:Neck", "head": "mixamorig:Head",
    **{f"{s}_{part}": f"mixamorig:{s.title()}{name}" for s in ("left", "right") for part, name in _SIDED.items()},
}  # fmt: skip
"""Names of the joints by SMPL's, in SMPL's order but for the hands."""


def turn(axis: str, degrees: float) -> np.ndarray:
    return np.asarray(Rotation.from_euler(axis, degrees, degrees=True).as_matrix())


@lru_cache
def squats(rest: RestBody, frames: int = 60, fps: float = 30.0) -> Motion:
    """Standing for a third of the time, then knee bends with flat feet, bending elbows and a turning head and trunk."""
    rotations = np.tile(np.eye(3), (frames, 24, 1, 1))
    position = np.zeros((frames, 3))
    for frame in range(frames):
        phase = max(0.0, frame / frames - 1 / 3) * 1.5
        bend, wave = 30 * (1 - np.cos(4 * np.pi * phase)), np.sin(4 * np.pi * phase)
        turns = {
            "pelvis": turn("y", 20 * wave) @ turn("x", 0.3 * bend),
            "spine1": turn("x", 0.2 * bend), "spine3": turn("y", 10 * wave) @ turn("x", 0.1 * bend),
            "neck": turn("y", 15 * wave), "head": turn("x", 12 * wave),
        }  # fmt: skip
        for side, sign in (("left", 1.0), ("right", -1.0)):
            thigh = turns["pelvis"].T @ turn("y", 20 * wave) @ turn("x", -bend)
            turns[f"{side}_hip"], turns[f"{side}_knee"] = thigh, turn("x", 2 * bend)
            turns[f"{side}_ankle"] = turn("x", -bend)
            turns[f"{side}_shoulder"] = turn("z", sign * (-70 + 20 * wave)) @ turn("x", 10 * wave)
            turns[f"{side}_elbow"] = turn("y", -sign * (20 + bend))
            turns[f"{side}_wrist"] = turn("z", 5 * wave)
        for name, matrix in turns.items():
            rotations[frame, INDEX[name]] = matrix
        position[frame] = [0.1 * wave, 0.0, 0.5 * phase]
    motion = Motion(rotations, position, fps, "squats")
    lowest = rest.lowest(motion)
    position[:, 1] = -lowest
    return Motion(rotations, position, fps, "squats")


def rig(motion: Motion, rest: RestBody, axes: Mapping[str, np.ndarray], names: Mapping[str, str] = MIXAMO) -> Recording:
    """``motion`` as a skeleton with ``names`` records it.

    With ``axes[j]`` A, joint j of the rig has the rotation G A in the world where SMPL's has G; so the zero pose of the
    rig is the one in which SMPL's bone j has the rotation A^-1.

    Args:
        motion: what it performs.
        rest: lengths of its bones.
        axes: A by SMPL's names; identity if left out.
        names: names of the rig's joints by SMPL's; SMPL's joints that have none become part of their parent's bone.
    """
    kept = [name for name in SMPL24.joint_names if name in names]
    world, points = motion.global_rotations(), motion.joints(rest.joints)
    turns = {name: world[:, INDEX[name]] @ axes.get(name, np.eye(3)) for name in kept}
    parents, offsets, rotations = [], [], []
    for name in kept:
        above = SMPL_PARENTS[INDEX[name]]
        while above >= 0 and SMPL24.joint_names[above] not in names:
            above = SMPL_PARENTS[above]
        parents.append(kept.index(SMPL24.joint_names[above]) if above >= 0 else -1)
        if above < 0:
            offsets.append(points[:, INDEX[name]])
            rotations.append(turns[name])
        else:
            carrier = turns[SMPL24.joint_names[above]].swapaxes(-1, -2)
            way = points[:, INDEX[name]] - points[:, above]
            offsets.append((carrier @ way[..., None])[..., 0])
            rotations.append(carrier @ turns[name])
    translations = np.stack(offsets, axis=1)
    zero = translations[0].copy()
    zero[0] = 0
    return Recording(
        tuple(names[name] for name in kept), tuple(parents), zero, np.stack(rotations, axis=1), translations,
        motion.fps, motion.name,
    )  # fmt: skip


def bones_along_x() -> dict[str, np.ndarray]:
    """Axes as of the game rigs whose zero pose is no pose: all bones along their own x, mirrored on the right."""
    x, y, z = np.eye(3)
    # Columns: where SMPL's own axes are, seen from the joint; each joint's x runs along its bone.
    trunk, pelvis = np.stack([z, x, y], axis=1), np.stack([-y, x, z], axis=1)
    arm = {"left": np.stack([x, y, z], axis=1), "right": np.stack([x, -y, -z], axis=1)}
    leg = {"left": np.stack([y, -x, z], axis=1), "right": np.stack([y, x, -z], axis=1)}
    foot = {"left": np.stack([y, z, x], axis=1), "right": np.stack([y, -z, -x], axis=1)}
    frames = {"pelvis": pelvis, **dict.fromkeys(("spine1", "spine2", "spine3", "neck", "head"), trunk)}
    for side in ("left", "right"):
        frames.update({f"{side}_{part}": arm[side] for part in ("collar", "shoulder", "elbow", "wrist")})
        frames.update({f"{side}_{part}": leg[side] for part in ("hip", "knee")})
        frames.update({f"{side}_{part}": foot[side] for part in ("ankle", "foot")})
    assert all(np.linalg.det(frame) > 0.99 for frame in frames.values())
    return {name: frame.T for name, frame in frames.items()}


def a_pose() -> dict[str, np.ndarray]:
    """Axes of a rig whose zero pose has the arms 50 degrees below the horizontal and the feet apart."""
    result = {}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        result.update(dict.fromkeys((f"{side}_{p}" for p in ("shoulder", "elbow", "wrist")), turn("z", sign * 50)))
        result.update(dict.fromkeys((f"{side}_{p}" for p in ("hip", "knee")), turn("z", -sign * 12)))
    return result


def write_acclaim(folder: Path, rest: RestBody, knees: list[float], turns: list[float]) -> Path:
    """A skeleton with CMU's names and a motion with one bend of the left knee and one heading of the root per frame.

    Degrees; lengths so that a unit is 1 / 0.45 inch, and all bones' own axes those of the world.
    """
    metres = 0.0254 / 0.45
    chains = (("lfemur", "left_hip", "left_knee"), ("ltibia", "left_knee", "left_ankle"),
              ("lfoot", "left_ankle", "left_foot"), ("lhumerus", "left_shoulder", "left_elbow"),
              ("lradius", "left_elbow", "left_wrist"))  # fmt: skip
    hips, clavicle = rest.between("pelvis", "left_hip"), rest.between("neck", "left_shoulder")
    neck = rest.between("neck", "head")
    bones = {"thorax": rest.between("pelvis", "neck"), "lowerneck": neck, "head": neck,
             "lhipjoint": hips, "lclavicle": clavicle,
             **{name: rest.between(start, end) for name, start, end in chains},
             "ltoes": np.array([0.0, 0.0, 0.05]), "lhand": np.array([0.1, 0.0, 0.0])}  # fmt: skip
    bones.update({f"r{name[1:]}": way * [-1, 1, 1] for name, way in bones.items() if name.startswith("l") and
                  name != "lowerneck"})  # fmt: skip
    lines = [":version 1.10", ":name TEST", ":units", "  mass 1.0", "  length 0.45", "  angle deg", ":root",
             "   order TX TY TZ RX RY RZ", "   axis XYZ", "   position 0 0 0", "   orientation 0 0 0",
             ":bonedata"]  # fmt: skip
    for number, (name, way) in enumerate(bones.items(), 1):
        length = np.linalg.norm(way)
        lines += ["  begin", f"     id {number}", f"     name {name}",
                  "     direction " + " ".join(f"{value:.12g}" for value in way / length),
                  f"     length {length / metres:.12g}", "     axis 0 0 0  XYZ"]  # fmt: skip
        lines += ["    dof rx"] if name == "ltibia" else []
        lines.append("  end")
    lines += [":hierarchy", "  begin", "    root lhipjoint rhipjoint thorax",
              "    thorax lowerneck lclavicle rclavicle", "    lowerneck head"]  # fmt: skip
    for s in "lr":
        pairs = (("hipjoint", "femur"), ("femur", "tibia"), ("tibia", "foot"), ("foot", "toes"),
                 ("clavicle", "humerus"), ("humerus", "radius"), ("radius", "hand"))  # fmt: skip
        lines += [f"    {s}{above} {s}{below}" for above, below in pairs]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "07.asf").write_text("\n".join([*lines, "  end"]) + "\n")
    frames = ["# a comment", ":FULLY-SPECIFIED", ":DEGREES"]
    for number, (knee, heading) in enumerate(zip(knees, turns, strict=True), 1):
        frames += [str(number), f"root 1 {1 / metres:.12g} 0 0 {heading} 0", f"ltibia {knee}"]
    (folder / "07_01.amc").write_text("\n".join(frames) + "\n")
    return folder / "07_01.amc"
