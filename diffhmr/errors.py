"""Errors that are meant for the person at the keyboard."""

from __future__ import annotations


class UserError(ValueError):
    """Something the user can mend: a wrong path, option, file or value.

    The message is one line that says what is wrong and what to do about it.
    """


class ConfigError(UserError):
    """A configuration that cannot be used; the message lists every problem found."""
