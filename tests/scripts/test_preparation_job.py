"""What all preparations share: resuming after SIGKILL, settings, locks, space, checks."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diffhmr.command_line import run_command
from diffhmr.datasets.labels import read_labels
from tests.scripts.preparing import tree
from tests.scripts.toy_preparation import SPLITS, prepare, write_toy


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy") / "raw"
    write_toy(root)
    return root


def run(root: Path, out: Path, *words: str) -> int:
    return run_command(lambda: prepare(["--root", str(root), "--out", str(out), *words]))


def start(root: Path, out: Path, *words: str, **environment: str) -> int:
    """Run in another process; its number."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.environ.update(environment)
            code = run(root, out, *words)
        finally:
            os._exit(code)
    return child


def ended_by(child: int) -> int:
    """The signal that ended a process, or 0."""
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_pieces_become_one_label_file_per_split(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raw, tmp_path) == 0
    labels = read_labels(tmp_path / "train.npz")
    assert list(labels.imgname[::2]) == [f"{key}/{picture}.png" for key in SPLITS["train"] for picture in range(2)]
    assert labels.meta["counts"] == {"people who walked away": 3} and labels.meta["split"] == "train"
    assert labels.meta["images"] == str(raw) and labels.meta["settings"] == {"shift": 0.0, "videos": False}
    assert set(tree(tmp_path)) == {"train.npz", "test.npz"}
    assert f"{tmp_path / 'train.npz'}: 12 rows; people who walked away: 3" in capsys.readouterr().out


@pytest.mark.parametrize("words", [(), ("--crops",), ("--shards",), ("--videos",), ("--crops", "--videos")], ids=str)
def test_killed_and_resumed_equals_uninterrupted(raw: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    log = tmp_path / "log"
    for piece in ("b", "d"):
        child = start(raw, tmp_path / "out", *words, TOY_KILL_AT=piece, TOY_LOG=str(log))
        assert ended_by(child) == signal.SIGKILL
    before = log.read_text(encoding="utf-8").split()[::2]
    assert before[:2] == ["a", "b"]
    assert not (tmp_path / "out" / "test.npz").exists()
    assert run(raw, tmp_path / "out", *words) == 0
    assert run(raw, tmp_path / "whole", *words) == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_finished_pieces_are_not_done_again(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ended_by(start(raw, tmp_path, TOY_KILL_AT="c")) == signal.SIGKILL
    # A writer that was killed leaves such files; they do not count, and do not stay.
    (tmp_path / ".parts" / "train" / ".c-abcdefgh.npz").write_bytes(b"half a piece")
    log = tmp_path / "log"
    monkeypatch.setenv("TOY_LOG", str(log))
    assert run(raw, tmp_path) == 0
    assert log.read_text(encoding="utf-8").split()[::2] == ["c", "d"]
    assert run(raw, tmp_path) == 0
    assert log.read_text(encoding="utf-8").split()[::2] == ["c", "d"]
    assert not (tmp_path / ".parts").exists()


def test_pieces_of_other_settings_are_thrown_away(
    raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended_by(start(raw, tmp_path / "out", TOY_KILL_AT="c")) == signal.SIGKILL
    assert run(raw, tmp_path / "out", "--shift", "1") == 0
    assert run(raw, tmp_path / "whole", "--shift", "1") == 0
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")
    # A finished file is the user's.
    capsys.readouterr()
    assert run(raw, tmp_path / "out") == 2
    assert "made with other settings (settings); delete it" in capsys.readouterr().err


@pytest.mark.parametrize("words", [(), pytest.param(("--crops",), marks=pytest.mark.slow)], ids=str)
def test_several_processes_write_the_same(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("TOY_LOG", str(log))
    assert run(raw, tmp_path / "many", *words, "--workers", "2", "--splits", "train") == 0
    workers = set(log.read_text(encoding="utf-8").split()[1::2])
    assert workers and str(os.getpid()) not in workers
    assert run(raw, tmp_path / "one", *words, "--splits", "train") == 0
    assert tree(tmp_path / "many") == tree(tmp_path / "one")


def test_a_worker_that_is_killed_is_one_line(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOY_KILL_AT", "c")
    assert run(raw, tmp_path / "out", "--workers", "2", "--splits", "train") == 2
    assert "worker process was killed" in capsys.readouterr().err


def test_workers_end_with_their_parent(raw: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    parent = start(raw, tmp_path / "out", "--workers", "2", TOY_SLEEP_AT="a", TOY_LOG=str(log))
    wait_for(lambda: log.exists() and "a " in log.read_text(encoding="utf-8"))
    words = log.read_text(encoding="utf-8").split()
    worker = int(words[words.index("a") + 1])
    assert worker != parent and _alive(worker)
    os.kill(parent, signal.SIGKILL)
    assert ended_by(parent) == signal.SIGKILL
    wait_for(lambda: not _alive(worker))


def _alive(process_id: int) -> bool:
    status = Path("/proc", str(process_id), "status")
    if Path("/proc/self").exists():
        return status.exists() and "\nState:\tZ" not in status.read_text(encoding="utf-8")
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_error_in_a_worker_is_one_line(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "raw"
    shutil.copytree(raw, root)
    (root / "b" / "damaged").touch()
    assert run(root, tmp_path / "out", "--workers", "2", "--splits", "train") == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(lines) == 1 and "raw/b is damaged" in lines[0]
    # The other pieces are not lost.
    (root / "b" / "damaged").unlink()
    assert run(root, tmp_path / "out") == 0
    assert len(read_labels(tmp_path / "out" / "train.npz")) == 12


def test_two_at_once_are_refused(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log"
    first = start(raw, tmp_path / "out", TOY_SLEEP_AT="a", TOY_LOG=str(log))
    wait_for(log.exists)
    assert run(raw, tmp_path / "out") == 2
    assert "another preparation is writing" in capsys.readouterr().err
    os.kill(first, signal.SIGKILL)
    ended_by(first)
    assert run(raw, tmp_path / "out") == 0


def test_space_is_checked_before_anything_is_written(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=500_000))
    assert run(raw, tmp_path, "--crops") == 2
    error = capsys.readouterr().err
    assert "500 kB free, about 1 MB are needed" in error
    assert not tree(tmp_path)
    assert run(raw, tmp_path) == 0  # labels alone are smaller


def test_check_and_what_is_missing(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "nothing", tmp_path / "out", "--check") == 0
    told = capsys.readouterr().out
    assert "missing     train folders  0 of 3 folders" in told and "https://example.org" in told
    assert "get train folders, test folders: draw them" in told and "not complete" in told
    assert run(tmp_path / "nothing", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "train folders missing" in error and "1 more" in error

    root = tmp_path / "raw"
    shutil.copytree(raw, root)
    shutil.rmtree(root / "b")
    assert run(root, tmp_path / "out", "--check") == 0
    assert "incomplete  train folders  2 of 3 folders" in capsys.readouterr().out
    assert run(root, tmp_path / "out") == 2
    assert run(root, tmp_path / "out", "--splits", "test") == 0
    assert run(root, tmp_path / "out", "--partial") == 0
    assert read_labels(tmp_path / "out" / "train.npz").meta["partial"] == ["train folders: 2 of 3 folders"]
    assert "partial" not in read_labels(tmp_path / "out" / "test.npz").meta

    assert run(raw, tmp_path / "out2", "--check") == 0
    told = capsys.readouterr().out
    assert "complete: writes 4 pieces" in told and "(optional)" in told and not (tmp_path / "out2").exists()
    # When the rest has come, what was made of a part is not taken for the whole.
    assert run(raw, tmp_path / "out") == 2
    assert "made with other settings (pieces, images, partial)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--splits", "validation"), "no split validation"),
        (("--splits", ","), "names none"),
        (("--workers", "0"), "--workers 0"),
        (("--crop-margin", "0.5"), "--crop-margin 0.5"),
        (("--crop",), "did you mean --crops"),
    ],
    ids=str,
)
def test_wrong_options(
    raw: Path, tmp_path: Path, words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(raw, tmp_path, *words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_root_that_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert run(tmp_path / "file", tmp_path / "out") == 2
    assert "is no folder" in capsys.readouterr().err


def test_frames_of_videos_become_pictures(raw: Path, tmp_path: Path) -> None:
    import cv2

    assert run(raw, tmp_path, "--videos") == 0
    labels = read_labels(tmp_path / "train.npz")
    assert labels.meta["images"] == "images"
    for name in labels.imgname:
        image, original = cv2.imread(str(tmp_path / "images" / str(name))), cv2.imread(str(raw / str(name)))
        assert image is not None and original is not None
        assert np.abs(image.astype(int) - original).mean() < 2
    # With crops the whole frames are not kept.
    assert run(raw, tmp_path / "crops", "--videos", "--crops") == 0
    assert {path.name for path in (tmp_path / "crops").iterdir()} == {"crops", "train_crops.npz", "test_crops.npz"}


def test_a_video_that_is_too_short_is_named(raw: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "raw"
    shutil.copytree(raw, root)
    (root / "b" / "0.png").write_bytes(b"no picture")
    for words in (("--videos",), ("--videos", "--crops")):
        assert run(root, tmp_path / "out", *words) == 2
        assert "1 labelled frames are not in the videos, the first is b/0.png" in capsys.readouterr().err
    assert run(root, tmp_path / "out", "--crops") == 2
    assert "picture damaged" in capsys.readouterr().err
