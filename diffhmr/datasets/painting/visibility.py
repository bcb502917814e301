"""Which of the 49 joints a picture shows: read off the rendered surface, exact to a pixel.

A joint is visible when

1. it lies inside the crop and the photograph,
2. no object covers it, and
3. the person does not hide it: at the pixel of its projection the person's first surface either

   * lies not more than a tolerance in front of the joint (5 cm for joints inside the body; 4 cm for points on its
     surface: nose, eyes, ears, heels, toes), or
   * for joints inside the body, belongs to a bone that meets at the joint and lies not more than 25 cm in front of it:
     a shoulder is hidden neither by its own upper arm nor by its own collar, but by a hand before it, or
   * is not there (points at the outline can fall beside it).
"""

from __future__ import annotations

import torch
from torch import Tensor

from diffhmr.body.joints import SMPL24, SPIN49, joint_source

INNER_TOLERANCE = 0.05
SURFACE_TOLERANCE = 0.04
INCIDENT_TOLERANCE = 0.25

# Bones, named by the SMPL joint at which they begin, that meet at a joint; sides are filled in below.
_INCIDENT: dict[str, tuple[str, ...]] = {
    "neck": ("spine3", "left_collar", "right_collar", "neck", "head"),
    "neck_lsp": ("spine3", "left_collar", "right_collar", "neck", "head"),
    "thorax_mpii": ("spine3", "left_collar", "right_collar", "neck"),
    "head_top_lsp": ("head",),
    "jaw_h36m": ("neck", "head"),
    "head_h36m": ("head",),
    "pelvis": ("pelvis", "left_hip", "right_hip", "spine1"),
    "pelvis_mpii": ("pelvis", "left_hip", "right_hip", "spine1"),
    "spine_h36m": ("pelvis", "spine1", "spine2", "spine3"),
    "shoulder": ("collar", "shoulder"),
    "elbow": ("shoulder", "elbow"),
    "wrist": ("elbow", "wrist"),
    "hip": ("pelvis", "hip"),
    "hip_lsp": ("pelvis", "hip"),
    "knee": ("hip", "knee"),
    "ankle": ("knee", "ankle"),
}
_WITHOUT_SIDE = frozenset(("pelvis",))


def incident_bones(joint: str) -> tuple[str, ...]:
    """Bones that meet at a joint of SPIN49, as names of SMPL joints; none for points of the surface."""
    if joint in _INCIDENT:
        return _INCIDENT[joint]
    side, _, name = joint.partition("_")
    if side in ("left", "right") and name in _INCIDENT:
        return tuple(bone if bone in _WITHOUT_SIDE else f"{side}_{bone}" for bone in _INCIDENT[name])
    if joint_source(joint).kind != "landmark":
        raise ValueError(f"no bones are known to meet at {joint}")
    return ()


class JointVisibility:
    """The rule above for all joints of SPIN49."""

    def __init__(self, device: torch.device) -> None:
        table = [[bone in incident_bones(joint) for bone in SMPL24.joint_names] for joint in SPIN49.joint_names]
        self._incident = torch.tensor(table, device=device)
        inner = self._incident.any(1)
        self._tolerance = torch.where(inner, INNER_TOLERANCE, SURFACE_TOLERANCE)

    def seen_by_person(self, joints2d: Tensor, joint_depth: Tensor, part: Tensor, depth: Tensor) -> Tensor:
        """Joints that the person itself does not hide.

        Args:
            joints2d: ``[B, 49, 2]`` crop coordinates; joints outside the crop are looked up at its border.
            joint_depth: ``[B, 49]`` z of the joints.
            part: ``[B, H, W]`` bone of the person's first surface, -1 where there is none.
            depth: ``[B, H, W]`` its z, infinite where there is none.

        Returns:
            ``[B, 49]`` bool.
        """
        height, width = part.shape[1:]
        column = self._to_pixel(joints2d[..., 0], width)
        row = self._to_pixel(joints2d[..., 1], height)
        flat = row * width + column
        bone = part.flatten(1).gather(1, flat).long()
        before = joint_depth - depth.flatten(1).gather(1, flat)
        place = torch.arange(bone.shape[1], device=bone.device)
        incident = self._incident[place, bone.clamp_min(0)] & (bone >= 0)
        return (before <= self._tolerance) | (incident & (before <= INCIDENT_TOLERANCE))

    @staticmethod
    def _to_pixel(coordinate: Tensor, size: int) -> Tensor:
        pixel = torch.floor((coordinate.double() + 1) * (size / 2))
        return pixel.clamp(0, size - 1).long()
