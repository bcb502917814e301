"""Checkpoints on label files: which rows, which files, and what the result says about them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from diffhmr.body.model import BodyModel
from diffhmr.datasets.labels import write_labels
from diffhmr.errors import UserError
from diffhmr.evaluation.run import EvaluationOptions, Output, Source, run
from diffhmr.evaluation.table import format_table
from diffhmr.evaluation.truth import Bodies, genders_of
from diffhmr.files import sha256_file
from tests.evaluation.measured_people import random_rows
from tests.inference.example_people import save_small_checkpoint, small_config

COUNT = 9
OPTIONS = EvaluationOptions(4, steps=1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_checkpoint(tmp_path_factory.mktemp("model") / "small.safetensors", small_config())


def people_rows() -> dict[str, np.ndarray]:
    """People with parameters, 2D points and stored joints, one of them not valid, from two cameras by turns."""
    rows = random_rows(COUNT)
    generator = np.random.default_rng(1)
    part = np.ones((COUNT, 24, 3))
    part[..., :2] = 150 + generator.uniform(-90, 90, (COUNT, 24, 2))
    stored = np.ones((COUNT, 24, 4))
    stored[..., :3] = generator.normal(0, 0.3, (COUNT, 24, 3))
    return rows | {
        "part": part,
        "S": stored,
        "bbox": np.tile(np.array([80.0, 60.0, 100.0, 160.0]), (COUNT, 1)),
        "valid": np.arange(COUNT) != 4,
        "camera": np.array(["60457274", "54138969"] * COUNT)[:COUNT],
    }


def write_people(folder: Path, name: str = "test", images: str = "pictures", **changes: Any) -> Path:
    """A label file of these people with some arrays changed, or without those that are None."""
    rows = {key: value for key, value in (people_rows() | changes).items() if value is not None}
    write_labels(folder / f"{name}.npz", rows, {"dataset": "toy", "split": name, "images": images})
    return folder / f"{name}.npz"


def one_body(protocol: Any, body: BodyModel) -> Bodies:
    return Bodies(body, dict.fromkeys(genders_of(protocol.truth_body), body))


def test_a_checkpoint_on_a_label_file(checkpoint: Path, tmp_path: Path) -> None:
    path = write_people(tmp_path)
    source = Source("3dpw", data=tmp_path)
    output = Output(tmp_path / "r.json", tmp_path / "d.npz")
    result = run(checkpoint, source, OPTIONS, output, find=one_body)
    assert json.loads(output.json.read_text()) == result  # type: ignore[union-attr]
    protocol = result["protocol"]
    assert protocol["name"] == "3dpw-spin-v1" and result["num_items"] == 8 and result["num_samples"] == 4
    rows = protocol["people"]["rows"]
    assert (rows["of_file"], rows["measured"], len(rows["sha256"])) == (9, 8, 64)
    assert protocol["people"]["labels"]["sha256"] == sha256_file(path)
    assert protocol["people"]["labels"]["meta"]["dataset"] == "toy"
    assert protocol["people"]["input"] == "the 2D keypoints of the label file"
    assert protocol["root"]["prediction"] == "mean of pelvis_h36m17" and "SMPL of the person's" in protocol["truth"]
    # The 2D error is that of all of SPIN49, which the truth does without.
    file = {"path": "data/body/free_body.npz", "sha256": protocol["body"]["sha256"]}
    assert protocol["body"]["regressors"] == {"J_regressor_h36m": file, "J_regressor_extra": file}
    assert protocol["joint_source"] == "J_regressor_h36m.npy"
    assert set(protocol["truth_bodies"]) == {"male", "female"}
    assert protocol["truth_bodies"]["male"]["regressors"] == {"J_regressor_h36m": file}
    table = format_table(result)
    assert "PA-PVE" in table and "div mm" in table and max(map(len, table.splitlines()[1:])) <= 120
    with np.load(output.dump) as dump:  # type: ignore[arg-type]
        assert dump["row"].tolist() == [0, 1, 2, 3, 5, 6, 7, 8] and dump["pose"].shape == (8, 5, 72)
        for name in ("mpjpe_mm", "pa_mpjpe_mm", "pve_mm", "pa_pve_mm"):
            assert dump[name].shape == (8, 5)
            assert dump[name][:, 0].mean() == pytest.approx(result["metrics"][name]["mode"], rel=1e-6)
            assert dump[name][:, 1:].mean() == pytest.approx(result["metrics"][name]["random"], rel=1e-6)
        assert dump["imgname"][4].endswith("image_00005.jpg")
        assert json.loads(str(dump["result"])) == result


def test_a_part_of_the_people_is_named_so(checkpoint: Path, tmp_path: Path) -> None:
    write_people(tmp_path)
    options = EvaluationOptions(2, steps=1, limit=3)
    result = run(checkpoint, Source("3dpw", data=tmp_path), options, find=one_body)
    assert result["protocol"]["name"] == "3dpw-spin-v1 (first 3 of 8)" and result["num_items"] == 3
    whole = run(checkpoint, Source("3dpw", data=tmp_path), EvaluationOptions(2, steps=1), find=one_body)
    assert whole["protocol"]["name"] == "3dpw-spin-v1"


def test_the_free_body_stands_in_only_under_a_name_that_says_so(checkpoint: Path, tmp_path: Path) -> None:
    write_people(tmp_path)
    with pytest.raises(UserError, match="--protocol 3dpw-spin-free-body"):
        run(checkpoint, Source("3dpw", data=tmp_path), OPTIONS)
    result = run(checkpoint, Source("3dpw", "3dpw-spin-free-body", tmp_path), OPTIONS)
    assert result["protocol"]["name"] == "3dpw-spin-free-body-v1" and "truth_bodies" not in result["protocol"]
    same = run(checkpoint, Source("3dpw", data=tmp_path), OPTIONS, find=one_body)
    assert result["metrics"]["mpjpe_mm"]["mode"] == pytest.approx(same["metrics"]["mpjpe_mm"]["mode"], rel=1e-6)
    prohmr = run(checkpoint, Source("3dpw", "3dpw-prohmr-free-body", tmp_path), OPTIONS)
    assert prohmr["protocol"]["joint_set"] == "J14" and len(prohmr["metrics"]["mpjpe_mm"]["min_of_curve"]) == 4


def test_the_same_people_from_another_file(checkpoint: Path, tmp_path: Path) -> None:
    """Where the pictures lie and which rows are not measured makes another file, but not other people."""
    found = []
    for folder, changes in (
        ("a", {}),
        ("b", {"images": "/home/of/somebody"}),
        ("c", {"subject": np.array(["x"] * COUNT)}),
        ("d", {"shape": random_rows(COUNT, seed=1)["shape"]}),
    ):
        (tmp_path / folder).mkdir()
        write_people(tmp_path / folder, **changes)
        source = Source("3dpw", "3dpw-spin-free-body", tmp_path / folder)
        found.append(run(checkpoint, source, OPTIONS)["protocol"]["people"])
        assert "images" not in found[-1]["labels"]["meta"]
    files, rows = ([people[part]["sha256"] for people in found] for part in ("labels", "rows"))
    assert len(set(files)) == 4
    assert rows[0] == rows[1] == rows[2] != rows[3]


def test_the_frontal_camera_of_either_file(checkpoint: Path, tmp_path: Path) -> None:
    write_people(tmp_path, "valid_protocol1")
    frontal = np.flatnonzero(np.arange(COUNT) % 2 == 0)
    labels = {name: rows[frontal] for name, rows in people_rows().items()}
    write_labels(tmp_path / "valid_protocol2.npz", labels, {"dataset": "toy", "split": "valid_protocol2"})
    results = []
    for name in ("valid_protocol1", "valid_protocol2"):
        results.append(run(checkpoint, Source("h36m", "h36m-p2", tmp_path / f"{name}.npz"), OPTIONS))
    one, other = (result["protocol"]["people"]["rows"] for result in results)
    assert one["sha256"] == other["sha256"] and one["of_file"] != other["of_file"]
    assert results[0]["metrics"] == results[1]["metrics"]


def test_stored_joints_and_the_frontal_camera(checkpoint: Path, tmp_path: Path) -> None:
    write_people(tmp_path, "valid_protocol1")
    write_people(tmp_path, "valid_protocol2")
    first = run(checkpoint, Source("h36m", data=tmp_path), OPTIONS)
    second = run(checkpoint, Source("h36m", "h36m-p2", tmp_path), OPTIONS)
    assert (first["num_items"], second["num_items"]) == (8, 4)
    assert "pve_mm" not in first["metrics"] and "truth_bodies" not in first["protocol"]
    assert first["protocol"]["truth"] == "the 3D joints of the label file (J14 of SPIN49)"
    mpi = run(checkpoint, Source("mpi_inf_3dhp", data=tmp_path / "valid_protocol1.npz"), OPTIONS)
    assert 0 <= mpi["metrics"]["pck_150mm"]["mode"] <= 1 and "auc_pa" in format_table(mpi)


def test_angles_are_in_the_result_and_the_table(checkpoint: Path, tmp_path: Path) -> None:
    write_people(tmp_path, "emdb1")
    output = Output(dump=tmp_path / "d.npz")
    result = run(checkpoint, Source("emdb", "emdb1-24-free-body", tmp_path), OPTIONS, output)
    assert result["protocol"]["alignment"]["mpjae_deg"].startswith("none; rotations relative to the camera of pelvis, ")
    assert result["metrics"]["mpjae_deg"].keys() == result["metrics"]["mpjpe_mm"].keys()
    table = format_table(result)
    assert "(mm, deg)" in table and "PA-MPJAE" in table and ", emdb emdb1, 4 samples, " in table
    with np.load(tmp_path / "d.npz") as dump:
        assert dump["mpjae_deg"].shape == dump["pa_mpjae_deg"].shape == (8, 5)


def test_coco(checkpoint: Path, tmp_path: Path) -> None:
    write_people(tmp_path, "val")
    result = run(checkpoint, Source("coco", data=tmp_path), OPTIONS)
    assert set(result["metrics"]) == {"reprojection_px", "pck_0.05", "pck_0.1"}
    assert set(result["protocol"]["body"]["regressors"]) == {"J_regressor_extra"}  # hips and the like of the 2D points
    table = format_table(result)
    assert "correct points" in table and "MPJPE" not in table


def test_the_tight_box_is_given_or_the_box_itself(checkpoint: Path, tmp_path: Path) -> None:
    """As in the files of HMR 2.0. In SPIN's layout the box has a margin of unknown size."""
    write_people(tmp_path, "val", bbox=None)
    with pytest.raises(UserError, match="no tight boxes"):
        run(checkpoint, Source("coco", data=tmp_path), OPTIONS)
    rows = people_rows()
    boxes = {"imgname": rows["imgname"], "center": rows["center"]}
    np.savez(tmp_path / "spin.npz", **boxes, scale=rows["scale"], part=rows["part"])  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"spin\.npz has no tight boxes"):
        run(checkpoint, Source("coco", data=tmp_path / "spin.npz"), OPTIONS)
    sides = 200 * np.stack([0.4 * rows["scale"], rows["scale"]], 1)
    np.savez(tmp_path / "hmr2.npz", **boxes, scale=sides, extra_keypoints_2d=rows["part"][:, :19])  # type: ignore[arg-type]
    result = run(checkpoint, Source("coco", data=tmp_path / "hmr2.npz"), OPTIONS)
    assert 0 <= result["metrics"]["pck_0.1"]["mode"] <= 1


def test_pictures_are_found_where_the_labels_say_or_the_option(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    checkpoint = save_small_checkpoint(tmp_path_factory.mktemp("image") / "small.safetensors", small_config("image"))
    write_people(tmp_path)
    names = random_rows(COUNT)["imgname"]
    for name in names:
        path = tmp_path / "pictures" / str(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8))
    options = EvaluationOptions(1, steps=1, limit=2)
    result = run(checkpoint, Source("3dpw", "3dpw-spin-free-body", tmp_path), options)
    people = result["protocol"]["people"]
    assert (people["input"], people["image_size"]) == ("pictures", 64)
    (tmp_path / "pictures").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="pictures"):
        run(checkpoint, Source("3dpw", "3dpw-spin-free-body", tmp_path), options)
    moved = Source("3dpw", "3dpw-spin-free-body", tmp_path, tmp_path / "elsewhere")
    assert run(checkpoint, moved, options)["metrics"] == result["metrics"]
    with pytest.raises(UserError, match="is no folder"):
        run(checkpoint, Source("3dpw", "3dpw-spin-free-body", tmp_path, tmp_path / "none"), options)


def test_what_is_missing_is_named(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no test.npz or 3dpw_test.npz in .*scripts.prepare_3dpw"):
        run(checkpoint, Source("3dpw", "3dpw-spin-free-body", tmp_path), OPTIONS)
    write_people(tmp_path, valid=np.zeros(COUNT, bool))
    with pytest.raises(UserError, match="has no row that 3dpw-spin-free-body-v1 measures"):
        run(checkpoint, Source("3dpw", "3dpw-spin-free-body", tmp_path), OPTIONS)
    write_people(tmp_path, part=None)
    with pytest.raises(UserError, match=r"test\.npz has no 2D keypoints, which this checkpoint needs"):
        run(checkpoint, Source("3dpw", "3dpw-spin-free-body", tmp_path), OPTIONS)
    with pytest.raises(UserError, match="belong to other data sets"):
        Source("synthetic", data=tmp_path)
    with pytest.raises(UserError, match=r"name it FILE\.npz"):
        run(checkpoint, Source("synthetic"), OPTIONS, Output(dump=tmp_path / "d.zip"))
