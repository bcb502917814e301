"""Which rows of a label file a protocol measures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diffhmr.body.model import BodyModel
from diffhmr.datasets.labels import Labels
from diffhmr.errors import UserError
from diffhmr.evaluation.protocols import PROTOCOLS
from diffhmr.evaluation.terms import RowFilter
from tests.evaluation.measured_people import labelled_for, write_bodies


def labels_of(count: int, tmp_path: Path, **extra: np.ndarray) -> Labels:
    labels = labelled_for(PROTOCOLS["3dpw-spin"], BodyModel.load(write_bodies(tmp_path)["neutral"]), tmp_path, count)
    return Labels(**{**vars(labels), "extra": extra})


def test_rows_of_a_protocol(tmp_path: Path) -> None:
    valid = np.array([True, True, False, True])
    sequence = np.array(["courtyard_box_00", "downtown_bus_00", "courtyard_box_00", "outdoors_golf_01"])
    labels = labels_of(4, tmp_path, valid=valid, sequence=sequence)
    assert RowFilter().select(labels).tolist() == [0, 1, 3]
    assert PROTOCOLS["3dpw-occ"].rows.select(labels).tolist() == [0, 3]
    names = [f"imageFiles/{name}/image_00000.jpg" for name in sequence]
    by_name = Labels(**{**vars(labels), "imgname": np.array(names), "extra": {}})
    assert PROTOCOLS["3dpw-occ"].rows.select(by_name).tolist() == [0, 2, 3]
    assert "courtyard_backpack" in PROTOCOLS["3dpw-occ"].rows.describe()


def test_the_frontal_camera_is_found_in_the_labels_or_the_names(tmp_path: Path) -> None:
    rows = PROTOCOLS["h36m-p2"].rows
    labels = labels_of(3, tmp_path, camera=np.array(["54138969", "60457274", "60457274"]))
    assert rows.select(labels).tolist() == [1, 2]
    names = np.array([f"images/S9_Walking_1.{camera}_000006.jpg" for camera in ("60457274", "55011271", "58860488")])
    assert rows.select(Labels(**{**vars(labels), "imgname": names, "extra": {}})).tolist() == [0]
    with pytest.raises(UserError, match="from which camera"):
        rows.select(labels_of(3, tmp_path))
