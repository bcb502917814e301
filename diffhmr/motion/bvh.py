"""Biovision Hierarchy files (``.bvh``): reads those of any exporter, writes a motion on a body's rest skeleton.

The format has no standard document; what is read follows common practice: a joint's rotation is the product of its
channels in their order, and a position channel takes the place of the same coordinate of the joint's offset.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from diffhmr.body.joints import SMPL24, SMPL_PARENTS
from diffhmr.errors import UserError
from diffhmr.files import atomic_path, require_file
from diffhmr.motion.amass_layout import MAX_FPS, MIN_FPS
from diffhmr.motion.sequence import Motion
from diffhmr.motion.skeleton import Recording

_CHANNELS = {f"{axis}{kind}": (kind, k) for k, axis in enumerate("xyz") for kind in ("position", "rotation")}
_LARGEST = 1e7  # units or degrees; more is damage
_FLOAT32 = 1e-6  # relative error of what went through single precision
_END_SHARE = 0.4  # an end site continues its bone by this share of the bone's length


@dataclass
class _Hierarchy:
    names: list[str] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    offsets: list[list[float]] = field(default_factory=list)
    channels: list[list[tuple[str, int]]] = field(default_factory=list)
    ends: dict[int, np.ndarray] = field(default_factory=dict)


def read_bvh(path: str | Path) -> Recording:
    """Read a BVH file: any channel order, joints with 0 to 6 channels, tabs, CRLF, names with blanks.

    A position channel that is zero in all frames of a joint with an offset, below the root, is taken as "not moved":
    some exporters write six channels everywhere and leave the positions empty.

    Raises:
        UserError: the file is missing or is no BVH, its hierarchy or numbers are damaged, or the frames that follow
            are not those that it announces.
    """
    path = require_file(path, "BVH file", "give a .bvh file")
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    parts = re.split(r"^[ \t]*MOTION[ \t]*$", text, maxsplit=1, flags=re.MULTILINE | re.IGNORECASE)
    if len(parts) != 2 or "HIERARCHY" not in parts[0].upper():
        raise UserError(f"{path} is no BVH file: it lacks HIERARCHY or MOTION; export it again")
    hierarchy = _read_hierarchy(path, parts[0])
    values, fps = _read_frames(path, parts[1], sum(map(len, hierarchy.channels)))
    offsets = np.array(hierarchy.offsets)
    rotations, translations = _apply_channels(hierarchy, offsets, values)
    return Recording(
        tuple(hierarchy.names), tuple(hierarchy.parents), offsets, rotations, translations, fps, path.stem,
        hierarchy.ends,
    )  # fmt: skip


def write_bvh(path: str | Path, motion: Motion, rest_joints: np.ndarray, scale: float = 1.0) -> Path:
    """Write ``motion`` on the skeleton ``rest_joints [24, 3]``: y up, the T-pose at zero rotations, SMPL's names.

    The bones are those of ``rest_joints``: of a shaped body, its joints in the rest pose. Blender takes lengths as
    metres and y as up unless its import dialog is told otherwise, and shows the file upright as it is.

    Args:
        path: of the file, ending in ``.bvh``.
        motion: to write, one line per frame.
        rest_joints: metres; the place of the pelvis does not count, the motion says it.
        scale: units per metre: 1 for Blender, 100 for programs that expect centimetres (Maya, MotionBuilder).

    Raises:
        UserError: another suffix, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() != ".bvh":
        raise UserError(f"cannot write the motion {path}: its name should end in .bvh")
    with warnings.catch_warnings():
        # At the pole only the sum of two angles is defined; any split gives the same rotation.
        warnings.filterwarnings("ignore", message="Gimbal lock")
        angles = Rotation.from_matrix(motion.rotations.reshape(-1, 3, 3)).as_euler("ZYX")
    angles = _unwrapped(angles.reshape(len(motion), -1, 3))
    order = _depth_first(0)
    rows = np.concatenate([motion.position * scale, np.rad2deg(angles[:, order]).reshape(len(motion), -1)], axis=1)
    lines = ["HIERARCHY", *_hierarchy_lines(0, rest_joints * scale, 0), "MOTION", f"Frames: {len(motion)}"]
    lines.append(f"Frame Time: {1 / motion.fps:.8f}")
    lines += [" ".join(f"{value:.6f}" for value in row) for row in rows]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _read_hierarchy(path: Path, text: str) -> _Hierarchy:
    result = _Hierarchy()
    stack: list[int | None] = []  # joints whose braces are open; None for an end site
    opening: int | None = -1
    for line in _lines(text):
        keyword, *rest = line.split(None, 1)
        word, value = keyword.upper(), rest[0].strip() if rest else ""
        if word in ("ROOT", "JOINT"):
            if (word == "ROOT") != (not stack):
                raise UserError(f"{path} has a {word} in the wrong place ({value}); one skeleton per file is read")
            if result.names and not stack:
                raise UserError(f"{path} holds a second skeleton ({value}); export one person per file")
            opening = len(result.names)
            result.names.append(value)
            result.parents.append(-1 if not stack or stack[-1] is None else stack[-1])
            result.offsets.append([0.0, 0.0, 0.0])
            result.channels.append([])
        elif word == "END":
            opening = None
        elif word == "{":
            stack.append(opening)
        elif word == "}":
            if not stack:
                raise UserError(f"{path} closes more braces than it opens; export it again")
            stack.pop()
        elif word == "OFFSET" and stack:
            _set_offset(result, stack, _three_numbers(path, value))
        elif word == "CHANNELS" and stack and stack[-1] is not None:
            result.channels[stack[-1]] = _channel_list(path, value)
        elif word != "HIERARCHY":
            raise UserError(f"{path} has a line in its hierarchy that BVH does not know: {line[:60]!r}")
    if stack or not result.names:
        raise UserError(f"{path} has an incomplete hierarchy; export it again")
    return result


def _lines(text: str) -> Iterator[str]:
    """Lines that are not empty, with every brace on a line of its own."""
    for line in re.sub(r"([{}])", r"\n\1\n", text).splitlines():
        if line.strip():
            yield line.strip()


def _set_offset(result: _Hierarchy, stack: list[int | None], offset: list[float]) -> None:
    if stack[-1] is not None:
        result.offsets[stack[-1]] = offset
    elif len(stack) > 1 and stack[-2] is not None:
        result.ends.setdefault(stack[-2], np.array(offset))


def _three_numbers(path: Path, value: str) -> list[float]:
    try:
        numbers = [float(word) for word in value.split()]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or not all(abs(number) <= _LARGEST for number in numbers):
        raise UserError(f"{path} has an OFFSET that is not three numbers: {value[:60]!r}; export it again")
    return numbers


def _channel_list(path: Path, value: str) -> list[tuple[str, int]]:
    count, *names = value.split() or ["0"]
    known = [_CHANNELS[name.lower()] for name in names if name.lower() in _CHANNELS]
    if not count.isdecimal() or int(count) != len(names) or len(known) != len(names):
        raise UserError(f"{path} has a CHANNELS line that cannot be read: {value[:80]!r}; export it again")
    return known


def _read_frames(path: Path, text: str, columns: int) -> tuple[np.ndarray, float]:
    """Values ``[T, columns]`` and frames per second."""
    pattern = r"\s*Frames\s*:\s*(\S+)\s+Frame\s*Time\s*:\s*(\S+)(.*)"
    match = re.match(pattern, text, flags=re.IGNORECASE | re.DOTALL)
    if match is None:
        raise UserError(f"{path} lacks 'Frames:' or 'Frame Time:' after MOTION; export it again")
    count, step, body = match.groups()
    if not count.isdecimal() or int(count) < 1:
        raise UserError(f"{path} says it has {count!r} frames; export it again")
    words = body.split()
    try:
        values = np.array(words, dtype=np.float64)
    except ValueError as error:
        bad = next(word for word in words if not _is_number(word))
        raise UserError(f"{path} has {bad[:40]!r} among its frames, which is no number; export it again") from error
    if not (np.abs(values) <= _LARGEST).all():
        raise UserError(f"{path} has values that are not finite or absurdly large among its frames; export it again")
    if columns == 0 or values.size != int(count) * columns:
        found = values.size / columns if columns else 0
        raise UserError(
            f"{path} announces {count} frames of {columns} channels but holds {values.size} values "
            f"({found:.10g} frames): it is cut off or was edited; correct 'Frames:' or export it again"
        )
    return values.reshape(int(count), columns), frames_per_second(path, step)


def frames_per_second(path: Path, frame_time: str) -> float:
    """The rate that a frame time in seconds stands for, undoing the rounding of its digits ("0.0333" is 30).

    Raises:
        UserError: it is no number, or not that of a recording.
    """
    seconds = float(frame_time) if _is_number(frame_time) else 0.0
    if not 1 / MAX_FPS <= seconds <= 1 / MIN_FPS:
        raise UserError(
            f"{path} has a frame time of {frame_time[:40]!r}, expected {1 / MAX_FPS:g} to {1 / MIN_FPS:g} seconds; "
            "correct 'Frame Time:'"
        )
    last_digit = 10.0 ** int(Decimal(frame_time).as_tuple().exponent)
    whole = max(1.0, float(round(1 / seconds)))
    return whole if abs(1 / whole - seconds) < max(last_digit, _FLOAT32 * seconds) else 1 / seconds


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _apply_channels(hierarchy: _Hierarchy, offsets: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotations ``[T, N, 3, 3]`` and translations ``[T, N, 3]`` relative to the parents."""
    frames, joints = len(values), len(offsets)
    rotations = np.tile(np.eye(3), (frames, joints, 1, 1))
    translations = np.tile(offsets, (frames, 1, 1))
    column = 0
    for joint, channels in enumerate(hierarchy.channels):
        kinds = [kind for kind, _ in channels]
        block = values[:, column : column + len(channels)]
        column += len(channels)
        places = [k for k, kind in enumerate(kinds) if kind == "position"]
        if places and (joint == 0 or np.any(block[:, places])):
            translations[:, joint, [channels[k][1] for k in places]] = block[:, places]
        turns = [k for k, kind in enumerate(kinds) if kind == "rotation"]
        for k in turns:
            vectors = np.zeros((frames, 3))
            vectors[:, channels[k][1]] = np.deg2rad(block[:, k])
            rotations[:, joint] = rotations[:, joint] @ Rotation.from_rotvec(vectors).as_matrix()
    return rotations, translations


def _depth_first(joint: int) -> list[int]:
    children = [child for child, parent in enumerate(SMPL_PARENTS) if parent == joint]
    return [joint, *(k for child in children for k in _depth_first(child))]


def _unwrapped(angles: np.ndarray) -> np.ndarray:
    """Euler angles ``[T, J, 3]`` of the order ZYX without jumps: programs interpolate between frames angle by angle.

    (a, b, c) and (a + pi, pi - b, c + pi) are one rotation; the nearer one to the frame before is taken.
    """
    result = angles.copy()
    for frame in range(1, len(result)):
        other = np.stack(
            [result[frame, :, 0] + np.pi, np.pi - result[frame, :, 1], result[frame, :, 2] + np.pi], axis=-1
        )
        before = result[frame - 1]
        choices = [a + 2 * np.pi * np.round((before - a) / (2 * np.pi)) for a in (result[frame], other)]
        first_is_near = np.abs(choices[0] - before).sum(-1) <= np.abs(choices[1] - before).sum(-1)
        result[frame] = np.where(first_is_near[:, None], choices[0], choices[1])
    return result


def _hierarchy_lines(joint: int, rest: np.ndarray, depth: int) -> list[str]:
    indent = "\t" * depth
    parent = SMPL_PARENTS[joint]
    offset = np.zeros(3) if parent < 0 else rest[joint] - rest[parent]
    channels = "CHANNELS 3 Zrotation Yrotation Xrotation"
    if parent < 0:
        channels = "CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation"
    lines = [f"{indent}{'ROOT' if parent < 0 else 'JOINT'} {SMPL24.joint_names[joint]}", f"{indent}{{"]
    lines += [f"{indent}\tOFFSET {_words(offset)}", f"{indent}\t{channels}"]
    children = [child for child, above in enumerate(SMPL_PARENTS) if above == joint]
    for child in children:
        lines += _hierarchy_lines(child, rest, depth + 1)
    if not children:
        lines += [f"{indent}\tEnd Site", f"{indent}\t{{", f"{indent}\t\tOFFSET {_words(offset * _END_SHARE)}"]
        lines.append(f"{indent}\t}}")
    return [*lines, f"{indent}}}"]


def _words(vector: np.ndarray) -> str:
    return " ".join(f"{value:.6f}" for value in vector)
