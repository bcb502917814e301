"""Exit codes of the command-line scripts."""

from __future__ import annotations

import pytest

from diffhmr.errors import ConfigError, UserError, run_command


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (3, 3)])
def test_success_returns_what_main_returns(result: int | None, code: int) -> None:
    assert run_command(lambda: result) == code


@pytest.mark.parametrize("kind", [UserError, ConfigError])
def test_user_errors_are_one_line_and_exit_code_2(kind: type[UserError], capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise kind("wrong; do this")

    assert run_command(main) == 2
    output = capsys.readouterr()
    assert output.err == "error: wrong; do this\n"
    assert output.out == ""


def test_interruption_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise KeyboardInterrupt

    assert run_command(main) == 130
    assert "interrupted" in capsys.readouterr().err


def test_defects_keep_their_traceback() -> None:
    def main() -> None:
        raise ValueError("a mistake of the program")

    with pytest.raises(ValueError, match="a mistake of the program"):
        run_command(main)
