"""Weights of other projects as a model file: python -m scripts.import_checkpoint --from spin FILE --out X.safetensors

* `--from spin`: SPIN's `model_checkpoint.pt`, a complete model: use it with `--checkpoint`, or as `init` of a training.
* `--from prohmr`: the encoder of ProHMR's `checkpoint.pt`, as `init` of a training.
* `--from torchvision`: a ResNet-18, -34 or -50, as `init` of a training.
* `--from motionbert`: a `.bin` of MotionBERT, full or lite: pre-training, 3D pose, mesh, action. Positions of 3D poses
  are relative to the root, but those of the weights whose official settings have `rootrel: False`, which are called
  global: these need `--global`.
* `--from diffmesh`: a `.bin` of DiffMesh, or of its refinement of given poses. The latter is a start for a training
  only: the official code writes and reads poses in two ways, the models here in one.

What becomes of the last two is a network of clips of keypoints, not of pictures: `load_motion_model(path)` of
`diffhmr.motion_checkpoint` builds it again. Nothing inside FILE is run.

SPIN's parameters are those of the neutral SMPL body; the import does not need its file, but the use of the model does
(`python -m scripts.doctor` says where to get it).
"""

from __future__ import annotations

import sys
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from typing import get_args

from diffhmr.command_line import CommandParser, run_command
from diffhmr.errors import UserError
from diffhmr.files import ensure_writable
from diffhmr.foreign.checkpoints import SMPL_PATH, Project, read_foreign, write_foreign
from diffhmr.foreign.motionbert import MotionProject, read_motion, write_motion
from diffhmr.models.dstformer import DSTformer
from diffhmr.models.motion_refine import DiffMeshRefine


def main() -> int:
    """Read, rename, write, and say what became of every weight."""
    parser = CommandParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("checkpoint", type=Path, metavar="FILE", help="weights as the other project wrote them")
    projects = [*get_args(Project), *get_args(MotionProject)]
    add("--from", required=True, dest="project", choices=projects, help="the other project")
    add("--out", required=True, type=Path, metavar="X.safetensors", help="model file to write")
    add("--body", type=Path, metavar="FILE", help=f"SPIN's body (default: {SMPL_PATH}, now or later)")
    add("--global", action="store_true", dest="absolute", help="MotionBERT's weights for global positions of the root")
    arguments = parser.parse_args()
    out: Path = arguments.out
    if out.suffix != ".safetensors":
        raise UserError(f"--out {out} should end in .safetensors")
    if arguments.body is not None and arguments.project != "spin":
        raise UserError(f"--body belongs to --from spin: of {arguments.project} no body is needed; leave it out")
    if arguments.absolute and arguments.project != "motionbert":
        raise UserError(f"--global belongs to --from motionbert, not to {arguments.project}; leave it out")
    ensure_writable(out)
    if arguments.project in get_args(MotionProject):
        import_motion(arguments.checkpoint, arguments.project, out, root_relative=not arguments.absolute)
    else:
        import_images(arguments.checkpoint, arguments.project, out, arguments.body)
    return 0


def import_images(checkpoint: Path, project: Project, out: Path, body: Path | None) -> None:
    """A model of people in pictures, or its encoder."""
    weights = read_foreign(checkpoint, project)
    config = write_foreign(weights, out, body)
    count = sum(value.numel() for value in weights.tensors.values())
    print(f"{out}: {len(weights.tensors)} tensors, {count / 1e6:.2f} M numbers, encoder {weights.backbone}")
    say_left_out(weights.left_out)
    if weights.is_model:
        print(f"a complete {config.model.kind} model; body: {config.body.path}")
    print(f"as the start of a training: python train.py --config FILE init={out}")


def import_motion(checkpoint: Path, project: MotionProject, out: Path, *, root_relative: bool) -> None:
    """A network of clips of keypoints."""
    weights = read_motion(checkpoint, project)
    write_motion(weights, out, root_relative=root_relative)
    state = weights.model.state_dict()
    count = sum(value.numel() for value in state.values())
    print(f"{out}: {len(state)} tensors, {count / 1e6:.2f} M numbers")
    say_left_out(weights.left_out)
    print(f"{weights.words}; diffhmr.motion_checkpoint.load_motion_model builds it from this file")
    if isinstance(weights.model, DSTformer):
        print("positions relative to the root (--global: not)" if root_relative else "positions with their root")
    if isinstance(weights.model, DiffMeshRefine):
        print("it corrects poses that are written in another way: train it (init) before you use it")


def say_left_out(names: tuple[str, ...]) -> None:
    """The weights that nothing here takes."""
    if names:
        print(f"left out, as the models here have no such part: {len(names)} tensors")
        print("\n".join(f"  {name}" for name in names))


if __name__ == "__main__":
    sys.exit(run_command(main))
