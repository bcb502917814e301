"""COCO from a miniature release: what comes out is what was put in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from diffhmr.body.joints import COCO17, SPIN49
from diffhmr.body.model import BodyModel
from diffhmr.datasets.labels import read_labels
from diffhmr.errors import UserError
from scripts.prepare_coco import main
from tests.releases.coco import HIDDEN, UNLABELLED, CocoTruth, write_coco
from tests.releases.drawn_people import HEIGHT, WIDTH, openpose_json


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, free_body: BodyModel) -> tuple[Path, CocoTruth, CocoTruth]:
    root = tmp_path_factory.mktemp("coco")
    return root, write_coco(root, free_body), write_coco(root, free_body, people=2, seed=1, split="val")


def _prepare(root: Path, out: Path, *words: str) -> int:
    return main(["--root", str(root), "--out", str(out), *words])


def _column(name: str) -> int:
    """Of a COCO joint in the 49: the hips are LSP's, and all lie in the last 24."""
    lsp = {"left_hip": "left_hip_lsp", "right_hip": "right_hip_lsp"}.get(name, name)
    return 25 + SPIN49.joint_names[25:].index(lsp)


def test_labels_are_those_of_the_release(release: tuple[Path, CocoTruth, CocoTruth], tmp_path: Path) -> None:
    root, train, val = release
    assert _prepare(root, tmp_path) == 0
    for truth, split in ((train, "train"), (val, "val")):
        labels = read_labels(tmp_path / f"{split}.npz")
        people = len(truth.people)
        assert list(labels.imgname) == [f"{truth.folder}/{name}" for name in truth.image_names]
        columns = [_column(name) for name in COCO17.joint_names]
        seen = np.array([name != UNLABELLED for name in COCO17.joint_names])
        np.testing.assert_array_equal(labels.keypoints[:, columns, 2], np.tile(seen.astype(np.float32), (people, 1)))
        np.testing.assert_array_equal(labels.keypoints[:, columns][:, seen, :2], truth.keypoints[:, seen])
        others = np.setdiff1d(np.arange(49), columns)
        assert not labels.keypoints[:, others].any()
        # A box from edge 10 to edge 20 has its middle in pixel 14.5, where 0 is the centre of the first one.
        middle = truth.bbox[:, :2] + truth.bbox[:, 2:] / 2 - 0.5
        np.testing.assert_allclose(labels.center, middle, atol=1e-4)
        np.testing.assert_allclose(labels.side, 1.2 * truth.bbox[:, 2:].max(axis=1), rtol=1e-5)
        np.testing.assert_allclose(labels.extra["area"], truth.area, rtol=1e-5)
        np.testing.assert_allclose(labels.extra["bbox"], truth.bbox - [0.5, 0.5, 0, 0], atol=1e-4)
        assert (labels.extra["image_size"] == [WIDTH, HEIGHT]).all()
        assert not labels.has_smpl.any() and not labels.joints3d.any()
        assert labels.meta["dataset"] == "coco2014" and labels.meta["split"] == split
        # The one with few labels and the one without; crowds do not count.
        assert labels.meta["counts"] == {"people without enough labels": 2, "people without picture": 0}


def test_fewer_keypoints_let_more_people_in(release: tuple[Path, CocoTruth, CocoTruth], tmp_path: Path) -> None:
    root, train, _ = release
    assert _prepare(root, tmp_path, "--splits", "train", "--min-keypoints", "10") == 0
    labels = read_labels(tmp_path / "train.npz")
    assert len(labels) == len(train.people) + 1
    ankles = [_column("left_ankle"), _column("right_ankle")]
    assert not labels.keypoints[train.partial, ankles].any()
    assert labels.imgname[train.partial] == labels.imgname[0]
    assert not (tmp_path / "val.npz").exists()


def test_hidden_joints_can_weigh_less(release: tuple[Path, CocoTruth, CocoTruth], tmp_path: Path) -> None:
    root, train, _ = release
    assert _prepare(root, tmp_path, "--splits", "train", "--hidden-confidence", "0.25") == 0
    labels = read_labels(tmp_path / "train.npz")
    assert (labels.keypoints[:, _column(HIDDEN), 2] == 0.25).all()
    assert (labels.keypoints[:, _column("left_knee"), 2] == 1).all()
    hidden = train.keypoints[:, COCO17.joint_names.index(HIDDEN)]
    np.testing.assert_array_equal(labels.keypoints[:, _column(HIDDEN), :2], hidden)


def test_openpose_detections_that_agree(release: tuple[Path, CocoTruth, CocoTruth], tmp_path: Path) -> None:
    root, train, _ = release
    folder = tmp_path / "openpose"
    folder.mkdir()
    detected = [np.concatenate([person.points[:25], np.full((25, 1), 0.8)], axis=1) for person in train.people]
    far = detected[0] + [150.0, 0, 0]
    # Of two the right one; one too far away; nobody.
    for name, people in zip(train.image_names, ([far, detected[0]], [detected[1] + [80, 0, 0]], []), strict=True):
        content = openpose_json(np.reshape(people, (-1, 25, 3)))
        (folder / f"{Path(name).stem}_keypoints.json").write_text(json.dumps(content), encoding="utf-8")
    assert _prepare(root, tmp_path / "out", "--splits", "train", "--openpose", str(folder)) == 0
    keypoints = read_labels(tmp_path / "out" / "train.npz").keypoints[:, :25]
    np.testing.assert_allclose(keypoints[0], detected[0], rtol=1e-5)
    assert not keypoints[1:].any()

    (folder / f"{Path(train.image_names[2]).stem}_keypoints.json").unlink()
    with pytest.raises(UserError, match=r"OpenPose detections not found: .*1017_keypoints\.json"):
        _prepare(root, tmp_path / "again", "--splits", "train", "--openpose", str(folder))


def test_the_year_chooses_the_files(tmp_path: Path, free_body: BodyModel) -> None:
    truth = write_coco(tmp_path, free_body, people=1, year="2017", split="val")
    assert _prepare(tmp_path, tmp_path / "out", "--year", "2017", "--splits", "val") == 0
    labels = read_labels(tmp_path / "out" / "val.npz")
    assert list(labels.imgname) == [f"val2017/{truth.image_names[0]}"]
    assert labels.meta["dataset"] == "coco2017"
    with pytest.raises(UserError, match="train annotations missing"):
        _prepare(tmp_path, tmp_path / "out", "--year", "2017")


def test_check_names_what_a_half_complete_release_lacks(
    tmp_path: Path, free_body: BodyModel, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = write_coco(tmp_path, free_body, people=2)
    assert _prepare(tmp_path, tmp_path / "out", "--check") == 0
    text = capsys.readouterr().out
    assert "2 of 2 with labelled people, 2 of 82783 in all" in text
    assert "0 of 40504" in text and "zips/val2014.zip" in text and "zips/train2014.zip" not in text

    (tmp_path / "train2014" / truth.image_names[1]).unlink()
    assert _prepare(tmp_path, tmp_path / "out", "--check") == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if "train pictures" in line and "incomplete" in line]
    assert "1 of 2 with labelled people, 1 of 82783 in all, " in line
    assert f"the first missing is train2014/{truth.image_names[1]}" in line
    with pytest.raises(UserError, match="train pictures incomplete"):
        _prepare(tmp_path, tmp_path / "out", "--splits", "train")
    assert not (tmp_path / "out").exists()
    assert _prepare(tmp_path, tmp_path / "out", "--splits", "train", "--partial") == 0
    labels = read_labels(tmp_path / "out" / "train.npz")
    assert list(labels.imgname) == [f"train2014/{truth.image_names[0]}"]
    assert labels.meta["counts"]["people without picture"] == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is no complete JSON file"),
        ("[]", "holds a list"),
        ('{"images": [], "annotations": [{"id": 1, "caption": "a dog"}]}', "is no complete keypoint annotation"),
        ('{"images": []}', "is no complete keypoint annotation"),
        ('{"images": [], "annotations": []}', "nobody has 12 labelled joints"),
    ],
)
def test_wrong_files(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "annotations" / "person_keypoints_train2014.json"
    path.parent.mkdir()
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message) as caught:
        _prepare(tmp_path, tmp_path / "out", "--splits", "train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--min-keypoints", "13"), "13 is not in 1 ... 12"),
        (("--hidden-confidence", "2"), "is not in 0 ... 1"),
        (("--openpose", "nowhere"), "--openpose nowhere is no folder"),
        (("--year", "2015"), "invalid choice"),
    ],
)
def test_wrong_options(tmp_path: Path, words: tuple[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        _prepare(tmp_path, tmp_path / "out", *words)
