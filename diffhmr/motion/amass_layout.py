"""The layout of AMASS's files (Mahmood et al., ICCV 2019), which motions and pose archives share.

An ``.npz`` holds ``poses (frames, 3 per joint)`` axis-angle, ``trans (frames, 3)`` metres, and the frame rate. SMPL-H
(156 columns) and SMPL-X (165) share the root and 21 body joints with SMPL (72); fingers and face follow. z is up.
"""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np

from diffhmr.errors import UserError

NUM_SHARED_JOINTS = 22
"""The root and the body joints that SMPL, SMPL-H and SMPL-X have in common; SMPL's two hands are not among them."""

FRAMERATE_KEYS = ("mocap_framerate", "mocap_frame_rate")
"""How AMASS calls the frame rate: the first in the SMPL-H files, the second in the SMPL-X files."""

Z_UP_TO_Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Takes points of a world with z up into one with y up."""

MIN_FPS, MAX_FPS = 1.0, 1000.0
"""Frame rates that recordings can have."""

UNREADABLE = (
    OSError, ValueError, TypeError, KeyError, EOFError, SyntaxError, NotImplementedError, RuntimeError, struct.error,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy raises for files that are torn, changed or no arrays at all."""


def read_fields(path: Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """The arrays of these names that a file has; its others (markers, labels) are not opened.

    Raises:
        UserError: the file is damaged or no ``.npz``.
    """
    try:
        with np.load(path, allow_pickle=False) as content:
            if not isinstance(content, np.lib.npyio.NpzFile):
                raise UserError(f"{path} is no .npz file; give one in the layout of AMASS")
            return {name: content[name] for name in sorted(set(names) & set(content.files))}
    except UserError:
        raise
    except UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"cannot read the motion {path}: {reason}; remove it or copy it again") from error


def frame_rate(path: Path, fields: dict[str, np.ndarray]) -> float:
    """Frames per second, as one of ``FRAMERATE_KEYS`` says.

    Raises:
        UserError: none does, or it is no rate that a recording has.
    """
    keys = [key for key in FRAMERATE_KEYS if key in fields]
    if not keys:
        raise UserError(f"{path} does not say its frame rate; add {' or '.join(FRAMERATE_KEYS)} to the file")
    try:
        value = float(fields[keys[0]])
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} has a {keys[0]} that is no number; copy the file again") from error
    if not MIN_FPS <= value <= MAX_FPS:
        raise UserError(
            f"{path} has a frame rate of {value:g}, expected {MIN_FPS:g} to {MAX_FPS:g} frames per second; correct "
            f"{keys[0]} or copy the file again"
        )
    return value
