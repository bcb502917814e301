"""Label files: every layout, every unit of scale, and every way in which a file can be wrong."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffhmr.datasets.labels import Labels, read_labels, write_labels
from diffhmr.errors import UserError

COUNT = 12
META = {"dataset": "test set", "split": "train", "licence": "none"}


def spin_rows(count: int = COUNT, seed: int = 0) -> dict[str, np.ndarray]:
    """Arrays as SPIN's scripts write them: people of 300 px or so in boxes of 1.2 times their extent."""
    generator = np.random.default_rng(seed)
    part = np.zeros((count, 24, 3))
    part[:, :14, :2] = generator.uniform(200, 500, (count, 14, 2))
    part[:, :14, 2] = 1
    extent = (part[:, :14, :2].max(1) - part[:, :14, :2].min(1)).max(-1)
    joints = np.zeros((count, 24, 4))
    joints[:, :17] = generator.normal(size=(count, 17, 4))
    joints[:, :17, 3] = 1
    openpose = generator.uniform(200, 500, (count, 25, 3))
    openpose[..., 2] = generator.uniform(0.1, 1, (count, 25))
    return {
        "imgname": np.array([f"images/{k:06d}.jpg" for k in range(count)]),
        "center": np.full((count, 2), 350.0),
        "scale": (1.2 * extent / 200).astype(np.float32),
        "part": part,
        "openpose": openpose,
        "S": joints,
        "pose": generator.normal(size=(count, 72)),
        "shape": generator.normal(size=(count, 10)),
        "has_smpl": np.arange(count) % 2,
        "gender": np.array(["m", "f", ""] * (count // 3)),
    }


def prohmr_rows() -> dict[str, np.ndarray]:
    """The same people as ProHMR's scripts write them."""
    rows = spin_rows()
    body3d = np.random.default_rng(1).normal(size=(COUNT, 25, 4))
    body3d[..., 3] = 1
    return {
        "imgname": rows["imgname"],
        "center": rows["center"],
        "scale": 200 * rows["scale"],
        "body_keypoints_2d": rows["openpose"],
        "extra_keypoints_2d": rows["part"][:, :19],
        "body_keypoints_3d": body3d,
        "extra_keypoints_3d": rows["S"][:, :19],
        "body_pose": rows["pose"],
        "betas": rows["shape"],
        "has_body_pose": rows["has_smpl"].astype(np.float32),
        "has_betas": np.ones(COUNT),
    }


def saved(path: Path, rows: dict[str, Any]) -> Path:
    np.savez(path, **rows)
    return path


def message(path: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read_labels(path, **options)
    text = str(caught.value)
    assert "\n" not in text and str(path) in text
    return text


def assert_same(first: Labels, second: Labels) -> None:
    for name in ("imgname", "center", "side", "keypoints", "joints3d", "pose", "betas", "has_smpl", "gender"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name), err_msg=name)
    assert first.extra.keys() == second.extra.keys()
    for name, array in first.extra.items():
        np.testing.assert_array_equal(array, second.extra[name], err_msg=name)


def test_spin_file(tmp_path: Path) -> None:
    rows = spin_rows()
    labels = read_labels(saved(tmp_path / "spin.npz", rows))
    assert len(labels) == COUNT and list(labels.imgname) == list(rows["imgname"])
    np.testing.assert_allclose(labels.side, 200 * rows["scale"], rtol=1e-6)
    np.testing.assert_array_equal(labels.keypoints[:, :25], rows["openpose"].astype(np.float32))
    np.testing.assert_array_equal(labels.keypoints[:, 25:], rows["part"].astype(np.float32))
    np.testing.assert_array_equal(labels.joints3d[:, 25:], rows["S"].astype(np.float32))
    assert not labels.joints3d[:, :25].any()
    known = rows["has_smpl"] == 1
    np.testing.assert_array_equal(labels.has_smpl, known)
    np.testing.assert_array_equal(labels.pose[known], rows["pose"][known].astype(np.float32))
    np.testing.assert_array_equal(labels.betas[known], rows["shape"][known].astype(np.float32))
    assert not labels.pose[~known].any()
    assert list(labels.gender[:3]) == [0, 1, -1]
    assert labels.meta == {"format": "spin", "scale_unit": "200px"}


def test_prohmr_file(tmp_path: Path) -> None:
    rows = prohmr_rows()
    labels = read_labels(saved(tmp_path / "prohmr.npz", rows))
    np.testing.assert_allclose(labels.side, rows["scale"], rtol=1e-6)
    np.testing.assert_array_equal(labels.keypoints[:, 25:44], rows["extra_keypoints_2d"].astype(np.float32))
    assert not labels.keypoints[:, 44:].any() and not labels.joints3d[:, 44:].any()
    confidence = labels.joints3d[0, :, 3]
    assert confidence[0] == 1 and not confidence[1:15].any() and (confidence[15:25] == 1).all()
    np.testing.assert_array_equal(labels.joints3d[:, 25:42], rows["extra_keypoints_3d"][:, :17].astype(np.float32))
    np.testing.assert_array_equal(labels.has_smpl, rows["has_body_pose"] == 1)
    assert (labels.gender == -1).all()
    assert labels.meta == {"format": "prohmr", "scale_unit": "pixels"}


def test_both_layouts_give_the_same_labels(tmp_path: Path) -> None:
    spin = spin_rows()
    prohmr = prohmr_rows()
    del prohmr["body_keypoints_3d"], spin["gender"]
    assert_same(read_labels(saved(tmp_path / "a.npz", spin)), read_labels(saved(tmp_path / "b.npz", prohmr)))


def test_arrays_of_the_other_layout_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One more array does not make a file of SPIN one of ProHMR, in which none of its labels would be found."""
    spin, prohmr = spin_rows(), prohmr_rows()
    plain = [read_labels(saved(tmp_path / "plain.npz", rows)) for rows in (spin, prohmr)]
    assert not caplog.records
    for rows, other, labels, words in (
        (spin, {"betas": prohmr["betas"]}, plain[0], "a file of SPIN; not read: betas (of ProHMR)"),
        (prohmr, {"S": spin["S"], "pose": spin["pose"]}, plain[1], "a file of ProHMR; not read: S, pose (of SPIN)"),
    ):
        with caplog.at_level(logging.WARNING):
            assert_same(read_labels(saved(tmp_path / "more.npz", rows | other)), labels)
        assert words in caplog.text


def test_names_of_pictures_from_windows(tmp_path: Path) -> None:
    rows = spin_rows()
    wanted = list(rows["imgname"])
    rows["imgname"] = np.char.replace(rows["imgname"], "/", "\\")
    assert list(read_labels(saved(tmp_path / "a.npz", rows)).imgname) == wanted


def test_boxes_with_two_sides(tmp_path: Path) -> None:
    rows = prohmr_rows()
    side = rows["scale"]
    rows["scale"] = np.stack([0.6 * side, side], axis=1)
    np.testing.assert_allclose(read_labels(saved(tmp_path / "a.npz", rows)).side, side, rtol=1e-6)


def test_what_is_not_there_is_not_labelled(tmp_path: Path) -> None:
    rows = spin_rows()
    few = {name: rows[name] for name in ("imgname", "center", "scale")}
    labels = read_labels(saved(tmp_path / "few.npz", few))
    assert not labels.keypoints.any() and not labels.joints3d.any() and not labels.has_smpl.any()
    # SPIN's 3DPW file has parameters without has_smpl: they are labels. In ProHMR's layout they are not.
    smpl = read_labels(saved(tmp_path / "smpl.npz", few | {"pose": rows["pose"], "shape": rows["shape"]}))
    assert smpl.has_smpl.all()
    fits = {"scale": 200 * rows["scale"], "body_pose": rows["pose"], "betas": rows["shape"]}
    assert not read_labels(saved(tmp_path / "fits.npz", few | fits)).has_smpl.any()


def test_numbers_without_label_may_be_anything(tmp_path: Path) -> None:
    rows = spin_rows()
    rows["part"][3, 20] = (np.nan, np.inf, 0)
    rows["pose"][0] = np.nan
    labels = read_labels(saved(tmp_path / "a.npz", rows))
    assert np.isfinite(labels.keypoints).all() and np.isfinite(labels.pose).all()


@pytest.mark.parametrize("layout", ["spin", "prohmr"])
@pytest.mark.parametrize("keypoints", [True, False])
def test_a_foreign_unit_is_found_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, layout: str, keypoints: bool
) -> None:
    rows = spin_rows() if layout == "spin" else prohmr_rows()
    usual = read_labels(saved(tmp_path / "usual.npz", rows))
    rows["scale"] = rows["scale"] * (200 if layout == "spin" else 1 / 200)
    if not keypoints:
        rows = {name: array for name, array in rows.items() if name not in ("part", "openpose")}
        rows = {name: array for name, array in rows.items() if not name.endswith("keypoints_2d")}
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        labels = read_labels(saved(tmp_path / "other.npz", rows))
    np.testing.assert_allclose(labels.side, usual.side, rtol=1e-6)
    assert "unlike in other files" in caplog.text


def test_unclear_units_have_to_be_stated(tmp_path: Path) -> None:
    rows = spin_rows()
    mixed = {**rows, "scale": np.where(np.arange(COUNT) % 2, rows["scale"], 200 * rows["scale"])}
    text = message(saved(tmp_path / "mixed.npz", mixed))
    assert "scale_unit" in text and "50% of the boxes if in 200px" in text
    tiny = saved(tmp_path / "tiny.npz", {**rows, "scale": rows["scale"] / 5000})
    assert "unclear" in message(tiny)
    np.testing.assert_allclose(read_labels(tiny, "pixels").side, rows["scale"] / 5000, rtol=1e-6)
    np.testing.assert_allclose(read_labels(tiny, "200px").side, rows["scale"] / 25, rtol=1e-6)


def test_our_own_file_round_trip(tmp_path: Path) -> None:
    extra = {
        "sequence": np.array(["walk"] * COUNT), "camera": np.array(["54138969"] * COUNT),
        "subject": np.array(["S1"] * COUNT), "action": np.array(["sit"] * COUNT), "frame": np.arange(COUNT),
        "valid": np.arange(COUNT) > 0, "image_size": np.full((COUNT, 2), (1920, 1080)),
        "area": np.full(COUNT, 5e3), "bbox": np.full((COUNT, 4), 7.0),
    }  # fmt: skip
    rows = spin_rows()
    path = tmp_path / "new" / "train.npz"
    write_labels(path, rows | extra, META)
    labels = read_labels(path)
    assert_same(labels, read_labels(saved(tmp_path / "plain.npz", rows | extra)))
    for name, array in extra.items():
        np.testing.assert_array_equal(labels.extra[name], array, err_msg=name)
    assert labels.meta == META | {"format": "diffhmr-labels", "version": 1, "scale_unit": "200px"}
    first = path.read_bytes()
    write_labels(path, dict(reversed((rows | extra).items())), dict(reversed(META.items())))
    assert path.read_bytes() == first
    assert [file.name for file in path.parent.iterdir()] == ["train.npz"]


def test_writing_checks_like_reading(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    rows = spin_rows()
    for bad, words in (
        ({"colour": np.zeros(COUNT)}, "no array colour"),
        ({"S": rows["S"][:, :17]}, "S has shape"),
        ({"pose": rows["pose"] * np.nan}, "pose of row 1"),
        ({"has_smpl": np.full(COUNT, 0.5)}, "has_smpl holds other values"),
        ({"imgname": rows["imgname"].astype(object)}, "imgname holds object"),
        ({"center": rows["center"].astype(str)}, "center holds"),
        ({"frame": np.full(COUNT, 0.5)}, "frame holds float64"),
        ({"scale": 200 * rows["scale"]}, "meta says that scale is in 200px"),
    ):
        with pytest.raises(UserError, match=words):
            write_labels(path, rows | bad, META)
    with pytest.raises(UserError, match="lack split"):
        write_labels(path, rows, {"dataset": "a"})
    assert not path.exists()


def test_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    write_labels(path, spin_rows() | {"frame": np.arange(COUNT)}, META)
    labels = read_labels(path)
    some = labels.rows(np.array([5, 2]))
    assert len(some) == 2 and list(some.extra["frame"]) == [5, 2] and some.imgname[1] == labels.imgname[2]
    np.testing.assert_array_equal(some.keypoints, labels.keypoints[[5, 2]])
    assert len(labels.rows(labels.has_smpl)) == COUNT // 2
    assert len(labels.rows(slice(0, 4))) == 4
    with pytest.raises(ValueError, match=r"Labels\.side"):
        Labels(**{**labels.__dict__, "side": labels.side[:3]})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scale": None}, "no array scale"),
        ({"imgname": np.zeros(0, np.str_)}, "no rows"),
        ({"center": np.zeros((COUNT, 3))}, "center has shape (12, 3), expected (12, 2)"),
        ({"center": np.full((COUNT, 2), np.nan)}, "center of row 0 is not finite"),
        ({"part": np.full((COUNT, 24, 3), np.nan)}, "part of row 0 is not finite"),
        ({"part": np.zeros((COUNT, 14, 3))}, "part has shape"),
        ({"S": np.full((COUNT, 24, 4), np.inf)}, "S of row 0 is not finite"),
        ({"shape": np.zeros((COUNT - 1, 10))}, "shape has shape (11, 10)"),
        ({"pose": np.full((COUNT, 72), np.nan)}, "pose of row 1 is not finite"),
        ({"scale": np.zeros(COUNT)}, "scale of row 0 is not positive"),
        ({"scale": np.full(COUNT, np.nan)}, "scale of row 0 is not finite"),
        ({"gender": np.array(["x"] * COUNT)}, "gender holds 'x'"),
        ({"has_smpl": np.full(COUNT, 2)}, "has_smpl holds other values"),
        ({"imgname": np.arange(COUNT)}, "imgname holds int64"),
        ({"frame": np.array(["a"] * COUNT)}, "frame holds"),
        ({"gender": np.array([{}] * COUNT)}, "gender is a pickled object"),
        ({"meta": np.array("{")}, "meta is no JSON"),
        ({"meta": np.array('{"format": "other"}')}, "format diffhmr-labels"),
        ({"meta": np.array(json.dumps({"format": "diffhmr-labels", "version": 9}))}, "version 9"),
        ({"meta": np.array(json.dumps({"format": "diffhmr-labels", "version": 1, "scale_unit": "m"}))}, "'m'"),
        ({"meta": np.array(json.dumps({"format": "diffhmr-labels", "version": 1, "scale_unit": "pixels"}))}, "not"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    rows = {name: array for name, array in (spin_rows() | change).items() if array is not None}
    assert words in message(saved(tmp_path / "a.npz", rows))


def test_files_that_are_no_labels(tmp_path: Path) -> None:
    assert "not found" in message(tmp_path / "none.npz")
    (tmp_path / "empty.npz").touch()
    assert "is empty" in message(tmp_path / "empty.npz")
    (tmp_path / "text.npz").write_text("hello")
    assert "no .npz" in message(tmp_path / "text.npz")
    np.save(tmp_path / "single.npy", np.zeros(3))
    assert "single array" in message(tmp_path / "single.npy")
    whole = saved(tmp_path / "whole.npz", spin_rows()).read_bytes()
    (tmp_path / "torn.npz").write_bytes(whole[: len(whole) // 2])
    assert "damaged" in message(tmp_path / "torn.npz")
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0xFF
    (tmp_path / "flipped.npz").write_bytes(bytes(flipped))
    assert "damaged" in message(tmp_path / "flipped.npz")


def test_bytes_and_numbers_as_text(tmp_path: Path) -> None:
    rows = spin_rows()
    rows["imgname"] = rows["imgname"].astype(np.bytes_)
    rows["gender"] = np.arange(COUNT) % 2
    rows["camera"] = np.arange(COUNT)
    labels = read_labels(saved(tmp_path / "a.npz", rows))
    assert labels.imgname[3] == "images/000003.jpg"
    assert list(labels.gender[:4]) == [0, 1, 0, 1] and labels.extra["camera"][7] == "7"
