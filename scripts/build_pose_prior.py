"""Build SMPLify's pose prior from poses that may be handed on: python -m scripts.build_pose_prior --out FILE.npz

A mixture of Gaussians over the axis-angle numbers of the joints 1 to 23, fitted to the procedural poses of the
synthetic people, or to an archive of recorded motion. `data/body/pose_prior.npz` was made without any option.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from diffhmr.command_line import CommandParser, run_command
from diffhmr.datasets.archive import MotionArchive
from diffhmr.datasets.poses import PoseSource, sample_poses
from diffhmr.errors import UserError
from diffhmr.files import ensure_writable
from diffhmr.fitting.mixture import fit_mixture, save_mixture
from diffhmr.fitting.prior import FREE_PRIOR, POSE_NUMBERS, load_prior
from diffhmr.random import item_seeds

_CHUNK = 10_000


def sampled_vectors(poses: PoseSource, count: int, seed: int) -> np.ndarray:
    """``count`` body poses of the training split as rows of 69 axis-angle numbers."""
    parts = []
    for start in range(0, count, _CHUNK):
        seeds = item_seeds(seed, "train", np.arange(start, min(start + _CHUNK, count)))
        rotations = poses(seeds)[:, 1:].reshape(-1, 3, 3)
        parts.append(Rotation.from_matrix(rotations).as_rotvec().reshape(-1, POSE_NUMBERS))
    return np.concatenate(parts)


def main() -> int:
    """Sample, fit, write, read back."""
    parser = CommandParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--out", type=Path, default=FREE_PRIOR, metavar="FILE.npz", help="file to write (default: %(default)s)")
    add("--archive", type=Path, metavar="FOLDER", help="AMASS-layout .npz files (default: procedural poses)")
    add("--poses", type=int, default=40_000, metavar="N", help="to fit the mixture to (default: %(default)s)")
    add("--components", type=int, default=8, metavar="K", help="of the mixture (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the poses and of the start (default: %(default)s)")
    arguments = parser.parse_args()
    out = ensure_writable(arguments.out)
    if out.suffix != ".npz":
        raise UserError(f"--out {out} should end in .npz")
    if arguments.components < 1 or arguments.seed < 0:
        raise UserError("--components has to be at least 1, --seed 0 or more")
    poses = sample_poses if arguments.archive is None else MotionArchive(arguments.archive)
    vectors = sampled_vectors(poses, arguments.poses, arguments.seed)
    mixture = fit_mixture(vectors, arguments.components, seed=arguments.seed)
    origin = "procedural poses of diffhmr" if arguments.archive is None else f"motion archive {arguments.archive.name}"
    save_mixture(out, mixture, f"{arguments.poses} {origin}, seed {arguments.seed}")
    load_prior(out)
    likelihood = f"log-likelihood {mixture.log_likelihood[-1]:.2f} after {len(mixture.log_likelihood)} iterations"
    print(f"{out}: {out.stat().st_size / 1e3:.0f} kB, {likelihood}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
