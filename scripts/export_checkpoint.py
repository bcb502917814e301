"""Make a checkpoint fit to hand on: python -m scripts.export_checkpoint RUN/model.safetensors --out NAME.safetensors

The weights are stored in half precision, which halves the file; everything else is kept. The settings are written
beside it as NAME.yaml. Run eval.py on the result, not on the original: the rounding is part of what is handed on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from diffhmr.checkpoint import load_checkpoint, save_model
from diffhmr.clip_checkpoint import load_clip_model, save_trained
from diffhmr.command_line import CommandParser, run_command
from diffhmr.config_file import AnyExperiment, dump_config
from diffhmr.errors import UserError
from diffhmr.files import atomic_path
from diffhmr.model_file import MOTION_MODEL, is_of_format


def main() -> int:
    """Read, round, write."""
    parser = CommandParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", type=Path, help="model file written by train.py")
    parser.add_argument("--out", type=Path, required=True, help="file to write, ending in .safetensors")
    arguments = parser.parse_args()
    out: Path = arguments.out
    if out.suffix != ".safetensors":
        raise UserError(f"--out {out} should end in .safetensors")
    if out.resolve() == arguments.checkpoint.resolve():
        raise UserError(f"--out {out} is the checkpoint itself, which would lose precision; choose another name")
    config, step = _export(arguments.checkpoint, out)
    settings = out.with_suffix(".yaml")
    with atomic_path(settings) as temporary:
        temporary.write_text(dump_config(config), encoding="utf-8")
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, step {step}")
    print(settings)
    return 0


def _export(checkpoint: Path, out: Path) -> tuple[AnyExperiment, int]:
    """Write the rounded model of people or of clips; its settings and its step."""
    if is_of_format(checkpoint, MOTION_MODEL):
        clips = load_clip_model(checkpoint)
        if clips.config is None:
            raise UserError(f"{checkpoint} was imported and has no settings; hand the original on")
        finished = json.loads(clips.metadata.get("finished", "false"))
        network = clips.model.network
        save_trained(out, network, clips.config, clips.body, clips.step, finished=finished, dtype="float16")
        return clips.config, clips.step
    loaded = load_checkpoint(checkpoint)
    finished = json.loads(loaded.metadata.get("finished", "false"))
    save_model(out, loaded.model, loaded.config, loaded.body, loaded.step, finished=finished, dtype="float16")
    return loaded.config, loaded.step


if __name__ == "__main__":
    sys.exit(run_command(main))
