"""Acclaim files, as of CMU's motion capture: a skeleton (``.asf``) and its motion (``.amc``).

A bone turns about its own axes, which the skeleton gives as Euler angles: with C their rotation and M the product of
the bone's degrees of freedom, the bone turns by C M C^T relative to its parent bone. Euler angles are about fixed axes:
the one named first is applied first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from diffhmr.errors import UserError
from diffhmr.files import require_file
from diffhmr.motion.skeleton import Recording

CMU_FPS = 120.0
"""Frames per second of CMU's recordings; the files themselves do not say."""

_INCH = 0.0254
_ROOT = "root"
_AXES = {"x": 0, "y": 1, "z": 2}
_FREEDOMS = ("tx", "ty", "tz", "rx", "ry", "rz", "l")
_UNIT_LENGTHS = 1e-3, 1e3  # per inch
_LARGEST = 1e7  # units or degrees; more is damage


@dataclass(frozen=True)
class _Bone:
    name: str
    vector: np.ndarray  # from its start to its end, units of the file
    axes: np.ndarray  # C [3, 3]
    dof: tuple[str, ...]


@dataclass(frozen=True)
class _Skeleton:
    bones: dict[str, _Bone]
    children: dict[str, list[str]]
    root_order: tuple[str, ...]
    root_position: np.ndarray
    root_turn: np.ndarray
    degrees: bool
    metres: float  # per unit of length


def read_acclaim(amc: str | Path, asf: str | Path | None = None, fps: float = CMU_FPS) -> Recording:
    """Read a motion and its skeleton; lengths become metres.

    Joint NAME of the recording lies at the start of bone NAME; the root is ``root``.

    Args:
        amc: the motion.
        asf: the skeleton; if left out, the file beside the motion whose name the motion's begins with, as ``01.asf``
            for ``01_05.amc``, or the only one there.
        fps: frames per second of the recording, which the files do not hold.

    Raises:
        UserError: a file is missing or damaged, or the two do not fit together.
    """
    amc = require_file(amc, "AMC motion", "give an .amc file")
    asf = _find_asf(amc) if asf is None else require_file(asf, "ASF skeleton", "give an .asf file")
    skeleton = _read_asf(asf)
    frames = _read_amc(amc, skeleton)
    order = [_ROOT, *_below(skeleton, _ROOT, asf)]
    parents = {child: bone for bone, children in skeleton.children.items() for child in children}
    offsets, rotations, ends = [], [], {}
    for index, name in enumerate(order):
        above = parents.get(name, "")
        offsets.append(skeleton.bones[above].vector if above in skeleton.bones else np.zeros(3))
        rotations.append(_turns(skeleton, name, frames.get(name), len(frames[_ROOT])))
        if name in skeleton.bones and not skeleton.children.get(name):
            ends[index] = skeleton.bones[name].vector
    translations = np.tile(np.stack(offsets), (len(frames[_ROOT]), 1, 1)) * skeleton.metres
    translations[:, 0] = _root_positions(skeleton, frames[_ROOT]) * skeleton.metres
    return Recording(
        tuple(order),
        tuple(order.index(parents[name]) if name in parents else -1 for name in order),
        np.stack(offsets) * skeleton.metres,
        np.stack(rotations, axis=1),
        translations,
        fps,
        amc.stem,
        {index: vector * skeleton.metres for index, vector in ends.items()},
    )


def _find_asf(amc: Path) -> Path:
    beside = sorted(path for path in amc.parent.iterdir() if path.suffix.lower() == ".asf")
    named = [path for path in beside if amc.stem == path.stem or amc.stem.startswith(path.stem + "_")]
    if len(named) != 1 and len(beside) != 1:
        found = ", ".join(path.name for path in beside) or "none"
        raise UserError(f"no skeleton for {amc}: of the .asf files beside it ({found}) none has its name; put it there")
    return named[0] if len(named) == 1 else beside[0]


def _sections(path: Path) -> dict[str, list[str]]:
    """Lines of an ASF by section, without comments."""
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for raw in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
        line = raw.partition("#")[0].strip()
        if line.startswith(":"):
            keyword, _, rest = line[1:].partition(" ")
            lines = sections.setdefault(keyword.strip().lower(), [])
            line = rest.strip()
        if line:
            lines.append(line)
    return sections


def _read_asf(path: Path) -> _Skeleton:
    sections = _sections(path)
    missing = [name for name in ("root", "bonedata", "hierarchy") if name not in sections]
    if missing:
        raise UserError(f"{path} is no ASF skeleton: it lacks :{' :'.join(missing)}; copy it again")
    units = {line.split()[0].lower(): line.split()[-1].lower() for line in sections.get("units", [])}
    root = {line.split()[0].lower(): line.split()[1:] for line in sections["root"]}
    degrees = not units.get("angle", "deg").startswith("rad")
    try:
        length = float(units.get("length", "1"))
        if not _UNIT_LENGTHS[0] <= length <= _UNIT_LENGTHS[1]:
            raise ValueError(f"a unit length of {length:g}")
        # Files made by hand may leave the order of the root's channels out.
        order = _freedoms(root.get("order", ["TX", "TY", "TZ", "RX", "RY", "RZ"]))
        turn_axes = [word[1:] for word in order if word.startswith("r")]
        bones = [_read_bone(lines, degrees) for lines in _blocks(sections["bonedata"])]
        return _Skeleton(
            bones={bone.name: bone for bone in bones},
            children=_read_hierarchy(sections["hierarchy"], {bone.name for bone in bones}),
            root_order=order,
            root_position=_numbers(root.get("position", ["0", "0", "0"])),
            root_turn=_fixed_axes(
                "".join(root.get("axis", ["".join(turn_axes)])).lower(),
                _numbers(root.get("orientation", ["0", "0", "0"])),
                degrees,
            ),
            degrees=degrees,
            # CMU: a unit is 1 / 0.45 inches.
            metres=_INCH / length,
        )
    except (ValueError, IndexError, KeyError) as error:
        raise UserError(f"{path} cannot be read as an ASF skeleton ({error}); copy it again") from error


def _blocks(lines: list[str]) -> list[list[str]]:
    blocks: list[list[str]] = []
    for line in lines:
        if line.lower() == "begin":
            blocks.append([])
        elif line.lower() != "end" and blocks:
            blocks[-1].append(line)
    return blocks


def _read_bone(lines: list[str], degrees: bool) -> _Bone:
    fields = {line.split()[0].lower(): line.split()[1:] for line in lines}
    direction = _numbers(fields["direction"])
    norm = np.linalg.norm(direction)
    *angles, order = fields["axis"]
    name, length = fields["name"][0], float(fields["length"][0])
    if not 0 <= length <= _LARGEST:
        raise ValueError(f"{name} has a length of {length:g}")
    return _Bone(
        name=name,
        vector=direction / norm * length if norm > 0 else np.zeros(3),
        axes=_fixed_axes(order.lower(), _numbers(angles), degrees),
        dof=_freedoms(fields.get("dof", [])),
    )


def _freedoms(words: list[str]) -> tuple[str, ...]:
    """Degrees of freedom, the columns of a bone or of the root in the motion."""
    order = tuple(word.lower() for word in words)
    if not set(order) <= set(_FREEDOMS) or len(set(order)) != len(order):
        raise ValueError(f"degrees of freedom {' '.join(words)!r}, known are {' '.join(_FREEDOMS)}")
    return order


def _read_hierarchy(lines: list[str], bones: set[str]) -> dict[str, list[str]]:
    """Children by parent. A parent may have several lines, or a line of its own without children."""
    children: dict[str, list[str]] = {}
    for line in lines:
        if line.lower() not in ("begin", "end"):
            parent, *below = line.split()
            if parent != _ROOT and parent not in bones:
                raise ValueError(f"the hierarchy has a line {line[:60]!r}, but there is no bone {parent[:40]!r}")
            children.setdefault(parent, []).extend(below)
    loose = bones - {child for below in children.values() for child in below}
    if loose:
        raise ValueError(f"the hierarchy leaves out {', '.join(sorted(loose))[:80]}")
    return children


def _numbers(words: list[str]) -> np.ndarray:
    values = np.array([float(word) for word in words])
    if values.shape != (3,) or not (np.abs(values) <= _LARGEST).all():
        raise ValueError(f"expected three numbers, found {' '.join(words)!r}")
    return values


def _fixed_axes(order: str, angles: np.ndarray, degrees: bool) -> np.ndarray:
    """Rotation about fixed axes, the first of ``order`` first. ``angles[k]`` belongs to ``order[k]``."""
    if sorted(order) != ["x", "y", "z"]:
        raise ValueError(f"an order of axes {order!r}")
    return np.asarray(Rotation.from_euler(order, angles, degrees=degrees).as_matrix())


def _below(skeleton: _Skeleton, name: str, asf: Path) -> list[str]:
    """All bones under ``name``, parents first."""
    found: list[str] = []
    waiting = list(skeleton.children.get(name, []))
    while waiting:
        bone = waiting.pop(0)
        if bone not in skeleton.bones or bone in found:
            raise UserError(f"{asf} has {bone!r} in its hierarchy twice or without bone data; copy it again")
        found.append(bone)
        waiting += skeleton.children.get(bone, [])
    return found


def _read_amc(path: Path, skeleton: _Skeleton) -> dict[str, np.ndarray]:
    """Values ``[T, dof]`` per bone, and of the root."""
    widths = {_ROOT: len(skeleton.root_order), **{bone.name: len(bone.dof) for bone in skeleton.bones.values()}}
    values: dict[str, list[list[float]]] = {}
    frames, degrees = 0, skeleton.degrees
    for number, raw in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        words = raw.partition("#")[0].split()
        if not words:
            continue
        if words[0].startswith(":"):
            degrees = {":degrees": True, ":radians": False}.get(words[0].lower(), degrees)
        elif len(words) == 1 and words[0].isdigit():
            frames += 1
        elif words[0] not in widths or frames == 0:
            raise UserError(f"{path}, line {number}: {words[0][:40]!r} is no bone of the skeleton: give its own .asf")
        else:
            row = _row(path, number, words[1:], widths[words[0]])
            rows = values.setdefault(words[0], [])
            if len(rows) != frames - 1:
                raise UserError(f"{path}, line {number}: frame {frames} or one before lacks {words[0]} or repeats it")
            rows.append(row)
    if _ROOT not in values:
        raise UserError(f"{path} is no AMC motion: it has no root; copy it again")
    short = [name for name, rows in values.items() if len(rows) != frames]
    if short:
        raise UserError(f"{path} is cut off: the last frame lacks {', '.join(short)}; copy it again")
    to_radians = np.pi / 180 if degrees else 1.0
    result = {name: np.array(rows) for name, rows in values.items()}
    for name, table in result.items():
        order = skeleton.root_order if name == _ROOT else skeleton.bones[name].dof
        turning = _turning(order)
        table[:, turning] *= to_radians
        moving = [word for k, word in enumerate(order) if k not in turning and table[:, k].any()]
        if name != _ROOT and moving:
            raise UserError(
                f"{path}: the bone {name} moves along {', '.join(moving)}, and bones that grow or come off their joint "
                "cannot be read; export the motion with rotations only"
            )
    return result


def _row(path: Path, number: int, words: list[str], width: int) -> list[float]:
    try:
        row = [float(word) for word in words]
    except ValueError:
        row = []
    if len(row) != width or not all(abs(value) <= _LARGEST for value in row):
        raise UserError(f"{path}, line {number}: expected {width} numbers, found {' '.join(words)[:60]!r}")
    return row


def _turning(order: tuple[str, ...]) -> list[int]:
    """Columns that are angles."""
    return [k for k, word in enumerate(order) if re.fullmatch("r[xyz]", word)]


def _turns(skeleton: _Skeleton, name: str, values: np.ndarray | None, frames: int) -> np.ndarray:
    """Rotations ``[T, 3, 3]`` of a bone relative to its parent, or of the root."""
    order = skeleton.root_order if name == _ROOT else skeleton.bones[name].dof
    axes = skeleton.root_turn if name == _ROOT else skeleton.bones[name].axes
    turns = np.tile(np.eye(3), (frames, 1, 1))
    if values is None:  # a bone that does not move on its own
        return turns
    for k in _turning(order):
        vectors = np.zeros((frames, 3))
        vectors[:, _AXES[order[k][1]]] = values[:, k]
        turns = Rotation.from_rotvec(vectors).as_matrix() @ turns
    return axes @ turns @ axes.T


def _root_positions(skeleton: _Skeleton, values: np.ndarray) -> np.ndarray:
    positions = np.tile(skeleton.root_position, (len(values), 1))
    for k, word in enumerate(skeleton.root_order):
        if re.fullmatch("t[xyz]", word):
            positions[:, _AXES[word[1]]] += values[:, k]
    return positions
