"""Weights of other projects as a model file: python -m scripts.import_checkpoint --from spin FILE --out X.safetensors

* `--from spin`: SPIN's `model_checkpoint.pt`, a complete model: use it with `--checkpoint`, or as `init` of a training.
* `--from prohmr`: the encoder of ProHMR's `checkpoint.pt`, as `init` of a training.
* `--from torchvision`: a ResNet-18, -34 or -50, as `init` of a training.

Nothing inside FILE is run. SPIN's parameters are those of the neutral SMPL body; the import does not need its file, but
the use of the model does (`python -m scripts.doctor` says where to get it).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

from diffhmr.command_line import CommandParser, run_command
from diffhmr.errors import UserError
from diffhmr.files import ensure_writable
from diffhmr.foreign.checkpoints import SMPL_PATH, Project, read_foreign, write_foreign


def main() -> int:
    """Read, rename, write, and say what became of every weight."""
    parser = CommandParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("checkpoint", type=Path, metavar="FILE", help="weights as the other project wrote them")
    add("--from", required=True, dest="project", choices=get_args(Project), help="the other project")
    add("--out", required=True, type=Path, metavar="X.safetensors", help="model file to write")
    add("--body", type=Path, metavar="FILE", help=f"SPIN's body (default: {SMPL_PATH}, now or later)")
    arguments = parser.parse_args()
    out: Path = arguments.out
    if out.suffix != ".safetensors":
        raise UserError(f"--out {out} should end in .safetensors")
    if arguments.body is not None and arguments.project != "spin":
        raise UserError(f"--body belongs to --from spin: an encoder of {arguments.project} has no body; leave it out")
    ensure_writable(out)
    weights = read_foreign(arguments.checkpoint, arguments.project)
    config = write_foreign(weights, out, arguments.body)
    count = sum(value.numel() for value in weights.tensors.values())
    print(f"{out}: {len(weights.tensors)} tensors, {count / 1e6:.2f} M numbers, encoder {weights.backbone}")
    if weights.left_out:
        print(f"left out, as the models here have no such part: {len(weights.left_out)} tensors")
        print("\n".join(f"  {name}" for name in weights.left_out))
    if weights.is_model:
        print(f"a complete {config.model.kind} model; body: {config.body.path}")
    print(f"as the start of a training: python train.py --config FILE init={out}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
