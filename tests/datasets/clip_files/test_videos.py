"""Windows: every frame of every video, and none of two videos."""

from __future__ import annotations

import numpy as np
import pytest

from diffhmr.datasets.clip_files.videos import Windows, find_videos, videos_of_lengths


def test_videos_are_runs_of_equal_names() -> None:
    videos = find_videos(np.array(["a", "a", "b", "c", "c", "c", "a"]))
    assert videos.names == ("a", "b", "c", "a#2")
    assert videos.starts.tolist() == [0, 2, 3, 6] and videos.lengths.tolist() == [2, 1, 3, 1]
    assert videos.frames(2).tolist() == [3, 4, 5]
    assert find_videos(np.array([0.0, 0.0, 1.0])).names == ("0", "1")
    assert find_videos(np.array([7])).lengths.tolist() == [1]


@pytest.mark.parametrize("stride", [1, 3, 8, 16, 40])
@pytest.mark.parametrize("lengths", [[16], [17, 40, 16], [100, 5, 1, 33], [1, 2, 3]])
def test_windows_cover_every_frame_and_stay_in_their_video(lengths: list[int], stride: int) -> None:
    frames = 16
    videos = videos_of_lengths([f"v{k}" for k in range(len(lengths))], lengths)
    windows = Windows(videos, frames, stride)
    chosen = windows(np.arange(len(windows)))
    assert chosen.shape == (len(windows), frames)
    owner = np.repeat(np.arange(len(lengths)), lengths)[chosen]
    assert (owner == owner[:, :1]).all()
    covered = set(chosen.ravel().tolist())
    if stride <= frames:
        assert covered == set(range(sum(lengths)))
    ends = np.cumsum(lengths) - 1
    assert all(end in covered for end in ends)  # no tail is lost
    np.testing.assert_array_equal(windows.first_frames(np.arange(len(windows))), chosen[:, 0])
    # As many as a stride makes, and one for the tail.
    counts = np.bincount(owner[:, 0], minlength=len(lengths))
    assert counts.tolist() == [1 + -(-max(length - frames, 0) // stride) for length in lengths]
    # At the speed of the video: neighbours are neighbours.
    assert (np.abs(np.diff(chosen, axis=1)) <= 1).all()
    for k, length in enumerate(lengths):
        if length >= frames:
            assert (np.diff(chosen[owner[:, 0] == k], axis=1) == 1).all()


def test_a_short_video_runs_forwards_and_backwards() -> None:
    windows = Windows(videos_of_lengths(["long", "short", "still"], [20, 4, 1]), 9, 9)
    assert windows(np.array([3])).tolist() == [[20, 21, 22, 23, 22, 21, 20, 21, 22]]
    assert windows(np.array([4])).tolist() == [[24] * 9]
