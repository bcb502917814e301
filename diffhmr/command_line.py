"""What all commands share: options, exit codes, and the choice of the device."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import logging
import os
import re
import select
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from diffhmr.errors import UserError
from diffhmr.files import is_disk_full

if TYPE_CHECKING:
    import torch

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells count it: 128 + SIGINT."""

_UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP)
"""What is wrong with a path that the user gave, not with the program."""

OUTPUT_CLOSED = 141
"""Exit code when nobody reads the output any more: 128 + SIGPIPE."""


class CommandParser(argparse.ArgumentParser):
    """Options of a command; a wrong one is a :class:`UserError`, which names the nearest option there is.

    Options cannot be shortened, so that a new one never changes what an old command line means. Values may begin with a
    minus sign (``--box -5,0,200,400``).
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)
        self._words: list[str] = []

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse does it; all other ways of parsing come by here."""
        self._words = _with_negative_values(sys.argv[1:] if args is None else args)
        return super().parse_known_args(self._words, namespace)

    def error(self, message: str) -> NoReturn:
        """Raises: UserError: always."""
        # Without the dashes, which would make all options look alike.
        known = [name[2:] for name in self._option_string_actions if name.startswith("--")]
        for word in self._words:
            name = word[2:].partition("=")[0] if word.startswith("--") else ""
            if name and name not in known:
                nearest = difflib.get_close_matches(name, known, n=1)
                suggestion = f"did you mean --{nearest[0]}?" if nearest else "see --help"
                raise UserError(f"unknown option --{name}, {suggestion}")
        raise UserError(f"{message}; see --help")


def _with_negative_values(words: Sequence[str]) -> list[str]:
    """``--box -5,0,9,9`` as ``--box=-5,0,9,9``: argparse takes what begins with a minus sign for an option."""
    joined: list[str] = []
    for word in words:
        negative = word[:1] == "-" and word[1:2].isdigit()
        if negative and joined and joined[-1].startswith("--") and "=" not in joined[-1] and joined[-1] != "--":
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def run_command(main: Callable[[], int | None]) -> int:
    """Run a command-line entry point and return its exit code.

    0 for success (or what ``main`` returns), 2 with one line on stderr for a :class:`UserError`, for a path that may
    not be used, and when the memory or the disk is full, 130 after Ctrl-C, 141 when the output was piped into something
    that has ended. Any other exception is a defect of the program and keeps its traceback.
    """
    _open_closed_streams()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    # By default OpenMP's threads wait for each other by spinning. With other programs on the cores they then keep those
    # from running that they wait for: minutes instead of seconds. torch's OpenMP reads this when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        code = main() or 0
        # What is still in the buffer may meet a closed pipe; the interpreter's own flush would come too late.
        sys.stdout.flush()
        return code
    except UserError as error:
        return _fail(f"error: {error}")
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        if not _output_closed():
            raise
        return OUTPUT_CLOSED
    except OSError as error:
        if error.errno in _UNUSABLE and error.filename:
            return _fail(f"error: cannot use {error.filename}: {error.strerror}; choose another path")
        if not is_disk_full(error):
            raise
        where = f" for {error.filename}" if error.filename else ""
        return _fail(f"error: {error.strerror}{where}; make room and run the command again")
    except (MemoryError, RuntimeError) as error:
        if not _out_of_memory(error):
            raise
        return _fail(
            f"error: not enough memory ({str(error) or 'MemoryError'}); ask for smaller batches, models or samples"
        )


def _open_closed_streams() -> None:
    """Python has no stdout or stderr where the caller closed them (``>&-``, services)."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - open until the end


def _fail(message: str, code: int = 2) -> int:
    # Texts of other libraries, of which messages quote the reason, may have several lines.
    lines = [line.strip() for line in message.splitlines()]
    with contextlib.suppress(OSError):  # nobody may be listening; the exit code remains
        sys.stderr.write(f"{' '.join(line for line in lines if line)}\n")
    return code


def _out_of_memory(error: BaseException) -> bool:
    """Whether Python, NumPy or torch ran out of memory; on the CPU torch's exception has no type of its own."""
    kinds = [kind.__name__ for kind in type(error).__mro__]
    return "MemoryError" in kinds or "OutOfMemoryError" in kinds or "can't allocate memory" in str(error)


def _output_closed() -> bool:
    """Whether stdout is a pipe without a reader. If so it leads nowhere from now on, and the last flush succeeds."""
    try:
        output = sys.stdout.fileno()
    except OSError:  # not a file, such as the notebook's or a test's stdout
        return False
    poll = select.poll()
    poll.register(output, 0)
    closed = any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    if closed:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, output)
        os.close(nowhere)
    return closed


def pick_device(name: str | None = None) -> torch.device:
    """The device called ``name`` (cpu, cuda, cuda:N), or for None CUDA if there is a usable GPU, else the CPU.

    Raises:
        UserError: there is no such device or it cannot be used.
    """
    import torch  # takes seconds: commands look at their options first

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:[0-9]+)?", name):
        raise UserError(f"unknown device {name!r}; give cpu, cuda or cuda:N")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {name} cannot be used ({reason}); give cpu, or leave the option out") from error
    return device
