"""Errors that are meant for the person at the keyboard."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class UserError(ValueError):
    """Something the user can mend: a wrong path, option, file or value.

    The message is one line that says what is wrong and what to do about it.
    """


class ConfigError(UserError):
    """A configuration that cannot be used; the message lists every problem found."""


def some_of(names: Sequence[str], most: int = 3) -> str:
    """The first names and how many more there are: ``a, b, c and 4 more``."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@contextmanager
def warnings_if_it_succeeds(room: str) -> Iterator[None]:
    """Hold back what the loggers of ``room`` say until the block is done; if it fails, its error stands alone."""
    logger, held = logging.getLogger(room), _Held()
    propagates = logger.propagate
    logger.addHandler(held)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(held)
        logger.propagate = propagates
    for record in held.records:
        logger.handle(record)


class _Held(logging.Handler):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
