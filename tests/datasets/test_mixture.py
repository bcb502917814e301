"""Mixtures: shares, epochs, and positions that say everything."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diffhmr.body.model import BodyModel
from diffhmr.config import DataConfig
from diffhmr.datasets import build_dataset
from diffhmr.datasets.labelled import LabelledPeople
from diffhmr.datasets.labels import read_labels, write_labels
from diffhmr.datasets.mixture import BLOCK, Mixture, Positions, shares
from diffhmr.datasets.synthetic import SyntheticPeople
from diffhmr.errors import UserError
from tests.datasets.labelled_samples import Sample, write_sample


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory, toy_body: BodyModel) -> tuple[Sample, Sample]:
    folder = tmp_path_factory.mktemp("mixture")
    return write_sample(folder, toy_body, 8, seed=1), write_sample(folder, toy_body, 24, seed=2)


def config_of(samples: tuple[Sample, Sample], weights: tuple[Any, Any] = (None, None), **changes: Any) -> DataConfig:
    sources = tuple(sample.source(name, weight) for sample, name, weight in zip(samples, "ab", weights, strict=True))
    return DataConfig(kind="labelled", sources=sources, image_size=32, **changes)


def test_shares() -> None:
    # SPIN's: Human3.6M .3, MPI-INF-3DHP .1, the rest in proportion to size.
    found = shares([0.3, 0.1, None, None, None], [300_000, 90_000, 1000, 14_000, 5000])
    np.testing.assert_allclose(found, [0.3, 0.1, 0.03, 0.42, 0.15])
    np.testing.assert_allclose(shares([None, None], [1, 3]), [0.25, 0.75])
    np.testing.assert_allclose(shares([0.5, 0.5], [1, 300]), [0.5, 0.5])
    for weights, words in (([0.3, 0.5], "0.8 instead"), ([0.7, 0.7], "1.4 instead"), ([1.0, None], "nothing is left")):
        with pytest.raises(UserError, match=words):
            shares(weights, [10, 10])


def test_every_file_has_its_share_in_every_block() -> None:
    share = shares([0.3, 0.1, None, None], [312, 96, 1000, 3])
    positions = Positions(0, share, [312, 96, 1000, 3])
    for block in (0, 5):
        files, _ = positions(np.arange(block * BLOCK, (block + 1) * BLOCK))
        np.testing.assert_allclose(np.bincount(files) / BLOCK, share, atol=1e-4)
        # In any order: the first half has its shares but for chance.
        np.testing.assert_allclose(np.bincount(files[: BLOCK // 2], minlength=4) / (BLOCK // 2), share, atol=0.02)
    tiny = Positions(0, shares([None, None], [1, 10**6]), [1, 10**6])
    assert np.bincount(tiny(np.arange(BLOCK))[0]).tolist() == [1, BLOCK - 1]


def test_no_row_comes_twice_in_an_epoch() -> None:
    sizes = [70, 333]
    positions = Positions(7, shares([0.4, None], sizes), sizes)
    files, rows = positions(np.arange(3 * BLOCK))
    for file, size in enumerate(sizes):
        visits = rows[files == file]
        epochs = visits[: len(visits) // size * size].reshape(-1, size)
        assert (np.sort(epochs, axis=1) == np.arange(size)).all()
        assert (epochs[0] != epochs[1]).any() and (epochs[0] != np.arange(size)).any()


def test_positions_say_everything() -> None:
    sizes = [50, 200]
    share = shares([None, None], sizes)
    together = Positions(1, share, sizes)(np.arange(2 * BLOCK))
    single = Positions(1, share, sizes)
    for position in (2 * BLOCK - 1, 0, 17, BLOCK, BLOCK - 1, 12_345):
        file, row = single(np.array([position]))
        assert (file[0], row[0]) == (together[0][position], together[1][position])
    other = Positions(2, share, sizes)(np.arange(2 * BLOCK))
    assert (other[1] != together[1]).mean() > 0.9
    far = Positions(1, share, sizes)(np.array([2**40]))
    assert 0 <= far[1][0] < sizes[far[0][0]]


def test_items(samples: tuple[Sample, Sample], toy_body: BodyModel) -> None:
    config = config_of(samples, (0.25, None))
    mixture = build_dataset(config, toy_body, "train")
    assert isinstance(mixture, Mixture) and len(mixture) == config.train_items
    batch = mixture.__getitems__(range(40))
    assert batch.image is not None and batch.image.shape == (40, 3, 32, 32) and batch.keypoints is not None
    targets = batch.targets
    assert targets is not None and targets.item is not None
    # Rows of the second file count on from those of the first.
    assert int(targets.item.max()) < 32 and (targets.item < 8).any() and (targets.item >= 8).any()
    again = build_dataset(config, toy_body, "train").__getitems__([39, 5])
    assert again.image is not None and again.targets is not None
    assert torch.equal(again.image[0], batch.image[39]) and torch.equal(again.targets.joints2d[1], targets.joints2d[5])
    assert torch.equal(again.item_seed, batch.item_seed[[39, 5]])
    truth = [np.concatenate([sample.rows["shape"] for sample in samples])[row] for row in targets.item.tolist()]
    known = targets.has_params
    torch.testing.assert_close(targets.params.betas[known], torch.tensor(np.array(truth)).float()[known])
    with pytest.raises(IndexError):
        mixture.__getitems__([config.train_items])


def test_rows_not_valid_are_left_out(samples: tuple[Sample, Sample], toy_body: BodyModel, tmp_path: Path) -> None:
    sample = samples[1]
    valid = np.arange(24) % 3 == 0
    meta = {"dataset": "a", "split": "train"}
    write_labels(tmp_path / "some.npz", sample.rows | {"valid": valid}, meta)
    write_labels(tmp_path / "none.npz", sample.rows | {"valid": np.zeros(24)}, meta)
    source = sample.source("a").model_copy(update={"labels": tmp_path / "some.npz"})
    config = DataConfig(kind="labelled", sources=(source,), images=False)
    item = build_dataset(config, toy_body, "train").__getitems__(range(16)).targets
    assert item is not None and item.item is not None
    assert sorted(item.item.tolist()) == sorted([*range(0, 24, 3)] * 2)
    nothing = source.model_copy(update={"labels": tmp_path / "none.npz"})
    with pytest.raises(UserError, match=r"a: no row of .* is valid"):
        build_dataset(config.model_copy(update={"sources": (nothing,)}), toy_body, "train")


def test_validation_people(samples: tuple[Sample, Sample], toy_body: BodyModel, tmp_path: Path) -> None:
    config = config_of(samples)
    assert isinstance(build_dataset(config, toy_body, "val"), SyntheticPeople)
    assert isinstance(build_dataset(config, toy_body, "test"), SyntheticPeople)
    rows = dict(samples[1].rows)
    rows["S"] = rows["S"] * (np.arange(24) % 2)[:, None, None]
    write_labels(tmp_path / "val.npz", rows, {"dataset": "a", "split": "val"})
    source = samples[1].source("held out").model_copy(update={"labels": tmp_path / "val.npz"})
    config = config_of(samples, validation=source, val_items=6)
    people = build_dataset(config, toy_body, "val")
    assert isinstance(people, LabelledPeople) and len(people) == 6
    targets = people.__getitems__(range(6)).targets
    assert targets is not None and targets.item is not None
    known = (np.arange(24) % 4 > 0) | (np.arange(24) % 2 > 0)
    assert known[targets.item].all() and targets.item[-1] > 16
    bare = {name: rows[name] for name in ("imgname", "center", "scale", "part")}
    write_labels(tmp_path / "bare.npz", bare, {"dataset": "a", "split": "val"})
    config = config_of(samples, validation=source.model_copy(update={"labels": tmp_path / "bare.npz"}))
    with pytest.raises(UserError, match=r"held out: no row of .* has 3D joints"):
        build_dataset(config, toy_body, "val")


def test_what_is_missing_is_named(samples: tuple[Sample, Sample], toy_body: BodyModel, tmp_path: Path) -> None:
    good = samples[0].source("good")
    cases = [
        ({"images": tmp_path / "none"}, "folder of images not found: .*none"),
        ({"labels": tmp_path / "none.npz"}, "label file not found: .*none.npz"),
    ]
    for change, words in cases:
        bad = good.model_copy(update={**change, "name": "bad"})
        with pytest.raises(UserError, match=words):
            build_dataset(DataConfig(kind="labelled", sources=(good, bad)), toy_body, "train")
        config = DataConfig(kind="labelled", sources=(good,), validation=bad)
        with pytest.raises(UserError, match=words):
            build_dataset(config, toy_body, "train")


def test_settings() -> None:
    source = {"name": "a", "labels": "a.npz", "images": "a"}
    for settings, words in (
        ({"kind": "labelled"}, "sources is empty"),
        ({"sources": [source]}, "belong to data.kind: labelled"),
        ({"kind": "labelled", "sources": [source, source]}, "names a twice"),
        ({"kind": "labelled", "sources": [source], "validation": {**source, "weight": 0.5}}, "no meaning"),
        ({"kind": "labelled", "sources": [{**source, "weight": 2.0}]}, "less than or equal to 1"),
        ({"kind": "labelled", "sources": [{**source, "colour": 1}]}, "colour"),
    ):
        with pytest.raises(ValueError, match=words):
            DataConfig.model_validate(settings)


def test_a_stated_unit_is_used(samples: tuple[Sample, Sample], toy_body: BodyModel, tmp_path: Path) -> None:
    rows = dict(samples[0].rows)
    rows["scale"] = 0.002 * rows["scale"]
    np.savez(tmp_path / "odd.npz", **rows)
    source = samples[0].source("odd").model_copy(update={"labels": tmp_path / "odd.npz"})
    config = DataConfig(kind="labelled", sources=(source,), images=False)
    with pytest.raises(UserError, match=r"odd: .*the unit of scale is unclear.*scale_unit"):
        build_dataset(config, toy_body, "train")
    stated = config.model_copy(update={"sources": (source.model_copy(update={"scale_unit": "200px"}),)})
    mixture = build_dataset(stated, toy_body, "train")
    assert isinstance(mixture, Mixture)
    np.testing.assert_allclose(mixture.members[0].labels.side, read_labels(samples[0].labels).side * 0.002, rtol=1e-5)


def test_a_mixture_can_be_handed_to_another_process(samples: tuple[Sample, Sample], toy_body: BodyModel) -> None:
    mixture = build_dataset(config_of(samples), toy_body, "train")
    first = mixture.__getitems__(range(4))
    again = pickle.loads(pickle.dumps(mixture)).__getitems__(range(4))
    assert first.image is not None and torch.equal(first.image, again.image)
