from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffhmr.errors import UserError
from diffhmr.inference.annotations import keypoints_from_rows, read_annotations
from tests.inference.example_people import coco_file

POINTS = [value for k in range(17) for value in (10 + k, 20 + 2 * k, 2)]


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_coco_annotations(tmp_path: Path) -> None:
    hidden = [*POINTS[:3], 0, 0, 0, 12, 24, 1, *POINTS[9:]]
    path = coco_file(
        tmp_path / "c.json",
        {
            "a.jpg": [
                {"bbox": [1, 2, 30, 40], "keypoints": hidden},
                {"bbox": [5, 6, 7, 8], "keypoints": [0] * 51, "num_keypoints": 0},
                {"bbox": [0, 0, 90, 90], "iscrowd": 1},
                {"bbox": [0, 0, 80, 80], "category_id": 3},
            ],
            "b.jpg": [{"bbox": [9, 9, 9, 9]}],
        },
    )
    first, second = read_annotations(path, hidden_confidence=0.3).people(Path("photos/a.jpg"), False)
    assert first.box == (1, 2, 31, 42) and second.box == (5, 6, 12, 14)
    assert first.keypoints is not None and second.keypoints is None
    assert first.keypoints.points[0].tolist() == [10, 20, 1]
    assert first.keypoints.points[1].tolist() == [0, 0, 0] and not first.keypoints.labelled[1]
    assert first.keypoints.points[2].tolist() == [12, 24, 0.3] and first.keypoints.labelled[2]
    assert len(read_annotations(path).people(Path("b.jpg"), False)) == 1
    assert read_annotations(path).people(Path("c.jpg"), False) == []


def test_scores_in_the_layout_of_annotations(tmp_path: Path) -> None:
    scores = [value if index % 3 < 2 else 0.1 + index / 100 for index, value in enumerate(POINTS)]
    path = coco_file(tmp_path / "c.json", {"a.jpg": [{"bbox": [1, 2, 30, 40], "keypoints": scores}]})
    keypoints = read_annotations(path).people(Path("a.jpg"), False)[0].keypoints
    assert keypoints is not None and keypoints.labelled.all()
    np.testing.assert_allclose(keypoints.points[:, 2], scores[2::3])


def test_a_hidden_point_without_confidence_is_still_labelled(tmp_path: Path) -> None:
    path = coco_file(tmp_path / "c.json", {"a.jpg": [{"keypoints": [*POINTS[:2], 1, *POINTS[3:]]}]})
    keypoints = read_annotations(path, hidden_confidence=0.0).people(Path("a.jpg"), True)[0].keypoints
    assert keypoints is not None
    assert keypoints.points[0].tolist() == [10, 20, 0] and keypoints.labelled[0]


def test_coco_results_of_other_things_than_people_are_left_out(tmp_path: Path) -> None:
    car = {"image_id": "a.jpg", "category_id": 3, "bbox": [0, 0, 50, 50], "score": 0.9}
    person = {"image_id": "a.jpg", "category_id": 1, "bbox": [1, 2, 30, 40], "score": 0.8}
    for category in (1, "1", "person"):
        entries = [car, person | {"category_id": category}]
        (found,) = read_annotations(write(tmp_path / "r.json", entries)).people(Path("a.jpg"), False)
        assert found.box == (1, 2, 31, 42)


@pytest.mark.parametrize("image_id", [785, "000000000785.jpg", "000000000785"])
def test_coco_results_keep_their_scores(tmp_path: Path, image_id: int | str) -> None:
    scored: list[float] = list(POINTS)
    scored[2::3] = [0.5] * 16 + [3.0]
    path = write(tmp_path / "r.json", [{"image_id": image_id, "keypoints": scored, "score": 0.9}])
    (person,) = read_annotations(path).people(Path("x/000000000785.jpg"), False)
    assert person.box is None and person.keypoints is not None
    assert person.keypoints.points[:, 2].tolist() == [0.5] * 16 + [1.0]
    assert read_annotations(path).people(Path("x/786.jpg"), False) == []


def test_plain_lists(tmp_path: Path) -> None:
    boxes = read_annotations(write(tmp_path / "b.json", [[1, 2, 3, 4], [5, 6, 7, 8]]))
    assert [person.box for person in boxes.people(Path("any.jpg"), True)] == [(1, 2, 3, 4), (5, 6, 7, 8)]
    with pytest.raises(UserError, match="does not say which image"):
        boxes.people(Path("any.jpg"), False)
    for form in (POINTS, np.reshape(POINTS, (17, 3)).tolist()):
        (person,) = read_annotations(write(tmp_path / "k.json", [form])).people(Path("any.jpg"), True)
        assert person.keypoints is not None and person.keypoints.points[:, 2].tolist() == [1.0] * 17
    named = read_annotations(write(tmp_path / "n.json", {"a.jpg": [[1, 2, 3, 4]], "b.jpg": []}))
    assert len(named.people(Path("a.jpg"), False)) == 1 and named.people(Path("b.jpg"), False) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"annotations": [{"image_id": 1}]}, "complete COCO"),
        ({"annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}], "images": []}, "complete COCO"),
        ([[1, 2, 3]], "expected 17 COCO points"),
        ([{"image_id": 1}], "neither bbox nor"),
        ([["a", "b", "c", "d"]], "cannot understand"),
        ({"a.jpg": 5}, "cannot understand"),
        (5, "a single value"),
        ([[0, 0, float("nan"), 9]], "not a finite number"),
        ([[0, 0, 10**400, 9]], "cannot understand"),
        ([[1, 2, [3], 4]], "cannot understand"),
        ([[[1, 2, 2]] * 16], "keypoints have 48 numbers, expected 17"),
        ([[[1, 2, 0]] * 17], "neither bbox nor visible keypoints"),
        ([{"image_id": [1], "bbox": [1, 2, 3, 4]}], "image_id .* neither a number nor a file name"),
        ([{"image_id": 1.5, "bbox": [1, 2, 3, 4]}], "image_id 1.5 is neither"),
        ({"annotations": None, "images": None}, "complete COCO"),
        ({"annotations": [5], "images": []}, "complete COCO"),
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: Any, reason: str) -> None:
    with pytest.raises(UserError, match=reason) as caught:
        read_annotations(write(tmp_path / "x.json", content))
    assert "x.json" in str(caught.value) and "\n" not in str(caught.value)


def test_files_that_are_no_json(tmp_path: Path) -> None:
    for content in (b"[1, 2", b"[" * 100_000, b"\xff\xd8\xff"):
        (tmp_path / "x.json").write_bytes(content)
        with pytest.raises(UserError, match="not a JSON file"):
            read_annotations(tmp_path / "x.json")
    with pytest.raises(UserError, match="not found"):
        read_annotations(tmp_path / "missing.json")


def test_unseen_points_are_zero() -> None:
    keypoints = keypoints_from_rows(np.full((17, 2), 7.0), np.array([0.0, 2.0, *[0.4] * 15]))
    assert keypoints.points[0].tolist() == [0, 0, 0]
    assert keypoints.points[1].tolist() == [7, 7, 1]
    assert keypoints.labelled.tolist() == [False, *[True] * 16]
