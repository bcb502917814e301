"""Skeletons drawn into pictures with anti-aliased lines, in torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from diffhmr.body.joints import COCO17, H36M17

Colour = tuple[float, float, float]

LEFT: Colour = (0.10, 0.45, 0.95)
RIGHT: Colour = (0.95, 0.35, 0.10)
MIDDLE: Colour = (0.25, 0.75, 0.30)

_LIMBS = (
    ("left_shoulder", "right_shoulder"),
    ("left_hip", "right_hip"),
    ("left_shoulder", "left_hip"),
    ("right_shoulder", "right_hip"),
    ("left_shoulder", "left_elbow"),
    ("left_elbow", "left_wrist"),
    ("right_shoulder", "right_elbow"),
    ("right_elbow", "right_wrist"),
    ("left_hip", "left_knee"),
    ("left_knee", "left_ankle"),
    ("right_hip", "right_knee"),
    ("right_knee", "right_ankle"),
    ("nose", "left_eye"),
    ("nose", "right_eye"),
    ("left_eye", "left_ear"),
    ("right_eye", "right_ear"),
)
COCO17_EDGES = tuple((COCO17.joint_names.index(first), COCO17.joint_names.index(second)) for first, second in _LIMBS)
"""Pairs of COCO-17 joints that a limb, or the line of the face, connects."""


_H36M17_PARENTS = (0, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
H36M17_EDGES = tuple((parent, child) for child, parent in enumerate(_H36M17_PARENTS) if child)
"""Pairs of H36M-17 joints that a bone connects, the pelvis first."""
H36M17_COLOURS = tuple(
    {"left": LEFT, "right": RIGHT}.get(H36M17.joint_names[child].split("_")[0], MIDDLE) for _, child in H36M17_EDGES
)
"""One per edge: blue for the person's left side, orange for the right, green for the trunk."""


def edge_colours(edges: Sequence[tuple[int, int]] = COCO17_EDGES) -> list[Colour]:
    """Blue for the person's left side, orange for the right, green for what joins the two."""
    colours = []
    for first, second in edges:
        sides = {COCO17.joint_names[joint].split("_")[0] for joint in (first, second)} - {"nose"}
        colours.append(LEFT if sides == {"left"} else RIGHT if sides == {"right"} else MIDDLE)
    return colours


def draw_skeleton(
    image: Tensor,
    joints: Tensor,
    *,
    seen: Tensor | None = None,
    edges: Sequence[tuple[int, int]] = COCO17_EDGES,
    colours: Sequence[Colour] | None = None,
    width: float = 2.0,
    opacity: float = 1.0,
) -> Tensor:
    """A copy of ``image`` with a skeleton drawn over it.

    Args:
        image: ``[3, H, W]`` RGB in [0, 1].
        joints: ``[J, 2]`` pixels (x, y), origin at the centre of the top-left pixel; may lie outside.
        seen: ``[J]`` bool; edges with an unseen end are left out. None draws all.
        edges: pairs of joints.
        colours: one per edge; None colours the sides of COCO-17, see :func:`edge_colours`.
        width: of the lines in pixels.
        opacity: of the lines, 0 to 1.
    """
    chosen = [pair for pair in edges if seen is None or bool(seen[list(pair)].all())]
    palette = dict(zip(edges, edge_colours(edges) if colours is None else colours, strict=True))
    if not chosen:
        return image.clone()
    start = joints[[first for first, _ in chosen]].to(image)
    along = joints[[second for _, second in chosen]].to(image) - start
    rows, columns = (torch.arange(size, dtype=image.dtype, device=image.device) for size in image.shape[1:])
    pixels = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
    offset = pixels[None] - start[:, None, None]
    share = (offset * along[:, None, None]).sum(-1) / along.square().sum(-1).clamp_min(1e-9)[:, None, None]
    distance = (offset - share.clamp(0, 1)[..., None] * along[:, None, None]).norm(dim=-1)
    # A pixel is covered as far as the line reaches across it.
    cover = opacity * (width / 2 + 0.5 - distance).clamp(0, 1)
    drawn = image.clone()
    for pair, alpha in zip(chosen, cover, strict=True):
        drawn = drawn + alpha * (image.new_tensor(palette[pair])[:, None, None] - drawn)
    return drawn
