"""Errors that are meant for the person at the keyboard."""

from __future__ import annotations

from collections.abc import Sequence


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
