"""Pairs of a class: who stands where, and that nothing but the position matters."""

from __future__ import annotations

import numpy as np
import pytest

from diffhmr.datasets.class_pairs import ClassPairs, classes_in_turn
from diffhmr.datasets.mixture import Indices

# Classes 2, 5 and 9 with 5, 4 and 1 rows in two files.
LABELS = [np.array([5, 2, 2, 9, 5]), np.array([2, 2, 5, 2, 5])]
COUNT, PAIRS = 3, 600


def rows_of(seed: int = 0, positions: Indices | None = None) -> list[tuple[int, int]]:
    files, rows = ClassPairs(seed, LABELS)(np.arange(2 * PAIRS) if positions is None else positions)
    return list(zip(files.tolist(), rows.tolist(), strict=True))


def label_of(row: tuple[int, int]) -> int:
    return int(LABELS[row[0]][row[1]])


def test_pairs_are_two_of_a_class_and_all_classes_come_in_turn() -> None:
    rows = rows_of()
    classes = []
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        assert label_of(first) == label_of(second)
        assert (first == second) == (label_of(first) == 9), "only one that is alone stands beside itself"
        classes.append(label_of(first))
    rounds = np.array(classes).reshape(-1, COUNT)
    assert np.array_equal(np.sort(rounds, axis=1), np.tile([2, 5, 9], (PAIRS // COUNT, 1)))
    orders, counts = np.unique(rounds, axis=0, return_counts=True)
    assert len(orders) == 6 and counts.min() > 15


def test_every_row_of_a_class_comes_equally_often() -> None:
    rows = rows_of()
    turns = PAIRS // COUNT
    for label, size in ((2, 5), (5, 4), (9, 1)):
        own = [row for row in rows if label_of(row) == label]
        assert len(own) == 2 * turns
        found, counts = np.unique(np.array(own), axis=0, return_counts=True)
        assert len(found) == size
        # Of an even number of rows each comes once in an epoch; of an odd number another one is left out every time.
        np.testing.assert_allclose(counts, 2 * turns / size, rtol=0.15 if size % 2 and size > 1 else 0)
        if size == 4:
            assert all(len(set(own[k : k + 4])) == 4 for k in range(0, len(own), 4))
            assert len({frozenset(own[k : k + 2]) for k in range(0, len(own), 2)}) == 6, "any two meet"


def test_positions_say_everything() -> None:
    rows, pairs = rows_of(), ClassPairs(0, LABELS)
    order = np.random.default_rng(0).permutation(2 * PAIRS)
    for part in np.array_split(order, 50):
        files, places = pairs(part)
        assert [(file, row) for file, row in zip(files, places, strict=True)] == [rows[k] for k in part]
    assert rows_of(positions=np.array([2 * PAIRS - 1, 3, 0])) == [rows[-1], rows[3], rows[0]]
    assert rows_of(seed=1) != rows
    far = 2 * (2**31 // 2 - COUNT)
    found = rows_of(positions=np.arange(far, far + 6))
    assert sorted(map(label_of, found)) == [2, 2, 5, 5, 9, 9]


@pytest.mark.parametrize("split", ["train", "val"])
def test_classes_in_turn(split: str) -> None:
    labels = classes_in_turn(0, split, np.arange(40), 4)  # type: ignore[arg-type]
    assert np.array_equal(np.sort(labels.reshape(10, 4), axis=1), np.tile(np.arange(4), (10, 1)))
    some = np.array([13, 2, 39])
    assert np.array_equal(classes_in_turn(0, split, some, 4), labels[some])  # type: ignore[arg-type]
