from __future__ import annotations

import pytest

from diffhmr.errors import some_of


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(0, 3, ""), (1, 3, "a"), (3, 3, "a, b, c"), (4, 3, "a, b, c and 1 more"), (5, 2, "a, b and 3 more")],
)
def test_long_lists_of_names_are_cut(count: int, most: int, expected: str) -> None:
    assert some_of("abcde"[:count], most) == expected
