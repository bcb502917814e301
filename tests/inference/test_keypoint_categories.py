"""Categories of people in their spellings, and what is said of other things."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffhmr.errors import UserError
from diffhmr.inference.annotations import is_person, person_categories
from diffhmr.inference.keypoint_files import read_tracks
from tests.inference.keypoint_motion import coco_annotations, flat, one, write


@pytest.mark.parametrize("category", [1, 1.0, "1", " 1 ", "person", "Person", None])
def test_people_in_every_spelling(category: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert is_person(category)
    plain = read_tracks(write(tmp_path / "plain.json", flat(one())))
    spelt = read_tracks(write(tmp_path / "spelt.json", [entry | {"category_id": category} for entry in flat(one())]))
    np.testing.assert_array_equal(spelt[0].points, plain[0].points)
    assert not caplog.records


@pytest.mark.parametrize("category", [0, 2, "3", "car", "1.5", 1.5, True, [1]])
def test_other_things_are_named(category: Any, tmp_path: Path) -> None:
    assert not is_person(category)
    path = write(tmp_path / "cars.json", [entry | {"category_id": category} for entry in flat(one())])
    with pytest.raises(UserError, match="names no people but 40 things of other categories than 1 or person") as raised:
        read_tracks(path)
    assert f"({category})" in str(raised.value)


def test_some_other_things_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entries = flat(one())
    others = [entry | {"category_id": name} for entry, name in zip(entries, ("skater", "horse"), strict=False)]
    tracks = read_tracks(write(tmp_path / "mixed.json", [*entries, *others]))
    assert len(tracks) == 1 and len(tracks[0]) == 40
    assert "2 things of other categories than 1 or person (horse, skater) are left out" in caplog.text


@pytest.mark.parametrize(("number", "written"), [(1, "1"), (7, 7), (7, "7"), ("p", "p"), (7, "person")])
def test_coco_files_that_number_people_their_own_way(number: Any, written: Any, tmp_path: Path) -> None:
    content = coco_annotations(one())
    content["categories"] = [{"id": number, "name": "person"}, {"id": 12, "name": "car"}]
    content["annotations"] = [item | {"category_id": written} for item in content["annotations"]]
    assert len(read_tracks(write(tmp_path / "coco.json", content))) == 1
    content["annotations"] = [item | {"category_id": 12} for item in content["annotations"]]
    with pytest.raises(UserError, match=r"things of other categories .*\(12\)"):
        read_tracks(write(tmp_path / "coco.json", content))


def test_numbers_of_the_category_of_people() -> None:
    assert person_categories([]) == {"1"}
    assert person_categories([{"id": 3, "name": "Person"}, {"id": 1, "name": "car"}]) == {"3"}
    assert not is_person(1, {"3"}) and is_person("3", {"3"})
