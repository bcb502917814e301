"""Settings for tests of clips of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffhmr.config_clips import ClipDataConfig, ClipSourceConfig


def source(path: Path, form: str, split: str = "train", name: str = "a", **changes: Any) -> ClipSourceConfig:
    """A source."""
    return ClipSourceConfig.model_validate({"name": name, "format": form, "path": path, "split": split, **changes})


def settings(
    *sources: ClipSourceConfig, flip: float = 0.0, validation: ClipSourceConfig | None = None, **changes: Any
) -> ClipDataConfig:
    """Data of these sources."""
    return ClipDataConfig.model_validate(
        {"kind": "files", "sources": sources, "validation": validation, "augment": {"flip": flip}, **changes}
    )
