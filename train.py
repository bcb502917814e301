"""Train a model: python train.py --config configs/NAME.yaml [key.sub=value ...] [--resume] [--dry-run]

For several processes: torchrun --nproc-per-node=2 train.py --config configs/NAME.yaml
"""

from __future__ import annotations

import argparse
import os
import sys

from diffhmr.config_file import load_config
from diffhmr.errors import UserError, run_command


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description="Train a model as a configuration file says.", allow_abbrev=False)
    parser.add_argument("--config", required=True, metavar="FILE", help="an experiment, see configs/")
    parser.add_argument("--resume", action="store_true", help="go on with the run of this name where it stopped")
    parser.add_argument("--dry-run", action="store_true", help="report size, memory and time; write nothing")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="settings that replace those of the file")
    arguments = parser.parse_intermixed_args()
    if arguments.dry_run and arguments.resume:
        raise UserError("--dry-run measures a new run; leave --resume out")
    config = load_config(arguments.config, arguments.overrides)

    # Importing torch takes seconds: not before the settings are known to be right.
    if arguments.dry_run:
        from diffhmr.training_dry_run import dry_run

        result = dry_run(config)
    else:
        from diffhmr.training import run

        result = f"model: {run(config, resume=arguments.resume)}"
    if os.environ.get("RANK", "0") == "0":
        print(result)


if __name__ == "__main__":
    sys.exit(run_command(main))
