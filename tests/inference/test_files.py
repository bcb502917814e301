from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from diffhmr.body.model import BodyModel
from diffhmr.errors import UserError
from diffhmr.files import name_for_results
from diffhmr.inference.files import MAX_PICTURE, write_people
from diffhmr.inference.photo import IMAGE_SUFFIXES, Photo
from diffhmr.inference.predict import PredictOptions, predict
from diffhmr.inference.result import load_result
from tests.inference.example_people import perfect, true_body


def photo(name: str, width: int = 320, height: int = 240) -> Photo:
    return Photo(Path(name), np.full((height, width, 3), 200, np.uint8))


def test_everything_is_written(tmp_path: Path, free_body: BodyModel) -> None:
    shared = photo(str(tmp_path / "a.jpg"))
    truths = [true_body(free_body, shared, 400, seed) for seed in (0, 1)]
    people = [truth.person for truth in truths]
    results = predict(perfect(free_body, truths), people, PredictOptions(num_samples=10, focal_px=400), "x")
    written = write_people(people, results, free_body, tmp_path / "out", "ply").files
    assert sorted(written) == sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
    meshes = ["_answer.ply", *(f"_sample{k}.ply" for k in range(1, 9))]
    ends = [".json", ".npz", "_overlay.png", "_sheet.png", "_spread.png", *meshes]
    assert sorted(path.name for path in written) == sorted(
        ["people_overlay.png", *(f"person{index}{end}" for index in (0, 1) for end in ends)]
    )
    assert {path.parent for path in written} == {tmp_path / "out/a"}
    assert len(load_result(tmp_path / "out/a/person1.npz")) == 10


def test_what_earlier_runs_left_is_told_and_what_killed_ones_left_goes(tmp_path: Path, free_body: BodyModel) -> None:
    folder = tmp_path / "out" / "a"
    folder.mkdir(parents=True)
    older = ["person0_sample7.obj", "person3.npz", "person3_sheet.png"]
    half = [".person0_sample1-a1b2c3d4.obj", ".person0-abcd_fgh.npz"]
    for name in (*older, *half, "notes.txt", "person0.npz", ".own-12345678"):
        (folder / name).write_text("old")
    truth = true_body(free_body, photo("a.jpg"), 400, 0)
    results = predict(perfect(free_body, [truth]), [truth.person], PredictOptions(num_samples=1, focal_px=400), "x")
    written = write_people([truth.person], results, free_body, tmp_path / "out")
    assert [path.name for path in written.older] == older
    assert all((folder / name).read_text() == "old" for name in older)
    assert f"earlier run, not written anew: {', '.join(older)}" in "\n".join(written.summary())
    assert [path.name for path in folder.glob(".*")] == [".own-12345678"]
    again = write_people([truth.person], results, free_body, tmp_path / "fresh")
    assert not again.older and "earlier run" not in "\n".join(again.summary())


def test_very_flat_pictures(tmp_path: Path, free_body: BodyModel) -> None:
    for width, height in ((4 * MAX_PICTURE, 1), (1, 4 * MAX_PICTURE)):
        truth = true_body(free_body, photo("flat.png", width, height), 400, 0)
        results = predict(perfect(free_body, [truth]), [truth.person], PredictOptions(num_samples=1), "x")
        write_people([truth.person], results, free_body, tmp_path, sheets=False)
        picture = cv2.imread(str(tmp_path / "flat/people_overlay.png"))
        assert picture is not None and sorted(picture.shape[:2]) == [1, MAX_PICTURE]


def test_pictures_of_the_same_name_do_not_share_a_folder(tmp_path: Path, free_body: BodyModel) -> None:
    pictures = ("a.jpg", "a.png", "a_jpg.png")
    for name in (*pictures, "a.json", "b_png.jpg"):
        (tmp_path / name).touch()
    assert name_for_results(tmp_path / "b_png.jpg", IMAGE_SUFFIXES) == "b_png"
    for name in pictures:
        truth = true_body(free_body, photo(str(tmp_path / name)), 400, 0)
        results = predict(perfect(free_body, [truth]), [truth.person], PredictOptions(num_samples=1), "x")
        write_people([truth.person], results, free_body, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_jpg", "a_jpg_png", "a_png"]


def test_an_overlay_shows_one_person_and_everybody(tmp_path: Path, free_body: BodyModel) -> None:
    shared = photo("a.jpg")
    truths = [true_body(free_body, shared, 400, seed) for seed in (0, 1)]
    people = [truth.person for truth in truths]
    results = predict(perfect(free_body, truths), people, PredictOptions(num_samples=1, focal_px=400), "x")
    write_people(people, results, free_body, tmp_path)
    drawn = []
    for name in ("person0_overlay", "person1_overlay", "people_overlay"):
        picture = cv2.imread(str(tmp_path / "a" / f"{name}.png"))
        assert picture is not None and picture.shape == (240, 320, 3)
        drawn.append((picture != 200).any(-1))
    # Apart from the people's numbers.
    assert (drawn[2] | ~(drawn[0] | drawn[1])).all() and (drawn[2] == (drawn[0] | drawn[1])).mean() > 0.99
    assert drawn[0].sum() > 500 and (drawn[0] & ~drawn[1]).any() and (drawn[1] & ~drawn[0]).any()


def test_large_photos_are_shrunk_for_overlays(tmp_path: Path, free_body: BodyModel) -> None:
    truth = true_body(free_body, photo("big.jpg", 2 * MAX_PICTURE, 1200), 3000, 0)
    results = predict(perfect(free_body, [truth]), [truth.person], PredictOptions(num_samples=1, focal_px=3000), "x")
    write_people([truth.person], results, free_body, tmp_path)
    picture = cv2.imread(str(tmp_path / "big/person0_overlay.png"))
    assert picture is not None and picture.shape == (600, MAX_PICTURE, 3)
    rows, columns = np.nonzero((picture != 200).any(-1))
    x0, y0, x1, y1 = truth.person.box
    extent = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) * 2
    assert np.abs(extent - np.array(truth.person.box)).max() < 0.15 * max(x1 - x0, y1 - y0)


def test_a_folder_that_cannot_be_written(tmp_path: Path, free_body: BodyModel) -> None:
    (tmp_path / "file").write_text("x")
    truth = true_body(free_body, photo("a.jpg"), 400, 0)
    results = predict(perfect(free_body, [truth]), [truth.person], PredictOptions(num_samples=1), "x")
    with pytest.raises(UserError, match="cannot write"):
        write_people([truth.person], results, free_body, tmp_path / "file")
