"""What the doctor says about label files, motions, fits and packages: there, half there, damaged or missing."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from diffhmr.datasets.labels import write_labels
from diffhmr.evaluation.protocols import PROTOCOLS
from scripts import doctor_data
from scripts.doctor_data import OPTIONAL_PACKAGES, PREPARED, STATIC_FITS, optional_packages, wanted_data
from scripts.doctor_wanted import Finding, examine
from scripts.prepare_amass import write_poses

PROJECT = Path(__file__).parents[2]


def findings(root: Path) -> dict[str, Finding]:
    found = [examine(wanted) for wanted in wanted_data(root)]
    assert len({finding.name for finding in found}) == len(found)
    return {finding.name: finding for finding in found}


def write(root: Path, name: str, split: str, file: str = "", people: int = 3, **meta: Any) -> Path:
    """A label file as a preparation leaves it, and its pictures."""
    folder = root / "data" / name
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (file or f"{split}.npz")
    names = [f"a/{number}.jpg" for number in range(people)]
    rows = {"imgname": np.array(names), "center": np.full((people, 2), 100.0), "scale": np.full(people, 1.0)}
    write_labels(path, rows, {"dataset": name, "split": split, "pieces": 1, "images": "pictures"} | meta)
    (folder / "pictures" / "a").mkdir(parents=True, exist_ok=True)
    for imgname in names:
        (folder / "pictures" / imgname).touch()
    return path


def write_fits(root: Path, name: str, fits: np.ndarray) -> None:
    folder = root / "data" / "static_fits"
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / f"{name}_fits.npy", fits)


def test_with_nothing_there_each_file_has_a_page_a_use_and_a_command(tmp_path: Path) -> None:
    found = findings(tmp_path)
    for name, finding in found.items():
        assert finding.status == "missing" and finding.purpose and re.search("https?://", str(finding.remedy))
        if finding.group == "prepared data" and name != "3dpw/3dpw_test.npz":
            assert f"{tmp_path}/data/raw/{name.partition('/')[0]} " in str(finding.remedy)
    assert str(found["3dpw/occ.npz"].remedy).endswith("then `python -m scripts.prepare_3dpw --splits occ`")
    assert str(found["coco2017/val.npz"].remedy).endswith("`python -m scripts.prepare_coco --year 2017 --splits val`")
    assert str(found["h36m/train_crops.npz"].remedy).endswith("`python -m scripts.prepare_h36m --crops --splits train`")
    assert found["3dpw/test.npz"].purpose == (
        "evaluation: 3dpw-spin, 3dpw-prohmr, 3dpw-neutral17, 3dpw-video-gendered14, 3dpw-video-neutral17-labels, "
        "3dpw-video-neutral17-labels-clips16"
    )
    # ProHMR's joints are in its own file only.
    assert found["3dpw/3dpw_test.npz"].purpose == "evaluation: 3dpw-prohmr-stored"
    assert "https://github.com/nkolot/ProHMR" in str(found["3dpw/3dpw_test.npz"].remedy)
    assert found["emdb/emdb1.npz"].purpose == "evaluation: emdb1-24"
    assert "data.archive=" in found["amass/train/poses.npz"].purpose


def test_every_label_file_of_the_settings_and_the_protocols_is_known(tmp_path: Path) -> None:
    found = findings(tmp_path)
    for path in (PROJECT / "configs").glob("*.yaml"):
        data = yaml.safe_load(path.read_text(encoding="utf-8")).get("data", {})
        for source in [*data.get("sources", []), *filter(None, [data.get("validation")])]:
            if "labels" not in source:  # clips, whose files are named freely
                continue
            assert path.name in found[source["labels"].removeprefix("data/")].purpose
    for protocol in PROTOCOLS.values():
        if protocol.files and not protocol.name.endswith("-free-body"):
            folders = [name for name in protocol.folders or (protocol.dataset,) if name in {s.name for s in PREPARED}]
            assert folders and all(protocol.name in found[f"{name}/{protocol.files[0]}"].purpose for name in folders)


def test_every_preparation_is_known_with_its_splits(tmp_path: Path) -> None:
    commands = {path.stem for path in (PROJECT / "scripts").glob("prepare_*.py")}
    named = [re.findall(r"scripts\.(prepare_\w+)", str(finding.remedy)) for finding in findings(tmp_path).values()]
    assert {command for commands in named for command in commands} == commands


@pytest.mark.parametrize("file", ["train_crops.npz", "train.npz"])
def test_a_complete_label_file(tmp_path: Path, file: str) -> None:
    write(tmp_path, "mpii", "train", file)
    found = findings(tmp_path)
    finding = found[f"mpii/{file}"]
    assert finding.status == "found" and finding.remedy is None
    assert finding.details == {"rows": 3, "pictures": f"{tmp_path}/data/mpii/pictures", "release": "complete"}
    assert [name for name in found if name.startswith("mpii/")] == [f"mpii/{file}"]


def test_cut_out_pictures_do_not_stand_in_for_what_protocols_want(tmp_path: Path) -> None:
    write(tmp_path, "h36m", "valid_protocol1", "valid_protocol1_crops.npz")
    found = findings(tmp_path)
    assert found["h36m/valid_protocol1.npz"].status == "missing"
    assert found["h36m/valid_protocol1_crops.npz"].status == "found"


def test_label_files_of_other_projects_are_found_by_their_names(tmp_path: Path) -> None:
    path = tmp_path / "data" / "3dpw" / "3dpw_test.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, imgname=np.array(["a.jpg"]), center=np.full((1, 2), 100.0), scale=np.ones(1))
    found = findings(tmp_path)
    assert found["3dpw/3dpw_test.npz"].status == "found" and "3dpw/test.npz" not in found
    assert "--images" in str(found["3dpw/3dpw_test.npz"].details["pictures"])


@pytest.mark.parametrize("gone", ["folder", "picture", "release"])
def test_what_is_lacking_is_named(tmp_path: Path, gone: str) -> None:
    path = write(tmp_path, "3dpw", "test")
    if gone == "release":
        write(tmp_path, "3dpw", "test", partial=["test sequences: 3 of 24 files"])
    if gone == "folder":
        (path.parent / "pictures").rename(path.parent / "elsewhere")
    if gone == "picture":
        (path.parent / "pictures" / "a" / "2.jpg").unlink()
    finding = findings(tmp_path)["3dpw/test.npz"]
    assert finding.status == "incomplete" and finding.details["rows"] == 3
    words = {
        "folder": f"the folder {path.parent}/pictures of its pictures is missing",
        "picture": "2 of 3 looked at, not a/2.jpg",
        "release": "3 of 24 files",
    }
    assert words[gone] in str(finding.remedy) and "`python -m scripts.prepare_3dpw --splits test`" in str(
        finding.remedy
    )
    assert finding.details["release"] == ("partial" if gone == "release" else "complete")


def test_damaged_label_files_are_named_with_the_reason(tmp_path: Path) -> None:
    path = write(tmp_path, "3dpw", "test")
    path.write_bytes(path.read_bytes()[:-200])
    write(tmp_path, "emdb", "emdb1").write_bytes(b"")
    write(tmp_path, "lsp", "test", dataset="mpii")
    write(tmp_path, "3dpw", "train", "occ.npz")
    for file in ("train.npz", "train_crops.npz"):
        write(tmp_path, "h36m", "train", file).write_bytes(b"")
    found = findings(tmp_path)
    for name, reason in (
        ("3dpw/test.npz", "damaged|cannot be read|pickle"),
        ("emdb/emdb1.npz", "damaged"),
        ("lsp/test.npz", "is mpii test, not lsp test"),
        ("3dpw/occ.npz", "is 3dpw train, not 3dpw occ"),
    ):
        assert found[name].status == "unusable", name
        assert re.search(rf"{name}.*({reason}).*scripts.prepare_", str(found[name].remedy)), found[name].remedy
    for name, options in (
        ("train", "--splits"),
        ("train_crops", "--crops --splits"),
    ):
        assert f"again: `python -m scripts.prepare_h36m {options} train`" in str(found[f"h36m/{name}.npz"].remedy)


def _motions(root: Path, meta: dict[str, Any]) -> Path:
    path = root / "data" / "amass" / "train" / "poses.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {"poses": np.zeros((5, 72), np.float32), "begins": np.arange(5) == 0}
    write_poses(path, rows, {"settings": {"fps": 10}, "pieces": 1} | meta)
    return path


def test_motions(tmp_path: Path) -> None:
    path = _motions(tmp_path, {})
    finding = findings(tmp_path)["amass/train/poses.npz"]
    assert finding.status == "found" and finding.details == {"frames": 5, "release": "complete"}
    content = bytearray(path.read_bytes())
    content[content.index(b"poses.npy") + 300] ^= 1  # inside the numbers
    path.write_bytes(content)
    assert "poses.npy" in str(findings(tmp_path)["amass/train/poses.npz"].remedy)
    path.write_bytes(b"")
    assert "cut off" in str(findings(tmp_path)["amass/train/poses.npz"].remedy)
    for arrays in ({"begins": np.zeros(3)}, {"begins": np.array(3), "meta": np.array("{}")}):
        np.savez(path, **arrays)
        finding = findings(tmp_path)["amass/train/poses.npz"]
        assert finding.status == "unusable" and "was not made by" in str(finding.remedy)
    np.savez(path, begins=np.zeros(3), meta=np.array(json.dumps([1])))
    assert findings(tmp_path)["amass/train/poses.npz"].status == "unusable"
    _motions(tmp_path, {"partial": ["CMU"]})
    finding = findings(tmp_path)["amass/train/poses.npz"]
    assert finding.status == "incomplete" and "CMU" in str(finding.remedy)


def test_fits_belong_to_the_rows_of_their_label_file(tmp_path: Path) -> None:
    assert findings(tmp_path)["mpii_fits.npy"].status == "missing"
    for name in (*STATIC_FITS, "mine"):
        write_fits(tmp_path, name, np.zeros((3, 82), np.float32))
    found = findings(tmp_path)
    for name in (*STATIC_FITS, "mine"):
        assert found[f"{name}_fits.npy"].status == "found" and found[f"{name}_fits.npy"].details == {"rows": 3}
    path = write(tmp_path, "mpii", "train", "train_crops.npz")
    assert findings(tmp_path)["mpii_fits.npy"].details == {"rows": 3, "label file": str(path)}
    write(tmp_path, "mpii", "train", "train_crops.npz", people=4)
    finding = findings(tmp_path)["mpii_fits.npy"]
    assert finding.status == "unusable" and f"has 3 rows, {path} 4" in str(finding.remedy)
    path.write_bytes(b"broken")  # said of the label file, not of the fits
    assert findings(tmp_path)["mpii_fits.npy"].status == "found"


@pytest.mark.parametrize("fits", [np.zeros((3, 72)), np.zeros(()), np.full((3, 82), np.nan), None], ids=str)
def test_damaged_fits(tmp_path: Path, fits: np.ndarray | None) -> None:
    write_fits(tmp_path, "coco", np.zeros((3, 82)) if fits is None else fits)
    if fits is None:
        (tmp_path / "data" / "static_fits" / "coco_fits.npy").write_bytes(b"broken")
    finding = findings(tmp_path)["coco_fits.npy"]
    assert finding.status == "unusable" and "coco_fits.npy" in str(finding.remedy)


def test_optional_packages_present_and_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> str:
        raise PackageNotFoundError(name)

    for status, found in (("found", "{}-1.2".format), ("missing", none)):
        monkeypatch.setattr(doctor_data, "version", found)
        packages: Sequence[Finding] = optional_packages()
        assert [package.name for package in packages] == list(OPTIONAL_PACKAGES)
        for package in packages:
            assert package.status == status and package.purpose
            assert package.remedy == (None if status == "found" else 'pip install -e ".[data]"')
