"""Named points and clothing regions on the surface, and the extra joint regressors that are built from them.

Frame: T-pose, y up, facing +z, left at +x, metres. Letters: V vertices, N source bones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scripts.free_body.rig import SMPL_JOINTS, SourceRig

Array = NDArray[np.float64]

REGIONS = (
    "skin_face", "hair_scalp", "neck", "torso", "upper_arm", "lower_arm", "hand", "pelvis", "upper_leg", "lower_leg",
    "foot", "eye",
)  # fmt: skip
_JOINT_REGION = {
    "pelvis": "pelvis", "hip": "upper_leg", "knee": "lower_leg", "ankle": "foot", "foot": "foot", "spine1": "torso",
    "spine2": "torso", "spine3": "torso", "neck": "neck", "collar": "torso", "head": "skin_face",
    "shoulder": "upper_arm", "elbow": "lower_arm", "wrist": "hand", "hand": "hand",
}  # fmt: skip
_FINGERS = ("thumb", "index", "middle", "ring", "pinky")


def find_landmarks(vertices: Array, weights: Array, rig: SourceRig) -> dict[str, int]:
    """Named surface vertices of a body (V, 3) in T-pose, found by the source bones (weights (V, N)) that move them."""
    points: dict[str, int] = {}
    head = _moved_by(weights, rig, "head")
    eyes = np.flatnonzero(_moved_by(weights, rig, "eye.L") | _moved_by(weights, rig, "eye.R"))
    x, y, z = vertices.T
    eye_height = float(y[eyes].mean())
    middle = np.flatnonzero(head & (np.abs(x) < 1e-3) & (y < eye_height))
    points["nose"] = int(middle[z[middle].argmax()])
    crown = np.flatnonzero(head & (np.abs(x) < 1e-3))
    points["head_top"] = int(crown[y[crown].argmax()])
    for side, name, sign in (("L", "left", 1.0), ("R", "right", -1.0)):
        eye = np.flatnonzero(_moved_by(weights, rig, f"eye.{side}"))
        centre = vertices[eye].mean(0)
        front = eye[z[eye] > centre[2]]
        points[f"{name}_eye"] = int(front[np.linalg.norm((vertices[front] - centre)[:, :2], axis=1).argmin()])
        ear = np.flatnonzero(head & (np.abs(y - eye_height) < 0.06))
        points[f"{name}_ear"] = int(ear[(sign * x[ear]).argmax()])
        for toe, label in ((1, "big"), (5, "small")):
            tip = np.flatnonzero(_moved_by(weights, rig, f"toe{toe}-", side))
            points[f"{name}_{label}_toe"] = int(tip[z[tip].argmax()])
        sole = np.flatnonzero(_moved_by(weights, rig, "foot", side) & (y < y.min() + 0.05))
        points[f"{name}_heel"] = int(sole[z[sole].argmin()])
        for finger, label in enumerate(_FINGERS, start=1):
            tip = np.flatnonzero(_moved_by(weights, rig, f"finger{finger}-3", side))
            points[f"{name}_{label}_tip"] = int(tip[(sign * x[tip] + (z[tip] if finger == 1 else 0.0)).argmax()])
    return points


def label_regions(
    vertices: Array, joint_weights: Array, eye_vertices: NDArray[np.bool_], landmarks: dict[str, int]
) -> NDArray[np.uint8]:
    """Index into :data:`REGIONS` for every vertex (V), by the joint that moves it most (weights (V, 24)).

    The hair line runs on a slanted plane from the forehead to the nape; the ears stay skin.
    """
    names = [_JOINT_REGION[name.split("_")[-1]] for name in SMPL_JOINTS]
    region = np.array([REGIONS.index(name) for name in names])[joint_weights.argmax(1)]
    x, y, z = vertices.T
    top, nose = vertices[landmarks["head_top"]], vertices[landmarks["nose"]]
    eye = vertices[[landmarks["left_eye"], landmarks["right_eye"]]].mean(0)
    ear = vertices[[landmarks["left_ear"], landmarks["right_ear"]]].mean(0)
    head = region == REGIONS.index("skin_face")
    # In profile: the forehead's hair line stands 60 % of the way from the eyes to the top, the nape's at the ear lobe.
    front = np.array([nose[2], eye[1] + 0.6 * (top[1] - eye[1])])
    back = np.array([ear[2] - 0.03, ear[1] - 0.07])
    slope = (front[1] - back[1]) / (front[0] - back[0])
    above = y > back[1] + slope * (z - back[0])
    width = 0.5 * abs(vertices[landmarks["left_ear"], 0] - vertices[landmarks["right_ear"], 0])
    # The ear's outermost point is on its upper rim, so its middle lies lower.
    on_ear = (np.abs(x) > width - 0.028) & (np.hypot((y - ear[1] + 0.012) / 0.04, (z - ear[2]) / 0.032) < 1.0)
    region[head & above & ~on_ear] = REGIONS.index("hair_scalp")
    region[eye_vertices] = REGIONS.index("eye")
    return region.astype(np.uint8)


def h36m_regressor(joint_rows: Array, landmarks: dict[str, int]) -> Array:
    """The 17 Human3.6M joints as rows over the vertices (17, V), LEFT leg first.

    Order: pelvis, left hip, knee, ankle, right hip, knee, ankle, spine, neck, jaw, head, left shoulder, elbow, wrist,
    right shoulder, elbow, wrist. The pelvis of this skeleton lies between the hips, the spine half-way up to the neck's
    base, the jaw behind the nose and the head just under the crown.

    Args:
        joint_rows: rows (24, V) that give SMPL's joints on a posed surface.
    """

    def joint(name: str) -> Array:
        return joint_rows[SMPL_JOINTS.index(name)]

    def point(name: str) -> Array:
        row = np.zeros(joint_rows.shape[1])
        row[landmarks[name]] = 1.0
        return row

    ears = 0.5 * (point("left_ear") + point("right_ear"))
    rows = [0.5 * (joint("left_hip") + joint("right_hip"))]
    for side in ("left", "right"):
        rows += [joint(f"{side}_{name}") for name in ("hip", "knee", "ankle")]
    rows += [0.5 * (joint("spine2") + joint("spine3")), joint("neck")]
    rows += [0.6 * point("nose") + 0.4 * ears, 0.75 * point("head_top") + 0.25 * ears]
    for side in ("left", "right"):
        rows += [joint(f"{side}_{name}") for name in ("shoulder", "elbow", "wrist")]
    return np.stack(rows)


def extra_regressor(joint_rows: Array, h36m_rows: Array, landmarks: dict[str, int]) -> Array:
    """SPIN's nine extra joints as rows over the vertices (9, V).

    Order: right hip and left hip (LSP), neck (LSP, half-way up the neck), head top (LSP), pelvis (MPII), thorax (MPII,
    the neck's base), spine, jaw and head (Human3.6M).
    """
    head_top = np.zeros(joint_rows.shape[1])
    head_top[landmarks["head_top"]] = 1.0
    neck, head = joint_rows[SMPL_JOINTS.index("neck")], joint_rows[SMPL_JOINTS.index("head")]
    return np.stack(
        [h36m_rows[4], h36m_rows[1], 0.5 * (neck + head), head_top, h36m_rows[0], neck, *h36m_rows[[7, 9, 10]]]
    )


def _moved_by(weights: Array, rig: SourceRig, prefix: str, side: str = "") -> NDArray[np.bool_]:
    """Vertices (V) that are moved mainly by the bones whose names begin with ``prefix`` (and end with the side)."""
    bones = [i for i, name in enumerate(rig.names) if name.startswith(prefix) and name.endswith(side)]
    assert bones, f"the source rig has no bone {prefix}*{side}"
    return weights[:, bones].sum(1) > 0.5
