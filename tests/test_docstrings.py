"""What docstrings refer to exists."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
ROLE = re.compile(r":(func|meth|class|mod|data|attr):`~?([\w.]+)`")
FILES = [path for room in ("diffhmr", "scripts") for path in sorted((ROOT / room).rglob("*.py"))]


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def target(name: str, home: Any) -> Any:
    """What ``name`` stands for in the docstrings of the module ``home``; an AttributeError if nothing."""
    if not name.startswith(("diffhmr.", "scripts.")):
        found = home
        if "." not in name and not hasattr(home, name):  # a method, in its own class
            own = [value for value in vars(home).values() if isinstance(value, type)]
            found = next((value for value in own if value.__module__ == home.__name__ and hasattr(value, name)), home)
        for part in name.split("."):
            found = getattr(found, part)
        return found
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise AttributeError(name)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_references_resolve(path: Path) -> None:
    references = [(role, name) for role, name in ROLE.findall(path.read_text(encoding="utf-8")) if role != "attr"]
    if not references:
        return
    home = importlib.import_module(module_of(path))
    for role, name in references:
        try:
            found = target(name, home)
        except AttributeError:
            pytest.fail(f"{path.relative_to(ROOT)}: there is no {name}")
        assert role not in ("func", "meth") or callable(found), name
        assert role != "class" or isinstance(found, type), name


def test_what_is_not_there_is_found_out() -> None:
    home = importlib.import_module("diffhmr.files")
    assert target("atomic_path", home) is target("diffhmr.files.atomic_path", home)
    for name in ("Nobody", "diffhmr.files.nobody", "diffhmr.nothing.at_all"):
        with pytest.raises(AttributeError):
            target(name, home)
