"""Errors that are meant for the person at the keyboard, and the one place that turns them into exit codes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable


class UserError(ValueError):
    """Something the user can mend: a wrong path, option, file or value.

    The message is one line that says what is wrong and what to do about it.
    """


class ConfigError(UserError):
    """A configuration that cannot be used; the message lists every problem found."""


def run_command(main: Callable[[], int | None]) -> int:
    """Run a command-line entry point and return its exit code.

    0 for success (or what ``main`` returns), 2 with one line on stderr for a :class:`UserError`, 130 after Ctrl-C. Any
    other exception is a defect of the program and keeps its traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        return main() or 0
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
