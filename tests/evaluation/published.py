"""What the projects that introduced the protocols published: indices into their files, as plain numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from diffhmr.body.files import BodyData
from diffhmr.body.model import BodyModel
from diffhmr.body.params import SmplParams
from diffhmr.evaluation.protocols import PROTOCOLS, SYNTHETIC

JOINT_PROTOCOLS = [protocol for protocol in PROTOCOLS.values() if protocol.joint_set and protocol is not SYNTHETIC]
ON_OTHER_BODIES = [protocol for protocol in JOINT_PROTOCOLS if protocol.truth_body != "model"]

# Two differ from others in the choice of rows only.
DISTINCT = [protocol for protocol in ON_OTHER_BODIES if protocol.name not in ("3dpw-occ", "h36m-p2")]

# The places of the joints as the projects publish them: rows of their regressor file, their root, slots of the truth.
H36M_TO_J17 = [6, 5, 4, 1, 2, 3, 16, 15, 14, 11, 12, 13, 8, 10, 0, 7, 9]
J24_TO_J17 = [*range(13), 18, 14, 16, 17]
PUBLISHED: dict[str, dict[str, Any]] = {
    "3dpw-spin": {"file": "h36m", "rows": H36M_TO_J17[:14], "root": [0]},
    "3dpw-occ": {"file": "h36m", "rows": H36M_TO_J17[:14], "root": [0]},
    "3dpw-prohmr": {"file": "j19", "rows": [*range(13), 18], "root": [14]},
    "3dpw-prohmr-stored": {"file": "j19", "rows": [*range(13), 18], "root": [14], "slots": [*range(13), 18]},
    "3dpw-neutral17": {"file": "h36m", "rows": [0, 4, 5, 6, 1, 2, 3, *range(7, 17)], "root": [0]},
    "emdb1-24": {"file": "", "rows": list(range(24)), "root": [1, 2]},
    "h36m-p1": {"file": "h36m", "rows": H36M_TO_J17[:14], "root": [0], "slots": J24_TO_J17[:14]},
    "h36m-p2": {"file": "h36m", "rows": H36M_TO_J17[:14], "root": [0], "slots": J24_TO_J17[:14]},
    "mpi-inf-3dhp": {"file": "h36m", "rows": H36M_TO_J17, "root": [0], "slots": J24_TO_J17},
}


def published_joints(name: str, data: BodyData, body: BodyModel, params: SmplParams) -> tuple[np.ndarray, np.ndarray]:
    """Joints ``(N, J, 3)`` and root ``(N, 1, 3)`` from the full mesh, by the published indices; float64."""
    how = PUBLISHED[name]
    posed = body(params)
    if how["file"]:
        regressor = getattr(data, f"{how['file']}_regressor").astype(np.float64)
        points = np.einsum("jv,...vc->...jc", regressor, posed.vertices.double().numpy())
    else:
        points = posed.joints.double().numpy()
    return points[..., how["rows"], :], points[..., how["root"], :].mean(-2, keepdims=True)
