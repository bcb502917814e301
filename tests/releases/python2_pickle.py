"""Pickles as Python 2 with an old NumPy wrote them: text and bytes as byte strings, NumPy's old module names."""

from __future__ import annotations

import io
import pickle
import struct
from pathlib import Path
from typing import Any, ClassVar

_Pickler: Any = vars(pickle)["_Pickler"]  # the one in Python, of which every step can be replaced


class _Python2Pickler(_Pickler):
    """Protocol 2, in which Python 3 would write text as unicode and bytes as a call."""

    dispatch: ClassVar[dict[type, Any]] = dict(_Pickler.dispatch)

    def save_text(self, text: str) -> None:
        self.save_content(text.encode("latin1"))

    def save_content(self, content: bytes) -> None:
        if len(content) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(content)]) + content)
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)

    def save_global(self, obj: Any, name: str | None = None) -> None:
        module = getattr(obj, "__module__", "") or ""
        if module.startswith("numpy._core"):
            self.write(f"c{module.replace('numpy._core', 'numpy.core')}\n{obj.__name__}\n".encode())
            self.memoize(obj)
        else:
            super().save_global(obj, name)

    dispatch[str] = save_text
    dispatch[bytes] = save_content


def dump_python2(content: Any, path: Path) -> None:
    """Write ``content`` to ``path``."""
    stream = io.BytesIO()
    _Python2Pickler(stream, protocol=2).dump(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(stream.getvalue())
