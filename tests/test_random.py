from __future__ import annotations

import numpy as np
import pytest

from diffhmr.random import Stream, hash64, item_seeds, normals, pick, uniforms

GOLDEN_WORDS = [
    [9234765900025191326, 6484104798369263058],
    [11058588407220547619, 4813194308596645190],
    [18436093647835143794, 2173650223652301564],
]
GOLDEN_NORMALS = [
    [0.0015482510559205723, -0.38126307378415647],
    [0.2520202101718795, -0.6405000254525959],
    [3.2498345968522653, -1.1858852232218933],
]
GOLDEN_SEEDS = [3376286502405376424, 2435486443408256448]
SEEDS = item_seeds(3, "train", np.arange(20000))


def test_golden_values() -> None:
    """The numbers must never change: data and results depend on them."""
    seeds = np.array([0, 1, 123456789], dtype=np.int64)
    assert hash64(seeds, 5, 2).tolist() == GOLDEN_WORDS
    np.testing.assert_allclose(normals(seeds, 5, 2), GOLDEN_NORMALS, rtol=0, atol=1e-12)
    assert item_seeds(0, "train", [0, 1]).tolist() == GOLDEN_SEEDS


def test_splitmix64_reference_sequence() -> None:
    """The mixing function is SplitMix64's: its published first outputs for the state 1234567."""
    from diffhmr.random import _GOLDEN, _mix

    with np.errstate(over="ignore"):
        words = _mix(np.uint64(1234567) + np.arange(1, 4, dtype=np.uint64) * _GOLDEN)
    assert words.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_uniforms_are_uniform() -> None:
    values = uniforms(SEEDS, 1, 8)
    counts, _ = np.histogram(values, bins=64, range=(0, 1))
    expected = values.size / 64
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 63 + 5 * np.sqrt(2 * 63)
    assert values.min() > 0 and values.max() < 1


def test_numbers_of_one_item_and_of_neighbours_are_uncorrelated() -> None:
    values = uniforms(SEEDS, 1, 6)
    everything = np.concatenate([values[:-1], values[1:], uniforms(SEEDS, 2, 6)[:-1]], axis=1)
    correlation = np.corrcoef(everything.T) - np.eye(18)
    assert np.abs(correlation).max() < 5 / np.sqrt(len(values))


def test_normals_have_normal_moments() -> None:
    values = normals(SEEDS, 7, 10)
    size = np.sqrt(values.size)
    assert abs(values.mean()) < 5 / size
    assert abs(values.var() - 1) < 5 * np.sqrt(2) / size
    assert abs((values**4).mean() - 3) < 5 * np.sqrt(96) / size


def test_numbers_do_not_depend_on_the_batch_or_the_count() -> None:
    whole = normals(SEEDS[:100], 4, 9)
    assert np.array_equal(normals(SEEDS[57:58], 4, 9)[0], whole[57])
    assert np.array_equal(normals(SEEDS[[99, 3, 57]], 4, 5), whole[[99, 3, 57], :5])


def test_streams_differ() -> None:
    assert len({int(stream) for stream in Stream}) == len(Stream)
    first = [uniforms(SEEDS[:1], stream, 1)[0, 0] for stream in Stream]
    assert len(set(first)) == len(Stream)


def test_item_seeds_are_distinct_and_splits_disjoint() -> None:
    index = np.arange(100000)
    seeds = {split: item_seeds(0, split, index) for split in ("train", "val", "test")}
    for split_seeds in seeds.values():
        assert split_seeds.dtype == np.int64
        assert split_seeds.min() >= 0
        assert len(np.unique(split_seeds)) == len(index)
    # By construction, not by chance.
    assert {split: set((s & 3).tolist()) for split, s in seeds.items()} == {"train": {0}, "val": {1}, "test": {2}}
    assert not np.isin(item_seeds(1, "train", index), seeds["train"]).any()


def test_item_seeds_of_huge_indices() -> None:
    assert len(set(item_seeds(0, "train", [0, 2**31 - 1, 2**40]).tolist())) == 3


def test_unknown_split() -> None:
    with pytest.raises(ValueError):
        item_seeds(0, "training", [0])


def test_pick_follows_the_weights() -> None:
    chosen = pick(uniforms(SEEDS, 9, 1)[:, 0], [1.0, 0.0, 3.0])
    share = np.bincount(chosen, minlength=3) / len(SEEDS)
    np.testing.assert_allclose(share, [0.25, 0, 0.75], atol=0.02)
    assert pick(np.array([0.0, 1.0]), [1.0, 1.0]).tolist() == [0, 1]
