"""Every preparation says on a machine that has nothing what to get and where to put it."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

COMMANDS = sorted((Path(__file__).parents[2] / "scripts").glob("prepare_*.py"))


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 9


@pytest.mark.parametrize("root", [None, "nowhere", "empty"])
@pytest.mark.parametrize("command", COMMANDS, ids=[path.stem for path in COMMANDS])
def test_check_on_a_machine_that_has_nothing(
    command: Path,
    root: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [command.name, "--check", *([] if root is None else ["--root", root])])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(command), run_name="__main__")
    assert end.value.code == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert captured.err == "" and lines[0].endswith(f" in {root or 'data/raw/' + lines[0].split()[0]}")
    assert any(line.startswith("  from     http") for line in lines)
    states = {line.split()[0] for line in lines[3:] if not line.lstrip().startswith(("get", "not complete"))}
    assert states == {"missing"}
    remedies = [line for line in lines if line.lstrip().startswith("get")]
    assert remedies and all(
        "http" in line and ("download" in line or "register" in line or "run" in line) for line in remedies
    )
    assert lines[-1].startswith("  not complete")
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
