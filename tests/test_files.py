"""Atomic writes, checks with a remedy, checksums."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from pathlib import Path

import pytest

from diffhmr.errors import UserError
from diffhmr.files import (
    atomic_folder,
    atomic_path,
    ensure_folder,
    ensure_writable,
    remove_leftovers,
    require_file,
    sha256_file,
    write_json,
)


def test_atomic_path_replaces_on_success(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.json"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".json"
        temporary.write_text("1")
        assert not target.exists()
    assert target.read_text() == "1"
    with atomic_path(target) as temporary:
        temporary.write_text("2")
        assert target.read_text() == "1"
    assert target.read_text() == "2"
    assert list(target.parent.iterdir()) == [target]


def test_atomic_path_keeps_the_old_file_on_failure(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_atomic_path_gives_ordinary_permissions(tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.write_text("")
    with atomic_path(tmp_path / "atomic") as temporary:
        temporary.write_text("")
    assert stat.S_IMODE((tmp_path / "atomic").stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)


def test_folders_that_cannot_be_written(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(UserError, match="cannot write") as caught, atomic_path(blocker / "a.txt"):
        pass
    assert "\n" not in str(caught.value)
    for folder, reason in ((blocker, "it is a file"), (blocker / "below", "Not a directory")):
        with pytest.raises(UserError, match=f"cannot write to the folder {folder}: {reason}; choose another one"):
            ensure_folder(folder)


def test_a_folder_where_the_file_belongs(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    (target / "inside").mkdir(parents=True)
    with pytest.raises(UserError, match=r"cannot write .*a\.txt: Is a directory; choose another"), atomic_path(target):
        pass
    assert list(tmp_path.iterdir()) == [target] and (target / "inside").is_dir()


def test_files_that_cannot_be_written_are_found_before_the_work(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.json"
    assert ensure_writable(str(target)) == target
    assert list(tmp_path.rglob("*")) == [target.parent]
    with pytest.raises(UserError, match="new: it is a folder; give the name of a file"):
        ensure_writable(target.parent)
    target.write_text("x")
    assert ensure_writable(target).read_text() == "x"
    with pytest.raises(UserError, match="cannot write to the folder"):
        ensure_writable(target / "b.json")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
        RuntimeError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path: Path, error: Exception) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(UserError, match=r"a\.bin: the disk is full; make room"), atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]


def test_a_writer_that_hides_the_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(UserError, match="the disk is full"), atomic_path(tmp_path / "a.pt"):
        raise RuntimeError("unexpected pos 64 vs 0")


def test_leftovers_of_killed_writers_are_removed(tmp_path: Path) -> None:
    kept = [
        tmp_path / name for name in ("state.pt", ".state-long-name.pt", ".model-abcdefgh.pt", ".state-abcdefgh.txt")
    ]
    for path in (*kept, tmp_path / ".state-abcd_f12.pt"):
        path.write_text("x")
    with atomic_path(tmp_path / "state.pt") as temporary:
        assert temporary.match(".state-????????.pt"), "the name that remove_leftovers looks for"
    remove_leftovers(tmp_path / "state.pt")
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_leftovers_of_killed_writers_of_folders_are_removed(tmp_path: Path) -> None:
    folder = tmp_path / "meshes_obj"
    folder.mkdir()
    killed = tmp_path / ".meshes_obj-abcd_f12"
    killed.mkdir()
    (killed / "a").write_text("x")
    with atomic_folder(folder) as temporary:
        assert temporary.match(".meshes_obj-????????"), "the name that remove_leftovers looks for"
    remove_leftovers(folder)
    assert list(tmp_path.iterdir()) == [folder]


def test_atomic_folder(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "own").write_text("own")
    with atomic_folder(folder) as temporary:
        (temporary / "one").write_text("1")
        assert not (folder / "one").exists()
    with pytest.raises(RuntimeError), atomic_folder(folder) as temporary:
        (temporary / "one").write_text("2")
        raise RuntimeError
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"own": "own", "one": "1"}
    assert list(tmp_path.iterdir()) == [folder]
    with pytest.raises(UserError, match="cannot write into"), atomic_folder(tmp_path / "absent" / "b"):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match="Permission denied"):
            ensure_folder(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_ensure_folder_creates_and_leaves_nothing(tmp_path: Path) -> None:
    folder = ensure_folder(str(tmp_path / "a" / "b"))
    assert folder.is_dir()
    assert list(folder.iterdir()) == []
    assert ensure_folder(folder) == folder


def test_require_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.bin"
    with pytest.raises(UserError, match=re.escape(f"thing not found: {path}; get it")):
        require_file(path, "thing", "get it")
    with pytest.raises(UserError, match="thing is not a file"):
        require_file(tmp_path, "thing", "get it")
    path.write_bytes(b"")
    with pytest.raises(UserError, match="thing is empty"):
        require_file(path, "thing", "get it")
    path.write_bytes(b"x")
    assert require_file(str(path), "thing", "get it") == path
    monkeypatch.setattr(os, "access", lambda *_: False)  # the superuser may read everything
    with pytest.raises(UserError, match=re.escape(f"thing may not be read: {path}")):
        require_file(path, "thing", "get it")


def test_sha256_of_more_than_one_block(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(content)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_write_json_refuses_what_is_not_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, 2.5, None]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1, 2.5, None]}
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "a.json", {"b": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"b": [1, 2.5, None]}
