"""The dry run."""

from __future__ import annotations

from pathlib import Path

from diffhmr.config_file import dump_config
from diffhmr.training.dry_run import dry_run
from tests.training.runs import make_config


def test_dry_run_reports_and_writes_nothing(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    report = dry_run(config)
    assert report.startswith(dump_config(config))
    for part in ("parameters  ", "encoder ", "memory  ", "GiB peak", "one step  ", "for 6 steps"):
        assert part in report
    assert list(tmp_path.iterdir()) == []
