"""Tensors out of the files of ``torch.save``, without running the program that such a file is.

The structure of a checkpoint is a pickle, and a pickle can call anything. ``torch.load(weights_only=True)`` refuses
every file that holds more than tensors, as the checkpoints of most projects do (optimiser states with NumPy numbers,
settings of Lightning). Here such objects become :class:`Opaque`, which knows its class by name only: nothing of the
file is imported or called. Tensors become :class:`StoredTensor`, and only those that are asked for are read.

Both formats are read: the zip archive of PyTorch 1.6 and later, and the one before it, in which for example SPIN's
weights of 2019 are.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from torch import Tensor

from diffhmr.errors import UserError
from diffhmr.files import require_file

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_VERSION = 1001
_AGAIN = "it may be cut off: get it again"

_STORAGE_TYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Opaque:
    """An object of a class that is not imported. It takes whatever the file does to it and forgets it."""

    class_name = ""

    def __new__(cls, *_: Any, **__: Any) -> Opaque:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __call__(self, *_: Any, **__: Any) -> Opaque:
        return Opaque()

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def append(self, value: Any) -> None:
        """As of a list."""

    def extend(self, values: Any) -> None:
        """As of a list."""


class _OrderedDict(dict):
    """In place of ``collections.OrderedDict``: without the attributes that a state dict has beside its tensors."""

    def __setstate__(self, state: Any) -> None:
        pass


class _StorageType(NamedTuple):
    dtype: torch.dtype


class _Storage(NamedTuple):
    key: str
    dtype: torch.dtype
    start: int  # of a view, in elements; 0 for almost all


class StoredTensor(NamedTuple):
    """Where the numbers of a tensor are, as the file says."""

    storage: Any
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _TensorUnpickler(pickle.Unpickler):
    """Builds dictionaries, lists, numbers, text and :class:`StoredTensor`; everything else is :class:`Opaque`."""

    def __init__(self, stream: IO[bytes]) -> None:
        # Python 2 wrote some texts as bytes.
        super().__init__(stream, encoding="latin1")
        self.storage_types: dict[str, torch.dtype] = {}
        self._known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): _OrderedDict,
            ("torch._utils", "_rebuild_tensor"): self._tensor,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): self._parameter,
            ("torch._utils", "_rebuild_parameter_with_state"): self._parameter,
            **{("torch", name): _StorageType(dtype) for name, dtype in _STORAGE_TYPES.items()},
        }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._known:
            self._known[module, name] = type("Opaque", (Opaque,), {"class_name": f"{module}.{name}"})
        return self._known[module, name]

    def persistent_load(self, pid: Any) -> Any:
        if pid[0] == "module":  # the class of a whole network that was saved, with its source
            return pid[1]
        kind, storage_type, key, _, _, *view = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType):
            return Opaque()
        self.storage_types[str(key)] = storage_type.dtype
        start = int(view[0][1]) if view and view[0] is not None else 0
        return _Storage(str(key), storage_type.dtype, start)

    @staticmethod
    def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> StoredTensor:
        return StoredTensor(storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))

    @staticmethod
    def _parameter(data: Any, *_: Any) -> Any:
        return data


@dataclass(frozen=True)
class TorchFile:
    """An opened file.

    Attributes:
        path: of it.
        content: what was saved, with :class:`StoredTensor` and :class:`Opaque` in it.
        read_storage: the bytes of a storage.
    """

    path: Path
    content: Any
    read_storage: Callable[[str], bytearray]

    def tensor(self, value: Any, name: str) -> Tensor:
        """The tensor that ``value``, a part of the content, stands for.

        Args:
            name: of it, for messages.

        Raises:
            UserError: it is no tensor, or one whose numbers are not all there.
        """
        if not isinstance(value, StoredTensor) or not isinstance(value.storage, _Storage):
            kind = value.class_name if isinstance(value, Opaque) else type(value).__name__
            raise UserError(f"{self.path}: {name} is no tensor but {kind or 'an object'}")
        try:
            raw = self.read_storage(value.storage.key)
            flat = torch.frombuffer(raw, dtype=torch.uint8) if raw else torch.empty(0, dtype=torch.uint8)
            return _view(flat.view(value.storage.dtype), value)
        except _READ_ERRORS as error:
            raise UserError(f"{self.path}: the numbers of {name} cannot be read ({_line(error)}); {_AGAIN}") from error


_READ_ERRORS = (RuntimeError, ValueError, TypeError, KeyError, AttributeError, OverflowError, EOFError, OSError,
                struct.error, zlib.error, zipfile.BadZipFile)  # fmt: skip


def read_torch_file(path: str | Path) -> TorchFile:
    """Open a file that ``torch.save`` wrote; nothing that it asks for is run.

    Raises:
        UserError: it is missing, cut off, or of another format.
    """
    path = require_file(path, "checkpoint", "give the file with the weights")
    try:
        if zipfile.is_zipfile(path):
            return _read_zip(path)
        return _read_legacy(path)
    except UserError as error:
        raise UserError(f"{path} {error}") from error
    except Exception as error:  # whatever a damaged file makes of the unpickler's stack machine
        raise UserError(f"{path} is no readable file of torch.save ({_line(error)}); {_AGAIN}") from error


def _line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _view(flat: Tensor, stored: StoredTensor) -> Tensor:
    """The part of a storage that is the tensor, copied."""
    size, stride = stored.size, stored.stride
    first = stored.offset + stored.storage.start
    if len(size) != len(stride) or min((*size, *stride, first)) < 0:
        raise ValueError("impossible sizes")
    last = first + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    count = math.prod(size)
    if count > len(flat) or (count and last >= len(flat)):
        raise ValueError(f"{len(flat)} numbers are too few")
    return flat.as_strided(size, stride, first).clone() if count else flat.new_empty(size)


# The archive of PyTorch 1.6 and later: data.pkl, and every storage in a file of its own


def _read_zip(path: Path) -> TorchFile:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(roots) != 1:
            raise UserError("is a zip archive, but not one of torch.save (no data.pkl); give the checkpoint itself")
        root = roots[0]
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise UserError("was written on a big-endian machine, which is not supported")
        content = _TensorUnpickler(io.BytesIO(archive.read(f"{root}data.pkl"))).load()

    def read_storage(key: str) -> bytearray:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{root}data/{key}")
            if info.compress_type != zipfile.ZIP_STORED:
                raise ValueError("it is compressed, as torch.save does not do")
            return bytearray(archive.read(info))

    return TorchFile(path, content, read_storage)


# The format before: four pickles, a list of keys, then all storages in its order, each behind its length


def _read_legacy(path: Path) -> TorchFile:
    size = path.stat().st_size
    with open(path, "rb") as stream:
        if _magic(stream) != _LEGACY_MAGIC:
            raise UserError("is no file of torch.save, neither of PyTorch 1.6 and later nor of the format before")
        version, system = _TensorUnpickler(stream).load(), _TensorUnpickler(stream).load()
        if version != _LEGACY_VERSION or not isinstance(system, dict):
            raise UserError(f"has an unknown version of torch.save's old format ({version})")
        if not system.get("little_endian", True):
            raise UserError("was written on a big-endian machine, which is not supported")
        unpickler = _TensorUnpickler(stream)
        content = unpickler.load()
        places = {}
        for key in _TensorUnpickler(stream).load():
            (length,) = struct.unpack("<q", stream.read(8))
            places[str(key)] = (stream.tell(), length * unpickler.storage_types[str(key)].itemsize)
            stream.seek(places[str(key)][1], io.SEEK_CUR)
            if length < 0 or stream.tell() > size:
                raise UserError(f"is cut off; {_AGAIN}")

    def read_storage(key: str) -> bytearray:
        start, length = places[key]
        with open(path, "rb") as stream:
            stream.seek(start)
            return bytearray(stream.read(length))

    return TorchFile(path, content, read_storage)


def _magic(stream: IO[bytes]) -> Any:
    """The first object of a file, None if that is no pickle."""
    try:
        return _TensorUnpickler(stream).load()
    except Exception:  # any file may be given, and its first bytes may mean anything to the unpickler
        return None
