"""Files of AMASS (Mahmood et al., ICCV 2019): SMPL-H and SMPL-X bodies as motions of this project's body.

Root and body joints are SMPL's and are taken over as they are. ``trans`` moves a body of another size: its height is
set by where the feet stand, and steps are as long as they were.
"""

from __future__ import annotations

from pathlib import Path

from diffhmr.motion.feet import on_floor
from diffhmr.motion.rest_body import RestBody
from diffhmr.motion.sequence import Motion, load_motion

_WITHOUT_MOTION = ("shape.npz", "_stagei.npz")  # each subject's body


def holds_motion(path: Path) -> bool:
    """Whether a file of AMASS is a motion, by its name: others hold a subject's body shape."""
    return not path.name.endswith(_WITHOUT_MOTION)


def read_amass(path: str | Path, rest: RestBody) -> Motion:
    """Read a motion and put it on the floor y = 0.

    Raises:
        UserError: the file is missing, damaged or holds no motion; see :func:`diffhmr.motion.sequence.load_motion`.
    """
    return on_floor(load_motion(path), rest)
