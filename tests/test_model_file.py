"""What all model files share: a header that names the format, and one clear line for a file of another one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from diffhmr.errors import UserError
from diffhmr.model_file import (
    IMAGE_MODEL,
    MOTION_MODEL,
    ModelFormat,
    check_weights,
    is_of_format,
    read_model_file,
    write_model_file,
)


def message_of(path: Path, model_format: ModelFormat, *required: str) -> str:
    with pytest.raises(UserError) as caught:
        read_model_file(path, model_format, required, with_tensors=True)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("model_format", [IMAGE_MODEL, MOTION_MODEL])
def test_round_trip(tmp_path: Path, model_format: ModelFormat) -> None:
    path = tmp_path / "deeper" / "a.safetensors"
    tensors = {"weight": torch.arange(6.0).reshape(2, 3).T, "count": torch.tensor(3)}
    write_model_file(path, model_format, tensors, {"note": "made by a test"})
    metadata, read = read_model_file(path, model_format, ("note",), with_tensors=True)
    assert metadata == {
        "format": model_format.name,
        "format_version": "1",
        "torch_version": str(torch.__version__),
        "note": "made by a test",
    }
    assert set(read) == set(tensors) and all(torch.equal(read[name], value) for name, value in tensors.items())
    assert read_model_file(path, model_format, (), with_tensors=False) == (metadata, {})
    assert [path.name for path in path.parent.iterdir()] == ["a.safetensors"]


def test_formats_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_model_file(path, IMAGE_MODEL, {"a": torch.zeros(1)}, {})
    assert is_of_format(path, IMAGE_MODEL) and not is_of_format(path, MOTION_MODEL)
    assert "holds a model of people in pictures, but a network of clips" in message_of(path, MOTION_MODEL)
    write_model_file(path, MOTION_MODEL, {"a": torch.zeros(1)}, {})
    assert is_of_format(path, MOTION_MODEL) and not is_of_format(path, IMAGE_MODEL)
    assert "holds a network of clips of keypoints, but a model of people" in message_of(path, IMAGE_MODEL)
    save_file({"a": torch.zeros(1)}, path)
    assert "not one of this project" in message_of(path, MOTION_MODEL)
    path.unlink()
    assert "not found" in message_of(path, MOTION_MODEL) and not is_of_format(path, MOTION_MODEL)
    for content, text in ((b"", "is empty"), (b"these are no weights", "no safetensors file")):
        path.write_bytes(content)
        assert text in message_of(path, MOTION_MODEL) and not is_of_format(path, MOTION_MODEL)


def test_headers_that_do_not_do(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_model_file(path, MOTION_MODEL, {"a": torch.zeros(1)}, {"kind": "b"})
    assert "damaged header (sizes, variant)" in message_of(path, MOTION_MODEL, "variant", "kind", "sizes")
    for version in ("2", "", "-1", "one", "²"):
        metadata = {"format": MOTION_MODEL.name, "format_version": version}
        save_file(load_file(path), path, metadata=metadata)
        assert f"has format version {version}, this program reads up to 1" in message_of(path, MOTION_MODEL)


def test_weights_are_compared_by_name_shape_type_and_value() -> None:
    layer = nn.Linear(2, 3)
    good = {name: value.half() for name, value in layer.state_dict().items()}
    check_weights(layer, good, "x")
    for changed, text in (
        ({"weight": good["weight"]}, r"1 missing \(bias\)"),
        (good | {"extra": torch.zeros(1)}, r"1 unexpected \(extra\)"),
        (good | {"bias": torch.zeros(2)}, r"1 of another shape \(bias\)"),
        (good | {"bias": torch.zeros(3, dtype=torch.int32)}, r"1 of another type \(bias\)"),
        (good | {"bias": torch.full((3,), float("inf"))}, "not all values are finite in bias"),
    ):
        with pytest.raises(UserError, match=text):
            check_weights(layer, changed, "x")
