"""Train a model: python train.py --config configs/NAME.yaml [key.sub=value ...] [--resume] [--dry-run]

For several processes: torchrun --nproc-per-node=2 train.py --config configs/NAME.yaml
"""

from __future__ import annotations

import os
import sys

from diffhmr.command_line import CommandParser, run_command
from diffhmr.config_file import load_config
from diffhmr.errors import UserError


def main() -> None:
    """Parse the command line and train."""
    parser = CommandParser(
        description="Train a model as a configuration file says; it goes to the folder OUTPUT/NAME (runs/NAME).",
        epilog="In several processes: torchrun --nproc-per-node=2 train.py --config FILE",
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="an experiment, see configs/")
    parser.add_argument("--resume", action="store_true", help="go on with the run of this name where it stopped")
    parser.add_argument("--dry-run", action="store_true", help="report size, memory and time; write nothing")
    parser.add_argument(
        "overrides", nargs="*", metavar="key.sub=value", help="settings in place of the file's, such as train.lr=3e-4"
    )
    arguments = parser.parse_intermixed_args()
    if arguments.dry_run and arguments.resume:
        raise UserError("--dry-run measures a new run; leave --resume out")
    config = load_config(arguments.config, arguments.overrides)

    # Importing torch takes seconds: not before the settings are known to be right.
    if arguments.dry_run:
        from diffhmr.training.dry_run import dry_run

        result = dry_run(config)
    else:
        from diffhmr.training.loop import run

        result = f"model: {run(config, resume=arguments.resume)}"
    if os.environ.get("RANK", "0") == "0":
        print(result)


if __name__ == "__main__":
    sys.exit(run_command(main))
