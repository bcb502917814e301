"""The arrays of one split of a pickle, taken out one by one with checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffhmr.body.safe_pickle import load_pickle, to_array
from diffhmr.errors import UserError
from diffhmr.files import require_file

AGAIN = "download the file again"


def read_dictionary(path: Path, what: str) -> dict[str, Any]:
    """A pickled dictionary, read without running code.

    Raises:
        UserError: the file is missing, damaged or holds something else.
    """
    return load_pickle(require_file(path, what, "mend path of its source (data/README.md says where to get it)"), what)


class Table:
    """Arrays of one split, whose first axis are the frames. What is taken is given up: files hold gigabytes.

    Args:
        content: of the split.
        where: begins every message, such as "FILE, split train".
    """

    def __init__(self, content: dict[str, Any], where: str) -> None:
        self._content = content
        self._where = where
        self._frames: int | None = None

    def __contains__(self, key: str) -> bool:
        return self._content.get(key) is not None

    def numbers(self, key: str, shape: tuple[int, ...], *, longer: bool = False) -> NDArray[np.float32]:
        """``(N, *shape)`` float32.

        Args:
            key: in the file.
            shape: of a frame.
            longer: the last axis may be longer, and is cut.

        Raises:
            UserError: the array is missing, has another shape or number of frames, or a number is not finite.
        """
        array = self._take(key)
        if array.dtype.kind not in "fiub":
            raise UserError(f"{self._where}: {key} holds {array.dtype}, not numbers; {AGAIN}")
        fits = array.ndim == len(shape) + 1 and array.shape[1:-1] == shape[:-1] if shape else array.ndim == 1
        if fits and shape:
            fits = array.shape[-1] == shape[-1] or (longer and array.shape[-1] > shape[-1])
        if not fits:
            raise UserError(f"{self._where}: {key} has shape {array.shape}, expected {_words(shape, longer)}; {AGAIN}")
        self._check_frames(key, len(array))
        if shape:
            array = array[..., : shape[-1]]
        with np.errstate(over="ignore"):
            numbers: NDArray[np.float32] = array.astype(np.float32, copy=False)
        if not np.isfinite(numbers).all():
            bad = int(np.argmin(np.isfinite(numbers.reshape(len(numbers), -1)).all(1)))
            raise UserError(f"{self._where}: {key} of frame {bad} is not finite; {AGAIN}")
        return numbers

    def confidence(self, points: int) -> NDArray[np.float32]:
        """``(N, points)`` in [0, 1], of a file with one more axis of length 1 or without it.

        Raises:
            UserError: as :meth:`numbers`.
        """
        value = self._content.get("confidence")
        trailing = value is not None and _as_array(value, self._where, "confidence").ndim == 3
        if trailing:
            return self.numbers("confidence", (points, 1))[..., 0].clip(0, 1)
        return self.numbers("confidence", (points,)).clip(0, 1)

    def names(self, key: str) -> NDArray[Any]:
        """``(N,)`` text or numbers that name something, such as videos.

        Raises:
            UserError: the array is missing or has another shape or number of frames.
        """
        array = self._take(key)
        if array.ndim != 1 or array.dtype.kind not in "USiuf":
            raise UserError(
                f"{self._where}: {key} has shape {array.shape} and type {array.dtype}, expected names; {AGAIN}"
            )
        self._check_frames(key, len(array))
        return np.char.decode(array, "latin1") if array.dtype.kind == "S" else array

    def _take(self, key: str) -> NDArray[Any]:
        if key not in self:
            there = ", ".join(sorted(map(str, self._content))) or "nothing"
            raise UserError(f"{self._where} has no {key} (there is {there}); is this the file of its format?")
        return _as_array(self._content.pop(key), self._where, key)

    def _check_frames(self, key: str, count: int) -> None:
        if self._frames is None:
            if not count:
                raise UserError(f"{self._where}: {key} has no frames; {AGAIN}")
            self._frames = count
        elif count != self._frames:
            raise UserError(f"{self._where}: {key} has {count} frames, others have {self._frames}; {AGAIN}")


def read_table(path: Path, split: str, what: str) -> Table:
    """The split ``split`` of a pickle ``{split: {name: array}}``.

    Raises:
        UserError: the file is missing or damaged, or has no such split.
    """
    content = read_dictionary(path, what)
    chosen = content.get(split)
    if chosen is None:
        splits = ", ".join(str(key) for key, value in content.items() if isinstance(value, dict)) or "none"
        raise UserError(f"{path} has no split {split!r} (there is {splits}); mend split of its source")
    if not isinstance(chosen, dict):
        raise UserError(f"{path}: the split {split} is a {type(chosen).__name__}, not a table of arrays; {AGAIN}")
    return Table(chosen, f"{path}, split {split}")


def as_text(names: NDArray[Any]) -> NDArray[np.str_]:
    """Names as text: whole numbers without a point."""
    whole = names.dtype.kind == "f" and bool((names == np.floor(names)).all())
    return (names.astype(np.int64) if whole else names).astype(str)


def _as_array(value: Any, where: str, key: str) -> NDArray[Any]:
    try:
        return to_array(value)
    except UserError as error:
        raise UserError(f"{where}: {key} cannot be read: {error}; {AGAIN}") from error


def _words(shape: tuple[int, ...], longer: bool) -> str:
    sizes = [str(size) for size in shape]
    if longer and sizes:
        sizes[-1] = f"at least {sizes[-1]}"
    return f"({', '.join(['frames', *sizes])})"
