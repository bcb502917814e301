"""The dictionary of fits: SPIN's files, and fits that only ever get better."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from diffhmr.body.params import SmplParams
from diffhmr.errors import UserError
from diffhmr.fitting.fits import FIT_NUMBERS, FitDictionary, Source, fit_values
from diffhmr.geometry.rotation import random_rotations

SOURCES = (Source("lsp-orig", 5), Source("coco", 7))


def random_params(count: int, seed: int = 0) -> SmplParams:
    generator = torch.Generator().manual_seed(seed)
    return SmplParams.from_rotations(
        random_rotations((count, 24), generator), torch.randn(count, 10, generator=generator)
    )


def filled(seed: int = 0) -> FitDictionary:
    fits = FitDictionary(SOURCES)
    fits.improve(torch.arange(12), fit_values(random_params(12, seed)), torch.linspace(1, 12, 12))
    return fits


def test_files_of_spin_load(tmp_path: Path) -> None:
    """``NAME_fits.npy``, N x 82, in double precision as some of them are; their scores are not known."""
    static = np.random.default_rng(0).normal(size=(7, FIT_NUMBERS))
    np.save(tmp_path / "coco_fits.npy", static)
    fits = FitDictionary(SOURCES)
    fits.load(tmp_path)
    np.testing.assert_allclose(fits.values[5:].numpy(), static, rtol=1e-6)
    assert bool(fits.score[5:].isnan().all()) and bool((fits.score[:5] == torch.inf).all())
    fits.rate(torch.tensor([6, 1]), torch.tensor([3.0, 4.0]))
    assert fits.score[6] == 3 and fits.score[1] == torch.inf


def test_round_trip(tmp_path: Path) -> None:
    fits, again = filled(), FitDictionary(SOURCES)
    fits.save(tmp_path)
    assert np.load(tmp_path / "lsp-orig_fits.npy").shape == (5, FIT_NUMBERS)
    again.load(tmp_path, complete=True)
    assert torch.equal(again.values, fits.values) and torch.equal(again.score, fits.score)
    expected = random_params(12)
    read = again.params(torch.tensor([11, 0]))
    torch.testing.assert_close(read.rotations, expected.rotations[[11, 0]], atol=1e-5, rtol=0)
    torch.testing.assert_close(read.betas, expected.betas[[11, 0]])


def test_only_better_fits_are_taken() -> None:
    fits = filled()
    before = fits.values.clone()
    score = torch.tensor([0.5, 2.5, torch.nan, torch.inf, -torch.inf])
    taken = fits.improve(torch.arange(5), torch.ones(5, FIT_NUMBERS), score)
    assert taken.tolist() == [True, False, False, False, False]
    assert bool((fits.values[0] == 1).all()) and torch.equal(fits.values[1:], before[1:])
    assert fits.score[:3].tolist() == [0.5, 2.0, 3.0]
    broken = torch.full((1, FIT_NUMBERS), torch.nan)
    assert not fits.improve(torch.tensor([4]), broken, torch.tensor([0.0]))


def test_of_several_fits_for_one_row_the_best_counts() -> None:
    fits = filled()
    values = torch.arange(4.0)[:, None].expand(4, FIT_NUMBERS)
    taken = fits.improve(torch.tensor([7, 7, 3, 7]), values, torch.tensor([5.0, 2.0, 0.1, 3.0]))
    assert taken.tolist() == [False, True, True, False]
    assert fits.values[7, 0] == 1 and fits.score[7] == 2
    # The order of the items does not matter.
    mirrored = filled()
    mirrored.improve(torch.tensor([7, 3, 7, 7]), values.flip(0), torch.tensor([3.0, 0.1, 2.0, 5.0]))
    assert torch.equal(mirrored.values, fits.values)


def test_a_new_fit_replaces_one_without_a_score(tmp_path: Path) -> None:
    np.save(tmp_path / "coco_fits.npy", np.zeros((7, FIT_NUMBERS), np.float32))
    fits = FitDictionary(SOURCES)
    fits.load(tmp_path)
    assert bool(fits.improve(torch.tensor([5]), torch.ones(1, FIT_NUMBERS), torch.tensor([1e6])))


def test_bad_files(tmp_path: Path) -> None:
    fits = FitDictionary(SOURCES)
    with pytest.raises(UserError, match=r"lsp-orig_fits\.npy, coco_fits\.npy"):
        fits.load(tmp_path)
    path = tmp_path / "coco_fits.npy"
    cases = {
        "shape": np.zeros((6, FIT_NUMBERS)),
        "one row per label": np.zeros((7, 72)),
        "not finite": np.full((7, FIT_NUMBERS), np.inf),
        "type int64": np.zeros((7, FIT_NUMBERS), int),
    }
    for message, content in cases.items():
        np.save(path, content)
        with pytest.raises(UserError, match=message):
            fits.load(tmp_path)
    np.save(path, np.array([{"a": 1}] * 7, dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="damaged or no array"):
        fits.load(tmp_path)
    np.save(path, np.zeros((7, FIT_NUMBERS), np.float32))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match="damaged or no array"):
        fits.load(tmp_path)
    filled().save(tmp_path)
    (tmp_path / "coco_scores.npy").unlink()
    fits.load(tmp_path)
    with pytest.raises(UserError, match="coco_scores"):
        fits.load(tmp_path, complete=True)
