"""Reading and writing files without losing anything: atomic writes, checksums, checks with a remedy in the message."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffhmr.errors import UserError

_LITTLE_SPACE = 2**20  # bytes: some writers leave less than a block


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it when the block succeeds and vanishes when it fails.

    The temporary name keeps the suffix, because writers such as ``cv2.imwrite`` choose the format by it.

    Raises:
        UserError: the folder does not exist or cannot be written, ``path`` cannot be replaced, as a folder cannot, or
            the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write {path}: {reason}; choose a folder you can write to") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _put_in_place(temporary, path)
    except Exception as error:
        if is_disk_full(error) or shutil.disk_usage(path.parent).free < _LITTLE_SPACE:
            raise UserError(f"cannot write {path}: the disk is full; make room and run the command again") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``folder``, which exists; its files move there when the block succeeds.

    When it fails they vanish. Other files in ``folder`` stay.

    Raises:
        UserError: the folder beside it cannot be written.
    """
    folder = Path(folder)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write into {folder.parent}: {reason}; choose a folder you can write to") from error
    try:
        yield temporary
        for path in sorted(temporary.iterdir()):
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _put_in_place(temporary: Path, path: Path) -> None:
    # mkstemp creates private files; give the result the mode an ordinary write would have given it.
    umask = os.umask(0)
    os.umask(umask)
    try:
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UserError(f"cannot write {path}: {error.strerror or error}; choose another folder or name") from error


def is_disk_full(error: BaseException) -> bool:
    """Whether the system said so, to Python or to a writer that quotes it; not all writers do."""
    codes = (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "errno", None) in codes or any(os.strerror(code) in str(error) for code in codes)


def remove_leftovers(path: str | Path) -> None:
    """Delete the temporary files and folders of writers of ``path`` that were killed; none may be at work."""
    path = Path(path)
    for temporary in path.parent.glob(f".{glob.escape(path.stem)}-????????{glob.escape(path.suffix)}"):
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink()


def ensure_folder(path: str | Path) -> Path:
    """Create ``path`` as a folder if needed and check that files can be written in it.

    Raises:
        UserError: it is a file, or it cannot be created or written.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise UserError(f"cannot write to the folder {path}: it is a file; choose another one")
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"cannot write to the folder {path}: {reason}; choose another one") from error
    return path


def ensure_writable(path: str | Path) -> Path:
    """Check that a file can be written at ``path`` and create its folder, before long work whose result goes there.

    Raises:
        UserError: it is a folder, or its folder cannot be created or written.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder; give the name of a file")
    ensure_folder(path.parent)
    return path


def name_for_results(path: str | Path, rivals: Collection[str]) -> str:
    """Name of the folder for the results of an input: its own without the suffix, if that tells it from its neighbours.

    If a file with one of the suffixes ``rivals`` beside it has the same name otherwise, the suffix is kept:
    ``clip_mp4``; so is that of a ``clip_mp4.avi`` beside them. Of a folder it is the whole name, also if it is given as
    ``.`` or ``..``.
    """
    path = Path(path).absolute()
    if path.is_dir():
        return (path.resolve() if path.name == ".." else path).name or "root"
    head, _, tail = path.stem.rpartition("_")
    taker = path.with_name(f"{head}.{tail}") if head and tail else path
    taken = taker.suffix.lower() in rivals and taker != path and taker.exists() and not _alone(taker, rivals)
    own = _alone(path, rivals) and not taken and bool(path.stem.strip("."))
    return path.stem if own else path.name.replace(".", "_")


def _alone(path: Path, rivals: Collection[str]) -> bool:
    beside = path.parent.glob(glob.escape(path.stem) + ".*")
    return not any(other.suffix.lower() in rivals and other.name != path.name for other in beside)


def require_file(path: str | Path, what: str, remedy: str) -> Path:
    """Return ``path`` if it is a file that is not empty.

    Raises:
        UserError: "<what> not found: <path>; <remedy>", or the same for an empty file, a folder, or a file
            that may not be read.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"{what} not found: {path}; {remedy}")
    if not path.is_file():
        raise UserError(f"{what} is not a file: {path}; {remedy}")
    if path.stat().st_size == 0:
        raise UserError(f"{what} is empty: {path}; {remedy}")
    if not os.access(path, os.R_OK):
        raise UserError(f"{what} may not be read: {path}; give yourself the permission")
    return path


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's content as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as indented JSON, atomically. NaN and infinity are refused: they are not JSON."""
    text = json.dumps(content, indent=2, allow_nan=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
