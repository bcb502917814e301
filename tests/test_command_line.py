"""What all commands share: options, exit codes and devices."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from diffhmr.command_line import CommandParser, pick_device, run_command
from diffhmr.errors import ConfigError, UserError

ROOT = Path(__file__).parent.parent


def fail_with(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (3, 3)])
def test_success_returns_what_main_returns(result: int | None, code: int) -> None:
    assert run_command(lambda: result) == code


@pytest.mark.parametrize("kind", [UserError, ConfigError])
def test_user_errors_are_one_line_and_exit_code_2(kind: type[UserError], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(fail_with(kind("wrong; do this"))) == 2
    output = capsys.readouterr()
    assert output.err == "error: wrong; do this\n"
    assert output.out == ""


def test_quoted_reasons_of_several_lines_become_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(fail_with(UserError("wrong (first,\n\n  second); do this\n"))) == 2
    assert capsys.readouterr().err == "error: wrong (first, second); do this\n"


def test_interruption_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(fail_with(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_full_disk_is_no_defect(capsys: pytest.CaptureFixture[str]) -> None:
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a.pt")
    assert run_command(fail_with(error)) == 2
    assert capsys.readouterr().err == (
        "error: No space left on device for runs/a.pt; make room and run the command again\n"
    )


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENAMETOOLONG])
def test_a_path_that_may_not_be_used_is_no_defect(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    reason = os.strerror(number)
    assert run_command(fail_with(OSError(number, reason, "a/b"))) == 2
    assert capsys.readouterr().err == f"error: cannot use a/b: {reason}; choose another path\n"
    with pytest.raises(OSError, match=reason):  # not about a path: a defect
        run_command(fail_with(OSError(number, reason)))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("too many"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried too many"),
        torch.OutOfMemoryError("too many"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_too_little_memory_is_no_defect(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(fail_with(error)) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: not enough memory (") and "too many); ask for smaller" in message


@pytest.mark.parametrize(
    "error",
    [ValueError("a mistake"), OSError(errno.EIO, "a mistake"), BrokenPipeError("a mistake")],
    ids=lambda error: type(error).__name__,
)
def test_defects_keep_their_traceback(error: Exception) -> None:
    with pytest.raises(type(error), match="a mistake"):
        run_command(fail_with(error))


@pytest.mark.parametrize(("given", "spins"), [({}, False), ({"OMP_WAIT_POLICY": "active"}, True)])
def test_threads_wait_without_spinning_unless_told_to(given: dict[str, str], spins: bool) -> None:
    program = "import sys; from diffhmr.command_line import pick_device, run_command; "
    program += "sys.exit(run_command(lambda: pick_device('cpu') and None))"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=inherited | given | {"OMP_DISPLAY_ENV": "verbose"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("torch uses another OpenMP than GNU's")
    assert ("GOMP_SPINCOUNT = '0'" not in done.stderr) == spins, done.stderr


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_has_gone_is_no_defect(lines: int) -> None:
    """Few lines wait in the buffer until the end, many meet the closed pipe on the way."""
    program = "import sys; from diffhmr.command_line import run_command; "
    program += f"sys.exit(run_command(lambda: [print('text') for _ in range({lines})] and None))"
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(("redirection", "code"), [(">&-", 0), ("2>&-", 0), (">&- 2>&-", 0), (">/dev/full", 2)])
def test_streams_that_take_nothing(redirection: str, code: int) -> None:
    program = "import sys; from diffhmr.command_line import run_command; sys.exit(run_command(lambda: print(1)))"
    command = f'exec "{sys.executable}" -c "{program}" {redirection}'
    done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code and "Traceback" not in done.stderr


@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full"])
def test_the_exit_code_remains_where_the_message_cannot_go(redirection: str) -> None:
    command = f'exec "{sys.executable}" train.py --config none.yaml {redirection}'
    assert subprocess.run(["sh", "-c", command], cwd=ROOT, check=False).returncode == 2


# Options


def parser() -> CommandParser:
    made = CommandParser(description="A command.")
    made.add_argument("--num-samples", type=int, default=25)
    made.add_argument("--box")
    made.add_argument("--image", required=True)
    made.add_argument("--mesh", choices=["none", "obj"])
    made.add_argument("--whole-image", action="store_true")
    made.add_argument("overrides", nargs="*")
    return made


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--image", "a", "--num-sample", "3"], "unknown option --num-sample, did you mean --num-samples?"),
        (["--imge", "a"], "unknown option --imge, did you mean --image?"),
        (["--image", "a", "--zzz=1"], "unknown option --zzz, see --help"),
        (["--image", "a", "--bogus"], "unknown option --bogus, see --help"),
        ([], "the following arguments are required: --image; see --help"),
        (["--image"], "argument --image: expected one argument; see --help"),
        (["--image", "a", "--num-samples", "many"], "argument --num-samples: invalid int value: 'many'; see --help"),
        (["--image", "a", "--whole-image=yes"], "argument --whole-image: ignored explicit argument 'yes'; see --help"),
        (["--image", "a", "-x"], "unrecognized arguments: -x; see --help"),
    ],
)
def test_wrong_options_are_user_errors(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    for parse in (parser().parse_args, parser().parse_intermixed_args):
        with pytest.raises(UserError) as caught:
            parse(words)
        assert str(caught.value) == message
    assert capsys.readouterr() == ("", ""), "nothing but the message"


def test_a_choice_that_is_none_lists_the_choices() -> None:
    with pytest.raises(UserError, match=r"--mesh: invalid choice: 'fbx' \(choose from .*none.*obj.*\); see --help"):
        parser().parse_args(["--image", "a", "--mesh", "fbx"])


def test_values_may_be_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--box", "-5,-5.5,90,90", "--num-samples", "-1", "--image", "a", "-3", "b"]
    expected = ("-5,-5.5,90,90", -1, "a", ["-3", "b"])
    monkeypatch.setattr(sys, "argv", ["command", *words])
    for options in (parser().parse_args(words), parser().parse_args()):
        assert (options.box, options.num_samples, options.image, options.overrides) == expected
    assert parser().parse_args(["--image", "a", "--", "-7"]).overrides == ["-7"]


# Devices


def test_devices() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device().type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "meta", "", "CPU", "cuda:", "cuda:a"])
def test_devices_that_are_none(name: str) -> None:
    with pytest.raises(UserError, match=f"^unknown device '{name}'; give cpu, cuda or cuda:N$"):
        pick_device(name)


def test_cuda_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        name = f"cuda:{torch.cuda.device_count()}"
    else:
        name = "cuda"
    with pytest.raises(UserError, match=rf"--device {name} cannot be used \(.+\); give cpu, or leave the option out"):
        pick_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device() == torch.device("cuda")


def test_options_are_read_without_torch() -> None:
    """Help and wrong options answer at once."""
    program = "import sys, diffhmr.command_line; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == 0
