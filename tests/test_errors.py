from __future__ import annotations

import logging

import pytest

from diffhmr.errors import UserError, some_of, warnings_if_it_succeeds


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(0, 3, ""), (1, 3, "a"), (3, 3, "a, b, c"), (4, 3, "a, b, c and 1 more"), (5, 2, "a, b and 3 more")],
)
def test_long_lists_of_names_are_cut(count: int, most: int, expected: str) -> None:
    assert some_of("abcde"[:count], most) == expected


def test_warnings_wait_for_the_success(caplog: pytest.LogCaptureFixture) -> None:
    room, other = logging.getLogger("some.room.module"), logging.getLogger("other")
    with warnings_if_it_succeeds("some.room"):
        room.warning("odd: %d", 7)
        other.warning("at once")
        assert caplog.messages == ["at once"]
    assert caplog.messages == ["at once", "odd: 7"]
    with pytest.raises(UserError), warnings_if_it_succeeds("some.room"):
        room.warning("nobody wants to know")
        raise UserError("no")
    room.warning("afterwards")
    assert caplog.messages == ["at once", "odd: 7", "afterwards"] and not logging.getLogger("some.room").handlers
