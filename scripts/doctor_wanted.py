"""What the doctor looks for, and what it says about it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from diffhmr.errors import UserError

SPIN_FILES = "http://visiondata.cis.upenn.edu/spin"
"""The data of SPIN (Kolotouros et al., ICCV 2019), as its fetch_data.sh gets them."""

PROHMR_SITE = "https://github.com/nkolot/ProHMR"
"""The repository of ProHMR (Kolotouros et al., ICCV 2021)."""

Details = dict[str, str | int]


@dataclass(frozen=True)
class Wanted:
    """A file or folder that the project can use.

    Attributes:
        group: heading in the table.
        name: of the thing, in words.
        purpose: what it is for.
        remedy: how to get it and where to put it.
        candidates: paths that are it, the first that exists counts.
        inspect: raises UserError if the file is no good and Incomplete if something that belongs to it is not there,
            else says what can be said about it.
    """

    group: str
    name: str
    purpose: str
    remedy: str
    candidates: tuple[Path, ...]
    inspect: Callable[[Path], Details]


@dataclass(frozen=True)
class Finding:
    """What became of one wanted file."""

    group: str
    name: str
    status: Literal["found", "incomplete", "missing", "unusable"]
    path: str | None
    purpose: str
    remedy: str | None
    details: Details = field(default_factory=dict)


class Incomplete(Exception):
    """A file is sound, but not all that belongs to it is there.

    Attributes:
        details: what can be said about the file.
        reason: what is not there.
    """

    def __init__(self, details: Details, reason: str) -> None:
        super().__init__(reason)
        self.details = details
        self.reason = reason


def examine(wanted: Wanted) -> Finding:
    """Look for the file and check it."""
    path = next((candidate for candidate in wanted.candidates if candidate.exists()), None)
    if path is None:
        return Finding(wanted.group, wanted.name, "missing", None, wanted.purpose, wanted.remedy)
    try:
        details = wanted.inspect(path)
    except Incomplete as lack:
        remedy = f"{lack.reason}; {wanted.remedy}"
        return Finding(wanted.group, wanted.name, "incomplete", str(path), wanted.purpose, remedy, lack.details)
    except (UserError, OSError) as error:
        return Finding(wanted.group, wanted.name, "unusable", str(path), wanted.purpose, f"{error}; {wanted.remedy}")
    return Finding(wanted.group, wanted.name, "found", str(path), wanted.purpose, None, details)


def matching(folder: Path, pattern: str) -> tuple[Path, ...]:
    """Files of ``folder`` whose name, in whatever case, is ``pattern``."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(path for path in folder.iterdir() if re.fullmatch(pattern, path.name.lower())))
