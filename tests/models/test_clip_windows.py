from __future__ import annotations

import pytest
import torch

from diffhmr.models.clip_windows import cut_windows, join_windows, window_shares, window_starts


@pytest.mark.parametrize(
    ("frames", "window", "overlap", "expected"),
    [
        (5, 16, 4, [0]),
        (16, 16, 4, [0]),
        (17, 16, 4, [0, 1]),
        (28, 16, 4, [0, 12]),
        (30, 16, 4, [0, 12, 14]),
        (32, 16, 0, [0, 16]),
        (3, 1, 0, [0, 1, 2]),
    ],
)
def test_starts(frames: int, window: int, overlap: int, expected: list[int]) -> None:
    assert window_starts(frames, window, overlap) == expected


def test_windows_that_do_not_advance_are_refused() -> None:
    for overlap in (-1, 4):
        with pytest.raises(ValueError, match="cannot share"):
            window_starts(10, 4, overlap)


@pytest.mark.parametrize(("frames", "window", "overlap"), [(3, 8, 2), (8, 8, 2), (9, 8, 2), (31, 8, 4), (20, 5, 0)])
def test_shares_add_up_so_that_what_windows_agree_on_stays(frames: int, window: int, overlap: int) -> None:
    values = torch.randn(2, frames, 3, generator=torch.Generator().manual_seed(0))
    starts = window_starts(frames, window, overlap)
    parts = cut_windows(values, starts, window)
    assert parts.shape == (2, len(starts), min(frames, window), 3)
    shares = window_shares(frames, starts, window, overlap)
    assert (shares > 0).all()
    torch.testing.assert_close(join_windows(parts * shares[..., None], starts, frames), values)


def test_windows_pass_steadily_into_each_other() -> None:
    starts = window_starts(20, 12, 5)
    assert starts == [0, 7, 8]
    starts, shares = [0, 7], window_shares(19, [0, 7], 12, 5)
    assert torch.equal(shares[0, :7], torch.ones(7)) and torch.equal(shares[1, 5:], torch.ones(7))
    assert (shares[0, 6:].diff() < 0).all() and (shares[1, :6].diff() > 0).all()
    torch.testing.assert_close(shares[0, 7:] + shares[1, :5], torch.ones(5))
    torch.testing.assert_close(shares[0, 7:], shares[1, :5].flip(0))
