from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from diffhmr.errors import UserError
from diffhmr.inference import people as people_module
from diffhmr.inference.annotations import Annotation, keypoints_from_rows
from diffhmr.inference.detection import Detector
from diffhmr.inference.people import (
    PeopleSource,
    PersonInput,
    box_from_keypoints,
    check_box,
    find_people,
    make_batch,
    pair_keypoints,
    parse_box,
)
from tests.inference.example_people import coco_file, striped_photo

GRID = np.stack([np.linspace(60, 100, 17), np.linspace(20, 100, 17)], axis=1)
FLAT = np.concatenate([GRID, np.full((17, 1), 2.0)], axis=1).ravel().tolist()


def test_boxes_are_parsed_and_checked(tmp_path: Path) -> None:
    photo = striped_photo(tmp_path / "a.png")
    assert check_box(parse_box("1,2.5,30,40"), photo) == (1, 2.5, 30, 40)
    assert check_box(parse_box("-20,0,100,120"), photo) == (-20, 0, 100, 120), "cut people stick out of the photo"
    for text, reason in {
        "1,2,3": "not four numbers",
        "a,2,3,4": "not four numbers",
        "30,2,1,40": "reversed",
        "1,40,30,2": "reversed",
        "5,5,5,50": "reversed or empty",
        "500,10,600,90": "outside",
        "-90,-90,30,30": "outside",
        "0,0,inf,9": "not a finite",
    }.items():
        with pytest.raises(UserError, match=reason):
            check_box(parse_box(text), photo)


def test_the_square_is_a_fifth_larger_than_the_box(tmp_path: Path) -> None:
    person = PersonInput(striped_photo(tmp_path / "a.png"), 0, (10, 20, 50, 100), "test")
    assert person.centre == (29.5, 59.5), "edges count from -0.5 in pixel coordinates"
    assert person.longer_side == 80 and person.side == pytest.approx(96)


def test_keypoints_give_a_box_with_margin() -> None:
    points = keypoints_from_rows(GRID, np.ones(17))
    assert box_from_keypoints(points) == pytest.approx((52.5, 12.5, 108.5, 108.5))


def test_keypoints_in_the_box_are_normalised(tmp_path: Path) -> None:
    photo = striped_photo(tmp_path / "a.png")
    rows = np.zeros((17, 2))
    rows[:5] = [(79.5, 59.5), (127.5, 59.5), (79.5, 11.5), (139.5, 59.5), (60, 60)]
    keypoints = keypoints_from_rows(rows, np.array([1, 0.5, 1, 1, 0, *[0] * 12], dtype=float))
    person = PersonInput(photo, 0, (40, 20, 120, 100), "test", keypoints)
    result = make_batch([person], 64, images=False).keypoints
    assert result is not None
    expected = torch.zeros(17, 3)
    expected[0] = torch.tensor([0, 0, 1])
    expected[1] = torch.tensor([1, 0, 0.5])
    expected[2] = torch.tensor([0, -1, 1])
    assert torch.allclose(result[0], expected, atol=1e-6), "outside the crop and with confidence 0: unseen"


def test_batches_hold_crops_or_keypoints(tmp_path: Path) -> None:
    photo = striped_photo(tmp_path / "a.png")
    person = PersonInput(photo, 0, (40, 20, 120, 100), "test")
    batch = make_batch([person, PersonInput(photo, 1, (0, 0, 50, 100), "test")], 32, images=True)
    assert batch.image is not None and batch.image.shape == (2, 3, 32, 32) and batch.keypoints is None
    assert 0 <= float(batch.image.min()) < float(batch.image.max()) <= 1
    assert batch.item_seed[0] != batch.item_seed[1]
    with pytest.raises(UserError, match=r"a\.png, person 0: the model needs COCO keypoints"):
        make_batch([person], 32, images=False)


def test_people_of_a_coco_file(tmp_path: Path) -> None:
    striped_photo(tmp_path / "a.png")
    striped_photo(tmp_path / "b.png")
    boxes = coco_file(
        tmp_path / "c.json",
        {"a.png": [{"bbox": [50, 10, 60, 100], "keypoints": FLAT}, {"bbox": [0, 0, 40, 40]}]},
    )
    (people,) = find_people(tmp_path, PeopleSource(boxes=boxes))
    assert [(person.photo.path.name, person.index) for person in people] == [("a.png", 0), ("a.png", 1)]
    assert people[0].keypoints is not None and people[1].keypoints is None
    ((person,),) = find_people(
        tmp_path / "a.png", PeopleSource(keypoints=coco_file(tmp_path / "d.json", {"a.png": [{"keypoints": FLAT}]}))
    )
    assert person.box_source == "extent of the keypoints"
    with pytest.raises(UserError, match="names nobody"):
        list(find_people(tmp_path / "b.png", PeopleSource(boxes=boxes)))


def test_one_box_and_its_keypoints(tmp_path: Path) -> None:
    striped_photo(tmp_path / "a.png")
    points = tmp_path / "k.json"
    points.write_text(json.dumps([FLAT]))
    ((person,),) = find_people(tmp_path / "a.png", PeopleSource(box=(50, 10, 110, 110), keypoints=points))
    assert person.keypoints is not None and person.box_source == "given box"
    ((whole,),) = find_people(tmp_path / "a.png", PeopleSource(whole_image=True))
    assert whole.box == (0, 0, 160, 120) and whole.box_source == "whole image"


def test_keypoints_go_to_the_box_they_fit() -> None:
    left, right = keypoints_from_rows(GRID, np.ones(17)), keypoints_from_rows(GRID + np.array((60, 0)), np.ones(17))
    boxes = [
        Annotation((110, 10, 170, 110), None),
        Annotation((500, 0, 600, 90), None),
        Annotation((50, 10, 110, 110), None),
    ]
    paired = pair_keypoints(boxes, [Annotation(None, left), Annotation(None, right)])
    assert [person.keypoints for person in paired] == [right, None, left]


def test_boxes_without_keypoints_of_their_own_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    striped_photo(tmp_path / "a.png")
    flat = np.concatenate([GRID, np.full((17, 1), 2.0)], axis=1).ravel().tolist()
    keypoints = coco_file(tmp_path / "k.json", {"a.png": [{"keypoints": flat}]})
    boxes = coco_file(tmp_path / "b.json", {"a.png": [{"bbox": [50, 10, 60, 100]}, {"bbox": [0, 0, 20, 20]}]})
    ((first, second),) = find_people(tmp_path / "a.png", PeopleSource(boxes=boxes, keypoints=keypoints))
    assert first.keypoints is not None and second.keypoints is None
    assert "a.png: no keypoints lie in the boxes of person 1" in caplog.text
    with pytest.raises(UserError, match=r"a\.png: nobody in .*k\.json is where --box is"):
        list(find_people(tmp_path / "a.png", PeopleSource(box=(0, 0, 20, 20), keypoints=keypoints)))


@pytest.mark.parametrize("points", [GRID / 160, GRID + 300, np.full((17, 2), 70.0)])
def test_keypoints_that_cannot_be_pixels_of_the_person(tmp_path: Path, points: np.ndarray) -> None:
    striped_photo(tmp_path / "a.png")
    flat = np.concatenate([points, np.full((17, 1), 2.0)], axis=1).ravel().tolist()
    boxes = coco_file(tmp_path / "c.json", {"a.png": [{"bbox": [50, 10, 60, 100], "keypoints": flat}]})
    with pytest.raises(UserError, match="keypoints do not fit the box"):
        list(find_people(tmp_path / "a.png", PeopleSource(boxes=boxes)))


def test_contradicting_options(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="only one of"):
        PeopleSource(box=(0, 0, 9, 9), whole_image=True)
    striped_photo(tmp_path / "a.png")
    striped_photo(tmp_path / "b.png")
    with pytest.raises(UserError, match="--box is for one image"):
        list(find_people(tmp_path, PeopleSource(box=(0, 0, 50, 50))))


def test_without_any_box_a_detector_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    striped_photo(tmp_path / "a.png")
    monkeypatch.setattr(people_module, "load_detector", lambda _device: Detector(None))
    ((person,),) = find_people(tmp_path / "a.png", PeopleSource())
    assert person.box == (0, 0, 160, 120) and person.box_source == "whole image", "stripes are nobody"
