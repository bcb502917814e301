"""Model files: safetensors whose header says what network the weights belong to. Such a file cannot run code.

Here is what all of them share. :mod:`diffhmr.checkpoint` has the models of people in pictures,
:mod:`diffhmr.motion_checkpoint` the networks of clips of keypoints; the header's ``format`` tells them apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from diffhmr.errors import UserError, some_of
from diffhmr.files import atomic_path, require_file


@dataclass(frozen=True)
class ModelFormat:
    """One kind of model file.

    Attributes:
        name: in the header, as ``format``.
        version: the newest that this program reads.
        holds: what is in such a file, in words.
        remedy: what to give where such a file is needed.
    """

    name: str
    version: int
    holds: str
    remedy: str


IMAGE_MODEL = ModelFormat(
    "diffhmr-model", 1, "a model of people in pictures", "give a file written by train.py or one of data/checkpoints"
)
MOTION_MODEL = ModelFormat(
    "diffhmr-motion-model",
    1,
    "a network of clips of keypoints",
    "give one written by train.py for a task on clips, or by scripts.import_checkpoint --from motionbert or diffmesh",
)
_FORMATS = {known.name: known for known in (IMAGE_MODEL, MOTION_MODEL)}


def write_model_file(
    path: str | Path, model_format: ModelFormat, tensors: Mapping[str, Tensor], header: Mapping[str, str]
) -> None:
    """Write tensors and header, atomically; the format and the version of PyTorch are added to the header.

    Raises:
        UserError: the folder cannot be written, or a weight is not finite.
    """
    require_finite(tensors, f"cannot write {path}")
    metadata = {
        "format": model_format.name,
        "format_version": str(model_format.version),
        "torch_version": str(torch.__version__),
    }
    assert not set(header) & set(metadata), f"reserved metadata: {sorted(set(header) & set(metadata))}"
    with atomic_path(path) as temporary:
        contiguous = {name: value.contiguous() for name, value in tensors.items()}
        save_file(contiguous, temporary, metadata=metadata | dict(header))


def read_model_file(
    path: str | Path, model_format: ModelFormat, required: Iterable[str], *, with_tensors: bool
) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and, if wanted, tensors of a file of ``model_format``.

    Args:
        required: what the header must have beside format and version.

    Raises:
        UserError: it is missing, truncated, of another format or of a newer version; the header is damaged.
    """
    path, metadata, tensors = _open(path, model_format, with_tensors)
    name = metadata.get("format", "")
    if name != model_format.name and name in _FORMATS:
        raise UserError(
            f"{path} holds {_FORMATS[name].holds}, but {model_format.holds} is needed; {model_format.remedy}"
        )
    if name != model_format.name:
        raise UserError(f"{path} is a safetensors file, but not one of this project; {model_format.remedy}")
    version = metadata.get("format_version", "")
    if not version.isascii() or not version.isdigit() or int(version) > model_format.version:
        raise UserError(
            f"{path} has format version {version}, this program reads up to {model_format.version}; update it"
        )
    missing = set(required) - set(metadata)
    if missing:
        raise damaged_header(path, sorted(missing))
    return metadata, tensors


def is_of_format(path: str | Path, model_format: ModelFormat) -> bool:
    """Whether the header of ``path`` names this format, of whatever version; of a file without header, False."""
    try:
        return _open(path, model_format, False)[1].get("format") == model_format.name
    except UserError:
        return False


def read_header(path: str | Path) -> dict[str, str]:
    """The header of a model file of whatever format.

    Raises:
        UserError: it is missing or truncated.
    """
    return _open(path, IMAGE_MODEL, False)[1]


def damaged_header(path: str | Path, fields: Iterable[str]) -> UserError:
    """The error of a file whose header has no usable ``fields``."""
    return UserError(f"{path} has a damaged header ({', '.join(fields)}); get the file again")


def check_weights(model: nn.Module, tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """Check that ``model`` can take ``tensors``: every name, shape and type fits and every value is finite.

    Raises:
        UserError: they do not, with the names.
    """
    wanted = model.state_dict()
    problems = {
        "missing": [name for name in wanted if name not in tensors],
        "unexpected": [name for name in tensors if name not in wanted],
        "of another shape": [name for name in wanted if name in tensors and wanted[name].shape != tensors[name].shape],
        "of another type": [name for name in wanted if name in tensors and not _fits(tensors[name], wanted[name])],
    }
    if any(problems.values()):
        text = ", ".join(f"{len(names)} {what} ({some_of(names)})" for what, names in problems.items() if names)
        raise UserError(f"{path} holds the weights of another model: {text}; give a checkpoint that fits")
    require_finite(tensors, f"cannot use {path}")


def require_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Refuse weights that are not finite.

    Args:
        what: the beginning of the message.

    Raises:
        UserError: "<what>: not all values are finite in <names>; ...".
    """
    bad = [name for name, value in tensors.items() if value.is_floating_point() and not bool(value.isfinite().all())]
    if bad:
        raise UserError(f"{what}: not all values are finite in {some_of(bad)}; use an earlier checkpoint")


def _open(
    path: str | Path, model_format: ModelFormat, with_tensors: bool
) -> tuple[Path, dict[str, str], dict[str, Tensor]]:
    path = require_file(path, "checkpoint", model_format.remedy)
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = dict(stream.metadata() or {})
            tensors = {name: stream.get_tensor(name) for name in stream.keys()} if with_tensors else {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is truncated or no safetensors file ({error}); get the file again") from error
    return path, metadata, tensors


def _fits(value: Tensor, wanted: Tensor) -> bool:
    """Whether ``value`` can stand for ``wanted``: numbers with the same meaning, if perhaps of less precision."""
    if wanted.is_floating_point():
        return value.dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    return value.dtype == wanted.dtype
