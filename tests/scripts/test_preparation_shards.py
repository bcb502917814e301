"""Shards: what WebDataset's own reader finds in them."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from diffhmr.command_line import run_command
from diffhmr.datasets.labels import write_labels
from diffhmr.errors import UserError
from scripts.preparation.shards import unpack_shards, write_shards
from scripts.unpack_shards import main

COUNT = 11


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """A label file and its pictures."""
    rng = np.random.default_rng(0)
    names = [f"train/{row}.jpg" for row in range(COUNT)]
    for row, name in enumerate(names):
        path = tmp_path / "crops" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((30, 20, 3), 20 * row, np.uint8))
    rows: dict[str, np.ndarray] = {
        "imgname": np.array(names),
        "center": rng.uniform(5, 20, (COUNT, 2)),
        "scale": np.full(COUNT, 0.15),
        "pose": rng.normal(0, 1, (COUNT, 72)),
        "shape": rng.normal(0, 1, (COUNT, 10)),
        "gender": np.array(["m", "f", ""] * 4)[:COUNT],
        "frame": np.arange(COUNT),
    }
    write_labels(tmp_path / "train_crops.npz", rows, {"dataset": "toy", "split": "train"})
    return tmp_path


def read(folder: Path) -> list[dict[str, Any]]:
    from webdataset import WebDataset

    index = json.loads((folder / "train.json").read_text(encoding="utf-8"))
    files = [str(folder / shard["file"]) for shard in index["shards"]]
    return list(WebDataset(files, shardshuffle=False))


def write(crops: Path, out: str = "shards", shard_rows: int = 4) -> str:
    return write_shards(crops / "train_crops.npz", crops / "crops", crops / out, shard_rows)


def test_every_row_is_there_once_with_its_picture(crops: Path) -> None:
    assert write(crops) == f"{crops / 'shards' / 'train.json'}: 11 rows in 3 shards"
    samples = read(crops / "shards")
    order = [int(sample["__key__"]) for sample in samples]
    assert sorted(order) == list(range(COUNT)) and order != sorted(order)
    with np.load(crops / "train_crops.npz", allow_pickle=False) as archive:
        for row, sample in zip(order, samples, strict=True):
            content = json.loads(sample["json"])
            assert set(content) == set(archive.files) - {"meta"}
            for name, value in content.items():
                stored = archive[name][row]
                np.testing.assert_array_equal(np.array(value, stored.dtype), stored)
            assert sample["jpg"] == (crops / "crops" / content["imgname"]).read_bytes()


def test_samples_are_decoded_by_the_usual_decoder(crops: Path) -> None:
    from webdataset import WebDataset

    write(crops)
    shard = next((crops / "shards").glob("*.tar"))
    for sample in WebDataset(str(shard), shardshuffle=False).decode("rgb8"):
        assert sample["jpg"].shape == (30, 20, 3) and len(sample["json"]["pose"]) == 72


def test_the_index_says_what_there_is(crops: Path) -> None:
    write(crops)
    index = json.loads((crops / "shards" / "train.json").read_text(encoding="utf-8"))
    assert index["format"] == "diffhmr-shards" and index["rows"] == COUNT and index["labels"]["dataset"] == "toy"
    assert [shard["rows"] for shard in index["shards"]] == [4, 4, 3]
    for shard in index["shards"]:
        assert (crops / "shards" / shard["file"]).stat().st_size == shard["bytes"]


def test_the_same_bytes_every_time_and_after_a_stop(crops: Path) -> None:
    write(crops, "first")
    first = {path.name: path.read_bytes() for path in (crops / "first").iterdir()}
    # Stopped before the second shard was whole: neither the later ones nor the index are there.
    write(crops, "second")
    for path in sorted((crops / "second").iterdir())[1:]:
        path.unlink()
    (crops / "second" / ".train-12345678-4-000001-abcdefgh.tar").write_bytes(b"half")
    write(crops, "second")
    second = {path.name: path.read_bytes() for path in (crops / "second").iterdir() if path.name[0] != "."}
    assert first == second
    before = (crops / "first" / "train.json").stat().st_mtime_ns
    write(crops, "first")
    assert (crops / "first" / "train.json").stat().st_mtime_ns == before
    # One that was deleted comes again.
    next((crops / "first").glob("*.tar")).unlink()
    write(crops, "first")
    assert {path.name: path.read_bytes() for path in (crops / "first").iterdir()} == first


def test_new_labels_make_new_shards(crops: Path) -> None:
    write(crops)
    with np.load(crops / "train_crops.npz", allow_pickle=False) as archive:
        rows = {name: archive[name][:5] for name in archive.files if name != "meta"}
    write_labels(crops / "train_crops.npz", rows, {"dataset": "toy", "split": "train"})
    write(crops)
    assert len(read(crops / "shards")) == 5


def test_a_picture_that_is_missing_is_named(crops: Path) -> None:
    (crops / "crops" / "train" / "7.jpg").unlink()
    with pytest.raises(UserError, match=r"crop not found: .*7\.jpg"):
        write(crops)
    assert not (crops / "shards" / "train.json").exists()


def test_without_the_library_there_is_a_hint(crops: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(UserError, match=r'pip install -e "\.\[data\]"'):
        write(crops)


def test_nothing_in_the_shards_is_a_pickle(crops: Path) -> None:
    import tarfile

    write(crops)
    for path in (crops / "shards").glob("*.tar"):
        with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as archive:
            assert {Path(name).suffix for name in archive.getnames()} == {".jpg", ".json"}


def test_unpacked_shards_are_what_was_packed(crops: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(crops)
    arguments = ["--shards", str(crops / "shards"), "--out", str(crops / "out")]
    assert run_command(lambda: main(arguments)) == 0
    assert f"{crops / 'out' / 'train_crops.npz'}: 11 rows" in capsys.readouterr().out
    assert (crops / "out" / "train_crops.npz").read_bytes() == (crops / "train_crops.npz").read_bytes()
    for row in range(COUNT):
        name = f"crops/train/{row}.jpg"
        assert (crops / "out" / name).read_bytes() == (crops / name).read_bytes()
    # What is there stays, what is cut off or missing comes again.
    (crops / "out/crops/train/3.jpg").write_bytes(b"half")
    (crops / "out/crops/train/4.jpg").unlink()
    before = (crops / "out/crops/train/5.jpg").stat().st_mtime_ns
    assert run_command(lambda: main([*arguments, "--splits", "train"])) == 0
    for row in (3, 4):
        name = f"crops/train/{row}.jpg"
        assert (crops / "out" / name).read_bytes() == (crops / name).read_bytes()
    assert (crops / "out/crops/train/5.jpg").stat().st_mtime_ns == before
    assert run_command(lambda: main([*arguments, "--splits", "test"])) == 2
    assert "has shards of train" in capsys.readouterr().err


def test_space_is_needed_for_the_wanted_splits_only(
    crops: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(crops)
    (crops / "shards" / "valid.json").write_text("{}", encoding="utf-8")
    with open(crops / "shards" / "valid-12345678-4-000000.tar", "wb") as stream:
        stream.truncate(10**9)  # takes no space
    usage = shutil.disk_usage(crops)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**8))
    arguments = ["--shards", str(crops / "shards"), "--out", str(crops / "out")]
    assert run_command(lambda: main(arguments)) == 2
    assert "100 MB free, about 1.0 GB are needed" in capsys.readouterr().err
    assert run_command(lambda: main([*arguments, "--splits", "train"])) == 0


def test_damaged_shards_are_named(crops: Path) -> None:
    write(crops)
    index = crops / "shards" / "train.json"
    shard = sorted((crops / "shards").glob("*.tar"))[1]
    whole = shard.read_bytes()
    for damaged in (whole[:1000], whole[: len(whole) // 2], b"no tar at all" * 1000):
        shard.write_bytes(damaged)
        with pytest.raises(UserError, match=shard.name):
            unpack_shards(index, crops / "out")
    shard.unlink()
    with pytest.raises(UserError, match=f"shard not found: .*{shard.name}"):
        unpack_shards(index, crops / "out")
    index.write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="no index of shards"):
        unpack_shards(index, crops / "out")
    assert not (crops / "out" / "train_crops.npz").exists()


def test_shards_cannot_write_elsewhere(crops: Path) -> None:
    write(crops)
    shard = sorted((crops / "shards").glob("*.tar"))[0]
    content = shard.read_bytes()
    name = read(crops / "shards")[0]
    imgname = json.loads(name["json"])["imgname"].encode()
    shard.write_bytes(content.replace(imgname, b"../" + imgname[3:]))
    with pytest.raises(UserError, match=r"would write outside"):
        unpack_shards(crops / "shards" / "train.json", crops / "out")
