"""Files of torch.save: the same numbers as torch reads, and nothing in them is run."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffhmr.errors import UserError
from diffhmr.foreign.files import Opaque, StoredTensor, read_torch_file

FORMATS = pytest.mark.parametrize("archive", [True, False], ids=["zip", "legacy"])


class Evil:
    """Calls ``function(*arguments)`` when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


class Settings(dict):
    """A dictionary of a class that the reader does not know, with state."""

    def __init__(self) -> None:
        super().__init__(rate=3)
        self.frozen = True


def save(path: Path, content: Any, archive: bool) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=archive)
    return path


def message_of(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_torch_file(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


@FORMATS
def test_tensors_of_every_kind(tmp_path: Path, archive: bool) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
             torch.uint8, torch.bool)  # fmt: skip
    tensors = {
        "base": base,
        "transposed": base.T,
        "view": base[1:3, 2:],
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base * 2),
        **{str(kind): base.to(kind) for kind in kinds},
    }
    file = read_torch_file(save(tmp_path / "a.pt", {"model": tensors, "name": "a", "list": [1, (2.5, None)]}, archive))
    assert file.content["name"] == "a" and file.content["list"] == [1, (2.5, None)]
    for name, wanted in tensors.items():
        read = file.tensor(file.content["model"][name], name)
        assert read.dtype == wanted.dtype and torch.equal(read, wanted), name


@FORMATS
def test_a_state_dict_with_its_attributes(tmp_path: Path, archive: bool) -> None:
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3))
    state = network.state_dict()
    assert state._metadata  # type: ignore[attr-defined]
    file = read_torch_file(save(tmp_path / "a.pt", state, archive))
    assert list(file.content) == list(state)
    assert all(torch.equal(file.tensor(file.content[name], name), value) for name, value in state.items())


@FORMATS
def test_objects_of_other_classes_do_not_hinder(tmp_path: Path, archive: bool) -> None:
    network = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    content = {
        "optimizer": optimizer.state_dict(),
        "best": np.float64(3.5),
        "order": np.arange(5),
        "settings": Settings(),
        "path": Path("a"),
        "set": {1, 2},
        "class": torch.nn.Linear,
        "model": network.state_dict(),
    }
    file = read_torch_file(save(tmp_path / "a.pt", content, archive))
    assert torch.equal(file.tensor(file.content["model"]["weight"], "weight"), network.weight)
    assert isinstance(file.content["optimizer"]["state"][0]["exp_avg"], StoredTensor)
    assert isinstance(file.content["settings"], Opaque) and isinstance(file.content["best"], Opaque)
    with pytest.raises(UserError, match=r"best is no tensor but numpy.*scalar"):
        file.tensor(file.content["best"], "best")


@FORMATS
@pytest.mark.parametrize("attack", ["system", "eval", "open", "getattr"])
def test_nothing_in_a_file_is_run(tmp_path: Path, archive: bool, attack: str) -> None:
    mark = tmp_path / "mark"
    evil = {
        "system": Evil(os.system, f"touch {mark}"),
        "eval": Evil(eval, f"open({str(mark)!r}, 'w').close()"),
        "open": Evil(open, str(mark), "w"),
        "getattr": Evil(map, Evil(getattr, Path(mark), "touch"), [()]),
    }[attack]
    path = save(tmp_path / "evil.pt", {"model": {"weight": torch.ones(2)}, "other": [evil, {"deeper": evil}]}, archive)
    file = read_torch_file(path)
    assert isinstance(file.content["other"][0], Opaque)
    assert torch.equal(file.tensor(file.content["model"]["weight"], "weight"), torch.ones(2))
    assert not mark.exists()
    if attack in ("system", "eval"):  # the attack would work where files are trusted
        torch.load(path, weights_only=False)
        assert mark.exists()


def test_nothing_in_a_plain_pickle_is_run(tmp_path: Path) -> None:
    mark, path = tmp_path / "mark", tmp_path / "evil.pt"
    path.write_bytes(pickle.dumps(Evil(os.system, f"touch {mark}")))
    assert "is no file of torch.save" in message_of(path)
    assert not mark.exists()


def test_files_of_other_formats(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    assert "not found" in message_of(path)
    path.write_bytes(b"")
    assert "is empty" in message_of(path)
    path.write_bytes(b"these are no weights")
    assert "is no file of torch.save" in message_of(path)
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    assert "not one of torch.save" in message_of(tmp_path / "a.npz")
    scripted = tmp_path / "script.pt"
    with zipfile.ZipFile(scripted, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}))
        archive.writestr("a/byteorder", b"big")
    assert "big-endian" in message_of(scripted)


@FORMATS
def test_files_that_are_cut_off(tmp_path: Path, archive: bool) -> None:
    path = save(tmp_path / "a.pt", {"weight": torch.arange(1000.0)}, archive)
    content = path.read_bytes()
    for length in (len(content) // 4, len(content) // 2, len(content) - 10):
        path.write_bytes(content[:length])
        message = message_of(path)
        assert "cut off" in message or "no file of torch.save" in message


def test_damaged_numbers_are_noticed(tmp_path: Path) -> None:
    path = save(tmp_path / "a.pt", {"weight": torch.arange(1000.0)}, True)
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(100, 200.0).numpy().tobytes())] ^= 1
    path.write_bytes(content)
    file = read_torch_file(path)
    with pytest.raises(UserError, match=r"the numbers of weight cannot be read .*CRC"):
        file.tensor(file.content["weight"], "weight")


@pytest.mark.parametrize(
    "changes", [{"size": (2000,)}, {"offset": 1}, {"offset": -1}, {"stride": (2,)}, {"size": (-1,)}, {"size": (5, 5)}]
)
def test_tensors_beyond_their_storage(tmp_path: Path, changes: dict[str, Any]) -> None:
    file = read_torch_file(save(tmp_path / "a.pt", {"weight": torch.arange(1000.0)}, True))
    with pytest.raises(UserError, match="the numbers of weight cannot be read"):
        file.tensor(file.content["weight"]._replace(**changes), "weight")
